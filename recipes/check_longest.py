"""How long the steps between two marks can take at worst, against the limits of the clocks between them.

Every step adds the longest that it lasts without anybody being told: a question its `due`, a hold its `max_hold`, a
transfer what its volume takes at its rate, a loop all its turns; a window ends what was before it.  What has no longest
leaves the clock open.  Not counted are faults (a dose in doubt, a person's hold, an outage): then the clock alarms; nor
that branches of a `parallel` wait for each other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devices.diagnostic import DocumentError
from devices.document import DataPath, validate
from devices.quantity import QuantityError, parse_as, show
from recipes import shelf, syntax
from recipes import steps as verbs
from recipes.bounds import Bound, between, bound
from recipes.check_claims import reached, within
from recipes.check_volumes import count_range
from recipes.expr import ExprError, compile
from recipes.findings import Findings
from recipes.freezing_model import FreezeProfile, longest
from recipes.model import BiologicalClock, Recipe
from recipes.names import DAY_ZERO
from recipes.ranges import parse_range
from recipes.steps import AnyVerb
from recipes.volume_state import State, VolumeScope
from recipes.windows import window_mark

Open = tuple[DataPath, str, str]
"""What has no longest: its place, why, and a hint."""


@dataclass(frozen=True, slots=True)
class _Lasted:
    """The longest since the mark (s), what has no longest, and the steps that take it, each with its seconds."""

    seconds: float = 0.0
    open: tuple[Open, ...] = ()
    parts: tuple[tuple[str, float], ...] = ()
    over: bool = False  # the batch has ended on this way

    def plus(self, seconds: float, label: str) -> _Lasted:
        if not seconds:
            return self
        return _Lasted(self.seconds + seconds, self.open, (*self.parts, (label, seconds)))

    def without_end(self, path: DataPath, why: str, hint: str) -> _Lasted:
        return _Lasted(self.seconds, (*self.open, (path, why, hint)), self.parts)


_Now = _Lasted | None
"""None: the clock does not run."""


def check_longest(
    recipe: Recipe,
    findings: Findings,
    seconds: Mapping[DataPath, float],
    told: Collection[str] = (),
    search: Sequence[Path] = (),
) -> None:
    """Report clocks that the steps between their marks may overrun, and steps that leave one open.

    `seconds` is the longest of each transfer, by place; `told` are clocks of which something was said already.
    """
    places: set[DataPath] = set()
    for name, clock in recipe.clocks.items():
        text = clock.max or clock.high
        limit = None if text is None else _seconds(text)
        if limit is None or name in told:
            continue
        ended = _Walk(recipe, clock, seconds, search).procedure()
        if ended is None:
            continue
        if ended.open:
            path, why, hint = ended.open[0]
            if path not in places:
                findings.warning("hold-open", path, f"nothing says how long '{name}' lasts at most: {why}", hint)
            places.add(path)
        elif ended.seconds > limit * (1 + 1e-9):
            most = sorted(ended.parts, key=lambda part: -part[1])[:3]
            parts = ", ".join(f"{label} {show(part, 's')}" for label, part in most)
            message = f"'{name}' may last {show(ended.seconds, 's')}, its limit is {text}; most of it: {parts}"
            hint = "shorten a due, a max_hold or a window, move a step out, or raise the limit and say by which source"
            findings.warning("overlong", ("clocks", name), message, hint)


class _Walk:
    """One walk over the procedure for one clock."""

    def __init__(
        self, recipe: Recipe, clock: BiologicalClock, seconds: Mapping[DataPath, float], search: Sequence[Path]
    ) -> None:
        self._recipe, self._clock, self._seconds, self._search = recipe, clock, seconds, search
        self._marks = reached(recipe)
        values: dict[str, Bound] = {}
        for name, each in recipe.parameters.items():
            try:
                limits = None if each.range is None else parse_range(each.range)
            except QuantityError:
                limits = None  # reported where it is declared
            if limits is not None:
                values[name] = between(limits.low, limits.high, name)
        self._scope = VolumeScope(recipe, State(values=values), {})
        self._ended: _Lasted | None = None

    def procedure(self) -> _Lasted | None:
        """Return the longest way from the one mark to the other, None where there is none."""
        now: _Now = None
        for index, operation in enumerate(self._recipe.procedure):
            path: DataPath = ("procedure", index)
            if now is not None and operation.using:
                why = f"{operation.id} waits for {', '.join(operation.using)}, which others may have"
                now = now.without_end((*path, "using"), why, "take it before the clock begins")
            now = self._steps(operation.steps, (*path, "steps"), now)
            if now is not None and now.over:
                break
        return self._ended

    def _steps(self, steps: Sequence[AnyVerb], base: DataPath, now: _Now) -> _Now:
        for index, step in enumerate(steps):
            after = self._step(step, (*base, index, step.verb), now)
            now = after if step.when is None else _longer(now, after)
            if now is not None and now.over:
                break
        return now

    def _step(self, step: AnyVerb, path: DataPath, now: _Now) -> _Now:
        match step:
            case verbs.Mark():
                return self._marked(step.id, now)
            case verbs.End():
                return _Lasted(over=True)
            case verbs.Choose():
                ways = [
                    self._steps(case.steps, (*path, "cases", index, "else" if case.when is None else "steps"), now)
                    for index, case in enumerate(step.cases)
                ]
                found, *rest = ways
                for way in rest:
                    found = _longer(found, way)
                return found
            case verbs.Parallel():
                return self._parallel(step, path, now)
            case verbs.Freeze():
                return self._freeze(step, path, now)
            case _:
                return None if now is None else self._takes(step, path, now)

    def _marked(self, mark: str | None, now: _Now) -> _Now:
        if mark == self._clock.from_:
            return _Lasted()
        if mark == self._clock.to and now is not None:
            self._ended = _longer(self._ended, now)
            return None
        return now

    def _takes(self, step: AnyVerb, path: DataPath, now: _Lasted) -> _Now:
        """Return what it is after a step that sets no mark."""
        match step:
            case verbs.ForEach():
                declared = self._recipe.containers.get(step.in_)
                family = None if declared is None or declared.count is None else count_range(declared.count)
                return self._turns(step.steps, path, now, 1 if family is None else int(family.high))
            case verbs.Repeat():
                return self._repeat(step, path, now)
            case verbs.Perfuse():
                after = now.plus(_seconds(step.longest) or 0.0, step.id)
                return (
                    self._held(step, path, after, "is not over in time")
                    if step.until and step.on_max == "hold"
                    else after
                )
            case verbs.Ask() | verbs.Sample() | verbs.Mount() | verbs.Unmount():
                return self._person(step, path, now)
            case verbs.Wait():
                return self._wait(step, path, now)
            case verbs.Incubate():
                return self._incubate(step, path, now)
            case verbs.Transfer():
                lasts = self._seconds.get(path, 0.0)
                if math.isinf(lasts):
                    return now.without_end(
                        path, f"the volume or rate of {step.id} has no bound", "bound it with min(...)"
                    )
                return now.plus(lasts, step.id)
            case _:
                return now

    def _person(
        self, step: verbs.Ask | verbs.Sample | verbs.Mount | verbs.Unmount, path: DataPath, now: _Lasted
    ) -> _Lasted:
        if isinstance(step, verbs.Sample) and not step.awaited:
            return now
        due = None if step.due is None else _seconds(step.due)
        if due is None:
            return now.without_end(path, f"{step.id} has no due", "due: 30 min, or do it before the clock begins")
        holds = isinstance(step, verbs.Ask | verbs.Sample) and step.on_overdue == "hold"
        after = now.plus(due, step.id)
        return self._held(step, path, after, "holds when it is overdue") if holds else after

    def _held(self, step: AnyVerb, path: DataPath, now: _Lasted, why: str) -> _Lasted:
        most = None if step.max_hold is None else _seconds(step.max_hold)
        if most is None:
            return now.without_end(path, f"{step.id} {why}, and has no max_hold", "max_hold: 1 h, or go on without it")
        return now.plus(most, f"{step.id} (held)")

    def _wait(self, step: verbs.Wait, path: DataPath, now: _Lasted) -> _Lasted:
        if step.for_ is not None:
            most = self._high(step.for_)
        elif step.timeout is not None:
            most = self._high(step.timeout)
        else:
            most = max(0.0, self._latest(step.until or "", now) - now.seconds)
        if math.isinf(most):
            return now.without_end(path, f"{step.id} may wait without end", "give it a timeout")
        after = now.plus(most, step.id)
        holds = step.for_ is None and step.timeout is not None and step.on_timeout == "hold"
        return self._held(step, path, after, "holds at its timeout") if holds else after

    def _incubate(self, step: verbs.Incubate, path: DataPath, now: _Lasted) -> _Lasted:
        begins = self._marks.get(self._clock.from_)
        origin = window_mark(step.until)
        if step.window is not None and origin == self._clock.from_:
            return _Lasted().plus(self._window(step.window), step.id)
        window = None if step.window is None else within(step.window, origin, self._marks)
        if window is not None and begins is not None:
            return _Lasted().plus(max(0.0, window.days.high - begins.days.low), step.id)
        latest = self._latest(step.until, now)
        if math.isinf(latest):
            return now.without_end(path, f"{step.id} has no window, and may last without end", "give it a window")
        return now.plus(max(0.0, latest - now.seconds), step.id)

    def _window(self, text: str) -> float:
        try:
            return parse_range(text, "d").high
        except QuantityError:
            return 0.0  # reported where it stands

    def _turns(self, steps: Sequence[AnyVerb], path: DataPath, now: _Lasted, most: int) -> _Now:
        after = self._steps(steps, (*path, "steps"), now)
        if after is None or after.over:
            return after
        rest = (most - 1) * max(0.0, after.seconds - now.seconds)
        return after.plus(rest, f"{most - 1} more turns")

    def _repeat(self, step: verbs.Repeat, path: DataPath, now: _Lasted) -> _Now:
        body = self._steps(step.steps, (*path, "steps"), now)
        if body is None or body.over:
            return body
        turn = max(body.seconds - now.seconds, 0.0 if step.every is None else self._high(step.every))
        total = step.max * turn
        latest = math.inf if step.until is None else self._latest(step.until, now)
        total = min(total, max(0.0, latest - now.seconds) + turn)
        after = _Lasted(now.seconds, body.open, now.parts)
        if math.isinf(total):
            return after.without_end(path, f"the turns of {step.id} have no longest", "give every as a time")
        after = after.plus(total, step.id)
        if step.until is not None and step.on_max == "hold" and math.isinf(latest):
            return self._held(step, path, after, f"may hold after {step.max} turns")
        return after

    def _parallel(self, step: verbs.Parallel, path: DataPath, now: _Now) -> _Now:
        """Return the longest of the branches; that they wait for each other's lines and containers is not counted."""
        after: _Now = None
        for name, steps in step.branches.items():
            way = self._steps(steps, (*path, "branches", name), now)
            if now is not None and way is None:
                return None  # the other mark was set in it
            after = _longer(after, way)
        return after

    def _freeze(self, step: verbs.Freeze, path: DataPath, now: _Now) -> _Now:
        now = self._marked(step.marks.get("started"), now)
        if now is not None:
            try:
                document = shelf.read(step.profile, shelf.FREEZING, self._search)
                now = now.plus(longest(validate(document, FreezeProfile, "schema")), step.id)
            except (DocumentError, QuantityError):
                now = now.without_end(path, f"the profile {step.profile} cannot be read", "see to the profile")
        return self._marked(step.marks.get("ended"), now)

    def _latest(self, condition: str, now: _Lasted) -> float:
        """Return when (s since the mark) a condition is true at the latest; inf where time alone does not do it."""
        try:
            return self._by(compile(condition).node, now)
        except ExprError:
            return math.inf  # reported where it stands

    def _by(self, node: syntax.Node, now: _Lasted) -> float:
        if not isinstance(node, syntax.Binary):
            return math.inf
        if node.operator in ("and", "or"):
            either = (self._by(node.left, now), self._by(node.right, now))
            return min(either) if node.operator == "or" else max(either)
        if node.operator in (">", ">=") and (mark := _counted(node.left)) is not None:
            most = bound(node.right, self._scope).high
            begins, other = self._marks.get(self._clock.from_), self._marks.get(mark)
            if mark == self._clock.from_:
                return most
            if begins is not None and other is not None:
                return most + other.days.high - begins.days.low
            return now.seconds + most  # counted from a mark behind the first one, at the latest from now
        return math.inf

    def _high(self, text: str) -> float:
        try:
            return max(0.0, bound(compile(text).node, self._scope).high)
        except ExprError:
            return 0.0  # reported where it stands


def _longer(one: _Now, other: _Now) -> _Now:
    """Return the longer of two ways that meet again; one on which the batch has ended leads nowhere."""
    if one is None or other is None or one.over or other.over:
        running = [way for way in (one, other) if way is not None and not way.over]
        return running[0] if running else one if one is None else other
    most = max(one, other, key=lambda way: way.seconds)
    return _Lasted(most.seconds, tuple(dict.fromkeys((*one.open, *other.open))), most.parts)


def _counted(node: syntax.Node) -> str | None:
    """Return the mark from which a name of time counts."""
    if isinstance(node, syntax.Name):
        return DAY_ZERO if node.pattern == "day" else None
    if isinstance(node, syntax.Call) and node.function == "since" and isinstance(node.arguments[0], syntax.Name):
        return node.arguments[0].pattern
    return None


def _seconds(text: str) -> float | None:
    try:
        return parse_as(text, "s")
    except QuantityError:
        return None  # reported where it stands
