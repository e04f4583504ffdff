"""The record's time never jumps: waits, due moments and clocks are right whatever the wall clock does."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import pytest
from pytest import approx
from story import HERE, Story

from tilctl.cli.main import main
from tilctl.engine.state import parse_time
from tilctl.journal import events as ev
from tilctl.record.times import step_times

HOUR, YEAR = 3600.0, 365 * 86400.0
STEPS = [2 * HOUR, -2 * HOUR, 1.0, -1.0, YEAR, -YEAR, 0.3]


async def took(suite: Story, path: str, *, within: float = 3 * HOUR) -> float:
    """Wait until a step is complete; return how long it really took (virtual s) since it became acting."""
    await suite.until(path, "acting")
    began = suite.loop.time()
    await suite.until(path, "complete", within)
    return suite.loop.time() - began


def steps_on_record(suite: Story) -> list[ev.ClockStepped]:
    return suite.events("clock_stepped")


@pytest.mark.parametrize("seconds", STEPS)
async def test_a_step_in_a_wait(suite: Story, seconds: float) -> None:
    """A two-hour step, forward or back, in a two-hour wait: the wait is right, and the step is on record."""
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    began, day = suite.loop.time(), suite.node("stay/one").started
    await asyncio.sleep(0.7 * HOUR)
    suite.step_clock(seconds)
    await suite.until("stay/one", "complete")
    assert suite.loop.time() - began == approx(2 * HOUR, abs=0.01)
    assert (await took(suite, "stay/two")) == approx(2 * HOUR, abs=0.01)
    await suite.until_state("complete")
    times = [parse_time(record.t) for record in suite.records()]
    assert times == sorted(times), "the record's time goes forward only"
    assert (times[-1] - day).total_seconds() == approx(4 * HOUR, abs=1.0)
    noted = steps_on_record(suite)
    assert [step.by_s for step in noted] == ([approx(seconds, abs=0.01)] if abs(seconds) > 0.5 else [])
    alarms = [event.priority for event in suite.events("alarm_raised", alarm="clock-stepped")]
    assert alarms == (["medium"] if abs(seconds) > 5 else [])


@pytest.mark.parametrize("seconds", STEPS[:2])
async def test_a_step_forward_and_back_again(suite: Story, seconds: float) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    began = suite.loop.time()
    for by in (seconds, -seconds):
        await asyncio.sleep(0.5 * HOUR)
        suite.step_clock(by)
    await suite.until("stay/one", "complete")
    assert suite.loop.time() - began == approx(2 * HOUR, abs=0.01)
    assert [step.offset_s for step in steps_on_record(suite)] == [approx(seconds, abs=0.01), approx(0.0, abs=0.01)]


@pytest.mark.parametrize("seconds", STEPS)
async def test_a_step_in_an_incubation(suite: Story, seconds: float) -> None:
    await suite.start("small")
    await suite.until("empty/static", "acting")
    await asyncio.sleep(20.0)
    suite.step_clock(seconds)
    due = suite.state.marks["day0"].timestamp() + 60.0
    await suite.until("empty/static", "complete")
    completed = next(r.t for r in suite.records() if isinstance(r.event, ev.StepCompleted) and "static" in r.event.path)
    assert parse_time(completed).timestamp() == approx(due, abs=0.05)
    await suite.until_state("complete")


@pytest.mark.parametrize("seconds", [2 * HOUR, -2 * HOUR])
async def test_a_step_while_an_answer_is_due(suite: Story, seconds: float) -> None:
    """`due: 1 h` of the sample: overdue after an hour that really passed, not by the clock on the wall."""
    suite.hands.mine = {"count"}
    await suite.start("shakedown")
    await suite.until("collect/count", "acting")
    began = suite.loop.time()
    await asyncio.sleep(600.0)
    suite.step_clock(seconds)
    await asyncio.sleep(600.0)
    assert not [alarm for alarm in suite.state.alarms if alarm.startswith("overdue")]
    await suite.when(lambda: [a for a in suite.state.alarms if a.startswith("overdue")], "it is overdue", 2 * HOUR)
    assert suite.loop.time() - began == approx(HOUR, abs=1.0)


@pytest.mark.parametrize("seconds", [5 * HOUR, -5 * HOUR])
async def test_a_step_while_a_biological_clock_runs(suite: Story, seconds: float) -> None:
    """The clock `trial` warns four hours after `day0`, by what the cells lived through."""
    suite.hands.mine = {"resuspend"}
    await suite.start("shakedown")
    await suite.until("collect/draw/1/resuspend", "acting")
    suite.step_clock(seconds)
    await asyncio.sleep(3.5 * HOUR)
    assert "trial-warn" not in suite.state.alarms
    await asyncio.sleep(HOUR)
    assert "trial-warn" in suite.state.alarms


@pytest.mark.parametrize("seconds", [2 * HOUR, -2 * HOUR])
@pytest.mark.parametrize("machine", [None, "boot-a"])
async def test_a_step_before_a_kill(suite: Story, seconds: float, machine: str | None) -> None:
    """The offset is on record, so the outage is bridged by what passed; the wait ends on its time."""
    suite.machine = machine
    await suite.power_cut()
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    began = suite.loop.time()
    await asyncio.sleep(0.5 * HOUR)
    suite.step_clock(seconds)
    await asyncio.sleep(60.0)
    await suite.power_cut(seconds=300.0)
    assert suite.runner.state == "running"
    assert suite.events("outage")[-1].seconds == approx(300.0, abs=61.0)
    await suite.until("stay/one", "complete")
    assert suite.loop.time() - began == approx(2 * HOUR, abs=0.01)
    times = [parse_time(record.t) for record in suite.records()]
    assert times == sorted(times)


@pytest.mark.parametrize("seconds", [2 * HOUR, -2 * HOUR, YEAR, -YEAR])
async def test_a_step_during_an_outage_of_the_process_alone(suite: Story, seconds: float) -> None:
    """The machine ran on: its own count of time bridges the outage, whatever was done to the wall clock."""
    suite.machine = "boot-a"
    await suite.power_cut()
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    began = suite.loop.time()
    await asyncio.sleep(0.5 * HOUR)
    suite.kill()
    await suite.bury()
    suite.step_clock(seconds)
    await asyncio.sleep(300.0)
    await suite.boot()
    assert suite.runner.state == "running"
    assert [step.by_s for step in steps_on_record(suite)] == [approx(seconds, abs=0.01)]
    assert [step.cause for step in steps_on_record(suite)] == ["boot"]
    await suite.until("stay/one", "complete")
    assert suite.loop.time() - began == approx(2 * HOUR, abs=0.01)


async def test_a_clock_that_was_set_back_while_the_machine_was_off(suite: Story) -> None:
    """How long the outage was is not known then: it is said, and a person restarts."""
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    await asyncio.sleep(0.5 * HOUR)
    suite.kill()
    await suite.bury()
    suite.step_clock(-YEAR)
    await suite.boot()
    await suite.until_state("held")
    assert "the clock was set back" in suite.state.alarms["restarted"].text
    assert suite.events("outage")[-1].uncertain == "the clock was set back"
    times = [parse_time(record.t) for record in suite.records()]
    assert times == sorted(times)
    await suite.do("restart")
    await suite.until_state("complete", within=8 * HOUR)


async def unsynchronised(suite: Story, recipe: str, off: float, **parameters: str) -> None:
    """Start a batch, cut the machine's power for ten minutes, and come back with a clock that is wrong."""
    await suite.start(recipe, **parameters)
    await suite.until("stay/one" if recipe == "still" else "empty/static", "acting")
    suite.kill()
    await suite.bury()
    await asyncio.sleep(600.0)
    suite.time_server = False
    suite.step_clock(off)
    await suite.boot()


async def test_an_unsynchronised_boot_waits_and_goes_on_when_the_time_is_known(suite: Story) -> None:
    began = suite.loop.time()
    await unsynchronised(suite, "still", -590.0, wait="2 h")
    await suite.until_state("held")
    assert "the clock is not synchronised" in suite.state.alarms["restarted"].text
    assert suite.controller.status("cell1")["mode_reason"] == "the clock is not synchronised"
    assert suite.events("outage")[-1].uncertain == "the clock is not synchronised"
    assert suite.plant.climate.temperature.goal == 36.0, "the environment goes on"
    await asyncio.sleep(60.0)
    assert suite.runner.state == "held"
    suite.clock.server = True
    suite.step_clock(590.0)
    await suite.until_state("running")
    assert [step.cause for step in steps_on_record(suite)] == ["adopted"]
    assert suite.controller.status("cell1")["mode_reason"] == ""
    await suite.until("stay/one", "complete")
    assert suite.loop.time() - began == approx(2 * HOUR, abs=2.0), "the ten minutes of the outage count"
    assert suite.state.alarms.keys() <= {"clock-stepped"}


async def test_an_unsynchronised_boot_may_be_restarted_by_a_person(suite: Story) -> None:
    await unsynchronised(suite, "still", -300.0, wait="2 h")
    await suite.until_state("held")
    await suite.do("restart")
    assert suite.runner.state == "running"
    suite.clock.server = True
    suite.step_clock(300.0)
    await asyncio.sleep(120.0)
    assert [step.cause for step in steps_on_record(suite)][-1] == "run", "what a person goes by does not jump"
    await suite.until_state("complete", within=8 * HOUR)


async def test_an_outage_that_turns_out_too_long_still_waits(suite: Story) -> None:
    """`max_outage: 10 min`: the true length comes to light with the time server."""
    await unsynchronised(suite, "small", -590.0)
    await suite.until_state("held")
    suite.clock.server = True
    suite.step_clock(590.0 + 300.0)
    await suite.when(
        lambda: "allows an outage of 10 min" in suite.events("exception_raised", code="restart")[-1].text,
        "the true length of the outage is on record",
    )
    await asyncio.sleep(120.0)
    assert suite.runner.state == "held"


async def test_without_a_batch_the_record_follows_the_wall_clock(suite: Story) -> None:
    suite.step_clock(YEAR)
    await asyncio.sleep(30.0)
    await suite.start("still", wait="1 s")
    await suite.until_state("complete")
    assert abs((suite.clock.now() - parse_time(suite.records()[-1].t)).total_seconds()) < 60.0


# --- a moment that was missed -----------------------------------------------------------------------------------------


async def away_in_the_first_rest(suite: Story, on_missed: str, seconds: float) -> None:
    """Start the three waits with this `on_missed`; the controller is away from the first one on, for so long."""
    text = (HERE / "recipes" / "missed.yaml").read_text("utf-8").replace("run_late", on_missed)
    name = f"missed-{on_missed.replace('_', '-')}"
    (suite.folder / f"{name}.yaml").write_text(text.replace("recipe: missed", f"recipe: {name}"))
    await suite.start(name)
    await suite.until("feeds/each/1/rest", "acting")
    await suite.power_cut(seconds=seconds)


def fed(suite: Story) -> list[str]:
    return [event.text for event in suite.events("noted")]


def missed(suite: Story) -> list[ev.ExceptionRaised]:
    return suite.events("exception_raised", code="missed")


async def test_after_an_outage_there_is_one_late_run_and_no_burst(suite: Story) -> None:
    """Two hours away in the first of three waits of ten minutes: it ends late, the others take their time."""
    await away_in_the_first_rest(suite, "run_late", 2 * HOUR)
    began = suite.loop.time()
    await suite.until("feeds/each/3/fed", "complete")
    assert suite.loop.time() - began == approx(1200.0, abs=10.0)
    assert fed(suite) == ["fed 1", "fed 2", "fed 3"]
    assert len(missed(suite)) == 1
    assert "ended 110" in missed(suite)[0].text
    assert "on_missed: run_late" in missed(suite)[0].text
    await suite.until_state("complete")
    assert [e.path for e in missed(suite)] == ["feeds/each/1/rest", "feeds/late"], "an incubation too"


async def test_a_little_late_is_within_its_grace(suite: Story) -> None:
    await away_in_the_first_rest(suite, "hold", 700.0)
    await suite.until_state("complete")
    assert missed(suite) == []


async def test_what_follows_a_missed_moment_may_be_passed_over(suite: Story) -> None:
    await away_in_the_first_rest(suite, "skip", 2 * HOUR)
    await suite.until("feeds/each/2/rest", "acting")
    await suite.power_cut()
    await suite.until_state("complete")
    assert fed(suite) == ["fed 2", "fed 3", "the end"]


async def test_a_missed_moment_may_hold_for_a_person(suite: Story) -> None:
    await away_in_the_first_rest(suite, "hold", 2 * HOUR)
    await suite.until_state("held")
    assert "ended" in suite.node("feeds/each/1/rest").reason
    await suite.do("restart")
    await suite.until_state("complete")
    assert fed(suite)[:3] == ["fed 1", "fed 2", "fed 3"]
    assert len([e for e in missed(suite) if "each/1" in e.path]) == 1, "held for it once"


async def test_a_missed_moment_may_end_the_batch(suite: Story) -> None:
    await away_in_the_first_rest(suite, "abort", 2 * HOUR)
    await suite.until_state("aborted")
    assert suite.state.result == "aborted"
    assert fed(suite) == []


async def test_a_step_that_is_held_for_too_long_is_an_alarm(suite: Story) -> None:
    await suite.start("missed")
    await suite.until("feeds/each/1/rest", "acting")
    await suite.do("hold")
    await asyncio.sleep(0.45 * HOUR)
    assert "max-hold-feeds-each-rest" not in suite.state.alarms
    await asyncio.sleep(0.2 * HOUR)
    assert suite.state.alarms["max-hold-feeds-each-rest"].priority == "high"
    await suite.do("restart")
    await suite.when(lambda: "max-hold-feeds-each-rest" not in suite.state.alarms, "it is over with the hold")


# --- the four kinds of time -------------------------------------------------------------------------------------------


async def test_the_time_of_a_step_is_told_from_the_record(suite: Story, capsys: pytest.CaptureFixture[str]) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    await asyncio.sleep(600.0)
    await suite.do("hold")
    await asyncio.sleep(300.0)
    await suite.do("restart")
    await suite.until("stay/one", "acting")
    await asyncio.sleep(120.0)
    await suite.power_cut(seconds=900.0)
    await suite.until("stay/two", "acting")
    await suite.do("pause")
    await suite.until_state("paused", within=3 * HOUR)
    await asyncio.sleep(450.0)
    await suite.do("resume")
    await suite.until_state("complete")
    times = step_times(suite.records())
    one = times["stay/one"]
    assert one.total == approx(2 * HOUR, abs=1.0)
    assert one.held == approx(300.0, abs=2.0)
    assert 900.0 <= one.outage <= 900.0 + 121.0, "bounded by the last sign of life"
    assert one.paused == 0.0
    assert one.running == approx(one.total - one.held - one.outage, abs=0.01)
    assert times["stay"].paused == approx(0.0, abs=1.0)
    assert times["leave"].total < 1.0
    assert all(each.ended for each in times.values())
    capsys.readouterr()
    assert main(["journal", "times", str(suite.file()), "--path", "stay/one", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"path": "stay/one", "total": round(one.total, 3), **asdict(one)}


async def test_what_trips_while_the_time_is_waited_for_is_not_restarted_by_the_time(suite: Story) -> None:
    await unsynchronised(suite, "still", -590.0, wait="2 h")
    await suite.until_state("held")
    with suite.plant.change() as t:
        suite.plant.climate.temperature.jump(t, 45.0)
    await suite.when(lambda: "interlock-too_hot" in suite.state.alarms, "it trips", within=120.0)
    with suite.plant.change() as t:
        suite.plant.climate.temperature.jump(t, 36.0)
    await asyncio.sleep(120.0)
    suite.clock.server = True
    suite.step_clock(590.0)
    await asyncio.sleep(120.0)
    assert suite.runner.state == "held"
    assert not suite.events("state_changed", to_state="restarting")


async def test_a_leak_that_shows_while_the_time_is_waited_for_waits_for_a_person(suite: Story) -> None:
    await unsynchronised(suite, "still", -590.0, wait="2 h")
    await suite.until_state("held")
    suite.runner.alarm("leak", "critical", "the containers lose weight")
    suite.clock.server = True
    suite.step_clock(590.0)
    await asyncio.sleep(120.0)
    assert suite.runner.state == "held"
