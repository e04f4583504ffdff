"""The JSON Schema of recipes and freezing profiles, for editors: completion and first mistakes while typing.

An editor reads YAML with YAML's own guesses, so wherever the loader sees text the schema takes numbers and truths as
well.  What the schema lets pass, `tilctl recipe check` still judges: names, units, volumes.
"""

from __future__ import annotations

from typing import Any, cast

from recipes.fields import ID_PATTERN
from recipes.freezing_model import FreezeProfile
from recipes.model import Recipe
from recipes.steps import VERBS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def recipe_schema() -> Schema:
    """Return the JSON Schema (2020-12) of a recipe file."""
    schema = _plain(Recipe.model_json_schema(by_alias=True))
    definitions: Schema = schema["$defs"]
    choices: list[Schema] = []
    for verb in VERBS:
        name = "".join(part.capitalize() for part in verb.split("_"))
        body: Schema = definitions[name]
        del body["properties"]["verb"]
        body["required"] = [key for key in body.get("required", []) if key not in ("id", "verb")]
        if not body["required"]:
            body["type"] = ["object", "null"]
        choices.append(
            {
                "type": "object",
                "description": body.get("description", ""),
                "properties": {verb: {"$ref": f"#/$defs/{name}"}},
                "required": [verb],
                "additionalProperties": False,
            }
        )
    definitions["Step"] = {"oneOf": choices}
    targets = definitions["Set"]["properties"].pop("targets")
    definitions["Set"]["required"] = []
    tag = r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"
    definitions["Set"]["patternProperties"] = {tag: targets["additionalProperties"]}
    definitions["Case"] = _case(definitions["Case"])
    return _titled(schema, "tilctl recipe")


def freezing_schema() -> Schema:
    """Return the JSON Schema (2020-12) of a freezing profile."""
    return _titled(_plain(FreezeProfile.model_json_schema(by_alias=True)), "tilctl freezing profile")


def _titled(schema: Schema, title: str) -> Schema:
    return {"$schema": DIALECT, **schema, "title": title}


def _case(case: Schema) -> Schema:
    steps: Schema = case["properties"]["steps"]
    when: Schema = case["properties"]["when"]
    return {
        "description": case.get("description", ""),
        "oneOf": [
            _object({"when": when, "steps": steps}),
            _object({"else": steps}),
        ],
    }


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _plain(schema: Any) -> Any:
    """Turn a schema of our models into one of the YAML that an editor sees."""
    if isinstance(schema, list):
        return [_plain(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    given = cast("Schema", schema)
    if "discriminator" in given:
        return {"$ref": "#/$defs/Step"}
    found: Schema = {key: _plain(value) for key, value in given.items() if key not in ("title", "default")}
    if isinstance(given.get("properties"), dict):  # there a title is a key like any other
        found["properties"] = {key: _plain(value) for key, value in given["properties"].items()}
    options = [item for item in found.get("anyOf", []) if item.get("type") != "null"]
    if len(options) == 1:
        return {**{key: value for key, value in found.items() if key != "anyOf"}, **options[0]}
    if found.get("type") == "integer":
        found["type"] = ["integer", "string"]
    elif found.get("type") == "string" and set(found.get("enum", ())) == {"true", "false"}:
        return {**found, "type": ["string", "boolean"], "enum": [True, False, "true", "false"]}
    elif found.get("type") == "string" and "enum" not in found and "const" not in found:
        found["type"] = ["string"] if found.get("pattern") == ID_PATTERN else ["string", "number", "boolean"]
    return found
