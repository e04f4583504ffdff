"""`perfuse`: parts at a rate that is settled turn by turn, over crashes and values that are missing."""

from __future__ import annotations

import pytest
from pytest import approx
from story import HERE, Story
from test_freezing_run import come_to

from tilctl.journal.chain import Record

FEED = "run/feed"


async def begin(suite: Story, **parameters: str) -> None:
    suite.hands.mine = {"result"}
    await suite.start("perfusion", **parameters)


async def seen(suite: Story, level: str) -> None:
    """Give the result that the rate follows."""
    await suite.answer("run/seen", level=level)


def moved(suite: Story, turn: int, way: str) -> float:
    """Return what evidence says of a part (mL)."""
    return sum(each.delivered_ml or 0.0 for each in suite.intents(f"{FEED}/{turn}/{way}"))


def rates(suite: Story) -> list[float]:
    """Return each rate that was put on the record (mL/d)."""
    return [round(each.values["rate"] * 1440.0) for each in suite.events("values_set", path=FEED)]


async def turn(suite: Story, number: int) -> None:
    await suite.until(f"{FEED}/{number}/draw", "complete")
    await suite.when(lambda: suite.runner.state == "held" or suite.state.node(f"{FEED}/{number}/refill"), "refilled")


async def test_the_rate_follows_a_result_within_its_limits_and_the_volume_stays(suite: Story) -> None:
    await begin(suite)
    await turn(suite, 1)
    await seen(suite, "2.5 mmol/L")
    await turn(suite, 2)
    await suite.until_state("complete")
    assert rates(suite) == [480, 960], "once for each change, not for each turn"
    assert [moved(suite, 1, way) for way in ("draw", "refill")] == approx([20.0, 20.0], abs=1.0)
    assert [moved(suite, 5, way) for way in ("draw", "refill")] == approx([40.0, 40.0], abs=2.0)
    assert suite.state.node(f"{FEED}/6/draw") is None, "until ends it"
    vessel = suite.state.ledger.get("vessel")
    assert vessel is not None
    assert vessel.volume_ml == approx(500.0, abs=2.0)
    assert suite.plant.place(1).contents.volume == approx(500.0, abs=6.0)  # type: ignore[union-attr]


async def test_a_rate_beyond_its_limits_is_kept_within_them(suite: Story) -> None:
    await begin(suite, low="100 mL/d", last="2 h")
    await turn(suite, 1)
    await seen(suite, "4 mmol/L")
    await suite.until_state("complete")
    assert rates(suite) == [240, 1920]


async def test_a_rate_that_is_not_known_is_an_alarm_and_the_last_one_stands(suite: Story) -> None:
    await begin(suite)
    await turn(suite, 1)
    await suite.until(f"{FEED}/1/refill", "complete")
    suite.faults("incubator").silent = True
    await turn(suite, 2)
    assert rates(suite) == [480]
    (alarm,) = [each for each in suite.state.alarms if each.startswith("perfusion-rate-")]
    assert "0.333333 mL/min stands" in suite.state.alarms[alarm].text
    assert moved(suite, 2, "draw") == approx(20.0, abs=1.0)
    suite.faults("incubator").silent = False
    await suite.when(lambda: alarm not in suite.state.alarms, "it is known again", within=3 * 3600.0)


async def test_without_any_rate_nothing_moves_and_a_person_is_asked(suite: Story) -> None:
    await begin(suite)
    await suite.until("run/rest", "acting")
    suite.faults("incubator").silent = True
    await suite.until_state("held")
    assert "cannot be judged" in suite.state.held_for
    assert not suite.state.intents


async def test_killed_at_every_event_each_part_is_given_once(suite: Story) -> None:
    seen: set[tuple[str, str]] = set()

    def each(record: Record) -> bool:
        key = (record.event.kind, getattr(record.event, "path", ""))
        if not key[1].startswith(f"{FEED}/2") and key != ("values_set", FEED):
            return False
        return key not in seen and not seen.add(key)

    await begin(suite, last="3 h")
    suite.kill_at(each)
    await come_to(suite, lambda: suite.alive and suite.state.state == "complete", restart=True)
    assert suite.deaths > 8
    for number in (1, 2, 3):
        assert [moved(suite, number, way) for way in ("draw", "refill")] == approx([20.0, 20.0], abs=1.5)
    assert rates(suite)[0] == 480
    pumped = sum(each.counted_ml for each in suite.pump("pump_waste").log)
    assert pumped == approx(60.0, abs=4.0), "counted by the device"


@pytest.mark.parametrize("falls", [True, False])
async def test_a_rate_may_be_told_to_rise_only(suite: Story, falls: bool) -> None:
    text = (HERE / "recipes" / "perfusion.yaml").read_text("utf-8")
    told = f"falls: {str(falls).lower()}"
    text = text.replace("recipe: perfusion", "recipe: rising").replace("keep: 500", f"{told}\n      keep: 500")
    (suite.folder / "rising.yaml").write_text(text, "utf-8")
    suite.hands.mine = {"result"}
    await suite.start("rising", last="3 h", low="1200 mL/d")
    await turn(suite, 1)
    await seen(suite, "2.5 mmol/L")
    await suite.until_state("complete")
    assert rates(suite) == ([1200, 960] if falls else [1200])


@pytest.mark.parametrize(("outage", "last"), [(5.0, 7), (20.0, 2)])
async def test_an_outage_makes_it_no_longer_than_its_longest(suite: Story, outage: float, last: int) -> None:
    await begin(suite, last="12 h")
    await suite.until(f"{FEED}/2/refill", "complete")
    node = suite.state.node(FEED)
    assert node is not None
    await suite.pass_time(60.0)
    await suite.power_cut(outage * 3600.0)
    await suite.when(lambda: suite.state.result == "complete", "it is over", within=12 * 3600.0)
    lasted = (suite.controller.clock.now() - node.started).total_seconds()
    assert lasted <= max(10.0, 1.1 + outage) * 3600.0 + 60.0
    assert bool(suite.events("exception_raised", code="repeat")) == (outage < 11.0), (
        "else its condition is true by then"
    )
    assert suite.state.node(f"{FEED}/{last}/draw") is not None
    assert suite.state.node(f"{FEED}/{last + 1}/draw") is None
