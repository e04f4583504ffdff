"""Freezing profiles: what the device is told, what is refused, and how a run is judged."""

from __future__ import annotations

import math

import pytest

from devices.document import DocumentError, parse
from recipes import shelf
from recipes.catalog import load_freezing
from recipes.freezing import Finding, accept, duration, longest, nucleation, program, unseen
from recipes.freezing_check import check_profile

F3 = load_freezing("F3")
Curve = list[tuple[float, float | None, float | None]]


def run(
    *,
    before: float = -1.0,
    nucleates: float = -8.0,
    plateau: float = 15.0,
    after: float = -1.5,
    steady: float = 300.0,
    end: float = -82.0,
) -> Curve:
    """Return an idealised run at 10 s: steady, cooling, supercooled, exotherm, plateau, cooling, end.

    `before`, `after` in K/min, `nucleates`, `end` in degC, `plateau` in min, `steady` in s.
    """  # fmt: skip
    samples: Curve = []
    t, sample, chamber = 0.0, 4.0, 4.0

    def note(chamber_now: float) -> None:
        nonlocal t
        samples.append((t, chamber_now, sample))
        t += 10.0

    while t < steady:
        note(chamber)
    while sample > nucleates:
        sample += (before if sample > -4 else -3.0) / 6
        note(sample - 9)
    for _ in range(3):
        sample = min(-2.2, sample + (-2.2 - nucleates) / 3)
        note(-20.0)
    for step in range(int(plateau * 6)):
        sample = -2.2 - (8 * (step / (plateau * 6)) ** 8)
        note(-20.0 - step / 60)
    while sample > -40:
        sample += after / 6
        note(sample - 8)
    while sample > end:
        sample -= 0.8
        note(max(-90.0, sample - 30))
    return samples


def judged(samples: Curve) -> dict[str, Finding]:
    return {finding.criterion: finding for finding in accept(F3, samples)}


def test_a_good_run_is_accepted() -> None:
    found = judged(run())
    assert set(found) == {
        "start", "rate before nucleation", "nucleation", "plateau", "rate after nucleation", "end"
    }  # fmt: skip
    assert [finding for finding in found.values() if not finding.ok] == []
    assert found["nucleation"].value.startswith("-8")


@pytest.mark.parametrize(
    ("criterion", "samples"),
    [
        ("start", run(steady=60.0)),
        ("rate before nucleation", run(before=-2.5)),
        ("rate before nucleation", run(before=-0.2)),
        ("nucleation", run(nucleates=-18.0)),
        ("plateau", run(plateau=40.0)),
        ("rate after nucleation", run(after=-6.0)),
        ("rate after nucleation", run(after=-0.3)),
        ("end", run(end=-70.0)),
    ],
)
def test_each_criterion_can_fail(criterion: str, samples: Curve) -> None:
    assert not judged(samples)[criterion].ok


def test_a_bag_that_never_freezes_shows_no_seeding_evidence() -> None:
    falling: Curve = [(t, 4 - t / 60 - 9 * min(1, t / 600), 4 - t / 60) for t in map(float, range(0, 5400, 10))]
    found = judged(falling)["nucleation"]
    assert not found.ok
    assert found.value == "not seen by -20 degC"
    assert "seeding" in found.consequence


def test_a_plateau_counts_as_nucleation_too() -> None:
    t = [10.0 * i for i in range(60)]
    sample = [-2.0 - 0.02 * i if i < 20 else -2.5 for i in range(60)]
    assert nucleation(t, [-12.0] * 60, sample) is not None
    assert nucleation(t, [-3.0] * 60, sample) is None  # the chamber is not colder: nothing is being frozen


def test_readings_that_are_missing_are_left_out_and_none_is_not_accepted() -> None:
    holed: Curve = [(t, chamber, None if 1000 < t < 1040 else sample) for t, chamber, sample in run()]
    assert judged(holed)["end"].ok
    nothing = accept(F3, [(0.0, None, None), (10.0, -90.0, None)])
    assert not any(finding.ok for finding in nothing)


def at(samples: Curve, degrees: float, *, frozen: bool) -> float:
    """Return when the bag first was so cold, before nucleation or in the last part of the run."""
    rows = samples if not frozen else samples[-200:]
    return next(t for t, _, sample in rows if sample is not None and sample <= degrees)


@pytest.mark.parametrize(
    ("first", "last", "hidden"),
    [
        (0.0, 90.0, {"start"}),
        (310.0, 420.0, {"rate before nucleation"}),
        ("supercooled", "all frozen", {"nucleation", "plateau", "rate after nucleation"}),
        ("plateau", "plateau", set[str]()),
        ("all frozen", "end", {"rate after nucleation", "end"}),
    ],
)
def test_what_was_decided_unseen_is_not_judged_and_the_rest_is(
    first: float | str, last: float | str, hidden: set[str]
) -> None:
    whole = run(steady=180.0)
    end, cold = whole[-1][0], at(whole, -5.0, frozen=False)
    named = {
        "supercooled": (cold, cold), "all frozen": (at(whole, -15.0, frozen=True),) * 2, "end": (end, end + 1.0),
        "plateau": (cold + 400.0, cold + 600.0),
    }  # fmt: skip
    a = named[first][0] if isinstance(first, str) else first
    b = named[last][1] if isinstance(last, str) else last
    seen = [row for row in whole if not a <= row[0] < b]
    found = accept(F3, seen, None, unseen([row[0] for row in seen], end))
    assert {finding.criterion for finding in found if not finding.judged} == hidden
    assert all(finding.ok is finding.judged for finding in found), "what was seen was good"
    assert all("unseen from" in finding.value for finding in found if not finding.judged)


def test_tracking_is_judged_where_set_points_are_known() -> None:
    samples = run()
    close = [None if chamber is None else chamber + 1 for _, chamber, _ in samples]
    far = [None if chamber is None else chamber + 20 for _, chamber, _ in samples]
    named = [accept(F3, samples, points)[-1] for points in (close, far)]
    assert [(finding.criterion, finding.ok) for finding in named] == [
        ("chamber tracking", True),
        ("chamber tracking", False),
    ]


def test_the_table_for_the_device() -> None:
    rows = program(F3)
    assert len(rows) == 9
    assert rows[3] == {"kind": 2.0, "listen": 0.0, "rate": -25.0, "target": -40.0, "end": 2.0, "timeout": 180.0}
    assert rows[-1] == dict.fromkeys(rows[0], 0.0)
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert duration(F3) == 6000.0
    assert longest(F3) > duration(F3)


@pytest.mark.parametrize("name", sorted(shelf.paths(shelf.FREEZING)))
def test_the_librarys_profiles_are_clean(name: str) -> None:
    profile, found = check_profile(shelf.read(name, shelf.FREEZING))
    assert found == []
    assert profile is not None
    assert profile.id == name
    assert profile.status == "illustrative"
    assert longest(profile) <= 4 * 3600


GOOD = shelf.read("S1-quick", shelf.FREEZING).text
START = "  start: {band: BAND, hold: 1 min, source: P}"


@pytest.mark.parametrize(
    ("code", "old", "new", "says"),
    [
        ("schema", "kind: hold, listen: chamber", "kind: wait, listen: chamber", "hold"),
        ("id-duplicate", "id: cool", "id: settle", "settle"),
        ("row", "rate: -25 K/min", "rate: 0 K/min", "ramp"),
        ("row", "rate: -25 K/min", "rate: -25 degC/min", "K/min"),
        ("row", "target: -40 degC", "target: -400 degC", "outside"),
        ("row", "timeout: 90 s", "timeout: 0 s", "ends in time"),
        ("row", "listen: chamber, target: 4", "listen: chamber, rate: 1 K/min, target: 4", "no rate"),
        ("quantity", "lasts: 6 min", "lasts: 6 K", "time"),
        ("dimension", "acceptance:", f"acceptance:\n{START}".replace("BAND", "2 K..6 K"), "degC"),
        ("quantity", "acceptance:", f"acceptance:\n{START}".replace("BAND", "warm"), "range"),
        ("source-unknown", "timeout: 90 s, source: P", "timeout: 90 s, source: X9", "X9"),
    ],
)
def test_broken_profiles(code: str, old: str, new: str, says: str) -> None:
    changed = GOOD.replace(old, new)
    assert changed != GOOD
    found = check_profile(parse(changed, "broken.yaml"))[1]
    assert code in [one.code for one in found]
    assert any(says in f"{one.message} {one.hint}" for one in found), [str(one) for one in found]


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(DocumentError, match="S1-quick"):
        load_freezing("F99")
