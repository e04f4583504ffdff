"""Dry runs: every verb is walked, what a controller would hold for ends them, and the same seed gives the same."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from recipes import shelf
from recipes.catalog import load, load_text
from recipes.model import walk
from recipes.steps import VERBS
from simulators.physics.donors import donor
from simulators.physics.kinetics import DEFAULTS
from simulators.physics.parameters import Setting
from tilctl.cli.dryrun.course import CONTROLLER, LABORATORY, PERSON, Course, Dosed, Mounted
from tilctl.cli.dryrun.walk import dry_run

HEAD = """\
recipe: tried
version: "1.0.0"
title: For dry runs
status: draft
sources: {P: "test default"}
equipment:
  station: {role: bioreactor, needs: [temperature, co2], positions: 2, source: P}
containers:
  rep: {kind: vessel, class: gas-permeable-100cm2, count: 1..2, limit: 1 L, source: P}
  medium: {kind: bag, limit: 3 L, holds: "AIM-V medium", source: P}
  waste: {kind: bag, limit: 5 L, source: P}
parameters:
  turns: {default: "3", range: 1..9, source: P}
results:
  tvc: {label: total viable cells, unit: cells, range: 0..2e11 cells, source: P}
procedure:
- operation: work
  steps:
  - mount:
      id: in
      containers: [rep, medium, waste]
      count: {rep: "2"}
      volume: {rep: 0 mL, medium: 2 L, waste: 0 mL}
      source: P
  - mark: {id: day0}
"""


GUARDS = """\
guards:
- {id: few, when: known(n.x) and n.x < 3, for: 5 min, priority: medium, cause: c, consequence: c, action: a, allowed: h}
- {id: none, when: known(n.x) and n.x < 1, priority: high, then: hold, cause: c, consequence: c, action: a, allowed: h}
"""


def recipe_text(name: str) -> str:
    return shelf.paths(shelf.RECIPES)[name].read_text("utf-8")


def tried(*steps: str, **parameters: str) -> Course:
    head = HEAD.replace("procedure:", f"{GUARDS}procedure:") if any("{id: n," in step for step in steps) else HEAD
    text = head + "".join(f"  - {step}\n" for step in steps)
    return dry_run(load_text(text, "tried.yaml"), 1, parameters)


def test_of_a_family_with_a_fixed_number_all_are_mounted() -> None:
    text = HEAD.replace("count: 1..2", 'count: "2"').replace('      count: {rep: "2"}\n', "")
    full = "- transfer: {id: full, from: medium, to: 'rep[2]', volume: 50 mL, rate: 50 mL/min, source: P}"
    course = dry_run(load_text(text + f"  {full}\n", "tried.yaml"), 1, {})
    assert (course.ended, list(course.moved_ml)) == ("complete", [("medium", "rep")])


def test_a_rate_of_nothing_ends_it_where_a_controller_would_hold() -> None:
    rate = "- let: {id: slow, values: {rate: (turns - 3) * 1 mL/min}}"
    full = "transfer: {id: full, from: medium, to: 'rep[2]', volume: 50 mL, rate: slow.rate, source: P}"
    course = tried(rate.removeprefix("- "), full)
    assert "at 0 mL/min nothing is ever moved" in course.reason


def hours(course: Course, path: str) -> list[float]:
    """Return when the steps of a path (a pattern) began, in hours after day 0."""
    zero = course.marks["day0"]
    return [round((did.began - zero) / 3600.0, 2) for did in course.did if re.fullmatch(path, did.path)]


@pytest.mark.parametrize("name", sorted(shelf.paths(shelf.RECIPES)))
def test_each_recipe_of_the_library_comes_to_its_end(name: str) -> None:
    course = dry_run(load(name), 3)
    assert course.ended == "complete", course.reason
    assert name in ("shakedown", "til-automate") or 5e7 < course.counts[-1].true < 1e11


@pytest.mark.parametrize("feeding", ["calendar", "rule", "both"])
def test_what_decides_on_feeding_is_a_parameter(feeding: str) -> None:
    course = dry_run(load("nci-rep-grex"), 3, {"feeding": feeding})
    assert course.ended == "complete", course.reason
    looks = [did for did in course.did if did.path.endswith(("/early", "/late"))]
    fixed = [did.path for did in course.did if did.verb == "transfer" and re.search("/fifth/|/add/|feed/1/", did.path)]
    assert len(looks) == (0 if feeding == "calendar" else 12), "each day"
    assert bool(fixed) == (feeding != "rule")


@pytest.mark.parametrize(
    ("given", "days", "fed"),
    [
        ({}, (13.5, 14.0), True),
        ({"trigger": "5.5 mmol/L"}, (13.5, 14.0), False),
        ({"target": "2e9 cells"}, (7.0, 11.0), False),
        ({"last_day": "11 d", "rep_day": "7 d"}, (11.0, 11.5), False),
    ],
)
def test_without_feeders_glucose_decides_on_feeding_and_cells_on_the_harvest(
    given: dict[str, str], days: tuple[float, float], fed: bool
) -> None:
    lasting = Setting(donor(3), kinetics=replace(DEFAULTS, decay_alone=0.03))  # there are cells enough to decide on
    course = dry_run(load("til-feeder-free"), 3, given, lasting)
    assert (course.ended, course.exceptions) == ("complete", []), course.reason
    assert days[0] <= (course.marks["harvested"] - course.marks["rep_start"]) / 86400.0 <= days[1]
    assert any(did.path.startswith("grow/days/") and did.path.endswith("/refill") for did in course.did) == fed


def test_the_library_is_walked_to_its_end_by_every_verb() -> None:
    recipe = load("shakedown")
    assert {step.verb for op in recipe.procedure for _, step in walk(op.steps, op.id)} == {*VERBS} - {"control"}
    course = dry_run(recipe, 3)
    assert course.ended == "complete", course.reason
    kept = {did.verb for did in course.did}
    assert kept == {*VERBS} - {"choose", "for_each", "repeat", "parallel", "perfuse", "end", "control"}
    assert {did.who for did in course.did} == {PERSON, LABORATORY, CONTROLLER}


ROCKED = """\
recipe: rocked
version: "1.0.0"
title: A rocked bag
status: draft
sources: {P: "test default"}
equipment:
  station: {role: bioreactor, needs: [temperature, co2, oxygen, rocking, gas_oxygen], positions: 1, source: P}
containers:
  bag: {kind: vessel, class: rocking-2l, limit: 1.3 L, source: P}
  medium: {kind: bag, limit: 3 L, holds: "AIM-V medium", source: P}
procedure:
- operation: work
  steps:
  - set: {id: climate, station.temperature: 37 degC, station.co2: 5 %, station.rocking: 10 rpm, source: P}
  - mount: {id: in, containers: [bag, medium], volume: {bag: 0 mL, medium: 2 L}, source: P}
  - transfer: {id: fill, from: medium, to: bag, volume: 1 L, rate: 20 mL/min, tolerance: 2 %, source: P}
"""
KEPT = """\
  - control:
      {id: keep, of: station.oxygen, at: 50 %, deadband: 5 %, every: 5 min, source: P, by: [
       {set: station.rocking, range: 6..15 rpm, step: 1 rpm}, {set: station.gas_oxygen, range: 21..40 %, step: 2 %}]}
"""
AGAIN = """\
  - repeat:
      id: turn
      max: 2
      source: P
      steps:
      - set: {id: faster, station.rocking: 9 rpm, source: P}
"""


def test_a_rocked_bag_is_filled_in_parts_and_its_oxygen_is_kept() -> None:
    course = dry_run(load_text(ROCKED + KEPT + "  - wait: {id: rest, for: 2 d, source: P}\n", "rocked.yaml"), 1)
    assert course.ended == "complete", course.reason
    assert course.plant is not None
    assert course.plant.rocker is not None
    assert len(course.plant.pumps["pump_media"].log) == 7, "at 20 mL/min in parts of 7.5 min"
    assert course.plant.rocker.targets == {"rocking": 6.0, "gas_oxygen": 21.0}, "without cells there is oxygen enough"


def test_what_a_control_moves_is_not_set_in_a_later_turn() -> None:
    again = AGAIN + "".join(f"    {line}\n" for line in KEPT.splitlines())
    course = dry_run(load_text(ROCKED + again, "rocked.yaml"), 1)
    assert (course.ended, "work/turn/2/faster: station.rocking is moved by" in course.reason) == ("held", True)


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    recipe = load("til-22d")
    one, same, other = (dry_run(recipe, seed) for seed in (1, 1, 2))
    assert (one.did, one.counts, one.moved_ml) == (same.did, same.counts, same.moved_ml)
    assert one.counts != other.counts
    assert 22 <= one.seconds / 86400.0 <= 24
    assert one.plant is not None
    assert one.plant.volume_total() == pytest.approx(one.plant.aside.brought_ml), "no liquid came from nowhere"


def test_volumes_are_moved_within_their_tolerance_and_dosed_after_beyond_it() -> None:
    move = (
        "transfer: {id: move, from: medium, to: 'rep[1]', volume: 800 mL, rate: 100 mL/min, tolerance: TOL, source: P}"
    )
    loose = tried(move.replace("TOL", "5 %")).moved_ml["medium", "rep"]
    strict = tried(move.replace("TOL", "0.6 mL")).moved_ml["medium", "rep"]
    assert 780.0 < loose < 797.0, "a pump slips by half a per cent to two"
    assert strict == pytest.approx(800.0, abs=0.6)


def test_a_family_with_a_fixed_number_is_mounted_whole() -> None:
    course = dry_run(load("nci-rep-grex"), 1)
    collected = [did.path for did in course.did if did.path.startswith("harvest/flask") and did.verb == "transfer"]
    assert {path.split("/")[2] for path in collected} == {"1", "2", "3"}


def test_turns_begin_on_the_moment_and_end_by_time() -> None:
    turn = "{wait: {id: rest, for: 10 min, source: P}}"
    course = tried(f"repeat: {{id: r, every: 6 h, max: 9, until: day >= 1 d, source: P, steps: [{turn}]}}")
    assert hours(course, "work/r/./rest") == [0.0, 6.0, 12.0, 18.0]
    assert course.seconds - course.marks["day0"] == pytest.approx(86400.0, abs=1.0)
    late = tried(f"repeat: {{id: r, every: 6 min, max: 4, source: P, steps: [{turn}]}}")
    assert hours(late, "work/r/./rest") == [0.0, 0.17, 0.33, 0.5], "one that is late begins at once"


def test_a_window_counts_from_the_mark_of_its_condition() -> None:
    rest = "incubate: {id: rest, until: since(fed) >= 1 h, window: 1 h..2 h, source: P}"
    assert tried("wait: {id: w, for: 5 h, source: P}", "mark: {id: fed}", rest).exceptions == []
    late = "incubate: {id: late, until: since(fed) >= turns * 1 h, window: 1 h..2 h, source: P}"
    said = tried("wait: {id: w, for: 5 h, source: P}", "mark: {id: fed}", late).exceptions
    assert said == ["work/late: ended outside its window 1 h..2 h"]


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (["repeat: {id: r, max: 2, until: day >= 5 d, source: P, steps: [{note: {text: again}}]}"], "after 2 turns"),
        (
            ["transfer: {id: t, from: 'rep[1]', to: waste, volume: 100 mL, rate: 50 mL/min, source: P}"],
            "rep[1] holds 0",
        ),
        (["wait: {id: w, until: station.temperature > 45 degC, timeout: 1 h, source: P}"], "did not come true"),
        (["repeat: {id: r, every: (turns - 3) * 1 h, max: 2, source: P, steps: [{note: {text: again}}]}"], "no time"),
        (["let: {id: n, values: {x: turns - 3}}", "note: {id: after, text: never}"], "guard none"),
        (
            ["transfer: {id: t, from: medium, to: 'rep[1]', volume: 990 mL, rate: 9 mL/min, source: P}"],
            "over-full",
        ),
        (
            [
                "sample: {id: c, from: rep, results: [tvc], source: P}",
                "let: {id: inverse, values: {x: 1 / c.tvc}, source: P}",
            ],
            "not known",
        ),
    ],
)
def test_what_a_controller_would_hold_for_ends_it_and_says_why(steps: list[str], says: str) -> None:
    course = tried(*steps)
    assert course.ended == "held"
    assert says in course.reason


def test_what_the_recipe_ends_and_what_it_calls_an_exception_is_told() -> None:
    course = tried(
        "note: {id: odd, text: look at this, exception: true}", "end: {as: stopped, reason: 'after {turns}'}"
    )
    assert (course.ended, course.reason) == ("stopped", "after 3")
    assert course.exceptions == ["work/odd: look at this"]


def test_heat_and_gas_are_those_that_were_set() -> None:
    course = tried(
        "set: {id: climate, station.temperature: 36 degC, station.co2: 5 %, source: P}",
        "wait: {id: warm, until: station.temperature within 0.2 K of 36 degC, timeout: 3 h, source: P}",
    )
    assert course.ended == "complete"
    assert course.plant is not None
    assert course.plant.climate.temperature.at(course.plant.time()) == pytest.approx(36.0, abs=0.2)


def test_what_was_mounted_moved_and_sampled_is_told() -> None:
    course = tried(
        "transfer: {id: move, from: medium, to: 'rep[1]', volume: 800 mL, rate: 100 mL/min, tolerance: 5 %, source: P}",
        "transfer: {id: rest, from: 'rep[1]', to: waste, all: true, rate: 100 mL/min, source: P}",
        "sample: {id: look, from: medium, results: [tvc], volume: 3 mL, wait: false, source: P}",
    )
    zero = [Mounted("work/in", name, 0.0, 0.0) for name in ("rep[1]", "rep[2]", "waste")]
    assert course.mounted == [*zero[:2], Mounted("work/in", "medium", 2000.0, 2000.0), zero[2]]
    move, rest = course.dosed
    assert move == Dosed("work/move", "medium", "rep[1]", 800.0, course.moved_ml["medium", "rep"], 40.0)
    assert (rest.wanted_ml, rest.tolerance_ml) == (move.moved_ml, 0.0), "nothing is more than everything"
    (look,) = course.sampled
    assert (look.container, look.volume_ml, look.results, look.t) == ("medium", 3.0, ("tvc",), course.seconds)
    assert course.operations == {"work": 0.0}


def test_a_wait_ends_with_its_time_whatever_the_clock_shows() -> None:
    hot = "{wait: {id: hot, until: station.temperature > 45 degC, timeout: 61.7 s, on_timeout: continue, source: P}}"
    course = tried(f"repeat: {{id: r, max: 60, source: P, steps: [{hot}]}}")
    assert course.seconds - course.marks["day0"] == pytest.approx(60 * 61.7)


def test_guards_alarm_after_their_delay_as_often_as_they_come() -> None:
    low, over = "{let: {id: n, values: {x: turns - 1}}}", "{let: {id: n, values: {x: turns}}}"
    rest = "{wait: {id: ID, for: 10 min, source: P}}"
    rise = f"{{choose: {{id: c, cases: [{{else: [{over}]}}]}}}}"
    turn = f"{low}, {rest.replace('ID', 'a')}, {rise}, {rest.replace('ID', 'b')}"
    course = tried(f"repeat: {{id: r, max: 2, source: P, steps: [{turn}]}}")
    assert (course.ended, course.alarms) == ("complete", ["few", "few"])
    brief = tried("let: {id: n, values: {x: turns - 1}}", "wait: {id: w, for: 4 min, source: P}")
    assert brief.alarms == [], "its delay was not over"


def test_what_an_earlier_turn_brought_is_gone_in_the_next() -> None:
    first = "{choose: {id: c, cases: [{when: day < 1 h, steps: [{let: {id: only, values: {x: turns}}}]}, {else: []}]}}"
    old = "{choose: {id: d, cases: [{when: known(only.x), steps: [{note: {id: had, text: x}}]}, {else: []}]}}"
    course = tried(f"repeat: {{id: r, every: 2 h, max: 3, source: P, steps: [{first}, {old}]}}")
    assert [did.path for did in course.did if did.verb == "note"] == ["work/r/1/d/1/had"]


def test_what_passes_too_late_or_in_vain_is_an_exception_as_in_a_batch() -> None:
    course = tried(
        "wait: {id: vain, until: medium.volume < 1 mL, timeout: 1 h, on_timeout: continue, source: P}",
        "wait: {id: late, until: day >= 30 min, grace: 5 min, source: P}",
        "repeat: {id: r, every: 10 min, max: 2, source: P, steps: [{wait: {id: w, for: 25 min, source: P}}]}",
    )
    assert course.ended == "complete", course.reason
    assert [each.partition(":")[0] for each in course.exceptions] == ["work/vain", "work/late", "work/r"]
    skipped = tried(
        "repeat: {id: r, max: 1, source: P, steps: [{wait: {id: w, until: day >= -1 h, grace: 1 s, on_missed: skip}}, "
        "{note: {id: never, text: x}}]}",
        "note: {id: after, text: x}",
    )
    assert [did.path for did in skipped.did if did.verb == "note"] == ["work/after"]


def test_what_else_is_sampled_does_not_shift_a_count() -> None:
    glucose = "ask: {id: look, text: Look, inputs: {glucose: {unit: mmol/L, range: 0..50 mmol/L, source: P}}}"
    recipe = load("nci-rep-grex")
    text = recipe_text("nci-rep-grex")
    place = "- operation: harvest\n  title: Harvest, count and wash, over within day 14\n  steps:\n"
    assert place in text
    looked = load_text(text.replace(place, f"{place}  - {glucose}\n"), "looked.yaml")
    one, other = dry_run(recipe, 1).counts[-1], dry_run(looked, 1).counts[-1]
    assert one.seen / one.true == pytest.approx(other.seen / other.true, rel=1e-3)


def test_a_feed_goes_ahead_of_lactate_by_what_the_last_sample_says() -> None:
    """1e9 cells make 3.2 mmol of lactate a day; 8e8 cells in 400 mL come from 5 to 25 mmol/L within 3.125 d."""
    begun = [
        "let: {id: look, values: {tvc: 8e8 cells, lactate: 5 mmol/L, volume: 400 mL}, source: P}",
        "mark: {id: looked}",
    ]
    limit = "(25 mmol/L - look.lactate) * look.volume / (3.2 mmol / 1 d * look.tvc / 1e9 cells)"
    course = tried(
        *begun,
        f'let: {{id: limit, values: {{time: "{limit}"}}, source: P}}',
        "incubate: {id: grow, until: since(looked) >= limit.time - 8 h, source: P}",
        "mark: {id: fed}",
    )
    assert course.ended == "complete", course.reason
    assert (course.marks["fed"] - course.marks["looked"]) / 3600.0 == pytest.approx(3.125 * 24 - 8, abs=0.02)
