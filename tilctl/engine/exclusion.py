"""What two branches of a recipe never use at once: containers, and the pump and the valves of a line.

A step asks for all that it needs in one go and gets it in one go, in the order of asking.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


class Gate(Protocol):
    """What a step waits for: an `asyncio.Event`, or what stands for one where there is no event loop."""

    def is_set(self) -> bool:
        """Return whether it is open."""
        ...

    def set(self) -> None:
        """Open it."""
        ...

    async def wait(self) -> object:
        """Wait until it is open."""
        ...


@dataclass(eq=False)
class _Claim:
    """What a step needs for itself; it has it once `granted` is set."""

    path: str
    needs: frozenset[str]
    granted: Gate


class Exclusion:
    """All claims of one batch.  In memory only: after a restart the steps ask again, in the order of the walk."""

    def __init__(self, open_doses: Callable[[], Mapping[str, str]], gate: Callable[[], Gate] = asyncio.Event) -> None:
        """`open_doses` tells of which step (its path) a dose is not closed yet, for each thing that it is about."""
        self._open_doses = open_doses
        self._gate = gate
        self._claims: list[_Claim] = []  # in the order of asking

    @contextlib.asynccontextmanager
    async def alone(self, path: str, needs: Iterable[str]) -> AsyncGenerator[None]:
        """Have all of `needs` inside the block, once everybody who asked before has had them.

        Cancelled while it waits, it leaves the queue.
        """
        claim = _Claim(path, frozenset(needs), self._gate())
        self._claims.append(claim)
        self.look()
        try:
            await claim.granted.wait()
            yield
        finally:
            self._claims.remove(claim)
            self.look()

    def free(self, name: str) -> bool:
        """Whether nobody has or has asked for something, and no dose is about it."""
        return name not in self._open_doses() and not any(name in claim.needs for claim in self._claims)

    def look(self) -> None:
        """Grant what can be granted now."""
        for claim in self._claims:
            if not claim.granted.is_set() and not self._against(claim):
                claim.granted.set()

    def waiting(self, path: str) -> str:
        """Return what a step waits for and who has it, "" where it waits for nothing here."""
        claim = next((each for each in self._claims if each.path == path and not each.granted.is_set()), None)
        against = {} if claim is None else self._against(claim)
        return "; ".join(f"waits for {name}, {why}" for name, why in sorted(against.items()))

    def _against(self, claim: _Claim) -> dict[str, str]:
        """Return what of a claim is not to be had, each with the reason.

        Invariant: two steps never have one container, pump or valve at once, nor does anybody touch what a dose of
        another step is about before that is closed by evidence or by a person.  Invariant: nobody has one thing while
        he waits for another, and nobody waits for one who asked later; so no two ever wait for each other.
        """
        found: dict[str, str] = {}
        doses = self._open_doses()
        for other in self._claims:
            if other is claim:
                break
            if not other.granted.is_set():  # one whose dose is open goes first: the other waits for just that
                shared = {name for name in claim.needs & other.needs if doses.get(name) != claim.path}
                found |= dict.fromkeys(shared, f"for which {other.path} has asked before")
        for other in self._claims:
            if other is not claim and other.granted.is_set():
                found |= dict.fromkeys(claim.needs & other.needs, f"which {other.path} has")
        for name in claim.needs:
            if doses.get(name, claim.path) != claim.path and name not in found:
                found[name] = f"to or from which a dose of {doses[name]} is not closed"
        return found
