"""Interlocks on unlucky nights: cuts that are not taken, writes under way, records that die, rules that go."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruled import ANNA, RULE, barred, bypass, one, orders, over, site, suite_of, tripped, waiting, warm
from story import UNIT

from devices.instrument import Args, Priority
from devices.reading import Reading
from simulators.faults.injector import Injector
from simulators.faults.model import Fault
from tilctl.guard.judged import Phase


async def test_what_is_latched_is_cut_off_also_where_the_cut_was_not_taken_at_first(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        suite.announced = {"protective_write_failed"}
        await waiting(suite)
        injector = Injector([suite.plant], suite.servers, suite.plant.clock)
        deaf = Fault("incubator", "not_applied")
        injector.apply(deaf)
        await tripped(suite)
        await suite.when(lambda: "not-cut-off-too_hot" in suite.state.alarms, "it is told", within=60.0)
        await over(suite)
        assert one(suite).phase is Phase.LATCHED
        assert not suite.plant.climate.heater_cut
        injector.end(deaf)
        await suite.when(lambda: suite.plant.climate.heater_cut, "it is cut off", within=60.0)
        await suite.when(lambda: "not-cut-off-too_hot" not in suite.state.alarms, "it was taken", within=60.0)


async def test_what_was_latched_is_cut_off_again_by_the_next_life(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        await waiting(suite)
        await tripped(suite)
        await suite.until_state("held")
        await over(suite)
        suite.kill()
        await suite.bury()
        with suite.plant.change() as t:
            suite.plant.climate.set_temperature(t, 36.0)  # it came back from a power cut with its own set point
        await suite.boot()
        assert one(suite).phase is not Phase.NORMAL
        await suite.when(lambda: suite.plant.climate.heater_cut, "it is cut off", within=10.0)


async def test_a_latch_outlives_a_record_that_was_dead(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        suite.announced = {"record_failed", "event_not_on_record", "internal_error"}
        suite.check_ledger = False
        await waiting(suite)
        suite.clock.disk_full = True
        suite.runner.alarm("test", "low", "something to write")
        await suite.when(lambda: suite.runner.state == "held", "the disk is given up", within=60.0)
        await tripped(suite)
        await over(suite)
        suite.clock.disk_full = False
        await suite.do("restart")
        assert suite.runner.state == "held"
        assert "interlock-too_hot" in suite.state.alarms
        assert one(suite).phase is Phase.LATCHED
        await suite.power_cut()
        assert one(suite).phase is Phase.LATCHED
        assert barred(suite)
        (tripping,) = suite.events("interlock_tripped")
        assert tripping.interlock == "too_hot"


def lost(*_args: object) -> None:
    raise OSError(5, "Input/output error")


async def test_a_latch_outlives_a_record_that_stays_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        suite.announced = {"record_failed", "event_not_on_record", "internal_error"}
        suite.check_ledger = False
        await waiting(suite)
        monkeypatch.setattr(vars(suite.runner.batch.journal)["_file"], "write", lost)
        suite.runner.alarm("test", "low", "something to write")
        await suite.when(lambda: suite.runner.state == "held", "the record is given up", within=60.0)
        await tripped(suite)
        await over(suite)
        await suite.settle()  # the trip is on the site's record
        heard = orders(suite)
        suite.kill()
        await suite.bury()
        with suite.plant.change() as t:
            suite.plant.climate.set_temperature(t, 20.0)  # its target is lost while nobody looks
        await suite.boot()
        await suite.pass_time(30.0)
        assert one(suite).phase is Phase.LATCHED
        assert "set_temperature" not in heard


async def test_a_latch_outlives_a_disk_that_takes_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        suite.announced = {"record_failed", "event_not_on_record", "internal_error"}
        suite.check_ledger = False
        await waiting(suite)
        await suite.do("hold")  # on record
        for journal in (suite.runner.batch.journal, suite.controller.journal):
            monkeypatch.setattr(vars(journal)["_file"], "write", lost)
        await tripped(suite)
        await over(suite)
        await suite.pass_time(10.0)
        heard = orders(suite)
        suite.kill()
        await suite.bury()
        with suite.plant.change() as t:
            suite.plant.climate.set_temperature(t, 20.0)  # its target is lost while nobody looks
        await suite.boot()
        await suite.pass_time(30.0)
        assert one(suite).phase is Phase.LATCHED
        assert "set_temperature" not in heard
        assert suite.events("interlock_tripped")
        await suite.power_cut()
        assert one(suite).phase is Phase.LATCHED, "the mark is gone, the record says it"


async def test_an_alarm_ends_with_its_rule(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        await waiting(suite)
        await tripped(suite)
        await suite.until_state("held")
        await over(suite)
        suite.kill()
        await suite.bury()
        suite.edit_site(site(tmp_path))
        await suite.boot()
        await suite.do("abort")
        await suite.do("reset")
        assert not suite.controller.interlocking.rules.of(UNIT)
        active = [a["alarm"] for a in suite.controller.status(UNIT)["alarms"] if a["active"]]
        assert "interlock-too_hot" not in active, active


async def test_a_target_that_was_under_way_does_not_outlast_the_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        await waiting(suite)
        await suite.pass_time(10.0)
        incubator = suite.plant_suite.instruments["incubator"]
        command, asked = incubator.command, list[str]()

        async def late(name: str, args: Args, priority: Priority = Priority.COMMAND) -> dict[str, Reading]:
            if name == "set_temperature":
                asked.append(name)
                await suite.clock.sleep(3.0)  # others have the bus
            return await command(name, args, priority)

        monkeypatch.setattr(incubator, "command", late)
        heard = orders(suite)
        with suite.plant.change() as t:
            suite.plant.climate.set_temperature(t, 20.0)
        await suite.when(lambda: asked, "a lost target is written", within=60.0)
        await tripped(suite)
        await suite.when(lambda: suite.plant.climate.heater_cut, "it is cut off", within=2.0)
        await over(suite)
        await suite.when(lambda: "set_temperature" in heard, "it comes late", within=10.0)
        await suite.pass_time(5.0)
        assert suite.plant.climate.heater_cut


async def test_a_bypass_that_was_ended_in_a_batch_does_not_come_back_after_it(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        await suite.do("bypass", bypass(lasts="8 h"), **ANNA)
        await waiting(suite)
        await suite.do("unbypass", {"interlock": "too_hot"})
        await suite.do("abort")
        await suite.do("reset")
        await suite.power_cut()
        assert one(suite).bypass is None
        warm(suite, 41.0)
        await suite.when(lambda: suite.plant.climate.heater_cut, "it acts", within=20.0)


async def test_a_latch_that_was_reset_in_a_batch_does_not_come_back_after_it(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        await tripped(suite)
        await over(suite)
        await suite.start("still", wait="9 h")
        await suite.until_state("held")
        await suite.do("interlock-reset", {"interlock": "too_hot"})
        await suite.do("abort")
        await suite.do("reset")
        await suite.power_cut()
        assert one(suite).phase is Phase.NORMAL


async def test_a_bypass_ends_where_nobody_knows_how_long_the_outage_was(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="restart"))) as suite:
        suite.machine = "one"
        await suite.power_cut()
        await waiting(suite)
        await suite.do("bypass", bypass(lasts="1 h"), **ANNA)
        suite.kill()
        await suite.bury()
        await suite.pass_time(4 * 3600.0)
        suite.machine = "two"
        suite.time_server = False
        suite.wall_off -= 6 * 3600.0  # its battery is empty
        await suite.boot()
        assert one(suite).bypass is None
        assert "bypass-too_hot" not in suite.state.alarms
        warm(suite, 41.0)
        await suite.when(lambda: suite.plant.climate.heater_cut, "it acts", within=10.0)


@pytest.mark.parametrize("batch", [False, True], ids=["idle", "with_a_batch_since"])
async def test_a_clock_that_was_set_back_does_not_bring_back_a_bypass_that_was_ended(
    tmp_path: Path, batch: bool
) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        await suite.pass_time(7200.0)
        await suite.do("bypass", bypass(lasts="8 h"), **ANNA)
        suite.step_clock(-3600.0)
        await suite.pass_time(60.0)
        if batch:
            await waiting(suite)
        await suite.do("unbypass", {"interlock": "too_hot"})
        await suite.power_cut()
        assert one(suite).bypass is None


async def test_a_bypass_lasts_no_longer_for_a_clock_that_was_set_back(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        await suite.pass_time(7200.0)
        await suite.do("bypass", bypass(lasts="30 min"), **ANNA)
        suite.step_clock(-7000.0)
        await suite.pass_time(1900.0)
        assert one(suite).bypass is None


async def test_an_instrument_that_was_without_power_is_cut_off_again(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        suite.announced = {"scan_failed", "protective_write_failed"}
        await waiting(suite)
        await tripped(suite)
        await over(suite)
        injector = Injector([suite.plant], suite.servers, suite.plant.clock)
        injector.apply(Fault("incubator", "power_cut", for_s=20.0))
        await suite.when(lambda: not suite.plant.climate.heater_cut, "it has forgotten", within=60.0)
        await suite.when(lambda: suite.plant.climate.heater_cut, "it is cut off again", within=60.0)
