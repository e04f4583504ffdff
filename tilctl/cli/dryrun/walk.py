"""The walk of a dry run: the tree of steps, and the verbs that move no liquid and ask nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from devices.quantity import Quantity, parse_as, show
from recipes import steps as verbs
from recipes.expr import INVALID, ExprError, compile
from recipes.model import Recipe
from recipes.perfusion import settled
from recipes.ranges import parse_range
from recipes.steps import AnyVerb
from recipes.template import render
from recipes.windows import window_time
from simulators.physics.parameters import Setting
from simulators.sight import BenchError
from simulators.virtual import EPOCH
from tilctl.cli.dryrun.course import CONTROLLER, LABORATORY, PERSON, Course, Did, Who
from tilctl.cli.dryrun.liquids import NoPlace
from tilctl.cli.dryrun.moves import freeze, transfer
from tilctl.cli.dryrun.people import ask, mount, release, sample, unmount
from tilctl.cli.dryrun.run import Aliases, Run
from tilctl.config.working import Working
from tilctl.engine.errors import ProcedureEnd, StepError
from tilctl.engine.waiting import seconds_true

MOVES = ("mount", "unmount", "ask", "sample", "release")
AROUND = ("choose", "for_each", "repeat", "parallel", "perfuse")  # verbs that do what is inside them


class Walk:
    """One walk through the procedure."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._skipped: set[str] = set()  # steps that ended late, after which the recipe passes over what follows

    def run(self) -> Course:
        """Walk to the end; what a controller would hold for ends the walk as `held`, with the reason."""
        run, course = self._run, self._run.course
        try:
            run.branches.run(self._procedure())
        except ProcedureEnd as end:
            course.ended, course.reason = end.result, end.reason
        except (StepError, NoPlace, ExprError, BenchError) as error:
            course.ended, course.reason = "held", str(error)
        course.seconds, course.marks = run.clock.monotonic(), run.known.marks
        course.moved_ml, course.alarms = run.liquids.moved_ml, run.guards.alarms
        course.alarms += [f"below-floor-{name}" for name in run.known.short]
        course.foreseen = run.known.foreseen
        return course

    async def _procedure(self) -> None:
        for operation in self._run.recipe.procedure:
            self._run.course.operations[operation.id] = self._run.clock.monotonic()
            await self._steps(operation.steps, operation.id, {})

    async def _steps(self, steps: Sequence[AnyVerb], path: str, aliases: Aliases) -> None:
        for step in steps:
            await self._step(step, f"{path}/{step.id}", aliases)
            self._run.guards.look()
            self._run.branches.changed()
            if f"{path}/{step.id}" in self._skipped:
                return  # its moment had passed: what was to follow it is passed over

    async def _step(self, step: AnyVerb, path: str, aliases: Aliases) -> None:
        if step.when is not None and not self._run.truth(path, step.when, aliases):
            return
        began = self._run.clock.monotonic()
        await self._verb(step, path, aliases)
        if step.exception_when is not None:
            found = compile(step.exception_when).truth(self._run.scope(aliases))
            if found is INVALID or found:
                self._run.course.exceptions.append(f"{path}: '{step.exception_when}' is true")
        if step.verb not in AROUND:
            who: Who = LABORATORY if step.verb == "sample" else PERSON if step.verb in MOVES else CONTROLLER
            self._run.course.did.append(Did(path, step.verb, began, self._run.clock.monotonic(), who))

    async def _verb(self, step: AnyVerb, path: str, aliases: Aliases) -> None:
        match step:
            case verbs.Choose():
                await self._choose(step, path, aliases)
            case verbs.ForEach():
                for number, each in enumerate(self._run.known.ledger.family(step.in_), start=1):
                    self._run.known.forget(f"{path}/")
                    await self._steps(step.steps, f"{path}/{number}", {**aliases, step.as_: each.name})
            case verbs.Repeat():
                await self._repeat(step, path, aliases)
            case verbs.Perfuse():
                await self._repeat(step.turns, path, aliases, lambda: self._rate(step, path, aliases))
            case verbs.Parallel():
                walks = [self._steps(steps, f"{path}/{name}", aliases) for name, steps in step.branches.items()]
                await self._run.branches.together(walks)
            case verbs.Ask():
                await ask(self._run, step, path, aliases)
            case verbs.Sample():
                await sample(self._run, step, path, aliases)
            case verbs.Mount():
                await mount(self._run, step, path, aliases)
            case verbs.Unmount():
                await unmount(self._run, step, path)
            case verbs.Transfer():
                await transfer(self._run, step, path, aliases)
            case verbs.Release():
                await release(self._run, step, path, aliases)
            case verbs.Let():
                for name, text in step.values.items():
                    found = compile(text).evaluate(self._run.scope(aliases))
                    if found is INVALID:
                        raise StepError(f"{path}: '{text}' is not known", "see to its operands")
                    self._run.known.set(path, {name: found})
            case verbs.End():
                raise ProcedureEnd(step.as_, render(step.reason, self._run.scope(aliases)))
            case _:
                await self._timed(step, path, aliases)

    async def _timed(self, step: AnyVerb, path: str, aliases: Aliases) -> None:
        """Do the verbs that move no liquid and ask nobody."""
        match step:
            case verbs.Set():
                values = {tag: self._run.number(path, text, aliases) for tag, text in step.targets.items()}
                self._run.controls.set(path, values)
            case verbs.Control():
                now = self._run.clock.monotonic()
                self._run.controls.begin(step, now, lambda text: self._run.number(path, text, aliases))
            case verbs.Wait():
                if step.for_ is not None:
                    await self._run.pass_s(self._run.number(path, step.for_, aliases))
                    return
                limit = None if step.timeout is None else self._run.number(path, step.timeout, aliases)
                if await self._run.until(path, step.until or "true", aliases, limit):
                    self._late(step, path, step.until or "true", aliases)
                    return
                text = f"{path}: '{step.until}' did not come true within {step.timeout}"
                if step.on_timeout == "hold":
                    raise StepError(text, "see to it")
                self._run.course.exceptions.append(text)
            case verbs.Incubate():
                await self._run.until(path, step.until, aliases)
                self._late(step, path, step.until, aliases)
                window = None if step.window is None else parse_range(step.window, "d")
                if step.staffed and window is not None:
                    await self._visited(step, path, window.high, aliases)
                day = self._run.scope(aliases).lookup(window_time(step.until))
                if window is not None and (day is None or not isinstance(day.value, float) or day.value not in window):
                    self._run.course.exceptions.append(f"{path}: ended outside its window {step.window}")
            case verbs.Mark():
                self._run.known.mark(step.id)
            case verbs.Freeze():
                await freeze(self._run, step)
            case verbs.Note() if step.exception:
                self._run.course.exceptions.append(f"{path}: {render(step.text, self._run.scope(aliases))}")
            case _:  # note, balance: nothing that a plant without faults could show
                pass

    async def _visited(self, step: verbs.Incubate, path: str, latest_s: float, aliases: Aliases) -> None:
        """Wait for working time, to the end of the window at most."""
        run, working = self._run, self._run.working
        if working is None:
            return
        now = run.clock.utc(run.clock.monotonic())
        left = latest_s - run.number(path, window_time(step.until), aliases)
        wait = (working.opens(now) - now).total_seconds()
        if wait > max(0.0, left):
            run.course.exceptions.append(f"{path}: nobody is there before the window {step.window} ends")
        await run.pass_s(min(wait, max(0.0, left)))

    def _late(self, step: verbs.Wait | verbs.Incubate, path: str, until: str, aliases: Aliases) -> None:
        """Do what `on_missed` says of a moment that had passed by more than its grace before anybody came to it."""
        late = seconds_true(compile(until), self._run.scope(aliases), self._run.clock.monotonic())
        if step.grace is None or late <= parse_as(step.grace, "s"):
            return
        text = f"{path}: ended {show(late, 's')} late, {step.grace} are allowed (on_missed: {step.on_missed})"
        self._run.course.exceptions.append(text)
        if step.on_missed == "hold":
            raise StepError(text, "decide whether what follows may still be done")
        if step.on_missed == "abort":
            raise ProcedureEnd("aborted", f"{path}: its moment was missed")
        if step.on_missed == "skip":
            self._skipped.add(path)

    async def _choose(self, step: verbs.Choose, path: str, aliases: Aliases) -> None:
        for number, case in enumerate(step.cases, start=1):
            if case.when is None or self._run.truth(path, case.when, aliases):
                await self._steps(case.steps, f"{path}/{number}", aliases)
                return
        raise StepError(f"{path}: no branch applies", "the recipe needs an else branch")

    def _rate(self, step: verbs.Perfuse, path: str, aliases: Aliases) -> None:
        """Settle the rate of a perfusion's next turn."""
        known = self._run.known
        found = compile(step.rate).number(self._run.scope(aliases), "mL/min")
        last = known.values.get(f"{step.id}.rate") if known.setters.get(f"{step.id}.rate") == path else None
        before = last.value if isinstance(last, Quantity) else None
        rate = settled(None if found is INVALID else found, before, step.between, falls=step.falls)
        if rate is None:
            raise StepError(f"{path}: '{step.rate}' is not known", "see to what is missing")
        known.set(path, {"rate": Quantity(rate, "mL/min")})

    async def _repeat(
        self, step: verbs.Repeat, path: str, aliases: Aliases, first: Callable[[], None] | None = None
    ) -> None:
        due = self._run.clock.monotonic()
        every = None if step.every is None else self._run.number(path, step.every, aliases)
        if every is not None and every <= 0.0:
            raise StepError(f"{path}: every: {step.every} is no time", "the recipe needs a correction")
        for number in range(1, step.max + 1):
            if step.until is not None and self._run.truth(path, step.until, aliases):
                return
            left = due - self._run.clock.monotonic()
            if left > 0 and step.until is not None and await self._run.until(path, step.until, aliases, left):
                return
            await self._run.pass_s(due - self._run.clock.monotonic())
            self._run.known.forget(f"{path}/")
            if first is not None:
                first()
            await self._steps(step.steps, f"{path}/{number}", aliases)
            if every is not None and number < step.max:
                periods = max(1, int((self._run.clock.monotonic() - due) // every))
                due += every * periods
                if periods > 1:
                    text = f"{path}: {periods - 1} turns were passed over, before turn {number + 1}"
                    self._run.course.exceptions.append(text)
        if step.until is not None and not self._run.truth(path, step.until, aliases):
            text = f"{path}: '{step.until}' is not true after {step.max} turns"
            if step.on_max == "hold":
                raise StepError(text, "see to its operands")
            self._run.course.exceptions.append(text)


def dry_run(
    recipe: Recipe,
    seed: int,
    parameters: Mapping[str, str] | None = None,
    setting: Setting | None = None,
    folders: Sequence[Path] = (),
    start: datetime = EPOCH,
    working: Working | None = None,
) -> Course:
    """Walk a recipe once: for the donor of a seed, or with all that a setting assumes; see `Run`."""
    return Walk(Run(recipe, seed, parameters or {}, setting, folders, start, working)).run()
