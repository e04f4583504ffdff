"""The JSON Schema of profiles: what an editor says of the files that come along, and of mistakes in them."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from devices.profile import profile_ids
from devices.profile_schema import mqtt_profile_schema, profile_schema
from tests.logic.test_library import faults
from tilctl.cli.main import main

TEMPLATE = (Path(__file__).parents[2] / "devices" / "template.yaml").read_text("utf-8")
BOUNDS = ("minItems", "minProperties", "maxProperties", "exclusiveMinimum", "uniqueItems")


def lean(schema: Any) -> Any:
    """Leave out the bounds that the checker of the recipes does not know."""
    if isinstance(schema, list):
        return [lean(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: lean(value) for key, value in schema.items() if key not in BOUNDS}


def as_an_editor_reads(text: str) -> Any:
    """Return the document with every key a text, as JSON has them."""
    return json.loads(json.dumps(yaml.safe_load(text)))


def text_of(name: str) -> str:
    return (files("devices") / "profiles" / f"{name}.yaml").read_text("utf-8")


@pytest.mark.parametrize("name", ["template", *profile_ids()])
def test_the_schema_accepts_what_comes_along(name: str):
    text = TEMPLATE if name == "template" else text_of(name)
    schema = lean(mqtt_profile_schema() if re.search(r"kinds: \[mqtt\]", text) else profile_schema())
    assert faults(as_an_editor_reads(text), schema, schema) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("idempotent: true", "idempotant: true"),
        ("scan: slow", "scan: sometimes"),
        ("evidence: manual", "evidence: hearsay"),
        ("on_comm_loss: keeps_running", "on_comm_loss: explodes"),
        ("    verify: {within_ms: 2000, points: [{point: setpoint, equals: 0}]}\n", ""),
        ("addr: 20, type: uint16, equals: 0", "type: uint16, equals: 0"),
    ],
)
def test_the_schema_refuses_what_the_check_refuses(old: str, new: str):
    assert old in TEMPLATE
    schema = lean(profile_schema())
    assert faults(as_an_editor_reads(TEMPLATE.replace(old, new, 1)), schema, schema)


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]):
    assert main(["profile", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == profile_schema()
    assert main(["profile", "schema", "--mqtt"]) == 0
    assert json.loads(capsys.readouterr().out) == mqtt_profile_schema()
    assert not {"ge", "le", "gt", "lt"} & {*re.findall(r'"(\w+)":', json.dumps(profile_schema()))}
