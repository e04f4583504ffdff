"""`staffed`: a rest ends in the working time of the site, by what was settled when its condition came true."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from story import Story, told

from tilctl.journal.chain import Record

WORKING = {"working.hours": "08:00-17:00", "working.days": "mon-fri"}


@pytest.fixture
def site() -> dict[str, str]:
    """Return what the site says of its people."""
    return dict(WORKING)


@pytest_asyncio.fixture
async def suite(tmp_path: Path, site: dict[str, str]) -> AsyncIterator[Story]:
    story = Story(tmp_path)
    story.site_overrides = site
    async with told(story) as suite:
        yield suite


def over(suite: Story) -> datetime:
    """Return when the rest was over."""
    return suite.node("rest/done").started


def waited_for(suite: Story) -> bool:
    node = suite.state.node("rest/long")
    return node is not None and "staffed" in node.phases


def waits_until(suite: Story) -> str:
    return str(suite.node("rest/long").phases["staffed"][1]["until"])


async def test_a_rest_that_would_end_in_the_evening_ends_on_the_next_morning(suite: Story) -> None:
    await suite.start("visited")  # on a Monday at 8: ten hours are over at 18
    await suite.when(lambda: waited_for(suite), "people are waited for", within=11 * 3600.0)
    (wait,) = suite.controller.status("cell1")["waits"]
    assert "then for working time" in wait["text"]
    assert wait["due"] == waits_until(suite) == "2026-01-06T08:00:00.000Z"
    await suite.until_state("complete", within=86400.0)
    assert abs(over(suite) - datetime(2026, 1, 6, 8, 0, tzinfo=UTC)) < timedelta(seconds=1)
    assert not suite.events("exception_raised"), "it is within its window, and nobody was late"


async def test_one_that_ends_while_people_are_there_waits_for_nobody(suite: Story) -> None:
    await suite.start("visited", rest="3 h")
    await suite.until_state("complete", within=4 * 3600.0)
    assert "staffed" not in suite.node("rest/long").phases


@pytest.mark.parametrize("site", [{"working.hours": "08:00-17:00", "working.days": "sun"}])
async def test_the_end_of_the_window_is_not_waited_beyond(suite: Story) -> None:
    await suite.start("visited")
    await suite.until_state("complete", within=3 * 86400.0)
    assert abs(over(suite) - suite.node("rest/long").started - timedelta(days=2)) < timedelta(minutes=1)
    assert [each.code for each in suite.events("exception_raised")] == ["unstaffed"]


@pytest.mark.parametrize("site", [{**WORKING, "time_zone": "America/New_York"}])
async def test_working_time_is_by_the_clocks_of_the_site(suite: Story) -> None:
    await suite.start("visited", rest="2 h")  # 10:00 UTC is 5:00 there
    await suite.until_state("complete", within=86400.0)
    assert over(suite).hour == 13


async def test_a_crash_while_people_are_waited_for_changes_nothing(suite: Story) -> None:
    def settled(record: Record) -> bool:
        return record.event.kind == "step_phase" and getattr(record.event, "phase", "") == "staffed"

    suite.kill_at(settled)
    await suite.start("visited")
    await suite.when(lambda: not suite.alive, "it is dead", within=12 * 3600.0)
    suite.kill_at(None)
    await suite.bury()
    suite.site_overrides["working.hours"] = "12:00-13:00"
    suite._site = None
    await suite.boot()
    await suite.until_state("complete", "held", within=86400.0)
    assert suite.runner.state == "complete", suite.state.held_for
    assert over(suite).hour == 8, "what was settled stands, whatever the site says later"


@pytest.mark.parametrize(("away_h", "held"), [(14.5, False), (16.0, True)])
async def test_late_is_late_for_the_visit_and_not_for_the_condition(suite: Story, away_h: float, held: bool) -> None:
    await suite.start("visited")
    await suite.when(lambda: waited_for(suite), "people are waited for", within=11 * 3600.0)
    await suite.power_cut(away_h * 3600.0)  # back at 8:30, or at 10: an hour of grace
    await suite.until_state("complete", "held", within=2 * 3600.0)
    assert (suite.runner.state == "held") is held, suite.state.held_for


async def test_a_moment_that_passed_in_working_time_while_nobody_was_in_control_is_late(suite: Story) -> None:
    await suite.start("visited", rest="3 h")
    await suite.until("rest/long", "acting")
    await suite.power_cut(12 * 3600.0)  # the rest was over at 11, with people there; it is 20 o'clock now
    await suite.until_state("complete", "held", within=86400.0)
    assert suite.runner.state == "held", "hours beyond its grace: the next morning is no excuse"
    assert "late" in suite.state.held_for
