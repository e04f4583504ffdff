"""Lines that keep what left a bag and did not arrive, vessels that lose water, and people who correct the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pytest import approx
from story import DEMO_SITE, HERE, UNIT, Story, told

from simulators.physics.contents import draw
from tilctl.engine.port import Command, Outcome
from tilctl.record.summary import summarize

MEDIA = "{id: media, from: [hook], to: [station], pump: pump_media, valves: valves_media}"


@pytest_asyncio.fixture
async def suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Story]:
    """A suite whose media line holds 4 mL between doses and takes 2 mL more when it is filled dry."""
    text = DEMO_SITE.read_text("utf-8")
    assert MEDIA in text
    holds = getattr(request, "param", ", dead: 4 mL, prime: 2 mL")
    (tmp_path / "site.yaml").write_text(text.replace(MEDIA, MEDIA[:-1] + holds + "}"))
    monkeypatch.setattr("story.DEMO_SITE", tmp_path / "site.yaml")
    story = Story(tmp_path)
    story.check_ledger = False
    async with told(story):
        yield story


async def swallowed(suite: Story, volume: float) -> None:
    """In the first dose a dry set keeps so much: what should arrive does not."""
    await suite.until_flowed("pump_media", 30.0)
    flask = suite.plant.place(1)
    assert flask is not None
    with suite.plant.change():
        draw(flask.contents, volume, 1.0)
    suite.plant.aside.brought_ml -= volume


async def test_the_first_dose_fills_the_line_and_the_flask_gets_what_was_ordered(suite: Story) -> None:
    await suite.start("small")
    await swallowed(suite, 6.0)
    await suite.until("fill/between", "complete")
    first, rest = suite.intents("fill/first")
    assert (first.outcome, rest.outcome) == ("partial", "done")
    ledger = suite.state.ledger
    flask, media = ledger.get("flask"), ledger.get("media")
    assert flask is not None
    assert media is not None
    assert ledger.kept_by("media") == approx(6.0, abs=1.0)
    assert flask.volume_ml == approx(60.0, abs=2.0), "what the line keeps is not delivered"
    assert media.mounted_ml - media.volume_ml == approx(flask.volume_ml + ledger.kept_by("media"))
    assert ledger.total() == approx(0.0, abs=1e-6)
    await suite.until_state("complete")
    assert not suite.events("alarm_raised")


@pytest.mark.parametrize("suite", [""], indirect=True)
async def test_without_a_declared_line_it_is_missing(suite: Story) -> None:
    await suite.start("small")
    await swallowed(suite, 6.0)
    await suite.until_state("held")
    assert suite.intents("fill/first")[0].outcome == "in_doubt"


async def test_a_vessel_that_loses_water_is_expected_to_weigh_less(suite: Story) -> None:
    text = (HERE / "recipes" / "small.yaml").read_text("utf-8")
    text = text.replace("recipe: small", "recipe: dry").replace("since(day0) >= 1 min", "since(day0) >= 5 h")
    text = text.replace("limit: 500 mL, source: P}", "limit: 500 mL, evaporation: 24 mL/d, source: P}")
    (suite.folder / "dry.yaml").write_text(text)
    await suite.start("dry")
    await suite.until("empty/static", "acting")
    before = suite.state.ledger.get("flask")
    assert before is not None
    await suite.until("empty/off", "acting")
    after = suite.state.ledger.get("flask")
    assert after is not None
    assert before.volume_ml - after.volume_ml == approx(5.0, abs=0.1)
    assert suite.state.ledger.others["evaporated"] == approx(5.0, abs=0.2)
    await suite.until_state("complete")


ANNA, BEN = "anna (operator)", {"user": "ben", "role": "verifier"}


async def corrected(
    suite: Story, actor: str = ANNA, reason: str = "operator: spilled", number: str = "c-1", **args: Any
) -> Outcome:
    command = Command(number, "test", UNIT, "correct", args={"second": BEN, **args}, reason=reason, actor=actor)
    return await suite.controller.execute(command, lambda *_: None)


async def filled(suite: Story) -> None:
    await suite.start("small")
    await suite.until("fill/between", "complete")
    await suite.do("hold")


@pytest.mark.parametrize("suite", [""], indirect=True)
async def test_a_correction_is_booked_told_and_reviewed(suite: Story) -> None:
    await filled(suite)
    before = suite.state.ledger.get("flask")
    assert before is not None
    assert before.volume_ml == approx(60.0, abs=2.0)
    outcome = await corrected(suite, container="flask", volume="48 mL")
    assert (outcome.status, outcome.text) == ("done", "flask holds 48 mL by the ledger now")
    assert (await corrected(suite, container="flask", volume="48 mL")).status == "already", "one id, one booking"
    ledger = suite.state.ledger
    assert (ledger.get("flask") or before).volume_ml == approx(48.0)
    assert ledger.total() == approx(0.0, abs=1e-6)
    (event,) = suite.events("ledger_corrected")
    assert event.change_ml == approx(48.0 - before.volume_ml, abs=1e-3)
    assert (event.who, event.second, event.from_mounting) == (ANNA, "ben (verifier)", True)
    (remark,) = [r for r in summarize(suite.records()).exceptions if r.code == "corrected"]
    assert "flask corrected by -1" in remark.text
    assert "as of its mounting, by anna (operator), seconded by ben (verifier): operator: spilled" in remark.text
    shown = suite.controller.status(UNIT)["ledger"]
    (row,) = [row for row in shown["containers"] if row["name"] == "flask"]
    assert row["off_g"] == approx(0.0, abs=4.0), "it weighs what it did: the volume was wrong, not the weight"
    assert shown["accounts"]["corrections"] == approx(before.volume_ml - 48.0, abs=0.01)
    await suite.power_cut(60.0)
    assert (suite.state.ledger.get("flask") or before).volume_ml == approx(48.0), "and so it is after a restart"


@pytest.mark.parametrize("suite", [""], indirect=True)
async def test_what_was_spilled_weighs_less_too(suite: Story) -> None:
    await filled(suite)
    flask = suite.plant.place(1)
    assert flask is not None
    with suite.plant.change():
        draw(flask.contents, 20.0, 1.0)
    suite.plant.aside.brought_ml -= 20.0
    await suite.plant_suite.scanner.fresh("scales")
    assert (await corrected(suite, container="flask", change="-20 mL")).status == "done"
    (event,) = suite.events("ledger_corrected")
    assert not event.from_mounting
    shown = suite.controller.status(UNIT)["ledger"]["containers"]
    assert next(row["off_g"] for row in shown if row["name"] == "flask") == approx(0.0, abs=4.0)


@pytest.mark.parametrize("suite", [""], indirect=True)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"container": "nothing", "volume": "10 mL"}, "no container is called 'nothing'"),
        ({"container": "samples", "volume": "10 mL"}, "no container is called 'samples'"),
        ({"container": "flask", "volume": "10 mL", "change": "1 mL"}, "either"),
        ({"container": "flask", "volume": "10 g"}, "volume in mL"),
        ({"container": "flask", "volume": "3 L"}, "it can hold 0 mL to 500 mL"),
        ({"container": "flask", "change": "-3 L"}, "it can hold 0 mL to 500 mL"),
        ({"container": "flask", "change": "0 mL"}, "by the ledger already"),
        ({"container": "flask", "volume": "10 mL", "reason": ""}, "needs a reason"),
        ({"container": "flask", "volume": "10 mL", "actor": ""}, "needs the person"),
        ({"container": "flask", "volume": "10 mL", "actor": "Ben  (owner)"}, "another one"),
    ],
)
async def test_what_is_not_corrected(suite: Story, given: dict[str, str], words: str) -> None:
    assert (await corrected(suite, container="flask", volume="10 mL")).code == "illegal_state", "no batch, no ledger"
    await filled(suite)
    outcome = await corrected(suite, number="c-2", **given)
    assert outcome.status == "refused"
    assert words in outcome.text
    assert not suite.events("ledger_corrected")


@pytest.mark.parametrize("suite", [""], indirect=True)
async def test_nothing_is_corrected_while_a_dose_is_about_to_be_booked(suite: Story) -> None:
    await suite.start("small")
    await suite.until_flowed("pump_media", 10.0)
    assert "wait for its end" in (await corrected(suite, container="flask", volume="10 mL")).text
    await suite.until_state("complete")


@pytest.mark.parametrize("suite", [""], indirect=True)
async def test_two_corrections_at_once_are_booked_one_after_the_other(suite: Story) -> None:
    await filled(suite)
    both = await asyncio.gather(
        *(corrected(suite, number=n, container="flask", volume="48 mL") for n in ("c-1", "c-2"))
    )
    flask = suite.state.ledger.get("flask")
    assert flask is not None
    assert flask.volume_ml == approx(48.0, abs=0.01), both
    await suite.do("abort")
