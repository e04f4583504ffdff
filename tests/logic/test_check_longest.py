"""The longest that a clock may take: what each step adds, and what leaves it open."""

from __future__ import annotations

import pytest

from devices.document import parse
from recipes.catalog import find
from recipes.check import check

HEAD = """\
recipe: tried
version: "1.0.0"
title: For its longest
status: draft
sources: {P: "test default"}
equipment:
  station: {role: bioreactor, needs: [temperature, co2], positions: 4, source: P}
  freezer: {role: freezer, shared: true}
containers:
  rep: {kind: vessel, class: gas-permeable-100cm2, count: 1..3, limit: 1 L, source: P}
  medium: {kind: bag, limit: 3 L, holds: "AIM-V medium", source: P}
parameters:
  pause: {default: 1 h, range: 1..2 h, source: P}
  fill: {default: 300 mL, range: 100..600 mL, source: P}
results:
  tvc: {unit: cells, range: 0..2e11 cells, source: P}
clocks:
  tried: {from: began, to: done, high: HIGH, source: P}
procedure:
- operation: work
  steps:
  - mount: {id: in, containers: [rep, medium], count: {rep: 3}, volume: {rep: 0 mL, medium: 3 L}, source: P}
  - mark: {id: began}
"""
END = "  - mark: {id: done}\n"
ASK = "ask: {id: look, text: Look, due: 30 min, source: P}"


WORDS = {"CO2": "station.co2 > 4 %", "MOVE": "transfer: {id: t, from: medium, to: 'rep[1]', volume:"}
NO_MOST = "and has no max_hold"


def said(*steps: str, high: str = "1 min") -> list[tuple[str, str]]:
    text = HEAD.replace("HIGH", high) + "".join(f"  - {step}\n" for step in steps) + END
    for word, meant in WORDS.items():
        text = text.replace(word, meant)
    recipe, found = check(parse(text, "tried.yaml"))
    assert recipe is not None
    return [(one.code, one.message) for one in found]


def lasts(*steps: str) -> str:
    """Return how long the steps are said to last, or why nothing says it."""
    found = said(*steps)
    (code, message), *rest = [one for one in found if one[0] in ("overlong", "hold-open")]
    assert rest == []
    if code == "overlong":
        return message.removeprefix("'tried' may last ").partition(",")[0]
    return message.partition(": ")[2]


@pytest.mark.parametrize(
    ("step", "longest"),
    [
        (ASK, "30 min"),
        ("ask: {id: look, text: Look, due: 30 min, on_overdue: hold, max_hold: 1 h, source: P}", "90 min"),
        ("ask: {id: look, text: Look, due: 9 s, on_overdue: hold}", f"look holds when it is overdue, {NO_MOST}"),
        ("ask: {id: look, text: Look}", "look has no due"),
        ("sample: {id: n, from: rep, results: [tvc], due: 1 h, on_overdue: continue, source: P}", "60 min"),
        ("unmount: {id: out, containers: medium, due: 20 min, source: P}", "20 min"),
        ("unmount: {id: out, containers: medium}", "out has no due"),
        ("wait: {id: rest, for: pause, source: P}", "2 h"),
        ("wait: {id: rest, until: CO2, timeout: 40 min, on_timeout: continue, source: P}", "40 min"),
        ("wait: {id: rest, until: CO2, timeout: 40 min, source: P}", f"rest holds at its timeout, {NO_MOST}"),
        ("wait: {id: rest, until: CO2, source: P}", "rest may wait without end"),
        ("wait: {id: rest, until: since(began) >= pause, source: P}", "2 h"),
        ("wait: {id: rest, until: since(began) >= 3 h or station.co2 > 4 %, source: P}", "3 h"),
        ("wait: {id: rest, until: since(began) >= 3 h and station.co2 > 4 %, source: P}", "rest may wait without end"),
        ("incubate: {id: rest, until: since(began) >= 1 h, window: 1 h..3 h, source: P}", "3 h"),
        ("incubate: {id: rest, until: CO2, source: P}", "rest has no window, and may last without end"),
        ("MOVE fill, rate: 20 mL/min, tolerance: 0 mL, settle: 10 min, source: P}", "40 min"),
        ("MOVE 300 mL, rate: 30 mL/min, tolerance: 10 %, source: P}", "11 min"),
        (f"for_each: {{id: e, as: f, in: rep, steps: [{{{ASK}}}]}}", "90 min"),
        (f"repeat: {{id: r, max: 4, steps: [{{{ASK}}}], source: P}}", "2 h"),
        (f"repeat: {{id: r, max: 4, every: 2 h, steps: [{{{ASK}}}], source: P}}", "8 h"),
        (f"repeat: {{id: r, max: 9, every: 1 h, until: since(began) >= 2 h, steps: [{{{ASK}}}], source: P}}", "3 h"),
        (f"repeat: {{id: r, max: 4, until: CO2, steps: [{{{ASK}}}]}}", f"r may hold after 4 turns, {NO_MOST}"),
        (f"choose: {{id: c, cases: [{{when: station.co2 > 4 %, steps: [{{{ASK}}}]}}, {{else: []}}]}}", "30 min"),
        (f"parallel: {{id: p, branches: {{one: [{{{ASK}}}], two: [{{wait: {{for: 2 h, source: P}}}}]}}}}", "2 h"),
        ("freeze: {id: run, with: freezer, load: rep, profile: F3, source: P}", "3.51667 h"),
    ],
)  # fmt: skip
def test_what_a_step_adds(step: str, longest: str) -> None:
    assert lasts(step) == longest


def test_steps_add_up_and_a_window_ends_what_was_before_it() -> None:
    assert lasts(ASK, ASK.replace("look", "again")) == "60 min"
    rest = "incubate: {id: rest, until: since(began) >= 1 h, window: 1 h..90 min, source: P}"
    assert lasts("ask: {id: open, text: No due}", rest, ASK) == "2 h"


def test_a_way_that_ends_the_batch_is_no_way_to_the_mark() -> None:
    long = ASK.replace("30 min", "9 h")
    end = "end: {as: stopped, reason: enough}"
    cases = f"[{{when: station.co2 > 4 %, steps: [{{{long}}}, {{{end}}}]}}, {{else: [{{{ASK}}}]}}]"
    assert lasts(f"choose: {{id: c, cases: {cases}}}") == "30 min"


def test_what_is_within_the_limit_or_before_the_mark_is_not_told() -> None:
    assert said(ASK, high="30 min") == []
    text = HEAD.replace("HIGH", "1 min").replace(
        "  - mark: {id: began}", "  - ask: {id: before, text: No due}\n  - mark: {id: began}"
    )
    assert check(parse(text + END, "tried.yaml"))[1] == []


def test_shared_equipment_that_is_waited_for_leaves_a_clock_open() -> None:
    operation = "- operation: cold\n  using: [freezer]\n  steps:\n  - note: {id: n, text: cold}\n"
    found = check(parse(HEAD.replace("HIGH", "1 h") + operation + END, "tried.yaml"))[1]
    assert [one.code for one in found] == ["hold-open"]
    assert "waits for freezer" in found[0].message


@pytest.mark.parametrize(
    ("name", "old", "new", "code"),
    [
        ("til-22d", "due: 20 min", "due: 40 min", "overlong"),
        ("til-22d", "Seal and label", "Seal", ""),
        ("thaw-to-infusion", "window: 1 h..1.75 h", "window: 1 h..2 h", "overlong"),
    ],
)
def test_the_time_in_dmso_and_after_a_thaw_is_bounded_by_the_library(name: str, old: str, new: str, code: str) -> None:
    text = find(name).text
    assert old in text
    assert {one.code for one in check(parse(text.replace(old, new), name))[1]} == ({code} if code else set())
