"""The verbs of the recipe language: one frozen model for each.

In YAML a step is a mapping with one key, the verb: `transfer: {id: medium, from: cm2, ...}`.  Here it is a model
whose `verb` names it.  Attributes carry the names of the YAML keys; a key that is a word of Python gets an underscore
(`from` is `from_`, `to` stays `to`, `in` is `in_`, `as` is `as_`, `with` is `with_`, `for` is `for_`).  Values stay
text: numbers with units and expressions are compiled on demand (`recipes.expr.compile`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from devices.quantity import QuantityError, parse
from recipes.control import Control
from recipes.fields import SOME, Amount, Expr, Flag, Frozen, Id, Names, OnMissed, OnRestart, Span, Text
from recipes.perfusion import most_turns, steps_of
from recipes.release import Release
from recipes.verb import Verb

MOST_TURNS = 500
"""Of a `repeat`, with all that it stands in (engineering default): a look each hour for three weeks."""
MOST_BRANCHES = 8
"""Of a `parallel`, with those of every other inside it (engineering default): what people can oversee at once."""


class Input(Frozen):
    """One value that a person gives: a choice, a number in `unit` within `range`, or text."""

    label: Text | None = None
    unit: Text | None = None
    range: Span | None = None
    choices: tuple[Text, ...] = ()
    optional: Flag = False
    source: Text | None = None

    @property
    def type(self) -> Literal["choice", "number", "text"]:
        """Return what kind of answer this asks for."""
        if self.choices:
            return "choice"
        return "number" if self.unit is not None or self.range is not None else "text"


class Ask(Verb):
    """Ask a person: to do something, to give values, to scan, to sign.

    `check` must hold when the answer is taken.  `due` counts from the asking.
    """

    verb: Literal["ask"]
    text: Text
    inputs: dict[Id, Input] = Field(default_factory=dict[Id, Input])
    scan: tuple[Id, ...] = ()
    sign: tuple[Id, ...] = ()
    check: Expr | None = None
    due: Amount | None = None
    on_overdue: Literal["continue", "hold"] = "continue"


class Case(Frozen):
    """One branch of `choose`: `{when: EXPR, steps: [...]}`, or `{else: [...]}`, for which `when` is None."""

    when: Expr | None = None
    steps: tuple[Step, ...] = Field(validation_alias=AliasChoices("steps", "else"))

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            keys = set(cast("Mapping[str, Any]", raw))
            if "else" in keys and keys != {"else"}:
                raise ValueError("an else branch has no other key: {else: [steps]}")
            if "else" not in keys and "when" not in keys:
                raise ValueError("a branch needs a condition: {when: EXPR, steps: [...]}, or it is {else: [...]}")
        return cast("Any", raw)


class Choose(Verb):
    """Take the first branch whose condition is true; an INVALID condition waits and alarms."""

    verb: Literal["choose"]
    cases: Annotated[tuple[Case, ...], SOME]


class Set(Verb):
    """Give standing targets, valid until replaced or the unit is freed: `set: {station.temperature: 37 degC}`.

    `targets` maps each tag to the text of its value (an expression).
    """

    verb: Literal["set"]
    targets: Annotated[dict[str, Expr], SOME]
    on_restart: OnRestart = "resume"

    @model_validator(mode="before")
    @classmethod
    def _gather_targets(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        given = cast("Mapping[str, Any]", raw)
        tags = {key: value for key, value in given.items() if "." in key}
        if not tags or "targets" in given:
            return given
        return {**{key: value for key, value in given.items() if key not in tags}, "targets": tags}


class Wait(Verb):
    """Wait until a condition is true, or for a time (biological: it counts while held and during an outage).

    `grace`: how late it may end (after an outage or a hold) without a word; absent: as late as it comes.  Beyond that
    `on_missed` says what becomes of the steps after it in its list: `run_late` (an exception on the record), `skip`,
    `hold` (a person decides), `abort`.
    """

    verb: Literal["wait"]
    until: Expr | None = None
    for_: Expr | None = Field(default=None, alias="for")
    timeout: Expr | None = None
    on_timeout: Literal["hold", "continue"] = "hold"
    grace: Amount | None = None
    on_missed: OnMissed = "run_late"
    on_restart: OnRestart = "resume"

    @model_validator(mode="after")
    def _one_end(self) -> Wait:
        if (self.until is None) == (self.for_ is None):
            raise ValueError("wait needs exactly one of until and for")
        return self


class Mount(Verb):
    """A person puts containers into places; the place class is `station`, `hook` or `waste`.

    `at` absent: vessels go to `station`, bags to `hook`.  `count` says how many of a counted family, `volume` what is
    in them: `ask`, or an expression; each is one text for all, or a mapping from the container's name.  Beyond `due`,
    which counts from the asking, there is an alarm.
    """

    verb: Literal["mount"]
    containers: Names
    count: Expr | dict[Id, Expr] | None = None
    at: Literal["station", "hook", "waste"] | None = None
    volume: Expr | dict[Id, Expr] = "ask"
    scan: Flag = False
    text: Text | None = None
    due: Amount | None = None

    def count_of(self, container: str) -> str | None:
        """Return the expression for how many of this family are mounted, or None where none is given."""
        return self.count.get(container) if isinstance(self.count, dict) else self.count

    def volume_of(self, container: str) -> str:
        """Return `ask`, or the expression of the volume that each of these holds when it is mounted."""
        return self.volume.get(container, "ask") if isinstance(self.volume, dict) else self.volume


class Unmount(Verb):
    """A person takes containers away: a family's name means all of it that is mounted.

    Beyond `due`, which counts from the asking, there is an alarm.
    """

    verb: Literal["unmount"]
    containers: Names
    text: Text | None = None
    due: Amount | None = None


class ForEach(Verb):
    """Walk the steps once for each mounted container of a family, in order, counted from 1."""

    verb: Literal["for_each"]
    as_: Id = Field(alias="as")
    in_: Id = Field(alias="in")
    steps: Annotated[tuple[Step, ...], SOME]
    on_restart: OnRestart = "resume"


class Repeat(Verb):
    """Walk the steps turn after turn: `max` times, or until a condition is true.

    The condition is judged before the first turn, after each turn, and all the time until the next one is due.
    `every`: from the begin of one turn to that of the next (biological time); absent: the next begins when one is
    over.  The moments are counted from the first turn, so that nothing drifts; turns that are over a whole `every` late
    (an outage, a hold) are passed over, with an exception on the record.  What a turn brings is gone when the next
    begins; an answer that comes later than that is on the record only, a deferred result too.  `on_max`: what becomes
    of the batch when the condition has not come true after `max` turns.
    """

    verb: Literal["repeat"]
    max: Annotated[int, Field(ge=1, le=MOST_TURNS)]
    until: Expr | None = None
    every: Expr | None = None
    on_max: Literal["hold", "continue"] = "hold"
    steps: Annotated[tuple[Step, ...], SOME]
    on_restart: OnRestart = "resume"

    @model_validator(mode="after")
    def _on_max_of_what(self) -> Repeat:
        if self.until is None and "on_max" in self.model_fields_set:
            raise ValueError("on_max is for a repeat with until: without one there are `max` turns")
        return self

    @model_validator(mode="after")
    def _bounded(self) -> Repeat:
        if (turns := _turns(self)) > MOST_TURNS:
            raise ValueError(f"up to {turns} turns, one loop within the other; at most {MOST_TURNS} can be walked")
        with suppress(QuantityError):  # an expression is judged when the loop begins
            if self.every is not None and parse(self.every).value <= 0.0:
                raise ValueError(f"every: {self.every} is no time from one turn to the next")
        return self


class Parallel(Verb):
    """Walk several branches at the same time; it is over when all of them are.

    `branches` maps the name of each to its steps.  No two branches use one line or one container at once: a step that
    needs them waits until all of them are free, in the order of asking.  What goes wrong in one branch holds the
    batch, once what the others have under way is finished; an `end` in one of them ends the batch.
    """

    verb: Literal["parallel"]
    branches: dict[Id, Annotated[tuple[Step, ...], SOME]]
    on_restart: OnRestart = "resume"

    @model_validator(mode="after")
    def _some_at_once(self) -> Parallel:
        if len(self.branches) < 2:
            raise ValueError("parallel needs two branches at least: branches: {one: [steps], other: [steps]}")
        if (most := _at_once(self)) > MOST_BRANCHES:
            raise ValueError(f"up to {most} branches at once, one parallel within the other; at most {MOST_BRANCHES}")
        return self


class Perfuse(Verb):
    """Exchange medium at a rate and at constant volume: `vessel` is drawn to `waste` and refilled from `medium`.

    Every `every` (biological time) what the rate gives for that time is drawn, then `vessel` is filled up to
    `keep`; both are transfers, pumped at `flow`.  `rate` is judged when a turn begins and kept within `between`;
    `falls: false` lets it rise only.  A rate that is not known is an alarm, and the last one stands; before the
    first there is none, and the batch is held.  `ID.rate` is the rate in force.  `until` is judged as that of a
    `repeat`, which this is made of (`turns`); after `longest` it ends as `on_max` says, and without `until` it is
    over then.  How its transfers go on after an outage is said by `on_restart` where it is given; else they wait
    for a person.
    """

    verb: Literal["perfuse"]
    vessel: Text
    medium: Text
    waste: Text
    rate: Expr
    between: Span
    falls: Flag = True
    keep: Expr
    every: Amount = "2 h"
    flow: Expr
    tolerance: Amount = "5 %"
    until: Expr | None = None
    longest: Amount
    on_max: Literal["hold", "continue"] = "hold"
    on_restart: OnRestart = "resume"

    @model_validator(mode="after")
    def _whole(self) -> Perfuse:
        if self.until is None and "on_max" in self.model_fields_set:
            raise ValueError("on_max is for a perfusion with until: without one it is over after longest")
        with suppress(QuantityError):  # no time at all is reported where it stands
            if (turns := most_turns(self.longest, self.every)) > MOST_TURNS:
                raise ValueError(f"{turns} turns of {self.every} in {self.longest}; at most {MOST_TURNS} can be walked")
        return self

    @cached_property
    def turns(self) -> Repeat:
        """Return the `repeat` of transfers that this stands for, with the same id."""
        given = self.model_dump(exclude_none=True, exclude_unset=True) | {"id": self.id, "every": self.every}
        same = {key: given[key] for key in ("id", "every", "until", "on_max", "source") if key in given}
        try:
            most = most_turns(self.longest, self.every)
        except QuantityError:
            most = 1
        return Repeat.model_validate({"verb": "repeat", "max": most, "steps": steps_of(given)} | same)


class Transfer(Verb):
    """Move liquid: one of `volume`, `leave` (in the source), `up_to` (in the destination), `all`, `dose` and `final`.

    `dose` is an amount of a substance (`150 ug`), `final` its concentration in the destination when it has come, which
    held none of it before; both by the source's `stock`, `of` which it is where there are several.
    `tolerance` is a volume or a percentage of what was commanded.  `settle` is waited before the pump starts.
    `one_shot`: never repeated or completed without a person.
    """

    AMOUNTS: ClassVar[tuple[str, ...]] = ("volume", "leave", "up_to", "all", "dose", "final")

    verb: Literal["transfer"]
    from_: Text = Field(alias="from")
    to: Text
    volume: Expr | None = None
    leave: Expr | None = None
    up_to: Expr | None = None
    all: Flag = False
    dose: Expr | None = None
    final: Expr | None = None
    of: Id | None = None
    rate: Expr
    tolerance: Amount = "5 %"
    settle: Expr | None = None
    one_shot: Flag = False
    on_restart: OnRestart = "hold"

    @model_validator(mode="after")
    def _one_amount(self) -> Transfer:
        given = [name for name in self.AMOUNTS if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            raise ValueError(f"transfer needs exactly one of {', '.join(self.AMOUNTS)} (has {', '.join(given) or '-'})")
        if self.of is not None and not self.dosed:
            raise ValueError("of names the substance of a dose: add dose or final")
        return self

    @property
    def amount(self) -> Literal["volume", "leave", "up_to", "all", "dose", "final"]:
        """Return which of the ways says how much."""
        if self.volume is not None:
            return "volume"
        if self.leave is not None:
            return "leave"
        if self.dosed:
            return "dose" if self.dose is not None else "final"
        return "up_to" if self.up_to is not None else "all"

    @property
    def dosed(self) -> bool:
        """Return whether the volume follows from a substance."""
        return self.dose is not None or self.final is not None


class Sample(Verb):
    """A person draws a sample; its results come as the answer, named `ID.RESULT`.

    The step waits for all results but those in `defer`; with `wait: false` for none.  `volume` is what the sample
    takes out of the container, for the ledger.
    """

    verb: Literal["sample"]
    from_: Text = Field(alias="from")
    results: Annotated[tuple[Id, ...], SOME]
    defer: tuple[Id, ...] = ()
    wait: Flag = True
    volume: Expr = "0 mL"
    due: Amount | None = None
    on_overdue: Literal["continue", "hold"] = "hold"
    text: Text | None = None

    @property
    def awaited(self) -> tuple[str, ...]:
        """Return the results that the step waits for."""
        return tuple(name for name in self.results if name not in self.defer) if self.wait else ()

    @property
    def deferred(self) -> tuple[str, ...]:
        """Return the results that may come later, in a prompt of their own."""
        return tuple(name for name in self.results if name not in self.awaited)


class Mark(Verb):
    """Name this moment: `since(ID)` counts from here; `day` counts from the mark `day0`."""

    verb: Literal["mark"]


class Incubate(Verb):
    """Leave the culture alone until a condition; `window` is where `day` must lie when it ends.

    Outside it is an exception.  Where the condition counts from one other mark, `until: since(rep_start) >= 3 d`, so
    does the window.  With `staffed: true` it ends in the working time of the site, where that is declared: the next
    moment of it once the condition is true, and the end of the window at the latest, with an exception.

    `grace`: how late it may end (after an outage or a hold) without a word; absent: as late as it comes.  Beyond that
    `on_missed` says what becomes of the steps after it in its list: `run_late` (an exception on the record), `skip`,
    `hold` (a person decides), `abort`.
    """

    verb: Literal["incubate"]
    until: Expr
    window: Span | None = None
    staffed: Flag = False
    grace: Amount | None = None
    on_missed: OnMissed = "run_late"
    on_restart: OnRestart = "resume"

    @model_validator(mode="after")
    def _how_long(self) -> Incubate:
        if self.staffed and self.window is None:
            raise ValueError("staffed needs a window, which says how long people may be waited for")
        return self


class Note(Verb):
    """Write a sentence on the record; `exception: true` puts it before the reviewer."""

    verb: Literal["note"]
    text: Text
    exception: Flag = False


class End(Verb):
    """End the batch here."""

    verb: Literal["end"]
    as_: Literal["complete", "stopped"] = Field(alias="as")
    reason: Text


class Let(Verb):
    """Compute values once and freeze them: `ID.NAME`; a value may use those above it."""

    verb: Literal["let"]
    values: Annotated[dict[Id, Expr], SOME]


class Balance(Verb):
    """Weigh: what the ledger holds for these containers against what their places weigh, within a percentage."""

    verb: Literal["balance"]
    over: Names
    within: Amount
    on_fail: Literal["hold", "continue"] = "hold"


class Freeze(Verb):
    """Run a freezing profile on shared equipment; never paused, never started twice.

    `marks` names the moments `started` and `ended`.  `accept`: judge the run by the profile's acceptance criteria.
    """

    verb: Literal["freeze"]
    with_: Id = Field(alias="with")
    load: Id
    profile: Text
    marks: dict[Literal["started", "ended"], Id] = Field(default_factory=dict[Literal["started", "ended"], Id])
    accept: Flag = True
    on_restart: OnRestart = "reattach"


AnyVerb = (
    Ask | Choose | Set | Control | Wait | Mount | Unmount | ForEach | Repeat | Parallel | Transfer | Sample | Mark
    | Incubate | Note | End | Let | Balance | Freeze | Perfuse | Release
)  # fmt: skip

VERBS: tuple[str, ...] = (
    "ask", "choose", "set", "control", "wait", "mount", "unmount", "for_each", "repeat", "parallel", "perfuse",
    "transfer", "sample", "mark", "incubate", "note", "end", "let", "balance", "freeze", "release",
)  # fmt: skip


def children(step: AnyVerb) -> tuple[tuple[AnyVerb, ...], ...]:
    """Return the lists of steps inside a step: one for a loop, one for each branch, else none."""
    match step:
        case ForEach() | Repeat():
            return (step.steps,)
        case Choose():
            return tuple(case.steps for case in step.cases)
        case Parallel():
            return tuple(step.branches.values())
        case Perfuse():
            return (step.turns.steps,)
        case _:
            return ()


def _turns(step: AnyVerb) -> int:
    """Return how often the innermost step within this one may be walked by `repeat`."""
    if isinstance(step, Perfuse):
        return step.turns.max
    most = max((_turns(each) for steps in children(step) for each in steps), default=1)
    return most * step.max if isinstance(step, Repeat) else most


def _at_once(step: AnyVerb) -> int:
    """Return how many steps within this one may be under way at once."""
    if isinstance(step, Perfuse):
        return 1
    each = [max((_at_once(inner) for inner in steps), default=1) for steps in children(step)]
    return sum(each) if isinstance(step, Parallel) else max(each, default=1)


def unwrap(raw: Any) -> Any:
    """Turn `{verb: {fields}}` into `{verb: VERB, id: VERB, fields}`; a step without an id is called by its verb."""
    if isinstance(raw, Verb):
        return raw
    step: Mapping[str, Any] = cast("Mapping[str, Any]", raw) if isinstance(raw, Mapping) else dict[str, Any]()
    if len(step) != 1:
        raise ValueError("a step is one verb with its fields: transfer: {from: ..., to: ...}")
    verb, body = next(iter(step.items()))
    if verb not in VERBS:
        raise ValueError(f"no verb '{verb}'; the verbs are {', '.join(VERBS)}")
    if body not in (None, "") and not isinstance(body, Mapping):
        raise ValueError(f"the fields of {verb} must be a mapping: {verb}: {{id: ...}}")
    fields = cast("Mapping[str, Any]", body or {})
    if "verb" in fields:
        raise ValueError(f"'verb' is no field of {verb}")
    return {"id": verb, **fields, "verb": verb}


Step = Annotated[Annotated[AnyVerb, Field(discriminator="verb")], BeforeValidator(unwrap)]

Case.model_rebuild()
Choose.model_rebuild()
ForEach.model_rebuild()
Repeat.model_rebuild()
Parallel.model_rebuild()
