"""The freezing bag and the programmer, against computed runs of a seeded programme (h 25 W/m2K, Tm -3.7 degC)."""

from __future__ import annotations

import pytest

from simulators.physics.freezing import LATENT, LIQUID_HEAT, WATER, Freezer, Row, bag, freezing_point

SEEDED = [
    Row("hold", "chamber", 0.0, 4.0, "time", 600.0),
    Row("ramp", "sample", -1.0, -4.0, "target", 0.0),
    Row("ramp", "chamber", -25.0, -40.0, "target", 0.0),
    Row("ramp", "chamber", 10.0, -12.0, "target", 0.0),
    Row("ramp", "chamber", -1.0, -40.0, "target", 0.0),
    Row("ramp", "chamber", -10.0, -90.0, "target", 0.0),
    Row("hold", "chamber", 0.0, -90.0, "time", 660.0),
]
END_BY_SAMPLE = [
    Row("hold", "sample", 0.0, 4.0, "target", 1800.0),
    Row("hold", "chamber", 0.0, 4.0, "time", 180.0),
    Row("ramp", "sample", -1.0, -4.0, "target", 1800.0),
    Row("ramp", "chamber", -25.0, -40.0, "exotherm_or_time", 180.0),
    Row("ramp", "chamber", 10.0, -12.0, "target", 600.0),
    Row("ramp", "sample", -1.0, -40.0, "target", 5400.0),
    Row("ramp", "chamber", -10.0, -90.0, "target", 900.0),
    Row("hold", "sample", 0.0, -82.0, "target", 1800.0),
]


def loaded(
    rows: list[Row], volume: float, nucleation: float, *, dmso: float = 0.1, temperature: float = 4.0
) -> Freezer:
    freezer = Freezer()
    freezer.load([bag(volume, temperature, dmso, nucleation)], 0.0)
    freezer.rows = rows
    assert freezer.start(1, 0.0)
    return freezer


def finish(freezer: Freezer) -> dict[str, float]:
    """Run to the end; minutes of nucleation and of -10 and -40 degC (after it), temperatures at the end."""
    seen: dict[str, float] = {}
    while freezer.running:
        freezer.advance(freezer.next_event())
        minutes, sample = freezer.t / 60.0, freezer.sample
        assert sample is not None
        if freezer.bags[0].frozen and "nucleated" not in seen:
            seen["nucleated"] = minutes
        if "nucleated" in seen and minutes > seen["nucleated"] + 1.0:
            for level in (10, 40):
                if sample <= -level:
                    seen.setdefault(f"-{level}", minutes)
    seen |= {"end": freezer.t / 60.0, "sample": freezer.sample or 0.0, "chamber": freezer.chamber}
    return seen


# volume, nucleation temperature -> minute of nucleation, minutes to -10 degC, K/min from -10 to -40, sample at the end
RUNS = [
    (100.0, -6.0, 18.9, 23.7, 2.5, -80.8),
    (100.0, -9.0, 19.9, 22.9, 2.5, -80.7),
    (100.0, -14.0, 29.1, 16.0, 3.0, -80.0),
    (50.0, -9.0, 19.4, 16.9, 1.9, -88.1),
]


@pytest.mark.parametrize(("volume", "tn", "nucleated", "to_10", "rate", "final"), RUNS)
def test_computed_runs_of_the_seeded_programme(volume, tn, nucleated, to_10, rate, final):
    seen = finish(loaded(SEEDED, volume, tn))
    assert seen["nucleated"] == pytest.approx(nucleated, abs=0.8)
    assert seen["-10"] - seen["nucleated"] == pytest.approx(to_10, rel=0.08)
    assert 30.0 / (seen["-40"] - seen["-10"]) == pytest.approx(rate, rel=0.06)
    assert seen["end"] == pytest.approx(66.0, abs=1.5)
    assert seen["sample"] == pytest.approx(final, abs=2.0)
    assert seen["chamber"] == pytest.approx(-90.0, abs=0.5)


@pytest.mark.parametrize("tn", [-6.0, -9.0, -14.0])
@pytest.mark.parametrize("volume", [50.0, 100.0, 125.0])
def test_the_programme_that_ends_by_the_sample(volume, tn):
    freezer = loaded(END_BY_SAMPLE, volume, tn, dmso=0.05, temperature=12.0)
    seen = finish(freezer)
    assert freezer.state == "complete"
    assert freezer.nucleated
    assert seen["sample"] <= -80.0
    assert seen["chamber"] <= -85.0
    assert 60.0 < seen["end"] < 130.0


def test_a_sample_ramp_cools_the_sample_at_its_rate():
    freezer = loaded(END_BY_SAMPLE, 100.0, -9.0, dmso=0.05)
    course: list[tuple[float, float]] = []
    while freezer.segment <= 3:
        freezer.advance(freezer.next_event())
        if freezer.segment == 3 and freezer.sample is not None:
            course.append((freezer.t, freezer.sample))
    slopes = [(b[1] - a[1]) for a, b in zip(course, course[60:], strict=False)]
    assert sum(-1.5 <= slope <= -0.5 for slope in slopes) >= 0.8 * len(slopes)


def test_nucleation_warms_the_sample_to_its_freezing_point():
    freezer = loaded(SEEDED, 100.0, -9.0)
    while not freezer.bags[0].frozen:
        freezer.advance(freezer.next_event())
    assert freezer.sample == pytest.approx(-4.0, abs=0.4)
    warm = freezer.bags[0]
    assert not freezer.nucleated or freezer.sample is not None
    frozen_share = LIQUID_HEAT * (9.0 - 3.7) / LATENT
    assert 0.05 < frozen_share < WATER
    assert warm.temperature > -9.0


def test_freezing_points_of_both_dilutions():
    assert freezing_point(0.05) == pytest.approx(-2.1)
    assert freezing_point(0.10) == pytest.approx(-3.7)


def test_heat_of_a_bag_from_4_to_minus_90():
    frozen = bag(100.0, 4.0, 0.1, -9.0)
    start = frozen.enthalpy
    while frozen.temperature > -89.9:
        frozen.exchange(-90.0, 1.0)
    assert (start - frozen.enthalpy) * frozen.mass == pytest.approx(48_000.0, rel=0.1)


def test_a_start_is_once_and_a_run_cannot_be_started_over():
    freezer = loaded(SEEDED, 100.0, -9.0)
    for _ in range(100):
        freezer.advance(freezer.next_event())
    assert freezer.start(1, freezer.t)
    assert freezer.start(2, freezer.t)  # ignored while it runs
    assert (freezer.sequence, freezer.started) == (1, 0.0)
    freezer.abort(freezer.t)
    assert freezer.state == "aborted"
    assert freezer.elapsed(1e6) == 100.0
    assert not Freezer().start(1, 0.0)  # nothing loaded


def test_an_idle_freezer_has_no_events_and_is_ready():
    freezer = Freezer()
    assert freezer.next_event() == float("inf")
    assert freezer.ready
    freezer.ln2 = 15.0
    assert not freezer.ready


def test_after_unloading_the_chamber_comes_back_to_idle():
    freezer = loaded(SEEDED, 50.0, -9.0)
    finish(freezer)
    assert not freezer.ready
    assert len(freezer.unload(freezer.t)) == 1
    while freezer.next_event() < float("inf"):
        freezer.advance(freezer.next_event())
    assert freezer.ready
    assert freezer.sample is None
