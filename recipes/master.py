"""A recipe as a master batch record: what operators and quality read, step by step, as tables and numbered lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recipes.adjustable import adjusted
from recipes.estimates import Estimate
from recipes.flat import flat, label
from recipes.freezing_model import FreezeProfile
from recipes.model import FULL_SHARE, Container, Guard, Operation, Recipe
from recipes.steps import AnyVerb, Choose, ForEach, Mount, Parallel, Repeat
from recipes.unverified import Doubtful, criteria, doubtful, doubtful_freezing
from recipes.words import NO_LOOPS, Loops, branch, details, listed, sentence, signatures, who
from recipes.words_expr import in_words

ILLUSTRATIVE = "illustrative, not clinical"
READING = (
    "A name with a dot is a value that is known by then: count.tvc is the result tvc of the step count, rep.volume "
    "what the ledger holds for rep, station.temperature a reading. What stands in braces is filled in when it is shown."
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title, and a sentence on it where it needs one."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A numbered line of the procedure: a step, or a branch of a choice (`step` is None, `who` empty)."""

    number: str
    id: str
    sentence: str
    who: str = ""
    details: tuple[tuple[str, str], ...] = ()
    signatures: tuple[str, ...] = ()
    step: AnyVerb | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One operation."""

    title: str
    note: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class MasterRecord:
    """The whole document, in its order."""

    title: str
    facts: tuple[tuple[str, str], ...]
    before: tuple[Table, ...]
    parts: tuple[Part, ...]
    after: tuple[Table, ...]


def master_record(recipe: Recipe, sha256: str, check: str, profiles: Sequence[FreezeProfile] = ()) -> MasterRecord:
    """Return the master batch record of a recipe.

    `sha256` is that of its text, as the record of a batch names it; `check` says what the check found; `profiles` are
    the freezing profiles that it uses, as far as they can be read.
    """
    parts = tuple(_part(number, operation, recipe) for number, operation in enumerate(recipe.procedure, start=1))
    lines = [line for part in parts for line in part.lines]
    facts = [
        ("Recipe", recipe.recipe),
        ("Version", recipe.version),
        ("Status", ILLUSTRATIVE if recipe.status == "illustrative" else recipe.status),
        ("SHA-256", sha256),
        ("Check", check),
        ("Description", recipe.description or ""),
    ]
    before = (
        _parameters(recipe), _equipment(recipe), _containers(recipe), _media(recipe, lines), _results(recipe),
        _clocks(recipe), _guards(recipe), _estimates(recipe),
    )  # fmt: skip
    steps = [(f"{line.number} {line.id}", line.step) for line in lines if line.step is not None]
    doubts = [*doubtful(recipe, steps), *(each for profile in profiles for each in doubtful_freezing(profile))]
    after = (*(table for profile in profiles for table in _freezing(profile)), _sources(recipe), _doubts(doubts))
    return MasterRecord(
        recipe.title,
        tuple((name, text) for name, text in facts if text),
        tuple(table for table in before if table.rows),
        parts,
        tuple(table for table in after if table.rows),
    )


def _part(number: int, operation: Operation, recipe: Recipe) -> Part:
    title = f"{number} {operation.id}" + (f": {operation.title}" if operation.title else "")
    using = listed(operation.using)
    note = f"Begins when the batch has been granted {using}, and keeps it to the end of this part." if using else ""
    return Part(title, note, tuple(_lines(operation.steps, str(number), recipe, NO_LOOPS)))


def _lines(steps: tuple[AnyVerb, ...], above: str, recipe: Recipe, loops: Loops) -> Iterator[Line]:
    for index, step in enumerate(steps, start=1):
        number = f"{above}.{index}"
        said, beside = sentence(step, recipe, loops), tuple(details(step, recipe))
        yield Line(number, step.id, said, who(step), beside, signatures(step), step)
        match step:
            case ForEach():
                yield from _lines(step.steps, number, recipe, {**loops, step.as_: step.in_})
            case Repeat():
                yield from _lines(step.steps, number, recipe, loops)
            case Choose():
                for place, case in enumerate(step.cases, start=1):
                    yield Line(f"{number}.{place}", "", branch(case))
                    yield from _lines(case.steps, f"{number}.{place}", recipe, loops)
            case Parallel():
                for place, (name, inside) in enumerate(step.branches.items(), start=1):
                    yield Line(f"{number}.{place}", "", f"Branch {name}:")
                    yield from _lines(inside, f"{number}.{place}", recipe, loops)
            case _:
                pass


def _parameters(recipe: Recipe) -> Table:
    rows = [
        (name, each.label or "", each.default, each.range or ", ".join(each.choices), each.source or "", adjusted(each))
        for name, each in recipe.parameters.items()
    ]
    heads = ("parameter", "label", "default", "range", "source", "in a running batch")
    note = "May be changed when a batch is started, within the range."
    if not any(row[-1] for row in rows):
        return Table("Parameters", heads[:-1], tuple(row[:-1] for row in rows), note)
    note += " In a running batch only as told, for the steps that begin from then on."
    return Table("Parameters", heads, tuple(rows), note)


def _equipment(recipe: Recipe) -> Table:
    rows = [
        (
            name, each.role, ", ".join(each.needs), str(each.positions or ""), "yes" if each.shared else "",
            each.source or "",
        )
        for name, each in recipe.equipment.items()
    ]  # fmt: skip
    return Table("Equipment", ("name", "role", "needs", "positions", "shared", "source"), tuple(rows))


def _held(container: Container) -> str:
    stock = ", ".join(f"{substance} {text}" for substance, text in container.stock.items())
    return "; ".join(filter(None, [container.holds, f"stock: {stock}" if stock else ""]))


def _containers(recipe: Recipe) -> Table:
    rows = [
        (
            name, each.kind, each.class_ or "", each.count or "1", each.limit, _held(each),
            each.density if "density" in each.model_fields_set else f"{each.density} (default)",
            each.evaporation if "evaporation" in each.model_fields_set else "",
            each.source or "",
        )
        for name, each in recipe.containers.items()
    ]  # fmt: skip
    columns = ("container", "kind", "class", "number", "limit", "holds", "density", "evaporation", "source")
    note = f"The limit is the most that one may ever hold; pumps stop at {100 * FULL_SHARE:g} % of it."
    return Table("Containers", columns, tuple(rows), note)


def _media(recipe: Recipe, lines: Sequence[Line]) -> Table:
    rows: list[tuple[str, ...]] = []
    for name, each in recipe.containers.items():
        mounted = [line.number for line in lines if isinstance(line.step, Mount) and name in line.step.containers]
        if each.holds:
            rows.append((each.holds, name, each.count or "1", f"at most {each.limit} each", ", ".join(mounted)))
    columns = ("medium or material", "container", "number", "amount", "mounted in step")
    return Table("Media and materials", columns, tuple(rows), "As far as the recipe declares them.")


def _results(recipe: Recipe) -> Table:
    rows = [
        (name, each.label or "", each.unit or "", each.range or ", ".join(each.choices), each.source or "")
        for name, each in recipe.results.items()
    ]
    return Table("Laboratory results", ("result", "label", "unit", "range", "source"), tuple(rows))


def _clocks(recipe: Recipe) -> Table:
    rows = [
        (name, each.from_, each.to, *(text or "" for text in (each.min, each.warn, each.high, each.max, each.source)))
        for name, each in recipe.clocks.items()
    ]
    columns = ("clock", "from", "to", "at least", "warns at", "alarms at", "at most", "source")
    return Table("Clocks", columns, tuple(rows), "Time between two moments of the procedure, also while held.")


def _guards(recipe: Recipe) -> Table:
    rows = [
        (
            guard.id, _watched(guard), f"{guard.priority}: {_does(guard)}", guard.cause or "", guard.consequence or "",
            (guard.action or "") + (f" (time allowed: {guard.allowed})" if guard.allowed else ""), guard.source or "",
        )
        for guard in recipe.guards
    ]  # fmt: skip
    columns = ("guard", "raised when", "priority", "cause", "consequence", "action", "source")
    return Table("Guards", columns, tuple(rows), "Watched also while the batch is held.")


def _estimates(recipe: Recipe) -> Table:
    rows = [
        (
            name, f"{listed(each.of)}, from {each.from_} to {each.to}", _made_of(each), _foreseen(each),
            "advises" if each.use == "advise" else "decides", each.source or "",
        )
        for name, each in recipe.estimates.items()
    ]  # fmt: skip
    columns = ("estimate", "viable cells in", "made of", "forecast", "use", "source")
    note = "Uncalibrated soft sensors, with an interval of 95 %. One that advises is in no condition that decides."
    return Table("Estimates", columns, tuple(rows), note)


def _made_of(each: Estimate) -> str:
    told = [f"{word} {in_words(text)}" for word, text in (("start", each.start), ("feeders", each.feeders)) if text]
    told += [f"{word} {listed(names)}" for word, names in (("counts", each.counts), ("glucose", each.glucose)) if names]
    told += [f"{text} in {name}" for name, text in each.medium.items()]
    told += [f"no cells into {listed(each.supernatant)}"] if each.supernatant else []
    told += [f"oxygen {each.oxygen.tag}, renewed in {in_words(each.oxygen.renewal)}"] if each.oxygen else []
    told += [f"capacitance {each.capacitance}"] if each.capacitance else []
    told += [f"rest of {each.lag}", f"data not older than {each.stale}"]
    return "; ".join(told)


def _foreseen(each: Estimate) -> str:
    wanted = each.forecast
    if wanted is None:
        return ""
    when = f"known {wanted.ahead} before, from {each.needs} of data"
    return f"when {in_words(wanted.at)}, against {in_words(wanted.floor)}; {when}"


def _watched(guard: Guard) -> str:
    told = [f"{in_words(guard.when)} for {guard.for_}" if "for_" in guard.model_fields_set else in_words(guard.when)]
    told += [f"deadband {guard.deadband}"] if guard.deadband else []
    told += [f"over after {guard.off_delay}"] if "off_delay" in guard.model_fields_set else []
    told += [f"not while {in_words(guard.unless)}"] if guard.unless else []
    told += [f"from {guard.span[0]} to {guard.span[1]}"] if guard.span else []
    told += [guard.text] if guard.text else []
    return "; ".join(told)


def _does(guard: Guard) -> str:
    does = {"alarm": "alarm", "hold": "alarm, hold the batch", "stop": "alarm, stop the batch"}[guard.then]
    latched = ", until it is reset" if guard.latch == "yes" else ""
    again = f", again after {guard.re_alarm}" if guard.re_alarm else ""
    group = f", first of {guard.group}" if guard.group else ""
    return f"{does}{latched}{again}{group}"


def _freezing(profile: FreezeProfile) -> Iterator[Table]:
    name = f"Freezing profile {profile.id} {profile.version}"
    ends = {"target": "at its target", "time": "by time", "exotherm_or_time": "at the exotherm or by time"}
    rows = [
        (
            str(number), row.id, row.kind, row.listen, "" if row.kind == "hold" else row.rate, row.target,
            ends[row.end], row.timeout, row.source,
        )
        for number, row in enumerate(profile.rows, start=1)
    ]  # fmt: skip
    columns = ("row", "name", "kind", "by the probe of", "rate", "target", "ends", "at most", "source")
    yield Table(name, columns, tuple(rows), f"{profile.title}; {profile.status}; lasts about {profile.lasts}.")
    limits = [
        (
            rule.replace("_", " "),
            ", ".join(f"{label(key)} {text}" for key, text in flat(block).items() if key != ("source",)),
            flat(block).get(("source",), ""),
        )
        for rule, block in criteria(profile)
    ]
    yield Table(f"{name}: acceptance", ("criterion", "limits", "source"), tuple(limits))
    yield Table(f"{name}: sources", ("tag", "source"), tuple(profile.sources.items()))


def _sources(recipe: Recipe) -> Table:
    return Table("Sources", ("tag", "source"), tuple(recipe.sources.items()))


def _doubts(found: Sequence[Doubtful]) -> Table:
    rows = [(each.where, each.numbers, each.source, each.standing) for each in found]
    note = (
        "Numbers whose source is unverified, an engineering default, or missing. Where several sources stand beside "
        "numbers, all of these are here when one of the sources is of that kind."
    )
    return Table("Numbers to be verified", ("where", "numbers", "source", "standing"), tuple(rows), note)
