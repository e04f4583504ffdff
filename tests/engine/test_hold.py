"""Hold, restart, pause, resume, stop, abort, reset: what they do to the plant, and how a batch goes on."""

from __future__ import annotations

import asyncio

from pytest import approx
from story import UNIT, Story

from tilctl.engine.port import Outcome
from tilctl.engine.state import BatchState


async def in_the_first_dose(suite: Story, moved: float = 20.0) -> None:
    await suite.start("small")
    await suite.until_flowed("pump_media", moved)


def assert_still(suite: Story) -> None:
    """No pump turns and every valve is closed, in the plant."""
    for name, pump in suite.plant.pumps.items():
        assert suite.pump(name).run is None, f"{name} turns"
        assert (pump.suction, pump.delivery) == (0, 0), f"valves of {name} are open"


async def test_hold_in_the_middle_of_a_dose_and_restart(suite: Story) -> None:
    await in_the_first_dose(suite, 20.0)

    await suite.do("hold")
    assert suite.runner.state == "held"
    assert_still(suite)
    assert suite.plant.climate.temperature.goal == 36.0, "hold is not off: the standing target is kept"
    first = suite.intents("fill/first")[0]
    assert first.outcome == "partial"
    assert first.delivered_ml == approx(suite.pump("pump_media").log[0].moved_ml, abs=1.5)
    assert suite.node("fill/first").status == "held"
    assert suite.state.states["fill"] == "held", "the operation is held with its batch"
    assert [w["text"] for w in suite.controller.status(UNIT)["waits"]] == ["operator: restart (hold by test)"]

    await asyncio.sleep(600)
    assert_still(suite)
    await suite.do("restart")
    await suite.until("fill/first", "complete")
    intents = suite.intents("fill/first")
    assert [i.outcome for i in intents] == ["partial", "done"]
    assert intents[1].args["volume"] == approx(60.0 - first.delivered_ml, abs=0.01), "a new intent for the remainder"
    moved = sum(run.moved_ml for run in suite.pump("pump_media").log)
    assert moved == approx(60.0, abs=2.5)
    assert [run.sequence for run in suite.pump("pump_media").log] == [i.args["sequence"] for i in intents]
    await suite.until_state("complete")
    assert suite.state.result == "complete"


async def test_held_again_and_again_a_dose_still_comes_to_its_volume(suite: Story) -> None:
    await suite.start("small", first="100 mL")
    for _ in range(7):  # more often than the tries that a pump without a person has
        await suite.until_flowed("pump_media", 5.0)
        await suite.do("hold")
        assert_still(suite)
        await suite.do("restart")
    await suite.until("fill/first", "complete")
    assert len(suite.intents("fill/first")) == 8
    assert sum(run.moved_ml for run in suite.pump("pump_media").log) == approx(100.0, abs=4.0)
    suite.ledger_within = (8.0, 0.03)  # eight closures by noisy scales


async def test_hold_while_a_person_is_asked_keeps_the_question(suite: Story) -> None:
    suite.hands.mine = {"media_in"}
    await suite.start("small")
    await suite.until("fill/media_in", "acting")
    await suite.when(lambda: suite.controller.prompts(UNIT), "asked")
    await suite.do("hold")
    assert [p["path"] for p in suite.controller.prompts(UNIT)] == ["fill/media_in"]
    suite.bench.hang(port=7, kind="bag", volume_ml=900.0, content={"liquid": "buffer"}, name="media")
    await suite.answer("media_in", **{"volume.media": "900 mL"})
    await suite.settle()
    assert suite.node("fill/media_in").status == "held", "an answer does not restart a held batch"
    await suite.do("restart")
    await suite.until("fill/media_in", "complete")
    assert len([p for p in suite.state.prompts.values() if p.path == "fill/media_in"]) == 1, "asked once"
    assert suite.state.ledger.get("media").volume_ml == 900.0


async def test_pause_takes_effect_at_the_next_safe_point(suite: Story) -> None:
    await in_the_first_dose(suite)
    outcome = await suite.do("pause")
    assert "pausing" in outcome.text
    assert suite.pump("pump_media").run is not None, "a pause does not break a dose off"
    await suite.until_state("paused")
    assert suite.node("fill/first").status == "complete"
    assert suite.state.node("fill/between") is None, "the next step has not begun"
    await asyncio.sleep(300)
    assert suite.state.node("fill/between") is None
    await suite.do("resume")
    await suite.until_state("complete")
    assert [i.outcome for i in suite.state.intents.values()] == ["done"] * 3


async def test_a_pause_in_the_last_step_is_a_pause_and_not_the_end(suite: Story) -> None:
    await suite.start("still", wait="1 min")
    await suite.until("stay/two", "acting")
    await suite.when(lambda: suite.state.complete("stay"), "the last operation is near")
    await suite.until_state("complete")
    await suite.do("reset")

    await suite.start("one-wait")
    await suite.until("only/wait", "acting")
    await suite.do("pause")
    await suite.until_state("paused", "complete")
    assert suite.runner.state == "paused"
    assert not suite.state.result, "a batch that is paused has not ended"
    await suite.do("resume")
    await suite.until_state("complete")
    assert [e.result for e in suite.events("batch_ended")] == ["complete"]


async def test_hold_while_pausing_holds_at_once(suite: Story) -> None:
    await in_the_first_dose(suite)
    await suite.do("pause")
    await suite.do("hold")
    assert suite.runner.state == "held"
    assert_still(suite)
    await suite.do("restart")
    await suite.until_state("complete")


async def test_stop_ends_the_batch_and_the_targets_stay(suite: Story) -> None:
    await in_the_first_dose(suite)
    await suite.do("stop")
    assert (suite.runner.state, suite.state.result) == ("stopped", "stopped")
    assert_still(suite)
    assert suite.plant.climate.temperature.goal == 36.0
    assert suite.intents("fill/first")[0].outcome == "partial"
    assert suite.controller.prompts(UNIT) == []
    await asyncio.sleep(3600)
    assert len(suite.intents("fill/first")) == 1, "nothing goes on by itself"
    assert_still(suite)


async def test_stop_withdraws_the_questions(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("small")
    await suite.when(lambda: suite.controller.prompts(UNIT), "asked")
    await suite.do("stop")
    assert suite.controller.prompts(UNIT) == []
    assert [e.prompt for e in suite.events("prompt_withdrawn")] == ["p1"]
    refused = await suite.answer("media_in", expect="refused", **{"volume.media": "900 mL"})
    assert refused.code == "no_prompt"


async def test_abort_is_final_and_also_legal_when_stopped(suite: Story) -> None:
    await in_the_first_dose(suite)
    await suite.do("stop")
    await suite.do("abort")
    assert (suite.runner.state, suite.state.result) == ("aborted", "aborted")
    assert suite.plant.climate.temperature.goal == 36.0, "abort never turns heat off"
    assert_still(suite)
    assert (await suite.do("restart", expect="refused")).code == "illegal_state"


async def test_hold_and_abort_in_one_moment(suite: Story) -> None:
    await in_the_first_dose(suite)
    held, aborted = await asyncio.gather(suite.do("hold"), suite.do("abort"))
    assert (held.status, aborted.status) == ("done", "done")
    assert suite.runner.state == "aborted"
    assert_still(suite)
    assert suite.intents("fill/first")[0].outcome == "partial", "the intent under way was closed by evidence"


async def test_hold_right_after_start(suite: Story) -> None:
    started, held = await asyncio.gather(suite.start("small"), after_start(suite, "hold"))
    assert (started.status, held.status) == ("done", "done")
    assert suite.runner.state == "held"
    await suite.do("restart")
    await suite.until_state("complete")


async def test_hold_while_restarting(suite: Story) -> None:
    await suite.start("still")
    await suite.until("stay/one", "acting")
    await suite.do("hold")
    suite.faults("incubator").delay_s = 0.6
    restarted = suite.spawn(suite.do("restart"), "restarting")
    await suite.when(lambda: suite.runner.state == "restarting", "restarting")
    await suite.do("hold")
    assert (await restarted).text == "cell1 is held", "the answer tells where the batch is, not where it should be"
    assert suite.runner.state == "held"


async def after_start(suite: Story, verb: str) -> Outcome:
    await suite.when(lambda: suite.runner_or_none is not None, "there is a batch")
    return await suite.do(verb)


async def test_a_second_batch_on_the_same_unit(suite: Story) -> None:
    await in_the_first_dose(suite)
    first_name, first_file = suite.runner.batch.name, suite.file()
    await suite.do("abort")
    suite.check()
    await suite.do("reset")
    assert suite.runner_or_none is None
    assert not first_file.exists()
    for port in (7, 1, 16):
        suite.bench.take(port)
    await suite.start("small")
    assert suite.runner.batch.name != first_name
    await suite.until_state("complete")
    assert suite.state.commands, "commands of the new batch are on its own record"
    assert [i.outcome for i in suite.state.intents.values()] == ["done"] * 3
    used = [run.sequence for run in suite.pump("pump_media").log]
    assert used == sorted(set(used)), "the pump's numbers go on from batch to batch"


async def test_start_on_a_unit_that_has_a_batch(suite: Story) -> None:
    await suite.start("still")
    again = await suite.do("start", {"recipe": "still"}, expect="refused")
    assert again.code == "illegal_state"
    assert "has a batch" in again.text


async def test_two_starts_at_once_make_one_batch(suite: Story) -> None:
    both = await asyncio.gather(*(suite.do("start", {"recipe": "still"}, expect=None) for _ in range(2)))
    assert sorted(o.status for o in both) == ["done", "refused"]
    assert len(list((suite.folder / "data" / "batches").glob("*.db"))) == 1


async def test_starts_that_cannot_be(suite: Story) -> None:
    for args, code, words in (
        ({"recipe": "nowhere"}, "unknown_recipe", "nowhere"),
        ({"recipe": "still", "parameters": {"wait": "11 h"}}, "bad_parameter", "range"),
        ({"recipe": "still", "parameters": {"wait": "37 degC"}}, "bad_parameter", "wait"),
        ({"recipe": "still", "parameters": {"pause": "1 h"}}, "bad_parameter", "pause is unknown"),
        ({"recipe": "broken"}, "bad_recipe", "broken.yaml:"),
    ):
        (suite.folder / "broken.yaml").write_text("recipe: broken\nrecipe: twice\n")
        outcome = await suite.do("start", args, expect="refused")
        assert outcome.code == code, outcome
        assert words in outcome.text, outcome
    assert suite.runner_or_none is None
    assert not list((suite.folder / "data" / "batches").glob("*.db"))


async def test_an_operation_ends_with_its_batch(suite: Story) -> None:
    await suite.start("shakedown")
    await suite.until_state("complete")
    states: BatchState = suite.state
    assert {path: state.value for path, state in states.states.items()} == {
        "": "complete", "prepare": "complete", "culture": "complete", "collect": "complete", "freeze_down": "complete",
    }  # fmt: skip
    assert (states.result, states.reason) == ("complete", "every verb was used")
    assert [w["text"] for w in suite.controller.status(UNIT)["waits"]] == ["operator: reset"]
