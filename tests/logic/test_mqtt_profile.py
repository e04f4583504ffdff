"""Profiles of instruments over MQTT: what the product's say, what the check finds, and what any payload does."""

from __future__ import annotations

import json
import math
import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.document import DocumentError, parse
from devices.mqtt.arguments import ArgumentError, checked, places, wanted
from devices.mqtt.payload import MOST_BYTES, Payload, PayloadError, filled, path_of, readings, rendered
from devices.mqtt.profile import at_prefix, compile_mqtt
from devices.mqtt.types import MqttProfile
from devices.profile import load_profile
from devices.reading import Quality

IDS = ("shelly-gen2-plug", "tasmota-plug", "pioreactor")


def text_of(name: str) -> str:
    return (files("devices") / "profiles" / f"{name}.yaml").read_text("utf-8")


def compiled(name: str) -> MqttProfile:
    return compile_mqtt(parse(text_of(name), f"{name}.yaml"))


@pytest.mark.parametrize("name", IDS)
def test_a_profile_of_the_product_compiles_and_says_where_it_is_from(name: str) -> None:
    document = parse(text_of(name), f"{name}.yaml")
    known = load_profile(name)
    assert known == compile_mqtt(document)
    assert isinstance(known, MqttProfile)
    assert (known.id, known.kinds, known.watchdog) == (name, ("mqtt",), None)
    assert known.evidence in ("manual", "driver")
    assert len(known.sources) >= 2
    assert len(known.open_checks) >= 3
    assert {point.block for point in known.points.values()} <= {*known.blocks}
    safe = known.commands[known.safe_command]
    assert safe.args == ()
    assert safe.idempotent
    assert all(command.verify.checks for command in known.commands.values())  # every command is read back


def test_the_gateway_of_a_closed_device_tells_and_takes_nothing() -> None:
    known = compiled("closed-automaton")
    assert (dict(known.commands), known.safe_command, dict(known.actions)) == ({}, None, {})
    body = {"program_state": "running", "step": 3, "elapsed_s": 60, "temperature_c": 37.0, "alarm": False}
    points = [(point, known.places[name]) for name, point in known.points.items()]
    found = readings(Payload(json.dumps(body).encode()), points, 1.0)
    assert (found["program_state"].value, found["temperature"].value, found["alarm"].value) == ("running", 37.0, False)
    assert found["co2"].quality is Quality.BAD


@pytest.mark.parametrize("name", ["shelly-gen2-plug", "tasmota-plug"])
def test_a_plug_is_never_switched_on_without_its_timer(name: str) -> None:
    known = compiled(name)
    action = known.actions["set"]
    sent = checked(known.commands["set"], action, {"value": True, "seconds": 90.0})
    body = rendered(action.message, {"prefix": "x", "reply": "me", "id": 5, **places(action, sent)}).decode()
    assert re.search(r'"toggle_after":90\b|PulseTime1 190; Power1 ON', body)
    checks = wanted(known.commands["set"], sent)
    assert [(check.point, values) for check, values in checks] == [("on", (True,)), ("dead_man", (90.0,))]
    with pytest.raises(ArgumentError, match="seconds is missing"):
        checked(known.commands["set"], action, {"value": True})


def test_off_with_a_timer_would_switch_a_shelly_on_again() -> None:
    known = compiled("shelly-gen2-plug")
    action = known.actions["set"]
    sent = checked(known.commands["set"], action, {"value": False, "seconds": 90.0})
    frame = json.loads(rendered(action.message, {"reply": "me", "id": 5, **places(action, sent)}))
    assert frame == {"id": 5, "src": "me", "method": "Switch.Set", "params": {"id": 0, "on": False}}
    assert [check.point for check, _ in wanted(known.commands["set"], sent)] == ["on"]


WRONG = [
    ("kinds: [mqtt]", "kinds: [mqtt, tcp]", "kinds"),
    ('topic: "{prefix}/status/switch:0"', 'topic: "{prefix}/status/+"', "several topics"),
    ('topic: "{prefix}/status/switch:0"', 'topic: "{unit}/status"', "has no meaning here"),
    ('prefix: "shellyplusplugs-000000000000"', 'prefix: "{id}/x"', "beginning of topics"),
    ('lost: "false"', 'lost: "true"', "cannot mean that it is there"),
    ("{block: status, json_path: output", "{block: state, json_path: output", "there is no block state"),
    ("json_path: apower, type: number, unit: W", "json_path: apower, type: number, unit: kW", "canonical unit"),
    ("range: [-5000, 5000]", "range: [5000, -5000]", "low, high"),
    ("json_path: output, type: bool", "json_path: output, type: bool, unit: W", "no unit"),
    ("json_path: output, type: bool", 'json_path: output, type: bool, "true": "ON"', "both `true` and `false`"),
    ("json_path: ver, type: text", "json_path: ver, type: symbol", "symbols belong"),
    ('absent: "0"', "absent: none", "is no number"),
    ("seconds: {type: number, unit: s, min: 1, max: 86400,", "seconds: {type: number, unit: s,", "no limits"),
    ('only_when: {value: "true"}', 'only_when: {valve: "true"}', "always sent"),
    ('only_when: {value: "true"}', 'only_when: {value: "yes"}', "true or false"),
    ('"toggle_after": "{seconds}"', '"toggle_after": 5', "never sent"),
    ('"toggle_after": "{seconds}"', '"toggle_after": "{minutes}"', "{minutes} has no meaning"),
    ('"toggle_after": "{seconds}"}', '"toggle_after": {seconds}', "no JSON"),
    ('"id": "{id}", "src"', '"id": 1, "src"', "never sent"),
    ('match: {id: "{id}", dst: "{reply}"}', 'match: {dst: "{reply}"}', "without {id}"),
    ('topic: "{reply}/rpc"', 'topic: "{reply}/{id}"', "subscribed to once"),
    ('{point: "on", arg: value}', '{point: "off", arg: value}', "no point off"),
    ('{point: "on", arg: value}', '{point: "on", arg: what}', "no argument what"),
    ('{point: "on", equals: "false"}', '{point: "on", equals: "no"}', "true or false"),
    ('safe_command: "off"', 'safe_command: "out"', "no command out"),
    ('safe_command: "off"', "safe_command: set", "takes arguments"),
    ("role: plug", "role: balance", "must offer the point gross"),
    ("role: plug", "role: toaster", "no role toaster"),
    ("every_ms: 2000", "every_ms: 30000", "stale after 30000"),
    ("{block: device, json_path: mac}", "{block: devices, json_path: mac}", "no block devices"),
    (
        '"params": {"id": 0, "on": false}',
        '"params": {"id": 0, "on": true}',
        "publishes on: true, but its proof is on =",
    ),
    ('{point: "on", equals: "false"}', '{point: "on", equals: "true"}', "off of a plug is proven by on = true"),
    ('{point: "on", equals: "false"}', '{point: "on", in: ["true", "false"]}', "that shows nothing"),
    ('{point: "on", equals: "false"}', "{point: power, equals: inf}", "power is never inf"),
    ('{point: "on", equals: "false"}', "{point: power, equals: 5001}", "power never reads 5001"),
    ('{point: "on", arg: value}', "{point: power, arg: value}", "power reads in W, but the argument value is true or"),
    (
        "{point: dead_man, arg: seconds",
        "{point: power, arg: seconds",
        "power reads in W, but the argument seconds is in",
    ),
    ("arg: seconds, tolerance: 0.5", "arg: seconds, tolerance: 1e9", "is no tolerance for values of 1 to 86400"),
    ('{point: "on", arg: value}', '{point: "on", arg: value, tolerance: 1}', "on is no number"),
    ('{point: "on", equals: "false"}', '{point: "on", equals: "false", in: ["false"]}', "give one of `arg`"),
    ('topic: "{prefix}/rpc"', 'topic: "shellies/rpc"', "shellies/rpc is the same for every unit: expected {prefix}"),
    ('topic: "{prefix}/status/switch:0"', 'topic: "status/switch:0"', "status/switch:0 is the same for every unit"),
    ('topic: "{prefix}/command/switch:0"', 'topic: "command/switch:0"', "command/switch:0 is the same for every unit"),
    ('topic: "{prefix}/online"', 'topic: "online"', "online is the same for every unit"),
    ('topic: "{reply}/rpc"', 'topic: "answers"', "expected {prefix} or {reply}"),
    ("evidence: manual", "evidence: bench", "of open_checks 4 are left"),
    ('power: "42.5"', "power: much", "power cannot read 'much'"),
    ('power: "42.5"', 'watts: "42.5"', "there is no point watts"),
    ('absent: "0"', 'absent: "nan"', "is no number"),
    ("unit: W, range", "unit: W, scale: 1e-320, range", "is no scale of a register"),
    ("unit: s, min: 1", "unit: s, scale: 1e-320, min: 1", "is no scale of a register"),
]


def test_a_text_that_says_the_contrary_of_its_proof_is_refused() -> None:
    for name, old, new, found in (
        (
            "tasmota-plug",
            'Power1", text: "OFF"}',
            'Power1", text: "ON"}',
            "off publishes ON, but its proof is on = false",
        ),
        (
            "pioreactor",
            "text: sleeping}",
            "text: ready}",
            "heater_off publishes ready, but its proof is state = sleeping",
        ),
    ):
        text = text_of(name)
        assert text.count(old) == 1
        with pytest.raises(DocumentError) as caught:
            compile_mqtt(parse(text.replace(old, new), "p.yaml"))
        (hit,) = caught.value.diagnostics
        assert found in hit.message
        assert hit.line == text[: text.index(old)].count("\n") + 1


def test_what_is_absent_is_one_of_the_symbols() -> None:
    text = text_of("pioreactor").replace("{block: state, type: symbol, ", "{block: state, type: symbol, absent: gone, ")
    with pytest.raises(DocumentError, match="state has no symbol gone"):
        compile_mqtt(parse(text, "p.yaml"))


@pytest.mark.parametrize(("old", "new", "found"), WRONG)
def test_each_kind_of_mistake_is_found_with_its_line(old: str, new: str, found: str) -> None:
    text = text_of("shelly-gen2-plug")
    assert old in text
    with pytest.raises(DocumentError) as caught:
        compile_mqtt(parse(text.replace(old, new), "p.yaml"))
    hits = [finding for finding in caught.value.diagnostics if found in f"{finding.message} {finding.hint}"]
    assert hits, str(caught.value)
    assert all(1 < hit.line <= len(text.splitlines()) for hit in hits)


def test_a_watchdog_that_nobody_can_feed_is_refused() -> None:
    text = text_of("tasmota-plug").replace(
        "  on_comm_loss: keeps_running",
        "  watchdog: {command: set, timeout: 30 s, period: 5 s, action: stop, armed: dead_man, tripped: 'on'}\n"
        "  on_comm_loss: keeps_running",
    )
    with pytest.raises(DocumentError, match="not fed by a watchdog"):
        compile_mqtt(parse(text, "p.yaml"))
    silence = "  silence: {within: 10 s, safe: ['on']}\n  on_comm_loss: keeps_running"
    text = text_of("tasmota-plug").replace("  on_comm_loss: keeps_running", silence)
    with pytest.raises(DocumentError, match="it does not know a silence"):
        compile_mqtt(parse(text, "p.yaml"))


def test_a_command_that_nothing_would_show_is_refused() -> None:
    text = text_of("pioreactor").replace(
        "verify: {within_ms: 5000, points: [{point: stirring_target, arg: value, tolerance: 0.1}]}",
        "verify: {none: it says nothing}",
    )
    with pytest.raises(DocumentError, match="nothing would show whether set_stirring"):
        compile_mqtt(parse(text, "p.yaml"))


def test_a_part_of_a_text_cannot_be_left_out() -> None:
    text = text_of("tasmota-plug").replace("min: 12, max: 64800}", 'min: 12, max: 64800, only_when: {value: "true"}}')
    with pytest.raises(DocumentError, match="cannot be left out"):
        compile_mqtt(parse(text, "p.yaml"))


@pytest.mark.parametrize("prefix", ["", "a/#", "a/+/b", "/a", "a/", "$SYS/x", "{prefix}", "a\0b"])
def test_a_prefix_is_one_unit(prefix: str) -> None:
    with pytest.raises(ValueError, match="no prefix"):
        at_prefix(compiled("pioreactor"), prefix)


SHOWN = [
    ("shelly-gen2-plug", "status", '{"output": true, "apower": 12.5}', {"on": True, "power": 12.5, "dead_man": 0.0}),
    ("shelly-gen2-plug", "status", '{"output": 1, "apower": true, "timer_duration": "x"}', {"on": None, "power": None}),
    ("shelly-gen2-plug", "status", '{"output": "true", "apower": 1e999}', {"on": None, "power": None}),
    ("shelly-gen2-plug", "status", '{"output": null, "apower": 9999}', {"on": None, "power": None}),
    ("shelly-gen2-plug", "status", "[true]", {"on": None, "dead_man": 0.0}),
    ("tasmota-plug", "power", "ON", {"on": True}),
    ("tasmota-plug", "power", "OFF\n", {"on": False}),
    ("tasmota-plug", "power", "on", {"on": None}),
    ("tasmota-plug", "pulse", '{"PulseTime1":{"Set":112,"Remaining":0}}', {"dead_man": 12.0}),
    ("tasmota-plug", "pulse", '{"PulseTime1":{"Set":0,"Remaining":0}}', {"dead_man": None}),
    ("tasmota-plug", "pulse", '{"PulseTime1":{"Set":50,"Remaining":0}}', {"dead_man": None}),
    ("pioreactor", "target", "37.5", {"temperature_target": 37.5}),
    ("pioreactor", "target", "nan", {"temperature_target": None}),
    ("pioreactor", "target", "", {"temperature_target": None}),
    ("pioreactor", "target", "101", {"temperature_target": None}),
    ("pioreactor", "state", "sleeping", {"state": "sleeping"}),
    ("pioreactor", "state", "dancing", {"state": None}),
    ("pioreactor", "temperature", '{"temperature": 36.61, "timestamp": "x"}', {"temperature": 36.61}),
]


def shown(name: str, block: str, data: bytes) -> dict[str, tuple[object, Quality]]:
    known = compiled(name)
    points = [(point, known.places[point.name]) for point in known.blocks[block].points]
    return {key: (r.value, r.quality) for key, r in readings(Payload(data), points, 1.0).items()}


@pytest.mark.parametrize(("name", "block", "payload", "values"), SHOWN)
def test_a_payload_reads_as_its_profile_says_or_is_bad(
    name: str, block: str, payload: str, values: dict[str, object]
) -> None:
    found = shown(name, block, payload.encode())
    for point, value in values.items():
        assert found[point] == (value, Quality.BAD if value is None else Quality.GOOD)


@given(st.one_of(st.binary(max_size=300), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["output", "apower", "temperature", "tC", "timer_duration", "x"]), inner, max_size=4
    ), max_leaves=12,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_no_payload_does_more_than_make_its_values_bad(data: bytes) -> None:
    try:
        found = shown("shelly-gen2-plug", "status", data)
    except PayloadError:
        return
    for value, quality in found.values():
        assert (value is None) == (quality is Quality.BAD)
        assert not isinstance(value, float) or math.isfinite(value)  # never NaN, never infinite


@pytest.mark.parametrize("data", [b"\xff", b"x" * (MOST_BYTES + 1)])
def test_what_is_no_text_or_too_long_is_not_looked_into(data: bytes) -> None:
    with pytest.raises(PayloadError):
        Payload(data)


@pytest.mark.parametrize("data", ["{", "[" * 50_000, '{"a": NaN}', "9" * 5000 + "x", ""])
def test_what_is_no_json_says_so(data: str) -> None:
    with pytest.raises(PayloadError, match="JSON"):
        Payload(data.encode()).at(("a",))


def test_places_and_paths() -> None:
    assert path_of("a.0.b") == ("a", 0, "b")
    assert path_of("") == ()
    assert Payload(b'{"a": [{"b": 1}]}').at(("a", 0, "b")) == 1
    assert filled("{prefix}/x/{id}/{other}", {"prefix": "p", "id": 7}) == "p/x/7/{other}"
