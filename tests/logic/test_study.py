"""Studies: their figures, their files, and that the same seed gives the same whatever runs it."""

from __future__ import annotations

import csv
import json
import math
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.diagnostic import DocumentError
from tilctl.cli import study as command
from tilctl.cli.dryrun.course import PERSON, Did, visits
from tilctl.cli.main import main
from tilctl.cli.studying import lots
from tilctl.cli.studying.figures import bootstrap, median_day, share, spread
from tilctl.cli.studying.lot import Lot
from tilctl.cli.studying.model import load_study, shipped
from tilctl.cli.studying.report import Against, as_data, figures

SHORT = """\
recipe: short
version: "1.0.0"
title: Two days of a culture
status: draft
sources: {P: "test default"}
equipment:
  station: {role: bioreactor, needs: [temperature, co2], positions: 2, source: P}
containers:
  rep: {kind: vessel, class: gas-permeable-100cm2, limit: 1 L, source: P}
  cells: {kind: bag, limit: 100 mL, holds: "irradiated feeders", source: P}
  medium: {kind: bag, limit: 1 L, holds: "AIM-V medium", source: P}
parameters:
  volume: {default: 400 mL, range: 100..600 mL, source: P}
results:
  tvc: {label: total viable cells, unit: cells, range: 0..2e11 cells, source: P}
procedure:
- operation: grow
  steps:
  - mount: {id: in, containers: [rep, cells, medium], volume: {rep: 0 mL, cells: 50 mL, medium: 700 mL}, source: P}
  - mark: {id: day0}
  - transfer: {id: fill, from: medium, to: rep, volume: volume, rate: 80 mL/min, source: P}
  - wait: {id: rest, for: 2 d, source: P}
  - sample: {id: count, from: rep, results: [tvc], volume: 2 mL, due: 4 h, source: P}
"""
STUDY = """\
study: volumes
title: Much or little
question: Which?
floor: 1e6 cells
donors: 6
source: P
arms:
- {name: much, recipe: short.yaml, set: {volume: 600 mL}}
- {name: little, recipe: short.yaml, set: {volume: 100 mL}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "short.yaml").write_text(SHORT, "utf-8")
    (tmp_path / "volumes.yaml").write_text(STUDY, "utf-8")
    return tmp_path


def ran(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main(["study", "run", *args, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_share_is_wilsons() -> None:
    low, high = share(5, 10)
    assert (round(low, 4), round(high, 4)) == (0.2366, 0.7634)  # tables of the score interval
    assert share(0, 10)[0] == pytest.approx(0.0)
    assert round(share(0, 10)[1], 4) == 0.2775
    assert share(10, 10)[1] == pytest.approx(1.0)


def test_a_share_of_none_or_all_lies_within_its_interval_whatever_the_rounding() -> None:
    for of in range(1, 3000):
        assert share(0, of)[0] == 0.0, of
        assert share(of, of)[1] == 1.0, of


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=60))
def test_percentiles_are_in_order_and_among_the_values(values: list[int]) -> None:
    found = spread([float(value) for value in values])
    assert min(values) <= found.p10 <= found.p50 <= found.p90 <= max(values)
    assert found.p50 == pytest.approx(median(values))


def test_the_median_day_counts_those_who_never_come_there() -> None:
    assert median_day([10.0, None, 12.0]) == 12.0
    assert median_day([10.0, None, None]) is None
    assert median_day([10.0, 12.0]) == 11.0


def test_resampling_is_the_same_for_the_same_seed_and_covers_what_it_should() -> None:
    values = [float(number) for number in range(101)]
    assert bootstrap(values, median, 1) == bootstrap(values, median, 1) != bootstrap(values, median, 2)
    low, high = bootstrap(values, median, 1)
    assert 35 < low < 50 < high < 65
    assert all(map(math.isnan, bootstrap([1.0], median, 1)))


def test_what_people_do_within_two_hours_is_one_visit() -> None:
    def did(hours: float, lasts: float = 0.1) -> Did:
        return Did("p", "ask", hours * 3600.0, (hours + lasts) * 3600.0, PERSON)

    assert visits([]) == []
    assert visits([did(9), did(0), did(1), did(3.05)]) == [[did(0), did(1), did(3.05)], [did(9)]]
    assert len(visits([did(0, lasts=5.0), did(6.5)])) == 1, "two hours from when the last was done"


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("floor: 1e6 cells", "floor: 1e6 mL", "cells"),
        ("floor: 1e6 cells", "floor: 0 cells", "every lot"),
        ("name: much", 'name: "mu\\e[31mch"', "cannot be printed"),
        ("title: Much or little", 'title: "Much\\u202e"', "cannot be printed"),
        ("donors: 6", "donors: 1", "2"),
        ("recipe: short.yaml, set: {volume: 600 mL}", "recipe: shrot, set: {}", "shrot"),
        ("volume: 600 mL", "volume: 601 mL", "100..600"),
        ("volume: 600 mL", "volum: 600 mL", "volum is unknown"),
        ("name: little", "name: much", "second arm 'much'"),
        ("question: Which?\n", "", "question"),
        ("arms:\n", "arms: []\nolds:\n", "olds"),
    ],
)
def test_what_is_wrong_with_a_study_is_told_with_its_place(folder: Path, old: str, new: str, says: str) -> None:
    path = folder / "volumes.yaml"
    assert old in STUDY
    path.write_text(STUDY.replace(old, new), "utf-8")
    with pytest.raises(DocumentError) as caught:
        load_study(str(path))
    assert any(says in str(each) and each.line >= 1 for each in caught.value.diagnostics), caught.value


def test_those_that_come_along_can_be_used() -> None:
    assert shipped()
    for name in shipped():
        study = load_study(name)
        assert study.study == name
        assert study.donors >= (100 if study.arms else 2)


SENSITIVITY = """\
study: which
title: What decides
question: Which?
floor: 1e6 cells
donors: 2
source: P
sensitivity: {recipe: til-22d, over: [donor.mu_rep, kinetics.k_il2]}
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SENSITIVITY.replace("k_il2", "k_il3"), "kinetics.k_il3"),
        (SENSITIVITY + "arms: [{name: a, recipe: til-22d}]\n", "either arms or a sensitivity"),
        (SENSITIVITY.replace("recipe: til-22d, over", "recipe: til-23d, over"), "til-23d"),
        (
            STUDY.replace("recipe: short.yaml, set: {volume: 600 mL}", "recipe: short.yaml, assume: {donor.lag: 9}"),
            "1 to 3",
        ),
        (
            STUDY.replace("recipe: short.yaml, set: {volume: 600 mL}", "recipe: short.yaml, assume: {lag: 2}"),
            "donor.lag",
        ),
        (STUDY.replace("recipe: short.yaml, set: {volume: 600 mL}", "recipe: short.yaml, assume: {donor.lag: x}"), "x"),
    ],
)
def test_what_cannot_be_assumed_is_told(folder: Path, text: str, says: str) -> None:
    (folder / "volumes.yaml").write_text(text, "utf-8")
    with pytest.raises(DocumentError) as caught:
        load_study(str(folder / "volumes.yaml"))
    assert says in str(caught.value)


# --- against the first ---------------------------------------------------------------------------------------------


def lot(seed: int, cells: float) -> Lot:
    return Lot(seed, "complete", "", cells, 90.0, None, 14.0, 1.0, 2, 2, 0, 0)


def against(tmp_path: Path, first: list[float], second: list[float]) -> tuple[Against | None, dict[str, Any]]:
    (tmp_path / "short.yaml").write_text(SHORT, "utf-8")
    (tmp_path / "volumes.yaml").write_text(STUDY, "utf-8")
    study = load_study(str(tmp_path / "volumes.yaml"))
    lots = {name: [lot(*each) for each in enumerate(own)] for name, own in (("much", first), ("little", second))}
    arms = figures(study, lots, 1)
    data: dict[str, Any] = json.loads(json.dumps(as_data(study, arms, 1, 0.0), allow_nan=False))
    return arms[1].against, data["arms"][1]


def test_a_first_arm_that_gives_the_hard_donors_up_is_not_flattered_by_it(tmp_path: Path) -> None:
    found, _ = against(tmp_path, [1e9, 1e9, 0.0, 0.0, 0.0], [0.5e9, 0.5e9, 1e9, 1e9, 0.0])
    assert found is not None
    assert (found.ratio, found.donors) == (math.inf, 4), "a donor of which neither made a lot says nothing"


def test_what_json_cannot_say_is_null(tmp_path: Path) -> None:
    _, one = against(tmp_path, [1e9, 0.0], [2e9, 0.0])
    assert (one["cells_against_first"], one["against_donors"]) == ([2.0, None, None], 1)
    _, none = against(tmp_path, [0.0, 0.0], [0.0, 0.0])
    assert (none["cells_against_first"], none["against_donors"]) == (None, 0)


# --- running ----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_however_many_processes_there_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = str(folder / "volumes.yaml")
    one, two, other = (
        ran(capsys, study, *more) for more in (("--jobs", "1"), ("--jobs", "2"), ("--seed", "50", "--jobs", "1"))
    )
    for each in (one, two, other):
        del each["wall_seconds"]
    assert one == two
    assert one != other


def test_the_figures_are_of_what_was_walked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    found = ran(capsys, str(folder / "volumes.yaml"), "--donors", "3", "--jobs", "1", "--out", str(out))
    assert found["study"] == "volumes"
    much, little = found["arms"]
    assert {"name", "donors", "reached_floor", "median_day", "cells", "medium_l", "visits"} <= much.keys()
    assert {"p10", "p50", "p90"} == much["cells"].keys()
    assert (much["donors"], much["reached_floor"], much["median_day"]) == (3, 0.0, None), "nobody put cells in"
    assert much["medium_l"] == pytest.approx(0.6, rel=0.02)
    assert little["medium_l"] == pytest.approx(0.1, rel=0.03)
    assert much["visits"] == 2.0, "when it is begun, and to count"
    with (out / "lots.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["seed"]) for row in rows] == [(a, str(s)) for a in ("much", "little") for s in (1, 2, 3)]
    assert json.loads((out / "study.json").read_text("utf-8"))["arms"] == found["arms"]
    assert (out / "cells.svg").read_text("utf-8").count("<svg") == 1


def test_alarms_of_guards_are_counted_for_each_lot(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guard = "{id: full, when: rep.volume > 500 mL, priority: high, cause: c, consequence: c, action: a, allowed: h}"
    guarded = SHORT.replace(
        "procedure:", f"guards:\n- {guard}\nprocedure:".replace("allowed: h", "source: P, allowed: h")
    )
    (folder / "short.yaml").write_text(guarded, "utf-8")
    out = folder / "out"
    found = ran(capsys, str(folder / "volumes.yaml"), "--donors", "2", "--jobs", "1", "--out", str(out))
    assert [arm["alarms"] for arm in found["arms"]] == [1.0, 0.0]
    with (out / "lots.csv").open(encoding="utf-8", newline="") as file:
        assert [row["alarms"] for row in csv.DictReader(file)] == ["1", "1", "0", "0"]


def test_names_are_drawn_as_they_are(folder: Path) -> None:
    text = STUDY.replace("name: much", "name: '$\\frac$'").replace("name: little", "name: '$ <&>'")
    (folder / "volumes.yaml").write_text(text.replace("Much or", "$\\frac$ or"), "utf-8")
    assert main(["study", "run", str(folder / "volumes.yaml"), "--jobs", "1", "--out", str(folder / "out")]) == 0
    assert "$ &lt;&amp;&gt;" in (folder / "out" / "cells.svg").read_text("utf-8")


def test_a_lot_that_breaks_and_a_process_that_is_killed_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Lot:
        raise DocumentError([])

    monkeypatch.setattr(lots, "expand", broken)
    assert main(["study", "run", str(folder / "volumes.yaml"), "--jobs", "1"]) == 70
    assert "donor 1 of the arm 'much': DocumentError" in capsys.readouterr().err

    def killed(*_: object) -> dict[str, list[Lot]]:
        raise BrokenProcessPool

    monkeypatch.setattr(command, "lots_of", killed)
    assert main(["study", "run", str(folder / "volumes.yaml"), "--jobs", "1", "--json"]) == 3
    told = capsys.readouterr()
    assert "fewer --jobs" in told.err
    assert told.out == ""


def test_a_full_disk_is_told_with_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    out.mkdir()
    (out / "lots.csv").symlink_to("/dev/full")
    assert main(["study", "run", str(folder / "volumes.yaml"), "--jobs", "1", "--out", str(out)]) == 3
    assert f"--out: {out}" in capsys.readouterr().err


def test_a_table_for_people_says_what_it_is_worth(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "run", str(folder / "volumes.yaml"), "--donors", "2", "--jobs", "1"]) == 0
    told = capsys.readouterr().out
    assert "uncalibrated" in told
    assert "reached 1e6 cells" in told
    assert main(["study", "list"]) == 0
    assert "cells-per-flask" in capsys.readouterr().out


def test_a_sensitivity_shows_what_decides_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "which.yaml").write_text(SENSITIVITY, "utf-8")
    out = folder / "out"
    assert main(["study", "run", str(folder / "which.yaml"), "--jobs", "1", "--out", str(out)]) == 0
    told = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in told if line.startswith(("donor", "kinetics"))]
    assert [row[0] for row in rows] == ["donor.mu_rep", "kinetics.k_il2"], "growth decides more than IL-2 in excess"
    low, high = (float(each.removeprefix("x")) for each in rows[0][-2:])
    assert low < 0.7
    assert high > 1.5
    assert (out / "tornado.svg").read_text("utf-8").count("<svg") == 1


def test_some_donors_of_a_population_do_not_expand_and_none_may_be_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reached(share: str) -> float:
        text = STUDY.replace("source: P", f"source: P\nnon_expanders: {share}").replace("short.yaml", "til-22d")
        path = folder / "shares.yaml"
        path.write_text(text.replace(", set: {volume: 600 mL}", "").replace(", set: {volume: 100 mL}", ""), "utf-8")
        found: float = ran(capsys, str(path), "--jobs", "1", "--donors", "8")["arms"][0]["cells"]["p10"]
        return found

    assert reached("0.0") > 3e9
    assert reached("0.5") < 1e9


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["nothing"], 2, "no study 'nothing'"),
        (["gone.yaml"], 2, "gone.yaml"),
        (["cells-per-flask", "--out", "/proc/none"], 3, "--out"),
    ],
)
def test_bad_input_is_told(args: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "run", *args]) == code
    assert says in capsys.readouterr().err
