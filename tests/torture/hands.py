"""What a person does besides answering prompts: starts, restarts what is held, and now and then presses a button."""

from __future__ import annotations

import random
from concurrent.futures import Future
from typing import Any

from tests.torture.rig import UNIT, Rig

ANSWERED_WITHIN = 300.0  # real s; a command is repeated for so long
PATIENCE = 20  # restarts of a batch that completes no further step; then it is stopped
AGAIN_S = 0.5  # real s until the same button is pressed again where nothing has changed
WANTED = {
    "safe_mode": "leave-safe-mode",
    "idle": "start",
    "held": "restart",
    "paused": "resume",
    "complete": "reset",
    "stopped": "reset",
}


class Hands:
    """Sees to it that the batch goes on; `press` is for what nobody needed."""

    def __init__(self, rig: Rig, recipe: str, randomness: random.Random, patience: int = PATIENCE) -> None:
        self._rig = rig
        self._random = randomness
        self._args = {"start": {"recipe": recipe}}
        self._number = 0
        self._patience = patience
        self.sent: dict[str, tuple[str, Future[dict[str, Any]]]] = {}
        self._needed: Future[dict[str, Any]] | None = None
        self._next = 0.0
        self._restarts = (0, 0)  # at how many completed steps, how often

    def see(self, state: str, completed: int, now: float) -> None:
        """Send what leads on from a state, one at a time; `completed` steps are done, `now` in real s."""
        verb = WANTED.get(state)
        if verb == "leave-safe-mode":
            if now >= self._next:
                self._next = now + AGAIN_S
                self._send(verb)
            return
        busy = self._needed is not None and not self._needed.done()
        if verb is None or busy or now < self._next:
            return
        self._next = now + AGAIN_S
        if verb == "restart":
            self._restarts = (completed, self._restarts[1] + 1 if self._restarts[0] == completed else 1)
            verb = "stop" if self._restarts[1] > self._patience else verb
        self._needed = self._send(verb)

    def press(self, state: str) -> None:
        """Press a button that does no harm: hold, pause, ask, or repeat an older command with its id."""
        verb = self._random.choice(("hold", "pause", "status", "repeat", "resume"))
        old = [name for name, (verb_, answer) in self.sent.items() if verb_ != "status" and answer.done()]
        if verb == "repeat" and old:
            name = self._random.choice(old)
            self._rig.operator.request(
                UNIT, self.sent[name][0], self._args.get(self.sent[name][0]), command_id=name, timeout_s=ANSWERED_WITHIN
            )
        elif verb != "repeat" and state != "idle":
            self._send(verb)

    def _send(self, verb: str) -> Future[dict[str, Any]]:
        self._number += 1
        name = f"hands-{self._rig.seed}-{verb}-{self._number}"
        future = self._rig.operator.request(
            UNIT, verb, self._args.get(verb), command_id=name, timeout_s=ANSWERED_WITHIN
        )
        self.sent[name] = (verb, future)
        return future
