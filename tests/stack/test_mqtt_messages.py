"""What comes over MQTT and what does not: answers lost, late and wrong, payloads of any kind, two at once, a flood."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mqtt_bench import BIO, PIOREACTOR, PLUG, SHELLY, Bench, bench_at, of, profile, until

from devices.document import parse
from devices.instrument import (
    CommandRefused,
    DeviceOffline,
    DeviceState,
    NotApplied,
    OutcomeUnknown,
    Priority,
)
from devices.mqtt.profile import compile_mqtt
from devices.reading import Quality, Reading, bad
from simulators.mqtt_models import SimulatedShelly, simulated
from tilctl.config import load_site
from tilctl.plant.suite import Suite

pytestmark = pytest.mark.debian("mosquitto", "mosquitto_sub", "mosquitto_pub")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_at(tmp_path) as made:
        yield made


# --- answers


async def test_an_answer_that_is_lost_is_made_up_for_by_what_it_shows(bench: Bench) -> None:
    plug, simulator = await bench.shelly()
    simulator.faults.ack_lost = True
    assert (await plug.command("set", {"value": True, "seconds": 60}))["on"].value is True
    assert simulator.commands == 1


async def test_a_late_answer_and_one_to_another_id_are_not_taken(bench: Bench) -> None:
    plug, simulator = await bench.shelly()
    simulator.faults.ack_delay_s = 1.0  # longer than it is waited for
    await plug.command("set", {"value": True, "seconds": 60})
    await until(lambda: plug.counts.unmatched == 1)
    simulator.faults.ack_delay_s = 0.0
    simulator.faults.wrong_id = True
    await plug.command("set", {"value": False, "seconds": 60})
    assert (plug.counts.unmatched, simulator.commands) == (2, 2)


async def test_one_that_does_not_obey_is_commanded_once_and_nobody_knows(bench: Bench) -> None:
    plug, simulator = await bench.shelly()
    simulator.faults.deaf = True
    async with bench.witness(f"{PLUG}/rpc") as seen:
        with pytest.raises(OutcomeUnknown, match=r"no answer within 0\.6 s") as caught:
            await plug.command("set", {"value": True, "seconds": 60})
        assert caught.value.readings["on"].value is False
        await bench.publish(f"{PLUG}/rpc", "end")
        await until(lambda: "end" in of(seen, f"{PLUG}/rpc"))
    assert len(of(seen, f"{PLUG}/rpc")) == 2  # ours, and the end


async def test_what_it_showed_before_the_command_is_no_proof(bench: Bench) -> None:
    plug, simulator = await bench.shelly()
    await plug.command("set", {"value": True, "seconds": 60})
    assert (await plug.read("status"))["dead_man"].value == 60.0
    simulator.faults.mute = True
    with pytest.raises(OutcomeUnknown, match="nothing came of status since"):
        await plug.command("set", {"value": True, "seconds": 60})


async def test_one_that_says_yes_and_does_nothing_is_found_out(bench: Bench) -> None:
    class Yes(SimulatedShelly):
        async def _call(self, method: object, given: object) -> dict[str, object]:
            return {"result": {"was_on": self.on}}

    plug, _ = await bench.shelly(kind=Yes)
    with pytest.raises(NotApplied, match="wanted on = True") as caught:
        await plug.command("set", {"value": True, "seconds": 60})
    assert caught.value.readings["on"].value is False


async def test_one_that_refuses_says_why_and_nothing_is_done(bench: Bench) -> None:
    text = (files("devices") / "profiles" / f"{SHELLY}.yaml").read_text("utf-8")
    wrong = compile_mqtt(
        parse(text.replace('"params": {"id": 0, "on": "{value}"', '"params": {"id": 1, "on": "{value}"'), "x")
    )
    plug, simulator = await bench.shelly(wrong)
    with pytest.raises(CommandRefused, match="Invalid argument"):
        await plug.command("set", {"value": True, "seconds": 60})
    assert simulator.commands == 0


@pytest.mark.parametrize(
    "args",
    [{"value": True}, {"value": True, "seconds": 0}, {"value": False, "seconds": 1e9}, {"value": 2, "seconds": 5},
     {"value": True, "seconds": float("nan")}, {"value": True, "seconds": 5, "hard": 1}, {"value": "on", "seconds": 5}],
)  # fmt: skip
async def test_what_is_outside_the_limits_is_never_sent(bench: Bench, args: dict[str, float]) -> None:
    plug, simulator = await bench.shelly()
    sent = bench.broker.statistics.published
    with pytest.raises(CommandRefused):
        await plug.command("set", args, Priority.STOP)
    assert (bench.broker.statistics.published, simulator.commands) == (sent, 0)


# --- what else comes


async def test_kept_garbage_is_bad_and_counted_and_the_live_value_replaces_it(bench: Bench) -> None:
    known = profile(PIOREACTOR)
    await bench.publish(f"{BIO}/temperature_automation/$state", "ready", "-r")
    await bench.publish(f"{BIO}/temperature_automation/temperature", b"\xff\xfe{", "-r")
    await bench.publish(f"{BIO}/stirring/measured_rpm", '{"measured_rpm": NaN}', "-r")
    await bench.publish(f"{BIO}/stirring/target_rpm", "1e999", "-r")
    bio = bench.instrument("bio", known, BIO)
    await bench.open()
    await until(lambda: bio.counts.messages == 4)
    readings = await bio.read_all()
    for point in ("temperature", "stirring", "stirring_target", "heater"):  # the last one was never heard
        assert (readings[point].value, readings[point].quality) == (None, Quality.BAD)
    assert readings["state"].value == "ready"
    assert bio.counts.malformed == 2
    await bench.publish(f"{BIO}/temperature_automation/temperature", '{"temperature": 36.9}')
    await until(lambda: bio.counts.messages == 5)
    reading = (await bio.read("temperature"))["temperature"]
    assert (reading.value, reading.quality) == (36.9, Quality.GOOD)


async def test_payloads_of_any_size_harm_their_own_value_only(bench: Bench) -> None:
    known = profile(PIOREACTOR)
    await bench.publish(f"{BIO}/temperature_automation/$state", "ready", "-r")
    bio = bench.instrument("bio", known, BIO)
    await bench.open()
    await until(lambda: bio.status.state is DeviceState.ONLINE)
    await bench.publish(f"{BIO}/temperature_automation/temperature", b'{"temperature": ' + b" " * 100_000 + b"37}")
    await until(lambda: bio.counts.malformed == 1)
    assert (await bio.read("temperature"))["temperature"].quality is Quality.BAD
    await bench.publish(f"{BIO}/temperature_automation/temperature", b'{"temperature": ' + b"[" * 60_000)
    await until(lambda: bio.counts.malformed == 2)
    assert (await bio.read("temperature"))["temperature"].quality is Quality.BAD
    before = bio.counts.messages
    await bench.publish(f"{BIO}/temperature_automation/temperature", b"x" * 1_000_000)  # kept from us by the broker
    await bench.publish(f"{BIO}/temperature_automation/temperature", '{"temperature": 37.0}')
    await until(lambda: bio.counts.messages == before + 1)
    assert (await bio.read("temperature"))["temperature"].value == 37.0
    assert (bench.broker.statistics.losses, bench.broker.statistics.broken) == (0, 0)


async def test_two_instruments_on_one_broker_do_not_harm_each_other(bench: Bench) -> None:
    known = profile(SHELLY)
    one, two = bench.instrument("one", known, "shelly-a"), bench.instrument("two", known, "shelly-b")
    a, b = await bench.simulate(known, "shelly-a"), await bench.simulate(known, "shelly-b")
    await bench.open()
    await until(lambda: all(each.status.state is DeviceState.ONLINE for each in (one, two)))
    await asyncio.gather(
        one.command("set", {"value": True, "seconds": 60}), two.command("set", {"value": True, "seconds": 30})
    )
    assert (a.duration, b.duration, one.counts.unmatched, two.counts.unmatched) == (60, 30, 0, 0)
    await a.close()
    await until(lambda: one.status.state is DeviceState.OFFLINE)
    assert (await two.read("status"))["on"].value is True
    await two.command("off", {})
    with pytest.raises(DeviceOffline):
        await one.read("status")


async def test_a_value_that_is_not_renewed_turns_stale_and_a_silent_instrument_goes_offline(bench: Bench) -> None:
    known = profile(SHELLY, every_ms="100", stale_ms="250")
    plug, simulator = await bench.shelly(known)
    assert (await plug.read("status"))["on"].quality is Quality.GOOD
    simulator.faults.mute = True
    await until(lambda: plug._inbox.readings("status")["on"].quality is Quality.STALE)

    async def scan() -> None:
        for _ in range(200):
            await plug.read("status")
            await asyncio.sleep(0.02)

    with pytest.raises(DeviceOffline, match="asked for and did not come"):
        await scan()
    assert plug.status.state is DeviceState.OFFLINE
    simulator.faults.mute = False
    await simulator._status()
    await until(lambda: plug.status.state is DeviceState.ONLINE)
    assert (await plug.read("status"))["on"].quality is Quality.GOOD


async def test_many_commands_at_once_wait_their_turn(bench: Bench) -> None:
    plug, simulator = await bench.shelly()
    simulator.faults.ack_delay_s = 0.02  # so that they would overtake each other
    done = await asyncio.gather(*(plug.command("set", {"value": True, "seconds": 10 + n}) for n in range(10)))
    assert [proof["dead_man"].value for proof in done] == [10.0 + n for n in range(10)]
    assert simulator.commands == 10


async def test_a_flood_of_messages_does_not_keep_a_command_from_its_instrument(bench: Bench) -> None:
    plug, simulator = await bench.shelly(profile(SHELLY, within_ms=3000))  # as shipped: the broker is busy too

    async def command() -> None:
        for _ in range(5):
            await plug.command("set", {"value": True, "seconds": 60})
            await plug.command("off", {}, Priority.STOP)

    lines = '{"mac": "x"}\n' * 3000
    await asyncio.gather(bench.publish(f"{PLUG}/announce", lines, "-l"), command())
    assert simulator.commands == 10
    await until(lambda: plug.counts.messages + bench.broker.dropped >= 3000, within=20)


async def test_a_plug_of_the_site_file_is_scanned_like_any_other(bench: Bench, tmp_path: Path) -> None:
    text = (files("tilctl.cli") / "demo-site.yaml").read_text("utf-8")
    text = text.replace("buses:\n", f'buses:\n  sockets: {{kind: mqtt, url: "{bench.mosquitto.url}"}}\n')
    text = text.replace("devices:\n", f"devices:\n  lamp: {{profile: {SHELLY}, bus: sockets, prefix: {PLUG}}}\n")
    text = re.sub(r"scan: .*", "scan: {active: 100 ms, quiet: 100 ms, idle: 100 ms}", text)
    (tmp_path / "site.yaml").write_text(text)
    simulator = await bench.simulate(profile(SHELLY), PLUG)
    suite = Suite(load_site(tmp_path / "site.yaml"), bench.clock)

    def on() -> Reading:
        return suite.image.get("lamp.on") or bad("", 0.0)

    await suite.open()
    try:
        await until(lambda: on().quality is Quality.GOOD)
        await suite.instruments["lamp"].command("set", {"value": True, "seconds": 60})
        await until(lambda: on().value is True)
        await simulator.close()
        await until(lambda: on().quality is Quality.BAD)
    finally:
        await suite.close()


def test_a_profile_without_a_simulation_says_so() -> None:
    text = (files("devices") / "profiles" / f"{SHELLY}.yaml").read_text("utf-8").replace("shelly_switch", "toaster")
    with pytest.raises(ValueError, match=r"sim\.model is toaster"):
        simulated(compile_mqtt(parse(text, "x")), "mqtt://127.0.0.1:1", None)  # type: ignore[arg-type]


async def test_a_site_cannot_bind_an_instrument_to_several_topics_at_once(bench: Bench) -> None:
    for wrong in ("a/+", "#", "/a", "a/", "$SYS", "{id}"):
        with pytest.raises(ValueError, match="no prefix of topics"):
            bench.instrument("plug", profile(SHELLY), wrong)
