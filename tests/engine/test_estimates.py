"""Estimates of a batch: told, alarmed, the same after a restart; they decide only what the recipe lets them."""

from __future__ import annotations

import math
from typing import Any

from story import UNIT, Story

from devices.reading import Quality, Reading
from tilctl.engine.estimating import Estimator
from tilctl.guard.board import Reactions
from tilctl.journal import events as ev

HOUR = 3600.0


def row(suite: Story) -> dict[str, Any]:
    (found,) = suite.controller.status(UNIT)["estimates"]
    return found


def counts(suite: Story, *values: str) -> None:
    suite.hands.change["seed"] = {"cells": "1e8 cells"}
    for step, value in zip(("first", "second", "third"), values, strict=False):
        suite.hands.change[step] = {"tvc": value}


def warned(suite: Story) -> list[str]:
    return [alarm for alarm in suite.state.alarms if alarm.endswith("-cells")]


async def test_a_batch_that_will_not_reach_its_floor_is_told_of_and_goes_on(suite: Story) -> None:
    counts(suite, "1.1e8 cells", "1.2e8 cells", "1.3e8 cells")
    await suite.start("estimated")
    await suite.until("grow/one", "acting")
    assert row(suite)["why"] == "nothing was measured since it began"
    await suite.until("grow/two", "acting", 12 * HOUR)
    assert warned(suite) == ["below-floor-cells"]
    alarm = suite.state.alarms["below-floor-cells"]
    assert alarm.priority == "medium"
    assert "are forecast for when since(begun) >= 18 h; 1e9 cells are wanted" in alarm.text
    assert alarm.help["action"]
    found = row(suite)
    assert found["low"] < 1.1e8 < found["high"]
    assert found["forecast"]["short"] is True
    (note,) = suite.events("noted")
    assert note.text.endswith("cells now"), "the recipe says that it may decide"
    assert suite.runner.state == "running", "it warns, it stops nothing"

    estimating, estimator = suite.runner.batch.estimating, suite.controller._slots[UNIT]._estimator
    follower, stale = estimating.estimates.all["cells"], estimating.estimates.all["cells"]._stale
    follower._stale = -1.0
    estimating._seen.clear()
    estimator.look()
    await suite.runner.batch.caught_up()
    assert "old" in row(suite)["why"]
    assert "below-floor-cells" in warned(suite), "what is not known any more ends no alarm"
    follower._stale = stale
    estimating._seen.clear()
    estimator.look()

    before = row(suite)
    raised = len(suite.events("alarm_raised"))
    suite.kill()
    await suite.boot()
    assert row(suite) == before, "the record says all that it is made of"
    assert warned(suite) == ["below-floor-cells"]
    assert len([e for e in suite.events("alarm_raised") if e.alarm == "below-floor-cells"]) == 1
    assert raised >= 1
    await suite.until_state("complete", within=12 * HOUR)
    assert warned(suite) == [], "it is over with the culture"


async def test_a_wrong_count_is_said_to_be_one_and_is_not_used(suite: Story) -> None:
    counts(suite, "1.1e8 cells", "1.2e10 cells", "1.3e8 cells")
    await suite.start("estimated", floor="1e6 cells")
    await suite.until("grow/three", "acting", 12 * HOUR)
    assert warned(suite) == ["implausible-cells"]
    assert (
        "second.tvc is 1e+02 times what was expected; it was not used" in suite.state.alarms["implausible-cells"].text
    )
    assert row(suite)["now"] < 2e8
    await suite.until("grow/four", "acting", 12 * HOUR)
    assert warned(suite) == [], "the next one is believed"
    assert row(suite)["not_used"][0].startswith("second.tvc is ")


async def test_a_probes_reading_counts_once_it_is_on_record(suite: Story) -> None:
    counts(suite, "1.1e8 cells")
    await suite.start("estimated")
    await suite.until("grow/one", "acting")
    batch = suite.runner.batch
    follower = batch.estimating.estimates.all["cells"]
    follower.declared = follower.declared.model_copy(update={"capacitance": "station.live_density"})
    follower.account._declared = follower.declared
    device = batch.equipment["station"]
    batch.image.own(device, {**batch.image._own[device], "live_density": "cells/mL"})
    estimator = Estimator(batch, Reactions(lambda *_: None, lambda *_: None, lambda *_: None))
    for quality, readings in ((Quality.UNCERTAIN, 0), (Quality.GOOD, 1), (Quality.GOOD, 1)):
        reading = Reading(6e5, "cells/mL", quality, batch.clock.monotonic())
        batch.image.show(device, {"live_density": reading})
        estimator.tick()
        await batch.caught_up()
        assert len(suite.events("reading_noted")) == readings, "good ones, each six hours"
    assert suite.events("reading_noted")[0] == ev.ReadingNoted(
        "cells", "capacitance", "station.live_density", 6e5, "cells/mL"
    )
    assert row(suite)["low"] < 6e5 * 200 < row(suite)["high"]


async def test_what_breaks_in_an_estimate_reaches_nothing_else(suite: Story) -> None:
    counts(suite, "1.1e8 cells", "1.2e8 cells", "1.3e8 cells")
    await suite.start("estimated")
    await suite.until("grow/one", "acting")
    at = suite.runner.batch.estimating.estimates.all["cells"].course._filter
    assert at is not None
    at.cov = at.cov * math.nan
    await suite.until("grow/two", "acting", 12 * HOUR)
    assert warned(suite) == ["estimate-broken-cells"]
    assert suite.state.alarms["estimate-broken-cells"].priority == "low"
    assert row(suite)["why"].startswith("it does not work")
    await suite.until_state("complete", within=12 * HOUR)
