"""Steps in words, for operators and quality: what is done as a sentence, by whom, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, assert_never

from devices.quantity import QuantityError, parse
from recipes.dosing import DoseError, stock_of
from recipes.fields import OnMissed, OnRestart
from recipes.model import Recipe
from recipes.names import DAY_ZERO
from recipes.release import Condition
from recipes.steps import (
    AnyVerb,
    Ask,
    Balance,
    Case,
    Choose,
    Control,
    End,
    ForEach,
    Freeze,
    Incubate,
    Input,
    Let,
    Mark,
    Mount,
    Note,
    Parallel,
    Perfuse,
    Release,
    Repeat,
    Sample,
    Set,
    Transfer,
    Unmount,
    Wait,
)  # fmt: skip
from recipes.windows import window_mark
from recipes.words_expr import in_words

Loops = Mapping[str, str]
"""The container family of each loop's name: `{"f": "pre"}` inside `for_each: {as: f, in: pre}`."""
NO_LOOPS: Loops = MappingProxyType({})
Who = Literal["controller", "operator", "operator, laboratory"]

_RESTART: dict[OnRestart, str] = {
    "resume": "goes on by itself",
    "redo": "is taken up again by itself",
    "reattach": "is found again by itself, and never started twice",
    "hold": "the batch is held until a person restarts it",
    "ask": "the batch is held until a person restarts it",
}
_AT_ONCE = (Choose, Control, ForEach, Parallel, Mark, Note, End, Let)
"""Verbs that take no time of their own: no outage falls into them, and what they hold says how it goes on itself."""
_MISSED: dict[OnMissed, str] = {
    "run_late": "what follows is done late, with an exception on the record",
    "skip": "the steps after it in its list are passed over",
    "hold": "hold the batch",
    "abort": "abort the batch",
}


def sentence(step: AnyVerb, recipe: Recipe, loops: Loops = NO_LOOPS) -> str:
    """Return what a step does; of a loop and a choice, what becomes of the steps inside."""
    match step:
        case Ask():
            return _ended(step.text)
        case Choose():
            return "Take the first branch of which the condition is true:"
        case Set():
            targets = listed([f"{tag} to {in_words(text)}" for tag, text in step.targets.items()])
            return f"Set {targets}, until set anew."
        case Control():
            return _controlled(step)
        case Wait():
            return f"Wait until {in_words(step.until)}." if step.until else f"Wait for {in_words(step.for_ or '')}."
        case Mount():
            return f"{_first(step.text)}Mount {'; '.join(_mounted(step, name, recipe) for name in step.containers)}."
        case Unmount():
            return f"{_first(step.text)}Take away {listed(step.containers)}."
        case ForEach():
            return f"For each mounted {step.in_}, one after the other ({step.as_} below):"
        case Repeat():
            return _repeated(step)
        case Parallel():
            return f"At the same time, until all of them are done ({listed([*step.branches])}):"
        case Perfuse():
            return _perfused(step)
        case Transfer():
            return _transferred(step, recipe, loops)
        case Sample():
            return _sampled(step, loops)
        case Mark():
            counts = ", from which the days of the culture count" if step.id == DAY_ZERO else ""
            return f"Record this moment as {step.id}{counts}."
        case Incubate():
            return f"Leave the culture alone until {in_words(step.until)}."
        case Note():
            return f"Write on the record{', as an exception for review' if step.exception else ''}: {_ended(step.text)}"
        case End():
            return f"End the batch as {step.as_}: {_ended(step.reason)}"
        case Let():
            values = "; ".join(f"{step.id}.{name} = {in_words(text)}" for name, text in step.values.items())
            return f"Compute once and keep: {values}."
        case Balance():
            return f"Weigh {listed(step.over)}: scales and ledger agree within {step.within}."
        case Freeze():
            judged = "and judge the run by its acceptance criteria" if step.accept else "without judging the run"
            return f"Freeze {step.load} in {step.with_} by profile {step.profile}, {judged}."
        case Release():
            return f"{_first(step.text)}Decide on the release, by {listed([*step.conditions])}."
        case _:
            assert_never(step)


def branch(case: Case) -> str:
    """Return when a branch is taken, and that it does nothing where it has no steps."""
    when = "In every other case" if case.when is None else f"When {in_words(case.when)}"
    return f"{when}:" if case.steps else f"{when}: go on."


def who(step: AnyVerb) -> Who:
    """Return who does a step."""
    match step:
        case Ask() | Mount() | Unmount() | Release():
            return "operator"
        case Sample():
            return "operator, laboratory"
        case _:
            return "controller"


def details(step: AnyVerb, recipe: Recipe) -> list[tuple[str, str]]:
    """Return what holds for a step beside its sentence, each with a short name, in the order of doing."""
    found = [("Only if", in_words(step.when))] if step.when else []
    found += _of_verb(step, recipe)
    if step.exception_when:
        found.append(("Exception if", in_words(step.exception_when)))
    if not isinstance(step, _AT_ONCE) or {"on_restart", "max_outage"} & step.model_fields_set:
        found.append(("After an outage", _restart(step)))
    if step.max_hold:
        found.append(("Held", f"at most {step.max_hold}, then an alarm"))
    if step.source:
        found.append(("Source", step.source))
    return found


def signatures(step: AnyVerb) -> tuple[str, ...]:
    """Return the roles that sign a step."""
    return step.sign if isinstance(step, Ask | Release) else ()


def value(name: str, given: Input) -> str:
    """Return a value to be entered: what it is, of which kind, in which unit and range."""
    if given.choices:
        kind = f"one of {', '.join(given.choices)}"
    elif given.type == "text":
        kind = "text"
    else:
        kind = number(given.unit, given.range)
    optional = ", may be left out" if given.optional else ""
    return f"{given.label or name} ({name}): {kind}{optional}"


def number(unit: str | None, span: str | None) -> str:
    """Return which numbers may be entered: `a number in mL, 10..300 mL`."""
    return ", ".join(filter(None, ["a number" + (f" in {unit}" if unit else ""), span]))


def listed(items: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def _of_verb(step: AnyVerb, recipe: Recipe) -> list[tuple[str, str]]:
    match step:
        case Ask():
            found = [("Enter", value(name, given)) for name, given in step.inputs.items()]
            found += [("Scan", listed(step.scan))] if step.scan else []
            found += [("Sign", listed(step.sign))] if step.sign else []
            found += [("Must hold then", in_words(step.check))] if step.check else []
            return [*found, *_due(step.due, step.on_overdue)]
        case Wait():
            otherwise = {"hold": "then hold the batch", "continue": "then go on with an exception"}[step.on_timeout]
            limit = [("At most", f"{in_words(step.timeout)}, {otherwise}")] if step.timeout else []
            return [*limit, *_missed(step)]
        case Incubate():
            mark = window_mark(step.until)
            ends = f"ends on day {step.window}" if mark == DAY_ZERO else f"ends {step.window} after {mark}"
            window = [("Window", ends)] if step.window else []
            staffed = [("Visit", "in the working time of the site, at the end of the window at the latest")]
            return [*window, *(staffed if step.staffed else []), *_missed(step)]
        case Mount():
            asked = [name for name in step.containers if step.volume_of(name) == "ask"]
            found = [("Enter", f"volume in each {name}: a number in mL, 0..{_limit(name, recipe)}") for name in asked]
            found += [("Scan", "the label of each")] if step.scan else []
            return [*found, *_due(step.due, "wait")]
        case Unmount():
            return _due(step.due, "wait")
        case Transfer():
            return [("Once only", "never repeated or completed without a person")] if step.one_shot else []
        case Sample():
            found = [("Enter", _result(name, recipe)) for name in step.awaited]
            found += [("Enter later", _result(name, recipe)) for name in step.deferred]
            if step.due and not step.awaited:
                return [*found, ("Due", f"within {step.due}; nothing happens when it is late")]
            return [*found, *_due(step.due, step.on_overdue)]
        case Balance():
            return [("Otherwise", "hold the batch" if step.on_fail == "hold" else "go on with an exception")]
        case Freeze():
            return [(f"When it has {moment}", f"record {mark}") for moment, mark in step.marks.items()]
        case Repeat():
            return _turns(step)
        case Release():
            found = [("Condition", _condition(name, each)) for name, each in step.conditions.items()]
            found += [("Sign", listed(step.sign))]
            if any(each.pending for each in step.conditions.values()):
                late = "completes the release when it agrees and is the last; re-opens it, with an alarm, when not"
                found.append(("A result that comes later", late))
            return [*found, *_due(step.due, "hold")]
        case Control() if not step.stop:
            found = [("Moves", f"{move.set_} within {move.range}, by {move.step}") for move in step.by]
            return [*found, ("Stands", "also while the batch is held; moves nothing while the reading is not known")]
        case Perfuse():
            rises = [] if step.falls else [("Rate", "rises only; a lower one is for a person to decide")]
            return [*rises, ("A rate that is not known", "alarm, and the last one stands"), *_turns(step.turns)]
        case Choose() | Set() | Control() | ForEach() | Parallel() | Mark() | Note() | End() | Let():
            return []
        case _:
            assert_never(step)


def _condition(name: str, condition: Condition) -> str:
    pending = f"; {listed(condition.pending)} may be pending" if condition.pending else ""
    return f"{condition.label or name} ({name}): {in_words(condition.when)}{pending}"


def _ended(text: str) -> str:
    bare = text.rstrip()
    return bare if bare.endswith((".", "!", "?", ":")) else f"{bare}."


def _first(text: str | None) -> str:
    """Return what the recipe tells the person, to stand before what is done in any case."""
    return f"{_ended(text)} " if text else ""


def _container(text: str, loops: Loops) -> str:
    """Return a container as a person calls it: `each pre` for a loop's name, `the cm4 of the same number`."""
    family, _, index = text.partition("[")
    if text in loops:
        return f"each {loops[text]}"
    if index.removesuffix(".index]") in loops:
        return f"the {family} of the same number"
    return text


def _mounted(step: Mount, name: str, recipe: Recipe) -> str:
    declared = recipe.containers.get(name)
    count = step.count_of(name)
    family = declared is not None and declared.count is not None
    many = f"{name} (number: {in_words(count)})" if count is not None and family else name
    at = step.at or (declared.place_class if declared else "its place")
    place = {"station": "in the station", "hook": "on a hook", "waste": "at the place for waste"}.get(at, f"at {at}")
    volume = step.volume_of(name)
    if volume == "ask":
        return f"{many} {place}, volume to be entered"
    return f"{many} {place}, {'empty' if _nothing(volume) else f'holding {in_words(volume)}'}"


def _nothing(volume: str) -> bool:
    try:
        return parse(volume).value == 0.0
    except QuantityError:
        return False  # computed, or wrong: the check tells of that


def _limit(name: str, recipe: Recipe) -> str:
    declared = recipe.containers.get(name)
    return declared.limit if declared else "its limit"


def _controlled(step: Control) -> str:
    if step.stop:
        return f"Stop keeping {step.of}; the targets stay as they are."
    moved = [move.set_ for move in step.by]
    by = f"{moved[0]}, then {listed(moved[1:])}" if moved[1:] else moved[0]
    kept = f"Keep {step.of} at {in_words(step.at or '')}, {step.deadband} either way"
    return f"{kept}, by {by}: one step every {step.every} at most, until this is replaced or stopped."


def _repeated(step: Repeat) -> str:
    every = f", one every {in_words(step.every)}" if step.every else ""
    turns = f"{step.max} turn{'' if step.max == 1 else 's'}"
    if step.until is None:
        return f"Repeat, {turns}{every}:"
    return f"Repeat until {in_words(step.until)}, at most {turns}{every}:"


def _perfused(step: Perfuse) -> str:
    return (
        f"Perfuse {step.vessel} from {step.medium} to {step.waste} at {in_words(step.rate)}, kept within "
        f"{step.between}: every {step.every} its share is drawn and {step.vessel} filled up to {in_words(step.keep)}, "
        f"at {in_words(step.flow)}, tolerance {step.tolerance}; {_long(step)}."
    )


def _long(step: Perfuse) -> str:
    return f"until {in_words(step.until)}, at the longest {step.longest}" if step.until else f"for {step.longest}"


def _turns(step: Repeat) -> list[tuple[str, str]]:
    found = [("Late", "turns that are a whole interval late are passed over, with an exception")] if step.every else []
    if step.until is None:
        return found
    otherwise = "hold the batch" if step.on_max == "hold" else "go on with an exception"
    return [*found, (f"Not true after {step.max}", otherwise)]


def _transferred(step: Transfer, recipe: Recipe, loops: Loops) -> str:
    source, destination = _container(step.from_, loops), _container(step.to, loops)
    way = f"from {source} to {destination} at {in_words(step.rate)}"
    match step.amount:
        case "volume":
            what = f"ransfer {in_words(step.volume or '')} {way}"
        case "leave":
            what = f"ransfer {way} until {in_words(step.leave or '')} is left in {source}"
        case "up_to":
            what = f"ransfer {way} until {destination} holds {in_words(step.up_to or '')}"
        case "all":
            what = f"ransfer everything {way}"
        case "dose":
            what = f"ransfer {way} what holds {in_words(step.dose or '')} of {_substance(step, recipe, loops)}"
        case "final":
            what = f"ransfer {way} what makes {in_words(step.final or '')} of {_substance(step, recipe, loops)} there"
    first = f"Let settle for {in_words(step.settle)}, then t" if step.settle else "T"
    return f"{first}{what}, tolerance {step.tolerance}."


def _substance(step: Transfer, recipe: Recipe, loops: Loops) -> str:
    try:
        stock = stock_of(step, recipe.containers, loops.get(step.from_, step.from_))
    except DoseError:
        return step.of or "its substance"  # the check tells of that
    return f"{stock.substance} (stock {stock.text})"


def _sampled(step: Sample, loops: Loops) -> str:
    volume = "" if _nothing(step.volume) else f" of {in_words(step.volume)}"
    reports = f"{_first(step.text)}Draw a sample{volume} from {_container(step.from_, loops)}; the laboratory reports"
    if not step.awaited:
        return f"{reports} {listed(step.results)} later; nothing waits for it."
    later = f", and {listed(step.deferred)} later" if step.deferred else ""
    return f"{reports} {listed(step.awaited)}{later}."


def _result(name: str, recipe: Recipe) -> str:
    kind = recipe.results.get(name)
    if kind is None:
        return name
    given = f"one of {', '.join(kind.choices)}" if kind.choices else number(kind.unit, kind.range)
    return f"{kind.label or name} ({name}): {given}"


def _due(due: str | None, on_overdue: Literal["continue", "hold", "wait"]) -> list[tuple[str, str]]:
    if due is None:
        return []
    otherwise = {"continue": "alarm and go on", "hold": "hold the batch", "wait": "alarm"}[on_overdue]
    return [("Due", f"within {due}, then {otherwise}")]


def _missed(step: Wait | Incubate) -> list[tuple[str, str]]:
    if step.grace is None:
        return []
    return [(f"More than {step.grace} late", _MISSED[step.on_missed])]


def _restart(step: AnyVerb) -> str:
    """Return how a step goes on after the controller was down."""
    words = _RESTART[step.on_restart]
    if step.max_outage is None or step.on_restart in ("hold", "ask"):
        return words
    return f"{words} up to {step.max_outage}; after a longer one the batch waits for a person"
