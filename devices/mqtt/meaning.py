"""What messages say besides their form: topics are the unit's own, a command publishes what its proof expects.

Invariant: a command whose message says the opposite of its proof is refused here, not found out on the instrument.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, cast

from devices.mqtt import model
from devices.mqtt.payload import PLACE, as_text
from devices.profile_types import Check

_Path = tuple[str | int, ...]
_Find = Callable[[_Path, str, str], None]


def check_own(topic: str, path: _Path, find: _Find, own: Collection[str] = ("prefix",)) -> None:
    """Report a topic that every unit of the model would share; `own` are the places that make it one unit's."""
    if not {*PLACE.findall(topic)} & {*own}:
        places = " or ".join(f"{{{name}}}" for name in own)
        text = f"{topic} is the same for every unit: expected {places} in it"
        find(path, text, f"write {places} where the topic names the unit")


def check_told(
    name: str, source: model.CommandModel, points: Mapping[str, model.PointModel], checks: list[Check], find: _Find
) -> None:
    """Report a command whose message says another value of a point than its proof expects."""
    for check in checks:
        point = points[check.point]
        texts = _texts(point)
        if check.arg is not None or not texts:
            continue
        meant = {text for text, value in texts.items() if value in check.among}
        for key, said in _said(source.publish, {check.point, point.json_path.rpartition(".")[2]} - {""}):
            if said in texts and said not in meant:
                at = "json" if source.publish.json_text is not None else "text"
                expected = " or ".join(str(value).lower() for value in check.among)
                told = f"{key}: {said}" if key else said
                what = f"{name} publishes {told}, but its proof is {check.point} = {expected}"
                find(("commands", name, "publish", at), what, "one of the two is wrong: look at what the command means")


def _texts(point: model.PointModel) -> dict[str, bool | str]:
    """Return what a message may say of a point, and what it means; empty where it may say anything."""
    if point.type == "symbol":
        return dict(point.symbols)
    if point.type != "bool":
        return {}
    texts: dict[str, bool | str] = {"true": True, "false": False}
    if point.true is not None and point.false is not None:
        texts |= {point.true: True, point.false: False}
    return texts


def _said(message: model.MessageModel, keys: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the fixed values of a message that are about a point: its whole text, or what stands at one of `keys`."""
    if message.text is not None:
        yield "", message.text.strip()
    if message.json_text is not None:
        try:
            content = json.loads(message.json_text)
        except (ValueError, RecursionError):  # found elsewhere
            return
        yield from _leaves(content, keys)


def _leaves(part: Any, keys: Collection[str]) -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        for key, inner in cast("dict[str, Any]", part).items():
            text = as_text(inner)
            if key in keys and text is not None:
                yield key, text
            yield from _leaves(inner, keys)
    elif isinstance(part, list):
        for inner in cast("list[Any]", part):
            yield from _leaves(inner, keys)
