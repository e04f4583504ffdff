"""A closed device under the controller: what it shows is watched, and it hears nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from recipes.matrix import parse_matrix
from recipes.matrix_recipe import recipe_text
from simulators.mqtt_models import SimulatedAutomaton
from simulators.virtual import run as run_virtually
from tests.stack.told import told
from tilctl.cli.rehearsing.result import Result
from tilctl.cli.rehearsing.worker import Job, rehearse
from tilctl.cli.rehearsing.world import Plan, World
from tilctl.cli.simulated import site_for

MATRIX = """\
# recipe: two-days
day,time,activity,volume
0,00:00,start,
0,12:00,feed,30 mL
1,00:00,exchange,125 mL
2,00:00,harvest,100 mL
"""


def test_a_device_that_stops_cools_calls_or_falls_silent_is_an_alarm_each(tmp_path: Path) -> None:
    (tmp_path / "two-days.yaml").write_text(recipe_text(parse_matrix(MATRIX, "m.csv"), MATRIX))
    plan = Plan("two-days", 3, tmp_path, folders=(tmp_path,), site=site_for("closed-device"))
    heard: list[int] = []

    async def rehearsed(clock: Any) -> Result:
        world = World(plan, clock)
        device = cast("SimulatedAutomaton", world.behind.instruments["automaton"])

        async def befalls() -> None:
            await clock.sleep(6 * 3600.0)
            for name, bad, good in (
                ("state", "paused", "running"),
                ("temperature", 35.0, 37.0),
                ("alarm", True, False),
            ):
                setattr(device, name, bad)
                await clock.sleep(3600.0)
                setattr(device, name, good)
                await clock.sleep(3600.0)
            device.faults.mute = True
            await clock.sleep(3600.0)
            device.faults.mute = False

        world.spawn(befalls(), "what befalls the device")
        result = await world.run()
        heard.append(device.commands)
        return result

    result = run_virtually(rehearsed, seed=3, watchdog_s=60.0)
    assert (result.outcome, result.violations) == ("complete", [])
    assert {"high stopped", "medium cold", "high attention", "medium silent"} <= {*result.alarms}
    assert "high warm" not in result.alarms
    assert heard == [0]


@pytest.mark.slow
def test_til_automate_runs_whole(tmp_path: Path) -> None:
    result = told(tmp_path, recipe="til-automate", seed=3, site=site_for("closed-device"))
    assert (result.outcome, result.violations, result.held_s, result.commanded) == ("complete", [], 0.0, 0)
    assert 12.0 <= result.simulated_s / 86_400 <= 12.5


@pytest.mark.slow
def test_til_automate_breaks_nothing_among_faults(tmp_path: Path) -> None:
    site = site_for("closed-device")
    job = Job("til-automate", tmp_path, profile="rough", horizon_s=12 * 86_400.0, seed=3, site=site)
    result = rehearse(job)
    assert (result.violations, result.commanded) == ([], 0)
    assert result.kills > 0
    assert result.outcome in ("complete", "stopped", "aborted")
