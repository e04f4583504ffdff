"""Violations: what an invariant found, kept in bounded number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MOST_KEPT = 50  # of one rehearsal; a broken invariant that is checked at each step would fill the memory


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken invariant: `event` is the number of the last event on the batch's record, 0 where there is none."""

    seed: int
    invariant: str
    event: int
    text: str

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {"seed": self.seed, "invariant": self.invariant, "event": self.event, "text": self.text}


@dataclass
class Book:
    """Takes violations down: each once, and at most so many."""

    seed: int
    event: Callable[[], int]
    kept: list[Violation] = field(default_factory=list[Violation])
    _known: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def note(self, invariant: str, text: str) -> None:
        """Take one down."""
        if (invariant, text) in self._known or len(self.kept) >= MOST_KEPT:
            return
        self._known.add((invariant, text))
        self.kept.append(Violation(self.seed, invariant, self.event(), text[:1000]))
