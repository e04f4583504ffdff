"""Equipment of parts over the real drivers: what one part does wrong stays its own; no dose outlives its controller."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.equipment.base import Source
from devices.equipment.climate import Climate
from devices.instrument import CommandRefused, DeviceState, OutcomeUnknown, Priority
from devices.reading import Quality, Reading
from recipes import shelf
from simulators.virtual import VirtualClock
from simulators.virtual import run as run_virtually
from tests.engine.labs import Lab, dosed, in_lab, lab, relay_site, started
from tilctl.cli.simulated import site_for
from tilctl.engine.binding import NotBindable, bind, check_devices


def test_the_climate_is_made_of_its_parts(tmp_path: Path):
    async def work(at: Lab) -> None:
        incubator = at.suite.instruments["incubator"]
        await incubator.command("set_temperature", {"value": 37.0})
        await incubator.command("set_co2", {"value": 5.0})
        readings = await incubator.read_all()
        assert readings["temperature_target"].value == pytest.approx(37.0)
        assert readings["co2_target"].value == pytest.approx(5.0, abs=0.01)
        assert at.plant.climate.targets == pytest.approx({"temperature": 37.0, "co2": 5.0}, abs=0.01)
        await at.clock.sleep(7200)
        readings = await incubator.read_all()
        assert readings["temperature"].value == pytest.approx(37.0, abs=0.4)
        assert readings["co2"].value == pytest.approx(5.0, abs=0.4)
        assert readings["humidity"].quality is Quality.BAD  # nobody measures it
        assert incubator.status.state is DeviceState.ONLINE

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_part_that_fails_makes_bad_what_comes_from_it_and_nothing_else(tmp_path: Path):
    async def work(at: Lab) -> None:
        incubator = at.suite.instruments["incubator"]
        await incubator.read_all()
        at.fault("co2_probe").silent = True
        readings = await incubator.read_all()
        assert readings["co2"].quality is Quality.BAD
        assert readings["temperature"].quality is Quality.GOOD
        assert at.suite.image.get("co2_probe.co2").quality is Quality.BAD
        for _ in range(3):
            await incubator.read_all()
        assert incubator.status.state is DeviceState.OFFLINE
        assert "co2_probe" in incubator.status.text
        assert "heater" not in incubator.status.text

    in_lab(tmp_path, "lab-eurotherm", work)


def test_what_a_part_reads_in_another_unit_is_never_relabelled(tmp_path: Path):
    async def work(at: Lab) -> None:
        incubator = at.suite.instruments["incubator"]
        assert isinstance(incubator, Climate)
        assert (await incubator.read_all())["co2"].quality is Quality.GOOD
        at_part = Source("co2_probe", "co2")
        incubator.latest[at_part] = Reading(22.0, "degC", Quality.GOOD, at.clock.monotonic())
        co2 = incubator.derive()["co2"]
        assert (co2.value, co2.unit, co2.quality) == (None, "%", Quality.BAD)

    in_lab(tmp_path, "lab-eurotherm", work)


def test_two_probes_that_disagree_give_no_temperature_and_one_alone_an_uncertain_one(tmp_path: Path):
    async def work(at: Lab) -> None:
        incubator = at.suite.instruments["incubator"]
        second = at.plant.devices["second_probe"]
        second.bend("temperature", lambda value: float(value) + 3.0)  # type: ignore[arg-type]
        first = (await incubator.read_all())["temperature"]
        assert first.quality is Quality.GOOD  # for a while they may
        await at.clock.sleep(301)
        readings = await incubator.read_all()
        assert (readings["temperature"].value, readings["temperature"].quality) == (None, Quality.BAD)
        assert readings["probes_disagree"].value is True
        second.bend("temperature")
        assert (await incubator.read_all())["temperature"].quality is Quality.GOOD
        at.fault("second_probe").silent = True
        assert (await incubator.read_all())["temperature"].quality is Quality.UNCERTAIN

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_stored_set_point_is_written_on_change_only_and_within_its_budget(tmp_path: Path):
    async def work(at: Lab) -> None:
        incubator, wear = at.suite.instruments["incubator"], at.suite.wear
        for _ in range(5):
            await incubator.command("set_temperature", {"value": 37.0})
        assert wear.total("heater", "set_temperature") == 1
        for i in range(99):
            await incubator.command("set_temperature", {"value": 30.0 + i / 20})
        with pytest.raises(CommandRefused, match="100 times today, its budget is 100 a day"):
            await incubator.command("set_temperature", {"value": 37.0})
        await at.clock.sleep(86_400)
        await incubator.command("set_temperature", {"value": 37.0})
        assert wear.total("heater", "set_temperature") == 101

    in_lab(tmp_path, "lab-eurotherm", work)

    async def later(at: Lab) -> None:
        assert at.suite.wear.total("heater", "set_temperature") == 101  # over a restart

    in_lab(tmp_path, "lab-eurotherm", later)


def test_a_heater_that_was_cut_off_heats_again_by_a_target_only(tmp_path: Path):
    async def work(at: Lab) -> None:
        incubator = at.suite.instruments["incubator"]
        await incubator.command("set_temperature", {"value": 37.0})
        await incubator.command("cut_heater", {}, Priority.STOP)
        assert at.plant.climate.heater_cut
        await incubator.read_all()
        await incubator.command("set_temperature", {"value": 36.0})
        assert not at.plant.climate.heater_cut

    for name in ("lab-eurotherm", "lab-watlow"):
        in_lab(tmp_path / name, name, work)


@pytest.mark.parametrize("name", ["lab-eurotherm", "lab-watlow"])
def test_a_dose_ends_by_itself(name: str, tmp_path: Path):
    async def work(at: Lab) -> None:
        _, destination = await dosed(at)
        pump = at.suite.instruments["pump_media"]
        readings = await pump.read("now")
        assert readings["running"].value is True
        assert readings["rate"].value == pytest.approx(100.0, rel=0.02)
        assert readings["total"].quality is Quality.BAD  # it has no totaliser, and says so
        assert not pump.profile.counter
        with pytest.raises(CommandRefused, match="turns already"):
            await pump.command("dispense", {"sequence": 5, "rate": 100.0, "volume": 10.0})
        for _ in range(35):  # as the scanner does while it is dosed: a module that nobody asks opens its relays
            await at.clock.sleep(1)
            readings = await pump.read("now")
        assert readings["running"].value is False
        assert at.plant.place(1) is destination
        assert destination.contents.volume == pytest.approx(50.0, rel=0.03)
        assert readings["dispensed"].value == pytest.approx(50.0, rel=0.03)
        assert readings["dispensed"].quality is Quality.UNCERTAIN

    in_lab(tmp_path, name, work)


@pytest.mark.parametrize(("name", "most"), [("lab-eurotherm", 52.0), ("lab-watlow", 40.0)])
def test_a_dose_does_not_outlive_its_controller_for_long(name: str, most: float, tmp_path: Path):
    """The drive that counts ends its dose; the relay of the other opens within the host watchdog of its module."""

    async def main(clock: VirtualClock) -> None:
        async with lab(clock, tmp_path, site_for(name)) as at:
            await dosed(at)
            await clock.sleep(6)
            await at.suite.close()  # as dead: nobody asks anything any more
            await clock.sleep(600)
            assert at.plant.place(1).contents.volume < most  # type: ignore[union-attr]
            assert at.plant.pumps["pump_media"].run is None

    run_virtually(main, seed=1, watchdog_s=30.0)


def test_a_stop_opens_the_relay_also_where_the_drive_is_silent(tmp_path: Path):
    async def work(at: Lab) -> None:
        await dosed(at, 200.0)
        at.fault("drive_media").silent = True
        with pytest.raises(OutcomeUnknown, match="drive_media"):
            await at.suite.instruments["pump_media"].command("stop", {}, Priority.STOP)
        assert at.plant.pumps["pump_media"].run is None

    in_lab(tmp_path, "lab-watlow", work)


def test_nothing_beyond_the_calibrated_curve_is_asked_of_a_pump(tmp_path: Path):
    async def work(at: Lab) -> None:
        heard: list[str] = []
        at.plant.devices["drive_media"].heard.append(lambda command, _: heard.append(command))
        pump = at.suite.instruments["pump_media"]
        for args in ({"rate": 201.0, "volume": 10.0}, {"rate": 0.0, "volume": 10.0}, {"rate": 50.0, "volume": 1e6}):
            with pytest.raises(CommandRefused, match="outside"):
                await pump.command("dispense", {"sequence": 1, **args})
        with pytest.raises(CommandRefused, match="outside"):
            await pump.command("dispense", {"rate": 50.0, "volume": 10.0})
        assert heard == []

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_manifold_of_relays_opens_one_way_at_a_time(tmp_path: Path):
    async def work(at: Lab) -> None:
        valves, unit = at.suite.instruments["valves_media"], at.plant.pumps["pump_media"]
        for way in ((7, 1), (8, 2), (7, 2)):
            await valves.command("select", {"suction": way[0], "delivery": way[1]})
            readings = await valves.read("now")
            assert (readings["suction"].value, readings["delivery"].value) == way
            assert (unit.suction, unit.delivery) == way
        at.plant.devices["relays_a"].do("set_output", {"channel": 1, "value": True})  # by hand: two stand open
        assert (await valves.read("now"))["suction"].quality is Quality.BAD
        await valves.command("close", {}, Priority.STOP)
        readings = await valves.read("now")
        assert (readings["suction"].value, readings["delivery"].value) == (0.0, 0.0)
        with pytest.raises(CommandRefused, match="is no port of it"):
            await valves.command("select", {"suction": 9, "delivery": 1})

    in_lab(tmp_path, "", work, relay_site(tmp_path))


def test_what_fails_to_close_keeps_no_other_clamp_from_closing(tmp_path: Path):
    async def work(at: Lab) -> None:
        valves = at.suite.instruments["valves_media"]
        await valves.command("select", {"suction": 7, "delivery": 1})
        at.fault("relays_a").silent = True
        with pytest.raises(OutcomeUnknown):
            await valves.command("close", {}, Priority.STOP)
        assert at.plant.pumps["pump_media"].delivery == 0

    in_lab(tmp_path, "", work, relay_site(tmp_path))


def test_equipment_closes_without_leaving_tasks(tmp_path: Path):
    async def work(at: Lab) -> None:
        await dosed(at, 100.0)

    in_lab(tmp_path, "lab-watlow", work)


def test_readings_are_corrected_by_their_calibrations(tmp_path: Path):
    text = site_for("lab-eurotherm").read_text("utf-8")
    made = "what: probe, points: [[37 degC, 37.5 degC]], made: 2026-01-05, by: ab, expires: 2099-12-31"
    offset = f"  probe_1: [{{{made}}}]\n"
    text = text.replace("calibrations:\n", "calibrations:\n" + offset)
    text = text.replace("bus: climate, unit: 2}", "bus: climate, unit: 2, corrections: {temperature: probe_1}}")
    (tmp_path / "site.yaml").write_text(text, "utf-8")

    async def work(at: Lab) -> None:
        at.plant.devices["second_probe"].bend("temperature", lambda _: 36.0)
        readings = await at.suite.instruments["incubator"].read_all()
        assert readings["second_temperature"].value == pytest.approx(36.5)

    in_lab(tmp_path, "", work, tmp_path / "site.yaml")


def test_no_batch_starts_on_a_calibration_that_has_expired(tmp_path: Path):
    text = site_for("lab-eurotherm").read_text("utf-8").replace("expires: 2099-12-31", "expires: 2026-01-05")
    (tmp_path / "site.yaml").write_text(text, "utf-8")

    async def work(at: Lab) -> None:
        for instrument in at.suite.instruments.values():
            await instrument.read_all()
        unit = at.suite.units["cell1"]
        bound = bind(shelf.read("shakedown", shelf.RECIPES), at.site, unit, [])
        check_devices(at.suite, unit, bound)  # it holds to the end of its last day
        await at.clock.sleep(86_400)
        for instrument in at.suite.instruments.values():
            await instrument.read_all()
        with pytest.raises(NotBindable, match="calibration tubing_media expired on 2026-01-05"):
            check_devices(at.suite, unit, bound)

    in_lab(tmp_path, "", work, tmp_path / "site.yaml")


def test_a_running_contact_that_bounces_ends_no_run(tmp_path: Path):
    async def work(at: Lab) -> None:
        freezer, io = at.suite.instruments["freezer"], at.plant.devices["freezer_io"]
        await started(at)
        assert (await freezer.read("now"))["program_state"].value == "running"
        io.bend("di_0", lambda _: False)
        for _ in range(4):
            await at.clock.sleep(2)
            assert (await freezer.read("now"))["program_state"].value == "running"
        io.bend("di_0")
        await at.clock.sleep(2)
        assert (await freezer.read("now"))["program_state"].value == "running"
        io.bend("di_0", lambda _: False)
        for _ in range(7):
            await at.clock.sleep(2)
            state = (await freezer.read("now"))["program_state"].value
        assert state == "complete"

    in_lab(tmp_path, "lab-eurotherm", work)


def test_what_an_earlier_life_started_is_never_said_not_to_have_been_heard(tmp_path: Path):
    async def first(at: Lab) -> None:
        await started(at)

    async def second(at: Lab) -> None:
        freezer = at.suite.instruments["freezer"]
        readings = await freezer.read_all()  # its running contact is open now, and nobody saw when it opened
        assert (readings["program_state"].value, readings["sequence"].value) == ("idle", 7.0)

    in_lab(tmp_path, "lab-eurotherm", first)
    in_lab(tmp_path, "lab-eurotherm", second)


def test_a_start_whose_running_contact_does_not_close_is_in_doubt(tmp_path: Path):
    async def work(at: Lab) -> None:
        freezer = at.suite.instruments["freezer"]
        await freezer.read_all()
        at.plant.devices["freezer_io"].bend("di_0", lambda _: False)
        with pytest.raises(OutcomeUnknown, match="the running contact did not close"):
            await started(at)
        readings = await freezer.read("now")
        assert (readings["program_state"].value, readings["sequence"].value) == ("idle", 7.0)

    in_lab(tmp_path, "lab-eurotherm", work)


def test_no_run_begins_in_a_cold_freezer(tmp_path: Path):
    async def work(at: Lab) -> None:
        at.plant.devices["freezer_chamber"].bend("temperature", lambda _: -60.0)
        assert (await at.suite.instruments["freezer"].read_all())["ready"].value is False
        with pytest.raises(CommandRefused, match="it is not ready"):
            await started(at)

    in_lab(tmp_path, "lab-eurotherm", work)
