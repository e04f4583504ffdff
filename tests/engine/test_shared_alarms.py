"""Alarms of equipment that units share: with whoever has it, set aside wherever they go, over a disk that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest_asyncio
from story import UNIT, Story, told

from tilctl.engine.port import SITE

LOW, DESIGNED = "site-low", "site-designed"
DECLARED = {
    "alarms.low.when": "freezer1.ln2_level < 40 %",
    "alarms.low.priority": "medium",
    "alarms.designed.when": "freezer1.ln2_level < 40 %",
    "alarms.designed.priority": "high",
    "alarms.designed.unless": "freezer1.program_state == running",
}


@pytest_asyncio.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Story]:
    story = Story(tmp_path)
    story.site_overrides |= DECLARED
    async with told(story):
        yield story


def at(suite: Story, unit: str) -> Mapping[str, Any]:
    return {row["alarm"]: row for row in suite.controller.status(unit)["alarms"]}


def standing(suite: Story, unit: str, alarm: str) -> bool:
    return at(suite, unit).get(alarm, {}).get("active", False)


def level(suite: Story, value: float) -> None:
    with suite.plant.change():
        suite.plant.freezer.ln2 = value


async def has_the_freezer(suite: Story) -> None:
    await suite.start("share", before="1 min", inside="60 min")
    await suite.until("cold/inside", "acting")


async def test_one_that_is_out_of_service_stays_so_with_the_batch_and_after_it(suite: Story) -> None:
    out = {"alarm": LOW, "work_order": "7"}
    await suite.do("out-of-service", out, unit=SITE, actor="anna (tech)", reason="the gauge is being changed")
    level(suite, 30.0)
    await suite.when(lambda: standing(suite, SITE, LOW), "with the site", within=900.0)
    assert at(suite, SITE)[LOW]["aside"]
    shown = suite.controller.desks(SITE)[0]
    seen: list[bool] = []
    suite.controller.on_record.append(
        lambda _unit, _record: seen.append(any(a.id == LOW and a.announceable for a in shown.book))
    )
    await has_the_freezer(suite)
    await suite.settle()
    assert standing(suite, UNIT, LOW)
    assert not any(seen), "not for a moment"
    assert at(suite, UNIT)[LOW]["aside"], "it is out of service"
    assert LOW not in at(suite, SITE), "nobody is asked there for what goes on elsewhere"
    await suite.do("stop")
    await suite.settle()
    assert standing(suite, SITE, LOW)
    assert at(suite, SITE)[LOW]["aside"]


async def test_what_the_design_suppresses_is_suppressed_on_a_batch_too(suite: Story) -> None:
    await suite.start("freezing")
    await suite.when(lambda: suite.plant.freezer.running, "the run is on")
    level(suite, 35.0)
    await suite.when(lambda: standing(suite, UNIT, DESIGNED), "with the batch", within=900.0)
    await suite.settle()
    assert "suppressed" in at(suite, UNIT)[DESIGNED]["aside"]
    assert DESIGNED not in at(suite, SITE)
    await suite.when(lambda: not suite.plant.freezer.running, "the run is over")
    await suite.when(
        lambda: not at(suite, UNIT).get(DESIGNED, at(suite, SITE).get(DESIGNED, {"aside": 1}))["aside"], "told"
    )


async def test_what_is_unknown_goes_back_to_the_site_with_the_equipment(suite: Story) -> None:
    await has_the_freezer(suite)
    suite.faults("freezer").silent = True
    await suite.when(lambda: standing(suite, UNIT, f"{LOW}-invalid"), "unknown", within=3600.0)
    await suite.do("stop")
    await suite.settle()
    await suite.do("reset")
    await suite.settle()
    assert standing(suite, SITE, f"{LOW}-invalid")
    suite.faults("freezer").silent = False
    await suite.when(lambda: not standing(suite, SITE, f"{LOW}-invalid"), "known again", within=900.0)


async def test_one_is_shelved_where_it_is_whichever_unit_is_named(suite: Story) -> None:
    await suite.do("shelve", {"alarm": LOW, "for_": "30 min", "once": False}, reason="known")
    level(suite, 30.0)
    await suite.when(lambda: standing(suite, SITE, LOW), "with the site", within=900.0)
    assert at(suite, SITE)[LOW]["aside"]
    assert LOW not in at(suite, UNIT)
    await has_the_freezer(suite)
    await suite.settle()
    assert at(suite, UNIT)[LOW]["aside"]
    await suite.do("unshelve", {"alarm": LOW})
    again = {"alarm": LOW, "for_": "30 min", "once": False}
    refused = await suite.do("shelve", again, unit=SITE, reason="x", expect=None)
    assert (refused.status, refused.code) == ("refused", "no_alarm")
    assert f"the batch of {UNIT} has now" in refused.text


async def test_one_that_came_and_went_while_the_disk_was_dead_does_not_stand(suite: Story) -> None:
    suite.announced |= {"alarm_not_on_record", "record_failed"}
    suite.clock.disk_full = True
    level(suite, 30.0)
    await suite.when(lambda: standing(suite, SITE, LOW), "shown", within=900.0)
    level(suite, 90.0)
    await suite.when(lambda: not standing(suite, SITE, LOW), "over", within=900.0)
    suite.clock.disk_full = False
