"""What stands in messages: payloads to readings, arguments to payloads, answers to a verdict.  Pure: no I/O, no clock.

Messages come from outside: nothing in one of them, however long, deep or wrong, raises more than PayloadError.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from devices.mqtt.types import ArgValue, Form, JsonPath, Message, PointPlace
from devices.profile_types import Point
from devices.reading import Quality, Reading, Value, bad, made

MOST_BYTES = 64 * 1024
"""Longest payload that is looked into."""
PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_MOST_TEXT = 1000  # characters of a text value
_Scalar = bool | int | float | str


class PayloadError(ValueError):
    """A payload from which nothing can be taken."""


class _Missing:
    """Nothing stands at a place; JSON's null counts as nothing."""


MISSING = _Missing()


class Payload:
    """One payload: its text, and what stands where in its JSON."""

    def __init__(self, data: bytes) -> None:
        """Take the bytes as they came; raises PayloadError for too many of them, or what is no UTF-8."""
        if len(data) > MOST_BYTES:
            raise PayloadError(f"{len(data)} bytes, more than {MOST_BYTES}")
        try:
            self.text = data.decode()
        except UnicodeDecodeError:
            raise PayloadError("not UTF-8") from None
        self._json: Any = MISSING

    def at(self, path: JsonPath) -> Any:
        """Return what stands at `path`, MISSING where nothing does; raises PayloadError when it is no JSON."""
        if not path:
            return self.text.strip()
        if self._json is MISSING:
            self._json = _parsed(self.text)
        here = self._json
        for step in path:
            if isinstance(here, dict) and isinstance(step, str):
                here = cast("dict[str, Any]", here).get(step)
            elif isinstance(here, list) and isinstance(step, int):
                items = cast("list[Any]", here)
                here = items[step] if step < len(items) else None
            else:
                return MISSING
        return MISSING if here is None else here


def _parsed(text: str) -> Any:
    def constant(name: str) -> Any:
        raise PayloadError(f"{name} is no JSON")

    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError:
        raise PayloadError("JSON nested too deep") from None
    except ValueError as error:
        raise PayloadError(f"no JSON: {error!s:.80}") from None


def path_of(text: str) -> JsonPath:
    """Return a dotted path as keys and list indexes."""
    return tuple(int(step) if step.isascii() and step.isdecimal() else step for step in text.split(".") if step)


def as_text(value: Any) -> str | None:
    """Return the text of a scalar as JSON writes it (a number without needless decimals); None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        try:
            return number_text(float(value))
        except OverflowError:
            return None
    return None


def number_text(value: float) -> str:
    """Return a finite number as it is sent: `60`, `0.25`."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def readings(payload: Payload, points: Sequence[tuple[Point, PointPlace]], at: float) -> dict[str, Reading]:
    """Return a reading of every point; what cannot be read is bad, and `at` is the monotonic time (s) of arrival."""
    found: dict[str, Reading] = {}
    for point, place in points:
        value = _value(payload, point, place)
        found[point.name] = bad(point.unit, at) if value is None else made(value, point.unit, Quality.GOOD, at)
    return found


def _value(payload: Payload, point: Point, place: PointPlace) -> Value:
    """Return the value of a point in its unit, None where it is bad."""
    try:
        raw = payload.at(place.path)
    except PayloadError:
        return None
    if raw is MISSING:
        return place.absent
    if place.form.kind == "number":
        return _number(raw, point)
    if place.form.kind == "bool":
        return _bool(raw, place.form, whole=not place.path)
    text = as_text(raw)
    if text is None or len(text) > _MOST_TEXT:
        return None
    if place.form.kind == "symbol":
        return (place.form.symbols or {}).get(text)
    return text or None


def _number(raw: Any, point: Point) -> float | None:
    # Invariant: what is not a plausible finite number is bad, never passed on
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return None
    try:
        value = float(raw) * point.scale + point.offset
    except (ValueError, OverflowError):
        return None
    low, high = point.range or (-math.inf, math.inf)
    return value if math.isfinite(value) and low <= value <= high else None


def _bool(raw: Any, form: Form, *, whole: bool) -> bool | None:
    if form.true is None:
        if whole:
            return {"true": True, "false": False}.get(raw)
        return raw if isinstance(raw, bool) else None
    text = as_text(raw)
    return True if text == form.true else False if text == form.false else None


def written(form: Form, value: ArgValue) -> _Scalar:
    """Return an argument, already within its limits, as it stands in a message."""
    if form.kind == "bool":
        if form.true is None or form.false is None:
            return bool(value)
        return form.true if value else form.false
    if form.kind == "symbol":
        return next(text for text, symbol in (form.symbols or {}).items() if symbol == value)
    if isinstance(value, str):
        return value
    raw = round((value - form.offset) / form.scale, 9)  # a scale must not add digits that nobody gave
    return int(raw) if raw == int(raw) else raw


def filled(text: str, places: Mapping[str, _Scalar]) -> str:
    """Return a topic or a text with its places filled."""
    return PLACE.sub(lambda found: as_text(places.get(found[1], found[0])) or "", text)


def rendered(message: Message, places: Mapping[str, _Scalar]) -> bytes:
    """Return the payload of a message; in JSON a place that has no value is left out, with its key."""
    if not message.is_json:
        return filled(message.text, places).encode()
    return json.dumps(_rendered(message.json, places), allow_nan=False, separators=(",", ":")).encode()


def _rendered(part: Any, places: Mapping[str, _Scalar]) -> Any:
    if isinstance(part, dict):
        items = cast("dict[str, Any]", part).items()
        return {key: value for key, inner in items if (value := _rendered(inner, places)) is not MISSING}
    if isinstance(part, list):
        return [v for inner in cast("list[Any]", part) if (v := _rendered(inner, places)) is not MISSING]
    if isinstance(part, str):
        found = PLACE.fullmatch(part)
        return places.get(found[1], MISSING) if found else filled(part, places)
    return part


def fits(payload: Payload, match: Sequence[tuple[JsonPath, str]], places: Mapping[str, _Scalar]) -> bool:
    """Tell whether an answer has the expected values; raises PayloadError when it is no JSON."""
    return all(as_text(payload.at(path)) == filled(text, places) for path, text in match)
