"""What an estimate is made of, in the order of its moments; times are s of one clock, whichever."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Start:
    """The culture began: `cells` (None where nobody knows, until the first count), and live `feeders` beside them."""

    t: float
    cells: float | None
    feeders: float = 0.0


@dataclass(frozen=True, slots=True)
class Count:
    """All viable cells of the culture as a count saw them."""

    t: float
    cells: float
    name: str


@dataclass(frozen=True, slots=True)
class Uptake:
    """Glucose that was used up from `since` to `t`: mmol and their standard deviation."""

    t: float
    since: float
    mmol: float
    sd: float
    name: str


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe's value: live cells with feeders (`capacitance`), or mmol oxygen a day (`oxygen`); `sd_ln` of it."""

    t: float
    kind: str
    value: float
    sd_ln: float
    name: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A share of the cells (0..1) was taken out."""

    t: float
    share: float


Input = Start | Count | Uptake | Probe | Lost
