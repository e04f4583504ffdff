"""A set point counts as applied when the loop's own target shows it, and not because a register kept it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from devices.instrument import CommandRefused, Instrument, NotApplied
from devices.profile import load_profile
from devices.reading import Quality
from tests.engine.labs import Lab, in_lab
from tilctl.cli.simulated import site_for

WANTED = {"value": 37.0}


def part(at: Lab, equipment: str, name: str) -> Instrument:
    """Return the driver of a part."""
    whole: Any = at.suite.instruments[equipment]
    return whole.parts[name]


async def remote(at: Lab) -> Instrument:
    """Bring the heater to its remote set point, at 30 degC, with a time-out of 20 s."""
    heater = part(at, "incubator", "heater")
    await heater.command("set_remote_timeout", {"value": 20.0})
    await heater.command("load_remote", {"value": 30.0})
    await heater.command("use_remote", {})
    return heater


@pytest.mark.parametrize(
    ("point", "value", "match"),
    [
        ("auto_manual", "manual", "auto_manual is manual, it must be auto"),
        ("setpoint_source", "remote", "setpoint_source is remote, it must be local"),
        ("setpoint_selected", "sp2", "setpoint_selected is sp2, it must be sp1"),
        ("program_mode", "run", "program_mode is run, it must be reset"),
    ],
)
def test_a_stored_set_point_that_would_not_act_is_not_written(point: str, value: str, match: str, tmp_path: Path):
    async def work(at: Lab) -> None:
        incubator, heater = at.suite.instruments["incubator"], at.plant.devices["heater"]
        heater.bend(point, lambda _: value)
        with pytest.raises(CommandRefused, match=match):
            await incubator.command("set_temperature", WANTED)
        assert at.suite.wear.total("heater", "set_temperature") == 0
        heater.bend(point)
        await incubator.command("set_temperature", WANTED)
        assert at.plant.climate.targets["temperature"] == pytest.approx(37.0)

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_stored_set_point_that_the_loop_does_not_go_for_is_not_confirmed(tmp_path: Path):
    """Whatever the reason: it may be one that nobody thought of."""

    async def work(at: Lab) -> None:
        at.plant.devices["heater"].bend("target", lambda _: 25.0)
        with pytest.raises(NotApplied, match="target = 25"):
            await at.suite.instruments["incubator"].command("set_temperature", WANTED)

    in_lab(tmp_path, "lab-eurotherm", work)


@pytest.mark.parametrize(("limit", "bound", "wanted"), [("setpoint_high", 40.0, 44.0), ("setpoint_low", 20.0, 10.0)])
def test_a_set_point_beyond_the_limits_of_the_controller_is_refused(
    limit: str, bound: float, wanted: float, tmp_path: Path
):
    async def work(at: Lab) -> None:
        incubator, device = at.suite.instruments["incubator"], at.plant.devices["heater"]
        await incubator.command("set_temperature", WANTED)
        device.bend(limit, lambda _: bound)
        with pytest.raises(CommandRefused, match=f"{limit} is set up as {bound:g} degC"):
            await incubator.command("set_temperature", {"value": wanted})
        assert device.reads("setpoint") == pytest.approx(37.0)
        with pytest.raises(NotApplied, match=f"target = {bound:g}"):  # and by the driver alone it is seen to be cut off
            await part(at, "incubator", "heater").command("set_temperature", {"value": wanted})

    in_lab(tmp_path, "lab-eurotherm", work)


def test_the_target_of_a_climate_is_what_its_loop_goes_for(tmp_path: Path):
    """So a target that another set point has pushed aside is seen, alarmed and written again as any that is lost."""

    async def work(at: Lab) -> None:
        incubator, heater = at.suite.instruments["incubator"], at.plant.devices["heater"]
        await incubator.command("set_temperature", WANTED)
        heater.bend("setpoint_selected", lambda _: "sp2")
        heater.bend("setpoint_2", lambda _: 22.0)
        assert (await incubator.read_all())["temperature_target"].value == pytest.approx(22.0)
        heater.bend("setpoint_selected")
        heater.bend("auto_manual", lambda _: "manual")
        assert (await incubator.read_all())["temperature_target"].quality is Quality.BAD

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_remote_set_point_needs_its_time_out_and_acts_only_while_it_is_chosen(tmp_path: Path):
    async def work(at: Lab) -> None:
        await at.suite.instruments["incubator"].command("set_temperature", WANTED)
        heater = part(at, "incubator", "heater")
        for command in ("load_remote", "set_remote"):
            with pytest.raises(CommandRefused, match=r"remote_timeout is 0\.0, it must be anything but 0"):
                await heater.command(command, {"value": 30.0})
        await heater.command("set_remote_timeout", {"value": 20.0})
        with pytest.raises(CommandRefused, match="remote_status is 1"):
            await heater.command("use_remote", {})  # nothing came yet: it would go for whatever stands there
        with pytest.raises(CommandRefused, match="setpoint_source is local, it must be remote"):
            await heater.command("set_remote", {"value": 30.0})
        await remote(at)
        assert at.plant.climate.targets["temperature"] == pytest.approx(30.0)
        await heater.command("set_remote", {"value": 31.0})
        assert at.plant.climate.targets["temperature"] == pytest.approx(31.0)

    in_lab(tmp_path, "lab-eurotherm", work)


@pytest.mark.parametrize(("point", "value"), [("remote_enabled", False), ("auto_manual", "manual")])
def test_a_remote_set_point_that_would_not_act_is_not_written(point: str, value: bool | str, tmp_path: Path):
    async def work(at: Lab) -> None:
        heater = await remote(at)
        at.plant.devices["heater"].bend(point, lambda _: value)
        with pytest.raises(CommandRefused, match=point):
            await heater.command("set_remote", {"value": 44.0})
        with pytest.raises(CommandRefused, match=point):
            await heater.command("use_remote", {})

    in_lab(tmp_path, "lab-eurotherm", work)


@pytest.mark.parametrize(("point", "value"), [("target", 25.0), ("remote_status", 1)])
def test_a_remote_set_point_that_the_loop_does_not_go_for_is_not_confirmed(point: str, value: float, tmp_path: Path):
    async def work(at: Lab) -> None:
        heater = await remote(at)
        at.plant.devices["heater"].bend(point, lambda _: value)
        with pytest.raises(NotApplied, match=f"{point} = {value:g}"):
            await heater.command("set_remote", {"value": 40.0})

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_remote_set_point_that_nobody_renews_gives_way_to_the_stored_one(tmp_path: Path):
    async def work(at: Lab) -> None:
        await at.suite.instruments["incubator"].command("set_temperature", WANTED)
        heater = await remote(at)
        await at.clock.sleep(19.0)
        assert at.plant.climate.targets["temperature"] == pytest.approx(30.0)
        await at.clock.sleep(2.0)
        at.plant.time()
        assert at.plant.climate.targets["temperature"] == pytest.approx(37.0)
        assert (await heater.read("remote_status"))["remote_status"].value == 1.0

    in_lab(tmp_path, "lab-eurotherm", work)


def test_the_remote_set_point_of_a_3216_acts_only_while_it_is_chosen(tmp_path: Path):
    text = site_for("lab-eurotherm").read_text("utf-8")
    text = text.replace("heater: {profile: eurotherm-epc3016", "heater: {profile: eurotherm-3216p")
    text = re.sub(r"    interlocks:\n(?: {6,}.*\n)+", "", text)  # this one cannot be cut off
    (tmp_path / "site.yaml").write_text(text, "utf-8")

    async def work(at: Lab) -> None:
        await at.suite.instruments["incubator"].command("set_temperature", WANTED)
        heater, device = part(at, "incubator", "heater"), at.plant.devices["heater"]
        with pytest.raises(CommandRefused, match="setpoint_source is local, it must be remote"):
            await heater.command("set_remote", {"value": 30.0})
        await heater.command("load_remote", {"value": 30.0})
        assert at.plant.climate.targets["temperature"] == pytest.approx(37.0)
        await heater.command("use_remote", {})
        await heater.command("set_remote", {"value": 31.0})
        assert at.plant.climate.targets["temperature"] == pytest.approx(31.0)
        with pytest.raises(CommandRefused, match="setpoint_source is remote, it must be local"):
            await at.suite.instruments["incubator"].command("set_temperature", {"value": 36.0})
        device.bend("target", lambda _: 25.0)
        with pytest.raises(NotApplied, match="target = 25"):
            await heater.command("set_remote", {"value": 32.0})
        device.bend("target")
        device.bend("instrument_status", lambda _: 1 << 14)  # remote fail
        with pytest.raises(CommandRefused, match="remote_fail is True, it must be false"):
            await heater.command("set_remote", {"value": 32.0})

    in_lab(tmp_path, "", work, tmp_path / "site.yaml")


def test_the_standing_target_stays_in_what_outlives_this_program():
    for profile in ("eurotherm-epc3016", "eurotherm-3216p"):
        command = load_profile(profile).commands["set_temperature"]
        assert command.storage is not None, "SP1 is kept; the remote set point dies with its host"
        assert {check.point for check in command.verify.checks} == {"setpoint", "target"}
