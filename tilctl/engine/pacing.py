"""How steps begin (ISA-88 modes): by themselves, or released by a person; each branch waits for itself.

A step that has begun is not concerned: it goes on as its verb, a hold or a recovery says, in every mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from devices.clock import Clock
from tilctl.engine.state import BatchState
from tilctl.journal.changes import Release

OPERATION = "operation"
ACTING = frozenset({OPERATION, "set", "control", "transfer", "freeze"})
"""What waits in semi-automatic mode: operations, and verbs that move something by equipment (a `perfuse` by its
transfers).  People do the others, or they only wait, reckon and note."""


class Pacing:
    """The steps of one batch that wait for a person.  In memory; what they were told is on the record."""

    def __init__(self, state: BatchState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._gates: dict[str, tuple[str, asyncio.Event]] = {}  # path -> verb, and what wakes it

    def waits(self, path: str, verb: str) -> bool:
        """Whether a step that has not begun goes by a person's word, given or still to come."""
        return path in self._state.released or self._asks(verb)

    async def turn(self, path: str, verb: str, look: Callable[[], None]) -> Release:
        """Wait until a step may begin, or is to be passed over.

        `look` is called at each change and raises where the walk is to end.  Cancelled, it waits no longer.
        """
        if (how := self._how(path, verb)) is not None:
            return how
        gate = asyncio.Event()
        self._gates[path] = (verb, gate)
        try:
            with self._clock.outside(f"proceed {path}"):
                while (how := self._how(path, verb)) is None:
                    look()
                    gate.clear()
                    await gate.wait()
        finally:
            del self._gates[path]
        return how

    def look(self) -> None:
        """See again who may begin: a mode, a release or the state of the batch has changed."""
        for _, gate in self._gates.values():
            gate.set()

    def verb(self, path: str) -> str:
        """Return the verb of a step that waits and has been told nothing, "" where none waits there."""
        waiting = self._gates.get(path)
        return waiting[0] if waiting is not None and self._how(path, waiting[0]) is None else ""

    def paths(self) -> list[str]:
        """Return the steps that wait."""
        return [path for path in self._gates if self.verb(path)]

    def wanted(self) -> Iterator[tuple[str, str]]:
        """Yield each step that waits with what is wanted of a person, in words."""
        mode = self._state.mode.replace("_", "-")
        for path in self.paths():
            verb = self.verb(path)
            may = "proceed or skip" if self._state.mode == "manual" and verb != OPERATION else "proceed"
            yield path, f"{may} ({verb}; the batch is in {mode} mode)"

    def _asks(self, verb: str) -> bool:
        return self._state.mode == "manual" or (self._state.mode == "semi_automatic" and verb in ACTING)

    def _how(self, path: str, verb: str) -> Release | None:
        told = self._state.released.get(path)
        return told or (None if self._asks(verb) else "proceed")
