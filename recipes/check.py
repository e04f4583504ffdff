"""Checking a recipe before anything moves: schema, names, units, ranges, reachability, windows, volumes, sources.

Every finding has a severity, a code, a place in the file, and a hint.  Errors stop a recipe; warnings ask for a look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from devices.alarm import out_of_bounds
from devices.diagnostic import Diagnostic, DocumentError
from devices.document import DataPath, Document, validate
from devices.quantity import Dim, QuantityError, parse
from devices.role import ROLES
from recipes import shelf
from recipes.adjustable import check_adjustable
from recipes.check_claims import check_claims
from recipes.check_estimates import check_estimates
from recipes.check_expr import CONDITION, expression
from recipes.check_longest import check_longest
from recipes.check_sources import check_sources
from recipes.check_steps import StepCheck
from recipes.check_volumes import VolumeCheck
from recipes.declared import count_range
from recipes.dosing import CONCENTRATIONS
from recipes.expr import compile
from recipes.findings import Findings
from recipes.hysteresis import fits
from recipes.model import Guard, Recipe
from recipes.names import RESERVED, Names
from recipes.ranges import Range
from recipes.syntax import ExprError


def check(
    document: Document, search: Sequence[Path] = (), limits: Mapping[str, Range] | None = None
) -> tuple[Recipe | None, list[Diagnostic]]:
    """Return the recipe (None where the schema refuses it) and every finding, in the order of the file.

    `search`: folders with freezing profiles beside the library; `limits`: what the site's equipment takes, by tag.
    """
    try:
        recipe = validate(document, Recipe, "schema")
    except DocumentError as error:
        return None, list(error.diagnostics)
    findings = Findings(document)
    _header(recipe, findings)
    if findings.found:  # what follows reads the header's units and roles
        return recipe, findings.found
    names = StepCheck(recipe, findings, frozenset(shelf.paths(shelf.FREEZING, search)), limits or {}).procedure()
    _guards(recipe, names, findings)
    check_estimates(recipe, names, findings)
    _clocks(recipe, names, findings)
    volumes = VolumeCheck(recipe, findings)
    volumes.procedure()
    check_sources(recipe, findings)
    told = check_claims(recipe, findings)
    check_longest(recipe, findings, volumes.seconds, told, search)
    own = document.name
    return recipe, sorted(findings.found, key=lambda it: ("" if it.file == own else it.file, it.line, it.column))


def peak_places(recipe: Recipe, document: Document) -> dict[str, int]:
    """Return the most containers that are in each class of place at once: `station`, `hook`, `waste`."""
    walk = VolumeCheck(recipe, Findings(document))
    walk.procedure()
    return walk.peaks


def _header(recipe: Recipe, findings: Findings) -> None:
    for section, name in _declared(recipe):
        if name in RESERVED:
            findings.error("name-taken", (section, name), f"'{name}' is a word of expressions", "choose another")
    _twice(recipe, findings)
    for name, each in recipe.equipment.items():
        path: DataPath = ("equipment", name)
        role = ROLES.get(each.role)
        if role is None:
            usable = ", ".join(known for known, kind in ROLES.items() if kind.tags)
            findings.error("role-unknown", (*path, "role"), f"no role '{each.role}'", f"roles: {usable}")
            continue
        for index, tag in enumerate(each.needs):
            if tag not in role.tags_for(each.needs):
                hint = f"tags of {each.role}: {', '.join((*role.tags, *role.some)) or 'none'}"
                findings.error("tag-unknown", (*path, "needs", index), f"{each.role} has no '{tag}'", hint)
    for name, each in recipe.containers.items():
        path = ("containers", name)
        findings.quantity(each.limit, ("mL",), (*path, "limit"))
        findings.quantity(each.density, ("g/mL",), (*path, "density"))
        if (findings.quantity(each.evaporation, ("mL/min",), (*path, "evaporation")) or 0.0) < 0.0:
            findings.error("range", (*path, "evaporation"), f"'{each.evaporation}' is less than nothing", "give a loss")
        for substance, text in each.stock.items():
            here: DataPath = (*path, "stock", substance)
            value = findings.quantity(text, tuple(CONCENTRATIONS), here)
            if value is not None and value <= 0.0:
                findings.error("range", here, f"'{text}' is no concentration", "it is more than nothing")
        if each.count is not None and count_range(each.count) is None:
            findings.error("range", (*path, "count"), f"'{each.count}' is no number of containers", "write 1..4, or 3")
    _parameters(recipe, findings)
    check_adjustable(recipe, findings)
    for name, each in recipe.results.items():
        path = ("results", name)
        if not each.choices and each.unit is None:
            findings.error(
                "result", path, f"the result '{name}' has neither unit nor choices", 'unit: cells, or unit: "%"'
            )
        elif each.unit is not None:
            value = findings.quantity(f"1 {each.unit}", tuple(_unit(each.unit)), (*path, "unit"))
            if value is not None and each.range is not None:
                findings.span(each.range, _unit(each.unit)[0], (*path, "range"), each.unit)


def _declared(recipe: Recipe) -> list[tuple[str, str]]:
    sections = ("equipment", "containers", "parameters", "estimates")
    return [(section, name) for section in sections for name in getattr(recipe, section)]


def _twice(recipe: Recipe, findings: Findings) -> None:
    """Refuse one name in two sections: an expression could not tell them apart."""
    seen: dict[str, str] = {}
    for section, name in _declared(recipe):
        if name in seen:
            findings.error(
                "name-taken", (section, name), f"'{name}' is declared under {seen[name]} too", "choose another"
            )
        seen[name] = section


def _unit(text: str) -> list[str]:
    try:
        return [parse(f"1 {text}").unit]
    except QuantityError:
        return [""]


def _parameters(recipe: Recipe, findings: Findings) -> None:
    for name, each in recipe.parameters.items():
        path: DataPath = ("parameters", name)
        if each.choices:
            if each.default not in each.choices:
                findings.error(
                    "parameter",
                    (*path, "default"),
                    f"'{each.default}' is no choice",
                    f"choices: {', '.join(each.choices)}",
                )
            if each.range is not None:
                findings.error("parameter", (*path, "range"), "choices have no range", "drop one of the two")
            continue
        try:
            default = parse(each.default)
        except QuantityError as error:
            findings.error("quantity", (*path, "default"), error.message, error.hint, offset=0)
            continue
        if each.range is None:
            findings.warning("parameter", path, f"the parameter '{name}' has no range", "say how far it may be changed")
            continue
        allowed = findings.span(each.range, None, (*path, "range"), default.unit)
        if allowed is not None and allowed.unit != default.unit:
            findings.error(
                "dimension",
                (*path, "range"),
                f"default and range of '{name}' have different units",
                f"{default.unit}, {allowed.unit}",
            )
        elif allowed is not None and default.value not in allowed:
            findings.error("parameter", (*path, "default"), f"{each.default} is outside {each.range}", "", offset=0)


def _guards(recipe: Recipe, names: Names, findings: Findings) -> None:
    scope = names.fork()
    scope.everywhen = True
    seen: set[str] = set()
    for index, guard in enumerate(recipe.guards):
        path: DataPath = ("guards", index)
        if guard.id in seen:
            findings.error("id-duplicate", (*path, "id"), f"a second guard '{guard.id}'")
        seen.add(guard.id)
        scope.advised = guard.then == "alarm"
        expression(guard.when, scope, findings, (*path, "when"), CONDITION)
        scope.advised = False  # what silences an alarm is more than advice
        if guard.unless is not None:
            expression(guard.unless, scope, findings, (*path, "unless"), CONDITION)
        for key, text in guard.times:
            seconds = findings.quantity(text, ("s",), (*path, key))
            if seconds is not None and (wrong := out_of_bounds(key, seconds)):
                findings.error("quantity", (*path, key), f"'{text}': {wrong}", offset=0)
        _deadband(guard, scope, findings, path)
        for mark in guard.span or ():
            _mark(mark, names, findings, (*path, "while"))


def _deadband(guard: Guard, scope: Names, findings: Findings, path: DataPath) -> None:
    """Report a deadband that is none, or that no comparison of the guard could use."""
    if guard.deadband is None:
        return
    try:
        given = parse(guard.deadband)
        wanted = Dim.of(given.unit)
        if not given.value > 0:
            hint = "a difference above 0, such as 0.2 K for a temperature"
            findings.error("deadband", (*path, "deadband"), f"'{guard.deadband}' keeps nothing from chattering", hint)
        if not fits(compile(guard.when), scope, wanted):
            hint = "a difference in the unit of what is compared: 0.2 K for a temperature"
            findings.error("deadband", (*path, "deadband"), f"no comparison of '{guard.id}' is of its unit", hint)
    except QuantityError as error:
        findings.error("quantity", (*path, "deadband"), error.message, error.hint, offset=0)
    except ExprError:
        return  # reported where it stands


def _clocks(recipe: Recipe, names: Names, findings: Findings) -> None:
    for name, each in recipe.clocks.items():
        path: DataPath = ("clocks", name)
        for key, mark in (("from", each.from_), ("to", each.to)):
            _mark(mark, names, findings, (*path, key))
        limits = [
            (key, findings.quantity(text, ("s",), (*path, key)))
            for key, text in (("min", each.min), ("warn", each.warn), ("high", each.high), ("max", each.max))
            if text is not None
        ]
        values = [value for _, value in limits if value is not None]
        if values != sorted(values):
            findings.error("clock", path, f"the limits of '{name}' are not in order", "min < warn < high < max")


def _mark(mark: str, names: Names, findings: Findings, path: DataPath) -> None:
    if mark not in names.marks:
        known = ", ".join(sorted(names.marks)) or "none"
        findings.error("mark-unknown", path, f"no step sets the mark '{mark}'", f"marks: {known}")
