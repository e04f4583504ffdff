"""Steps and expressions in words, and which numbers of a recipe are told of as unverified."""

from __future__ import annotations

import pytest

from devices.document import parse, validate
from recipes.model import Recipe
from recipes.steps import VERBS, AnyVerb
from recipes.syntax import MAX_HEIGHT
from recipes.unverified import DEFAULT, NONE, UNVERIFIED, doubtful, standing
from recipes.words import details, sentence, signatures, who
from recipes.words_expr import in_words

HEADER = """
recipe: small
version: "1.0.0"
title: A small one
status: draft
sources: {P: engineering default, GKU: "general knowledge", S: "a paper"}
containers:
  pre: {kind: vessel, count: 1..4, limit: 1 L, source: P}
  pool: {kind: bag, limit: 2 L, holds: medium, density: 1.02 g/mL, source: S}
results:
  tvc: {label: viable cells, unit: cells, range: 0..2e11 cells, source: P}
  sterility: {choices: [growth, no_growth]}
procedure:
- operation: only
  steps:
"""
SAID = {
    "ask": (
        "ask: {text: Count them, sign: [operator, quality], due: 2 h}", "operator", "Count them.",
    ),
    "choose": (
        "choose: {cases: [{when: a.b == no, steps: [{mark: {}}]}, {else: []}]}", "controller",
        "Take the first branch of which the condition is true:",
    ),
    "set": (
        "set: {station.temperature: 37 degC, station.co2: 5 %}", "controller",
        "Set station.temperature to 37 degC and station.co2 to 5 %, until set anew.",
    ),
    "control": (
        "control: {of: a.c, at: 5 %, deadband: 1 %, every: 1 h, by: [{set: a.b, range: 1..2 %, step: 1 %}]}",
        "controller",
        "Keep a.c at 5 %, 1 % either way, by a.b: one step every 1 h at most, until this is replaced or stopped.",
    ),
    "wait": ("wait: {for: 10 min}", "controller", "Wait for 10 min."),
    "mount": (
        "mount: {containers: [pre, pool], count: {pre: x.n}, volume: {pre: 0.0 L, pool: ask}, text: Hang them up}",
        "operator",
        "Hang them up. Mount pre (number: x.n) in the station, empty; pool on a hook, volume to be entered.",
    ),
    "unmount": ("unmount: {containers: [pre, pool]}", "operator", "Take away pre and pool."),
    "for_each": (
        "for_each: {as: f, in: pre, steps: [{mark: {}}]}", "controller",
        "For each mounted pre, one after the other (f below):",
    ),
    "repeat": (
        "repeat: {max: 12, until: count.tvc >= 1e9 cells, every: 6 h, steps: [{mark: {}}]}", "controller",
        "Repeat until count.tvc is at least 1e9 cells, at most 12 turns, one every 6 h:",
    ),
    "parallel": (
        "parallel: {branches: {feed: [{mark: {}}], look: [{note: {text: well}}]}}", "controller",
        "At the same time, until all of them are done (feed and look):",
    ),
    "perfuse": (
        (
            "perfuse: {vessel: pre, medium: pool, waste: waste, rate: 1 mL/min, between: 0..2 mL/min, keep: 1 L, "
            "flow: 20 mL/min, until: day >= 3 d, longest: 2 d}"
        ), "controller",
        (
            "Perfuse pre from pool to waste at 1 mL/min, kept within 0..2 mL/min: every 2 h its share is drawn and pre "
            "filled up to 1 L, at 20 mL/min, tolerance 5 %; until day is at least 3 d, at the longest 2 d."
        ),
    ),
    "transfer": (
        "transfer: {from: pool, to: pre, volume: 1 L, rate: 50 mL/min, tolerance: 2 %}", "controller",
        "Transfer 1 L from pool to pre at 50 mL/min, tolerance 2 %.",
    ),
    "sample": (
        "sample: {from: pool, results: [tvc, sterility], defer: [sterility], volume: 2 mL}", "operator, laboratory",
        "Draw a sample of 2 mL from pool; the laboratory reports tvc, and sterility later.",
    ),
    "mark": (
        "mark: {id: day0}", "controller", "Record this moment as day0, from which the days of the culture count.",
    ),
    "incubate": (
        "incubate: {until: day >= 11 d}", "controller", "Leave the culture alone until day is at least 11 d.",
    ),
    "note": (
        "note: {text: 'Few: {count.tvc}', exception: true}", "controller",
        "Write on the record, as an exception for review: Few: {count.tvc}.",
    ),
    "end": ("end: {as: stopped, reason: no cells}", "controller", "End the batch as stopped: no cells."),
    "let": ("let: {id: plan, values: {n: 2, m: plan.n + 1}}", "controller",
            "Compute once and keep: plan.n = 2; plan.m = plan.n + 1."),
    "balance": ("balance: {over: [pre, pool], within: 3 %}", "controller",
                "Weigh pre and pool: scales and ledger agree within 3 %."),
    "release": (
        "release: {id: lot, conditions: {clean: {when: a.b == no, pending: a.b}, many: {when: c.d > 1}}}", "operator",
        "Decide on the release, by clean and many.",
    ),
    "freeze": ("freeze: {with: freezer, load: pool, profile: F3}", "controller",
               "Freeze pool in freezer by profile F3, and judge the run by its acceptance criteria."),
}  # fmt: skip


def recipe(*lines: str) -> Recipe:
    text = HEADER + "".join(f"  - {line}\n" for line in lines)
    return validate(parse(text, "small.yaml"), Recipe, "schema")


def only(line: str) -> tuple[AnyVerb, Recipe]:
    whole = recipe(line)
    return whole.procedure[0].steps[0], whole


def said(line: str, loops: dict[str, str] | None = None) -> str:
    return sentence(*only(line), loops or {})


def beside(line: str) -> dict[str, str]:
    return dict(details(*only(line)))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_of_the_language_has_its_words(verb: str):
    line, by, words = SAID[verb]
    step, whole = only(line)
    assert step.verb == verb
    assert (who(step), sentence(step, whole)) == (by, words)
    assert all(name and text for name, text in details(step, whole))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.b == no", "a.b is no"),
        ("freezer.ready != false", "freezer.ready is not false"),
        ("known(a.b) and not known(a.c)", "a.b is known and a.c is not known"),
        ("a.x < 1 or a.y > 2 and a.z <= 3", "a.x is below 1 or (a.y is above 2 and a.z is at most 3)"),
        ("not (a.x < 1 or a.y > 2)", "not (a.x is below 1 or a.y is above 2)"),
        ("(a.x < 1 or a.y > 2) and a.z >= 3", "(a.x is below 1 or a.y is above 2) and a.z is at least 3"),
        ("station.temperature within 0.5 K of 37 degC", "station.temperature is within 0.5 K of 37 degC"),
        ("since(day0) >= 2 min", "the time since day0 is at least 2 min"),
        ("5 L - (a.v - b.v) * 2", "5 L - (a.v - b.v) * 2"),
        ("5 L - a.v - b.v", "5 L - a.v - b.v"),
        ("a.v - (b.v + c.v)", "a.v - (b.v + c.v)"),
        ("-(a.v + b.v)", "-(a.v + b.v)"),
        ("min(p.volume / b.n, 100 mL)", "min(p.volume / b.n, 100 mL)"),
        ("cm4[g.index + 1].volume", "cm4[g.index + 1].volume"),
        ('freezer.program_state == "at rest"', "freezer.program_state is 'at rest'"),
        (
            "default(clamp(ceil(c.tvc / per_flask), 1, 5), 3)",
            "(c.tvc / per_flask) rounded up, limited to 1..5, or 3 where that is not known",
        ),
        ("2 * floor(a.x) > 3", "2 * (a.x rounded down) is above 3"),
        ("5 L -", "5 L -"),
        ("F3", "F3"),
    ],
)
def test_expressions_in_words(text: str, words: str):
    assert in_words(text) == words


def test_the_longest_expression_that_is_taken_has_words():
    chain = " + ".join(["a.v"] * (MAX_HEIGHT - 1))
    assert in_words(f"{chain} > 1 mL") == f"{chain} is above 1 mL"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("leave: 1 mL", "Transfer from f to pool at 5 mL/min until 1 mL is left in f, tolerance 5 %."),
        ("up_to: 2 L", "Transfer from f to pool at 5 mL/min until pool holds 2 L, tolerance 5 %."),
        (
            "all: true, settle: 1 h",
            "Let settle for 1 h, then transfer everything from f to pool at 5 mL/min, tolerance 5 %.",
        ),
    ],
)
def test_each_way_to_say_how_much_is_moved(fields: str, words: str):
    line = f"transfer: {{from: f, to: pool, rate: 5 mL/min, {fields}}}"
    assert said(line) == words
    assert said(line, {"f": "pre"}) == words.replace(" f ", " each pre ").replace(" f,", " each pre,")


def test_a_container_that_goes_with_the_loop_is_called_by_its_number():
    line = 'transfer: {from: "pre[g.index]", to: g, volume: 1 L, rate: 5 mL/min}'
    assert said(line, {"g": "grow"}).startswith("Transfer 1 L from the pre of the same number to each grow at")
    assert said(line).startswith("Transfer 1 L from pre[g.index] to g at"), "outside a loop it stays as it is written"


def test_what_a_person_enters_scans_and_signs():
    line = (
        "ask: {text: Count, scan: [lot], sign: [operator, quality], check: a.ok == yes, due: 4 h, on_overdue: hold, "
        "inputs: {cells: {label: viable, unit: cells, range: 0..5e10 cells}, ok: {choices: [yes, no]}, "
        "why: {optional: true}}}"
    )
    step, whole = only(line)
    assert [text for name, text in details(step, whole) if name == "Enter"] == [
        "viable (cells): a number in cells, 0..5e10 cells",
        "ok (ok): one of yes, no",
        "why (why): text, may be left out",
    ]
    told = beside(line)
    assert (told["Scan"], told["Sign"], told["Must hold then"]) == ("lot", "operator and quality", "a.ok is yes")
    assert told["Due"] == "within 4 h, then hold the batch"
    assert signatures(step) == ("operator", "quality")


def test_results_come_in_time_or_later():
    told = beside("sample: {from: pool, results: [tvc, sterility], defer: [sterility], due: 4 h, on_overdue: continue}")
    assert told["Enter"] == "viable cells (tvc): a number in cells, 0..2e11 cells"
    assert told["Enter later"] == "sterility (sterility): one of growth, no_growth"
    assert told["Due"] == "within 4 h, then alarm and go on"
    line = "sample: {from: pool, results: [sterility], wait: false, due: 14 d}"
    assert said(line) == "Draw a sample from pool; the laboratory reports sterility later; nothing waits for it."
    assert beside(line)["Due"] == "within 14 d; nothing happens when it is late"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("", "goes on by itself"),
        ("max_outage: 4 h", "goes on by itself up to 4 h; after a longer one the batch waits for a person"),
        ("on_restart: redo", "is taken up again by itself"),
        ("on_restart: hold, max_outage: 4 h", "the batch is held until a person restarts it"),
        ("on_restart: ask", "the batch is held until a person restarts it"),
    ],
)
def test_how_a_step_goes_on_after_an_outage(fields: str, words: str):
    assert beside(f"incubate: {{until: day >= 1 d, {fields}}}")["After an outage"] == words


def test_an_outage_is_told_of_a_step_that_takes_no_time_only_where_the_recipe_speaks_of_it():
    assert "After an outage" not in beside("mark: {}")
    assert beside("mark: {on_restart: hold}")["After an outage"] == "the batch is held until a person restarts it"


def test_everything_else_that_a_step_may_say():
    told = beside(
        "incubate: {until: day >= 1 d, window: 1 d..2 d, grace: 1 h, on_missed: skip, when: a.b > 1, "
        "exception_when: a.c > 2, max_hold: 3 h, source: P}"
    )
    assert told["Only if"] == "a.b is above 1"
    assert told["Window"] == "ends on day 1 d..2 d"
    assert told["More than 1 h late"] == "the steps after it in its list are passed over"
    assert told["Exception if"] == "a.c is above 2"
    assert told["Held"] == "at most 3 h, then an alarm"
    assert told["Source"] == "P"
    assert beside("wait: {until: a.b > 1, timeout: 2 h}")["At most"] == "2 h, then hold the batch"
    assert beside("balance: {over: pool, within: 3 %, on_fail: continue}")["Otherwise"] == "go on with an exception"
    assert (
        beside("freeze: {with: f, load: pool, profile: F3, marks: {started: t0}}")["When it has started"] == "record t0"
    )
    repeating = beside("repeat: {max: 3, until: a.b > 1, every: 1 h, on_max: continue, steps: [{mark: {}}]}")
    assert repeating["Not true after 3"] == "go on with an exception"
    assert "passed over" in repeating["Late"]
    assert said("repeat: {max: 1, steps: [{mark: {}}]}") == "Repeat, 1 turn:"


def test_a_container_that_is_not_declared_has_words_too():
    assert said("mount: {containers: ghost, at: waste}") == "Mount ghost at the place for waste, volume to be entered."


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("S", ""),
        ("GKU", UNVERIFIED),
        ("P", DEFAULT),
        ("S, P", DEFAULT),
        ("GKU, P", f"{UNVERIFIED}, {DEFAULT}"),
        ("habit", UNVERIFIED),
        ("ours", DEFAULT),
        ("nowhere", "its source is not declared"),
        (None, NONE),
        (" , ", NONE),
    ],
)
def test_what_a_source_says_against_its_numbers(source: str | None, says: str):
    sources = {"S": "a paper", "GKU": "", "P": "", "habit": "General knowledge", "ours": "an engineering default"}
    assert standing(source, sources) == says


def test_numbers_without_a_good_source_are_found_wherever_they_stand():
    whole = recipe(
        "transfer: {from: pool, to: pre, volume: 7 mL, rate: 5 mL/min, source: S}",
        "ask: {text: Take 3 of them, inputs: {n: {range: 1..9, source: GKU}, m: {range: 1..8}}, source: S}",
        "choose: {id: c, cases: [{when: a.n > 4, steps: []}, {else: []}]}",
    )
    steps = [(step.id, step) for step in whole.procedure[0].steps]
    found = {(each.where, each.numbers, each.standing) for each in doubtful(whole, steps)}
    assert found == {
        ("container pre", "count 1..4, limit 1 L", DEFAULT),
        ("result tvc", "range 0..2e11 cells", DEFAULT),
        ("ask", "value n range 1..9", UNVERIFIED),
        ("c", "when a.n is above 4", NONE),
        ("containers pre", "density 1.005 g/mL", UNVERIFIED),
        ("steps transfer", "tolerance 5 %", DEFAULT),
        ("every container", "pumps stop at 98 % of the limit", DEFAULT),
    }
