"""Doses of a substance: the volume follows from the stock, is on the record before anything moves, and moves once."""

from __future__ import annotations

from pytest import approx
from story import Story


async def test_the_volume_follows_from_the_stock_and_what_hangs_there(suite: Story) -> None:
    """100 ng/mL of 1 ug/mL in 300 mL: a ninth of what the flask holds, for what comes counts too."""
    await suite.start("dose")
    await suite.until("fill/medium", "complete")
    before = suite.state.ledger.get("flask")
    assert before is not None
    held = before.volume_ml
    await suite.until("fill/final", "complete")
    order = suite.node("fill/final").phases["ordered"][1]
    assert order["volume"] == approx(held / 9.0, abs=0.01)
    assert order["dose"] == {
        "substance": "okt3", "stock": "1 ug/mL", "amount": approx(held / 9.0 * 1e-6), "unit": "g"
    }  # fmt: skip
    got = sum(intent.delivered_ml or 0.0 for intent in suite.intents("fill/final"))
    assert got / (held + got) == approx(0.1, rel=0.06)  # ug/mL, within the tolerance of 2 mL
    await suite.until_state("complete")
    order = suite.node("fill/dose").phases["ordered"][1]
    assert (order["volume"], order["dose"]["amount"], order["dose"]["unit"]) == (30.0, 600000.0, "IU")


async def test_killed_in_a_dose_it_is_settled_once_and_given_once(suite: Story) -> None:
    """What was ordered before the outage is what is ordered after it, though the flask holds more by then."""
    await suite.start("dose")
    await suite.until("fill/final", "acting")
    await suite.when(lambda: suite.intents("fill/final"), "the dose is ordered")
    ordered = dict(suite.node("fill/final").phases["ordered"][1])
    await suite.until_flowed("pump_media", 10.0)
    await suite.power_cut(seconds=60.0)
    await suite.until_state("held")
    await suite.do("restart")
    await suite.until_state("complete")
    assert suite.node("fill/final").phases["ordered"][1] == ordered
    got = sum(intent.delivered_ml or 0.0 for intent in suite.intents("fill/final"))
    assert got == approx(ordered["volume"], abs=2.5)
    truth = sum(run.moved_ml for run in suite.pump("pump_media").log)
    assert truth == approx(300.0 + ordered["volume"] + 30.0, rel=0.03)


async def test_held_in_a_dose_the_rest_follows(suite: Story) -> None:
    await suite.start("dose")
    await suite.until("fill/final", "acting")
    await suite.until_flowed("pump_media", 10.0)
    await suite.do("hold")
    await suite.until_state("held")
    await suite.do("restart")
    await suite.until_state("complete")
    first, *rest = suite.intents("fill/final")
    assert first.outcome == "partial"
    assert rest
    total = sum(intent.delivered_ml or 0.0 for intent in (first, *rest))
    assert total == approx(suite.node("fill/final").phases["ordered"][1]["volume"], abs=2.5)


async def test_what_is_too_little_is_not_passed_over_in_silence(suite: Story) -> None:
    """4 mL at 1 ng/mL would be 4 uL: below half a millilitre a transfer moves nothing, and a dose says so."""
    await suite.start("dose", level="4 mL", final="1 ng/mL")
    await suite.until_state("held")
    assert suite.node("fill/final").status == "failed"
    assert "too little to be dosed" in suite.node("fill/final").reason
    assert "dilution of the stock" in suite.state.alarms["step-failed"].text
    assert suite.intents("fill/final") == []


async def test_what_a_bag_must_hold_for_its_doses_is_foreseen(suite: Story) -> None:
    suite.hands.change["media_in"] = {"volume.okt3": "20 mL"}
    suite.hands.hang["okt3"] = 20.0
    await suite.start("dose")
    await suite.until("fill/medium", "acting")
    await suite.when(lambda: "short-okt3" in suite.state.alarms, "it is foreseen")
    assert "takes 63.3" in suite.state.alarms["short-okt3"].text  # 300 / 9 + 600 kIU / 20 kIU
    await suite.until_state("held")
    assert "okt3 holds 20.0 mL, 33." in suite.node("fill/final").reason
