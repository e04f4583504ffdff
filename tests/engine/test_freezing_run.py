"""A freezing run that has started: followed in every state, reported once, judged by what was seen, never repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from story import Story

from simulators.faults.injector import Injector
from simulators.faults.model import Fault
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.verify import read

RUN = "cold/run"
MINUTE = 60.0


def strike(suite: Story, what: str, for_s: float | None = None) -> None:
    """Let a fault happen to the freezer now."""
    if not hasattr(suite, "injector"):
        suite.injector = Injector([suite.plant], suite.servers, suite.plant.clock)
    suite.injector.apply(Fault("freezer", what, for_s=for_s))


async def running(suite: Story, recipe: str = "cryo", minutes: float = 1.0) -> None:
    """Begin a run and wait until so much of it has passed."""
    await suite.start(recipe)
    await suite.when(lambda: suite.plant.freezer.running, "the run is on")
    await suite.pass_time(minutes * MINUTE)


async def nucleated(suite: Story) -> None:
    while not suite.plant.freezer.nucleated:
        assert suite.plant.freezer.running
        await suite.pass_time(10.0)
        suite.plant.time()  # also where nobody reads it


def report(suite: Story) -> dict[str, Any]:
    """The report of the last run."""
    return suite.events("freeze_reported")[-1].data


def outcomes(suite: Story) -> list[str]:
    return [intent.outcome for intent in suite.intents(RUN)]


def findings(suite: Story) -> dict[str, tuple[bool, bool]]:
    """(judged, ok) of each criterion."""
    return {f["criterion"]: (f["judged"], f["ok"]) for f in report(suite)["findings"]}


async def closed(suite: Story) -> None:
    await suite.when(lambda: suite.alive and suite.intents(RUN)[-1].outcome, "the intent is closed")
    await suite.settle()


# --- in every state ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "state"), [("hold", "held"), ("stop", "stopped"), ("abort", "aborted")])
@pytest.mark.parametrize("reboots", [False, True])
async def test_a_run_is_followed_to_its_end_in_every_state(suite: Story, verb: str, state: str, reboots: bool) -> None:
    await running(suite, "freezing")
    await suite.do(verb)
    await suite.until_state(state)
    assert suite.plant.freezer.running, "it goes on by itself"
    if reboots:
        await suite.power_cut(20.0)
        assert suite.state.state == state
    await closed(suite)
    assert suite.state.state == state, "nobody restarted it"
    assert outcomes(suite) == ["done"]
    assert report(suite)["ended_as"] == "complete"
    assert report(suite)["unseen"] == []
    assert suite.plant.freezer.sequence == 1
    if verb == "hold":
        await suite.do("restart")
        await suite.until_state("complete")
    assert len(suite.events("freeze_reported")) == 1
    assert suite.plant.freezer.sequence == 1


async def test_a_unit_is_not_reset_before_its_run_is_judged(suite: Story) -> None:
    await running(suite, "freezing")
    await suite.do("abort")
    await suite.until_state("aborted")
    refused = await suite.do("reset", expect="refused")
    assert (refused.code, "a freezing run is on in freezer" in refused.text) == ("illegal_state", True)
    assert suite.runner.state == "aborted", "and the follower is there"
    await suite.power_cut(20.0)
    assert (await suite.do("reset", expect=None)).status == "refused", "nor by a later life of the controller"
    await closed(suite)
    assert report(suite)["ended_as"] == "complete"
    await suite.do("reset")
    assert put_away(suite) == [("done", "device")]


async def test_a_run_whose_freezer_never_answers_again_holds_its_unit_no_longer_than_a_run_can_last(
    suite: Story,
) -> None:
    await running(suite, "freezing")
    await suite.do("stop")
    strike(suite, "silent")
    await suite.when(lambda: "freezer-silent-run" in suite.state.alarms, "it is silent", 120.0)
    assert (await suite.do("reset", expect=None)).status == "refused"
    await closed(suite)
    assert report(suite)["ended_as"] == "not_ended"
    await suite.do("reset")
    assert put_away(suite) == [("partial", "device")]


async def test_a_run_that_nobody_follows_any_more_is_put_away_in_doubt(suite: Story) -> None:
    suite.announced = {"internal_error"}
    await running(suite, "freezing")
    await suite.do("stop")
    await suite.until_state("stopped")
    runs = suite.runner.freezing
    (task,) = runs._tasks.values()
    runs._look = broken
    await asyncio.wait([task])
    await suite.settle()
    assert "invariant-task" in suite.state.alarms, "its follower broke"
    await suite.do("reset")
    assert put_away(suite) == [("in_doubt", "device")], "unknown, and said so"


def broken(_run: object) -> str:
    raise RuntimeError("a follower that breaks")


def put_away(suite: Story) -> list[tuple[str, str]]:
    """How the runs of a batch that was put away were closed."""
    (path,) = (suite.folder / "data" / "batches" / "closed").glob("*.db")
    records, verdict = read(path)
    assert verdict.ok
    assert records[-1].event.kind == "batch_closed"
    started = {r.event.intent for r in records if isinstance(r.event, ev.IntentOpened) and r.event.action == "start"}
    closings = [r.event for r in records if isinstance(r.event, ev.IntentClosed)]
    return [(closing.outcome, closing.by) for closing in closings if closing.intent in started]


@pytest.mark.parametrize("reboots", [False, True])
async def test_a_run_that_rests_and_was_not_seen_to_end_is_a_persons(suite: Story, reboots: bool) -> None:
    await running(suite, "freezing")
    if reboots:
        await suite.power_cut(20.0)
        await suite.do("restart", expect=None)
    suite.plant.devices["freezer"].bend("program_state", lambda _: "idle")
    await suite.pass_time(20.0)
    assert outcomes(suite) == [""], "for a moment it may be so"
    await suite.pass_time(60.0)
    await closed(suite)
    assert (outcomes(suite), report(suite)["ended_as"]) == (["partial"], "not_seen")
    assert "nobody has seen how it ended" in suite.state.alarms["freeze-failed-run"].text
    assert suite.state.state == "held"
    assert suite.plant.freezer.sequence == 1


async def test_a_silent_freezer_is_an_alarm_also_while_held(suite: Story) -> None:
    await running(suite)
    await suite.do("hold")
    await suite.until_state("held")
    strike(suite, "silent", 180.0)
    await suite.when(lambda: "freezer-silent-run" in suite.state.alarms, "the alarm", 120.0)
    await suite.when(lambda: "freezer-silent-run" not in suite.state.alarms, "it is over", 240.0)
    await closed(suite)
    assert outcomes(suite) == ["done"]
    (gap,) = report(suite)["unseen"]
    assert 150.0 < gap[1] - gap[0] < 210.0


async def test_the_series_is_whole_and_by_the_devices_own_time(suite: Story) -> None:
    await running(suite)
    await suite.until_state("complete")
    rows = [row for event in suite.events("freeze_sampled") for row in event.rows]
    times = [row[0] for row in rows]
    assert times == sorted(set(times)), "no reading twice"
    assert max(b - a for a, b in pairwise(times)) <= 15.0
    truth = {round(t - suite.plant.freezer.started): sample for t, _, sample, _ in suite.plant.freezer.trace}
    off = [abs(row[2] - truth[row[0]]) for row in rows if row[0] in truth]
    assert len(off) > 50
    assert max(off) < 1.5
    assert max(len(event.rows) for event in suite.events("freeze_sampled")) <= 8, "bounded"
    assert all(ok for _, ok in findings(suite).values())
    assert {"freeze_started", "freeze_ended"} <= suite.state.marks.keys()


# --- the controller dies ----------------------------------------------------------------------------------------------


async def test_dead_in_the_middle_of_the_plateau_it_is_judged_with_the_gap(suite: Story) -> None:
    await running(suite)
    await nucleated(suite)
    await suite.pass_time(7 * MINUTE)
    await suite.power_cut(2 * MINUTE)
    await suite.until_state("complete")
    (gap,) = report(suite)["unseen"]
    assert 120.0 <= gap[1] - gap[0] <= 200.0, "what was seen before the cut is in the report"
    assert gap[0] > 600.0
    assert all(both == (True, True) for both in findings(suite).values()), "what decides was seen"
    assert any("not seen from" in e.text for e in suite.events("exception_raised", code="freezing"))
    assert (len(suite.intents(RUN)), suite.plant.freezer.sequence) == (1, 1)


async def test_dead_at_nucleation_that_is_not_judged_and_the_rest_is(suite: Story) -> None:
    await running(suite)
    while (suite.plant.freezer.sample or 0.0) > -2.5:
        await suite.pass_time(5.0)
    suite.kill()
    await suite.bury()
    await nucleated(suite)
    await suite.pass_time(2 * MINUTE)
    await suite.boot()
    await suite.until_state("complete")
    found = findings(suite)
    assert found["nucleation"] == (False, False)
    assert found["plateau"] == (False, False)
    assert found["start"] == found["rate after nucleation"] == found["end"] == (True, True)
    texts = [e.text for e in suite.events("exception_raised", code="freezing")]
    assert any(text.startswith("nucleation: not judged: unseen from") for text in texts)


async def test_back_after_the_end_the_end_is_not_judged(suite: Story) -> None:
    await running(suite)
    await nucleated(suite)
    suite.kill()
    await suite.bury()
    while suite.plant.freezer.running:
        await suite.pass_time(MINUTE)
        suite.plant.time()
    await suite.pass_time(600.0)
    await suite.boot()
    await suite.until_state("complete")
    assert findings(suite)["end"] == (False, False)
    assert findings(suite)["start"] == (True, True)
    assert outcomes(suite) == ["done"]


class OnceEach:
    """Kill in the moment in which each kind of event of a freezing step is on disk for the first time."""

    def __init__(self, seen: set[tuple[str, str]]) -> None:
        self.seen = seen

    def __call__(self, record: Record) -> bool:
        path = getattr(record.event, "path", "")
        name = getattr(record.event, "phase", getattr(record.event, "alarm", getattr(record.event, "mark", "")))
        key = (record.event.kind, str(name))
        begun = any(kind == "intent_opened" for kind, _ in self.seen) or record.event.kind == "intent_opened"
        if not begun or key in self.seen or path not in (RUN, "") or record.event.kind == "batch_ended":
            return False
        self.seen.add(key)
        return True


async def come_to(suite: Story, done: Callable[[], Any], restart: bool, most: int = 60) -> None:
    """Live through all deaths until something is so; a person restarts what is held."""
    for _ in range(most):
        await suite.when(lambda: not suite.alive or done() or (restart and suite.state.state == "held"), "an end")
        if not suite.alive:
            await suite.bury()
            await suite.boot()
        elif suite.runner_or_none is None or done():
            return
        elif suite.state.state == "held":
            await suite.do("restart", expect=None)
            await suite.when(lambda: not suite.alive or suite.state.state != "held", "it goes on")
    raise AssertionError(f"no end: {suite.where()}")


async def test_killed_at_every_event_of_a_run_it_is_reported_once(suite: Story) -> None:
    await suite.start("cryo")
    kills = OnceEach(set())
    suite.kill_at(kills)
    await come_to(suite, lambda: suite.alive and suite.state.state == "complete", restart=False)
    assert suite.deaths >= 5
    assert {"intent_opened", "freeze_sampled", "freeze_reported", "intent_closed"} <= {kind for kind, _ in kills.seen}
    assert len(suite.events("freeze_reported")) == 1
    assert [m.mark for m in suite.events("marked")] == ["freeze_started", "freeze_ended"]
    assert suite.plant.freezer.sequence == 1
    assert outcomes(suite)[-1] == "done"
    assert set(outcomes(suite)[:-1]) <= {"nothing"}


async def test_killed_at_every_event_of_a_run_that_fails(suite: Story) -> None:
    suite.hands.change = {"run": {"decision": "discard"}}
    await running(suite, minutes=20.0)
    await nucleated(suite)
    kills = OnceEach({("intent_opened", "")})
    suite.kill_at(kills)
    strike(suite, "profile_abort")
    await come_to(suite, lambda: suite.alive and suite.state.state == "complete", restart=True)
    assert suite.deaths >= 5
    first = {kind for kind, _ in kills.seen}  # of what is one transaction only the first
    assert {"state_changed", "prompt_opened", "exception_raised", "step_completed"} <= first
    assert len(suite.events("freeze_reported")) == 1
    assert len(suite.events("prompt_opened", prompt_kind="freeze-failed")) == 1
    assert len(suite.events("exception_raised", code="freeze-failed")) == 1
    assert suite.plant.freezer.sequence == 1


# --- the freezer loses its power --------------------------------------------------------------------------------------


async def failed(suite: Story) -> str:
    """Wait until a run has failed and the batch is held; return what is said of it."""
    await suite.until_state("held")
    alarm = suite.state.alarms["freeze-failed-run"]
    assert alarm.priority == "critical"
    return alarm.text


@pytest.mark.parametrize("both", [False, True])
async def test_power_lost_before_nucleation_a_person_may_freeze_anew(suite: Story, both: bool) -> None:
    suite.hands.mine = {"freeze-failed"}
    await running(suite, minutes=3.0)
    assert (suite.plant.freezer.sample or -9.0) > 0.0
    strike(suite, "power_cut", 40.0)
    if both:
        await suite.power_cut(90.0)
    text = await failed(suite)
    assert "ended as aborted" in text
    assert "not nucleated" in text
    assert outcomes(suite) == ["partial"]
    await suite.do("restart")
    await suite.until("cold/run", "acting")
    prompt = await suite.when(
        lambda: next((p for p in suite.state.prompts.values() if p.kind == "freeze-failed"), None), "a person is asked"
    )
    assert prompt.spec["inputs"]["decision"]["choices"][0] == "refreeze"
    await suite.pass_time(600.0)
    assert suite.plant.freezer.sequence == 1, "never by itself"
    suite.hands.mine = set()
    suite.hands.look()
    await suite.when(lambda: suite.plant.freezer.running, "it is frozen anew")
    await suite.until_state("complete")
    assert outcomes(suite) == ["partial", "done"]
    assert [e.data["ended_as"] for e in suite.events("freeze_reported")] == ["aborted", "complete"]
    assert suite.state.marks["freeze_started"] == suite.intents(RUN)[1].opened, "it counts from the run that worked"
    (exception,) = suite.events("exception_raised", code="freeze-failed")
    assert exception.text.startswith("refreeze, decided by operator badge")
    assert "freeze-failed-run" not in suite.state.alarms


@pytest.mark.parametrize("both", [False, True])
async def test_power_lost_after_nucleation_it_is_never_frozen_anew(suite: Story, both: bool) -> None:
    await running(suite)
    await nucleated(suite)
    await suite.pass_time(3 * MINUTE)
    strike(suite, "power_cut", 40.0)
    if both:
        await suite.power_cut(90.0)
    text = await failed(suite)
    assert ", nucleated," in text
    assert "rescue the bags to vapour by hand, now" in text
    await suite.do("restart")
    await suite.until_state("complete")
    (prompt,) = suite.events("prompt_opened", prompt_kind="freeze-failed")
    assert prompt.spec["inputs"]["decision"]["choices"] == ["rescued to vapour by hand", "discard"]
    assert suite.node(RUN).data["decision"] == "rescued to vapour by hand"
    assert suite.events("exception_raised", code="freeze-failed")
    assert outcomes(suite) == ["partial"]
    assert suite.plant.freezer.sequence == 1


async def test_a_freezer_that_forgot_its_run_is_not_started_again(suite: Story) -> None:
    """Exchanged or renewed it says the number before the run, as if it had never taken it; it was seen with it."""
    suite.hands.mine = {"freeze-failed"}
    await running(suite, minutes=5.0)
    suite.plant.freezer.abort(suite.plant.time())
    suite.plant.freezer.renew()
    text = await failed(suite)
    assert "not known" in text
    await suite.do("restart")
    await suite.when(lambda: any(p.kind == "freeze-failed" for p in suite.state.prompts.values()), "a person is asked")
    assert "refreeze" not in suite.prompt("run").spec["inputs"]["decision"]["choices"], "unknown is not false"
    await suite.pass_time(600.0)
    assert outcomes(suite) == ["partial"]
    assert suite.plant.freezer.sequence == 0


async def test_a_start_that_is_ignored_waits_for_a_person(suite: Story) -> None:
    suite.hands.mine = {"load"}
    await suite.start("cryo")
    await suite.until("cold/load", "acting")
    await suite.settle()

    def ignoring(record: Record) -> bool:
        if isinstance(record.event, ev.IntentOpened) and record.event.action == "start":
            suite.plant.freezer.start = lambda sequence, t: True  # acknowledged, and nothing happens
        return False

    suite.kill_at(ignoring)
    suite.hands.mine = set()
    suite.hands.look()
    await suite.until_state("held")
    assert outcomes(suite) == ["nothing"]
    del suite.plant.freezer.start
    suite.kill_at(None)
    await suite.do("restart")
    await suite.until_state("complete")
    assert outcomes(suite) == ["nothing", "done"]
