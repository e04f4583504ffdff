"""A study as a file says it: what is compared, on how many donors, and from how many cells on a lot is a dose."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from devices import document
from devices.diagnostic import Diagnostic, DocumentError, Severity
from devices.quantity import QuantityError, parse_as
from recipes.catalog import load
from recipes.fields import Amount, Frozen, Id, Text
from recipes.model import Recipe, Title
from simulators.physics.donors import NON_EXPANDERS, population_donor
from simulators.physics.parameters import Setting
from tilctl.engine.binding import NotBindable, check_parameters

MOST_DONORS = 100_000
MOST_ARMS = 64
USUAL = "usual"  # the arm of a sensitivity in which nothing is changed
SHIPPED = Path(str(files("tilctl.cli") / "studies"))


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("characters that cannot be printed: it stands on terminals and in plots")
    return text


Shown = Annotated[str, StringConstraints(min_length=1, max_length=120), AfterValidator(_printable)]


class Arm(Frozen):
    """One of what is compared: a recipe, with parameters that are not its defaults.

    `assume`: numbers of the culture model that are not the usual ones, by the names of `simulators.physics.parameters`,
    in their units.
    """

    name: Shown
    recipe: Text
    set: dict[Id, Text] = Field(default_factory=dict[Id, Text])
    assume: dict[Text, Text] = Field(default_factory=dict[Text, Text])


class Sensitivity(Frozen):
    """How much each uncertain number of the culture model matters to a recipe, for the typical donor.

    Each is set to either end of its stated range, all others as usual; `over` names some of them, else it is all.
    """

    recipe: Text
    set: dict[Id, Text] = Field(default_factory=dict[Id, Text])
    over: tuple[Text, ...] = ()


class Study(Frozen):
    """A comparison of `arms`, the first of which the others are held against, or a `sensitivity`.

    `floor`: viable cells from which on a lot counts as reached.  `donors`: how many, unless the command says otherwise;
    of a sensitivity they differ in people and noise only.  `non_expanders`: share of donors that hardly grow (process
    figures: 0.1 to 0.3, engineering default).
    """

    study: Title
    title: Shown
    question: Text
    floor: Amount
    donors: int = Field(default=200, ge=2, le=MOST_DONORS)
    non_expanders: float = Field(default=NON_EXPANDERS, ge=0.0, le=1.0)
    arms: Annotated[tuple[Arm, ...], Field(max_length=MOST_ARMS)] = ()
    sensitivity: Sensitivity | None = None
    source: Text

    @model_validator(mode="after")
    def _one_kind(self) -> Study:
        if bool(self.arms) == (self.sensitivity is not None):
            raise ValueError("a study has either arms or a sensitivity")
        return self

    @property
    def compared(self) -> tuple[Arm, ...]:
        """Return the arms; those of a sensitivity are the usual one, and each number at either end of its range."""
        if self.sensitivity is None:
            return self.arms
        recipe, parameters = self.sensitivity.recipe, self.sensitivity.set
        found = [Arm(name=USUAL, recipe=recipe, set=parameters)]
        for each in Setting().parameters:
            if not self.sensitivity.over or each.name in self.sensitivity.over:
                for value in (each.low, each.high):
                    name = f"{each.name} {value:g}"
                    found.append(Arm(name=name, recipe=recipe, set=parameters, assume={each.name: f"{value!r}"}))
        return tuple(found)

    @property
    def floor_cells(self) -> float:
        """Return the floor in cells."""
        return parse_as(self.floor, "cells")


def shipped() -> dict[str, Path]:
    """Return the studies that come along, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load_study(name_or_path: str) -> Study:
    """Return the checked study of a name that comes along, or of a file; raises DocumentError with every finding."""
    known = shipped()
    path = known.get(name_or_path, Path(name_or_path))
    if name_or_path not in known and path.suffix != ".yaml":
        there = f"there are: {', '.join(known) or 'none'}; or give the path of a file that ends in .yaml"
        raise DocumentError([
            Diagnostic(Severity.ERROR, "study-unknown", f"no study '{name_or_path[:80]}'", "study", 1, 1, there)
        ])  # fmt: skip
    source = document.load(path)
    study = document.validate(source, Study, "schema")
    found = [*_floor(study, source), *_arms(study, source, path.parent)]
    if found:
        raise DocumentError(found)
    return study


@lru_cache(maxsize=MOST_ARMS)
def recipe_of(recipe: str, folder: Path) -> Recipe:
    """Return a checked recipe, of the library or beside the study, read once; raises DocumentError."""
    beside = folder / recipe
    return load(beside if beside.suffix == ".yaml" and beside.is_file() else recipe)


def setting_of(study: Study, arm: Arm, seed: int) -> Setting:
    """Return what is assumed of donor, cells and vessels for a seed; raises ValueError for what cannot be assumed."""
    setting = Setting() if study.sensitivity is not None else Setting(population_donor(seed, study.non_expanders))
    for name, value in arm.assume.items():
        setting = setting.given(name, float(value))
    return setting


def _floor(study: Study, source: document.Document) -> list[Diagnostic]:
    try:
        cells = parse_as(study.floor, "cells")
    except QuantityError as error:
        return [source.diagnostic(Severity.ERROR, "quantity", ("floor",), error.message, hint=error.hint)]
    if cells > 0.0:
        return []
    text = f"{study.floor} is reached by every lot, also by one that was given up"
    return [source.diagnostic(Severity.ERROR, "quantity", ("floor",), text, hint="a number of cells above 0")]


def _arms(study: Study, source: document.Document, folder: Path) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    seen: set[str] = set()
    known = {each.name for each in Setting().parameters}
    strange = [name for name in (study.sensitivity.over if study.sensitivity else ()) if name not in known]
    if strange:
        text, hint = f"no numbers {', '.join(strange)} of the culture model", f"there are: {', '.join(sorted(known))}"
        found.append(source.diagnostic(Severity.ERROR, "assumption", ("sensitivity", "over"), text, hint=hint))
    for index, arm in enumerate(study.arms or study.compared[:1]):
        path: document.DataPath = ("arms", index) if study.arms else ("sensitivity",)
        if arm.name in seen:
            found.append(source.diagnostic(Severity.ERROR, "id-duplicate", path, f"a second arm '{arm.name}'"))
        seen.add(arm.name)
        try:
            check_parameters(recipe_of(arm.recipe, folder), arm.set)
        except DocumentError as error:
            text = f"the recipe '{arm.recipe}' cannot be used: {error.diagnostics[0]}"
            found.append(source.diagnostic(Severity.ERROR, "recipe", (*path, "recipe"), text))
        except NotBindable as error:
            found.append(source.diagnostic(Severity.ERROR, "parameter", (*path, "set"), str(error)))
        try:
            setting_of(study, arm, 1)
        except ValueError as error:
            found.append(source.diagnostic(Severity.ERROR, "assumption", (*path, "assume"), str(error)))
    return found
