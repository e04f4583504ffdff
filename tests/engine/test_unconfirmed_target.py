"""A target that its device did not take at first: the held batch writes it as soon as the device is back."""

from __future__ import annotations

import asyncio

from pytest import approx
from story import Story
from test_unlucky_doses import strike


async def test_a_target_that_was_never_taken_is_written_when_the_device_is_back(suite: Story) -> None:
    strike(suite, "incubator", "silent", 1200)
    await suite.start("still", wait="9 h")
    await suite.until_state("held")
    assert "station.temperature" in suite.state.targets
    assert "station.temperature" not in suite.state.confirmed
    await asyncio.sleep(600)
    assert suite.plant.climate.temperature.goal != approx(36.0)
    await asyncio.sleep(1200)
    assert (suite.runner.state, suite.plant.climate.temperature.goal) == ("held", approx(36.0))
    assert "station.temperature" in suite.state.confirmed
    assert [e.tag for e in suite.events("target_confirmed")].count("station.temperature") == 1
    await suite.do("restart")
    await suite.until("stay/one", "acting")
