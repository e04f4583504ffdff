"""Bypasses of two persons; interlocks that are frozen into a batch, and one that breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruled import ANNA, RULE, barred, bypass, one, orders, over, site, suite_of, tripped, waiting, warm
from story import UNIT, Story

from tilctl.guard.judged import Phase
from tilctl.journal.store import JournalError

# --- bypass -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said", "code"),
    [
        (bypass("too_cold"), ANNA, "unknown_interlock"),
        (bypass(), ANNA | {"reason": ""}, "no_reason"),
        (bypass(), {"reason": "r"}, "no_actor"),
        (bypass(), ANNA | {"role": "operator"}, "role_not_allowed"),
        (bypass(role="operator"), ANNA, "role_not_allowed"),
        (bypass(user=" Anna"), ANNA, "second_person"),
        (bypass(lasts="9 h"), ANNA, "bad_duration"),
        (bypass(lasts="0 s"), ANNA, "bad_duration"),
        (bypass(lasts="30 mL"), ANNA, "bad_duration"),
    ],
)
async def test_a_bypass_is_refused(suite: Story, args: Any, said: dict[str, str], code: str) -> None:
    outcome = await suite.do("bypass", args, expect="refused", **said)
    assert outcome.code == code
    assert one(suite).bypass is None


async def test_a_bypass_lasts_as_long_as_it_says_also_over_a_restart(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="restart"))) as suite:
        await waiting(suite)
        await suite.do("bypass", bypass(lasts="1 h"), **ANNA)
        heard = orders(suite)
        warm(suite, 42.0)
        await suite.pass_time(20.0)
        assert heard == []
        assert suite.runner.state == "running"
        assert suite.state.alarms["bypass-too_hot"].priority == "medium"
        (exception,) = suite.events("exception_raised", code="bypass")
        assert "by anna (process_engineer) and ben (quality): the probe drifts" in exception.text
        await suite.power_cut(60.0)
        assert suite.runner.state == "running"
        (row,) = [row for row in suite.controller.status(UNIT)["interlocks"] if row["name"] == "too_hot"]
        assert row["bypass"]["second"] == "ben"
        assert (await suite.do("bypass", bypass(lasts="1 h"), **ANNA)).status == "done"
        assert (await suite.do("bypass", bypass(), expect="refused", **ANNA)).code == "renewed_already"
        heard = orders(suite)
        await suite.pass_time(3500.0)
        assert heard == []
        warm(suite, 42.0)
        await suite.pass_time(200.0)
        assert "cut_heater" in heard
        assert "bypass-too_hot" not in suite.state.alarms
        assert suite.events("bypass_ended")[-1].why == "its time is over"


async def test_a_bypass_is_ended_and_acts_at_once(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="restart"))) as suite:
        await suite.do("bypass", bypass(), **ANNA)
        warm(suite, 41.0)
        await suite.pass_time(5.0)
        assert not suite.plant.climate.heater_cut
        await suite.do("unbypass", {"interlock": "too_hot"})
        await suite.do("unbypass", {"interlock": "too_hot"}, expect="already")
        await suite.when(lambda: suite.plant.climate.heater_cut, "it acts", within=3.0)


async def test_a_bypass_that_cannot_be_put_on_record_is_none(suite: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.announced = {"record_failed", "event_not_on_record", "internal_error"}
    await waiting(suite)

    async def lost(*_: Any) -> None:
        raise JournalError("the disk takes nothing")

    monkeypatch.setattr(suite.controller.interlocking.records, "record", lost)
    assert (await suite.do("bypass", bypass(), expect="failed", **ANNA)).code == "journal_failed"
    assert one(suite).bypass is None


# --- frozen into a batch ----------------------------------------------------------------------------------------------


async def test_an_edit_comes_into_force_when_the_unit_is_free(tmp_path: Path) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="restart"))) as suite:
        await waiting(suite)
        suite.kill()
        await suite.bury()
        suite.edit_site(site(tmp_path, RULE.format(limit=45, reset="auto"), "more: {tag: station.co2, above: 20 %}"))
        await suite.boot()
        text = suite.state.alarms["interlocks-edited"].text
        assert "more is new; too_hot differs in condition, reset" in text
        assert one(suite).rule.condition == "station.temperature > 39 degC"
        await tripped(suite)
        await suite.until_state("held")
        await suite.do("abort")
        await over(suite)
        await suite.do("reset")
        assert one(suite).rule.condition == "station.temperature > 45 degC"
        assert set(suite.controller.interlocking.rules.of(UNIT)) == {"too_hot", "more"}
        assert one(suite).phase is Phase.NORMAL


async def test_one_that_is_taken_out_of_the_file_stays_latched_and_bypassed(tmp_path: Path) -> None:
    sour = "sour: {tag: station.co2, above: 20 %}"
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="manual"), sour)) as suite:
        await waiting(suite)
        await suite.do("bypass", bypass("sour"), **ANNA)
        await tripped(suite)
        await suite.until_state("held")
        await over(suite)
        suite.kill()
        await suite.bury()
        suite.edit_site(site(tmp_path))
        await suite.boot()
        assert "too_hot is gone" in suite.state.alarms["interlocks-edited"].text
        assert one(suite, "sour").bypass is not None
        assert one(suite).phase is Phase.LATCHED
        assert "tilctl interlock reset too_hot" in barred(suite)


async def test_one_that_this_version_cannot_read_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with suite_of(tmp_path, site(tmp_path, RULE.format(limit=39, reset="restart"))) as suite:
        broken = {"unit": {"interlocks": {"hot": {"name": "hot", "condition": "hot >", "reads": {}}}}}
        monkeypatch.setattr(suite.controller.interlocking, "in_force", lambda _unit: broken)
        await waiting(suite)
        await suite.power_cut()
        await suite.until_state("held")
        assert "its frozen interlocks cannot be read" in suite.state.alarms["interlocks-impossible"].text
        await tripped(suite)


async def test_one_that_cannot_be_carried_out_any_more_holds(tmp_path: Path) -> None:
    rule = "too_hot: {when: station.temperature > 39 degC, then: {station: cut, pump_waste: stop}, bypass: allowed}"
    async with suite_of(
        tmp_path, site(tmp_path, rule, "idle: {when: pump_waste.running, then: {station: cut}}")
    ) as suite:
        await waiting(suite)
        suite.kill()
        await suite.bury()
        gone = {
            "      - {id: waste, from: [station], to: [waste], pump: pump_waste, valves: valves_waste}\n": "",
            "  pump_waste: {profile: sim-pump, bus: fluidics, unit: 3}\n": "",
        }
        suite.edit_site(site(tmp_path, RULE.format(limit=39, reset="restart"), **gone))
        await suite.boot()
        await suite.until_state("held")
        alarm = suite.state.alarms["interlocks-impossible"]
        assert alarm.priority == "critical"
        assert "too_hot cannot stop pump_waste: it is not there any more" in alarm.text
        assert "idle reads pump_waste.running, which is not there any more" in alarm.text
        assert "recovery-failed" not in suite.state.alarms
        await tripped(suite)
        await suite.when(lambda: suite.plant.climate.heater_cut, "the rest of it acts", within=3.0)
        suite.announced = {"protective_write_failed"}


async def test_one_that_breaks_holds_its_batch_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = (RULE.format(limit=39, reset="restart"), "sour: {tag: station.co2, above: 20 %}")
    async with suite_of(tmp_path, site(tmp_path, *rules)) as suite:
        suite.announced = {"interlock_failed"}
        await waiting(suite)

        def breaks() -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(one(suite, "sour").condition, "holds", breaks)
        await suite.until_state("held")
        assert suite.state.alarms["internal-error-sour"].priority == "critical"
        await tripped(suite)
        await suite.when(lambda: suite.plant.climate.heater_cut, "the other acts", within=3.0)
        assert suite.controller.status(UNIT)["interlocks"][1]["state"] == "broken"
        monkeypatch.undo()
        await suite.when(lambda: "internal-error-sour" not in suite.state.alarms, "it works again", within=5.0)


async def test_that_one_did_not_work_is_over_when_it_works_in_another_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = (RULE.format(limit=39, reset="restart"), "sour: {tag: station.co2, above: 20 %}")
    async with suite_of(tmp_path, site(tmp_path, *rules)) as suite:
        suite.announced = {"interlock_failed"}
        await waiting(suite)

        def breaks() -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(one(suite, "sour").condition, "holds", breaks)
        await suite.until_state("held")
        assert "internal-error-sour" in suite.state.alarms
        await suite.power_cut(5.0)
        await suite.when(lambda: "internal-error-sour" not in suite.state.alarms, "it works again", within=5.0)
