"""How steps begin (ISA-88 modes): by themselves, or released by a person; each branch waits for itself.

A step that is under way goes on as its verb says in every mode.  In manual mode one that was held or has failed waits
for a person before it is walked again, once nothing of it is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from devices.clock import Clock
from tilctl.engine.state import BatchState, StepStatus
from tilctl.journal.changes import Release

OPERATION = "operation"
ACTING = frozenset({OPERATION, "set", "control", "transfer", "freeze"})
"""What waits in semi-automatic mode: operations, and verbs that move something by equipment (a `perfuse` by its
transfers).  People do the others, or they only wait, reckon and note."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A step that waits; `again`: it had begun already."""

    verb: str
    again: bool
    gate: asyncio.Event


class Pacing:
    """The steps of one batch that wait for a person.  In memory; what they were told is on the record."""

    def __init__(self, state: BatchState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}

    def waits(self, path: str, verb: str, *, inside: bool) -> bool:
        """Whether a step goes by a person's word, given or still to come; `inside`: it has steps of its own."""
        again = self._state.node(path) is not None
        if path in self._state.released:
            return True
        return self._asks(verb, again=again) and (not again or self._stands(path, inside=inside))

    async def turn(self, path: str, verb: str, look: Callable[[], None]) -> Release:
        """Wait until a step may begin, or is to be passed over.

        `look` is called at each change and raises where the walk is to end.  Cancelled, it waits no longer.
        """
        waiting = _Waiting(verb, self._state.node(path) is not None, asyncio.Event())
        if (how := self._how(path, waiting)) is not None:
            return how
        self._waiting[path] = waiting
        try:
            with self._clock.outside(f"proceed {path}"):
                while (how := self._how(path, waiting)) is None:
                    look()
                    waiting.gate.clear()
                    await waiting.gate.wait()
        finally:
            del self._waiting[path]
        return how

    def look(self) -> None:
        """See again who may begin: a mode, a release or the state of the batch has changed."""
        for waiting in self._waiting.values():
            waiting.gate.set()

    def verb(self, path: str) -> str:
        """Return the verb of a step that waits and has been told nothing, "" where none waits there."""
        waiting = self._waiting.get(path)
        return waiting.verb if waiting is not None and self._how(path, waiting) is None else ""

    def paths(self) -> list[str]:
        """Return the steps that wait."""
        return [path for path in self._waiting if self.verb(path)]

    def wanted(self) -> Iterator[tuple[str, str]]:
        """Yield each step that waits with what is wanted of a person, in words."""
        mode = self._state.mode.replace("_", "-")
        for path in self.paths():
            verb, node = self.verb(path), self._state.node(path)
            may = "proceed or skip" if self._state.mode == "manual" and verb != OPERATION else "proceed"
            begun = f", {node.status.value}" if node is not None else ""
            yield path, f"{may} ({verb}{begun}; the batch is in {mode} mode)"

    def _stands(self, path: str, *, inside: bool) -> bool:
        """Whether a step that has begun stands, so that it may be passed over.

        Invariant: none whose dose or run is under way or in doubt: evidence or a person closes that first.  A loop, a
        choice or branches count where they failed themselves; what is held inside them waits in its own place.
        """
        status = self._state.nodes[path].status
        below = f"{path}/"
        return (status is StepStatus.FAILED or (status is StepStatus.HELD and not inside)) and not (
            any(intent.path == path or intent.path.startswith(below) for intent in self._state.open_intents())
            or any(p.startswith(below) and n.status is not StepStatus.COMPLETE for p, n in self._state.nodes.items())
        )

    def _asks(self, verb: str, *, again: bool) -> bool:
        if self._state.mode == "manual":
            return True
        return self._state.mode == "semi_automatic" and verb in ACTING and not again

    def _how(self, path: str, waiting: _Waiting) -> Release | None:
        told = self._state.released.get(path)
        return told or (None if self._asks(waiting.verb, again=waiting.again) else "proceed")
