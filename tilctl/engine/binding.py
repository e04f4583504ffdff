"""Binding a recipe to a unit: its equipment to devices, its parameters to values.  Checked before anything moves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devices.calibration import newest_of
from devices.diagnosis import Ne107
from devices.document import Document, DocumentError
from devices.equipment.spec import PumpSpec, parts_of
from devices.instrument import DeviceState
from devices.profile_types import Profile
from devices.quantity import QuantityError, parse_as
from devices.quantity import parse as parse_quantity
from devices.role import ROLES
from recipes import shelf
from recipes.catalog import load_document
from recipes.model import Equipment, Recipe, walk
from recipes.ranges import parse_range
from recipes.steps import Freeze
from tilctl.config import Site, UnitSite
from tilctl.engine.fitness import needed
from tilctl.guard.ne107 import of_calibration
from tilctl.plant.suite import Suite
from tilctl.plant.unit import UnitPlant


class NotBindable(Exception):
    """A recipe does not fit this unit or these parameters; `code` is the refusal code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Bound:
    """A recipe, and which device stands for each piece of its equipment; `shared` are those that `using` takes.

    `profiles` are the texts of the freezing profiles that the recipe names.
    """

    recipe: Recipe
    text: str
    sha256: str
    equipment: Mapping[str, str]
    shared: tuple[str, ...]
    profiles: Mapping[str, str]


def bind(document: Document, site: Site, unit: UnitPlant, folders: Sequence[Path]) -> Bound:
    """Bind a checked recipe to a unit; raises NotBindable."""
    try:
        recipe = load_document(document, folders)
        named = {step.profile for op in recipe.procedure for _, step in walk(op.steps, "") if isinstance(step, Freeze)}
        profiles = {name: shelf.read(name, shelf.FREEZING, folders).text for name in sorted(named)}
    except DocumentError as error:
        raise NotBindable("bad_recipe", str(error)) from error
    equipment = fitting(recipe, site, unit.site, lambda device: unit.instruments[device].profile)
    shared = tuple(equipment[name] for name, wanted in recipe.equipment.items() if wanted.shared)
    digest = hashlib.sha256(document.text.encode()).hexdigest()
    return Bound(recipe, document.text, digest, equipment, shared, profiles)


def fitting(recipe: Recipe, site: Site, unit: UnitSite, profile_of: Callable[[str], Profile]) -> dict[str, str]:
    """Return which device stands for each piece of a recipe's equipment; raises NotBindable where one is wanting."""
    equipment: dict[str, str] = {}
    for name, wanted in recipe.equipment.items():
        if wanted.shared:
            device = next((role.device for role in site.shared.values() if role.role == wanted.role), None)
        else:
            roles = [role for role in unit.roles.values() if role.role == wanted.role]
            device = next((role.device for role in roles if role.name == name), roles[0].device if roles else None)
        if device is None:
            where = "among the shared equipment" if wanted.shared else f"in unit {unit.name}"
            raise NotBindable("not_ready", f"{recipe.recipe} needs a {wanted.role} ({name}); there is none {where}")
        positions = sum(place.at == "station" for place in unit.places.values())
        if wanted.positions > positions:
            raise NotBindable("not_ready", f"{name} needs {wanted.positions} positions; {unit.name} has {positions}")
        _offers(name, wanted, device, profile_of(device))
        equipment[name] = device
    return equipment


def _offers(name: str, wanted: Equipment, device: str, profile: Profile) -> None:
    """Raise NotBindable where an instrument lacks what the recipe needs of it and not every one of its role has."""
    role = ROLES[wanted.role]
    missing = [tag for tag in wanted.needs if tag in role.some and tag not in profile.points]
    missing += [
        f"set_{tag}" for tag in wanted.needs if tag in role.some_settable and f"set_{tag}" not in profile.commands
    ]
    if missing:
        text = f"{name} needs {', '.join(wanted.needs)}; {device} ({profile.id}) has no {', '.join(missing)}"
        raise NotBindable("not_ready", f"{text}: choose another unit, or give {name} an instrument that has it")


def check_parameters(recipe: Recipe, given: Mapping[str, str]) -> None:
    """Raise NotBindable, naming every parameter that is unknown or out of its range."""
    wrong = [f"{name} is unknown (there are: {', '.join(recipe.parameters) or 'none'})" for name in given]
    wrong = [text for text in wrong if text.partition(" ")[0] not in recipe.parameters]
    for name, parameter in recipe.parameters.items():
        text = given.get(name)
        if text is None:
            continue
        if parameter.choices:
            if text not in parameter.choices:
                wrong.append(f"{name} is {text!r}, expected one of {', '.join(parameter.choices)}")
            continue
        try:
            unit = parse_quantity(parameter.default).unit
            value = parse_as(text, unit)
            limits = None if parameter.range is None else parse_range(parameter.range, unit)
        except QuantityError as error:
            wrong.append(f"{name}: {error}")
            continue
        if limits is not None and value not in limits:
            wrong.append(f"{name} is {text}, its range is {limits}")
    if wrong:
        raise NotBindable("bad_parameter", "; ".join(wrong))


_FIT: Mapping[str, str] = {}


def check_devices(suite: Suite, unit: UnitPlant, bound: Bound, unfit: Mapping[str, str] = _FIT) -> None:
    """Raise NotBindable, naming every instrument that the batch needs and that does not answer, or is `unfit`.

    `unfit` says why, by instrument.
    """
    devices = needed(unit, bound.equipment.values())
    not_ready = [
        unfit.get(name) or f"{name} is {status.state.value} ({status.text})"
        for name in devices
        if (status := suite.instruments[name].status).state is not DeviceState.ONLINE or name in unfit
    ]
    if not_ready:
        raise NotBindable("not_ready", "; ".join(not_ready))
    # Invariant: no batch starts on a calibration that holds no more.
    today = suite.clock.now().date()
    invalid: list[str] = []
    for name in calibrations_for(suite.site, devices):
        said = of_calibration(name, newest_of(suite.site.calibrations[name]), today)
        if said is not None and said[0] is Ne107.OUT_OF_SPECIFICATION:
            invalid.append(f"{said[1]}: {said[2]}")
    if invalid:
        raise NotBindable("not_ready", "; ".join(invalid))


def calibrations_for(site: Site, instruments: Iterable[str]) -> list[str]:
    """Return the calibrations that instruments or the parts of equipment depend on."""
    found: list[str] = []
    for name in instruments:
        spec = site.equipment.get(name)
        if isinstance(spec, PumpSpec):
            found.append(spec.tubing)
        for device in (name,) if spec is None else parts_of(spec):
            found += site.devices[device].corrections.values() if device in site.devices else ()
    return list(dict.fromkeys(found))
