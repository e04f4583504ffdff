"""The plots: the same data give the same bytes, and a reader finds what is drawn, in which unit, and the warning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from simulators.trace import CultureRow
from tilctl.cli import plots
from tilctl.record.summary import Count, FreezeRun, Summary

DAY = 86400.0
SUMMARY = Summary(
    started="2026-01-05T08:00:00.000Z",
    marks={"day0": "2026-01-05T12:00:00.000Z"},
    counts=(Count("2026-01-07T08:00:00.000Z", "count", 3e7, 90.0),),
)
RUN = FreezeRun(
    "cryo/run",
    "F3",
    "complete",
    ((0.0, 4.0, None, 4.0), (60.0, 0.0, 3.0, -1.0), (120.0, -3.0, 1.0, -3.0)),
    ({"criterion": "nucleation", "value": "-9.0 degC", "ok": False},),
)


def rows(name: str, days: float, cells: float) -> list[CultureRow]:
    times = [hour * 3600.0 for hour in range(int(days * 24) + 1)]
    return [CultureRow(t, name, 1, cells * 2 ** (t / DAY), 0.0, 90.0, 11.0, 1.0, 6000.0, 990.0, 37.0) for t in times]


def drawn(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_culture_is_drawn_the_same_twice_with_units_and_warning(tmp_path: Path):
    data = rows("rep", 2, 1e7)
    for name in ("a.svg", "b.svg"):
        assert plots.culture(tmp_path / name, data, SUMMARY, "til-22d, seed 1")
    assert drawn(tmp_path / "a.svg") == drawn(tmp_path / "b.svg")
    text = drawn(tmp_path / "a.svg")
    for words in ("simulated, uncalibrated", "glucose (mmol/L)", "volume (L)", "days since day 0", "laboratory count"):
        assert words in text
    assert "<dc:date>" not in text


def test_other_data_give_another_drawing(tmp_path: Path):
    plots.culture(tmp_path / "a.svg", rows("rep", 2, 1e7), SUMMARY, "x")
    plots.culture(tmp_path / "b.svg", rows("rep", 2, 2e7), SUMMARY, "x")
    assert drawn(tmp_path / "a.svg") != drawn(tmp_path / "b.svg")


def test_what_holds_cells_in_passing_has_no_line_of_its_own_unless_there_is_nothing_else(tmp_path: Path):
    plots.culture(tmp_path / "a.svg", rows("rep", 2, 1e7) + rows("pool", 0.2, 1e7), SUMMARY, "x")
    assert "<!-- rep -->" in drawn(tmp_path / "a.svg")
    assert "<!-- pool -->" not in drawn(tmp_path / "a.svg")
    plots.culture(tmp_path / "b.svg", rows("pool", 0.2, 1e7), replace(SUMMARY, marks={}), "x")
    assert "<!-- pool -->" in drawn(tmp_path / "b.svg")


def test_cells_too_few_to_see_are_no_failure(tmp_path: Path):
    assert plots.culture(tmp_path / "a.svg", rows("rep", 1, 0.0), replace(SUMMARY, counts=()), "x")


def test_nothing_is_drawn_of_nothing(tmp_path: Path):
    assert not plots.culture(tmp_path / "a.svg", [], SUMMARY, "x")
    assert not plots.freezing(tmp_path / "b.svg", replace(RUN, series=()), "x")
    assert list(tmp_path.iterdir()) == []


def test_the_freezing_run_is_drawn_the_same_twice_with_its_findings(tmp_path: Path):
    for name in ("a.svg", "b.svg"):
        assert plots.freezing(tmp_path / name, RUN, "til-22d, seed 1")
    assert drawn(tmp_path / "a.svg") == drawn(tmp_path / "b.svg")
    for words in ("simulated, uncalibrated", "temperature (°C)", "(min)", "chamber", "NOT MET"):
        assert words in drawn(tmp_path / "a.svg")
