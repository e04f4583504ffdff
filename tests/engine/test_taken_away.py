"""What people do while no controller looks, and whom a virtual clock is told to wait for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest
from story import UNIT, LifeClock, Story

from tests.engine.test_safe_mode import in_safe_mode


def take_the_bag(suite: Story) -> None:
    port = next(port for port, bag in suite.plant.fluidics.at.items() if bag is not None and bag.name == "media")
    suite.bench_of(UNIT).call("take", {"port": port})


async def test_a_bag_that_was_asked_away_may_be_gone_after_a_restart(suite: Story) -> None:
    suite.hands.mine = {"unmount"}
    await suite.start("clearing")
    await suite.when(lambda: any(p["kind"] == "unmount" for p in suite.controller.prompts(UNIT)), "it is asked away")
    suite.kill()
    await suite.bury()
    take_the_bag(suite)
    await suite.boot()
    assert "mass-mismatch" not in suite.state.alarms
    assert suite.runner.state == "running", "it waits for the word that the bag is gone, and for nothing else"
    await suite.answer("clear")
    await suite.until_state("complete")


async def test_a_bag_that_nobody_asked_for_may_not(suite: Story) -> None:
    await suite.start("clearing")
    await suite.until("fill/rest", "acting")
    suite.kill()
    await suite.bury()
    take_the_bag(suite)
    await suite.boot()
    await suite.until_state("held")
    assert "media at" in suite.state.alarms["mass-mismatch"].text


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch, suite: Story) -> Callable[[], list[str]]:
    """What the clock of this life is told now to wait for outside."""
    told: dict[LifeClock, list[str]] = {}

    @contextlib.contextmanager
    def outside(clock: LifeClock, label: str) -> Iterator[None]:
        told.setdefault(clock, []).append(label)
        yield
        told[clock].remove(label)

    monkeypatch.setattr(LifeClock, "outside", outside)
    return lambda: told.get(suite.clock, [])


async def test_a_unit_that_recovers_waits_for_nobody_and_a_held_one_for_a_person(
    outside: Callable[[], list[str]], suite: Story
) -> None:
    await suite.start("still", wait="2 h")
    await suite.until("stay/one", "acting")
    assert outside() == []
    await suite.do("hold")
    assert outside() == ["cell1 is held"]
    suite.kill()
    await suite.bury()
    suite.faults("scales").silent = True
    opening = asyncio.create_task(suite.boot(), name="hands:boot")
    await suite.when(lambda: suite.controller.mode == "recovering", "the records are open")
    await asyncio.sleep(0.5)
    assert suite.runner.state == "held"
    assert outside() == [], "it is held, but recovery takes time that must go on"
    suite.faults("scales").silent = False
    await opening
    assert outside() == ["cell1 is held"]
    await suite.do("restart")
    assert outside() == []


async def test_in_safe_mode_a_running_unit_waits_for_a_person(outside: Callable[[], list[str]], suite: Story) -> None:
    await in_safe_mode(suite)
    assert suite.runner.state == "running"
    assert outside()[-1:] == ["cell1 is running"]
    await suite.do("leave-safe-mode")
    assert outside() == []
