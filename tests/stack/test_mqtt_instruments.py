"""Instruments over MQTT: driver and simulated devices through a real Mosquitto, its own clients as witnesses."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mqtt_bench import BIO, PIOREACTOR, PLUG, SHELLY, TASMOTA, Bench, Mosquitto, bench_at, of, profile, until

from devices.clock import SystemClock
from devices.instrument import (
    CommandRefused,
    DeviceOffline,
    DeviceState,
    OutcomeUnknown,
    Priority,
)
from devices.reading import Quality
from simulators.mqtt_models import SimulatedPioreactor, SimulatedShelly, SimulatedTasmota

pytestmark = pytest.mark.debian("mosquitto", "mosquitto_sub", "mosquitto_pub")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_at(tmp_path) as made:
        yield made


# --- the plain way


async def test_a_plug_is_switched_read_and_watched_by_its_own_timer(bench: Bench) -> None:
    plug, simulator = await bench.shelly()
    async with bench.witness(f"{PLUG}/#") as seen:
        proof = await plug.command("set", {"value": True, "seconds": 1})
        assert (proof["on"].value, proof["dead_man"].value) == (True, 1.0)
        readings = await plug.read_all()
        assert (readings["on"].value, readings["power"].value) == (True, 42.5)
        assert {reading.quality for reading in readings.values()} == {Quality.GOOD}
        assert plug.serial == simulator.mac
        await until(lambda: not simulator.on)  # nobody renewed it
        await until(lambda: plug._inbox.readings("status")["on"].value is False)
        await until(lambda: any('"output": false' in status for status in of(seen, f"{PLUG}/status/switch:0")))
    requests = [json.loads(text) for text in of(seen, f"{PLUG}/rpc")]
    assert [(r["method"], r["params"]) for r in requests] == [
        ("Switch.Set", {"id": 0, "on": True, "toggle_after": 1}),
    ]
    assert not any(kept for kept, topic, _ in seen if topic == f"{PLUG}/rpc")


async def test_renewing_keeps_it_on_and_off_sends_no_timer_that_would_switch_it_on_again(bench: Bench) -> None:
    plug, simulator = await bench.shelly()
    async with bench.witness(f"{PLUG}/rpc") as seen:
        await plug.command("set", {"value": True, "seconds": 60})
        await plug.command("set", {"value": True, "seconds": 30})
        assert simulator.duration == 30
        await plug.command("set", {"value": False, "seconds": 60})
        await plug.command("off", {}, Priority.STOP)
        await until(lambda: len(of(seen, f"{PLUG}/rpc")) == 4)
    assert (simulator.on, simulator.duration, simulator.commands) == (False, None, 4)
    sent = [json.loads(text)["params"] for text in of(seen, f"{PLUG}/rpc")]
    assert sent[2:] == [{"id": 0, "on": False}, {"id": 0, "on": False}]
    numbers = [json.loads(text)["id"] for text in of(seen, f"{PLUG}/rpc")]
    assert len({*numbers}) == 4


async def test_the_simulated_shelly_speaks_as_its_documents_say(bench: Bench) -> None:
    simulator = await bench.simulate(profile(SHELLY), PLUG)
    assert isinstance(simulator, SimulatedShelly)
    async with bench.witness("user_1/rpc", f"{PLUG}/status/switch:0", f"{PLUG}/online") as seen:
        call = {"id": 7, "src": "user_1", "method": "Switch.Set", "params": {"id": 0, "on": True, "toggle_after": 90}}
        await bench.publish(f"{PLUG}/rpc", json.dumps(call))
        await until(lambda: len(of(seen, "user_1/rpc")) == 1)
        assert json.loads(of(seen, "user_1/rpc")[0]) == {
            "id": 7,
            "src": PLUG,
            "dst": "user_1",
            "result": {"was_on": False},
        }
        status = json.loads(of(seen, f"{PLUG}/status/switch:0")[-1])
        assert (status["id"], status["output"], status["timer_duration"]) == (0, True, 90)
        await bench.publish(f"{PLUG}/rpc", json.dumps(call | {"method": "Switch.Explode"}))
        await until(lambda: len(of(seen, "user_1/rpc")) == 2)
        assert json.loads(of(seen, "user_1/rpc")[1])["error"]["code"] == 404
        await bench.publish(f"{PLUG}/rpc", "{")  # no frame: no answer, no end
        await bench.publish(f"{PLUG}/command/switch:0", "status_update")
        await until(lambda: len(of(seen, f"{PLUG}/status/switch:0")) == 2)
        await simulator.close()
        await until(lambda: of(seen, f"{PLUG}/online") == ["false"])
    assert await bench.hear(f"{PLUG}/online") == "false"  # kept for who comes later


async def test_a_tasmota_plug_gets_its_time_with_its_command(bench: Bench) -> None:
    known = profile(TASMOTA)
    plug = bench.instrument("plug", known, "tasmota_7")
    simulator = await bench.simulate(known, "tasmota_7")
    assert isinstance(simulator, SimulatedTasmota)
    await bench.open()
    async with bench.witness("cmnd/tasmota_7/#") as seen:
        proof = await plug.command("set", {"value": True, "seconds": 3600})
        assert (proof["on"].value, proof["dead_man"].value) == (True, 3600.0)
        assert (simulator.on, simulator.pulse) == (True, 3700)
        readings = await plug.read_all()
        assert (readings["power"].value, readings["address"].value) == (42.0, "192.0.2.7")
        assert plug.serial == simulator.mac
        come = plug.counts.messages
        await bench.publish("stat/tasmota_7/RESULT", '{"Dimmer": 5}')  # of no block
        await until(lambda: plug.counts.messages == come + 1)
        asked = bench.broker.statistics.published
        assert (await plug.read("pulse"))["dead_man"].value == 3600.0
        assert bench.broker.statistics.published == asked
        await plug.command("off", {}, Priority.STOP)
        assert not simulator.on
        await until(lambda: of(seen, "cmnd/tasmota_7/Power1") == ["OFF"])
    assert of(seen, "cmnd/tasmota_7/Backlog") == ["PulseTime1 3700; Power1 ON"]


async def test_the_simulated_tasmota_speaks_as_its_documents_say(bench: Bench) -> None:
    simulator = await bench.simulate(profile(TASMOTA), "tasmota_7")
    async with bench.witness("stat/tasmota_7/#", "tele/tasmota_7/#") as seen:
        await bench.publish("cmnd/tasmota_7/PulseTime1", "5")  # half a second
        await bench.publish("cmnd/tasmota_7/Power", "on")
        await until(lambda: of(seen, "stat/tasmota_7/POWER") == ["ON", "OFF"])
        await bench.publish("cmnd/tasmota_7/PulseTime1", "")
        await until(lambda: len(of(seen, "stat/tasmota_7/RESULT")) == 4)
        await simulator.close()
        await until(lambda: of(seen, "tele/tasmota_7/LWT") == ["Offline"])
    assert [json.loads(text) for text in of(seen, "stat/tasmota_7/RESULT")] == [
        {"PulseTime1": {"Set": 5, "Remaining": 0}},
        {"POWER": "ON"},
        {"POWER": "OFF"},
        {"PulseTime1": {"Set": 5, "Remaining": 0}},
    ]


async def test_a_pioreactor_is_set_and_its_kept_values_are_uncertain_until_it_says_them(bench: Bench) -> None:
    known = profile(PIOREACTOR)
    simulator = await bench.simulate(known, BIO)
    assert isinstance(simulator, SimulatedPioreactor)
    bio = bench.instrument("bio", known, BIO)
    await bench.open()
    await until(lambda: bio.status.state is DeviceState.ONLINE)
    await until(lambda: bio._inbox.heard("stirring") is not None)
    kept = await bio.read_all()
    assert {reading.quality for reading in kept.values()} == {Quality.UNCERTAIN}
    assert (kept["temperature"].value, kept["state"].value) == (30.0, "ready")
    await simulator.measure()
    await until(lambda: bio._inbox.numbers["stirring"] == 1)
    assert (await bio.read("temperature"))["temperature"].quality is Quality.GOOD
    proof = await bio.command("set_temperature", {"value": 37.5})
    assert proof["temperature_target"].value == simulator.target == 37.5
    await bio.command("set_stirring", {"value": 400})
    assert simulator.stirring == 400.0
    await bio.command("heater_off", {}, Priority.STOP)
    assert simulator.state == "sleeping"
    assert bio.status.state is DeviceState.ONLINE
    with pytest.raises(CommandRefused, match="outside 0 to 45 degC"):
        await bio.command("set_temperature", {"value": 46})


async def test_a_retained_command_is_an_old_one_and_nobody_carries_it_out(bench: Bench) -> None:
    await bench.publish(f"{BIO}/stirring/target_rpm/set", "1500", "-r")
    simulator = await bench.simulate(profile(PIOREACTOR), BIO)
    assert isinstance(simulator, SimulatedPioreactor)
    await bench.publish(f"{BIO}/stirring/target_rpm/set", "700")
    await until(lambda: simulator.stirring == 700.0)
    assert simulator.commands == 1


# --- it is not there


async def test_the_will_of_an_instrument_puts_it_offline_and_a_stop_is_tried_all_the_same(bench: Bench) -> None:
    plug, simulator = await bench.shelly()
    assert (await plug.read("status"))["on"].value is False
    await simulator.close()
    await until(lambda: plug.status.state is DeviceState.OFFLINE)
    assert "'false'" in plug.status.text
    asked = bench.broker.statistics.published
    plug._asked.clear()
    with pytest.raises(DeviceOffline, match="online topic"):
        await plug.read("status")
    assert bench.broker.statistics.published == asked  # one that is gone is not asked
    async with bench.witness(f"{PLUG}/rpc") as seen:
        with pytest.raises(DeviceOffline, match="online topic"):
            await plug.command("set", {"value": True, "seconds": 5})
        with pytest.raises(OutcomeUnknown, match="sent once"):
            await plug.command("off", {}, Priority.STOP)
        await until(lambda: len(seen) > 0)
    assert [json.loads(text)["params"]["on"] for text in of(seen, f"{PLUG}/rpc")] == [False]
    await simulator.start()
    await until(lambda: plug.status.state is DeviceState.ONLINE)
    assert (await plug.read("status"))["on"].quality is Quality.GOOD


async def test_what_was_said_before_it_was_lost_does_not_count_when_it_is_back(bench: Bench) -> None:
    known = profile(PIOREACTOR)
    bio = bench.instrument("bio", known, BIO)
    await bench.open()
    await bench.publish(f"{BIO}/temperature_automation/$state", "ready")
    await bench.publish(f"{BIO}/temperature_automation/temperature", '{"temperature": 37.0}')
    await until(lambda: bio.counts.messages == 2)
    assert (await bio.read("temperature"))["temperature"].value == 37.0
    for word in ("lost", "ready"):
        await bench.publish(f"{BIO}/temperature_automation/$state", word)
    await until(lambda: bio.counts.messages == 4)
    assert (await bio.read("temperature"))["temperature"].quality is Quality.BAD


async def test_one_that_was_never_heard_is_offline(bench: Bench) -> None:
    plug = bench.instrument("plug", profile(SHELLY), PLUG)
    bio = bench.instrument("bio", profile(PIOREACTOR), BIO)
    await bench.open()
    for each, block in ((plug, "status"), (bio, "temperature")):
        with pytest.raises(DeviceOffline, match="nothing was heard"):
            await each.read(block)
        assert each.status.state is DeviceState.OFFLINE
    with pytest.raises(DeviceOffline, match="not sent"):
        await plug.command("set", {"value": True, "seconds": 5})
    assert bench.broker.statistics.published == 1  # the question


async def test_without_a_broker_everything_fails_at_once_and_it_comes_back(bench: Bench) -> None:
    plug, _ = await bench.shelly()
    await plug.command("set", {"value": True, "seconds": 60})
    bench.mosquitto.stop()
    await until(lambda: plug.status.state is DeviceState.OFFLINE)
    began = time.monotonic()
    with pytest.raises(DeviceOffline, match="bench"):
        await plug.read("status")
    with pytest.raises(DeviceOffline, match="bench"):
        await plug.command("set", {"value": False, "seconds": 5})
    with pytest.raises(DeviceOffline, match="not sent"):
        await plug.command("off", {}, Priority.STOP)
    assert time.monotonic() - began < 0.2
    bench.mosquitto.start()
    await until(lambda: plug.status.state is DeviceState.ONLINE, within=15)
    reading = (await plug.read("status"))["on"]
    assert (reading.value, reading.quality) == (True, Quality.GOOD)
    await plug.command("off", {})
    assert bench.broker.statistics.losses == 1


async def test_a_broker_that_comes_after_us_is_found(bench: Bench) -> None:
    known = profile(SHELLY)
    plug = bench.instrument("plug", known, PLUG)
    bench.mosquitto.stop()
    bench.stack.push_async_callback(bench.broker.close)
    await bench.broker.open()
    await until(lambda: bench.broker.statistics.connect_failures > 0)
    with pytest.raises(DeviceOffline, match="bench at mqtt://127"):
        await plug.read("status")
    bench.mosquitto.start()
    await bench.simulate(known, PLUG)
    await until(lambda: plug.status.state is DeviceState.ONLINE, within=15)
    assert (await plug.read("status"))["on"].value is False


async def test_a_broker_that_stands_still_leaves_the_outcome_unknown(bench: Bench) -> None:
    plug, simulator = await bench.shelly()
    assert bench.mosquitto._process is not None
    bench.mosquitto._process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(OutcomeUnknown, match="did not acknowledge"):
            await plug.command("set", {"value": True, "seconds": 60})
        assert time.monotonic() - began < 8.0
    finally:
        bench.mosquitto._process.send_signal(signal.SIGCONT)
    await until(lambda: simulator.commands == 1)  # late, but once: that is why nobody may say that it failed
    assert bench.broker.statistics.losses == 0


async def test_what_the_access_list_forbids_is_refused_and_an_unread_topic_is_a_fault(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic read {PLUG}/#\ntopic write {PLUG}/status/#\ntopic write {PLUG}/online\ntopic ctl-plug/#\n")
    mosquitto = Mosquitto(tmp_path)
    mosquitto._configuration.write_text(mosquitto._configuration.read_text() + f"acl_file {rules}\n")
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(mosquitto)
        clock = SystemClock()
        stack.callback(clock.close)
        bench = Bench(mosquitto, clock, stack)
        plug, simulator = await bench.shelly()
        with pytest.raises(CommandRefused, match="refused a publish"):
            await plug.command("set", {"value": True, "seconds": 60})
        assert simulator.commands == 0
