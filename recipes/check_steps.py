"""Checking the procedure in its order: each step sees the names that the steps before it brought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devices.document import DataPath
from devices.role import ROLES
from recipes import check_expr, kinds, syntax
from recipes import steps as verbs
from recipes.check_controls import check_control, check_free
from recipes.check_doses import check_dose
from recipes.check_expr import CONDITION, expression
from recipes.check_parallel import check_parallel
from recipes.check_perfusion import check_rate
from recipes.check_release import check_release
from recipes.expr import compile
from recipes.findings import Findings
from recipes.kinds import Type
from recipes.model import Operation, Recipe
from recipes.names import DAY_ZERO, RESERVED, Names
from recipes.ranges import Range
from recipes.steps import AnyVerb
from recipes.syntax import ExprError, Node
from recipes.units import literal
from recipes.windows import window_mark


class StepCheck:
    """One walk over a recipe's procedure; `limits` are what the site's equipment can be told, by tag."""

    def __init__(
        self, recipe: Recipe, findings: Findings, profiles: frozenset[str], limits: Mapping[str, Range]
    ) -> None:
        self._recipe = recipe
        self._findings = findings
        self._profiles = profiles
        self._limits = limits

    def procedure(self) -> Names:
        """Check every operation in turn; return the names that are known at the end."""
        names = Names(self._recipe)
        seen: set[str] = set()
        ended = False
        for index, operation in enumerate(self._recipe.procedure):
            path: DataPath = ("procedure", index)
            if operation.id in seen:
                self._findings.error("id-duplicate", (*path, "operation"), f"a second operation '{operation.id}'")
            seen.add(operation.id)
            if ended:
                self._findings.error("unreachable", path, f"operation '{operation.id}' comes after the end")
            names.acquired = self._using(operation, path)
            ended = self._steps(operation.steps, names, (*path, "steps")) or ended
            names.acquired = frozenset()
        return names

    def _using(self, operation: Operation, path: DataPath) -> frozenset[str]:
        for position, name in enumerate(operation.using):
            declared = self._recipe.equipment.get(name)
            here: DataPath = (*path, "using", position)
            if declared is None:
                known = ", ".join(self._recipe.equipment)
                self._findings.error("equipment-unknown", here, f"no equipment '{name}'", f"declared: {known}")
            elif not declared.shared:
                self._findings.error(
                    "equipment-unknown", here, f"'{name}' is not shared", "add shared: true, or drop it here"
                )
        return frozenset(operation.using)

    def _steps(self, steps: Iterable[AnyVerb], names: Names, base: DataPath) -> bool:
        """Check a list of steps; return whether the batch ends in it."""
        seen: set[str] = set()
        ended = False
        for index, step in enumerate(steps):
            path: DataPath = (*base, index, step.verb)
            if ended:
                self._findings.error(
                    "unreachable", path, f"step '{step.id}' comes after the end", "move it up or drop it"
                )
                return True
            if step.id in seen:
                self._findings.error(
                    "id-duplicate", path, f"a second step '{step.id}' beside the first", "give each an id of its own"
                )
            seen.add(step.id)
            ended = self._step(step, names, path)
        return ended

    def _step(self, step: AnyVerb, names: Names, path: DataPath) -> bool:
        for field in ("when", "max_outage", "max_hold"):
            given = getattr(step, field)
            if given is not None and field == "when":
                expression(given, names, self._findings, (*path, field), CONDITION)
            elif given is not None:
                self._findings.quantity(given, ("s",), (*path, field))
        ended = self._verb(step, names, path)
        if step.exception_when is not None:
            expression(step.exception_when, names, self._findings, (*path, "exception_when"), CONDITION)
        return ended and step.when is None

    def _verb(self, step: AnyVerb, names: Names, path: DataPath) -> bool:
        """Check what is of this verb alone; return whether the batch ends here."""
        match step:
            case verbs.Choose():
                return self._choose(step, names, path)
            case verbs.ForEach():
                self._for_each(step, names, path)
            case verbs.Repeat():
                return self._repeat(step, names, path)
            case verbs.Parallel():
                check_parallel(step, names.loops, self._findings, path)
                return self._parallel(step, names, path)
            case verbs.Perfuse():
                check_rate(step, names, self._findings, path)
                return self._repeat(step.turns, names, path)
            case verbs.Ask():
                self._ask(step, names, path)
            case verbs.Set():
                self._set(step, names, path)
            case verbs.Control():
                check_control(step, self._recipe, names, self._findings, path, self._limits)
            case verbs.Sample():
                self._sample(step, names, path)
            case verbs.Mark():
                self._mark(step.id, step, names, path)
            case verbs.Let():
                self._brings(step, names, path)
                for name, text in step.values.items():
                    kind = expression(text, names, self._findings, (*path, "values", name), None)
                    if kind is not None:
                        names.bring(f"{step.id}.{name}", kind, maybe=step.when is not None)
            case verbs.Freeze():
                self._freeze(step, names, path)
            case verbs.Release():
                self._brings(step, names, path)
                check_release(step, self._recipe, names, self._findings, path)
            case verbs.End():
                check_expr.text(step.reason, names, self._findings, (*path, "reason"))
                return True
            case _:
                self._plain(step, names, path)
        return False

    def _plain(self, step: AnyVerb, names: Names, path: DataPath) -> None:
        """Check the verbs whose fields are judged one by one."""
        for field, want in _FIELDS.get(step.verb, {}).items():
            given = getattr(step, {"for": "for_"}.get(field, field))
            if given is not None:
                expression(given, names, self._findings, (*path, field), want)
        match step:
            case verbs.Transfer():
                source = check_expr.container(step.from_, names, self._findings, (*path, "from"))
                check_expr.container(step.to, names, self._findings, (*path, "to"))
                if source is not None and step.from_ == step.to:
                    self._findings.error("container-same", (*path, "to"), f"from '{step.to}' to itself")
                self._findings.quantity(step.tolerance, ("mL", "%"), (*path, "tolerance"))
                if step.dosed and source is not None:
                    check_dose(step, source, names, self._findings, path)
            case verbs.Mount():
                self._mount(step, names, path)
            case verbs.Unmount() | verbs.Balance():
                self._due(step.due if isinstance(step, verbs.Unmount) else None, path)
                field = "containers" if isinstance(step, verbs.Unmount) else "over"
                for given in step.containers if isinstance(step, verbs.Unmount) else step.over:
                    check_expr.container(given, names, self._findings, (*path, field), family=True)
                if isinstance(step, verbs.Balance):
                    self._findings.quantity(step.within, ("%",), (*path, "within"))
            case verbs.Wait():
                self._missed(step, path)
            case verbs.Incubate():
                self._window(step, path)
                self._missed(step, path)
            case verbs.Note():
                check_expr.text(step.text, names, self._findings, (*path, "text"))
            case _:
                pass

    def _missed(self, step: verbs.Wait | verbs.Incubate, path: DataPath) -> None:
        if step.grace is not None:
            self._findings.quantity(step.grace, ("s",), (*path, "grace"))
        elif step.on_missed != "run_late":
            text = f"on_missed: {step.on_missed} has no effect without a grace"
            self._findings.error("grace-missing", (*path, "on_missed"), text, "add grace: 30 min, or what is allowed")

    def _choose(self, step: verbs.Choose, names: Names, path: DataPath) -> bool:
        branches: list[Names] = []
        otherwise = False
        ends: list[bool] = []
        for index, case in enumerate(step.cases):
            here: DataPath = (*path, "cases", index)
            if otherwise:
                self._findings.error("unreachable", here, "this branch comes after else", "move else to the end")
            branch = names.fork()
            if case.when is None:
                otherwise = True
            else:
                expression(case.when, names, self._findings, (*here, "when"), CONDITION)
                branch.maybe -= _sure(case.when)
            ended = self._steps(case.steps, branch, (*here, "else" if case.when is None else "steps"))
            ends.append(ended)
            if not ended:
                branches.append(branch)
        if not otherwise:
            hint = "add {else: []}, or what is to be done when no condition holds"
            self._findings.error("else-missing", path, f"choose '{step.id}' has no else branch", hint)
        names.join(branches)
        return otherwise and all(ends)

    def _for_each(self, step: verbs.ForEach, names: Names, path: DataPath) -> None:
        declared = self._recipe.containers.get(step.in_)
        if declared is None or declared.count is None:
            families = ", ".join(name for name, each in self._recipe.containers.items() if each.count is not None)
            self._findings.error(
                "container-unknown", (*path, "in"), f"'{step.in_}' is no family of containers", f"families: {families}"
            )
        self._free_name(step.as_, names, (*path, "as"))
        inner = names.fork()
        inner.loops[step.as_] = step.in_
        self._steps(step.steps, inner, (*path, "steps"))
        del inner.loops[step.as_]
        names.join([inner])

    def _repeat(self, step: verbs.Repeat, names: Names, path: DataPath) -> bool:
        """Check a loop whose condition may read what its own turns bring, which is not there before the first."""
        if step.every is not None:
            expression(step.every, names, self._findings, (*path, "every"), "s")
        inner = names.fork()
        inner.turns = True
        ended = self._steps(step.steps, inner, (*path, "steps"))
        names.join([inner] if step.until is None else [inner, names.fork()])
        if step.until is not None:
            expression(step.until, names, self._findings, (*path, "until"), CONDITION)
        return ended and step.until is None

    def _parallel(self, step: verbs.Parallel, names: Names, path: DataPath) -> bool:
        """Check branches beside each other: what one brings may not be there yet in the others.

        What each brings is found out first, from what the others do; nothing that is said meanwhile counts.
        """
        scratch = StepCheck(self._recipe, Findings(self._findings.document), self._profiles, self._limits)
        brought = {name: names.fork() for name in step.branches}
        for _ in step.branches:  # a value may hang on one of another branch, and that on one of a third
            for name, steps in step.branches.items():
                branch, foreign = names.beside(_but(brought, name))
                scratch._steps(steps, branch, (*path, "branches", name))
                brought[name] = names.fork()
                brought[name].gather(branch, foreign)
        after = names.fork()
        ends: list[bool] = []
        for name, steps in step.branches.items():
            branch, foreign = names.beside(_but(brought, name))
            ends.append(self._steps(steps, branch, (*path, "branches", name)))
            after.gather(branch, foreign)
        names.outputs, names.marks, names.maybe = after.outputs, after.marks, after.maybe
        names.controls = after.controls
        return any(ends)

    def _ask(self, step: verbs.Ask, names: Names, path: DataPath) -> None:
        check_expr.text(step.text, names, self._findings, (*path, "text"))
        self._due(step.due, path)
        if step.inputs:
            self._brings(step, names, path)
        may_pass = step.when is not None or (step.due is not None and step.on_overdue == "continue")
        for name, given in step.inputs.items():
            kind = self.input_type(given, (*path, "inputs", name))
            if kind is not None:
                names.bring(f"{step.id}.{name}", kind, maybe=may_pass or given.optional)
        if step.check is not None:
            expression(step.check, names, self._findings, (*path, "check"), CONDITION)

    def input_type(self, given: verbs.Input, path: DataPath) -> Type | None:
        """Report what is wrong with an input's or a result's unit and range; return its type."""
        if given.choices:
            if given.unit is not None or given.range is not None:
                self._findings.error("input", path, "choices have neither unit nor range", "drop one of the two")
            return kinds.choice(given.choices)
        if given.type == "text":
            return kinds.TEXT
        unit = ""
        if given.unit is not None:
            try:
                unit = literal(syntax.Literal(f"1 {given.unit}", 1)).dim.unit
            except ExprError as error:
                self._findings.error("quantity", (*path, "unit"), error.message, error.hint)
                return None
        if given.range is not None:
            found = self._findings.span(
                given.range, unit if given.unit is not None else None, (*path, "range"), given.unit
            )
            unit = unit if found is None else found.unit
        return kinds.number(unit)

    def _set(self, step: verbs.Set, names: Names, path: DataPath) -> None:
        for tag, text in step.targets.items():
            here: DataPath = (*path, tag)
            head, _, name = tag.partition(".")
            declared = self._recipe.equipment.get(head)
            if declared is None:
                self._findings.error(
                    "equipment-unknown",
                    here,
                    f"no equipment '{head}'",
                    f"declared: {', '.join(self._recipe.equipment)}",
                )
                continue
            role = ROLES.get(declared.role)
            settable = {} if role is None else role.settable_for(declared.needs)
            if name not in settable:
                known = f"settable: {', '.join(f'{head}.{each}' for each in settable) or 'nothing'}"
                some = role is not None and name in role.some_settable
                hint = f"not every {declared.role} has it: add {name} to the needs of {head}" if some else known
                self._findings.error("tag-unknown", here, f"'{tag}' cannot be set", hint)
                continue
            check_free(tag, names, self._findings, here)
            kind = expression(text, names, self._findings, here, settable[name])
            node = compile(text).node if kind is not None else None
            allowed = self._limits.get(tag)
            if allowed is None or not isinstance(node, syntax.Literal):
                continue
            wanted = literal(node)
            if wanted.dim.canonical(wanted.value) not in allowed:
                self._findings.error(
                    "limit", here, f"{text} is outside what the equipment takes", f"{allowed}", offset=0
                )

    def _sample(self, step: verbs.Sample, names: Names, path: DataPath) -> None:
        check_expr.container(step.from_, names, self._findings, (*path, "from"), family=True)
        expression(step.volume, names, self._findings, (*path, "volume"), "mL")
        self._due(step.due, path)
        self._brings(step, names, path)
        for name in step.defer:
            if name not in step.results:
                self._findings.error(
                    "result-unknown",
                    (*path, "defer"),
                    f"'{name}' is not among the results",
                    f"{', '.join(step.results)}",
                )
        may_pass = step.when is not None or (step.due is not None and step.on_overdue == "continue")
        for index, name in enumerate(step.results):
            declared = self._recipe.results.get(name)
            if declared is None:
                known = ", ".join(self._recipe.results)
                self._findings.error(
                    "result-unknown", (*path, "results", index), f"no result '{name}'", f"declared: {known}"
                )
                continue
            kind = kinds.choice(declared.choices) if declared.choices else _result_type(declared.unit)
            if kind is not None:
                names.bring(f"{step.id}.{name}", kind, maybe=may_pass or name in step.deferred)

    def _mark(self, mark: str, step: AnyVerb, names: Names, path: DataPath) -> None:
        if mark in names.marks or names.loops or names.turns:
            message = f"the mark '{mark}' would be set more than once"
            self._findings.error("mark-duplicate", path, message, "a mark is set once in a batch, and never in a loop")
        names.set_mark(mark, maybe=step.when is not None)

    def _due(self, text: str | None, path: DataPath) -> None:
        if text is not None:
            self._findings.quantity(text, ("s",), (*path, "due"))

    def _mount(self, step: verbs.Mount, names: Names, path: DataPath) -> None:
        self._due(step.due, path)
        for index, name in enumerate(step.containers):
            declared = self._recipe.containers.get(name)
            if declared is None:
                known = ", ".join(self._recipe.containers)
                self._findings.error(
                    "container-unknown", (*path, "containers", index), f"no container '{name}'", f"declared: {known}"
                )
                continue
            count, volume = step.count_of(name), step.volume_of(name)
            if declared.count is not None and count is None and ".." in declared.count:
                hint = f"count: 1..{declared.count.rpartition('.')[2]}, or an expression"
                self._findings.error("count-missing", path, f"how many of '{name}' are mounted?", hint)
            if count is not None and declared.count is not None:
                where: DataPath = (*path, "count", name) if isinstance(step.count, dict) else (*path, "count")
                expression(count, names, self._findings, where, "")
            if volume != "ask":
                where = (*path, "volume", name) if isinstance(step.volume, dict) else (*path, "volume")
                expression(volume, names, self._findings, where, "mL")
        for field, given in (("count", step.count), ("volume", step.volume)):
            for name in given if isinstance(given, dict) else ():
                if name not in step.containers:
                    self._findings.error("container-unknown", (*path, field, name), f"'{name}' is not mounted here")

    def _freeze(self, step: verbs.Freeze, names: Names, path: DataPath) -> None:
        declared = self._recipe.equipment.get(step.with_)
        if declared is None or declared.role != "freezer":
            self._findings.error(
                "equipment-unknown", (*path, "with"), f"'{step.with_}' is no freezer", "declare it with role: freezer"
            )
        elif declared.shared and step.with_ not in names.acquired:
            hint = f"add using: [{step.with_}] to the operation"
            self._findings.error("not-acquired", (*path, "with"), f"'{step.with_}' is shared and not held here", hint)
        check_expr.container(step.load, names, self._findings, (*path, "load"), family=True)
        if step.profile not in self._profiles:
            known = ", ".join(sorted(self._profiles))
            self._findings.error(
                "profile-unknown", (*path, "profile"), f"no freezing profile '{step.profile}'", f"there is: {known}"
            )
        for moment, mark in step.marks.items():
            self._mark(mark, step, names, (*path, "marks", moment))

    def _window(self, step: verbs.Incubate, path: DataPath) -> None:
        """Check that the day, or the time since a mark, for which `until` waits lies in the window."""
        if step.window is None:
            return
        mark = window_mark(step.until)
        window = self._findings.span(step.window, "s", (*path, "window"))
        try:
            day = _awaited(compile(step.until).node, mark)
        except ExprError:
            return
        if window is not None and day is not None and day not in window:
            awaited = f"day {day / 86400:g}" if mark == DAY_ZERO else f"{day / 86400:g} d after {mark}"
            text = f"it waits for {awaited}, which is outside the window {step.window}"
            self._findings.error("window", (*path, "window"), text, "move the window or the day")

    def _brings(self, step: AnyVerb, names: Names, path: DataPath) -> None:
        """Check that values named after this step can be told from everything else."""
        taken = {
            *self._recipe.containers,
            *self._recipe.equipment,
            *self._recipe.parameters,
            *self._recipe.estimates,
            *names.loops,
        }
        if step.id in taken or step.id in RESERVED:
            hint = "its values would be named like something else; give the step another id"
            self._findings.error("name-taken", path, f"the name '{step.id}' is taken", hint)

    def _free_name(self, name: str, names: Names, path: DataPath) -> None:
        taken = {
            *self._recipe.containers,
            *self._recipe.equipment,
            *self._recipe.parameters,
            *self._recipe.estimates,
            *names.loops,
        }
        if name in taken or name in RESERVED:
            self._findings.error("name-taken", path, f"the name '{name}' is taken", "choose another")


_FIELDS: dict[str, dict[str, str]] = {
    "wait": {"until": CONDITION, "for": "s", "timeout": "s"},
    "incubate": {"until": CONDITION},
    "transfer": {"volume": "mL", "leave": "mL", "up_to": "mL", "rate": "mL/min", "settle": "s"},
}


def _result_type(unit: str | None) -> Type | None:
    try:
        return kinds.number(literal(syntax.Literal(f"1 {unit or ''}".strip(), 1)).dim.unit)
    except ExprError:
        return None  # reported where the result is declared


def _but(brought: Mapping[str, Names], name: str) -> list[Names]:
    return [names for other, names in brought.items() if other != name]


def _sure(condition: str) -> frozenset[str]:
    try:
        return check_expr.made_sure(compile(condition).node)
    except ExprError:
        return frozenset()


def _awaited(node: Node, mark: str) -> float | None:
    """Return the time (s) of `day >= LITERAL` or `since(MARK) >= LITERAL`, also where `and` joins it with more."""
    if isinstance(node, syntax.Binary) and node.operator == "and":
        left = _awaited(node.left, mark)
        return left if left is not None else _awaited(node.right, mark)
    if isinstance(node, syntax.Binary) and node.operator in (">=", ">") and isinstance(node.right, syntax.Literal):
        return literal(node.right).value if _counts_from(node.left, mark) else None
    return None


def _counts_from(node: Node, mark: str) -> bool:
    """Tell whether this is the time since a mark: `since(MARK)`, and `day` for day 0."""
    if isinstance(node, syntax.Name):
        return node.bare == "day" and mark == DAY_ZERO
    if not isinstance(node, syntax.Call) or node.function != "since":
        return False
    (given,) = node.arguments
    return isinstance(given, syntax.Name) and given.bare == mark
