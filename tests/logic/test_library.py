"""The library: complete, clean, sourced, and accepted by the schema that editors use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from devices.document import DocumentError
from recipes import catalog, shelf
from recipes.check import check, peak_places
from recipes.expr import Operand, compile
from recipes.model import Recipe, walk
from recipes.schema import fragment_schema, freezing_schema, recipe_schema
from recipes.steps import VERBS

NAMES = sorted(shelf.paths(shelf.RECIPES))
TIL = catalog.load("til-22d")
TIL_TEXT = shelf.paths(shelf.RECIPES)["til-22d"].read_text()  # as it is written, with its include


def verbs_of(recipe: Recipe) -> set[str]:
    return {step.verb for operation in recipe.procedure for _, step in walk(operation.steps, operation.id)}


def test_the_library_has_its_recipes() -> None:
    named = {
        "til-22d",
        "til-16d",
        "nci-young-pre-rep",
        "nci-rep-grex",
        "nci-rep-bag",
        "til-feeder-free",
        "til-rocking",
        "til-automate",
        "tumour-digestion",
        "thaw-to-infusion",
        "shakedown",
    }
    assert named <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_of_the_library_draws_no_finding(name: str) -> None:
    recipe, found = check(catalog.find(name))
    assert [str(one) for one in found] == []  # warnings too, as `recipe check --strict` has it
    assert recipe is not None
    assert recipe.recipe == name
    assert recipe.status == "illustrative"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_fits_one_station_with_its_hooks(name: str) -> None:
    document = catalog.find(name)
    peaks = peak_places(catalog.load_document(document), document)
    assert peaks["station"] <= 6
    assert peaks["hook"] <= 9
    assert peaks["waste"] <= 1


@pytest.mark.parametrize(
    "path", sorted(path for kind in ("", shelf.FREEZING, shelf.FRAGMENTS) for path in shelf.paths(kind).values())
)
def test_a_file_says_that_it_is_no_clinical_advice(path: Path) -> None:
    text = path.read_text().lower()
    assert "nothing here is clinical advice" in " ".join(text.replace("#", " ").split())


def test_shakedown_uses_every_verb_and_every_amount() -> None:
    shakedown = catalog.load("shakedown")
    assert verbs_of(shakedown) == set(VERBS) - {"control"}, "what it could keep, not every unit has"
    steps = [step for operation in shakedown.procedure for _, step in walk(operation.steps, "")]
    assert {step.amount for step in steps if step.verb == "transfer"} == {"volume", "leave", "up_to", "all"}


def test_til_22d_keeps_the_order_of_the_process() -> None:
    assert [operation.id for operation in TIL.procedure] == [
        "receipt", "pre_rep", "reduce_count", "rep", "split", "harvest", "cryopreserve", "release"
    ]  # fmt: skip
    paths = [path for operation in TIL.procedure for path, _ in walk(operation.steps, operation.id)]
    order = [
        "pre_rep/day0", "reduce_count/count11", "reduce_count/go", "rep/medium", "rep/inoculate", "rep/rep_start",
        "split/count16", "split/plan", "split/flask/cm4", "harvest/flask/collect", "harvest/count22", "harvest/wash",
        "cryopreserve/ready", "cryopreserve/dmso_added", "cryopreserve/formulate", "cryopreserve/run", "release/lot",
    ]  # fmt: skip
    assert [path for path in paths if path in order] == order
    waits = [
        step.until for operation in TIL.procedure for _, step in walk(operation.steps, "") if step.verb == "incubate"
    ]
    assert waits == ["day >= 11 d", "day >= 16 d", "day >= 22 d"]


@pytest.mark.parametrize(
    ("count", "flasks"), [("1e8", 1), ("1e9", 1), ("1.2e9", 2), ("4.1e9", 5), ("9e10", 5), (None, 3)]
)
def test_the_split_rule_of_til_22d(count: str | None, flasks: int) -> None:
    """n = clamp(ceil(tvc / 1e9), 1, 5), and 3 where no count came in time."""
    plan = next(step for operation in TIL.procedure for _, step in walk(operation.steps, "") if step.id == "plan")
    assert plan.verb == "let"

    class Scope:
        def lookup(self, name: str) -> Operand | None:
            values = {"per_flask": 1e9, "count16.tvc": None if count is None else float(count)}
            return Operand(name, values[name], "cells")

    assert compile(plan.values["n"]).number(Scope(), "") == flasks


def test_the_catalogue_lists_what_can_and_what_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "til-22d.yaml").write_text(TIL_TEXT.replace('version: "1.0.0"', 'version: "9.0.0"'))
    (tmp_path / "broken.yaml").write_text("recipe: [\n")
    entries = {entry.name: entry for entry in catalog.catalog([tmp_path])}
    assert entries["til-22d"].version == "9.0.0"
    assert entries["shakedown"].version == "1.0.0"
    assert "broken.yaml" in entries["broken"].problem


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(DocumentError, match=", ".join(NAMES)):
        catalog.load("til-99")
    with pytest.raises(DocumentError, match="no such file"):
        catalog.load("./til-99.yaml")


def test_a_recipe_with_errors_is_not_handed_out() -> None:
    text = catalog.find("shakedown").text.replace("until: since(day0)", "until: since(day1)")
    with pytest.raises(DocumentError, match="name-unknown"):
        catalog.load_text(text, "changed.yaml")


# the JSON Schema, by a walk over what it uses

KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,), "number": (int, float), "boolean": (bool,), "integer": (int,), "object": (dict,),
    "array": (list,), "null": (type(None),),
}  # fmt: skip


def faults(value: Any, schema: Any, root: Any, path: str = "") -> list[str]:
    """Return what a value breaks of a JSON Schema: the keywords that ours use, and no others."""
    known = {
        "$ref", "oneOf", "anyOf", "type", "enum", "pattern", "minLength", "maxLength", "maxItems", "minimum", "maximum",
        "items", "properties", "required", "additionalProperties", "patternProperties", "propertyNames", "description",
        "const", "title", "$schema", "$defs",
    }  # fmt: skip
    assert set(schema) <= known, set(schema) - known
    if "$ref" in schema:
        return faults(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, path)
    for keyword, enough in (("oneOf", lambda good: good == 1), ("anyOf", lambda good: good >= 1)):
        if keyword in schema:
            ways = [faults(value, option, root, path) for option in schema[keyword]]
            if not enough(sum(not way for way in ways)):
                return [f"{path}: {keyword}: " + " / ".join(way[0] for way in ways if way)]
    found: list[str] = []
    types = schema.get("type", list(KINDS))
    types = [types] if isinstance(types, str) else types
    good = any(isinstance(value, KINDS[name]) and (name == "boolean" or not isinstance(value, bool)) for name in types)
    if not good:
        return [f"{path}: {value!r} is none of {types}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: {value!r} is not one of {schema['enum']}")
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{path}: {value!r} does not match")
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            found.append(f"{path}: length")
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += faults(item, schema.get("items", {}), root, f"{path}[{index}]")
    if isinstance(value, dict):
        found += [f"{path}: {key} is missing" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            patterns = [each for text, each in schema.get("patternProperties", {}).items() if re.search(text, key)]
            if key in schema.get("properties", {}):
                found += faults(item, schema["properties"][key], root, f"{path}.{key}")
            elif patterns:
                found += faults(item, patterns[0], root, f"{path}.{key}")
            elif schema.get("additionalProperties", True) is False:
                found.append(f"{path}: unknown key {key}")
            elif isinstance(schema.get("additionalProperties"), dict):
                found += faults(item, schema["additionalProperties"], root, f"{path}.{key}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_accepts_the_library_as_an_editor_reads_it(name: str) -> None:
    schema = recipe_schema()
    assert faults(yaml.safe_load(catalog.find(name).text), schema, schema) == []
    assert faults(yaml.safe_load(shelf.paths(shelf.RECIPES)[name].read_text()), schema, schema) == []  # with includes


@pytest.mark.parametrize("path", shelf.paths(shelf.FRAGMENTS).values())
def test_the_schema_accepts_the_fragments(path: Path) -> None:
    schema = fragment_schema()
    assert faults(yaml.safe_load(path.read_text()), schema, schema) == []
    assert faults(yaml.safe_load(path.read_text().replace("- freeze:", "- freze:")), schema, schema)


@pytest.mark.parametrize("name", sorted(shelf.paths(shelf.FREEZING)))
def test_the_schema_accepts_the_freezing_profiles(name: str) -> None:
    schema = freezing_schema()
    assert faults(yaml.safe_load(shelf.read(name, shelf.FREEZING).text), schema, schema) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rate: 80 mL/min", "rte: 80 mL/min"),
        ("- mark: {id: day0}", "- mork: {id: day0}"),
        ("- else: []", "- otherwise: []"),
        ("kind: vessel, class: gas-permeable-100cm2", "kind: box, class: gas-permeable-100cm2"),
        ("station.temperature: 37 degC", "temperature: 37 degC"),
        ("one_shot: true", "one_shot: 1"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(old: str, new: str) -> None:
    assert old in TIL_TEXT
    changed = TIL_TEXT.replace(old, new, 1)
    schema = recipe_schema()
    assert faults(yaml.safe_load(changed), schema, schema)
    with pytest.raises(DocumentError):
        catalog.load_text(changed, "changed.yaml")
