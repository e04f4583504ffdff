"""What a sheet tells of an instrument over MQTT: its topics, where values stand in messages, what commands publish."""

from __future__ import annotations

import json
from collections.abc import Sequence

from devices.mqtt.types import Action, Form, JsonPath, Message, MqttProfile, Source


def facts(profile: MqttProfile) -> list[tuple[str, str]]:
    """Return where it is, and how it is known that it is there."""
    online = profile.online
    told = [
        ("topics", f"begin with {profile.prefix} unless the site file says otherwise"),
        ("online", f"{online.topic} is {' or '.join(sorted(online.payloads))}; its will says {online.lost}"),
    ]
    if profile.serial_place is not None:
        block, path = profile.serial_place
        told.append(("serial number", f"{dotted(path)} of {block}"))
    return told


def tables(profile: MqttProfile) -> list[tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]]:
    """Return title, columns and rows of each table."""
    blocks = tuple((name, source.topic, _has(source), _ask(source)) for name, source in profile.topics.items())
    places = tuple(
        (name, dotted(place.path), _form(place.form), "" if place.absent is None else str(place.absent))
        for name, place in profile.places.items()
    )
    commands = tuple(
        (name, action.message.topic, _body(action.message), _ack(action)) for name, action in profile.actions.items()
    )
    return [
        ("Topics", ("block", "topic", "with", "asked for by"), blocks),
        ("Places in the messages", ("point", "stands at", "written as", "absent means"), places),
        ("Messages", ("command", "topic", "message", "answer"), commands),
    ]


def dotted(path: JsonPath) -> str:
    """Return a place as it is written in a profile."""
    return ".".join(map(str, path)) or "the whole payload"


def _has(source: Source) -> str:
    return "" if source.has is None else dotted(source.has)


def _ask(source: Source) -> str:
    if source.ask is None:
        return "nothing: it sends by itself"
    return f"{source.ask.message.topic}: {_body(source.ask.message)}, once older than {source.ask.every_s:g} s"


def _body(message: Message) -> str:
    return json.dumps(message.json) if message.is_json else message.text


def _form(form: Form) -> str:
    if form.symbols:
        return ", ".join(f"{text} = {symbol}" for text, symbol in form.symbols.items())
    if form.true is not None:
        return f"{form.true} | {form.false}"
    scaled = f"x {form.scale:g}" * (form.scale != 1.0) + f" {form.offset:+g}" * (form.offset != 0.0)
    return f"{form.kind} {scaled}".strip()


def _ack(action: Action) -> str:
    ack = action.ack
    if ack is None:
        return "none of its own"
    match: Sequence[str] = [f"{dotted(path)} = {value}" for path, value in ack.match]
    refusal = "" if ack.refusal is None else f"; {dotted(ack.refusal)} says no"
    return f"{ack.topic} with {', '.join(match)} within {ack.within_s:g} s{refusal}"
