"""What the rest of a recipe takes from each container, as planned, against what the ledger says it holds.

The recipe is walked ahead with the volumes of now: what is decided and known is reckoned with; what is not (a count
that is not there yet, a branch not taken, a bag whose volume is asked for) makes unknown whatever depends on it.  Of
what is not known nothing is said: an early warning that is wrong is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from devices.quantity import Quantity, QuantityError, parse, show
from recipes import steps as verbs
from recipes.check_parallel import ordered
from recipes.dosing import DoseError, dosed, stock_of
from recipes.expr import INVALID, ExprError, Operand, compile, reference
from recipes.model import EXCEPT, walk
from recipes.steps import AnyVerb, children
from tilctl.engine.batch import Batch
from tilctl.engine.excepting import taken
from tilctl.engine.scope import BatchScope
from tilctl.engine.turns import turn_of
from tilctl.guard.board import Reactions
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.plant.ledger import SAMPLES

SHORT_ML, SHORT_SHARE = 3.0, 0.02  # what a ledger may be wrong by, as in a transfer (engineering default)
_CHANGES = (ev.Mounted, ev.Unmounted, ev.Moved, ev.IntentClosed, ev.LedgerCorrected)
_MOVES = (verbs.Transfer, verbs.Mount, verbs.Unmount, verbs.ForEach, verbs.Sample)


@dataclass
class Outlook:
    """One container: what it holds now, what is taken from it as planned and at worst (mL), and where it is short."""

    name: str
    holds_ml: float
    takes_ml: float = 0.0
    worst_ml: float = 0.0
    short_at: str = ""
    after: str = ""  # what is waited for before that

    @property
    def text(self) -> str:
        """Return it in words."""
        takes = f"takes {show(self.takes_ml, 'mL')} from it (at worst {show(self.worst_ml, 'mL')})"
        text = f"{self.name} holds {show(self.holds_ml, 'mL')}, the rest of the recipe {takes}"
        if not self.short_at:
            return text
        waited = f", after {self.after}" if self.after else ""
        return f"{text}: mount a fuller one, or correct the ledger, before {self.short_at}{waited}"


@dataclass
class _Ahead(BatchScope):
    """Names as they will be: volumes that are foreseen, and values that can be reckoned already."""

    batch: Batch
    aliases: Mapping[str, str]
    volumes: dict[str, float | None]
    values: dict[str, Operand] = field(default_factory=dict[str, Operand])

    def __post_init__(self) -> None:
        super().__init__(self.batch, self.aliases)

    def lookup(self, name: str) -> Operand | None:
        """Return the operand of a name; its value is None where it is not known yet."""
        if name in self.values:
            return self.values[name]
        head, _, attribute = name.partition(".")
        container = self.aliases.get(head, head)
        family = container.partition("[")[0]
        if attribute not in ("volume", "mounted") or family not in self.batch.recipe.containers:
            return super().lookup(name)
        if "[" in container or self.batch.recipe.containers[family].count is None:
            known = self.volumes.get(container)
            return Operand(name, container in self.volumes) if attribute == "mounted" else Operand(name, known, "mL")
        members = [volume for each, volume in self.volumes.items() if each.partition("[")[0] == family]
        if attribute == "mounted":
            return Operand(name, float(len(members)))
        known = [volume for volume in members if volume is not None]
        return Operand(name, sum(known) if len(known) == len(members) else None, "mL")


def outlook(batch: Batch) -> list[Outlook]:
    """Return the outlook of each mounted container that the rest of the recipe takes something from."""
    ahead = _Walk(batch)
    for operation in batch.recipe.procedure:
        if batch.state.complete(operation.id):
            continue
        if way := taken(batch.state.node(operation.id)):
            goes_on = ahead.steps(batch.recipe.exceptions[way].steps, f"{operation.id}/{EXCEPT}/{way}", {})
        else:
            goes_on = ahead.steps(operation.steps, operation.id, {})
        if not goes_on:
            break
    return [each for each in ahead.found.values() if each.takes_ml > 0.0]


class Forecaster:
    """Looks ahead after whatever changes a volume, and warns of a container that will be short; `short-<container>`."""

    def __init__(self, batch: Batch, reactions: Reactions) -> None:
        self._batch = batch
        self._reactions = reactions
        batch.observers.append(self._seen)

    def _seen(self, record: Record) -> None:
        if isinstance(record.event, _CHANGES):
            self.look()

    def look(self) -> None:
        """Look ahead now; what was said and is no longer so is taken back."""
        found = outlook(self._batch)
        self._batch.foreseen = tuple(each.text for each in found)
        short = {f"short-{each.name}": each.text for each in found if each.short_at}
        for alarm in [name for name in self._batch.state.alarms if name.startswith("short-") and name not in short]:
            self._reactions.cleared(alarm)
        for alarm, text in short.items():
            self._reactions.raised(alarm, "medium", text, {})


class _Walk:
    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        mounted = [each for each in batch.state.ledger if each.mounted and each.name != SAMPLES]
        self._volumes: dict[str, float | None] = {each.name: each.volume_ml for each in mounted}
        self._values: dict[str, Operand] = {}
        self._after = ""
        self.found = {each.name: Outlook(each.name, each.volume_ml) for each in mounted}

    def steps(self, steps: Sequence[AnyVerb], path: str, aliases: Mapping[str, str]) -> bool:
        """Walk a list of steps; False where nothing beyond it can be foreseen."""
        return all(self._step(step, f"{path}/{step.id}", aliases) for step in steps)

    def _step(self, step: AnyVerb, path: str, aliases: Mapping[str, str]) -> bool:
        if self._batch.state.complete(path):
            return True
        if way := taken(self._batch.state.node(path)):
            return self.steps(self._batch.recipe.exceptions[way].steps, f"{path}/{EXCEPT}/{way}", aliases)
        if step.when is not None and self._batch.state.node(path) is None:
            self._forget([step])
            return True
        match step:
            case verbs.Transfer():
                self._transfer(step, path, aliases)
            case verbs.Let():
                self._let(step, aliases)
            case verbs.Ask():
                self._to_come(step.id, step.inputs, path)
            case verbs.Sample():
                self._to_come(step.id, step.results, path)
                self._sample(step, aliases)
            case verbs.Incubate():
                self._after = step.until
            case verbs.Mount() | verbs.Unmount():
                for name in list(self._volumes):
                    if name.partition("[")[0] in step.containers or name in step.containers:
                        del self._volumes[name]  # gone; or it comes with what nobody knows yet
                if isinstance(step, verbs.Mount) and self._batch.state.node(path) is not None:
                    self._stay(step)
            case verbs.ForEach():
                return self._loop(step, path, aliases)
            case verbs.Repeat():
                return self._turns(step, path, aliases)
            case verbs.Perfuse():
                return self._turns(step.turns, path, aliases)
            case verbs.Choose():
                return self._choose(step, path, aliases)
            case verbs.Parallel():
                return self._parallel(step, path, aliases)
            case _:
                pass
        return True

    def _stay(self, step: verbs.Mount) -> None:
        """Keep what a mount that is under way has put on the record already."""
        for name in step.containers:
            for each in self._batch.state.ledger.family(name):
                self._volumes[each.name] = each.volume_ml

    def _loop(self, step: verbs.ForEach, path: str, aliases: Mapping[str, str]) -> bool:
        node = self._batch.state.node(path)
        begun = None if node is None else node.phases.get("members")
        if begun is not None:
            members = [str(name) for name in begun[1]["names"]]
        else:
            members = [each.name for each in self._batch.state.ledger.family(step.in_) if each.name in self._volumes]
        if not members:
            self._forget(step.steps)
        return all(
            self.steps(step.steps, f"{path}/{number}", {**aliases, step.as_: name})
            for number, name in enumerate(members, start=1)
        )

    def _turns(self, step: verbs.Repeat, path: str, aliases: Mapping[str, str]) -> bool:
        """Walk the turns that are known to come: all of them, or the one under way where a condition ends them."""
        node = self._batch.state.node(path)
        begun = None if node is None else turn_of(node)
        turn = 1 if begun is None else begun.number
        if step.until is None:
            return all(self.steps(step.steps, f"{path}/{n}", aliases) for n in range(turn, step.max + 1))
        if node is not None and not self.steps(step.steps, f"{path}/{turn}", aliases):
            return False
        return not any(isinstance(each, _MOVES) for _, each in walk(step.steps, path))

    def _choose(self, step: verbs.Choose, path: str, aliases: Mapping[str, str]) -> bool:
        node = self._batch.state.node(path)
        decided = None if node is None else node.phases.get("decided")
        if decided is not None:
            taken = int(decided[1]["case"])
            return self.steps(step.cases[taken - 1].steps, f"{path}/{taken}", aliases)
        inside = [found for branch in children(step) for _, found in walk(branch, path)]
        return not any(isinstance(each, _MOVES) for each in inside)

    def _parallel(self, step: verbs.Parallel, path: str, aliases: Mapping[str, str]) -> bool:
        """Walk branch after branch; where it matters which one comes first, nothing is known of a container."""
        loops = {name: container.partition("[")[0] for name, container in aliases.items()}
        unknown = ordered(step, loops)
        for name in self._volumes:
            if name.partition("[")[0] in unknown:
                self._volumes[name] = None
        known = [self.steps(steps, f"{path}/{name}", aliases) for name, steps in step.branches.items()]
        return all(known)

    def _sample(self, step: verbs.Sample, aliases: Mapping[str, str]) -> None:
        name, volume = self._name(step.from_, aliases), self._value(step.volume, aliases)
        held = None if name is None else self._volumes.get(name)
        if name is not None and held is not None:
            self._volumes[name] = None if volume is None else max(0.0, held - volume.value)

    def _to_come(self, step: str, names: Iterable[str], path: str) -> None:
        """Make unknown what people will say here: what they said in an earlier round is not it."""
        for name in (f"{step}.{name}" for name in names):
            if self._batch.state.setters.get(name) != path:
                self._values[name] = Operand(name, None)

    def _let(self, step: verbs.Let, aliases: Mapping[str, str]) -> None:
        for name, text in step.values.items():
            found = self._value(text, aliases)
            value, unit = (found.value, found.unit) if found is not None else (None, "")
            self._values[f"{step.id}.{name}"] = Operand(f"{step.id}.{name}", value, unit)

    def _transfer(self, step: verbs.Transfer, path: str, aliases: Mapping[str, str]) -> None:
        source, destination = self._name(step.from_, aliases), self._name(step.to, aliases)
        moved = self._moved(step, path, source, destination, aliases)
        if moved is None:
            for name in (source, destination):
                if name is not None and name in self._volumes:
                    self._volumes[name] = None
            return
        held = None if source is None else self._volumes.get(source)
        if source is not None and held is not None:
            self._takes(step, path, source, held, moved)
            self._volumes[source] = max(0.0, held - moved)
        before = None if destination is None else self._volumes.get(destination)
        if destination is not None and before is not None:
            self._volumes[destination] = before + moved

    def _takes(self, step: verbs.Transfer, path: str, source: str, held: float, moved: float) -> None:
        found = self.found.get(source)
        if found is None:
            return
        exact = step.amount in ("all", "leave")
        found.takes_ml += moved
        found.worst_ml += moved + (0.0 if exact else _tolerance(step, moved))
        if moved > held + max(SHORT_ML, SHORT_SHARE * held) and not found.short_at:
            found.short_at, found.after = path, self._after

    def _moved(
        self, step: verbs.Transfer, path: str, source: str | None, destination: str | None, aliases: Mapping[str, str]
    ) -> float | None:
        """Return what a transfer still moves (mL), None where that is not known yet."""
        node = self._batch.state.node(path)
        ordered = None if node is None else node.phases.get("ordered")
        if ordered is not None:
            done = sum(intent.delivered_ml or 0.0 for intent in self._batch.state.intents_of(path))
            return max(0.0, float(ordered[1]["volume"]) - done)
        held = None if source is None else self._volumes.get(source)
        filled = None if destination is None else self._volumes.get(destination)
        match step.amount:
            case "all":
                return held
            case "volume":
                wanted = self._value(step.volume or "", aliases)
                return None if wanted is None else max(0.0, wanted.value)
            case "leave":
                left = self._value(step.leave or "", aliases)
                return None if left is None or held is None else max(0.0, held - left.value)
            case "up_to":
                level = self._value(step.up_to or "", aliases)
                return None if level is None or filled is None else max(0.0, level.value - filled)
            case "dose" | "final":
                return self._dosed(step, source, filled, aliases)

    def _dosed(
        self, step: verbs.Transfer, source: str | None, filled: float | None, aliases: Mapping[str, str]
    ) -> float | None:
        def number(text: str, unit: str) -> float:
            found = self._value(text, aliases)
            if found is None or found.unit != unit:
                raise DoseError(f"'{text}' is not known yet")
            return found.value

        if source is None or (step.final is not None and filled is None):
            return None
        try:
            stock = stock_of(step, self._batch.recipe.containers, source)
            return max(0.0, dosed(step, stock, filled or 0.0, number).volume)
        except DoseError:
            return None

    def _value(self, text: str, aliases: Mapping[str, str]) -> Quantity | None:
        try:
            found = compile(text).evaluate(self._scope(aliases))
        except ExprError:
            return None
        return found if isinstance(found, Quantity) else None

    def _name(self, text: str, aliases: Mapping[str, str]) -> str | None:
        try:
            name = reference(text).resolve(self._scope(aliases))
        except ExprError:
            return None
        if name is INVALID:
            return None
        known = self._batch.state.ledger.get(aliases.get(str(name), str(name)))
        return known.name if known is not None else str(name)

    def _scope(self, aliases: Mapping[str, str]) -> _Ahead:
        return _Ahead(self._batch, aliases, self._volumes, self._values)

    def _forget(self, steps: Sequence[AnyVerb]) -> None:
        """Make unknown whatever steps touch that may be walked or not, or nobody knows how often."""
        for _, step in (found for each in steps for found in walk((each,), "")):
            texts = (step.from_, step.to) if isinstance(step, verbs.Transfer) else ()
            families = {text.partition("[")[0].strip() for text in texts}
            for name in self._volumes:
                if name.partition("[")[0] in families:
                    self._volumes[name] = None


def _tolerance(step: verbs.Transfer, moved: float) -> float:
    try:
        tolerance = parse(step.tolerance)
    except QuantityError:
        return 0.0
    return tolerance.value if tolerance.unit == "mL" else moved * tolerance.value / 100
