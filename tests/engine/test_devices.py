"""Devices that are not well, over real batches: alarms, starts, the site's record, and what readings are worth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import story
from labs import Lab, in_lab
from story import DEMO_SITE, UNIT, Story, told

from devices.diagnosis import Ne107
from devices.instrument import DeviceState, DeviceStatus
from devices.reading import Quality, Reading
from tilctl.cli.simulated import site_for
from tilctl.cli.unit_view import status as as_text
from tilctl.engine.fitness import AN_HOUR, permissives
from tilctl.gateway.outbox import Outbox
from tilctl.gateway.projector import Projector
from tilctl.gateway.topics import Topics
from tilctl.guard.health import Health
from tilctl.journal.verify import read

PROBE = "what: probe, points: [[37 degC, 37 degC]], made: 2026-01-01, by: ab"


@pytest_asyncio.fixture
async def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Story]:
    """A suite whose incubator has a calibrated thermometer: it holds to the end of the first day (5 January)."""
    text = DEMO_SITE.read_text("utf-8")
    text = text.replace("bus: climate, unit: 1}", "bus: climate, unit: 1, corrections: {temperature: probe_1}}")
    text += f"calibrations:\n  probe_1:\n    - {{{PROBE}, expires: 2026-01-05}}\n"
    (tmp_path / "site.yaml").write_text(text, "utf-8")
    monkeypatch.setattr(story, "DEMO_SITE", tmp_path / "site.yaml")
    async with told(Story(tmp_path)) as suite:
        yield suite


def noted(suite: Story) -> list[tuple[str, str]]:
    records, verdict = read(suite.folder / "data" / "site.db")
    assert verdict.ok
    return [(r.event.device, r.event.status) for r in records if r.event.kind == "device_status"]


def of_devices(suite: Story) -> list[str]:
    return [event.alarm for event in suite.events("alarm_raised") if event.alarm.startswith("device-")]


def status(suite: Story, device: str) -> Ne107:
    return suite.controller.health.verdict(device).status


def reading(suite: Story, name: str) -> Reading:
    found = suite.plant_suite.image.get(name)
    assert found is not None
    return found


async def test_a_run_without_trouble_has_no_alarm_of_a_device_and_nothing_noted(suite: Story) -> None:
    assert (await suite.start("small")).status == "done"
    await suite.until_state("complete", within=7 * 86400.0)
    await suite.pass_time(4000.0)
    assert of_devices(suite) == []
    assert noted(suite) == []
    assert suite.events("exception_raised", code="ne107") == []
    assert suite.controller.status(UNIT)["devices"] == []
    assert {status(suite, name) for name in suite.controller.health} == {Ne107.GOOD}


@pytest.mark.parametrize("lab", ["lab-eurotherm", "lab-watlow"])
def test_the_instruments_of_a_lab_are_good(tmp_path: Path, lab: str) -> None:
    async def work(at: Lab) -> None:
        health = Health(at.suite, at.clock)
        assert {health.verdict(name).status for name in health} == {Ne107.UNKNOWN}, "nobody asked them yet"
        for broker in at.suite._wires.brokers.values():
            await broker.open()
        at.suite.scanner.start()
        await at.clock.sleep(3 * at.site.scan.idle)
        health.tick()
        assert {name: health.verdict(name).texts for name in health if health.verdict(name).reasons} == {}
        assert {name for name in health if health.verdict(name).unknown} == set()

    in_lab(tmp_path, lab, work)


def test_equipment_is_as_uncertain_as_the_part_that_it_is_read_from(tmp_path: Path) -> None:
    text = site_for("lab-eurotherm").read_text("utf-8")
    text = text.replace("calibrations:\n", f"calibrations:\n  probe_1: [{{{PROBE}, expires: 2026-01-05}}]\n")
    for unit in (1, 2):
        bare = f"bus: climate, unit: {unit}"
        text = text.replace(f"{bare}}}", f"{bare}, corrections: {{temperature: probe_1}}}}")
    (tmp_path / "site.yaml").write_text(text, "utf-8")

    async def work(at: Lab) -> None:
        health = Health(at.suite, at.clock)
        await at.clock.sleep(86_400)
        await at.suite.scanner.fresh("incubator")
        quality = {tag: at.suite.image.get(f"incubator.{tag}") for tag in ("second_temperature", "temperature", "co2")}
        assert [q and q.quality for q in quality.values()] == [Quality.UNCERTAIN, Quality.UNCERTAIN, Quality.GOOD]
        assert health.verdict("incubator").texts == [
            f"has {part}, which is not calibrated: calibration probe_1 expired on 2026-01-05"
            for part in ("heater", "second_probe")
        ]

    in_lab(tmp_path, "", work, tmp_path / "site.yaml")


async def test_what_is_not_known_is_not_good(suite: Story) -> None:
    driver: Any = suite.plant_suite.instruments["incubator"]
    driver.status = DeviceStatus(DeviceState.CHECKING)
    suite.controller.health.tick()
    assert status(suite, "incubator") is Ne107.GOOD, "it is checked each hour; so far that is no news"
    outcome = await suite.do("start", {"recipe": "still"}, expect="refused")
    assert outcome.text == "incubator is being checked: repeat the command in a moment"
    driver.status = DeviceStatus(DeviceState.ONLINE)
    refused, accepted = permissives(Health(suite.plant_suite, suite.clock), suite.plant_suite.units[UNIT], ["scales"])
    assert (refused["scales"], accepted) == ("scales was not asked yet: repeat the command in a moment", [])


async def test_a_device_that_is_dead_is_alarmed_once_and_noted_and_shown(suite: Story) -> None:
    await suite.start("guarded")
    await suite.until("stay/one", "acting")
    suite.faults("incubator").silent = True
    alarm = "device-incubator-failure"
    await suite.when(lambda: alarm in suite.state.alarms, "it is alarmed", within=600.0)
    raised = suite.state.alarms[alarm]
    assert raised.priority == "high"
    assert "see the reasons" in raised.help["action"], "what to do"
    (seen,) = suite.events("alarm_raised", alarm=alarm)
    assert "is checking" in seen.values["reason 1"] or "is offline" in seen.values["reason 1"]
    assert "  devices  incubator failure: is " in as_text(UNIT, suite.controller.status(UNIT))
    (shown,) = suite.controller.status(UNIT)["devices"]
    assert (shown["device"], shown["status"], shown["letter"]) == ("incubator", "failure", "F")
    await suite.when(lambda: noted(suite) == [("incubator", "failure")], "it is on the site's record", within=1200.0)
    suite.faults("incubator").silent = False
    await suite.when(lambda: alarm not in suite.state.alarms, "it is back", within=1200.0)
    await suite.when(lambda: len(noted(suite)) == 2, "that is noted too", within=1200.0)
    assert noted(suite) == [("incubator", "failure"), ("incubator", "good")]
    assert of_devices(suite) == [alarm], "one cause, one alarm"


async def test_a_reply_that_got_lost_is_no_alarm_and_not_noted(suite: Story) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    suite.faults("pump_media").silent = True
    pump = suite.plant_suite.instruments["pump_media"]
    await suite.when(lambda: pump.status.state is DeviceState.CHECKING, "one reply is lost", within=3700.0)
    assert status(suite, "pump_media") is Ne107.FAILURE, "at once: its values are bad"
    await suite.plant_suite.scanner.fresh("incubator")  # now the guard looks
    suite.faults("pump_media").silent = False
    await suite.plant_suite.scanner.fresh("pump_media")
    assert status(suite, "pump_media") is Ne107.GOOD
    await suite.pass_time(7300.0)
    assert of_devices(suite) == []
    assert noted(suite) == []


async def test_an_alarm_of_a_device_outlasts_a_restart_of_the_controller(suite: Story) -> None:
    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")
    suite.faults("scales").silent = True
    await suite.when(lambda: "device-scales-failure" in suite.state.alarms, "it is alarmed", within=7200.0)
    await suite.when(lambda: noted(suite) == [("scales", "failure")], "it is noted", within=3600.0)
    await suite.power_cut(seconds=5)
    await suite.pass_time(1800.0)
    assert "device-scales-failure" in suite.state.alarms
    assert of_devices(suite) == ["device-scales-failure"], "it is one alarm all the time"
    assert noted(suite) == [("scales", "failure")], "what is on record is known in the next life"


async def test_a_broken_sensor_is_a_failure_and_no_batch_starts_with_it(suite: Story) -> None:
    suite.plant.devices["incubator"].bend("co2", lambda _: None)
    await suite.when(lambda: status(suite, "incubator") is Ne107.FAILURE, "it is seen", within=600.0)
    assert reading(suite, "incubator.temperature").quality is Quality.GOOD, "its thermometer is not broken"
    outcome = await suite.do("start", {"recipe": "still"}, expect="refused")
    assert outcome.code == "not_ready"
    assert "incubator gives no value for co2 (failure): see to its sensor" in outcome.text
    suite.plant.devices["incubator"].bend("co2")
    await suite.when(lambda: status(suite, "incubator") is Ne107.GOOD, "it is mended", within=600.0)
    assert (await suite.start("still")).status == "done"


async def test_what_a_device_shows_of_itself_counts(suite: Story) -> None:
    with suite.plant.change():
        suite.plant.climate.heater_fault = True
    await suite.when(lambda: status(suite, "incubator") is Ne107.FAILURE, "it is seen", within=600.0)
    assert reading(suite, "incubator.temperature").quality is Quality.GOOD, "its readings are as the driver says"
    outcome = await suite.do("start", {"recipe": "still"}, expect="refused")
    assert "incubator shows heater_fault (failure)" in outcome.text


async def test_an_instrument_that_is_another_one_has_failed(suite: Story) -> None:
    await suite.start("still", wait="3 h")
    await suite.until("stay/one", "acting")
    suite.servers.servers["climate"].units[1] = suite.plant.devices["freezer"]
    suite.servers.servers["climate"].cut()
    await suite.when(lambda: "device-incubator-failure" in suite.state.alarms, "it is alarmed", within=900.0)
    assert "expected 20737" in suite.controller.health.verdict("incubator").texts[0]


async def test_what_is_out_of_specification_is_uncertain_starts_and_is_an_exception(suite: Story) -> None:
    with suite.plant.change():
        suite.plant.pumps["pump_media"].occluded = True
    await suite.plant_suite.scanner.fresh("pump_media")
    assert status(suite, "pump_media") is Ne107.OUT_OF_SPECIFICATION
    assert reading(suite, "pump_media.total").quality is Quality.UNCERTAIN
    assert reading(suite, "pump_media.running").quality is Quality.GOOD, "a flag is no signal of a sensor"
    await suite.start("still", wait="2 h")
    (exception,) = suite.events("exception_raised", code="ne107")
    assert exception.text == "pump_media shows occlusion (out of specification)"
    alarm = "device-pump_media-out-of-specification"
    await suite.when(lambda: alarm in suite.state.alarms, "it is alarmed", within=600.0)
    assert suite.state.alarms[alarm].priority == "medium"
    suite.faults("pump_media").silent = True
    await suite.when(lambda: "device-pump_media-failure" in suite.state.alarms, "it is dead too", within=3 * 3600.0)
    assert alarm in suite.state.alarms, "a lost connection makes nothing well"


async def test_a_calibration_that_expires_makes_readings_uncertain_and_guards_go_on(calibrated: Story) -> None:
    suite = calibrated
    assert status(suite, "incubator") is Ne107.MAINTENANCE, "it is due"
    await suite.start("guarded", wait="10 h")
    (exception,) = suite.events("exception_raised", code="ne107")
    assert "probe_1 expires on 2026-01-05" in exception.text
    alarm = "device-incubator-out-of-specification"
    await suite.when(lambda: alarm in suite.state.alarms, "it has expired", within=18 * 3600.0)
    assert suite.clock.now().date().isoformat() == "2026-01-06"
    await suite.plant_suite.scanner.fresh("incubator")
    assert reading(suite, "incubator.temperature").quality is Quality.UNCERTAIN
    assert reading(suite, "incubator.co2").quality is Quality.GOOD, "which was not calibrated"
    with suite.plant.change() as t:
        suite.plant.climate.temperature.aim(t, 41.0)
    await suite.until_state("held")
    assert "warm" in suite.state.alarms, "a guard acts on what is uncertain"
    await suite.do("stop")
    await suite.until_state("stopped")
    await suite.do("reset")
    outcome = await suite.do("start", {"recipe": "still"}, expect="refused")
    assert "calibration probe_1 expired on 2026-01-05" in outcome.text


async def test_it_is_published_as_it_is_and_again_when_it_changes(suite: Story) -> None:
    outbox, topics = Outbox(), Topics("til/v1/demo/suite1")
    outbox.connected()
    suite.controller.on_device.append(Projector(suite.controller, suite.clock, outbox, topics).on_device)
    suite.plant.devices["incubator"].bend("co2", lambda _: None)
    await suite.plant_suite.scanner.fresh("incubator")
    await suite.plant_suite.scanner.fresh("incubator")
    ((topic, payload),) = outbox.take_kept(100)
    assert topic == "til/v1/demo/suite1/dev/incubator"
    told = json.loads(payload)
    assert told.pop("since").startswith("2026-01-05T")
    assert told == {
        "device": "incubator", "status": "failure", "letter": "F", "reasons": ["gives no value for co2"],
        "comm": "online", "serial": suite.plant_suite.instruments["incubator"].serial, "profile": "sim-incubator",
        "role": "bioreactor", "calibration_due": "",
    }  # fmt: skip
    suite.plant.devices["incubator"].bend("co2")
    await suite.plant_suite.scanner.fresh("incubator")
    ((_, payload),) = outbox.take_kept(100)
    assert json.loads(payload)["status"] == "good"


def test_the_broker_lets_the_controller_say_it_and_everyone_read_it() -> None:
    acl = (Path(__file__).parents[2] / "deploy" / "mosquitto" / "tilctl.acl").read_text("utf-8").splitlines()
    everyone = acl.index(next(line for line in acl if line.startswith("# Every other client")))
    assert "topic write til/v1/+/+/dev/+" in acl[:everyone]
    assert "pattern read til/v1/+/+/dev/#" in acl[everyone:]


async def test_what_flickers_does_not_fill_the_record(suite: Story) -> None:
    incubator = suite.plant.devices["incubator"]
    for flick in range(3 * AN_HOUR):
        incubator.bend("co2", *([lambda _: None] if flick % 2 == 0 else []))
        await suite.plant_suite.scanner.fresh("incubator")
        await suite.pass_time(31.0)
        await suite.plant_suite.scanner.fresh("pump_media")
    await suite.settle()
    assert AN_HOUR <= len(noted(suite)) <= 2 * AN_HOUR, "two hours at most were touched"


async def test_devices_are_judged_while_the_record_is_dead(suite: Story) -> None:
    suite.announced |= {"record_failed", "event_not_on_record"}
    suite.clock.disk_full = True
    suite.plant.devices["incubator"].bend("co2", lambda _: None)
    await suite.when(lambda: status(suite, "incubator") is Ne107.FAILURE, "it is seen all the same", within=600.0)
    told: dict[str, Any] = {}
    suite.controller.on_device.append(lambda name, fields: told.update({name: fields}))
    suite.plant.devices["incubator"].bend("co2")
    await suite.when(lambda: "incubator" in told, "and told", within=600.0)
    assert (told["incubator"]["status"], told["incubator"]["comm"]) == ("good", "online")
    suite.clock.disk_full = False


async def test_a_watchdog_that_acted_wants_a_look_and_is_one_alarm(suite: Story) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    with suite.plant.change():
        suite.plant.pumps["pump_waste"].tripped = True
    await suite.when(lambda: "watchdog-pump_waste" in suite.state.alarms, "it is alarmed", within=1200.0)
    assert status(suite, "pump_waste") is Ne107.MAINTENANCE
    await suite.pass_time(600.0)
    assert of_devices(suite) == [], "one cause, one alarm"


async def test_what_is_not_read_any_more_has_failed(suite: Story) -> None:
    (scan,) = [task for task in asyncio.all_tasks() if task.get_name() == "scan:incubator"]
    scan.cancel()
    await suite.pass_time(3700.0)  # a sign of life later; here they are an hour apart
    verdict = suite.controller.health.verdict("incubator")
    assert verdict.status is Ne107.FAILURE
    assert "gives an old value for co2" in verdict.texts[0]
    outcome = await suite.do("start", {"recipe": "still"}, expect="refused")
    assert "incubator gives an old value" in outcome.text


async def test_a_judgement_that_breaks_keeps_no_reading_back(suite: Story) -> None:
    suite.announced |= {"watcher_failed"}

    def broken(device: str, readings: Any) -> Any:
        raise ZeroDivisionError

    suite.plant_suite.image.before = broken
    before = reading(suite, "incubator.temperature").at
    await suite.plant_suite.scanner.fresh("incubator")
    assert reading(suite, "incubator.temperature").at > before or suite.loop.time() == before
    await asyncio.sleep(0)
