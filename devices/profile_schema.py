"""The JSON Schema of profiles, for editors: completion and first mistakes while typing.

An editor reads YAML with YAML's own guesses, so wherever the loader sees text the schema takes numbers and truths as
well.  What the schema lets pass, `tilctl profile check` still judges: whether the parts fit each other.
"""

from __future__ import annotations

from typing import Any, cast

from devices.mqtt.model import MqttProfileModel
from devices.profile_model import ProfileModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
_NAMED = ("properties", "$defs", "patternProperties")  # there the keys are names
_ANY = ["string", "number", "boolean"]
_TAKES = {"integer": ["integer", "string"], "number": ["number", "string"], "boolean": ["boolean", "string"]}


def profile_schema() -> Schema:
    """Return the JSON Schema (2020-12) of a profile over Modbus."""
    schema = _titled(ProfileModel.model_json_schema(by_alias=True), "tilctl profile")
    schema["$defs"]["CommandModel"]["required"].append("verify")  # found by the check with all else that is missing
    return schema


def mqtt_profile_schema() -> Schema:
    """Return the JSON Schema (2020-12) of a profile over MQTT."""
    schema = _titled(MqttProfileModel.model_json_schema(by_alias=True), "tilctl profile over MQTT")
    online = schema["$defs"]["OnlineModel"]["properties"]
    online["payload"] = {"anyOf": [online["payload"], {"type": _ANY}]}  # one, or a list of them
    return schema


def _titled(schema: Schema, title: str) -> Schema:
    return {"$schema": DIALECT, **_plain(schema), "title": title}


def _plain(schema: Any) -> Any:
    """Turn a schema of our models into one of the YAML that an editor sees."""
    if isinstance(schema, list):
        return [_plain(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    given = cast("Schema", schema)
    found: Schema = {}
    for key, value in given.items():
        if key in _NAMED:
            found[key] = {name: _plain(inner) for name, inner in value.items()}
        elif key not in ("title", "default"):
            found[_BOUNDS.get(key, key)] = _plain(value)
    options = [item for item in found.get("anyOf", []) if item.get("type") != "null"]
    if len(options) == 1:
        return {**{key: value for key, value in found.items() if key != "anyOf"}, **options[0]}
    kind, constant = found.get("type"), str(found.get("const", ""))
    if constant.isdigit():
        return {"enum": [constant, int(constant)]}
    if kind in _TAKES and "enum" not in found:
        found["type"] = _TAKES[str(kind)]
    elif kind == "string" and not {"enum", "const", "pattern"} & found.keys():
        found["type"] = _ANY
    return found
