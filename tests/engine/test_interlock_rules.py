"""Interlocks that latch until they are reset, permissives that forbid: over batches, restarts and every writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruled import ANNA, RULE, barred, bypass, one, orders, over, site, site_records, suite_of, tripped, waiting, warm
from story import UNIT, Story

from devices.instrument import CommandRefused, Priority
from simulators.faults.injector import Injector
from simulators.faults.model import Fault
from tilctl.guard.judged import JudgedInterlock, Phase
from tilctl.guard.kept_rules import kept_of
from tilctl.plant.outputs import Cause, OutputRefused, Protected
from tilctl.plant.unit import PINCH_AFTER

# --- latch and reset --------------------------------------------------------------------------------------------------


async def test_every_writer_is_refused_until_a_person_restarts(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="restart"))) as suite:
        await waiting(suite)
        await tripped(suite)
        await suite.until_state("held")
        await over(suite)
        assert one(suite).phase is Phase.LATCHED
        gate, runner = suite.plant_suite.gate, suite.runner
        cause = Cause("stay/climate", runner.batch.state.wanted["station.temperature"][1], "idempotent")
        with pytest.raises(OutputRefused, match=r"interlock too_hot is latched.*degC \(> 39 degC\); a restart"):
            await gate.act(runner.batch.name, "incubator", "set_temperature", {"value": 36.0}, cause=cause)
        await gate.act(runner.batch.name, "incubator", "set_co2", {"value": 6.0}, cause=cause)
        heard = orders(suite)
        with suite.plant.change() as t:
            suite.plant.climate.set_temperature(t, 20.0)  # a hand at the panel: a lost target is written again
        await suite.pass_time(1900.0)
        assert "set_temperature" not in heard, "but not on a latched interlock"
        assert "target-lost-station.temperature" not in suite.state.alarms
        await suite.do("restart")
        assert suite.runner.state == "running"
        assert heard.count("set_temperature") == 1
        assert one(suite).phase is Phase.NORMAL
        assert [e.by for e in suite.events("interlock_reset")] == ["test"]
        assert "interlock-too_hot" not in suite.state.alarms


async def test_what_is_latched_outlives_the_controller_and_is_let_go_by_a_person_only(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        await waiting(suite)
        await tripped(suite)
        await suite.until_state("held")
        assert (await suite.do("interlock-reset", {"interlock": "too_hot"}, expect=None)).code == "not_over"
        await over(suite)
        suite.kill()
        await suite.bury()
        with suite.plant.change() as t:
            suite.plant.climate.set_temperature(t, 20.0)  # its target is lost while nobody looks
        heard = orders(suite)
        await suite.boot()
        assert one(suite).phase is Phase.LATCHED
        assert "interlock-too_hot" in suite.state.alarms
        await suite.pass_time(60.0)
        assert (await suite.do("restart")).text == f"{UNIT} is held"
        assert "tilctl interlock reset too_hot" in suite.state.alarms["restart-failed"].text
        assert "interlock-too_hot" in suite.state.alarms
        assert "set_temperature" not in heard
        assert "target-lost-station.temperature" not in suite.state.alarms, "the interlock says it already"
        assert (await suite.do("interlock-reset", {"interlock": "too_hot"}, actor="anna (operator)")).text
        assert suite.events("interlock_reset")[-1].by == "anna (operator)"
        assert (await suite.do("interlock-reset", {"interlock": "too_hot"}, expect="already")).code == ""
        await suite.pass_time(10.0)
        assert "set_temperature" in heard, "hold is not off: the cells get their target back"
        assert (await suite.do("restart")).text == f"{UNIT} is running"


async def test_still_too_hot_at_the_next_start_it_is_cut_before_anything_is_written(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="restart"))) as suite:
        await waiting(suite)
        suite.kill()
        await suite.bury()
        with suite.plant.change() as t:  # it runs hot while nobody looks, and has lost its target
            suite.plant.climate.set_temperature(t, 41.0)
            suite.plant.climate.temperature.jump(t, 41.0)
        heard = orders(suite)
        await suite.boot()
        await suite.until_state("held")
        assert heard[0] == "cut_heater"
        assert "set_temperature" not in heard
        assert suite.plant.climate.heater_cut


async def test_one_that_resets_by_itself_gives_the_cells_their_target_back(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="auto"))) as suite:
        await waiting(suite)
        await tripped(suite)
        warm(suite, 38.8)
        await suite.pass_time(5.0)
        assert one(suite).phase is Phase.TRIPPED, "within its deadband it is not over"
        await suite.until_state("held")
        await over(suite)
        assert one(suite).phase is Phase.NORMAL
        await suite.when(lambda: not suite.plant.climate.heater_cut, "it is heated again", within=30.0)
        assert suite.runner.state == "held", "the batch waits for a person all the same"


async def heated_again(suite: Story) -> None:
    await suite.when(lambda: not suite.plant.climate.heater_cut, "it is heated again", within=60.0)


async def test_one_that_trips_again_and_again_gives_the_target_back_all_the_same(tmp_path: Path) -> None:
    """A heater that is off keeps its target: nothing that is read says that it has to be written."""
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="auto"))) as suite:
        await waiting(suite)
        for _ in range(3):
            await tripped(suite)
            await over(suite)
            await suite.pass_time(2.0)
        assert "target-lost-station.temperature" in suite.state.alarms, "until then it is told"
        await heated_again(suite)
        await suite.when(lambda: "target-lost-station.temperature" not in suite.state.alarms, "over", within=5.0)


async def test_one_that_is_over_at_the_next_start_gives_the_target_back(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="auto"))) as suite:
        await waiting(suite)
        await tripped(suite)
        await suite.until_state("held")
        suite.kill()
        await suite.bury()
        warm(suite, 37.0)
        await suite.boot()
        assert one(suite).phase is Phase.NORMAL
        await heated_again(suite)


@pytest.mark.parametrize("dies", [False, True])
async def test_a_target_that_was_refused_after_a_cut_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, dies: bool
) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="auto"))) as suite:
        suite.announced = {"target_not_written"}
        await waiting(suite)
        await tripped(suite)
        await suite.until_state("held")
        incubator = suite.plant_suite.instruments["incubator"]
        carried_out = incubator.command

        async def refuses(name: str, args: Any, priority: Priority = Priority.COMMAND) -> Any:
            if name == "set_temperature":
                raise CommandRefused("incubator", "somebody is at the panel", "")
            return await carried_out(name, args, priority)

        monkeypatch.setattr(incubator, "command", refuses)
        await over(suite)
        await suite.pass_time(8.0)
        assert suite.plant.climate.heater_cut
        assert "target-lost-station.temperature" in suite.state.alarms
        monkeypatch.undo()
        if dies:
            await suite.power_cut(5.0)
        await heated_again(suite)
        await suite.when(lambda: "target-lost-station.temperature" not in suite.state.alarms, "over", within=5.0)


DECLARED = {"station.temperature: keep": "station.temperature: 36 degC"}
"""A value of `culture_safe`: the same as the standing target of these batches."""


@pytest.mark.parametrize("held", [False, True])
async def test_one_that_resets_by_itself_gives_a_held_batch_its_declared_value_back(
    tmp_path: Path, *, held: bool
) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="auto"), **DECLARED)) as suite:
        await waiting(suite)
        if held:
            await suite.do("hold")
        await tripped(suite)
        await suite.until_state("held")
        await over(suite)
        await heated_again(suite)


async def test_what_is_cut_off_is_safe_whatever_it_did_not_take_before(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"), **DECLARED)) as suite:
        suite.announced = {"protective_write_failed"}
        await waiting(suite)
        with suite.plant.change() as t:
            suite.plant.climate.set_temperature(t, 30.0)  # a hand at the panel
        injector = Injector([suite.plant], suite.servers, suite.plant.clock)
        deaf = Fault("incubator", "not_applied")
        injector.apply(deaf)
        await suite.do("hold")
        await suite.when(lambda: "not-safe-incubator" in suite.state.alarms, "it is told", within=60.0)
        injector.end(deaf)
        await tripped(suite)
        await suite.when(lambda: "not-safe-incubator" not in suite.state.alarms, "it is off", within=60.0)
        assert suite.plant.climate.heater_cut
        await over(suite)
        await suite.do("interlock-reset", {"interlock": "too_hot"})
        await heated_again(suite)


async def test_one_that_reads_what_it_stops_acts_once_for_each_scan(tmp_path: Path) -> None:
    """What a stop reads back is no scan: two instruments would stop each other as fast as the buses carry it."""
    when, then = "station.temperature > 39 degC and pump_media.running == false", "{station: cut, pump_media: stop}"
    rule = f"both: {{when: {when}, then: {then}}}"
    async with suite_of(tmp_path, site(tmp_path, rule)) as suite:
        heard = orders(suite)
        for name in ("incubator", "pump_media"):
            suite.faults(name).delay_s = 0.02
        warm(suite, 39.6)
        await suite.pass_time(20.0)
        assert suite.plant.climate.heater_cut
        assert 15 < heard.count("cut_heater") < 30


async def test_without_a_batch_it_is_told_and_kept_by_the_site(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        await tripped(suite)
        await over(suite)
        await suite.settle()
        told = [each.event for each in site_records(suite) if getattr(each.event, "alarm", "") == "interlock-too_hot"]
        assert [(each.kind, each.unit) for each in told] == [("alarm_raised", UNIT)]
        assert kept_of(UNIT, site_records(suite))["too_hot"].since is not None
        await suite.power_cut()
        assert one(suite).phase is Phase.LATCHED
        await suite.start("still")
        await suite.until_state("held")
        assert "interlock too_hot is latched" in suite.state.held_for
        assert "interlock-too_hot" in suite.state.alarms, "the batch knows of it"
        await suite.do("interlock-reset", {"interlock": "too_hot"})
        await suite.do("restart")
        assert suite.runner.state == "running"


async def test_what_a_batch_leaves_latched_is_kept_by_the_site(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"))) as suite:
        await waiting(suite)
        await tripped(suite)
        await suite.until_state("held")
        await over(suite)
        await suite.do("abort")
        await suite.do("reset")
        await suite.power_cut()
        assert one(suite).phase is Phase.LATCHED
        assert "tilctl interlock reset too_hot" in barred(suite)


async def test_with_no_batch_to_restart_it_is_reset_when_it_is_over(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="restart"))) as suite:
        await tripped(suite)
        await over(suite)
        assert one(suite).phase is Phase.NORMAL
        await suite.settle()
        assert kept_of(UNIT, site_records(suite)) == {}


async def test_what_is_not_known_meanwhile_is_not_over(tmp_path: Path) -> None:
    rule = "too_hot: {when: station.temperature > 39 degC, off_delay: 60 s, then: {station: cut}, reset: auto}"
    async with suite_of(tmp_path, site(tmp_path, rule)) as suite:
        suite.announced = {"scan_failed"}
        await waiting(suite)
        await tripped(suite)
        warm(suite, 37.0)
        await suite.pass_time(5.0)
        blind = Fault("incubator", "nan", args={"point": "temperature"})
        injector = Injector([suite.plant], suite.servers, suite.plant.clock)
        injector.apply(blind)
        await suite.pass_time(120.0)
        injector.end(blind)
        await suite.pass_time(30.0)
        assert one(suite).phase is Phase.TRIPPED, "it was known to be over for 35 s, and not at a stretch"
        assert suite.plant.climate.heater_cut
        await suite.when(lambda: one(suite).phase is Phase.NORMAL, "it is over", within=40.0)


async def test_an_on_delay_and_an_off_delay_are_kept(tmp_path: Path) -> None:
    rule = "too_hot: {when: station.temperature > 39 degC, for: 10 s, off_delay: 60 s, then: {station: cut}}"
    async with suite_of(tmp_path, site(tmp_path, rule)) as suite:
        heard = orders(suite)
        warm(suite, 39.9)
        await suite.pass_time(8.0)
        assert heard == []
        await suite.when(lambda: heard, "it trips", within=5.0)
        warm(suite, 37.0)
        await suite.pass_time(55.0)
        assert one(suite).phase is Phase.TRIPPED
        await suite.when(lambda: one(suite).phase is Phase.NORMAL, "it is over", within=10.0)


async def test_what_is_not_known_does_not_clear(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="auto"))) as suite:
        await waiting(suite)
        await tripped(suite)
        await suite.until_state("held")
        injector = Injector([suite.plant], suite.servers, suite.plant.clock)
        injector.apply(Fault("incubator", "nan", args={"point": "temperature"}))
        warm(suite, 37.0)
        await suite.pass_time(120.0)
        assert one(suite).phase is Phase.TRIPPED
        assert (await suite.do("restart")).text == f"{UNIT} is held"
        assert "station.temperature is not known" in suite.state.alarms["restart-failed"].text
        injector.close()
        await suite.when(lambda: one(suite).phase is Phase.NORMAL, "it is seen to be over", within=10.0)


async def test_a_value_that_makes_safe_does_not_heat_what_is_cut_off(tmp_path: Path) -> None:
    path = site(
        tmp_path,
        RULE.format(limit=39, reset="restart"),
        **{"station.temperature: keep": "station.temperature: 36.5 degC"},
    )
    async with suite_of(tmp_path, path) as suite:
        await waiting(suite)
        heard = orders(suite)
        await tripped(suite)
        await suite.until_state("held")
        await suite.do("hold", expect="already")  # makes safe once more
        await over(suite)
        await suite.pass_time(60.0)
        assert "set_temperature" not in heard


async def test_in_safe_mode_it_acts_too(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="restart"))) as suite:
        suite.leaves_safe_mode = False
        await waiting(suite)
        suite.kill()
        await suite.bury()
        suite.kill_at(lambda record: record.event.kind == "outage")
        for _ in range(3):
            await suite.boot()
        suite.kill_at(None)
        await suite.boot()
        assert suite.controller.mode == "safe"
        warm(suite, 39.6)
        await suite.when(lambda: suite.plant.climate.heater_cut, "it is cut off", within=3.0)
        await suite.when(lambda: "interlock-too_hot" in suite.state.alarms, "it is told", within=3.0)


# --- several outputs --------------------------------------------------------------------------------------------------


async def test_an_overfull_vessel_stops_the_pumps_and_then_closes_the_valves(tmp_path: Path) -> None:
    rule = "overfull: {when: p1.mass > 150 g, then: {pumps: stop, valves: closed}, reset: manual}"
    async with suite_of(tmp_path, site(tmp_path, rule)) as suite:
        heard: list[str] = []
        for name in ("pump_media", "pump_cells", "pump_waste", "valves_media", "valves_waste"):
            suite.plant.devices[name].heard.append(lambda command, _args, name=name: heard.append(f"{name}.{command}"))
        await suite.start("small", first="200 mL")
        await suite.until_state("held")
        assert "p1.mass is 1" in suite.state.alarms["interlock-overfull"].text
        assert heard.index("pump_media.stop") < heard.index("valves_media.close")
        assert {"pump_cells.stop", "pump_waste.stop"} <= set(heard)
        assert "overfull is tripped" in barred(suite, "pump_media", "dispense")
        assert "overfull is tripped" in barred(suite, "valves_media", "select")
        assert barred(suite, "pump_media", "stop") == barred(suite) == ""
        assert (await suite.do("bypass", bypass("overfull"), expect="refused", **ANNA)).code == "bypass_never"


async def test_valves_wait_for_the_pump_of_their_line_but_not_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = "sour: {when: station.co2 > 20 %, then: {pump_media: stop, valves_media: close, valves_waste: close}}"
    async with suite_of(tmp_path, site(tmp_path, rule)) as suite:
        at: dict[str, float] = {}
        protect = suite.plant_suite.gate.protect

        async def slow(device: str, command: str, args: Any = None) -> Protected:
            at.setdefault(device, suite.loop.time())
            if device == "pump_media":
                await suite.pass_time(4.0)
            return await protect(device, command, args)

        monkeypatch.setattr(suite.plant_suite.gate, "protect", slow)
        with suite.plant.change() as t:
            suite.plant.climate.co2.jump(t, 25.0)
        await suite.when(lambda: len(at) == 3, "all of it acts", within=10.0)
        assert at["valves_waste"] == at["pump_media"], "no line waits for another"
        assert at["valves_media"] - at["pump_media"] == pytest.approx(PINCH_AFTER)


async def test_the_restart_of_a_batch_lets_no_alarm_go_that_has_a_cause(tmp_path: Path) -> None:
    rule = "sour: {when: station.co2 > 20 %, then: {pump_waste: stop}, reset: manual}"
    async with suite_of(tmp_path, site(tmp_path, rule)) as suite:
        await waiting(suite)
        with suite.plant.change() as t:
            suite.plant.climate.co2.jump(t, 25.0)
        await suite.until_state("held")
        await suite.when(lambda: one(suite, "sour").phase is Phase.LATCHED, "it is over", within=1800.0)
        await suite.do("restart")
        assert suite.runner.state == "running"
        assert "interlock-sour" in suite.state.alarms


# --- unknown is not false ---------------------------------------------------------------------------------------------


async def test_what_cannot_be_judged_for_30_s_is_an_alarm(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="restart"))) as suite:
        await waiting(suite)
        injector = Injector([suite.plant], suite.servers, suite.plant.clock)
        blind = Fault("incubator", "nan", args={"point": "temperature"})
        injector.apply(blind)
        await suite.pass_time(25.0)
        assert "interlock-too_hot-invalid" not in suite.state.alarms
        await suite.pass_time(10.0)
        assert "station.temperature is not known" in suite.state.alarms["interlock-too_hot-invalid"].text
        assert barred(suite) == ""
        injector.end(blind)
        await suite.when(lambda: "interlock-too_hot-invalid" not in suite.state.alarms, "it is over", within=10.0)
        injector.close()


# --- permissives ------------------------------------------------------------------------------------------------------


async def test_a_freezing_run_does_not_start_without_enough_ln2(suite: Story) -> None:
    suite.plant.freezer.ln2 = 30.0  # enough for the freezer itself to call itself ready
    await suite.start("cryo")
    await suite.until_state("held")
    assert "permissive ln2 does not permit it (there is not enough LN2 for a whole run)" in suite.state.held_for
    assert "it needs freezer1.ln2_level >= 40 %, and freezer1.ln2_level is 30 %" in suite.state.held_for
    assert not suite.plant.freezer.running
    assert suite.plant_suite.gate.barred("freezer", "abort") == suite.plant_suite.gate.barred("freezer", "load_program")
    suite.plant.freezer.ln2 = 80.0
    await suite.do("restart")
    await suite.when(lambda: suite.plant.freezer.running, "it runs")


async def test_what_is_not_known_is_no_permission(suite: Story) -> None:
    injector = Injector([suite.plant], suite.servers, suite.plant.clock)
    injector.apply(Fault("freezer", "nan", args={"point": "ln2_level"}))
    await suite.start("cryo")
    await suite.until_state("held")
    assert "freezer1.ln2_level is not known (bad)" in suite.state.held_for
    injector.close()


async def test_shared_equipment_is_made_safe_and_the_batch_that_has_it_is_held(tmp_path: Path) -> None:
    path = site(tmp_path)
    with path.open("a", encoding="utf-8") as file:
        file.write("interlocks:\n  lid: {when: freezer1.chamber_temperature > 12 degC, then: {freezer1: abort}}\n")
    async with suite_of(tmp_path, path) as suite:
        lid = suite.controller.interlocking.rules.of("site")["lid"]
        heard: list[str] = []
        suite.plant.devices["freezer"].heard.append(lambda command, _args: heard.append(command))
        await suite.start("cryo")
        await suite.when(lambda: suite.plant.freezer.running, "it runs")
        suite.plant.freezer.chamber = 20.0
        await suite.when(lambda: "abort" in heard, "it is aborted", within=60.0)
        await suite.until_state("held")
        assert "interlock-lid" in suite.state.alarms
        assert isinstance(lid, JudgedInterlock)
        await suite.settle()
        assert "lid" in kept_of("site", [r for r in site_records(suite) if getattr(r.event, "unit", "") == "site"])
        assert {row["unit"] for row in suite.controller.status(UNIT)["interlocks"]} == {"site"}


async def test_a_batch_that_is_given_equipment_is_told_what_stands_of_it(suite: Story) -> None:
    await suite.do("bypass", bypass("ln2"), **ANNA)
    suite.plant.freezer.ln2 = 30.0
    await suite.start("cryo")
    await suite.when(lambda: suite.plant.freezer.running, "it runs: the permissive is bypassed")
    assert suite.state.alarms["bypass-ln2"].priority == "medium"
    assert (await suite.do("interlock-reset", {"interlock": "ln2"}, expect="refused")).code == "unknown_interlock"
