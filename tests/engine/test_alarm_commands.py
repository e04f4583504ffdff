"""What people do to alarms, over the real controller: answers, refusals, restarts, and from the site to a batch."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from story import UNIT, Story, told

from tests.engine.test_safe_mode import dead_in_recovery
from tilctl.engine import alarm_commands
from tilctl.engine.port import SITE, Command, Outcome
from tilctl.journal import alarms as ev
from tilctl.journal.storage import EventFile
from tilctl.journal.verify import read

WARM, HOT, ROOM, GASSY = "site-warm", "site-hot", "site-room", "site-gassy"
ALARMS = {
    "units.cell1.alarms.warm.when": "station.temperature > 38.0 degC",
    "units.cell1.alarms.warm.priority": "high",
    "units.cell1.alarms.hot.when": "station.temperature > 38.2 degC",
    "units.cell1.alarms.hot.priority": "critical",
    "units.cell1.alarms.hot.latch": "yes",
    "alarms.room.when": "incubator.temperature > 38.0 degC",
    "alarms.room.priority": "low",
    "alarms.gassy.when": "incubator.co2 > 9 %",
    "alarms.gassy.priority": "medium",
    "scan.idle": "60 s",
    "scan.quiet": "60 s",
}


@pytest_asyncio.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Story]:
    story = Story(tmp_path)
    story.site_overrides = dict(ALARMS)
    async with told(story) as suite:
        yield suite


async def act(
    suite: Story, verb: str, alarm: str, unit: str = UNIT, reason: str = "cable", actor: str = "anna", **args: Any
) -> Outcome:
    suite._commands += 1
    name = f"a-{suite._boots}-{suite._commands}"
    given = {"alarm": alarm, "once": False, **args}
    command = Command(name, "desk", unit, verb, args=given, reason=reason, actor=actor)
    outcome = await suite.controller.execute(command, lambda seq, digest: None)
    suite.outcomes.append((verb, outcome))
    await suite.settle()
    return outcome


def rows(suite: Story, unit: str = UNIT) -> dict[str, dict[str, Any]]:
    found = suite.controller.alarms(unit)
    assert len({row["alarm"] for row in found}) == len(found), "no alarm is shown twice"
    return {row["alarm"]: row for row in found}


def state(suite: Story, alarm: str, unit: str = UNIT) -> str:
    return rows(suite, unit)[alarm]["state"] if alarm in rows(suite, unit) else "normal"


def aim(suite: Story, goal: float) -> None:
    with suite.plant.change() as t:
        suite.plant.climate.temperature.aim(t, goal)


async def warm(suite: Story) -> None:
    """Let the chamber be too warm: three alarms, of the unit and of the site."""
    aim(suite, 41.0)
    await suite.when(lambda: state(suite, HOT) == "unacknowledged", "it is hot")
    await suite.settle()


async def cool(suite: Story) -> None:
    aim(suite, 20.0)
    await suite.when(lambda: not rows(suite).get(WARM, {}).get("active"), "it is cool")
    await suite.settle()


async def running(suite: Story) -> None:
    await suite.start("still", wait="9 h")
    await suite.until("stay/one", "acting")


def raised(suite: Story) -> list[str]:
    """What was raised, on the site's record and on that of the batch."""
    batch = [] if suite.runner_or_none is None else on_record(suite, "alarm_raised", of=UNIT)
    return [event.alarm for event in (*on_record(suite, "alarm_raised"), *batch)]


def on_record(suite: Story, *kinds: str, of: str = "site") -> list[Any]:
    path = suite.folder / "data" / "site.db" if of == "site" else suite.file()
    records, verdict = read(path)
    assert verdict.ok
    return [record.event for record in records if record.event.kind in kinds]


# --- each verb: answers and refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("idle", [True, False])
async def test_acknowledge_and_reset(suite: Story, *, idle: bool) -> None:
    if not idle:
        await running(suite)
    await warm(suite)
    assert (await act(suite, "ack", HOT)).status == "done"
    assert (state(suite, HOT), rows(suite)[HOT]["by"]) == ("acknowledged", "anna")
    again = await act(suite, "ack", HOT, actor="ben")
    assert (again.status, again.text) == ("already", f"{HOT} was acknowledged by anna")
    early = await act(suite, "alarm-reset", HOT)
    assert (early.status, early.code) == ("refused", "illegal_state")
    await cool(suite)
    assert state(suite, HOT) == "latched_acknowledged"
    assert state(suite, WARM) == "returned"
    assert (await act(suite, "alarm-reset", WARM)).code == "illegal_state"
    assert (await act(suite, "alarm-reset", HOT)).status == "done"
    assert (await act(suite, "alarm-reset", HOT)).status == "already"
    assert (await act(suite, "ack", WARM)).status == "done"
    assert rows(suite) == {}
    assert (await act(suite, "ack", WARM)).status == "already"


async def test_a_latched_one_is_reset_only_when_somebody_knows(suite: Story) -> None:
    await warm(suite)
    await cool(suite)
    assert state(suite, HOT) == "latched_unacknowledged"
    refused = await act(suite, "alarm-reset", HOT)
    assert refused.code == "illegal_state"
    assert "acknowledge it first" in refused.text
    await act(suite, "ack", HOT)
    assert (await act(suite, "alarm-reset", HOT)).status == "done"


async def test_all_that_wait_are_acknowledged_and_no_more(suite: Story) -> None:
    await warm(suite)
    assert (await act(suite, "shelve", WARM, for_="10 min")).status == "done"
    done = await act(suite, "ack", "*")
    assert (done.status, done.text) == ("done", f"ack: {HOT}"), "what is shelved is not shown, so nobody knows of it"
    assert state(suite, WARM) == "unacknowledged"
    assert (await act(suite, "ack", "*")).status == "already"
    assert state(suite, ROOM, SITE) == "unacknowledged", "the site's are not the unit's"
    assert (await act(suite, "ack", "*", SITE)).status == "done"
    assert state(suite, ROOM, SITE) == "acknowledged"
    for verb in ("shelve", "alarm-reset", "out-of-service"):
        assert (await act(suite, verb, "*", for_="1 min", once=False, work_order="W1")).code == "malformed"


BOUNDS = (
    (HOT, UNIT, "", "1 s"), (WARM, UNIT, "30 min", "31 min"), (GASSY, SITE, "8 h", "8.1 h"),
    (ROOM, SITE, "24 h", "1441 min"),
)  # fmt: skip


async def test_shelving_is_bounded_by_priority(suite: Story) -> None:
    for alarm, unit, most, over in BOUNDS:
        refused = await act(suite, "shelve", alarm, unit, for_=over)
        assert (refused.status, refused.code) == ("refused", "not_shelvable")
        if not most:
            continue
        assert (await act(suite, "shelve", alarm, unit, for_=most)).status == "done"
        again = await act(suite, "shelve", alarm, unit, for_="1 min")
        assert (again.code, "anna" in again.text) == ("illegal_state", True)
        flag = rows(suite, unit)[alarm]["aside"]["shelved"]
        assert (flag["by"], flag["reason"]) == ("anna", "cable")
        assert (await act(suite, "unshelve", alarm, unit)).status == "done"
        assert (await act(suite, "unshelve", alarm, unit)).status == "already"
        assert rows(suite, unit) == {}


async def test_a_time_that_is_none_shelves_nothing(suite: Story) -> None:
    for text in ("soon", "10 degC", "0 s", "-1 min", "nan s", "inf s"):
        refused = await act(suite, "shelve", WARM, for_=text)
        assert refused.code in ("malformed", "not_shelvable"), text
    assert rows(suite) == {}


async def test_what_is_set_aside_needs_a_reason_and_what_is_taken_out_a_name(suite: Story) -> None:
    assert (await act(suite, "shelve", WARM, reason="", for_="1 min")).code == "needs_reason"
    assert (await act(suite, "out-of-service", HOT, reason="", work_order="W1")).code == "needs_reason"
    assert (await act(suite, "out-of-service", HOT, actor="", work_order="W1")).code == "needs_actor"
    assert (await act(suite, "out-of-service", HOT, work_order="W1")).status == "done"
    assert rows(suite)[HOT]["aside"]["out_of_service"]["work_order"] == "W1"
    await warm_beneath(suite)
    assert not rows(suite)[HOT]["waiting"]
    assert rows(suite)[HOT]["active"], "it goes on underneath"
    assert (await act(suite, "out-of-service", HOT, work_order="W2")).status == "already"
    assert (await act(suite, "in-service", HOT)).status == "done"
    assert rows(suite)[HOT]["waiting"]
    assert (await act(suite, "in-service", HOT)).status == "already"


async def warm_beneath(suite: Story) -> None:
    aim(suite, 41.0)
    await suite.when(lambda: rows(suite).get(HOT, {}).get("active"), "it is hot")


async def test_an_alarm_that_there_is_not(suite: Story) -> None:
    for verb in alarm_commands.VERBS:
        refused = await act(suite, verb, "site-nothing", for_="1 min", work_order="W1")
        assert (refused.status, refused.code) == ("refused", "no_alarm")
        assert WARM in refused.text
        assert (await act(suite, verb, WARM, SITE, for_="1 min", work_order="W1")).code == "no_alarm"


async def test_every_command_and_its_answer_are_on_record(suite: Story) -> None:
    await running(suite)
    await act(suite, "shelve", WARM, for_="5 min")
    await act(suite, "shelve", "site-nothing", for_="5 min")
    answers = [event.status for event in on_record(suite, "command_answered", of=UNIT)]
    assert answers[-2:] == ["done", "refused"]
    (flag,) = on_record(suite, "alarm_set_aside", of=UNIT)
    assert (flag.alarm, flag.how, flag.by, flag.unit) == (WARM, "shelved", "anna", "")
    await act(suite, "shelve", ROOM, SITE, for_="5 min")
    (flag,) = on_record(suite, "alarm_set_aside")
    assert (flag.alarm, flag.unit) == (ROOM, SITE)


async def test_alarms_are_seen_to_while_held(suite: Story) -> None:
    await running(suite)
    await warm(suite)
    await suite.do("hold")
    assert (await act(suite, "ack", "*")).status == "done"
    assert suite.runner.state == "held"


async def test_alarms_are_seen_to_in_safe_mode(suite: Story) -> None:
    suite.leaves_safe_mode = False
    await running(suite)
    await dead_in_recovery(suite, 3)
    await suite.boot()
    assert suite.controller.mode == "safe"
    assert (await act(suite, "ack", "safe-mode")).status == "done"
    assert state(suite, "safe-mode") == "acknowledged"
    await warm(suite)
    assert (await act(suite, "ack", "*")).status == "done"
    assert (await act(suite, "shelve", ROOM, SITE, for_="5 min")).status == "done"


# --- a restart of the controller --------------------------------------------------------------------------------------


@pytest.mark.parametrize("idle", [True, False])
async def test_a_restart_knows_what_people_did_and_announces_nothing_twice(suite: Story, *, idle: bool) -> None:
    if not idle:
        await running(suite)
    await act(suite, "out-of-service", GASSY, SITE, work_order="W1")
    await act(suite, "shelve", ROOM, SITE, for_="20 h")
    await warm(suite)
    await act(suite, "ack", HOT)
    await act(suite, "shelve", WARM, for_="30 min")
    before = {unit: rows(suite, unit) for unit in (UNIT, SITE)}
    raises = raised(suite)
    await suite.power_cut(60.0)
    await suite.settle()
    after = {unit: rows(suite, unit) for unit in (UNIT, SITE)}
    for unit, found in before.items():
        assert {name: after[unit][name] for name in found} == found
    assert [name for name in raised(suite) if name != "restarted"] == raises, "no flood"
    await suite.pass_time(29 * 60)
    await suite.when(lambda: rows(suite)[WARM]["waiting"], "its shelving is over by the wall clock", within=600.0)
    assert set(rows(suite, SITE)[ROOM]["aside"]) == {"shelved"}
    assert set(rows(suite, SITE)[GASSY]["aside"]) == {"out_of_service"}


async def test_shelving_that_ended_while_nobody_was_there_is_over_at_the_next_start(suite: Story) -> None:
    await warm(suite)
    await act(suite, "shelve", WARM, for_="30 min")
    await suite.power_cut(3600.0)
    await suite.settle()
    assert rows(suite)[WARM]["waiting"]


async def test_shelving_of_an_idle_unit_that_has_a_batch_now_ends_too(suite: Story) -> None:
    """What the site's record has set aside ends by the clock, also where a life began with a batch on the unit."""
    await act(suite, "shelve", WARM, for_="30 min")
    await running(suite)
    assert list(rows(suite)) == [WARM]
    await suite.power_cut(60.0)
    await suite.pass_time(40 * 60)
    assert WARM not in rows(suite)


# --- from the site's record to the batch's, and back ------------------------------------------------------------------


async def test_a_batch_takes_over_what_is_active_and_gives_it_back(suite: Story) -> None:
    await warm(suite)
    await act(suite, "ack", HOT)
    await running(suite)
    await suite.settle()
    assert {name for name, row in rows(suite).items() if row["active"]} == {WARM, HOT}
    handed = [e for e in on_record(suite, "alarm_acknowledged") if e.by.startswith("batch ")]
    assert {e.alarm for e in handed} == {WARM, HOT}
    assert {e.alarm for e in on_record(suite, "alarm_raised", of=UNIT)} >= {WARM, HOT}
    assert state(suite, HOT) == "unacknowledged", "who starts a batch into it is told so"
    await suite.do("stop")
    await suite.until_state("stopped")
    await suite.do("reset")
    await suite.settle()
    assert suite.runner_or_none is None
    assert {name for name, row in rows(suite).items() if row["active"]} == {WARM, HOT}
    await cool(suite)
    await act(suite, "ack", "*")
    await act(suite, "alarm-reset", HOT)
    assert rows(suite) == {}


async def test_what_is_set_aside_goes_with_the_unit_and_ends_where_it_is(suite: Story) -> None:
    await act(suite, "out-of-service", WARM, work_order="W1")
    await act(suite, "out-of-service", HOT, work_order="W2")
    await running(suite)
    assert set(rows(suite)) == {WARM, HOT}
    assert (await act(suite, "in-service", WARM)).status == "done"
    assert set(rows(suite)) == {HOT}
    await suite.do("stop")
    await suite.until_state("stopped")
    await suite.do("reset")
    await suite.settle()
    assert set(rows(suite)) == {HOT}, "what was put back into service in the batch is not out of service after it"
    assert rows(suite)[HOT]["aside"]["out_of_service"]["work_order"] == "W2"


async def test_one_that_is_over_in_the_idle_unit_is_acknowledged_while_a_batch_runs(suite: Story) -> None:
    await warm(suite)
    await act(suite, "ack", HOT)
    await cool(suite)
    await act(suite, "alarm-reset", HOT)
    assert state(suite, WARM) == "returned"
    await running(suite)
    assert (await act(suite, "shelve", WARM, for_="5 min")).status == "done"
    assert (await act(suite, "ack", WARM)).status == "done"
    acked = on_record(suite, "alarm_acknowledged")
    assert [e.alarm for e in acked if isinstance(e, ev.AlarmAcknowledged)][-1] == WARM


async def test_a_death_between_two_records_leaves_no_alarm_at_both(suite: Story) -> None:
    await warm(suite)
    suite.kill_at(lambda record: record.event.kind == "alarm_raised" and getattr(record.event, "alarm", "") == WARM)
    starting = asyncio.create_task(suite.do("start", {"recipe": "still", "parameters": {"wait": "9 h"}}, expect=None))
    await asyncio.wait([starting])
    assert not suite.alive
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    await suite.until("stay/one", "acting")
    aim(suite, 41.0)
    await suite.when(lambda: {WARM, HOT} <= {n for n, row in rows(suite).items() if row["active"]}, "both stand")
    await cool(suite)
    await act(suite, "ack", "*")
    await act(suite, "alarm-reset", HOT)
    left = {name for name in rows(suite) if name in (WARM, HOT)}
    assert left == set(), left


async def test_an_alarm_that_the_site_cannot_note_is_shown_and_noted_later(
    suite: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.announced |= {"record_failed", "alarm_not_on_record"}
    full = True

    def guarded(file: EventFile, *args: Any, write: Any = EventFile.write) -> Any:
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        return write(file, *args)

    monkeypatch.setattr(EventFile, "write", guarded)
    await warm(suite)
    assert suite.controller.journal.failed
    assert [row["on_record"] for row in suite.controller.alarms(UNIT)] == [False, False]
    assert state(suite, ROOM, SITE) == "unacknowledged"
    full = False
    await suite.controller.journal.reopen()
    await suite.pass_time(120.0)
    await suite.settle()
    assert {name for name, row in rows(suite).items() if row.get("on_record", True)} == {WARM, HOT}
    assert sorted(e.alarm for e in on_record(suite, "alarm_raised")) == [HOT, ROOM, WARM]
    await cool(suite)
    assert state(suite, HOT) == "latched_unacknowledged"
