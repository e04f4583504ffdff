"""From which mark the window of an `incubate` counts: from that of its condition, else from day 0."""

from __future__ import annotations

from recipes.expr import ExprError, compile
from recipes.names import DAY_ZERO


def window_mark(until: str) -> str:
    """Return the mark of the only `since(MARK)` in a condition that does not name `day`, else `day0`."""
    try:
        names = compile(until).names
    except ExprError:
        return DAY_ZERO  # reported where it stands
    marks = [name[6:-1] for name in names if name.startswith("since(")]
    return marks[0] if len(marks) == 1 and "day" not in names else DAY_ZERO


def window_time(until: str) -> str:
    """Return the name of the time that has to lie in the window: `day`, or `since(MARK)`."""
    mark = window_mark(until)
    return "day" if mark == DAY_ZERO else f"since({mark})"
