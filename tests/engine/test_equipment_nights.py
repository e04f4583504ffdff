"""Equipment of parts on unlucky nights: orders that fail half-way, drives that do not stop, contacts left closed."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devices.equipment.base import Source
from devices.equipment.pump import STOP_AGAIN_MOST_S
from devices.instrument import CommandRefused, DeviceError, DeviceState, NotApplied, OutcomeUnknown, Priority
from devices.reading import Quality, Reading
from recipes import shelf
from recipes.freezing import program
from tests.engine.labs import Lab, dosed, filled, frozen, in_lab, programmer_site, relay_site, started
from tilctl.cli.simulated import site_for
from tilctl.engine.binding import NotBindable, bind, check_devices

DEVICE_FAILURE = 4  # the Modbus exception
DOSE = {"sequence": 4, "rate": 100.0, "volume": 50.0}


def test_a_drive_whose_dose_is_over_is_stopped_however_long_that_takes(tmp_path: Path):
    """Drive and relay answer and obey nothing when its time is over: it stands as soon as one of them hears again."""

    async def work(at: Lab) -> None:
        await dosed(at)
        drive, relays, pump = at.fault("drive_media"), at.fault("enables"), at.plant.pumps["pump_media"]
        drive.refuse = relays.refuse = DEVICE_FAILURE
        for _ in range(300):  # as the scanner does, so that the module hears its host
            await at.clock.sleep(1.0)
            with contextlib.suppress(DeviceError):
                await at.suite.instruments["pump_media"].read("now")
        assert pump.run is not None
        drive.refuse = 0
        await at.clock.sleep(2 * STOP_AGAIN_MOST_S)
        assert pump.run is None

    in_lab(tmp_path, "lab-watlow", work)


def test_a_stop_that_fails_is_tried_again_before_the_dose_is_over(tmp_path: Path):
    async def work(at: Lab) -> None:
        await dosed(at, 400.0)
        faults = [at.fault(name) for name in ("drive_media", "enables") if name in at.plant.devices]
        for fault in faults:
            fault.refuse = DEVICE_FAILURE
        with pytest.raises(OutcomeUnknown):
            await at.suite.instruments["pump_media"].command("stop", {}, Priority.STOP)
        for fault in faults:
            fault.refuse = 0
        await at.clock.sleep(2 * STOP_AGAIN_MOST_S)
        assert at.plant.pumps["pump_media"].run is None

    for name in ("lab-watlow", "lab-eurotherm"):
        in_lab(tmp_path / name, name, work)


def test_what_fails_before_the_start_is_a_dose_that_was_not_sent(tmp_path: Path):
    async def work(at: Lab) -> None:
        filled(at, 7, 500.0)
        pump = at.suite.instruments["pump_media"]
        await pump.read_all()
        at.fault("enables").silent = True
        with pytest.raises(CommandRefused, match="dispense was not sent"):
            await pump.command("dispense", DOSE)
        readings = await pump.read("now")
        assert readings["sequence"].value == 0.0
        assert readings["dispensed"].quality is Quality.BAD
        assert at.plant.pumps["pump_media"].run is None

    in_lab(tmp_path, "lab-watlow", work)


def test_a_look_between_order_and_start_ends_no_dose(tmp_path: Path):
    """The drive stands when it is looked at just before it starts; that is not the end of its dose."""

    async def work(at: Lab) -> None:
        pump: Any = at.suite.instruments["pump_media"]
        order = pump.order

        async def looked_at(part: str, command: str, args: Any, priority: Any = Priority.COMMAND) -> Any:
            if command == "start":
                await at.clock.sleep(0.2)
                await pump.read("now")  # the scan
                await at.clock.sleep(0.2)
            return await order(part, command, args, priority)

        pump.order = looked_at
        await dosed(at)
        await at.clock.sleep(10.0)
        moved = (await pump.read("now"))["dispensed"].value
        assert moved == pytest.approx(16.7, abs=1.5)

    for name in ("lab-watlow", "lab-eurotherm"):
        in_lab(tmp_path / name, name, work)


def test_a_drive_that_turns_again_has_not_ended_its_dose(tmp_path: Path):
    async def work(at: Lab) -> None:
        pump = at.suite.instruments["pump_media"]
        await dosed(at)
        await at.clock.sleep(5.0)
        drive = at.plant.devices["drive_media"]
        drive.bend("control", lambda _: [])
        await pump.read("now")
        drive.bend("control")
        await at.clock.sleep(5.0)
        assert (await pump.read("now"))["dispensed"].value == pytest.approx(16.7, abs=1.5)

    in_lab(tmp_path, "lab-watlow", work)


def test_a_driver_that_fails_by_itself_harms_its_own_part_only(tmp_path: Path):
    async def work(at: Lab) -> None:
        incubator: Any = at.suite.instruments["incubator"]
        await incubator.read_all()

        async def broken(*_: object) -> None:
            raise ValueError("a defect of a driver")

        incubator.parts["co2_probe"].read = broken
        readings = await incubator.read("now")
        assert readings["co2"].quality is Quality.BAD
        assert readings["temperature"].quality is Quality.GOOD

        pump: Any = at.suite.instruments["pump_media"]
        await dosed(at, 200.0)
        pump.parts["drive_media"].command = broken
        with pytest.raises(OutcomeUnknown, match="a defect of a driver"):
            await pump.command("stop", {}, Priority.STOP)
        assert at.plant.pumps["pump_media"].run is None  # by its relay

    in_lab(tmp_path, "lab-watlow", work)


def test_the_hold_contact_opens_before_the_next_run(tmp_path: Path):
    async def work(at: Lab) -> None:
        freezer: Any = at.suite.instruments["freezer"]
        await started(at)
        await freezer.command("abort", {}, Priority.STOP)
        await freezer.look("freezer_io")
        assert freezer.latest[Source("freezer_io", "do_1")].value is True
        await at.clock.sleep(5.0)  # before the host watchdog opens it
        assert (await freezer.read_all())["program_state"].value == "aborted"
        await started(at, 8)
        assert (await freezer.read_all())["program_state"].value == "running"

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_hold_that_was_refused_is_no_end_of_the_run(tmp_path: Path):
    async def work(at: Lab) -> None:
        freezer: Any = at.suite.instruments["freezer"]
        await started(at)
        await freezer.read_all()
        at.fault("freezer_io").refuse = 1  # illegal function
        with pytest.raises(CommandRefused):
            await freezer.command("abort", {}, Priority.STOP)
        at.fault("freezer_io").refuse = 0
        at.plant.devices["freezer_io"].bend("di_0", lambda _: False)  # it runs to its end
        for _ in range(12):
            await at.clock.sleep(1.0)
            readings = await freezer.read_all()
        assert readings["program_state"].value == "complete"

    in_lab(tmp_path, "lab-eurotherm", work)


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"freezer": 3}', '{"freezer": {"sequence": "x"}}'])
def test_a_lost_run_number_is_not_known_rather_than_nought(kept: str, tmp_path: Path):
    """A start whose number was lost may not be taken for one that was never heard: it would be sent again."""

    async def first(at: Lab) -> None:
        await started(at)

    async def second(at: Lab) -> None:
        freezer = at.suite.instruments["freezer"]
        readings = await freezer.read_all()
        assert readings["sequence"].quality is Quality.BAD
        assert readings["program_state"].quality is Quality.GOOD
        assert (freezer.status.state, "runs.json" in freezer.status.text) == (DeviceState.FAULT, True)

    in_lab(tmp_path, "lab-eurotherm", first)
    next(tmp_path.rglob("runs.json")).write_text(kept, "utf-8")
    in_lab(tmp_path, "lab-eurotherm", second)


def test_a_run_that_cannot_be_written_down_is_not_started(tmp_path: Path):
    async def work(at: Lab) -> None:
        (at.site.data / "runs.new").mkdir(parents=True)  # where the file is made before it takes its place
        with pytest.raises(CommandRefused, match="cannot be written down"):
            await started(at)
        assert not at.plant.freezer.running

    in_lab(tmp_path, "lab-eurotherm", work)


def test_no_batch_starts_on_a_calibration_of_days_to_come(tmp_path: Path):
    text = site_for("lab-eurotherm").read_text("utf-8").replace("made: 2026-01-05", "made: 2090-01-05")
    (tmp_path / "site.yaml").write_text(text, "utf-8")

    async def work(at: Lab) -> None:
        for instrument in at.suite.instruments.values():
            await instrument.read_all()
        unit = at.suite.units["cell1"]
        bound = bind(shelf.read("shakedown", shelf.RECIPES), at.site, unit, [])
        with pytest.raises(NotBindable, match="calibration tubing_media was made on 2090-01-05"):
            check_devices(at.suite, unit, bound)

    in_lab(tmp_path, "", work, tmp_path / "site.yaml")


SLOW_S = 0.1  # a part answers so late that a stop comes between two of its answers


async def _stop_during(at: Lab, name: str, order: tuple[str, Any], stop: str, after_s: float) -> BaseException | None:
    """Order something of equipment, stop it `after_s` later, proven; return what became of the order."""
    equipment = at.suite.instruments[name]
    under_way = asyncio.ensure_future(equipment.command(*order))
    await at.clock.sleep(after_s)
    assert not under_way.done()
    await equipment.command(stop, {}, Priority.STOP)
    await asyncio.wait((under_way,))
    await at.clock.sleep(1.0)
    return under_way.exception()


def _overtaken(at: Lab, name: str, command: str, stop: str) -> None:
    """Let `stop` overtake `command` of a part on its way to the bus."""
    equipment: Any = at.suite.instruments[name]
    order = equipment.order

    async def late(part: str, sent: str, args: Any, priority: Any = Priority.COMMAND) -> Any:
        if sent == command:
            equipment.order = order
            await equipment.command(stop, {}, Priority.STOP)
        return await order(part, sent, args, priority)

    equipment.order = late


@pytest.mark.parametrize("site", ["lab-watlow", "lab-eurotherm"])
@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.4])
def test_a_stop_outlasts_a_dose_on_its_way_to_its_start(site: str, after_s: float, tmp_path: Path):
    async def work(at: Lab) -> None:
        filled(at, 7, 500.0)
        filled(at, 1, 0.0)
        await at.suite.instruments["valves_media"].command("select", {"suction": 7, "delivery": 1})
        pump: Any = at.suite.instruments["pump_media"]
        await pump.read_all()
        slow = [at.fault(part) for part in ("drive_media", "enables") if part in at.plant.devices]
        for fault in slow:
            fault.delay_s = SLOW_S
        error = await _stop_during(at, "pump_media", ("dispense", DOSE), "stop", after_s)
        assert isinstance(error, CommandRefused)
        assert (await pump.read("now"))["sequence"].value == 0.0
        assert at.plant.pumps["pump_media"].run is None
        for fault in slow:
            fault.delay_s = 0.0
        await pump.command("dispense", DOSE)  # a new order is none that was stopped
        await at.clock.sleep(1.0)
        assert at.plant.pumps["pump_media"].run is not None

    in_lab(tmp_path, site, work)


def test_a_relay_closed_for_a_dose_that_was_stopped_is_opened_again(tmp_path: Path):
    """The stop opened it just before it was closed: the power is taken again, and no start follows."""

    async def work(at: Lab) -> None:
        pump: Any = at.suite.instruments["pump_media"]
        await pump.read_all()
        order = pump.order
        sent: list[tuple[str, Any]] = []

        async def late(part: str, command: str, args: Any, priority: Any = Priority.COMMAND) -> Any:
            if args.get("value") == 1.0 and command == "set_output":
                await pump.command("stop", {}, Priority.STOP)
            sent.append((command, args.get("value")))
            return await order(part, command, args, priority)

        pump.order = late
        with pytest.raises(CommandRefused, match="stopped meanwhile, nothing was started"):
            await pump.command("dispense", DOSE)
        assert sent[-2:] == [("set_output", 1.0), ("set_output", 0.0)]
        assert ("start", None) not in sent

    in_lab(tmp_path, "lab-watlow", work)


def test_a_start_that_a_stop_has_overtaken_is_stopped_once_more(tmp_path: Path):
    async def work(at: Lab) -> None:
        _overtaken(at, "pump_media", "start", "stop")
        await dosed(at)
        await at.clock.sleep(1.0)
        assert at.plant.pumps["pump_media"].run is None

    in_lab(tmp_path, "lab-eurotherm", work)  # no relay there takes its power


async def _off(at: Lab) -> bool:
    incubator: Any = at.suite.instruments["incubator"]
    readings: dict[str, Reading] = await incubator.parts["heater"].read_all()
    return readings["standby"].value is True if "standby" in readings else readings["control_mode"].value == "off"


@pytest.mark.parametrize("site", ["lab-watlow", "lab-eurotherm"])
@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.4])
def test_a_cut_outlasts_a_target_that_was_under_way(site: str, after_s: float, tmp_path: Path):
    async def work(at: Lab) -> None:
        incubator = at.suite.instruments["incubator"]
        await incubator.command("set_temperature", {"value": 30.0})
        at.fault("heater").delay_s = SLOW_S
        order = ("set_temperature", {"value": 37.0})
        error = await _stop_during(at, "incubator", order, "cut_heater", after_s)
        assert any(words in str(error) for words in ("cut off meanwhile", "a stop was, after it was given"))
        assert await _off(at)
        await incubator.command("set_temperature", {"value": 36.0})  # a new target is none that was cut off
        assert not await _off(at)

    in_lab(tmp_path, site, work)


def test_heat_that_a_cut_has_overtaken_is_cut_off_once_more(tmp_path: Path):
    async def work(at: Lab) -> None:
        _overtaken(at, "incubator", "leave_standby", "cut_heater")
        with pytest.raises(NotApplied, match="cut off meanwhile"):
            await at.suite.instruments["incubator"].command("set_temperature", {"value": 37.0})
        assert await _off(at)

    in_lab(tmp_path, "lab-watlow", work)


async def _loaded(at: Lab, name: str) -> Any:
    freezer: Any = at.suite.instruments["freezer"]
    await freezer.read_all()
    await freezer.command("load_program", {"rows": program(frozen(name))})
    return freezer


@pytest.mark.parametrize("after_s", [0.0, 0.4, 0.8, 1.1])
def test_an_abort_outlasts_a_run_on_its_way_to_its_start(after_s: float, tmp_path: Path):
    async def work(at: Lab) -> None:
        freezer = await _loaded(at, "S1-quick")
        at.fault("freezer_io").delay_s = SLOW_S
        error = await _stop_during(at, "freezer", ("start", {"sequence": 7.0}), "abort", after_s)
        assert "aborted meanwhile" in str(error)
        at.fault("freezer_io").delay_s = 0.0
        await at.clock.sleep(60.0)
        assert not at.plant.freezer.running
        assert (await freezer.read_all())["program_state"].value in ("idle", "aborted")

    in_lab(tmp_path, "lab-eurotherm", work)


@pytest.mark.parametrize(("channel", "value", "sent"), [(1, 0.0, []), (2, 1.0, [2])])
def test_a_contact_that_an_abort_has_overtaken_is_followed_by_the_hold(
    channel: int, value: float, sent: list[int], tmp_path: Path
):
    """The abort comes while the hold contact is opened, so no start follows; or with the start, which is held then."""

    async def work(at: Lab) -> None:
        freezer, closed = await _loaded(at, "S1-quick"), list[int]()
        order = freezer.order
        assert (freezer.run.slot, freezer._contacts.hold) == (2, 1)
        at.plant.devices["freezer_io"].heard.append(
            lambda _, args: closed.append(int(args["channel"])) if args["value"] else None
        )

        async def late(part: str, command: str, args: Any, priority: Any = Priority.COMMAND) -> Any:
            if (args["channel"], args["value"]) == (channel, value):
                freezer.order = order
                await freezer.command("abort", {}, Priority.STOP)
            return await order(part, command, args, priority)

        freezer.order = late
        with pytest.raises(OutcomeUnknown if sent else CommandRefused, match="aborted meanwhile"):
            await freezer.command("start", {"sequence": 7.0})
        assert closed == [1, *sent, 1]

    in_lab(tmp_path, "lab-eurotherm", work)


@pytest.mark.parametrize("command", ["select_program", "program_run"])
def test_a_programme_that_an_abort_has_overtaken_is_held_once_more(command: str, tmp_path: Path):
    async def work(at: Lab) -> None:
        freezer, sent = await _loaded(at, "S2-chamber"), list[str]()
        at.plant.devices["crf"].heard.append(lambda name, _: sent.append(name))
        _overtaken(at, "freezer", command, "abort")
        refused = command == "select_program"  # so that it was never run
        with pytest.raises(CommandRefused if refused else OutcomeUnknown, match="aborted meanwhile"):
            await freezer.command("start", {"sequence": 7.0})
        assert ("program_run" in sent, sent[-1]) == (not refused, "program_hold")
        await at.clock.sleep(60.0)
        assert not at.plant.freezer.running

    in_lab(tmp_path, "", work, programmer_site(tmp_path))


def test_an_abort_that_nothing_carries_out_leaves_the_start_in_doubt(tmp_path: Path):
    """The freezer has no hold contact: what was on its way runs, and nobody may say that nothing was started."""

    async def work(at: Lab) -> None:
        freezer = await _loaded(at, "S1-quick")
        freezer._contacts = replace(freezer._contacts, hold=None)
        starting = asyncio.create_task(freezer.command("start", {"sequence": 7.0}))
        await at.clock.sleep(0.2)
        with pytest.raises(CommandRefused, match="end the run at its panel"):
            await freezer.command("abort", {}, Priority.STOP)
        with pytest.raises(
            OutcomeUnknown, match=r"aborted meanwhile, and not ended: .*look at the freezer, it may run"
        ):
            await starting
        assert at.plant.freezer.running

    in_lab(tmp_path, "lab-eurotherm", work)


WAY = {"suction": 7, "delivery": 1}


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.4, 0.6])
def test_a_close_outlasts_a_way_that_was_under_way(after_s: float, tmp_path: Path):
    async def work(at: Lab) -> None:
        valves = at.suite.instruments["valves_media"]
        for part in ("relays_a", "relays_b"):
            at.fault(part).delay_s = SLOW_S
        error = await _stop_during(at, "valves_media", ("select", WAY), "close", after_s)
        assert isinstance(error, NotApplied)
        await at.clock.sleep(5.0)
        unit = at.plant.pumps["pump_media"]
        assert (unit.suction, unit.delivery) == (0, 0)
        await valves.command("select", WAY)  # a new way is none that was closed
        assert (unit.suction, unit.delivery) == (7, 1)

    in_lab(tmp_path, "", work, relay_site(tmp_path))


def test_a_clamp_that_a_close_has_overtaken_is_closed_once_more(tmp_path: Path):
    async def work(at: Lab) -> None:
        valves: Any = at.suite.instruments["valves_media"]
        order = valves.order

        async def late(part: str, sent: str, args: Any, priority: Any = Priority.COMMAND) -> Any:
            if args["value"]:
                valves.order = order
                await valves.command("close", {}, Priority.STOP)
            return await order(part, sent, args, priority)

        valves.order = late
        with pytest.raises(NotApplied, match="closed meanwhile and stay closed"):
            await valves.command("select", WAY)
        assert (at.plant.pumps["pump_media"].suction, at.plant.pumps["pump_media"].delivery) == (0, 0)

    in_lab(tmp_path, "", work, relay_site(tmp_path))
