"""Alarms of interlocks of equipment that units share: each stands with whoever has it, and nowhere once it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from ruled import ANNA, bypass
from story import UNIT, Story, told
from test_shared_alarms import at, has_the_freezer, level, standing

from simulators.faults.injector import Injector
from simulators.faults.model import Fault
from tilctl.engine.port import SITE

LID, INVALID, BYPASSED = "interlock-lid", "interlock-lid-invalid", "bypass-lid"
DECLARED = {
    "interlocks.lid.when": "freezer1.ln2_level < 35 %",
    "interlocks.lid.then.freezer1": "abort",
    "interlocks.lid.reset": "manual",
}


@pytest_asyncio.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Story]:
    story = Story(tmp_path)
    story.site_overrides |= DECLARED
    async with told(story):
        yield story


def nowhere(suite: Story, alarm: str) -> bool:
    return not any(standing(suite, unit, alarm) for unit in (SITE, UNIT))


async def tripped(suite: Story, unit: str) -> None:
    level(suite, 30.0)
    await suite.when(lambda: standing(suite, unit, LID), f"with {unit}", within=900.0)


async def is_reset(suite: Story) -> None:
    level(suite, 90.0)
    await suite.pass_time(900.0)
    await suite.do("interlock-reset", {"interlock": "lid"})
    await suite.settle()


@pytest.mark.parametrize("over", [False, True])
async def test_what_a_batch_leaves_tripped_or_latched_is_told_by_the_site(suite: Story, over: bool) -> None:
    await has_the_freezer(suite)
    await tripped(suite, UNIT)
    assert not standing(suite, SITE, LID)
    if over:
        level(suite, 90.0)
        await suite.pass_time(900.0)
    await suite.do("abort")
    await suite.settle()
    assert standing(suite, SITE, LID), "the batch has given it back"
    assert LID not in at(suite, UNIT), "nobody is asked there for what goes on elsewhere"
    await suite.do("reset")
    await suite.settle()
    assert standing(suite, SITE, LID)
    assert not standing(suite, UNIT, LID)
    await is_reset(suite)
    assert nowhere(suite, LID)


async def test_one_that_stands_goes_to_the_batch_and_ends_with_its_reset_there(suite: Story) -> None:
    await tripped(suite, SITE)
    await has_the_freezer(suite)
    await suite.settle()
    assert standing(suite, UNIT, LID)
    assert LID not in at(suite, SITE), "the batch has it"
    await is_reset(suite)
    assert nowhere(suite, LID)


async def test_a_bypass_goes_over_and_ends_where_the_batch_has_it(suite: Story) -> None:
    await suite.do("bypass", bypass("lid", lasts="2 h"), **ANNA)
    await suite.settle()
    assert standing(suite, SITE, BYPASSED)
    await has_the_freezer(suite)
    await suite.settle()
    assert standing(suite, UNIT, BYPASSED)
    assert BYPASSED not in at(suite, SITE)
    await suite.do("unbypass", {"interlock": "lid"})
    await suite.settle()
    assert nowhere(suite, BYPASSED)


async def test_what_cannot_be_judged_goes_over_and_back_and_ends(suite: Story) -> None:
    await suite.start("share", before="2 h", inside="60 min")
    await suite.until("stay/before", "acting")
    injector = Injector([suite.plant], suite.servers, suite.plant.clock)
    injector.apply(Fault("freezer", "nan", args={"point": "ln2_level"}))
    await suite.when(lambda: standing(suite, SITE, INVALID), "not known", within=3600.0)
    await suite.until("cold/inside", "acting")
    await suite.settle()
    assert standing(suite, UNIT, INVALID)
    assert INVALID not in at(suite, SITE)
    await suite.until("leave/after", "acting")
    await suite.settle()
    assert standing(suite, SITE, INVALID)
    assert INVALID not in at(suite, UNIT)
    injector.close()
    await suite.when(lambda: nowhere(suite, INVALID), "known again", within=900.0)


@pytest.mark.parametrize("taken", [False, True])
async def test_over_a_restart_it_stands_where_it_did(suite: Story, taken: bool) -> None:
    here, there = (UNIT, SITE) if taken else (SITE, UNIT)
    if taken:
        await has_the_freezer(suite)
    await tripped(suite, here)
    await suite.settle()
    await suite.power_cut(60.0)
    await suite.settle()
    assert standing(suite, here, LID)
    assert LID not in at(suite, there)
    raised = [r for r in suite.controller.journal.records() if getattr(r.event, "alarm", "") == LID]
    assert len(raised) == (0 if taken else 1), "nothing is announced anew"
    await is_reset(suite)
    assert nowhere(suite, LID)


@pytest.mark.parametrize("mended", [False, True])
@pytest.mark.parametrize("taken", [False, True])
async def test_what_could_not_be_judged_before_a_restart_ends_after_it(
    suite: Story, *, taken: bool, mended: bool
) -> None:
    here, there = (UNIT, SITE) if taken else (SITE, UNIT)
    if taken:
        await has_the_freezer(suite)
    injector = Injector([suite.plant], suite.servers, suite.plant.clock)
    injector.apply(Fault("freezer", "nan", args={"point": "ln2_level"}))
    await suite.when(lambda: standing(suite, here, INVALID), "not known", within=3600.0)
    since = at(suite, here)[INVALID]["since"]
    suite.kill()
    await suite.bury()
    if mended:
        injector.close()
    await suite.boot()
    if not mended:
        await suite.pass_time(900.0)
        assert at(suite, here)[INVALID]["since"] == since, "nothing is announced anew"
        assert INVALID not in at(suite, there)
        injector.close()
    await suite.when(lambda: nowhere(suite, INVALID), "known again", within=900.0)


async def test_what_cannot_be_judged_over_a_restart_goes_back_to_the_site(suite: Story) -> None:
    await has_the_freezer(suite)
    injector = Injector([suite.plant], suite.servers, suite.plant.clock)
    injector.apply(Fault("freezer", "nan", args={"point": "ln2_level"}))
    await suite.when(lambda: standing(suite, UNIT, INVALID), "not known", within=3600.0)
    await suite.power_cut(60.0)
    await suite.do("stop")
    await suite.settle()
    assert standing(suite, SITE, INVALID), "the batch has given it back"
    assert INVALID not in at(suite, UNIT)
    injector.close()
    await suite.when(lambda: nowhere(suite, INVALID), "known again", within=900.0)
