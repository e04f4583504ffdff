"""Too much, too little, nothing, or nothing that moves: said clearly, and nothing goes where it should not."""

from __future__ import annotations

import pytest
from pytest import approx
from story import UNIT, Story


def nothing_moved(suite: Story) -> None:
    for pump in suite.plant.pumps.values():
        assert pump.log == []
    assert suite.state.intents == {}


@pytest.mark.parametrize(
    ("first", "words", "hint"),
    [
        ("600 mL", "flask would be over-full: it holds 0.0 mL, 600.0 mL would come, its limit is 500 mL", "mount"),
        ("489 mL", "its limit is 500 mL, and at 98% of it pumps are stopped (2.0 mL more are within", "mount"),
        ("450 mL", "media holds 100.0 mL, 450.0 mL are wanted", "fuller"),
    ],
)
async def test_more_than_fits_or_than_there_is(suite: Story, first: str, words: str, hint: str) -> None:
    suite.hands.change["media_in"] = {"volume.media": "100 mL" if "450" in first else "1865 mL"}
    suite.hands.hang["media"] = 100.0 if "450" in first else 1865.0
    await suite.start("small", first=first)
    await suite.until_state("held")
    nothing_moved(suite)
    assert suite.node("fill/first").status == "failed"
    assert words in suite.node("fill/first").reason
    alarm = suite.state.alarms["step-failed"]
    assert words in alarm.text
    assert hint in alarm.text
    assert "nothing was moved" in alarm.text
    wait = suite.controller.status(UNIT)["waits"][0]
    assert wait["path"] == "fill/first"
    assert words in wait["text"]

    await suite.do("restart")  # nothing was corrected: the same again
    await suite.until_state("held")
    nothing_moved(suite)
    assert suite.plant.climate.temperature.goal == 36.0


async def test_a_bag_that_holds_less_than_its_label_says_and_a_fuller_one(suite: Story) -> None:
    """The pump draws air: the batch is held, a person puts up a full bag, and the rest of the dose follows."""
    suite.check_ledger = False
    suite.hands.hang["media"] = 150.0
    await suite.start("small", first="450 mL", second="30 mL")
    await suite.until_state("held")
    first = suite.intents("fill/first")[0]
    run = suite.pump("pump_media").log[0]
    assert run.moved_ml == approx(150.0)
    assert run.counted_ml < 180.0, "given up within seconds of air"
    assert "dry-run-media: media is empty" in suite.node("fill/first").reason
    assert suite.state.alarms["dry-run-media"].priority == "medium"
    assert first.outcome in ("partial", "in_doubt")

    suite.bench.take(7)
    suite.bench.hang(port=7, kind="bag", volume_ml=1700.0, content={"liquid": "buffer"}, name="media")
    await suite.do("restart")
    await suite.until("fill/first", "complete")
    assert sum(run.moved_ml for run in suite.pump("pump_media").log) == approx(450.0, abs=10.0)
    assert suite.intents("fill/first")[0].delivered_ml == approx(150.0, abs=3.0)
    assert "dry-run-media" not in suite.state.alarms
    await suite.until_state("complete")


async def test_a_clamp_that_was_left_closed_in_a_short_dose(suite: Story) -> None:
    pump = suite.plant.pumps["pump_media"]
    slip, pump.slip = pump.slip, 1.0  # it turns and counts, and nothing moves
    await suite.start("small")
    await suite.until_state("held")
    assert suite.intents("fill/first")[0].outcome == "in_doubt"
    assert "media does not fall as it counts" in suite.node("fill/first").reason
    assert suite.plant.place(1).contents.volume == 0.0
    pump.slip = slip
    await suite.do("restart")
    await suite.until_state("complete")
    assert [i.outcome for i in suite.intents("fill/first")] == ["nothing", "done"]
    assert suite.pump("pump_media").log[1].moved_ml == approx(60.0, abs=2.0)


async def test_a_clamp_that_closes_in_a_dose(suite: Story) -> None:
    """The pump stops by itself against a closed valve: the rest is a new intent, which opens it again."""
    await suite.start("small")
    await suite.until_flowed("pump_media", 20.0)
    with suite.plant.change():
        suite.plant.fluidics.select("pump_media", 0, 0)
    await suite.until("fill/first", "complete")
    assert [i.outcome for i in suite.intents("fill/first")] == ["partial", "done"]
    assert sum(run.moved_ml for run in suite.pump("pump_media").log) == approx(60.0, abs=3.0)
    await suite.until_state("complete")


async def test_a_pump_that_never_gets_it_done_is_not_asked_for_ever(suite: Story) -> None:
    await suite.start("small", first="100 mL")
    for number in range(1, 6):
        await suite.when(lambda n=number: len(suite.pump("pump_media").log) == n, f"try {number}")
        await suite.until_flowed("pump_media", 4.0)
        with suite.plant.change() as t:
            suite.plant.fluidics.stop("pump_media", t)  # a hand at the panel
    await suite.until_state("held")
    assert "after 5 tries" in suite.node("fill/first").reason
    suite.ledger_within = (6.0, 0.03)
    await suite.do("restart")
    await suite.until("fill/first", "complete")
    assert sum(run.moved_ml for run in suite.pump("pump_media").log) == approx(100.0, abs=4.0)


async def test_all_of_a_flask_that_holds_a_little_less_than_the_ledger_says(suite: Story) -> None:
    suite.hands.change["flask_in"] = {"volume.flask": "200 mL"}
    suite.hands.hang["flask"] = 196.0
    await suite.start("pooling")
    await suite.until_state("complete")
    assert suite.plant.place(1).contents.volume == approx(0.0, abs=1e-6), "it is empty"
    assert suite.plant.place(7).contents.volume == approx(196.0)
    assert suite.state.ledger.get("pool").volume_ml == approx(196.0, abs=1.5)
    suite.check_ledger = False


async def test_all_of_a_flask_of_which_much_is_missing(suite: Story) -> None:
    suite.check_ledger = False
    suite.hands.change["flask_in"] = {"volume.flask": "200 mL"}
    suite.hands.hang["flask"] = 120.0
    await suite.start("pooling")
    await suite.until_state("held")
    assert "only 1" in suite.node("only/gather").reason
    assert "of 200.0 mL came out of flask" in suite.node("only/gather").reason
    assert suite.state.node("only/done") is None


async def test_all_of_a_flask_that_holds_more_than_the_ledger_says(suite: Story) -> None:
    suite.check_ledger = False
    suite.hands.change["flask_in"] = {"volume.flask": "200 mL"}
    suite.hands.hang["flask"] = 203.0
    await suite.start("pooling")
    await suite.until_state("complete")
    assert suite.plant.place(1).contents.volume < 6.0


async def test_no_line_leads_there(suite: Story) -> None:
    await suite.start("no-line")
    await suite.until_state("held")
    assert "no line leads from w1 (waste) to p1 (station)" in suite.node("only/back").reason
    assert "site file" in suite.state.alarms["step-failed"].text
    nothing_moved(suite)


async def test_a_dose_too_small_for_anything_is_passed_over(suite: Story) -> None:
    """A dose of 1 mL with a tolerance of 2 mL still is a dose; 0.3 mL is nothing that scales could tell."""
    await suite.start("small", first="1 mL", second="70 mL")
    await suite.until_state("complete")
    assert len(suite.intents("fill/first")) == 1
    await suite.do("reset")
    for port in (7, 1, 16):
        suite.bench.take(port)
    suite.hands.change["flask_in"] = {}
    await suite.start("small", first="70 mL", second="1 mL")
    await suite.until_state("complete")
    assert len(suite.intents("fill/second")) == 1
