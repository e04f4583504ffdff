"""The JSON Schema of recipes and freezing profiles, for editors: completion and first mistakes while typing.

An editor reads YAML with YAML's own guesses, so wherever the loader sees text the schema takes numbers and truths as
well.  What the schema lets pass, `tilctl recipe check` still judges: names, units, volumes.
"""

from __future__ import annotations

from typing import Any, cast

from recipes.fields import ID_PATTERN
from recipes.fragment import SECTIONS, Fragment, Include
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
    definitions["Include"] = _plain(Include.model_json_schema(by_alias=True))
    include = _object({"include": {"$ref": "#/$defs/Include"}})
    definitions["Step"] = {"oneOf": [*choices, include]}
    schema["properties"]["procedure"]["items"] = {"oneOf": [{"$ref": "#/$defs/Operation"}, include]}
    targets = definitions["Set"]["properties"].pop("targets")
    definitions["Set"]["required"] = []
    tag = r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"
    definitions["Set"]["patternProperties"] = {tag: targets["additionalProperties"]}
    definitions["Case"] = _case(definitions["Case"])
    return _titled(schema, "tilctl recipe")


def fragment_schema() -> Schema:
    """Return the JSON Schema (2020-12) of a fragment: parts of a recipe, in which `$name` may stand for an id."""
    recipe, header = recipe_schema(), _plain(Fragment.model_json_schema(by_alias=True))
    of_steps: Schema = recipe["$defs"]["Operation"]["properties"]["steps"]
    parts = {name: recipe["properties"][name] for name in (*SECTIONS, "procedure")}
    schema = header | {
        "properties": header["properties"] | parts | {"steps": of_steps},
        "$defs": recipe["$defs"] | header["$defs"],
    }
    return _titled(_with_names(schema), "tilctl recipe fragment")


def freezing_schema() -> Schema:
    """Return the JSON Schema (2020-12) of a freezing profile."""
    return _titled(_plain(FreezeProfile.model_json_schema(by_alias=True)), "tilctl freezing profile")


def _with_names(schema: Any) -> Any:
    """Let a parameter stand where an id does."""
    if isinstance(schema, list):
        return [_with_names(item) for item in cast("list[Any]", schema)]
    if isinstance(schema, dict):
        return {key: _with_names(item) for key, item in cast("Schema", schema).items()}
    return ID_PATTERN.replace("^", r"^\$?") if schema == ID_PATTERN else schema


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
