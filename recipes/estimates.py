"""Soft sensors of a recipe: what its `estimates:` section declares; the estimating itself is `tilctl.estimation`.

Values stay text, as in `recipes.model`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from recipes.fields import Amount, Expr, Frozen, Id, Names, Text

Dotted = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$", max_length=81)]
Listed = tuple[Dotted, ...]

VALUES = {
    "now": "viable cells now",
    "low": "lower end of its 95 % interval",
    "high": "upper end of its 95 % interval",
    "at_end": "viable cells at the forecast's moment",
    "at_end_low": "lower end of its 95 % interval",
    "at_end_high": "upper end of its 95 % interval",
}
"""What expressions may name of an estimate, all in cells: `cells.now`; those of the end only where it forecasts."""
NOW = ("now", "low", "high")


class Forecast(Frozen):
    """Cells at a moment to come (`at: day >= 22 d`, as an `incubate` waits for it), held against a floor.

    `ahead`: by so much before that moment the forecast is to be known; where it is not, that is said.
    """

    at: Expr
    floor: Expr
    ahead: Amount = "2.5 d"


class Oxygen(Frozen):
    """Dissolved oxygen (% of air saturation), and `renewal`, the time 1/kLa in which it comes in from the gas.

    `renewal` is an expression, such as `30 min * (10 rpm / station.rocking)`; `gas`: the tag of oxygen in the gas (% by
    volume), air where there is none.
    """

    tag: Dotted
    renewal: Expr
    gas: Dotted | None = None


class Estimate(Frozen):
    """A running estimate of the viable cells in some containers, from the mark `from` to the mark `to`.

    `start`: cells at the start, `feeders`: live feeders among them, both expressions.  `counts` and `glucose` name
    results of samples, `capacitance` a tag in live cells per mL.  `medium`: glucose in what flows in, by the container
    that it comes from.  `supernatant`: containers that take liquid and no cells.  `lag`: how long cells rest after the
    start.  `needs`: how long data must reach before it forecasts; `stale`: how old the last may be.
    """

    of: Names
    from_: Id = Field(alias="from")
    to: Id
    start: Expr | None = None
    feeders: Expr | None = None
    lag: Amount = "1.5 d"
    counts: Listed = ()
    glucose: Listed = ()
    medium: dict[Id, Amount] = Field(default_factory=dict[Id, Amount])
    supernatant: tuple[Id, ...] = ()
    oxygen: Oxygen | None = None
    capacitance: Dotted | None = None
    needs: Amount = "2.5 d"
    stale: Amount = "4 d"
    forecast: Forecast | None = None
    use: Literal["advise", "decide"] = "advise"
    source: Text | None = None

    @model_validator(mode="after")
    def _from_something(self) -> Estimate:
        if not (self.counts or (self.start and (self.glucose or self.oxygen or self.capacitance))):
            raise ValueError("an estimate needs counts, or a start and glucose, oxygen or capacitance")
        return self

    @property
    def values(self) -> tuple[str, ...]:
        """Return what expressions may name of it."""
        return NOW if self.forecast is None else tuple(VALUES)
