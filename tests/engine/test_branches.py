"""Steps of the same name in two branches: what is said and done of one is what its own branch says."""

from __future__ import annotations

import pytest
from story import UNIT, Story


@pytest.mark.parametrize(("way", "branch", "hours", "state"), [("short", 1, 1, "running"), ("long", 2, 5, "held")])
async def test_a_step_is_that_of_the_branch_that_was_taken(
    suite: Story, way: str, branch: int, hours: int, state: str
) -> None:
    await suite.start("branches", way=way)
    await suite.until(f"only/taken/{branch}/rest", "acting")
    assert f"wait for {hours} h" in [each["text"] for each in suite.controller.status(UNIT)["waits"]]
    await suite.power_cut(600.0)
    await suite.settle()
    assert suite.runner.state == state
