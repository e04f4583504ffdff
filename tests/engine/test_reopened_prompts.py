"""Answers whose moment passed while the record took nothing: they are in force once it is opened again."""

from __future__ import annotations

import asyncio

from story import UNIT, Story

from tilctl.journal import events as ev
from tilctl.journal.verify import read

INPUTS = {"grade": "good", "volume": "100 mL", "note": "a", "scan.lot": "L", "sign.operator": "o"}


async def answered_for_later(suite: Story) -> None:
    """Answer the form for a moment at which nothing can be written."""
    suite.announced |= {"record_failed", "event_not_on_record"}
    suite.hands.mine = {"everything"}
    await suite.start("questions")
    await suite.when(lambda: suite.controller.prompts(UNIT), "the form is asked")
    effective = suite.moment(suite.now(), 600.0)
    await suite.do("prompt-answer", {"prompt": "p1", "inputs": INPUTS}, effective=effective)
    suite.clock.disk_full = True
    await asyncio.sleep(1200)
    assert not suite.events("prompt_answered")
    assert suite.runner.state == "held"


async def test_an_answer_that_came_into_force_on_a_full_disk_is_not_lost(suite: Story) -> None:
    await answered_for_later(suite)
    suite.clock.disk_full = False
    await suite.do("restart")
    await suite.until("talk/form", "complete")
    (answered,) = suite.events("prompt_answered")
    assert answered.inputs["grade"] == "good"


async def test_what_was_withdrawn_on_a_full_disk_is_withdrawn_on_the_record(suite: Story) -> None:
    await answered_for_later(suite)
    await suite.do("abort", expect=None)
    await asyncio.sleep(60)
    suite.clock.disk_full = False
    path = suite.runner.batch.journal.path
    await suite.do("reset")
    events = [record.event for record in read(path.parent / "closed" / path.name)[0]]
    assert not [e for e in events if isinstance(e, ev.PromptAnswered)]
    assert [e.prompt for e in events if isinstance(e, ev.PromptWithdrawn)] == ["p1"]
