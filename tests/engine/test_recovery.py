"""Killed and started again: nothing is repeated or lost, and what may not go on by itself waits for a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from pytest import approx
from story import UNIT, Story

from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.verify import read

MOST_BOOTS = 200
PARTS = 10  # runs among which the moments of death are shared out


async def run_to_the_end(suite: Story, *, outage: float = 0.0) -> None:
    """Boot after each death, restart whenever the batch waits for that, until the batch is complete."""
    for _ in range(MOST_BOOTS):
        if not suite.alive:
            await suite.bury()
            await asyncio.sleep(outage)
            await suite.boot()
            continue
        if suite.runner_or_none is None:  # died before there was a batch
            await suite.do("start", {"recipe": "shakedown"}, expect=None)
            continue
        await suite.when(
            lambda: not suite.alive or suite.state.state in ("held", "complete"), "held, complete or dead", 3600.0
        )
        if not suite.alive:
            continue
        if suite.state.state == "complete":
            return
        await restarted(suite)
    raise AssertionError(f"{suite.deaths} deaths and not at the end: {suite.where()}")


async def restarted(suite: Story) -> None:
    restart = suite.spawn(suite.do("restart", expect=None), "hands:restart")
    await asyncio.wait([restart])


HAPPENS_OFTEN = (
    "outage", "recovered", "alarm_raised", "alarm_cleared", "exception_raised", "state_changed", "step_held",
    "command_received", "command_answered", "history_block", "batch_created",
)  # fmt: skip


class EachNth:
    """Kill at each n-th event that has not happened before: what recovery and a person's restart add is passed over."""

    def __init__(self, number: int, offset: int) -> None:
        self.seen: set[str] = set()
        self.passed: set[str] = set()
        self.number = number
        self.offset = offset

    def __call__(self, record: Record) -> bool:
        event = record.event
        if event.kind in HAPPENS_OFTEN:
            return False
        what = next(
            (getattr(event, name) for name in ("phase", "container", "prompt", "mark") if hasattr(event, name)), ""
        )
        key = f"{event.kind} {getattr(event, 'path', '')} {what}"
        if key in self.seen:
            return False
        self.seen.add(key)
        return len(self.seen) % self.number == self.offset


def every(number: int, offset: int) -> Callable[[Record], bool]:
    """Kill at each event that is `number` later than the one of the kill before."""
    last = offset

    def due(record: Record) -> bool:
        nonlocal last
        if record.seq - last < number:
            return False
        last = record.seq
        return True

    return due


def assert_nothing_was_repeated(suite: Story) -> None:
    """Each step was completed once, each intent commanded once, each prompt opened and answered once."""
    records = suite.records()
    completed = [r.event.path for r in records if isinstance(r.event, ev.StepCompleted)]
    assert len(completed) == len(set(completed)), "a step was completed twice"
    for kind, key in (("prompt_opened", "path prompt_kind attempt"), ("prompt_answered", "prompt"), ("marked", "mark")):
        seen = [
            tuple(r.event.spec["attempt"] if k == "attempt" else getattr(r.event, k) for k in key.split())
            for r in records
            if r.event.kind == kind
        ]
        assert len(seen) == len(set(seen)), f"{kind} twice: {seen}"
    for kind in ("mounted", "unmounted"):
        seen = [r.event.container for r in records if r.event.kind == kind]
        assert len(seen) == len(set(seen)), f"{kind} twice: {seen}"
    assert len([r for r in records if r.event.kind == "moved"]) == 1, "the sample was drawn once"
    assert len([r for r in records if r.event.kind == "freeze_reported"]) == 1
    assert len([r for r in records if r.event.kind == "batch_ended"]) == 1
    ended = {r.event.path for r in records if r.event.kind == "state_changed" and r.event.to_state == "complete"}
    assert ended == {"", "prepare", "culture", "collect", "freeze_down"}


# --- at every boundary of the record ----------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [pytest.param(n, marks=[pytest.mark.slow] if n % 2 else []) for n in range(PARTS)])
async def test_killed_at_every_event_of_the_shakedown(suite: Story, offset: int) -> None:
    """The runs together die in the moment in which each event of the record has come on disk, and before all others."""
    kills = EachNth(PARTS, offset)
    suite.kill_at(kills)
    started = suite.spawn(suite.do("start", {"recipe": "shakedown"}, expect=None), "hands:start")
    await asyncio.wait([started])
    await run_to_the_end(suite)
    suite.kill_at(None)
    assert suite.deaths == len([n for n in range(1, len(kills.seen) + 1) if n % PARTS == offset]) > 12
    assert suite.state.result == "complete"
    assert_nothing_was_repeated(suite)
    assert {"step_completed culture/fill/1/first ", "marked  day0", "intent_opened freeze_down/run "} <= kills.seen
    poured = sum(run.moved_ml for run in suite.pump("pump_media").log)
    assert poured == approx(412.0, abs=12.0), "two vessels of 200 mL and one part of the perfusion, by the pump's count"
    assert suite.state.alarms == {}


async def test_killed_at_every_event_of_its_own_recovery(suite: Story) -> None:
    """The controller dies at each new event; a boot that gets one event further is enough to come to the end."""
    await suite.start("small")
    await suite.until_flowed("pump_media", 20.0)
    suite.kill()
    suite.kill_at(every(1, suite.records()[-1].seq if suite.file() else 0))
    for _ in range(12):
        await suite.bury()
        await suite.boot()
        if suite.alive:
            break
    suite.kill_at(None)
    if not suite.alive:
        await suite.boot()
    await suite.until_state("held")
    assert suite.pump("pump_media").run is None
    assert [i.outcome for i in suite.intents("fill/first")] == ["partial"]
    await suite.do("restart")
    await suite.until_state("complete")
    assert sum(run.moved_ml for run in suite.pump("pump_media").log) == approx(100.0, abs=4.0)


# --- one by one -------------------------------------------------------------------------------------------------------


async def test_killed_in_a_dose_the_batch_waits_and_goes_on_with_the_rest(suite: Story) -> None:
    await suite.start("small")
    await suite.until_flowed("pump_media", 20.0)
    await suite.power_cut()
    await suite.until_state("held")
    first = suite.intents("fill/first")[0]
    assert first.outcome == "partial"
    assert first.delivered_ml == approx(suite.pump("pump_media").log[0].moved_ml, abs=1.5)
    assert "restarted" in suite.state.alarms
    assert "has to be restarted by a person" in suite.state.alarms["restarted"].text
    report = suite.events("recovered")[0].report
    assert report["intents"] == {"1": "closed by evidence"}
    assert set(report["devices"].values()) == {"read"}
    await suite.do("restart")
    await suite.until("fill/first", "complete")
    assert [i.outcome for i in suite.intents("fill/first")] == ["partial", "done"]
    assert "restarted" not in suite.state.alarms
    await suite.until_state("complete")
    assert suite.state.alarms == {}


@pytest.mark.parametrize(("seconds", "outcome"), [(10.0, "partial"), (120.0, "partial"), (120.0, "done")])
async def test_an_outage_in_a_dose_the_pump_ends_it_by_itself(suite: Story, seconds: float, outcome: str) -> None:
    """By its own count, or by its watchdog, which waits for 15 s to be fed."""
    first = 60.0 if outcome == "done" else 90.0
    await suite.start("small", first=f"{first} mL")
    await suite.until_flowed("pump_media", 30.0)
    began = suite.loop.time()
    await suite.power_cut(seconds=seconds)
    await suite.until_state("held")
    assert suite.intents("fill/first")[0].outcome == outcome
    ended = suite.pump("pump_media").log[0].ended
    assert ended is not None
    assert ended - began < 15.1
    await suite.do("restart")
    await suite.until_state("complete")
    commanded = [run.commanded_ml for run in suite.pump("pump_media").log]
    assert commanded[0] == first
    assert len(commanded) == (2 if outcome == "done" else 3), "what was missing is an intent of its own"
    assert sum(run.moved_ml for run in suite.pump("pump_media").log) == approx(first + 40.0, abs=4.0)


async def test_killed_in_an_incubation_it_ends_on_its_time(suite: Story) -> None:
    await suite.start("small")
    await suite.until("empty/static", "acting")
    due = suite.state.marks["day0"].timestamp() + 60.0
    await asyncio.sleep(20.0)
    await suite.power_cut(seconds=15.0)
    assert suite.runner.state == "running", "an incubation goes on by itself"
    await suite.until("empty/static", "complete")
    assert suite.clock.now().timestamp() == approx(due, abs=0.002), "biological time counts through an outage"
    assert [e.seconds for e in suite.events("outage")] == [approx(35.0, abs=0.1)]
    await suite.until_state("complete")


@pytest.mark.parametrize("deaths", [1, 2])
async def test_an_outage_beyond_the_limit_waits_for_a_person(suite: Story, deaths: int) -> None:
    """Also where the first recovery dies on its way: the outage does not shrink by that."""
    await suite.start("small")
    await suite.until("empty/static", "acting")
    suite.kill()
    await suite.bury()
    await asyncio.sleep(700.0)
    if deaths == 2:
        suite.kill_at(lambda record: record.event.kind == "outage")
        await suite.boot()
        assert not suite.alive
        suite.kill_at(None)
    await suite.boot()
    await suite.until_state("held")
    assert "allows an outage of 10 min, it was 70" in suite.state.alarms["restarted"].text
    await suite.do("restart")
    await suite.until_state("complete")


async def test_an_outage_is_bounded_by_the_last_sign_of_life(suite: Story) -> None:
    """A batch that had nothing to write for hours was not away for hours."""
    suite.hands.mine = {"everything"}
    await suite.start("small")
    await suite.when(lambda: suite.controller.prompts(UNIT), "asked")
    await asyncio.sleep(3 * 3600.0 + 30.0)
    await suite.power_cut(seconds=5.0)
    assert suite.events("outage")[0].seconds < 3600.0 + 60.0


async def test_targets_that_a_device_lost_are_written_again(suite: Story) -> None:
    await suite.start("still", wait="3 h")
    await suite.until("stay/one", "acting")
    suite.kill()
    await suite.bury()
    with suite.plant.change() as t:
        suite.plant.climate.set_temperature(t, 21.0)
    suite.plant.devices["incubator"]._handlers["set_temperature"]({"value": 20.0})
    await suite.boot()
    assert suite.plant.climate.temperature.goal == 36.0
    assert suite.runner.state == "running"


@pytest.mark.parametrize("state", ["held", "stopped", "aborted", "complete"])
async def test_a_batch_at_rest_comes_back_at_rest_and_warm(suite: Story, state: str) -> None:
    await suite.start("still", wait="1 min")
    await suite.until("stay/two", "acting")
    if state != "complete":
        await suite.do({"held": "hold", "stopped": "stop", "aborted": "abort"}[state])
    await suite.until_state(state)
    changes = len(suite.events("state_changed"))
    suite.kill()
    await suite.bury()
    suite.plant.devices["incubator"]._handlers["set_temperature"]({"value": 20.0})
    await suite.boot()
    await asyncio.sleep(60)
    assert suite.runner.state == state
    assert len(suite.events("state_changed")) == changes
    assert suite.plant.climate.temperature.goal == 36.0, "targets stand until the unit is freed"


@pytest.mark.parametrize("state", ["pausing", "paused", "holding", "restarting", "stopping", "aborting"])
async def test_killed_on_the_way_to_another_state(suite: Story, state: str) -> None:
    await suite.start("still", wait="2 min")
    await suite.until("stay/one", "acting")
    verbs = {"pausing": ["pause"], "paused": ["pause"], "holding": ["hold"], "restarting": ["hold", "restart"],
             "stopping": ["stop"], "aborting": ["abort"]}[state]  # fmt: skip
    for verb in verbs[:-1]:
        await suite.do(verb)
    suite.kill_at(lambda record: record.event.kind == "state_changed" and record.event.to_state == state)
    last = suite.spawn(suite.do(verbs[-1], expect=None), f"hands:{verbs[-1]}")
    await suite.when(lambda: not suite.alive, "it died")
    await asyncio.wait([last])
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    end = {"pausing": "paused", "paused": "paused", "holding": "held", "restarting": "held",
           "stopping": "stopped", "aborting": "aborted"}[state]  # fmt: skip
    await suite.until_state(end)
    if end in ("stopped", "aborted"):
        assert suite.state.result == end
        return
    if end == "paused":
        await suite.do("resume")
    if end == "held":
        await suite.do("restart")
    await suite.until_state("complete")


async def cut_off_at_its_start(suite: Story) -> None:
    started = suite.spawn(suite.do("start", {"recipe": "still"}, expect=None), "hands:start")
    await suite.when(lambda: list((suite.folder / "data" / "batches").glob("*.db")), "there is a file")
    suite.kill()
    await asyncio.wait([started])
    await suite.bury()
    assert [r.event.kind for r in suite.records()] == ["batch_created"]


async def test_killed_before_the_first_state_is_on_record(suite: Story) -> None:
    await cut_off_at_its_start(suite)
    await suite.boot()
    known = suite.controller.known_command(UNIT, "c-1-1")
    assert known is not None
    assert known.reply["status"] == "done"
    await suite.until_state("complete")


async def test_a_start_that_was_cut_off_days_ago_is_begun_by_nobody(suite: Story) -> None:
    await cut_off_at_its_start(suite)
    await asyncio.sleep(3 * 86400.0)
    await suite.boot()
    await suite.settle()
    known = suite.controller.known_command(UNIT, "c-1-1")
    assert known is not None
    assert (known.reply["status"], known.reply["code"]) == ("failed", "interrupted")
    assert suite.runner_or_none is None, "nobody is here any more who wanted it to begin"
    (path,) = (suite.folder / "data" / "batches").rglob("*.db")  # moved, unless the dead process reads it here still
    records, verdict = read(path)
    assert verdict.ok
    assert [r.event.kind for r in records] == ["batch_created", "batch_ended", "batch_closed"]
    path.unlink()
    assert (await suite.start("still", wait="1 s")).status == "done"
    await suite.until_state("complete")


async def test_killed_while_it_is_reset(suite: Story) -> None:
    await suite.start("still", wait="1 s")
    await suite.until_state("complete")
    for kind in ("state_changed", "command_answered", "batch_closed"):
        if suite.runner_or_none is None:
            await suite.start("still", wait="1 s")
            await suite.until_state("complete")
        suite.kill_at(lambda record, kind=kind: record.event.kind == kind)
        reset = suite.spawn(suite.do("reset", expect=None), "hands:reset")
        await asyncio.wait([reset])
        assert not suite.alive, kind
        suite.kill_at(None)
        await suite.bury()
        await suite.boot()
        assert suite.runner_or_none is None, f"killed at {kind}: the unit is free"
        assert not list((suite.folder / "data" / "batches").glob("*.db"))
    assert len(list((suite.folder / "data" / "batches" / "closed").glob("*.db"))) == 3
    await suite.start("still")


async def test_shared_equipment_is_kept_over_a_restart_and_free_after_the_end(suite: Story) -> None:
    suite.hands.mine = {"load"}
    await suite.start("shakedown")
    await suite.until("freeze_down/load", "acting")
    name = suite.runner.batch.name
    await suite.power_cut()
    assert suite.plant_suite.sharing.owner("freezer") == name
    suite.hands.mine = set()
    suite.hands.look()
    await suite.until_state("complete")
    assert suite.plant_suite.sharing.owner("freezer") is None
    await suite.power_cut()
    assert suite.plant_suite.sharing.owner("freezer") is None, "a batch that has ended takes nothing back"


async def test_killed_in_a_freezing_run_it_is_not_started_again(suite: Story) -> None:
    await suite.start("shakedown")
    await suite.when(lambda: suite.plant.freezer.running, "the run is on")
    await asyncio.sleep(60)
    await suite.power_cut(seconds=30.0)
    assert suite.runner.state == "running"
    assert suite.plant.freezer.running, "it went on by itself"
    await suite.until_state("complete")
    assert len(suite.intents("freeze_down/run")) == 1
    assert suite.plant.freezer.sequence == 1


async def test_killed_before_the_freezer_heard_of_its_run(suite: Story) -> None:
    """The freezer proves that it never took the start: the intent is closed as nothing, and a new one is opened."""
    suite.kill_at(lambda record: record.event.kind == "intent_opened" and record.event.action == "start")
    await suite.start("shakedown")
    await suite.when(lambda: not suite.alive, "it died")
    suite.kill_at(None)
    await suite.bury()
    assert not suite.plant.freezer.running
    await suite.boot()
    await suite.until_state("complete")
    assert suite.plant.freezer.sequence == 1
    assert [i.outcome for i in suite.intents("freeze_down/run")] == ["nothing", "done"]
    assert "freeze_started" in suite.state.marks


async def test_the_start_of_a_freezing_run_is_marked_also_when_the_controller_died_over_it(suite: Story) -> None:
    await suite.start("shakedown")
    await suite.when(lambda: suite.plant.freezer.running, "the run is on")
    suite.kill()
    await suite.bury()
    if any(r.event.kind == "marked" and r.event.mark == "freeze_started" for r in suite.records()):
        pytest.fail("the kill came too late to show anything")
    opened = next(r.t for r in suite.records() if r.event.kind == "intent_opened" and r.event.action == "start")
    await asyncio.sleep(60.0)
    await suite.boot()
    await suite.until_state("complete")
    assert suite.events("marked", mark="freeze_started")[0].t == opened
    assert "trial-warn" not in suite.state.alarms


async def test_an_orderly_end_in_a_dose(suite: Story) -> None:
    """The service was stopped by hand: the pump stops, the intent is closed, and the batch waits for a person."""
    await suite.start("small")
    await suite.until_flowed("pump_media", 20.0)
    await suite.settle()
    suite.check_ledger = False  # it is booked when the dose is over
    suite.check()
    suite.check_ledger = True
    await suite.controller.close()
    suite.alive = False
    assert suite.pump("pump_media").run is None
    await suite.boot()
    await suite.until_state("held")
    assert [i.outcome for i in suite.intents("fill/first")] == ["partial"]
    await suite.do("restart")
    await suite.until_state("complete")


async def test_a_step_that_was_passed_over_is_not_walked_after_a_kill(suite: Story) -> None:
    suite.kill_at(lambda record: record.event.kind == "step_started" and record.event.path == "only/never")
    await suite.start("skipping")
    await suite.when(lambda: not suite.alive or suite.state.state == "complete", "it died")
    suite.kill_at(None)
    if not suite.alive:
        await suite.bury()
        await suite.boot()
    await suite.until_state("complete")
    assert [e.text for e in suite.events("noted")] == ["walked"]
