"""What is mounted, and how full every container can get at worst: the procedure walked with bounds instead of values.

A family is followed by one member that stands for all of them.  A loop is walked once for each member that there can
be; inside it the loop's container, and `other[f.index]`, is a fresh member each time.  What a transfer can move at
most includes its tolerance.  A container that must overflow is an error; one of which it cannot be shown that it never
does is a warning, since the ledger's limit will stop the transfer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from devices.document import DataPath
from devices.quantity import QuantityError, parse_as, show
from recipes import steps as verbs
from recipes.bounds import Bound, at_most, between, bound, either, exactly
from recipes.check_doses import UNPROVABLE_ML, dose_bound
from recipes.check_parallel import Touched, filled_at, touched
from recipes.declared import count_range, ranged, volume_ml
from recipes.expr import compile
from recipes.findings import Findings
from recipes.model import FULL_SHARE, Recipe
from recipes.steps import AnyVerb
from recipes.syntax import ExprError
from recipes.volume_state import Log, State, VolumeScope


class VolumeCheck:
    """One walk over the procedure with bounds; `peaks` is the most that is mounted at once in each class of place."""

    def __init__(self, recipe: Recipe, findings: Findings) -> None:
        self._recipe = recipe
        self._findings = findings
        self._limits = {name: volume_ml(each.limit) for name, each in recipe.containers.items()}
        self._told: set[tuple[str, DataPath]] = set()
        self.seconds: dict[DataPath, float] = {}  # the longest that each transfer pumps, inf where it is not known
        self.peaks: dict[str, int] = {"station": 0, "hook": 0, "waste": 0}

    def procedure(self) -> None:
        """Walk all operations."""
        parameters = self._recipe.parameters
        state = State(values={name: ranged(each.range, None, name) for name, each in parameters.items()})
        for index, operation in enumerate(self._recipe.procedure):
            start = state.fork() if operation.on_failure else state
            over = not self._steps(operation.steps, state, ("procedure", index, "steps"))
            if not self._excepted(operation.on_failure, start, state, ended=over):
                return

    def _steps(self, steps: Iterable[AnyVerb], state: State, base: DataPath) -> bool:
        """Walk a list of steps; return False when the batch ends in it."""
        for index, step in enumerate(steps):
            path: DataPath = (*base, index, step.verb)
            before = state.fork() if step.when is not None else None
            start = state.fork() if step.on_failure else state
            over = not self._step(step, state, path)
            if not self._excepted(step.on_failure, start, state, ended=over) and before is None:
                return False
            if before is not None:
                state.join([before])
        return True

    def _excepted(self, name: str | None, start: State, state: State, *, ended: bool) -> bool:
        """Walk what may take the place of a step that failed, which may have done nothing, all, or a part."""
        branch = None if name is None else self._recipe.exceptions.get(name)
        if branch is None:
            return not ended
        failed = start if ended else state.fork()
        failed.join([start])
        if not self._steps(branch.steps, failed, ("exceptions", name or "", "steps")):
            return not ended
        if ended:
            state.values, state.volumes, state.mounted, state.at = (
                failed.values, failed.volumes, failed.mounted, failed.at
            )  # fmt: skip
        else:
            state.join([failed])
        return True

    def _step(self, step: AnyVerb, state: State, path: DataPath) -> bool:
        match step:
            case verbs.End():
                return False
            case verbs.Choose():
                return self._choose(step, state, path)
            case verbs.ForEach():
                self._for_each(step, state, path)
            case verbs.Repeat():
                return self._repeat(step, state, path)
            case verbs.Parallel():
                return self._parallel(step, state, path)
            case verbs.Perfuse():
                state.values[f"{step.id}.rate"] = ranged(step.between, None, f"{path}:rate")
                return self._repeat(step.turns, state, path)
            case verbs.Ask():
                for name, given in step.inputs.items():
                    state.values[f"{step.id}.{name}"] = ranged(given.range, given.unit, f"{path}:{name}")
            case verbs.Sample():
                self._need(step.from_, state, (*path, "from"))
                for name in step.results:
                    declared = self._recipe.results.get(name)
                    if declared is not None:
                        state.values[f"{step.id}.{name}"] = ranged(declared.range, declared.unit, f"{path}:{name}")
            case verbs.Let():
                for name, text in step.values.items():
                    found = self._bound(text, state)
                    state.values[f"{step.id}.{name}"] = found if found.terms == {} else _named(found, f"{path}:{name}")
            case verbs.Mount():
                self._mount(step, state, path)
            case verbs.Unmount():
                for name in step.containers:
                    self._need(name, state, (*path, "containers"))
                    state.mounted.pop(name, None)
                    state.at.pop(name, None)
            case verbs.Balance():
                for name in step.over:
                    self._need(name, state, (*path, "over"))
            case verbs.Freeze():
                self._need(step.load, state, (*path, "load"))
            case verbs.Transfer():
                self._transfer(step, state, path)
            case _:
                pass
        return True

    def _choose(self, step: verbs.Choose, state: State, path: DataPath) -> bool:
        ways: list[State] = []
        for index, case in enumerate(step.cases):
            branch = state.fork()
            if self._steps(case.steps, branch, (*path, "cases", index, "else" if case.when is None else "steps")):
                ways.append(branch)
        if not ways:
            return all(case.when is not None for case in step.cases)
        first, *rest = ways
        first.join(rest)
        state.values, state.volumes, state.mounted, state.at = first.values, first.volumes, first.mounted, first.at
        return True

    def _for_each(self, step: verbs.ForEach, state: State, path: DataPath) -> None:
        """Walk the body once for each member that there can be; the state after is what holds for every number."""
        if step.in_ not in self._limits:
            return
        self._need(step.in_, state, (*path, "in"))
        most = max(1, state.mounted.get(step.in_, (1, 1))[1])
        least = min(state.mounted.get(step.in_, (1, 1))[0], most)
        entry, outer = dict(state.volumes), dict(state.members)
        touched: dict[str, Bound] = {}
        ends: list[State] = []
        state.loops[step.as_] = step.in_
        for turn in range(1, most + 1):
            state.members = {**outer, step.as_: entry.get(step.in_, exactly(0.0))}
            state.values[f"{step.as_}.index"] = exactly(float(turn))
            self._steps(step.steps, state, (*path, "steps"))
            for text, volume in state.members.items():
                if text in outer:
                    outer[text] = volume
                    continue
                family = self._family(text, state)
                touched[family] = either(touched.get(family, volume), volume)
            if turn >= least:
                ends.append(state.fork())
            for family in touched:
                state.volumes[family] = entry.get(family, exactly(0.0))
        first, *rest = ends
        first.join(rest)
        state.values, state.volumes, state.members = first.values, first.volumes, outer
        for family, volume in touched.items():
            whole = family == step.in_
            state.volumes[family] = volume if whole else either(entry.get(family, volume), volume)
        del state.loops[step.as_]

    def _repeat(self, step: verbs.Repeat, state: State, path: DataPath) -> bool:
        """Walk the body turn after turn; the state after is what holds for every number of turns that there can be."""
        ends = [] if step.until is None else [state.fork()]
        for turn in range(1, step.max + 1):
            if not self._steps(step.steps, state, (*path, "steps")):
                break
            if step.until is not None or turn == step.max:
                ends.append(state.fork())
        if not ends:
            return False
        first, *rest = ends
        first.join(rest)
        state.values, state.volumes, state.mounted, state.at = first.values, first.volumes, first.mounted, first.at
        state.members = first.members
        return True

    def _parallel(self, step: verbs.Parallel, state: State, path: DataPath) -> bool:
        """Walk each branch with what the others can do meanwhile, in whatever order; see `recipes.volume_state.Log`."""
        parts = {name: touched(steps, state.loops) for name, steps in step.branches.items()}
        logs: dict[str, Log] = {}
        for name, steps in step.branches.items():  # first what each can do, whatever the others may have done
            anything = {f: between(0.0, self._limits.get(f, math.inf)) for f in _of_others(parts, name)}
            branch = state.beside(anything, {}, _ids_of_others(parts, name), Log())
            scratch = VolumeCheck(self._recipe, Findings(self._findings.document))
            scratch._steps(steps, branch, path)
            logs[name] = branch.log or Log()
        held = {f: self._together(f, parts, logs, state, step, path) for f in _of_others(parts, "")}
        ends = False
        after = state.fork()
        for name, steps in step.branches.items():
            others = {f: held[f] for f in _of_others(parts, name)}
            places = [log.places for other, log in logs.items() if other != name]
            beside = {at: sum(each.get(at, 0) for each in places) for at in self.peaks}
            branch = state.beside(others, beside, _ids_of_others(parts, name), state.log)
            ends = not self._steps(steps, branch, (*path, "branches", name)) or ends
            after.gather(branch, parts[name])
        after.shared({f: bound for f, bound in held.items() if len(_changers(f, parts)) > 1})
        state.become(after)
        return not ends

    def _together(
        self, family: str, parts: Mapping[str, Touched], logs: Mapping[str, Log], state: State, step: verbs.Parallel,
        path: DataPath,
    ) -> Bound:  # fmt: skip
        """Return what a container can hold at any moment while branches are walked; report one that may overflow."""
        changers = _changers(family, parts)
        limit = self._limits.get(family, math.inf)
        entry = state.others.get(family, state.volumes.get(family, exactly(0.0)))
        if len(changers) == 1:
            seen = logs[changers[0]].seen.get(family, entry)
            return at_most(between(max(0.0, min(entry.low, seen.low)), max(entry.high, seen.high)), limit)
        # In whatever order: filled up to the highest level that anything is filled up to, then all that is added.
        level = max([entry.high, *(logs[name].levels.get(family, 0.0) for name in changers)])
        most = level + sum(logs[name].added.get(family, 0.0) for name in changers)
        if most > entry.high and family in self._limits and family not in state.others:  # not one only drawn from
            here = filled_at(step, family, state.loops, path)
            what = "is filled or emptied in several branches and would hold"
            self._fits(family, family, between(0.0, most), here, what, FULL_SHARE)
        return between(0.0, min(most, limit))

    def _mount(self, step: verbs.Mount, state: State, path: DataPath) -> None:
        for name in step.containers:
            declared = self._recipe.containers.get(name)
            if declared is None:
                continue
            if name in state.mounted:
                self._say("mounted-twice", path, f"'{name}' is mounted already", "unmount it first")
            text = step.volume_of(name)
            limit = self._limits[name]
            volume = between(0.0, limit) if text == "ask" else self._bound(text, state)
            self._fits(name, name, volume, path, "is mounted with")
            state.volumes[name] = volume if text == "ask" else at_most(volume, limit)
            if state.log is not None:
                state.log.saw(name, state.volumes[name])
            state.mounted[name] = self._count(name, step.count_of(name), state, path)
            state.at[name] = step.at or declared.place_class
        used = dict.fromkeys(self.peaks, 0)
        for name, (_, most) in state.mounted.items():
            used[state.at.get(name, "hook")] += most
        for place, number in state.places.items():
            used[place] += number
        if state.log is not None:
            state.log.mounted(used)
        for place, number in used.items():
            self.peaks[place] = max(self.peaks[place], number)
        positions = sum(each.positions for each in self._recipe.equipment.values())
        if positions and used["station"] > positions:
            message = f"up to {used['station']} vessels at a station with {positions} positions"
            self._say("positions", path, message, "unmount what is empty first")

    def _count(self, name: str, text: str | None, state: State, path: DataPath) -> tuple[int, int]:
        declared = self._recipe.containers[name].count
        if declared is None:
            return (1, 1)
        family = count_range(declared)
        if family is None:
            return (1, 1)
        least, most = int(family.low), int(family.high)
        if text is None:
            return (least, most)
        low, high = self._bound(text, state).interval
        if not math.isfinite(high) or high > most or low < least:
            message = f"{text} gives {low:g}..{high:g}, '{name}' has {declared}"
            if low > most or high < least:
                self._say("count", path, message, "no number of these fits")
            else:
                self._say("count", path, message, f"write clamp({text}, {least}, {most})", warn=True)
        return (math.ceil(min(max(low, least), most)), math.floor(max(min(high, most), least)))

    def _transfer(self, step: verbs.Transfer, state: State, path: DataPath) -> None:
        source, target = self._need(step.from_, state, (*path, "from")), self._need(step.to, state, (*path, "to"))
        if source is None or target is None:
            return
        held, filled = self._held(step.from_, state), self._held(step.to, state)
        level = None
        if step.up_to is not None:
            level = self._bound(step.up_to, state)
            moved = level.plus(filled, -1.0)
            slack = self._slack(step, min(max(0.0, moved.high), held.high))
            after = between(max(filled.low, level.low), max(level.high + slack, filled.high))
        else:
            wanted = self._wanted(step, held, state)
            if step.dosed:
                given = dose_bound(step, self._recipe, source, filled, lambda text: self._bound(text, state))
                for code, message, hint, error in given.found:
                    self._say(code, (*path, step.amount), message, hint, warn=not error)
                wanted = given.volume
            moved = wanted if wanted.high <= held.high else at_most(wanted, held.high)
            slack = 0.0 if step.all else self._slack(step, min(wanted.high, held.high))
            ways = [filled.plus(wanted), filled.plus(moved), filled.plus(held)]
            after = min(ways, key=lambda way: way.high).plus(between(-slack, slack))
        told = step.all or ("dose-small", (*path, step.amount)) in self._told
        if 0 < moved.high < UNPROVABLE_ML * (1 - 1e-9) and not told:
            message = f"at most {show(moved.high, 'mL')} are moved, less than can be shown to have arrived"
            self._say("dose-unprovable", path, message, f"a scale shows {UNPROVABLE_ML:g} mL and more", warn=True)
        self._lasts(step, moved.high + slack, state, path)
        if state.log is not None:
            state.log.filled(target, None if level is None else level.high + slack, moved.high + slack)
        if target not in state.others:  # else it is judged with all that the other branches do
            self._fits(step.to, target, after, path, "would hold", FULL_SHARE)
        self._keep(step.to, at_most(after, self._limits[target]), state)
        self._keep(step.from_, self._left(step, held, moved, slack, state), state)

    def _lasts(self, step: verbs.Transfer, most_ml: float, state: State, path: DataPath) -> None:
        """Note the longest that a transfer takes: a loop's body is walked several times."""
        rate = self._bound(step.rate, state)
        if rate.high <= 0.0:
            message = f"at a rate of '{step.rate}' nothing is ever moved"
            self._say("quantity", (*path, "rate"), message, "give a rate above 0 mL/min")
        slowest = rate.low
        settle = 0.0 if step.settle is None else self._bound(step.settle, state).high
        pumps = max(0.0, most_ml) / slowest if slowest > 0.0 else math.inf
        self.seconds[path] = max(self.seconds.get(path, 0.0), settle + pumps)

    def _wanted(self, step: verbs.Transfer, held: Bound, state: State) -> Bound:
        if step.volume is not None:
            return self._bound(step.volume, state)
        if step.leave is not None:
            return held.plus(self._bound(step.leave, state), -1.0)
        return held

    def _left(self, step: verbs.Transfer, held: Bound, moved: Bound, slack: float, state: State) -> Bound:
        if step.all:
            return exactly(0.0)
        if step.leave is not None:
            level = self._bound(step.leave, state).high + slack
            return between(0.0, min(held.high, level))
        if step.up_to is not None:
            return between(0.0, held.high)
        left = held.plus(moved, -1.0)
        return left if left.low >= 0 else between(0.0, max(0.0, min(held.high, left.high)))

    def _slack(self, step: verbs.Transfer, moved: float) -> float:
        """Return how much more than asked may arrive, in mL."""
        try:
            if step.tolerance.rstrip().endswith("%"):
                return max(0.0, moved) * parse_as(step.tolerance, "%") / 100 if math.isfinite(moved) else 0.0
            return parse_as(step.tolerance, "mL")
        except QuantityError:
            return 0.0

    def _fits(self, name: str, family: str, volume: Bound, path: DataPath, what: str, share: float = 1.0) -> None:
        """Report what is over a share of the limit for certain (an error), or may be (a warning)."""
        limit = self._limits[family]
        said = f"its limit is {show(limit, 'mL')}" + (f", and pumps stop at {share:.0%} of it" if share < 1.0 else "")
        if volume.low > share * limit:
            message = f"'{name}' {what} at least {show(volume.low, 'mL')}, {said}"
            self._say("overfill", path, message, "move less, or declare a larger container")
        elif volume.high > share * limit * (1 + 1e-9):
            most = show(volume.high, "mL") if math.isfinite(volume.high) else "any volume"
            message = f"'{name}' {what} up to {most} at worst, {said}"
            self._say("overfill-possible", path, message, "bound it with min(...), or narrow the ranges", warn=True)

    def _need(self, text: str, state: State, path: DataPath) -> str | None:
        """Return the family of a container that is mounted here, or report it and return None."""
        family = self._family(text, state)
        if family not in self._limits:
            return None
        if family not in state.mounted:
            self._say(
                "not-mounted", path, f"'{family}' is not mounted here", f"add mount: {{containers: {family}}} before"
            )
        elif state.mounted[family][0] == 0 and state.mounted[family][1] > 0:
            self._say(
                "not-mounted", path, f"'{family}' is not mounted on every way to here", "mount it in every branch"
            )
        return family

    def _family(self, text: str, state: State) -> str:
        head = text.partition("[")[0].strip()
        return state.loops.get(head, head)

    def _single(self, text: str, state: State) -> bool:
        """Return whether a text names a container of which there is one, so that its volume may be replaced."""
        declared = self._recipe.containers.get(self._family(text, state))
        return declared is not None and declared.count is None

    def _member(self, text: str, state: State) -> bool:
        """Return whether a text names the member that a loop's turn is about."""
        return text in state.loops or any(f"{loop}.index" in text for loop in state.loops)

    def _held(self, text: str, state: State) -> Bound:
        family = self._family(text, state)
        if family in state.others:
            return state.others[family]
        if self._member(text, state):
            return state.members.setdefault(text, state.volumes.get(family, exactly(0.0)))
        return state.volumes.get(family, exactly(0.0))

    def _keep(self, text: str, volume: Bound, state: State) -> None:
        family = self._family(text, state)
        if state.log is not None:
            state.log.saw(family, volume)
        if family in state.others:
            return
        if self._member(text, state):
            state.members[text] = volume
        elif self._single(text, state):
            state.volumes[family] = volume
        else:
            state.volumes[family] = either(state.volumes.get(family, volume), volume)

    def _bound(self, text: str, state: State) -> Bound:
        try:
            return bound(compile(text).node, VolumeScope(self._recipe, state, self._limits))
        except ExprError:
            return between(-math.inf, math.inf)  # reported by the check of names and kinds

    def _say(self, code: str, path: DataPath, message: str, hint: str, *, warn: bool = False) -> None:
        """Report once for each place: a loop's body is walked several times."""
        if (code, path) in self._told:
            return
        self._told.add((code, path))
        (self._findings.warning if warn else self._findings.error)(code, path, message, hint)


def _named(found: Bound, name: str) -> Bound:
    """Keep what is linear as it is; a value without any known bound stands for itself."""
    return found if all(math.isfinite(edge) for edge in found.interval) else between(*found.interval, name)


def _changers(family: str, parts: Mapping[str, Touched]) -> list[str]:
    return [name for name, part in parts.items() if family in part.changed | part.mounted]


def _of_others(parts: Mapping[str, Touched], name: str) -> set[str]:
    """Return the containers that other branches than this change, mount or take away."""
    return set[str]().union(*(part.changed | part.mounted for other, part in parts.items() if other != name))


def _ids_of_others(parts: Mapping[str, Touched], name: str) -> set[str]:
    return set[str]().union(*(part.ids for other, part in parts.items() if other != name))
