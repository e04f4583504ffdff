"""The walk of a dry run: every verb of the language, on the plant itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from devices.quantity import Quantity, parse, parse_as
from devices.role import ROLES
from recipes import steps as verbs
from recipes.catalog import load_freezing
from recipes.dosing import DoseError, dosed, stock_of
from recipes.expr import INVALID, Operand, compile, reference
from recipes.freezing_model import longest, program
from recipes.model import FULL_SHARE, Recipe
from recipes.ranges import parse_range
from recipes.steps import AnyVerb
from recipes.template import render
from recipes.windows import window_time
from simulators.bench import Bench
from simulators.operator import Operator
from simulators.physics.donors import donor
from simulators.physics.fluid import CLASSES
from simulators.physics.parameters import Setting
from simulators.physics.vessels import OF_CLASS
from simulators.plant import Plant
from tilctl.cli.dryrun.asking import Answered, Asking, inputs_of_ask, inputs_of_sample
from tilctl.cli.dryrun.clock import MovedClock
from tilctl.cli.dryrun.course import CONTROLLER, LABORATORY, PERSON, Counted, Course, Did, Dosed, Mounted, Sampled, Who
from tilctl.cli.dryrun.liquids import Liquids, NoPlace
from tilctl.cli.dryrun.scope import Known, KnownScope
from tilctl.cli.simulated import simulated_rows
from tilctl.engine.errors import ProcedureEnd, StepError
from tilctl.engine.verbs.transfer import MOST_TRIES, SMALLEST_ML
from tilctl.engine.waiting import seconds_until
from tilctl.plant.ledger import SAMPLES

LOOK_S = 60.0  # between looks at a value of the plant that a step waits for
LONGEST_S = 120 * 86400.0  # a recipe that has not ended by then never does
MOVES = ("mount", "unmount", "ask", "sample")


class Walk:
    """One dry run of a recipe for one donor."""

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        parameters: Mapping[str, str],
        setting: Setting | None = None,
        haste: float = 1.0,
        folders: Sequence[Path] = (),
    ) -> None:
        """`seed` draws people and noise, and the donor unless `setting` has one; `haste` below 1 shortens delays.

        `folders`: where freezing profiles are looked for before the library.
        """
        self.clock = MovedClock()
        given = setting or Setting(donor(seed))
        floors = {name: given.vessel for name in CLASSES if name.startswith("gas-permeable")}
        self.plant = Plant(self.clock, seed, given.donor, kinetics=given.kinetics, vessels={**OF_CLASS, **floors})
        self.bench = Bench(self.plant)
        self.liquids = Liquids(self.plant, self.bench)
        self.recipe = recipe
        self._folders = folders
        inputs = {name: parameters.get(name, each.default) for name, each in recipe.parameters.items()}
        self.known = Known(recipe, inputs, self.clock.monotonic, self._tag)
        self.course = Course(plant=self.plant)
        self._asking = Asking(Operator(seed, self.bench.call, haste))
        self._devices = {name: _device(each.role) for name, each in recipe.equipment.items()}

    def run(self) -> Course:
        """Walk to the end; what a controller would hold for ends the walk as `held`, with the reason."""
        course = self.course
        try:
            for operation in self.recipe.procedure:
                course.operations[operation.id] = self.clock.monotonic()
                self._steps(operation.steps, operation.id, {})
        except ProcedureEnd as end:
            course.ended, course.reason = end.result, end.reason
        except (StepError, NoPlace) as error:
            course.ended, course.reason = "held", str(error)
        course.seconds, course.marks = self.clock.monotonic(), self.known.marks
        course.moved_ml = self.liquids.moved_ml
        return course

    # --- time -----------------------------------------------------------------------------------------------------

    def _pass(self, seconds: float) -> None:
        self._pass_to(self.clock.monotonic() + max(0.0, seconds))

    def _pass_to(self, t: float) -> None:
        if t > LONGEST_S:
            raise StepError(f"it would last more than {LONGEST_S / 86400:.0f} days", "look at what it waits for")
        self.clock.move_to(t)
        self.plant.time()

    def _until(self, path: str, text: str, aliases: Mapping[str, str], limit_s: float | None = None) -> bool:
        """Let time pass until a condition holds; False where `limit_s` comes first."""
        expression = compile(text)
        # A moment, for what is left of a time gets too small to be added to it.
        end = None if limit_s is None else self.clock.monotonic() + limit_s
        while True:
            scope = self._scope(aliases)
            if (found := expression.truth(scope)) is not INVALID and found:
                return True
            now = self.clock.monotonic()
            if end is not None and now >= end:
                return False
            ahead = seconds_until(expression, scope)
            reads_plant = any(name.partition(".")[0] in self._devices for name in expression.names)
            if ahead is None and not reads_plant:
                raise StepError(f"{path}: '{text}' never comes true", "nothing that it reads changes any more")
            wait = min(each for each in (ahead, LOOK_S if reads_plant else None) if each is not None)
            self._pass_to(now + wait if end is None else min(now + wait, end))

    # --- steps ----------------------------------------------------------------------------------------------------

    def _steps(self, steps: Sequence[AnyVerb], path: str, aliases: Mapping[str, str]) -> None:
        for step in steps:
            self._step(step, f"{path}/{step.id}", aliases)

    def _step(self, step: AnyVerb, path: str, aliases: Mapping[str, str]) -> None:
        if step.when is not None and not self._truth(path, step.when, aliases):
            return
        began = self.clock.monotonic()
        self._verb(step, path, aliases)
        if step.exception_when is not None:
            found = compile(step.exception_when).truth(self._scope(aliases))
            if found is INVALID or found:
                self.course.exceptions.append(f"{path}: '{step.exception_when}' is true")
        if step.verb not in ("choose", "for_each", "repeat"):
            who: Who = LABORATORY if step.verb == "sample" else PERSON if step.verb in MOVES else CONTROLLER
            self.course.did.append(Did(path, step.verb, began, self.clock.monotonic(), who))

    def _verb(self, step: AnyVerb, path: str, aliases: Mapping[str, str]) -> None:
        match step:
            case verbs.Choose():
                self._choose(step, path, aliases)
            case verbs.ForEach():
                for number, each in enumerate(self.known.ledger.family(step.in_), start=1):
                    self._steps(step.steps, f"{path}/{number}", {**aliases, step.as_: each.name})
            case verbs.Repeat():
                self._repeat(step, path, aliases)
            case verbs.Ask():
                self._ask(step, path, aliases)
            case verbs.Sample():
                self._sample(step, path, aliases)
            case verbs.Mount():
                self._mount(step, path, aliases)
            case verbs.Unmount():
                self._unmount(step, path, aliases)
            case verbs.Transfer():
                self._transfer(step, path, aliases)
            case verbs.Let():
                for name, text in step.values.items():
                    found = compile(text).evaluate(self._scope(aliases))
                    if found is INVALID:
                        raise StepError(f"{path}: '{text}' is not known", "see to its operands")
                    self.known.values[f"{step.id}.{name}"] = found
            case verbs.End():
                raise ProcedureEnd(step.as_, render(step.reason, self._scope(aliases)))
            case _:
                self._timed(step, path, aliases)

    def _timed(self, step: AnyVerb, path: str, aliases: Mapping[str, str]) -> None:
        """Do the verbs that move no liquid and ask nobody."""
        match step:
            case verbs.Set():
                values = {
                    tag.partition(".")[2]: self._number(path, text, aliases) for tag, text in step.targets.items()
                }
                self.liquids.set_climate(values)
            case verbs.Wait():
                if step.for_ is not None:
                    self._pass(self._number(path, step.for_, aliases))
                    return
                limit = None if step.timeout is None else self._number(path, step.timeout, aliases)
                if not self._until(path, step.until or "true", aliases, limit) and step.on_timeout == "hold":
                    raise StepError(f"{path}: '{step.until}' did not come true within {step.timeout}", "see to it")
            case verbs.Incubate():
                self._until(path, step.until, aliases)
                day = self._scope(aliases).lookup(window_time(step.until))
                window = None if step.window is None else parse_range(step.window, "d")
                if window is not None and (day is None or not isinstance(day.value, float) or day.value not in window):
                    self.course.exceptions.append(f"{path}: ended outside its window {step.window}")
            case verbs.Mark():
                self.known.marks[step.id] = self.clock.monotonic()
            case verbs.Freeze():
                self._freeze(step)
            case verbs.Note() if step.exception:
                self.course.exceptions.append(f"{path}: {render(step.text, self._scope(aliases))}")
            case _:  # note, balance: nothing that a plant without faults could show
                pass

    def _choose(self, step: verbs.Choose, path: str, aliases: Mapping[str, str]) -> None:
        for number, case in enumerate(step.cases, start=1):
            if case.when is None or self._truth(path, case.when, aliases):
                self._steps(case.steps, f"{path}/{number}", aliases)
                return
        raise StepError(f"{path}: no branch applies", "the recipe needs an else branch")

    def _repeat(self, step: verbs.Repeat, path: str, aliases: Mapping[str, str]) -> None:
        due = self.clock.monotonic()
        every = None if step.every is None else self._number(path, step.every, aliases)
        for number in range(1, step.max + 1):
            if step.until is not None and self._truth(path, step.until, aliases):
                return
            left = due - self.clock.monotonic()
            if left > 0 and step.until is not None and self._comes(path, step.until, aliases, left):
                return
            self._pass(due - self.clock.monotonic())
            self._steps(step.steps, f"{path}/{number}", aliases)
            if every is not None:
                due += every * max(1, int((self.clock.monotonic() - due) // every))
        if step.until is not None and not self._truth(path, step.until, aliases):
            text = f"{path}: '{step.until}' is not true after {step.max} turns"
            if step.on_max == "hold":
                raise StepError(text, "see to its operands")
            self.course.exceptions.append(text)

    def _comes(self, path: str, until: str, aliases: Mapping[str, str], within_s: float) -> bool:
        """Let time pass until a condition comes true before the next turn; False where it does not."""
        ahead = seconds_until(compile(until), self._scope(aliases))
        reads_plant = any(name.partition(".")[0] in self._devices for name in compile(until).names)
        return (ahead is not None or reads_plant) and self._until(path, until, aliases, within_s)

    # --- people ---------------------------------------------------------------------------------------------------

    def _put(
        self,
        path: str,
        kind: str,
        text: str,
        inputs: Mapping[str, Mapping[str, Any]],
        due: str | None = None,
        containers: Sequence[Mapping[str, Any]] = (),
        sources: Sequence[Mapping[str, Any]] = (),
    ) -> Answered:
        asked = self.clock.utc(self.clock.monotonic())
        latest = None if due is None else asked + timedelta(seconds=parse_as(due, "s"))
        answer = self._asking.ask(path, kind, text, inputs, asked, latest, containers, sources)
        self._pass(answer.delay_s)
        return answer

    def _ask(self, step: verbs.Ask, path: str, aliases: Mapping[str, str]) -> None:
        text = self.course.asked[path] = render(step.text, self._scope(aliases))
        answer = self._put(path, "ask", text, inputs_of_ask(step), step.due)
        for name in step.inputs:
            self.known.values[f"{step.id}.{name}"] = answer.values.get(name)
        if step.check is not None and not self._truth(path, step.check, aliases):
            raise StepError(f"{path}: '{step.check}' does not hold", "see to it, and answer again")

    def _sample(self, step: verbs.Sample, path: str, aliases: Mapping[str, str]) -> None:
        ledger = self.known.ledger
        sources = ledger.family(step.from_) or [each for each in [self._container(path, step.from_, aliases)] if each]
        volume = self._number(path, step.volume, aliases)
        if volume > 0:
            ledger.moved(sources[0].name, SAMPLES, volume)
        self.course.sampled.append(Sampled(path, self.clock.monotonic(), sources[0].name, volume, step.results))
        self.known.values |= {f"{step.id}.{name}": None for name in step.deferred}
        if not step.awaited:
            self.bench.sample(sources[0].name, volume)
            return
        true = sum(c.contents.viable for each in sources if (c := self.plant.place(self.liquids.port(each.name))))
        drawn, began = [_shown(each.name, self.liquids.port(each.name)) for each in sources], self.clock.monotonic()
        inputs = inputs_of_sample(step, self.recipe)
        answer = self._put(path, "sample", f"Sample {step.from_}", inputs, step.due, sources=drawn)
        for name in step.awaited:
            self.known.values[f"{step.id}.{name}"] = answer.values.get(name)
        seen = answer.values.get("tvc")
        if isinstance(seen, Quantity):
            self.course.counts.append(Counted(path, began, seen.value, true))

    def _mount(self, step: verbs.Mount, path: str, aliases: Mapping[str, str]) -> None:
        items: list[dict[str, Any]] = []
        for family in step.containers:
            declared = self.recipe.containers[family]
            volume = step.volume_of(family)
            number = int(self._number(path, step.count_of(family) or declared.count or "1", aliases))
            held = None if volume == "ask" else self._number(path, volume, aliases)
            for name in [family] if declared.count is None else [f"{family}[{i}]" for i in range(1, number + 1)]:
                place = step.at or declared.place_class
                items.append({
                    "name": name, "kind": declared.kind, "class": declared.class_ or declared.kind,
                    "holds": declared.holds or "", "place": place, "port": self.liquids.place(name, place),
                    "limit_ml": self.known.limit_ml(name), "volume_ml": held,
                })  # fmt: skip
        limits = {"type": "number", "min": 0.0, "unit": "mL", "canonical": "mL"}
        inputs = {f"volume.{i['name']}": limits | {"max": i["limit_ml"]} for i in items if i["volume_ml"] is None}
        answer = self._put(path, "mount", step.text or "Mount", inputs, containers=items)
        for item in items:
            name = item["name"]
            given = answer.values.get(f"volume.{name}")
            held = given.value if isinstance(given, Quantity) else float(item["volume_ml"] or 0.0)
            self.known.ledger.mounted(name, item["place"] + str(item["port"]), item["class"], held, None, "")
            self.course.mounted.append(Mounted(path, name, item["volume_ml"], held))

    def _unmount(self, step: verbs.Unmount, path: str, aliases: Mapping[str, str]) -> None:
        leaving = [each for name in step.containers for each in self.known.ledger.family(name)]
        if not leaving:
            return
        items = [_shown(each.name, self.liquids.port(each.name)) for each in leaving]
        self._put(path, "unmount", step.text or "Take away", {}, containers=items)
        for each in leaving:
            self.known.ledger.unmounted(each.name)
            self.liquids.free(each.name)

    # --- liquids and cold -----------------------------------------------------------------------------------------

    def _transfer(self, step: verbs.Transfer, path: str, aliases: Mapping[str, str]) -> None:
        source = self._container(path, step.from_, aliases)
        target = self._container(path, step.to, aliases)
        wanted = {
            "volume": lambda: self._number(path, step.volume or "", aliases),
            "leave": lambda: source.volume_ml - self._number(path, step.leave or "", aliases),
            "up_to": lambda: self._number(path, step.up_to or "", aliases) - target.volume_ml,
            "all": lambda: source.volume_ml,
            "dose": lambda: self._dosed(step, path, source.name, target.volume_ml, aliases),
            "final": lambda: self._dosed(step, path, source.name, target.volume_ml, aliases),
        }[step.amount]()
        if target.volume_ml + wanted > FULL_SHARE * self.known.limit_ml(target.name):
            raise StepError(f"{path}: {target.name} would be over-full", "correct the recipe")
        if wanted < -1.0 or wanted > source.volume_ml + max(3.0, 0.02 * source.volume_ml):
            raise StepError(f"{path}: {source.name} holds {source.volume_ml:.0f} mL, {wanted:.0f} are wanted", "")
        if step.settle is not None:
            self._pass(self._number(path, step.settle, aliases))
        given = parse(step.tolerance)
        tolerance = given.value if given.unit == "mL" else wanted * given.value / 100.0
        moved = self._move(step, source.name, target.name, wanted, tolerance, self._number(path, step.rate, aliases))
        self.course.dosed.append(Dosed(path, source.name, target.name, wanted, moved, 0.0 if step.all else tolerance))

    def _dosed(self, step: verbs.Transfer, path: str, source: str, held_ml: float, aliases: Mapping[str, str]) -> float:
        try:
            stock = stock_of(step, self.recipe.containers, source)
            volume = dosed(step, stock, held_ml, lambda text, _unit: self._number(path, text, aliases)).volume
        except DoseError as error:
            raise StepError(f"{path}: {error.message}", error.hint) from error
        if 0.0 < volume < SMALLEST_ML:
            raise StepError(f"{path}: {volume:.2g} mL of {source} are too little to be dosed", "dilute the stock")
        return volume

    def _move(
        self, step: verbs.Transfer, source: str, target: str, wanted: float, tolerance: float, rate: float
    ) -> float:
        """Dose as a controller does: what a pump slips is dosed after only where it is beyond the tolerance."""
        over = min(0.02 * wanted + 2.0, 20.0) if step.all else 0.0  # to be sure that it is empty
        missing, tries = wanted, 0
        while missing >= SMALLEST_ML and tries < MOST_TRIES and (missing > tolerance or tries == 0):
            self._pass(self.liquids.begin(source, target, missing + (over if tries == 0 else 0.0), rate))
            moved = self.liquids.end(source, target)
            self.known.ledger.moved(source, target, moved)
            missing, tries = missing - moved, tries + 1
            if step.all or (step.one_shot and moved > 0.0):
                break
        return wanted - missing

    def _freeze(self, step: verbs.Freeze) -> None:
        """Run a profile on the simulated freezer, as the device does by itself."""
        profile, freezer = load_freezing(step.profile, self._folders), self.plant.freezer
        with self.plant.change() as t:
            freezer.rows = simulated_rows(program(profile))
            freezer.start(freezer.sequence + 1, t)
        if (mark := step.marks.get("started")) is not None:
            self.known.marks[mark] = self.clock.monotonic()
        end = self.clock.monotonic() + longest(profile)
        while freezer.running and self.clock.monotonic() < end:
            self._pass(LOOK_S)
        if (mark := step.marks.get("ended")) is not None:
            self.known.marks[mark] = self.clock.monotonic()

    # --- values ---------------------------------------------------------------------------------------------------

    def _scope(self, aliases: Mapping[str, str]) -> KnownScope:
        return KnownScope(self.known, aliases)

    def _truth(self, path: str, text: str, aliases: Mapping[str, str]) -> bool:
        found = compile(text).truth(self._scope(aliases))
        if found is INVALID:
            raise StepError(f"{path}: '{text}' cannot be judged", "see to what is missing")
        return found

    def _number(self, path: str, text: str, aliases: Mapping[str, str]) -> float:
        found = compile(text).evaluate(self._scope(aliases))
        if not isinstance(found, Quantity):
            raise StepError(f"{path}: '{text}' is not known", "see to what is missing")
        return found.value

    def _container(self, path: str, text: str, aliases: Mapping[str, str]) -> Any:
        name = reference(text).resolve(self._scope(aliases))
        found = None if name is INVALID else self.known.ledger.get(aliases.get(str(name), str(name)))
        if found is None or not found.mounted:
            raise StepError(f"{path}: no container '{text}' is mounted", "mount it first")
        return found

    def _tag(self, name: str) -> Operand | None:
        equipment, _, tag = name.partition(".")
        device = self._devices.get(equipment)
        if device is None:
            return None
        t, plant = self.plant.time(), self.plant
        if device == "freezer":
            cold: dict[str, tuple[Any, str]] = {
                "ready": (plant.freezer.ready, ""), "ln2_level": (plant.freezer.ln2, "%"),
                "chamber_temperature": (plant.freezer.chamber, "degC"),
            }  # fmt: skip
            value, unit = cold.get(tag, (None, ""))
            return Operand(name, value, unit)
        warm: dict[str, tuple[Any, str]] = {
            "temperature": (plant.climate.temperature, "degC"), "co2": (plant.climate.co2, "%"),
            "humidity": (plant.climate.humidity, "%"),
        }  # fmt: skip
        lag, unit = warm.get(tag, (None, ""))
        return Operand(name, None if lag is None else lag.at(t), unit)


def dry_run(
    recipe: Recipe,
    seed: int,
    parameters: Mapping[str, str] | None = None,
    setting: Setting | None = None,
    folders: Sequence[Path] = (),
) -> Course:
    """Walk a recipe once: for the donor of a seed, or with all that a setting assumes."""
    return Walk(recipe, seed, parameters or {}, setting, folders=folders).run()


def _device(role: str) -> str:
    return "freezer" if role == "freezer" else "incubator" if role in ROLES else ""


def _shown(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "container": name, "port": port, "place": str(port)}
