"""Branches of a dry run that go on beside each other: each at its moment, one at a time, in the order of their moments.

A walk is a coroutine that waits for moments of the dry run's time, and for nothing else; there is no event loop.  While
one branch alone is under way, time is moved without any of this.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from tilctl.engine.errors import StepError

Walking = Coroutine[Any, Any, None]


@dataclass(eq=False)
class _Branch:
    walk: Walking
    around: _Branch | None
    inside: int = 0  # branches within it that are not over
    wakes: int = 0  # how often it was called up: a call that was overtaken counts no more


class _Parked:
    """What a branch waits on: it is called up from outside."""

    def __await__(self) -> Generator[None]:
        yield


class Interleaved:
    """All branches of one dry run."""

    def __init__(self, now: Callable[[], float], move_to: Callable[[float], None]) -> None:
        """`move_to` lets time pass up to a moment (s), with all that happens meanwhile."""
        self._now = now
        self._move_to = move_to
        self._due: list[tuple[float, int, int, _Branch]] = []
        self._order = count()
        self._looking: list[_Branch] = []
        self._left: list[_Branch] = []  # that are not over, but those that wait for what is inside them
        self._current: _Branch | None = None

    @property
    def current(self) -> _Branch:
        """The branch that goes on now."""
        if self._current is None:
            raise RuntimeError("nothing is walked")
        return self._current

    @property
    def alone(self) -> bool:
        """Whether nothing is under way beside what goes on now."""
        return len(self._left) == 1

    def run(self, walk: Walking) -> None:
        """Walk to the end; what one branch raises ends all of them, and is raised here."""
        main = _Branch(walk, None)
        self._begin(main)
        try:
            while self._due:
                t, _, wakes, branch = heapq.heappop(self._due)
                if wakes == branch.wakes:
                    self._move_to(t)
                    self._go_on(branch)
        finally:
            stuck, around = list(self._left), {branch.around for branch in self._left}
            for branch in stuck:
                branch.walk.close()
            for branch in around:
                if branch is not None:
                    branch.walk.close()
        if stuck:
            raise StepError("every branch waits for another one", "look at what they wait for")

    async def pass_to(self, t: float) -> None:
        """Let time pass up to a moment (s)."""
        if self.alone:
            self._move_to(t)
            return
        self.call_up(self.current, t)
        await _Parked()

    async def pass_to_or_change(self, t: float | None) -> None:
        """Let time pass up to a moment (s; None: none is known), or until another branch has done a step."""
        if self.alone and t is not None:
            self._move_to(t)
            return
        self._looking.append(self.current)
        if t is not None:
            self.call_up(self.current, t)
        await _Parked()

    def changed(self) -> None:
        """Let those look again who wait for what another branch does."""
        looking, self._looking = self._looking, []
        for branch in looking:
            self.call_up(branch)

    async def together(self, walks: Sequence[Walking]) -> None:
        """Walk branches beside each other; over when all of them are."""
        around = self.current
        around.inside = len(walks)
        self._left.remove(around)
        for walk in walks:
            self._begin(_Branch(walk, around))
        await _Parked()

    def call_up(self, branch: _Branch, t: float | None = None) -> None:
        """Let a branch go on at a moment (s), now where none is given."""
        branch.wakes += 1
        heapq.heappush(self._due, (self._now() if t is None else t, next(self._order), branch.wakes, branch))

    def _begin(self, branch: _Branch) -> None:
        self._left.append(branch)
        self.call_up(branch)

    def _go_on(self, branch: _Branch) -> None:
        self._current = branch
        if branch in self._looking:
            self._looking.remove(branch)
        try:
            branch.walk.send(None)
        except StopIteration:
            self._left.remove(branch)
            self._over(branch.around)

    def _over(self, around: _Branch | None) -> None:
        """Let what is around a branch that is over go on, once all of them are."""
        if around is None:
            return
        around.inside -= 1
        if not around.inside:
            self._begin(around)


class Gate:
    """Something that branches wait for until it is open (`tilctl.engine.exclusion.Gate`)."""

    def __init__(self, branches: Interleaved) -> None:
        self._branches = branches
        self._open = False
        self._waiting: list[_Branch] = []

    def is_set(self) -> bool:
        """Return whether it is open."""
        return self._open

    def set(self) -> None:
        """Open it."""
        self._open = True
        for branch in self._waiting:
            self._branches.call_up(branch)

    async def wait(self) -> None:
        """Wait until it is open."""
        if not self._open:
            self._waiting.append(self._branches.current)
            await _Parked()
