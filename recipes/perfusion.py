"""Perfusion as turns: what is drawn and refilled each time, and which rate a turn has.

Exchange part by part, and not by two pumps that run all the time: each part is a dose like any other, with an intent
and evidence by mass, and a controller that dies leaves a vessel that is at most one part short.
"""

from __future__ import annotations

import math
from typing import Any

from devices.quantity import QuantityError, parse_as
from recipes.ranges import parse_range

LEAST_PART_ML = 10.0
"""mL that are worth a dose (engineering default): twice what two scales can show (`UNPROVABLE_ML`)."""


def most_turns(longest: str, every: str) -> int:
    """Return how many turns fit; raises QuantityError where these are no times, ValueError where none does."""
    span, each = parse_as(longest, "s"), parse_as(every, "s")
    if each <= 0.0 or span < each:
        raise ValueError(f"longest: {longest} has no room for a turn every {every}")
    return math.ceil(span / each - 1e-9)


def steps_of(fields: dict[str, str]) -> list[dict[str, Any]]:
    """Return the two transfers of a turn, as a recipe would write them."""
    common = {key: fields[key] for key in ("tolerance", "on_restart", "max_outage", "source") if key in fields}
    common["rate"] = fields["flow"]
    draw = {"id": "draw", "from": fields["vessel"], "to": fields["waste"]}
    draw["volume"] = f"{fields['id']}.rate * {fields['every']}"
    refill = {"id": "refill", "from": fields["medium"], "to": fields["vessel"], "up_to": fields["keep"]}
    refill["when"] = f"{fields['vessel']}.volume <= ({fields['keep']}) - {LEAST_PART_ML:g} mL"
    return [{"transfer": draw | common}, {"transfer": refill | common}]


def settled(found: float | None, last: float | None, between: str, *, falls: bool) -> float | None:
    """Return the rate (mL/min) of a turn, None where there is none: `found` within its limits, or the `last` one.

    Invariant: a rate that is not known is not 0: what was is kept, and before the first there is none.
    """
    limits = parse_range(between)
    if found is None:
        return last
    rate = min(max(found, limits.low), limits.high)
    return rate if falls or last is None else max(last, rate)


def rate_limits(between: str) -> tuple[float, float]:
    """Return the least and the greatest rate (mL/min); without end where the text is no range of rates."""
    try:
        found = parse_range(between)
    except QuantityError:
        return (0.0, math.inf)
    return (found.low, found.high) if found.unit == "mL/min" else (0.0, math.inf)
