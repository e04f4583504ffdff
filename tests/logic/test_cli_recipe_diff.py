"""`tilctl recipe diff`: what differs between two recipes in terms of the process, and what is no difference."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from recipes import shelf
from tilctl.cli.main import main

BASE = """\
recipe: small
version: "1.0.0"
title: A small one
status: draft
sources: {P: engineering default, S: a paper}
equipment:
  station: {role: bioreactor, needs: [temperature, co2], positions: 4, source: P}
containers:
  pre: {kind: vessel, count: 1..4, limit: 1 L, source: P}
  pool: {kind: bag, limit: 5 L, source: "P, S"}
parameters:
  fill: {label: filled into each, default: 500 mL, range: 100..800 mL, source: P}
results:
  tvc: {label: viable cells, unit: cells, range: 0..2e11 cells, source: P}
clocks:
  trial: {from: day0, to: over, warn: 4 h, high: 1 d, source: P}
guards:
- {id: warm, when: station.temperature > 38 degC, for: 60 s, priority: high, then: hold, source: P}
procedure:
- operation: prepare
  title: Mount and fill
  steps:
  - set: {id: climate, station.temperature: 37 degC, station.co2: 5 %, source: P}
  - ask: {id: look, text: How many?, inputs: {n: {label: vessels, range: 1..4}}, source: P}
  - mount: {id: pre_in, containers: pre, count: look.n, volume: 0 mL}
  - mount: {id: pool_in, containers: pool, volume: ask}
  - for_each:
      id: each
      as: f
      in: pre
      steps:
      - transfer: {id: first, from: pool, to: f, volume: 500 mL, rate: 50 mL/min, tolerance: 2 %, source: P}
      - transfer: {id: top, from: pool, to: f, up_to: fill + 100 mL, rate: 50 mL/min, source: P}
  - mark: {id: day0}
- operation: grow
  steps:
  - incubate: {id: static, until: day >= 2 d, window: 2 d..3 d, max_outage: 4 h, source: P}
  - sample: {id: count, from: pool, results: [tvc], due: 4 h, source: P}
  - choose:
      id: enough
      cases:
      - when: count.tvc > 1e6 cells
        steps:
        - note: {id: many, text: "{count.tvc}"}
        - mark: {id: over}
      - when: count.tvc > 1e5 cells
        steps:
        - ask: {id: go, text: Go on?, sign: [quality]}
      - else:
        - end: {as: stopped, reason: too few}
"""


def write(folder: Path, text: str, name: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def diff(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], str]:
    code = main(["recipe", "diff", *words])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def edited(*edits: tuple[str, str]) -> str:
    text = BASE
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def changed(
    capsys: pytest.CaptureFixture[str], folder: Path, *edits: tuple[str, str], options: tuple[str, ...] = ()
) -> list[str]:
    """Return what is told of a recipe with some of its text replaced, and that as much is told the other way round."""
    old, new = write(folder, BASE, "old.yaml"), write(folder, edited(*edits), "new.yaml")
    code, lines, _ = diff(capsys, old, new, *options)
    back_code, back, _ = diff(capsys, new, old, *options)
    assert (back_code, len(back)) == (code, len(lines))
    *found, last = lines
    real = [line for line in found if "written differently" not in line]
    assert code == (1 if real else 0)
    assert last.endswith(f": {len(real) or 'no'} difference{'' if len(real) == 1 else 's'}")
    return found


def test_a_recipe_is_equal_to_itself(capsys: pytest.CaptureFixture[str]):
    for name in ("til-22d", "shakedown"):
        assert diff(capsys, name, name) == (0, [f"{name} 1.0.0 -> {name} 1.0.0: no differences"], "")


FIELDS = {
    "volume: 500 mL, rate": ("volume: 400 mL, rate", "step prepare/each/first: volume 500 mL -> 400 mL"),
    'version: "1.0.0"': ('version: "1.0.1"', "header version 1.0.0 -> 1.0.1"),
    "status: draft": ("status: approved", "header status draft -> approved"),
    "S: a paper": ("S: a book", "source S: description a paper -> a book"),
    "positions: 4": ("positions: 5", "equipment station: positions 4 -> 5"),
    "limit: 1 L": ("limit: 2 L", "container pre: limit 1 L -> 2 L"),
    "default: 500 mL": ("default: 0.4 L", "parameter fill: default 500 mL -> 0.4 L"),
    "0..2e11": ("0..2e12", "result tvc: range 0..2e11 cells -> 0..2e12 cells"),
    "high: 1 d": ("high: 2 d", "clock trial: high 1 d -> 2 d"),
    "> 38 degC": (
        ">= 38 degC",
        "guard warm: when station.temperature is above 38 degC -> station.temperature is at least 38 degC",
    ),
    "then: hold": ("then: stop", "guard warm: then hold -> stop"),
    "title: Mount and fill": ("title: Fill", "operation prepare: title Mount and fill -> Fill"),
    "temperature: 37 degC": ("temperature: 36 degC", "step prepare/climate: station.temperature 37 degC -> 36 degC"),
    "range: 1..4}": ("range: 1..3}", "step prepare/look: value n range 1..4 -> 1..3"),
    "count: look.n, volume: 0 mL": (
        "count: look.n, volume: 5 mL",
        "step prepare/pre_in: volume of pre 0 mL -> 5 mL",
    ),
    "up_to: fill + 100 mL": ("up_to: fill", "step prepare/each/top: up to fill + 100 mL -> fill"),
    ", tolerance: 2 %": ("", "step prepare/each/first: tolerance 2 % -> 5 %"),
    ", max_outage: 4 h": ("", "step grow/static: max outage 4 h -> none"),
    "results: [tvc], due": ("results: [tvc], wait: false, due", "step grow/count: wait yes -> no"),
    "sign: [quality]": ("sign: [quality, operator]", "step grow/enough/go: sign quality -> quality, operator"),
    "> 1e5 cells": (
        "> 2e5 cells",
        "step grow/enough: branch 2 count.tvc is above 1e5 cells -> count.tvc is above 2e5 cells",
    ),
}


@pytest.mark.parametrize("old", FIELDS)
def test_one_change_is_one_difference_in_words(capsys: pytest.CaptureFixture[str], tmp_path: Path, old: str):
    new, words = FIELDS[old]
    assert changed(capsys, tmp_path, (old, new)) == [words]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("volume: 500 mL, rate", "volume: 0.5 L, rate"),
        ("fill + 100 mL", "fill+0.1 L"),
        ("day >= 2 d", "day >= 48 h"),
        ("window: 2 d..3 d", "window: 48 h..72 h"),
        ("range: 100..800 mL", "range: 0.1 L..0.8 L"),
        ("range: 100..800 mL", "range: 100..800"),
        ("range: 0..2e11 cells", "range: 0..200000000000"),
        ('"P, S"', '"S,P"'),
        ("for: 60 s", "for: 1 min"),
        ("> 1e5 cells", "> 100000 cells"),
    ],
)
def test_what_is_only_written_differently_is_told_when_asked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, old: str, new: str
):
    assert changed(capsys, tmp_path, (old, new)) == []
    (line,) = changed(capsys, tmp_path, (old, new), options=("--all",))
    assert "written differently" in line


def test_the_same_mount_written_for_each_container_is_no_difference(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    edit = ("count: look.n, volume: 0 mL", "count: {pre: look.n}, volume: {pre: 0 mL}")
    assert changed(capsys, tmp_path, edit, options=("--all",)) == []


CLIMATE = "  - set: {id: climate, station.temperature: 37 degC, station.co2: 5 %, source: P}\n"
DAY0 = "  - mark: {id: day0}\n"
TOP = "      - transfer: {id: top, from: pool, to: f, up_to: fill + 100 mL, rate: 50 mL/min, source: P}\n"
MANY = '        - note: {id: many, text: "{count.tvc}"}\n'
GO = "        - ask: {id: go, text: Go on?, sign: [quality]}\n"
EACH = BASE[BASE.index("  - for_each:") : BASE.index(DAY0)]
COUNT = "  - sample: {id: count"


def test_steps_added_and_removed_are_told_with_what_they_do(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    top = "Transfer from pool to each pre at 50 mL/min until each pre holds fill + 100 mL, tolerance 5 %."
    assert changed(capsys, tmp_path, (TOP, "")) == [f"step prepare/each/top: removed: {top}"]
    assert changed(capsys, tmp_path, (DAY0, f"{DAY0}  - wait: {{id: calm, for: 5 min}}\n")) == [
        "step prepare/calm: added: Wait for 5 min."
    ]
    assert changed(capsys, tmp_path, (EACH, "")) == [
        "step prepare/each: removed: For each mounted pre, one after the other (f below):",
        "step prepare/each/first: removed: Transfer 500 mL from pool to each pre at 50 mL/min, tolerance 2 %.",
        f"step prepare/each/top: removed: {top}",
    ]


def test_a_step_moved_among_its_neighbours(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert changed(capsys, tmp_path, (CLIMATE, ""), (DAY0, CLIMATE + DAY0)) == [
        "step prepare/climate: moved: first -> after each"
    ]


def test_a_step_moved_to_another_operation_is_followed_with_its_changes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    warmer = CLIMATE.replace("37 degC", "36 degC")
    assert changed(capsys, tmp_path, (CLIMATE, ""), (COUNT, warmer + COUNT)) == [
        "step grow/climate: moved: prepare, first -> grow, after static",
        "step grow/climate: station.temperature 37 degC -> 36 degC",
    ]


def test_a_loop_is_moved_as_a_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    slower = EACH.replace("500 mL, rate: 50", "500 mL, rate: 40")
    assert changed(capsys, tmp_path, (EACH, ""), (COUNT, slower + COUNT)) == [
        "step grow/each: moved: prepare, after pool_in -> grow, after static",
        "step grow/each/first: rate 50 mL/min -> 40 mL/min",
    ]


def test_a_step_moved_into_and_within_a_loop(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert changed(capsys, tmp_path, (DAY0, ""), (TOP, f"{TOP}    {DAY0}")) == [
        "step prepare/each/day0: moved: prepare, after each -> prepare/each, after top"
    ]
    first = "      - transfer: {id: first"
    assert changed(capsys, tmp_path, (TOP, ""), (first, TOP + first)) in (
        ["step prepare/each/top: moved: after first -> first"],
        ["step prepare/each/first: moved: first -> after top"],
    )


def test_a_step_moved_between_branches(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    was = "grow/enough, when count.tvc is above 1e6 cells, first"
    now = "grow/enough, when count.tvc is above 1e5 cells, after go"
    assert changed(capsys, tmp_path, (MANY, ""), (GO, GO + MANY)) == [f"step grow/enough/many: moved: {was} -> {now}"]


def test_a_branch_added_in_front_leaves_the_others_as_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    more = "      - when: count.tvc > 1e9 cells\n        steps: []\n"
    front = "      - when: count.tvc > 1e6 cells"
    assert changed(capsys, tmp_path, (front, more + front)) == [
        "step grow/enough: branch 1 added: count.tvc is above 1e9 cells"
    ]


def test_branches_in_another_order_are_another_choice(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    cases = ("      - when: count.tvc > 1e6", "      - when: count.tvc > 1e5", "      - else")
    start, middle, end = (BASE.index(case) for case in cases)
    swapped = BASE[middle:end] + BASE[start:middle]
    assert changed(capsys, tmp_path, (BASE[start:end], swapped)) == [
        "step grow/enough: order of branches 1, 2, 3 -> 2, 1, 3"
    ]


def test_a_step_without_an_id_of_its_own_is_followed_only_where_it_says_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """Its id is the name of its verb, by which any two would be one."""
    note = "  - note: {text: warm}\n"
    old = write(tmp_path, edited((DAY0, DAY0 + note)), "old.yaml")
    same = write(tmp_path, edited((COUNT, note + COUNT)), "same.yaml")
    other = write(tmp_path, edited((COUNT, note.replace("warm", "cold") + COUNT)), "other.yaml")
    assert diff(capsys, old, same)[1][:-1] == ["step grow/note: moved: prepare, after day0 -> grow, after static"]
    assert diff(capsys, old, other)[1][:-1] == [
        "step prepare/note: removed: Write on the record: warm.",
        "step grow/note: added: Write on the record: cold.",
    ]


def test_another_verb_is_another_step(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    ask = "        - ask: {id: many, text: Many?}\n"
    assert changed(capsys, tmp_path, (MANY, ask)) == [
        "step grow/enough/many: removed: Write on the record: {count.tvc}.",
        "step grow/enough/many: added: Many?",
    ]


def test_a_loop_of_turns_around_steps(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    turns = "  - repeat: {id: turns, max: 3, steps: [{mark: {id: day0}}]}\n"
    assert changed(capsys, tmp_path, (DAY0, turns)) == [
        "step prepare/turns: added: Repeat, 3 turns:",
        "step prepare/turns/day0: moved: prepare, after each -> prepare/turns, first",
    ]


def test_declarations_added_and_removed(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    guard = "- {id: warm, when: station.temperature > 38 degC, for: 60 s, priority: high, then: hold, source: P}"
    cold = "- {id: cold, when: station.temperature < 36 degC, priority: low, source: P}"
    assert changed(capsys, tmp_path, (guard, cold)) == [
        "guard warm: removed: when station.temperature is above 38 degC, for 60 s, priority high, then hold, source P",
        "guard cold: added: when station.temperature is below 36 degC, priority low, source P",
    ]
    pool = '  pool: {kind: bag, limit: 5 L, source: "P, S"}\n'
    assert changed(capsys, tmp_path, (pool, "")) == [
        "container pool: removed: kind bag, limit 5 L, source P, S",
    ]
    assert changed(capsys, tmp_path, ("S: a paper", "S: a paper, D: derived")) == ["source D: added: derived"]


def test_operations_added_and_in_another_order(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    last = "- operation: last\n  title: Clean\n  steps:\n  - note: {id: done, text: clean}\n"
    assert changed(capsys, tmp_path, ("- operation: grow", f"{last}- operation: grow")) == [
        "operation last: added: Clean",
        "step last/done: added: Write on the record: clean.",
    ]
    prepare = BASE[BASE.index("- operation: prepare") : BASE.index("- operation: grow")]
    assert changed(
        capsys, tmp_path, (BASE[BASE.index(prepare) :], BASE[BASE.index("- operation: grow") :] + prepare)
    ) in (
        ["operation prepare: moved: first -> after grow"],
        ["operation grow: moved: after prepare -> first"],
    )


def test_json_is_one_object_with_stable_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    new = write(tmp_path, edited(("volume: 500 mL, rate: 50", "volume: 400 mL, rate: 0.05")), "new.yaml")
    old = write(tmp_path, BASE, "old.yaml")
    code, lines, _ = diff(capsys, old, new, "--json")
    told: dict[str, Any] = json.loads("\n".join(lines))
    assert (code, len(lines), told["equal"]) == (1, 1, False)
    assert told["old"] == {
        "file": old, "recipe": "small", "version": "1.0.0", "sha256": hashlib.sha256(BASE.encode()).hexdigest(),
        "errors": told["old"]["errors"], "warnings": told["old"]["warnings"],
    }  # fmt: skip
    assert told["differences"][0] == {
        "part": "step", "path": "prepare/each/first", "change": "changed", "field": "volume", "old": "500 mL",
        "new": "400 mL", "words": "prepare/each/first: volume 500 mL -> 400 mL",
    }  # fmt: skip
    same = json.loads(diff(capsys, "til-22d", "til-22d", "--json")[1][0])
    assert (same["equal"], same["differences"]) == (True, [])
    assert set(same) == set(told)
    litre = write(tmp_path, edited(("volume: 500 mL, rate", "volume: 0.5 L, rate")), "litre.yaml")
    code, lines, _ = diff(capsys, old, litre, "--json", "--all")
    written = json.loads(lines[0])
    assert (code, written["equal"], [each["change"] for each in written["differences"]]) == (0, True, ["written"])


def test_findings_of_the_check_are_told_in_a_line_and_stop_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    bad = write(tmp_path, edited(("temperature: 37 degC", "temperature: 37 mL")), "bad.yaml")
    code, lines, err = diff(capsys, write(tmp_path, BASE, "old.yaml"), bad)
    assert code == 1
    assert lines[0] == "step prepare/climate: station.temperature 37 degC -> 37 mL"
    (line,) = [line for line in err.splitlines() if line.startswith(bad)]
    assert " 1 error," in line
    assert line.endswith(": see tilctl recipe check")


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nonsense", "there is no recipe 'nonsense' (hint: there is: "),
        ("no.yaml", "no such file"),
        ("a\x1bb", r"a\x1bb"),
        ("x" * 5000, ""),
    ],
)
def test_a_recipe_that_is_not_there_is_2(capsys: pytest.CaptureFixture[str], place: int, name: str, told: str):
    names = ["shakedown", name] if place else [name, "shakedown"]
    code, lines, err = diff(capsys, *names)
    assert (code, lines) == (2, [])
    assert told in err
    assert "\x1b" not in err
    assert len(err) < 1000


def test_a_recipe_that_the_schema_refuses_is_2_with_its_diagnostics(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    bad = write(tmp_path, edited(("status: draft", "status: fine"), ("title: A small one\n", "")), "bad.yaml")
    code, lines, err = diff(capsys, "shakedown", bad, "--json")
    assert (code, lines) == (2, [])
    assert err.count("error[schema]") == 2
    assert f"{bad}:3:" in err


def test_texts_of_a_recipe_make_no_lines_of_ours(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (line,) = changed(capsys, tmp_path, ("text: Go on?", r'text: "\e[2J\nno differences"'))
    assert line == r"step grow/enough/go: text Go on? -> \x1b[2J no differences"


def test_a_folder_comes_before_the_library(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    ours = shelf.read("shakedown", shelf.RECIPES).text.replace('version: "1.0.0"', 'version: "1.2.0"')
    write(tmp_path, ours, "shakedown.yaml")
    write(tmp_path, ours, "other.yaml")
    assert diff(capsys, "shakedown", "other", "--folder", str(tmp_path))[0] == 0
    assert diff(capsys, "shakedown", str(tmp_path / "other.yaml"))[1][0] == "header version 1.0.0 -> 1.2.0"


def test_a_recipe_as_long_as_one_may_be_is_compared_in_bearable_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """Thousands of steps with one id: each must not be looked for among all others."""
    many = "".join(f"  - note: {{text: n{number}}}\n" for number in range(3000))
    head = BASE[: BASE.index("equipment:")] + "procedure:\n- operation: all\n  steps:\n"
    old, new = write(tmp_path, head + many, "old.yaml"), write(tmp_path, head + many.replace("n7}", "n8}"), "new.yaml")
    assert diff(capsys, old, new)[1][0] == "step all/note: text n7 -> n8"
