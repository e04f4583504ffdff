"""The turns of a `repeat`: which one is under way, as the record has settled it, and when the next is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tilctl.engine.state import Node, format_time, parse_time
from tilctl.journal import events as ev

TURN = "turn"  # the phase that says which turn is under way or awaited, and from when on


@dataclass(frozen=True, slots=True)
class Turn:
    """One walk through the steps: its number from 1, and the moment from which on it begins."""

    number: int
    due: datetime

    def phase(self, path: str) -> ev.StepPhase:
        """Return what the record is told of it."""
        return ev.StepPhase(path, TURN, {"number": self.number, "due": format_time(self.due)})

    def after(self, now: datetime, every_s: float | None) -> tuple[Turn, int]:
        """Return the next turn, and how many moments have passed that nobody used: those are not made up for."""
        if every_s is None:
            return Turn(self.number + 1, now), 0
        periods = max(1, int((now - self.due).total_seconds() // every_s))
        return Turn(self.number + 1, self.due + timedelta(seconds=periods * every_s)), periods - 1


def turn_of(node: Node) -> Turn | None:
    """Return the turn that is under way or awaited, None before the first."""
    known = node.phases.get(TURN)
    return None if known is None else Turn(int(known[1]["number"]), parse_time(str(known[1]["due"])))


def awaited(node: Node, now: datetime) -> Turn | None:
    """Return the turn that is still to begin, None where none is waited for."""
    turn = turn_of(node)
    return turn if turn is not None and turn.due > now else None
