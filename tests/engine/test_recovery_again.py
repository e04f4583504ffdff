"""A second death in the wrong moment: what the first start found, or what a step was held for, is not forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest import approx
from story import HERE, UNIT, Story
from test_guards import heat

from tilctl.engine.port import Command, Outcome
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.plant.suite import Suite


async def dead(suite: Story, seconds: float) -> None:
    suite.kill()
    await suite.bury()
    await asyncio.sleep(seconds)


async def killed_at(suite: Story, due: Callable[[Record], bool], seconds: float = 60.0) -> None:
    """Start the controller, have it killed where an event is on disk, and start it again."""
    suite.kill_at(due)
    await suite.boot()
    await suite.when(lambda: not suite.alive, "it was killed", within=seconds)
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()


def away(suite: Story) -> float:
    return suite.events("outage")[-1].seconds


# --- how long nobody was in control -------------------------------------------------------------------------------


async def away_too_long(suite: Story, seconds: float = 3600.0) -> None:
    """Leave a batch alone in a step that allows ten minutes of it."""
    await suite.start("small")
    await suite.until("empty/static", "acting")
    await dead(suite, seconds)


@pytest.mark.parametrize("kind", ["batch_reopened", "outage", "recovered", "alarm_raised", "exception_raised"])
async def test_killed_anywhere_in_recovery_an_outage_that_was_too_long_stays_too_long(suite: Story, kind: str) -> None:
    await away_too_long(suite)
    await killed_at(suite, lambda record: record.event.kind == kind)
    await suite.until_state("held", within=60.0)
    assert "static allows an outage of 10 min" in suite.state.held_for
    await asyncio.sleep(3600.0)
    assert suite.runner.state == "held"
    await suite.do("restart")
    await suite.until_state("complete")


async def test_an_event_of_a_life_that_never_recovered_it_is_no_sign_of_control(suite: Story) -> None:
    """A guard alarms in the first scan of a life that dies before it has noted how long nobody was there."""
    text = (HERE / "recipes" / "guarded.yaml").read_text("utf-8").replace("recipe: guarded", "recipe: guarded-twice")
    text = text.replace("- wait: {id: one, for: wait}", "- wait: {id: one, for: wait, max_outage: 10 min}")
    cold = "\n  - {id: cold, when: station.temperature < 33 degC, priority: high, source: P}"
    text = text.replace("then: hold, source: P}", f"then: hold, source: P}}{cold}", 1)
    (suite.folder / "guarded-twice.yaml").write_text(text, encoding="utf-8")
    await suite.start("guarded-twice", wait="9 h")
    await suite.until("stay/one", "acting")
    await asyncio.sleep(7000.0)
    suite.kill()
    await suite.bury()
    heat(suite, 20.0)
    await asyncio.sleep(3 * 3600.0)
    await killed_at(suite, lambda r: isinstance(r.event, ev.AlarmRaised) and r.event.alarm == "cold")
    await suite.until_state("held", within=60.0)
    assert away(suite) >= 3 * 3600.0
    assert "max_outage" not in suite.state.held_for
    assert "one allows an outage of 10 min" in suite.state.held_for


async def test_safe_mode_is_no_control_however_long_it_lasts_and_how_often_it_is_started(suite: Story) -> None:
    suite.leaves_safe_mode = False
    await away_too_long(suite)

    def fit(plant_suite: Suite) -> None:
        async def settled() -> None:
            suite.kill()
            raise asyncio.CancelledError

        plant_suite.settled = settled  # type: ignore[method-assign]

    suite.fit = fit  # type: ignore[method-assign]
    for _ in range(3):
        await suite.boot()
        assert not suite.alive
        await suite.bury()
        await asyncio.sleep(1.0)
    suite.fit = lambda plant_suite: None  # type: ignore[method-assign]
    await suite.boot()
    assert suite.controller.mode == "safe"
    await asyncio.sleep(3 * 3600.0)
    await suite.power_cut(5.0)
    assert suite.controller.mode == "safe"
    await suite.do("leave-safe-mode")
    await suite.until_state("held", within=60.0)
    assert away(suite) == approx(4 * 3600.0, abs=30.0)
    assert "static allows an outage of 10 min" in suite.state.held_for


async def test_in_control_again_the_next_outage_counts_from_there(suite: Story) -> None:
    await away_too_long(suite)
    await suite.boot()
    await suite.until_state("held")
    await suite.do("restart")
    await suite.until("empty/off", "acting")
    await dead(suite, 20.0)
    await suite.boot()
    assert away(suite) == approx(20.0, abs=15.0)
    await suite.until_state("held")  # in the middle of a dose
    assert "allows" not in suite.state.held_for
    await suite.do("restart")
    await suite.until_state("complete")


# --- what a step was held for -------------------------------------------------------------------------------------


def missed(folder: Path, what: str) -> str:
    text = (HERE / "recipes" / "missed.yaml").read_text("utf-8")
    (folder / f"missed-{what}.yaml").write_text(
        text.replace("run_late", what).replace("recipe: missed", f"recipe: missed-{what}"), encoding="utf-8"
    )
    return f"missed-{what}"


@pytest.mark.parametrize("kind", ["exception_raised", "step_phase", "step_failed"])
async def test_a_missed_moment_is_held_for_whatever_kills_it(suite: Story, kind: str) -> None:
    await suite.start(missed(suite.folder, "hold"))
    await suite.until("feeds/each/1/rest", "acting")
    await dead(suite, 7200.0)
    await killed_at(suite, lambda record: record.event.kind == kind)
    await suite.until_state("held", within=60.0)
    await asyncio.sleep(3600.0)
    assert suite.state.node("feeds/each/1/fed") is None, "nothing follows before a person has decided"
    found = [e for e in suite.events("exception_raised") if e.code == "missed"]
    assert len(found) == 1
    await suite.do("restart")
    await suite.until("feeds/each/1/fed", "complete")


async def test_a_hold_that_comes_with_the_missed_moment_takes_nothing_from_it(suite: Story) -> None:
    await suite.start(missed(suite.folder, "hold"))
    await suite.until("feeds/each/1/rest", "acting")
    await dead(suite, 7200.0)
    await suite.boot()
    await suite.do("hold")
    await suite.until_state("held")
    await suite.do("restart", expect=None)
    await suite.until_state("held")
    assert suite.state.node("feeds/each/1/fed") is None
    await suite.do("restart")
    await suite.until("feeds/each/1/fed", "complete")


async def test_a_moment_whose_loss_ends_the_batch_ends_it_after_a_kill_too(suite: Story) -> None:
    await suite.start(missed(suite.folder, "abort"))
    await suite.until("feeds/each/1/rest", "acting")
    await dead(suite, 7200.0)
    await killed_at(suite, lambda record: record.event.kind == "step_phase")
    await suite.until_state("aborted", within=60.0)


@pytest.mark.parametrize("kind", ["alarm_raised", "exception_raised", "step_failed"])
async def test_an_overdue_answer_is_held_for_whatever_kills_it(suite: Story, kind: str) -> None:
    suite.hands.mine = {"strict"}
    await suite.start("questions")
    await suite.until("talk/strict", "acting")
    suite.kill_at(lambda record: record.event.kind == kind)
    await suite.when(lambda: not suite.alive, "it was killed", within=600.0)
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    await suite.until_state("held", within=60.0)
    await suite.answer("strict", **dict.fromkeys(suite.prompt("strict").spec["inputs"], "x"))
    await asyncio.sleep(3600.0)
    assert suite.runner.state == "held", "a late answer restarts nothing"
    await suite.do("restart")
    await suite.until("talk/strict", "complete")


# --- commands that were cut off -----------------------------------------------------------------------------------


async def given(suite: Story, verb: str, name: str, args: dict[str, Any] | None = None) -> Outcome | None:
    """Give a command; None where the controller died before it was answered."""
    command = Command(name, "test", UNIT, verb, args=args or {}, content_sha256=f"sha-{name}")
    task = suite.spawn(suite.controller.execute(command, lambda seq, digest: None), f"hands:{name}")
    await asyncio.wait([task])
    return None if task.cancelled() or not suite.alive else task.result()


def unanswered(suite: Story) -> set[str]:
    received = {event.command_id for event in suite.events("command_received")}
    return received - {event.command_id for event in suite.events("command_answered")}


async def test_a_command_that_was_taken_and_not_carried_out_is_answered_so(suite: Story) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    suite.kill_at(lambda r: isinstance(r.event, ev.CommandReceived) and r.event.verb == "pause")
    await given(suite, "pause", "c-pause")
    suite.kill_at(None)
    assert not suite.alive
    await suite.bury()
    await suite.boot()
    known = suite.controller.known_command(UNIT, "c-pause")
    assert known is not None
    assert (known.reply["status"], known.reply["code"]) == ("failed", "interrupted")
    assert "give it again" in known.reply["text"]
    await suite.settle()
    assert [e.code for e in suite.events("exception_raised")] == ["interrupted"], "the review sees it"
    assert suite.runner.state == "running"
    assert unanswered(suite) == set()


async def test_a_command_that_had_its_effect_is_answered_so_and_never_carried_out_twice(suite: Story) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    await suite.do("hold")
    suite.kill_at(lambda r: isinstance(r.event, ev.StateChanged) and r.event.to_state == "restarting")
    await given(suite, "restart", "c-restart")
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    known = suite.controller.known_command(UNIT, "c-restart")
    assert known is not None
    assert known.reply["status"] == "done", "its repetition is answered with this, and restarts nothing"
    assert "went down before it was answered" in known.reply["text"]
    await suite.until_state("held")
    assert unanswered(suite) == set()


async def test_an_answer_that_was_taken_is_answered_as_done(suite: Story) -> None:
    suite.hands.mine = {"strict"}
    await suite.start("questions")
    await suite.until("talk/strict", "acting")
    await suite.settle()
    prompt = suite.prompt("strict")
    inputs = dict.fromkeys(prompt.spec["inputs"], "x")
    suite.kill_at(lambda record: isinstance(record.event, ev.AnswerReceived))
    await given(suite, "prompt-answer", "c-answer", {"prompt": prompt.id, "inputs": inputs})
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    known = suite.controller.known_command(UNIT, "c-answer")
    assert known is not None
    assert known.reply["status"] == "done"
    await suite.until("talk/strict", "complete")
    assert unanswered(suite) == set()


async def test_a_start_that_was_cut_off_before_its_batch_is_answered_as_failed(suite: Story) -> None:
    suite.controller.journal.on_commit.append(
        lambda record: suite.kill() if isinstance(record.event, ev.CommandReceived) else None
    )
    await given(suite, "start", "c-start", {"recipe": "still"})
    assert not suite.alive
    await suite.bury()
    await suite.boot()
    known = suite.controller.known_command(UNIT, "c-start")
    assert known is not None
    assert (known.reply["status"], known.reply["code"]) == ("failed", "interrupted")
    assert suite.runner_or_none is None


async def test_the_clock_undoes_no_hold_but_its_own(suite: Story) -> None:
    """Nothing that is left takes time, so it goes on unsynchronised; what a person holds meanwhile stays held."""
    suite.hands.mine = {"checked"}
    await suite.start("questions")
    await suite.until("talk/checked", "acting")
    await dead(suite, 600.0)
    suite.time_server = False
    suite.step_clock(-590.0)
    await suite.boot()
    assert suite.controller.status(UNIT)["mode_reason"] == "the clock is not synchronised"
    assert suite.runner.state == "running"
    await suite.do("hold")
    suite.clock.server = True
    suite.step_clock(590.0)
    await suite.when(lambda: not suite.controller.status(UNIT)["mode_reason"], "the time is known")
    await suite.settle()
    await asyncio.sleep(60.0)
    assert suite.runner.state == "held"
