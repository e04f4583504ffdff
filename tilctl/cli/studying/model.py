"""A study as a file says it: what is compared, on how many donors, and from how many cells on a lot is a dose."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field

from devices import document
from devices.diagnostic import Diagnostic, DocumentError, Severity
from devices.quantity import QuantityError, parse_as
from recipes.catalog import load
from recipes.fields import SOME, Amount, Frozen, Id, Text
from recipes.model import Recipe, Title
from tilctl.engine.binding import NotBindable, check_parameters

MOST_DONORS = 100_000
MOST_ARMS = 64
SHIPPED = Path(str(files("tilctl.cli") / "studies"))


class Arm(Frozen):
    """One of what is compared: a recipe, with parameters that are not its defaults."""

    name: Id
    recipe: Text
    set: dict[Id, Text] = Field(default_factory=dict[Id, Text])


class Study(Frozen):
    """A comparison; the first arm is what the others are held against.

    `floor`: viable cells from which on a lot counts as reached.  `donors`: how many, unless the command says otherwise.
    """

    study: Title
    title: Text
    question: Text
    floor: Amount
    donors: int = Field(default=200, ge=2, le=MOST_DONORS)
    arms: Annotated[tuple[Arm, ...], SOME, Field(max_length=MOST_ARMS)]
    source: Text

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


def recipe_of(arm: Arm, folder: Path) -> Recipe:
    """Return the checked recipe of an arm, of the library or beside the study; raises DocumentError."""
    beside = folder / arm.recipe
    return load(beside if beside.suffix == ".yaml" and beside.is_file() else arm.recipe)


def _floor(study: Study, source: document.Document) -> list[Diagnostic]:
    try:
        parse_as(study.floor, "cells")
    except QuantityError as error:
        return [source.diagnostic(Severity.ERROR, "quantity", ("floor",), error.message, hint=error.hint)]
    return []


def _arms(study: Study, source: document.Document, folder: Path) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    seen: set[str] = set()
    for index, arm in enumerate(study.arms):
        path: document.DataPath = ("arms", index)
        if arm.name in seen:
            found.append(source.diagnostic(Severity.ERROR, "id-duplicate", path, f"a second arm '{arm.name}'"))
        seen.add(arm.name)
        try:
            check_parameters(recipe_of(arm, folder), arm.set)
        except DocumentError as error:
            text = f"the recipe '{arm.recipe}' cannot be used: {error.diagnostics[0]}"
            found.append(source.diagnostic(Severity.ERROR, "recipe", (*path, "recipe"), text))
        except NotBindable as error:
            found.append(source.diagnostic(Severity.ERROR, "parameter", (*path, "set"), str(error)))
    return found
