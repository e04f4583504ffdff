"""Semi-automatic and manual mode: which steps wait for a person, who may pass over one, also after kills."""

from __future__ import annotations

import asyncio

import pytest
from story import UNIT, Story

from tilctl.engine.port import Command, Outcome
from tilctl.journal.changes import ModeChanged, StepReleased
from tilctl.record.summary import summarize

SAID = {"user": "anna", "role": "quality", "actor": "anna (quality)", "reason": "a look at each step"}


async def mode(suite: Story, mode: str, expect: str | None = "done", **said: str) -> Outcome:
    return await suite.do("mode", {"mode": mode}, expect=expect, **(SAID | said))


async def proceed(suite: Story, step: str, expect: str | None = "done", **said: str) -> Outcome:
    return await suite.do("proceed", {"step": step}, expect=expect, **(SAID | {"role": "operator"} | said))


async def skip(suite: Story, step: str, expect: str | None = "done", **said: str) -> Outcome:
    return await suite.do("skip", {"step": step}, expect=expect, **(SAID | said))


async def waits(suite: Story, *paths: str) -> None:
    """Wait until just these steps wait for a person, and the status says so."""
    await suite.when(lambda: set(suite.runner.batch.pacing.paths()) == set(paths), f"{paths} wait for a person")
    await suite.settle()
    said = suite.controller.status(UNIT)["waits"]
    assert {wait["path"] for wait in said if wait["text"].startswith(("operator: proceed",))} == set(paths), said


async def test_in_semi_automatic_mode_what_acts_waits_for_a_person(suite: Story) -> None:
    await suite.start("adjustable", pause="60 s", fixed="1 s")
    await suite.until("stay/one", "acting")
    told = await mode(suite, "semi_automatic")
    assert told.text == "the mode is semi_automatic (was automatic); what has begun goes on"
    assert (await mode(suite, "semi_automatic", "already")).text == "the mode is semi_automatic already"
    await waits(suite, "later")
    assert suite.node("stay/two").status == "complete", "waits go by themselves"
    assert suite.state.node("later") is None
    await suite.pass_time(3600)
    text = "operator: proceed (operation; the batch is in semi-automatic mode)"
    assert {"path": "later", "text": text} in suite.controller.status(UNIT)["waits"]
    assert (await skip(suite, "later", "refused")).code == "not_skippable"
    await proceed(suite, "later", reason="")
    await waits(suite, "later/warmer")
    assert (await skip(suite, "later/warmer", "refused")).code == "not_skippable", "not in this mode"
    assert (await proceed(suite, "stay/climate", "refused")).code == "not_waiting"
    await proceed(suite, "later/warmer")
    await suite.until_state("complete")
    assert (await mode(suite, "manual", "refused")).code == "illegal_state"
    assert (await proceed(suite, "later/end", "refused")).code == "illegal_state"
    assert [event.path for event in suite.events("step_released")] == ["later", "later/warmer"]
    assert [it.code for it in summarize(suite.records()).exceptions] == ["mode"]


async def test_in_manual_mode_each_step_waits_and_may_be_passed_over(suite: Story) -> None:
    await suite.start("adjustable", pause="60 s", fixed="1 s")
    await suite.until("stay/one", "acting")
    await mode(suite, "manual")
    await waits(suite, "stay/two")
    for said, code in (
        ({"user": "", "role": "", "actor": ""}, "no_actor"),
        ({"reason": ""}, "no_reason"),
        ({"role": "operator"}, "role_not_allowed"),
    ):
        assert (await skip(suite, "stay/two", "refused", **said)).code == code
        assert code == "no_actor" or (await mode(suite, "automatic", "refused", **said)).code == code
    assert (await proceed(suite, "stay/two", "refused", user="", role="", actor="")).code == "no_actor"
    assert (await skip(suite, "stay/one", "refused")).code == "not_waiting", "what has begun is never passed over"
    await skip(suite, "stay/two", reason="seen by eye")
    await waits(suite, "later")
    node = suite.node("stay/two")
    assert (node.status, node.data) == ("complete", {"skipped": True})
    (found,) = [it for it in summarize(suite.records()).exceptions if it.code == "skipped"]
    assert (found.path, found.text) == ("stay/two", "wait stay/two was passed over by anna (quality): seen by eye")
    await proceed(suite, "later")
    await skip(suite, "later/warmer")
    assert suite.state.targets["station.temperature"] == (36.0, "degC")
    await waits(suite, "later/rounds")  # the step before it is not for this batch, by its own condition
    await proceed(suite, "later/rounds")
    await waits(suite, "later/rounds/1/each")
    await mode(suite, "automatic")
    await suite.until_state("complete")


async def test_hold_pause_and_stop_are_heard_while_a_step_waits(suite: Story) -> None:
    await suite.start("adjustable", pause="60 s")
    await suite.until("stay/one", "acting")
    await mode(suite, "manual")
    await waits(suite, "stay/two")
    await suite.do("pause")
    await suite.until_state("paused", within=1.0)
    assert (await proceed(suite, "stay/two", "refused")).code == "not_waiting"
    await suite.do("resume")
    await waits(suite, "stay/two")
    await suite.do("hold")
    assert (await proceed(suite, "stay/two", "refused")).text.endswith("none (the batch is held)")
    await suite.do("restart")
    await waits(suite, "stay/two")
    await suite.do("stop")
    await suite.until_state("stopped", within=1.0)
    assert suite.state.node("stay/two") is None


async def test_in_branches_each_waits_for_itself(suite: Story) -> None:
    await suite.start("beside")
    await suite.until("both/vessels", "acting")
    await mode(suite, "semi_automatic")
    await waits(suite, "both/par/feed/in", "both/par/drain/out")
    assert suite.node("both/par/look/first").status == "acting"
    await proceed(suite, "both/par/feed/in")
    await suite.when(lambda: suite.intents("both/par/feed/in"), "its dose is ordered")
    assert (await proceed(suite, "both/par/feed/in", "refused")).code == "not_waiting"
    assert (await skip(suite, "both/par/feed/in", "refused")).code == "not_waiting", "a dose under way"
    await waits(suite, "both/par/drain/out")
    await mode(suite, "manual")
    await skip(suite, "both/par/drain/out")
    await suite.until("both/par/feed/in", "complete")
    await mode(suite, "automatic")
    await suite.until_state("complete")
    assert not suite.intents("both/par/drain/out")


@pytest.mark.parametrize("verb", ["mode", "proceed", "skip"])
@pytest.mark.parametrize("kind", ["command_received", "its own", "command_answered", "step_started"])
async def test_a_kill_at_each_event_leaves_it_done_or_not(suite: Story, kind: str, verb: str) -> None:
    await suite.start("adjustable", pause="60 s", fixed="1 s")
    await suite.until("stay/one", "acting")
    await mode(suite, "manual")
    await waits(suite, "stay/two")
    args = {"mode": "automatic"} if verb == "mode" else {"step": "stay/two"}
    order = Command(
        "c-99", "tablet", UNIT, verb, args=args, content_sha256="sha", reason=SAID["reason"], actor=SAID["actor"],
        user=SAID["user"], role=SAID["role"],
    )  # fmt: skip
    own = "mode_changed" if verb == "mode" else "step_released"
    suite.kill_at(lambda record: record.event.kind == (own if kind == "its own" else kind))
    await asyncio.wait([suite.spawn(suite.controller.execute(order, lambda seq, digest: None), "hands:order")])
    suite.kill_at(None)
    if suite.alive:  # `skip` of it is on record as begun and complete at once, which may be after the answer
        suite.kill()
    await suite.bury()
    await suite.boot()
    done = kind != "command_received"
    known = suite.controller.known_command(UNIT, "c-99")
    assert known is not None
    assert known.reply["status"] == ("done" if done else "failed")
    if not done:
        await waits(suite, "stay/two")
    again = await suite.controller.execute(order, lambda seq, digest: None)
    assert again.status == ("already" if done else "done")
    await suite.until("stay/two", "complete")
    assert ("skipped" in suite.node("stay/two").data) == (verb == "skip")
    assert len(suite.events("exception_raised", code="skipped")) == (verb == "skip")
    who = (SAID["reason"], SAID["actor"], "c-99")
    if verb == "mode":
        assert suite.events("mode_changed")[1:] == [ModeChanged("manual", "automatic", *who)]
    else:
        assert suite.events("step_released") == [
            StepReleased("stay/two", "skip" if verb == "skip" else "proceed", *who)
        ]
        await waits(suite, "later")


async def test_what_stands_after_a_hold_waits_in_manual_mode_and_may_be_passed_over(suite: Story) -> None:
    await suite.start("small")
    await suite.until_flowed("pump_media", 30.0)
    await mode(suite, "manual")
    assert (await skip(suite, "fill/first", "refused")).code == "not_waiting", "a dose under way"
    await suite.do("hold")
    await suite.until("fill/first", "held")
    await suite.do("restart")
    await waits(suite, "fill/first")
    assert suite.pump("pump_media").run is None, "the rest is not pumped by itself"
    (wait,) = [wait for wait in suite.controller.status(UNIT)["waits"] if wait["path"] == "fill/first"]
    assert wait["text"] == "operator: proceed or skip (transfer, held; the batch is in manual mode)"
    await skip(suite, "fill/first")
    await waits(suite, "fill/between")
    (found,) = suite.events("exception_raised", code="skipped")
    (intent,) = suite.intents("fill/first")
    assert f"anna (quality), {intent.delivered_ml:.1f} mL delivered: " in found.text
    assert len(suite.pump("pump_media").log) == 1
    await proceed(suite, "fill/between")
    await waits(suite, "fill/second")
    await proceed(suite, "fill/second")
    await suite.when(lambda: suite.intents("fill/second"), "its dose is ordered")
    await suite.do("hold")
    await suite.do("restart")
    await waits(suite, "fill/second")  # it was told once, for once
    await mode(suite, "automatic")
    await suite.until_state("complete")


async def test_a_dose_in_doubt_is_a_persons_in_every_mode_and_never_passed_over(suite: Story) -> None:
    suite.hands.mine = {"reconcile"}
    await suite.start("small")
    await suite.until_flowed("pump_media", 40.0)
    await mode(suite, "manual")
    suite.faults("scales").silent = True
    await suite.until_state("held")
    assert suite.node("fill/first").status == "in_doubt"
    suite.faults("scales").silent = False
    await suite.when(lambda: suite.plant_suite.instruments["scales"].status.state == "online", "the scales answer")
    await suite.do("restart")
    for _ in range(2):  # asked, held over it, asked again
        await suite.when(lambda: suite.controller.prompts(UNIT), "a person is asked")
        assert (await skip(suite, "fill/first", "refused")).code == "not_waiting"
        await suite.do("hold")
        assert suite.node("fill/first").status == "held"
        await suite.do("restart")
    real = suite.pump("pump_media").log[0].moved_ml
    await suite.answer("fill/first", delivered=f"{real:.1f} mL", why="weighed", **{"sign.operator": "operator 7"})
    await waits(suite, "fill/between")
    assert suite.node("fill/first").status == "complete"


async def test_the_question_of_a_step_that_is_passed_over_is_withdrawn(suite: Story) -> None:
    suite.hands.mine = {"strict"}
    await suite.start("questions")
    await suite.until("talk/strict", "acting")
    await suite.until_state("held")
    assert suite.node("talk/strict").status == "failed"
    await mode(suite, "manual")
    await suite.do("restart")
    await waits(suite, "talk/strict")
    (number,) = [prompt["id"] for prompt in suite.controller.prompts(UNIT)]
    assert f"overdue-{number}" in suite.state.alarms
    suite.kill_at(lambda record: record.event.kind == "step_released")
    await asyncio.wait([suite.spawn(skip(suite, "talk/strict", None), "hands:skip")])
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    if suite.runner.state == "held":
        await suite.do("restart")
    await waits(suite, "talk/lenient")
    assert suite.controller.prompts(UNIT) == []
    assert f"overdue-{number}" not in suite.state.alarms
