"""The walk of a dry run: every verb of the language, on the plant itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from devices.quantity import Quantity, parse, parse_as, show
from recipes import steps as verbs
from recipes.catalog import load_freezing
from recipes.dosing import DoseError, dosed, stock_of
from recipes.expr import INVALID, ExprError, compile, reference
from recipes.freezing_model import longest, program
from recipes.model import FULL_SHARE, Recipe
from recipes.perfusion import settled
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
from simulators.sight import BenchError
from tilctl.cli.dryrun.asking import Answered, Asking, inputs_of_ask, inputs_of_sample, item_of, shown
from tilctl.cli.dryrun.clock import MovedClock
from tilctl.cli.dryrun.course import CONTROLLER, LABORATORY, PERSON, Counted, Course, Did, Dosed, Mounted, Sampled, Who
from tilctl.cli.dryrun.guards import Guards
from tilctl.cli.dryrun.liquids import Liquids, NoPlace
from tilctl.cli.dryrun.scope import Known, KnownScope
from tilctl.cli.dryrun.tags import Tags
from tilctl.cli.simulated import simulated_rows
from tilctl.engine.errors import ProcedureEnd, StepError
from tilctl.engine.verbs.mount import MINUTES_A_DAY
from tilctl.engine.verbs.transfer import SMALLEST_ML
from tilctl.engine.waiting import seconds_true, seconds_until
from tilctl.plant.ledger import SAMPLES

LOOK_S = 60.0  # between looks at a value of the plant that a step waits for
LONGEST_S = 120 * 86400.0  # a recipe that has not ended by then never does
ROCKED = ("rocking", "oxygen", "ph", "gas_oxygen")  # what needs one of these gets the suite with a rocker
MOVES = ("mount", "unmount", "ask", "sample")


class Walk:
    """One dry run of a recipe for one donor."""

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        parameters: Mapping[str, str],
        setting: Setting | None = None,
        folders: Sequence[Path] = (),
    ) -> None:
        """`seed` draws people and noise, and the donor unless `setting` has one.

        `folders`: where freezing profiles are looked for before the library.
        """
        self.clock = MovedClock()
        given = setting or Setting(donor(seed))
        floors = {name: given.vessel for name in CLASSES if name.startswith("gas-permeable")}
        self.plant = Plant(self.clock, seed, given.donor, kinetics=given.kinetics, vessels={**OF_CLASS, **floors})
        if any(tag in each.needs for each in recipe.equipment.values() for tag in ROCKED):
            self.plant.put_up_rocker()
        self.bench = Bench(self.plant)
        self.liquids = Liquids(self.plant, self.bench)
        self.recipe = recipe
        self._folders = folders
        inputs = {name: parameters.get(name, each.default) for name, each in recipe.parameters.items()}
        self._tags = Tags(recipe.equipment, self.plant)
        self.known = Known(recipe, inputs, self.clock.monotonic, self._tags.read)
        self._guards = Guards(recipe, self.known)
        self.course = Course(plant=self.plant)
        self._skipped: set[str] = set()  # steps that ended late, after which the recipe passes over what follows
        self._asking = Asking(Operator(seed, self.bench.call))

    def run(self) -> Course:
        """Walk to the end; what a controller would hold for ends the walk as `held`, with the reason."""
        course = self.course
        try:
            for operation in self.recipe.procedure:
                course.operations[operation.id] = self.clock.monotonic()
                self._steps(operation.steps, operation.id, {})
        except ProcedureEnd as end:
            course.ended, course.reason = end.result, end.reason
        except (StepError, NoPlace, ExprError, BenchError) as error:
            course.ended, course.reason = "held", str(error)
        course.seconds, course.marks = self.clock.monotonic(), self.known.marks
        course.moved_ml, course.alarms = self.liquids.moved_ml, self._guards.alarms
        return course

    # --- time -----------------------------------------------------------------------------------------------------

    def _pass(self, seconds: float) -> None:
        self._pass_to(self.clock.monotonic() + max(0.0, seconds))

    def _pass_to(self, t: float) -> None:
        if t > LONGEST_S:
            raise StepError(f"it would last more than {LONGEST_S / 86400:.0f} days", "look at what it waits for")
        while (pending := self._guards.pending()) is not None and self.clock.monotonic() + pending < t:
            self._move_to(self.clock.monotonic() + pending)
            self._guards.look()
        self._move_to(t)

    def _move_to(self, t: float) -> None:
        self.clock.move_to(t)
        self.plant.time()
        self.known.ledger.evaporate(t)

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
            reads_plant = any(name.partition(".")[0] in self._tags.devices for name in expression.names)
            left = None if end is None else end - now
            waits = [each for each in (ahead, LOOK_S if reads_plant else None, left) if each is not None]
            if not waits:
                raise StepError(f"{path}: '{text}' never comes true", "nothing that it reads changes any more")
            wait = min(waits)
            self._pass_to(now + wait if end is None else min(now + wait, end))

    # --- steps ----------------------------------------------------------------------------------------------------

    def _steps(self, steps: Sequence[AnyVerb], path: str, aliases: Mapping[str, str]) -> None:
        for step in steps:
            self._step(step, f"{path}/{step.id}", aliases)
            self._guards.look()
            if f"{path}/{step.id}" in self._skipped:
                return  # its moment had passed: what was to follow it is passed over

    def _step(self, step: AnyVerb, path: str, aliases: Mapping[str, str]) -> None:
        if step.when is not None and not self._truth(path, step.when, aliases):
            return
        began = self.clock.monotonic()
        self._verb(step, path, aliases)
        if step.exception_when is not None:
            found = compile(step.exception_when).truth(self._scope(aliases))
            if found is INVALID or found:
                self.course.exceptions.append(f"{path}: '{step.exception_when}' is true")
        if step.verb not in ("choose", "for_each", "repeat", "perfuse"):
            who: Who = LABORATORY if step.verb == "sample" else PERSON if step.verb in MOVES else CONTROLLER
            self.course.did.append(Did(path, step.verb, began, self.clock.monotonic(), who))

    def _verb(self, step: AnyVerb, path: str, aliases: Mapping[str, str]) -> None:
        match step:
            case verbs.Choose():
                self._choose(step, path, aliases)
            case verbs.ForEach():
                for number, each in enumerate(self.known.ledger.family(step.in_), start=1):
                    self.known.forget(f"{path}/")
                    self._steps(step.steps, f"{path}/{number}", {**aliases, step.as_: each.name})
            case verbs.Repeat():
                self._repeat(step, path, aliases)
            case verbs.Perfuse():
                self._repeat(step.turns, path, aliases, lambda: self._rate(step, path, aliases))
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
                    self.known.set(path, {name: found})
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
                if self._until(path, step.until or "true", aliases, limit):
                    self._late(step, path, step.until or "true", aliases)
                    return
                text = f"{path}: '{step.until}' did not come true within {step.timeout}"
                if step.on_timeout == "hold":
                    raise StepError(text, "see to it")
                self.course.exceptions.append(text)
            case verbs.Incubate():
                self._until(path, step.until, aliases)
                self._late(step, path, step.until, aliases)
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

    def _late(self, step: verbs.Wait | verbs.Incubate, path: str, until: str, aliases: Mapping[str, str]) -> None:
        """Do what `on_missed` says of a moment that had passed by more than its grace before anybody came to it."""
        late = seconds_true(compile(until), self._scope(aliases), self.clock.monotonic())
        if step.grace is None or late <= parse_as(step.grace, "s"):
            return
        text = f"{path}: ended {show(late, 's')} late, {step.grace} are allowed (on_missed: {step.on_missed})"
        self.course.exceptions.append(text)
        if step.on_missed == "hold":
            raise StepError(text, "decide whether what follows may still be done")
        if step.on_missed == "abort":
            raise ProcedureEnd("aborted", f"{path}: its moment was missed")
        if step.on_missed == "skip":
            self._skipped.add(path)

    def _choose(self, step: verbs.Choose, path: str, aliases: Mapping[str, str]) -> None:
        for number, case in enumerate(step.cases, start=1):
            if case.when is None or self._truth(path, case.when, aliases):
                self._steps(case.steps, f"{path}/{number}", aliases)
                return
        raise StepError(f"{path}: no branch applies", "the recipe needs an else branch")

    def _rate(self, step: verbs.Perfuse, path: str, aliases: Mapping[str, str]) -> None:
        """Settle the rate of a perfusion's next turn."""
        found = compile(step.rate).number(self._scope(aliases), "mL/min")
        last = self.known.values.get(f"{step.id}.rate") if self.known.setters.get(f"{step.id}.rate") == path else None
        before = last.value if isinstance(last, Quantity) else None
        rate = settled(None if found is INVALID else found, before, step.between, falls=step.falls)
        if rate is None:
            raise StepError(f"{path}: '{step.rate}' is not known", "see to what is missing")
        self.known.set(path, {"rate": Quantity(rate, "mL/min")})

    def _repeat(
        self,
        step: verbs.Repeat,
        path: str,
        aliases: Mapping[str, str],
        first: Callable[[], None] | None = None,
    ) -> None:
        due = self.clock.monotonic()
        every = None if step.every is None else self._number(path, step.every, aliases)
        if every is not None and every <= 0.0:
            raise StepError(f"{path}: every: {step.every} is no time", "the recipe needs a correction")
        for number in range(1, step.max + 1):
            if step.until is not None and self._truth(path, step.until, aliases):
                return
            left = due - self.clock.monotonic()
            if left > 0 and step.until is not None and self._until(path, step.until, aliases, left):
                return
            self._pass(due - self.clock.monotonic())
            self.known.forget(f"{path}/")
            if first is not None:
                first()
            self._steps(step.steps, f"{path}/{number}", aliases)
            if every is not None and number < step.max:
                periods = max(1, int((self.clock.monotonic() - due) // every))
                due += every * periods
                if periods > 1:
                    text = f"{path}: {periods - 1} turns were passed over, before turn {number + 1}"
                    self.course.exceptions.append(text)
        if step.until is not None and not self._truth(path, step.until, aliases):
            text = f"{path}: '{step.until}' is not true after {step.max} turns"
            if step.on_max == "hold":
                raise StepError(text, "see to its operands")
            self.course.exceptions.append(text)

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
        self.known.set(path, {name: answer.values.get(name) for name in step.inputs})
        if step.check is not None and not self._truth(path, step.check, aliases):
            raise StepError(f"{path}: '{step.check}' does not hold", "see to it, and answer again")

    def _sample(self, step: verbs.Sample, path: str, aliases: Mapping[str, str]) -> None:
        ledger = self.known.ledger
        sources = ledger.family(step.from_) or [each for each in [self._container(path, step.from_, aliases)] if each]
        volume = self._number(path, step.volume, aliases)
        if volume > 0:
            ledger.moved(sources[0].name, SAMPLES, volume)
        self.course.sampled.append(Sampled(path, self.clock.monotonic(), sources[0].name, volume, step.results))
        self.known.set(path, dict.fromkeys(step.deferred))
        if not step.awaited:
            self.bench.sample(sources[0].name, volume)
            return
        true = sum(c.contents.viable for each in sources if (c := self.plant.place(self.liquids.port(each.name))))
        drawn, began = [shown(each.name, self.liquids.port(each.name)) for each in sources], self.clock.monotonic()
        inputs = inputs_of_sample(step, self.recipe)
        answer = self._put(path, "sample", f"Sample {step.from_}", inputs, step.due, sources=drawn)
        self.known.set(path, {name: answer.values.get(name) for name in step.awaited})
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
                if self.known.ledger.family(name):
                    raise StepError(f"{path}: {name} is mounted already", "unmount it first")
                place = step.at or declared.place_class
                port = self.liquids.place(name, place)
                items.append(item_of(name, declared, place, port, self.known.limit_ml(name), held))
        limits = {"type": "number", "min": 0.0, "unit": "mL", "canonical": "mL"}
        inputs = {f"volume.{i['name']}": limits | {"max": i["limit_ml"]} for i in items if i["volume_ml"] is None}
        answer = self._put(path, "mount", step.text or "Mount", inputs, step.due, items)
        for item in items:
            name = item["name"]
            given = answer.values.get(f"volume.{name}")
            held = given.value if isinstance(given, Quantity) else float(item["volume_ml"] or 0.0)
            lost = parse_as(self.recipe.containers[name.partition("[")[0]].evaporation, "mL/min") * MINUTES_A_DAY
            self.known.ledger.mounted(name, item["place"] + str(item["port"]), item["class"], held, None, "", lost)
            self.course.mounted.append(Mounted(path, name, item["volume_ml"], held))

    def _unmount(self, step: verbs.Unmount, path: str, aliases: Mapping[str, str]) -> None:
        leaving = [each for name in step.containers for each in self.known.ledger.family(name)]
        if not leaving:
            return
        items = [shown(each.name, self.liquids.port(each.name)) for each in leaving]
        self._put(path, "unmount", step.text or "Take away", {}, step.due, items)
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
        given = parse(step.tolerance)
        tolerance = given.value if given.unit == "mL" else wanted * given.value / 100.0
        more = 0.0 if step.all else max(0.0, tolerance)
        if target.volume_ml + wanted + more > FULL_SHARE * self.known.limit_ml(target.name):
            raise StepError(f"{path}: {target.name} would be over-full", "correct the recipe")
        if wanted < -1.0 or wanted > source.volume_ml + max(3.0, 0.02 * source.volume_ml):
            raise StepError(f"{path}: {source.name} holds {source.volume_ml:.0f} mL, {wanted:.0f} are wanted", "")
        if step.settle is not None:
            self._pass(self._number(path, step.settle, aliases))
        rate = self._number(path, step.rate, aliases)
        moved = 0.0
        for share in self.liquids.doses(step, source.name, target.name, wanted, tolerance, rate, self._pass):
            self.known.ledger.moved(source.name, target.name, share)
            moved += share
        if wanted - moved > max(tolerance, 3.0, 0.05 * wanted):
            raise StepError(f"{path}: only {moved:.1f} of {wanted:.1f} mL came out of {source.name}", "see to it")
        if abs(moved - wanted) > max(tolerance, SMALLEST_ML, 3.0):
            self.course.exceptions.append(f"{path}: {moved:.1f} mL moved, {wanted:.1f} mL were ordered")
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


def dry_run(
    recipe: Recipe,
    seed: int,
    parameters: Mapping[str, str] | None = None,
    setting: Setting | None = None,
    folders: Sequence[Path] = (),
) -> Course:
    """Walk a recipe once: for the donor of a seed, or with all that a setting assumes."""
    return Walk(recipe, seed, parameters or {}, setting, folders=folders).run()
