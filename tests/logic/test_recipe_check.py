"""Checking recipes: one broken recipe for each code, and what good ones draw."""

from __future__ import annotations

import random
import re
from pathlib import Path
from textwrap import dedent

import pytest

from devices.diagnostic import Diagnostic, Severity
from devices.document import DocumentError, parse
from recipes.check import check
from recipes.explained import sections
from recipes.ranges import Range

GOOD = """\
recipe: small
version: "1.0.0"
title: A small one
status: draft
sources: {P: engineering default}
equipment:
  station: {role: bioreactor, needs: [temperature, co2], positions: 4, source: P}
  freezer: {role: freezer, shared: true}
containers:
  pre:     {kind: vessel, count: 1..4, limit: 1 L, source: P}
  media:   {kind: bag, limit: 4 L, holds: medium, source: P}
  pool:    {kind: bag, limit: 4 L, source: P}
  product: {kind: bag, count: 1..2, limit: 200 mL, source: P}
parameters:
  fill:  {default: 500 mL, range: 100..800 mL, source: P}
  style: {default: slow, choices: [slow, fast]}
results:
  tvc: {unit: cells, range: 0..2e11 cells, source: P}
  sterility: {choices: [pending, no_growth, growth]}
clocks:
  whole: {from: day0, to: started, min: 1 d, warn: 3 d, source: P}
guards:
- {id: warm, when: station.temperature > 38 degC, for: 60 s, priority: high, while: mark day0 to started, source: P}
procedure:
- operation: prepare
  steps:
  - ask: {id: plan, text: How many?, inputs: {n: {range: 1..4}, kind: {choices: [a, b]}}, source: P}
  - set: {id: climate, station.temperature: 37 degC, source: P}
  - wait: {id: warm, until: station.temperature within 0.5 K of 37 degC, timeout: 2 h, source: P}
  - mount: {id: vessels, containers: pre, count: plan.n, volume: 0 mL}
  - mount: {id: bags, containers: [media, pool], volume: {media: ask, pool: 0 mL}}
  - mark: {id: day0}
- operation: work
  steps:
  - for_each:
      id: each
      as: f
      in: pre
      steps:
      - transfer: {id: in, from: media, to: f, volume: fill, rate: 50 mL/min, source: P}
  - incubate: {id: static, until: day >= 2 d, window: 2 d..3 d, max_outage: 4 h, source: P}
  - for_each:
      {id: all, as: f, in: pre, steps: [{transfer: {from: f, to: pool, all: true, rate: 40 mL/min, source: P}}]}
  - sample: {id: count, from: pool, results: [tvc, sterility], defer: [sterility], due: 4 h, source: P}
  - choose:
      id: go
      cases:
      - {when: count.tvc > 1e6 cells and plan.kind == a, steps: [{note: {id: ok, text: "{count.tvc} is enough"}}], }
      - {else: []}
      source: P
  - let: {id: share, values: {volume: "min(pool.volume / plan.n, 100 mL)"}, source: P}
- operation: finish
  using: [freezer]
  steps:
  - mount: {id: bags, containers: product, count: 2, volume: 0 mL, source: P}
  - for_each:
      id: bag
      as: b
      in: product
      steps:
      - transfer: {id: fill, from: pool, to: b, volume: share.volume, rate: 30 mL/min, source: P}
  - balance: {id: closes, over: [pool, product], within: 3 %, source: P}
  - freeze: {id: run, with: freezer, load: product, profile: S1-quick, marks: {started: started}}
  - unmount: {id: clear, containers: [pre, media, pool, product]}
"""


def found(*changes: tuple[str, str], limits: dict[str, Range] | None = None) -> list[Diagnostic]:
    """Return what the check finds in the good recipe with these changes made to its text."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the recipe"
        text = text.replace(old, new)
    return check(parse(text, "small.yaml"), limits=limits)[1]


def test_the_good_recipe_draws_nothing() -> None:
    assert found() == []


def estimating(**more: str) -> tuple[str, str]:
    """Return the change that adds an estimate of the cells in all vessels and the pool."""
    given = {"of": "[pre, pool]", "from": "day0", "to": "started", "counts": "[count.tvc]", "source": "P"} | more
    fields = ", ".join(f"{key}: {value}" for key, value in given.items())
    return "procedure:\n", f"estimates:\n  cells: {{{fields}}}\nprocedure:\n"


def released(when: str) -> list[tuple[str, str]]:
    """Return the change that puts a release by one condition before the balance."""
    step = f"  - release: {{id: lot, conditions: {{clean: {{when: {when}}}}}}}"
    return [("  - balance:", f"{step}\n  - balance:")]


# code, severity, what is changed in the good recipe, part of the message or hint
BROKEN: list[tuple[str, str, list[tuple[str, str]], str]] = [
    ("schema", "error", [("title: A small one", "titel: A small one")], "titel"),
    ("role-unknown", "error", [("role: freezer", "role: fridge")], "freezer"),
    ("tag-unknown", "error", [("needs: [temperature, co2]", "needs: [pressure]")], "humidity"),
    ("tag-unknown", "error", [("station.temperature: 37 degC", "station.humidity: 80 %")], "settable"),
    ("tag-unknown", "error", [("station.temperature: 37 degC", "station.rocking: 9 rpm")], "add rocking to the needs"),
    (
        "control-tag",
        "error",
        [
            (
                "set: {id: climate, station.temperature: 37 degC, source: P}",
                "control: {id: off, of: station.temperature, stop: true}",
            )
        ],
        "nothing controls",
    ),
    ("quantity", "error", [("limit: 1 L", "limit: 1 l")], "1 L"),
    ("dimension", "error", [("limit: 1 L", "limit: 1 kg")], "mL"),
    ("range", "error", [("count: 1..2, limit", "count: two, limit")], "1..4"),
    ("range", "error", [("range: 100..800 mL", "range: 800..100 mL")], "empty"),
    ("parameter", "error", [("default: 500 mL", "default: 900 mL")], "outside"),
    ("parameter", "error", [("default: slow", "default: slwo")], "slow, fast"),
    ("parameter", "error", [("choices: [slow, fast]", "choices: [slow, fast], range: 1..2")], "drop one"),
    ("parameter", "warning", [("default: 500 mL, range: 100..800 mL", "default: 500 mL")], "how far"),
    ("dimension", "error", [("range: 100..800 mL", "range: 1..800 g")], "fill"),
    (
        "result",
        "error",
        [("tvc: {unit: cells, range: 0..2e11 cells, source: P}", "tvc: {range: 0..1, source: P}")],
        "unit",
    ),
    ("name-taken", "error", [("  fill:  {", "  pool:  {"), ("volume: fill,", "volume: 5 mL,")], "containers"),
    ("name-taken", "error", [("  fill:  {", "  day:  {"), ("volume: fill,", "volume: 5 mL,")], "word"),
    (
        "name-taken",
        "error",
        [("id: share, values", "id: media, values"), ("volume: share.volume", "volume: 5 mL")],
        "taken",
    ),
    (
        "name-taken",
        "error",
        [("      as: b\n", "      as: pool\n"), ("from: pool, to: b", "from: pool, to: pool")],
        "taken",
    ),
    ("input", "error", [("kind: {choices: [a, b]}", "kind: {choices: [a, b], unit: mL}")], "neither"),
    ("id-duplicate", "error", [("operation: finish", "operation: work")], "second operation"),
    ("id-duplicate", "error", [("id: closes", "id: bags")], "second step"),
    (
        "id-duplicate",
        "error",
        [("guards:\n", "guards:\n- {id: warm, when: station.co2 < 4 %, priority: low, source: P}\n")],
        "second guard",
    ),
    ("name-unknown", "error", [("until: day >= 2 d", "until: dya >= 2 d")], "dya"),
    ("name-unknown", "error", [("volume: fill,", "volume: fil,")], "did you mean fill"),
    (
        "name-unknown",
        "error",
        [("until: station.temperature within 0.5 K of 37 degC", "until: day > 1 d")],
        "add mark: {id: day0}",
    ),
    ("name-unknown", "error", [("volume: fill,", "volume: share.volume,")], "after the step only"),
    ("expression", "error", [("until: day >= 2 d", "until: day => 2 d")], "does not fit"),
    ("quantity", "error", [("volume: fill,", "volume: 5 ml,")], "5 mL"),
    ("dimension", "error", [("volume: fill,", "volume: fill + 5 g,")], "mass"),
    ("dimension", "error", [("rate: 50 mL/min", "rate: 50 mL")], "flow"),
    ("dimension", "error", [("timeout: 2 h", "timeout: 2 mL")], "time"),
    ("dimension", "error", [("station.temperature: 37 degC", "station.temperature: 37 K")], "temperature"),
    ("dimension", "error", [("due: 4 h", "due: 4 mL")], "wanted: s"),
    ("dimension", "error", [("within: 3 %", "within: 3 mL")], "wanted: %"),
    ("kind", "error", [("until: day >= 2 d", "until: day")], "condition"),
    ("kind", "error", [("to: b, volume", "to: 'product[plan.kind]', volume")], ""),
    ("choice", "error", [("plan.kind == a", "plan.kind == c")], "never"),
    (
        "adjust",
        "error",
        [("range: 100..800 mL, source: P", "range: 100..800 mL, adjust: {role: quality, range: 0.1..1 L}, source: P")],
        "when it starts",
    ),
    (
        "adjust",
        "error",
        [("default: 500 mL, range: 100..800 mL", "default: 500 mL, adjust: {role: quality}")],
        "may be adjusted to anything",
    ),
    ("adjust", "error", [("choices: [slow, fast]", "choices: [slow, fast], adjust: {role: quality}")], "no step reads"),
    (
        "adjust",
        "error",
        [
            ("range: 100..800 mL, source: P", "range: 100..800 mL, adjust: {role: quality}, source: P"),
            ("when: station.temperature > 38 degC", "when: media.volume < fill"),
        ],
        "a parameter of its own",
    ),
    (
        "adjust",
        "error",
        [
            (
                "choices: [slow, fast]",
                "choices: [slow, fast], adjust: {role: quality, range: 1..2}",
            ),
            ("text: How many?", "text: 'How many, {style}?'"),
        ],
        "any choice",
    ),
    (
        "source-unknown",
        "error",
        [("range: 100..800 mL, source: P", "range: 100..800 mL, adjust: {role: quality, source: Q}, source: P")],
        "declared: P",
    ),
    ("text", "error", [("{count.tvc} is enough", "{count.tcv} is enough")], "count.tvc"),
    ("text", "error", [("{count.tvc} is enough", "{count.tvc is enough")], "brace"),
    ("container-unknown", "error", [("to: pool, all", "to: poole, all")], "poole"),
    ("container-unknown", "error", [("      in: product\n", "      in: pool\n")], "families"),
    (
        "container-unknown",
        "error",
        [("volume: {media: ask, pool: 0 mL}", "volume: {media: ask, pre: 0 mL}")],
        "not mounted here",
    ),
    ("container-unknown", "error", [("load: product", "load: goods")], "goods"),
    ("container-index", "error", [("to: pool, all", "to: product, all")], "product[1]"),
    ("container-index", "error", [("to: pool, all", "to: 'pool[1]', all")], "one container"),
    ("container-same", "error", [("from: f, to: pool, all", "from: f, to: f, all")], "itself"),
    ("count-missing", "error", [("containers: pre, count: plan.n", "containers: pre")], "how many"),
    ("count", "warning", [("n: {range: 1..4}", "n: {range: 1..9}")], "clamp"),
    ("count", "error", [("count: 2, volume", "count: 5, volume")], "no number"),
    ("equipment-unknown", "error", [("using: [freezer]", "using: [freezer, fridge]")], "fridge"),
    ("equipment-unknown", "error", [("using: [freezer]", "using: [freezer, station]")], "not shared"),
    ("equipment-unknown", "error", [("with: freezer", "with: station")], "no freezer"),
    ("equipment-unknown", "error", [("set: {id: climate, station.t", "set: {id: climate, statoin.t")], "statoin"),
    ("not-acquired", "error", [("  using: [freezer]\n", "")], "using: [freezer]"),
    ("not-acquired", "error", [("until: day >= 2 d", "until: day >= 2 d and freezer.ready")], "held"),
    ("profile-unknown", "error", [("profile: S1-quick", "profile: S2")], "S1-quick"),
    ("result-unknown", "error", [("results: [tvc, sterility]", "results: [tvc, sterility, ifng]")], "ifng"),
    ("result-unknown", "error", [("defer: [sterility]", "defer: [purity]")], "purity"),
    ("claim-range", "error", [("min: 1 d, warn: 3 d", "max: 60 h")], "become 3 d"),
    ("claim-range", "error", [("min: 1 d, warn: 3 d", "min: 50 h")], "over after 2 d"),
    (
        "claim-open",
        "warning",
        [("day >= 2 d, window: 2 d..3 d", "since(day0) >= 2 d"), ("min: 1 d, warn: 3 d", "max: 3 d")],
        "no window says",
    ),
    ("deadband", "error", [("for: 60 s, priority", "for: 60 s, deadband: 1 %, priority")], "0.2 K"),
    ("deadband", "error", [("for: 60 s, priority", "for: 60 s, deadband: -1 K, priority")], "above 0"),
    ("quantity", "error", [("for: 60 s, priority", "for: 60 s, deadband: some, priority")], "some"),
    ("quantity", "error", [("for: 60 s, priority", "for: -5 min, priority")], "from 0 s to 24 h"),
    ("quantity", "error", [("for: 60 s, priority", "for: 60 s, re_alarm: 1e300 s, priority")], "from 60 s to 168 h"),
    ("dimension", "error", [("for: 60 s, priority", "for: 60 s, off_delay: 3 mL, priority")], "3 mL"),
    ("name-unknown", "error", [("for: 60 s, priority", "for: 60 s, unless: station.dor, priority")], "station.dor"),
    (
        "name-unknown",
        "error",
        [("for: 60 s, priority", "for: 60 s, unless: station.oxygen < 9 %, priority")],
        "station.oxygen",
    ),
    ("mark-unknown", "error", [("from: day0, to: started", "from: day0, to: finished")], "finished"),
    ("mark-unknown", "error", [("while: mark day0 to started", "while: mark day1 to started")], "day1"),
    ("mark-duplicate", "error", [("  - balance:", "  - mark: {id: day0}\n  - balance:")], "once"),
    ("clock", "error", [("min: 1 d, warn: 3 d", "warn: 3 d, high: 2 d")], "order"),
    ("hold-open", "warning", [("min: 1 d, warn: 3 d", "max: 4 d")], "no max_hold"),
    (
        "overlong",
        "warning",
        [
            ("due: 4 h, source: P}", "due: 1 d, max_hold: 1 d, source: P}"),
            ("  - let: {id: share", "  - mark: {id: gathered}\n  - let: {id: share"),
            ("to: started, min: 1 d, warn: 3 d", "to: gathered, max: 4 d"),
        ],
        "count 24 h",
    ),
    ("else-missing", "error", [("      - {else: []}\n", "")], "no else"),
    (
        "unreachable",
        "error",
        [("      - {else: []}\n", "      - {else: []}\n      - {when: day > 1 d, steps: []}\n")],
        "after else",
    ),
    (
        "unreachable",
        "error",
        [("  - mark: {id: day0}", "  - end: {as: complete, reason: done}\n  - mark: {id: day0}")],
        "after the end",
    ),
    ("window", "error", [("window: 2 d..3 d", "window: 3 d..4 d")], "outside the window"),
    (
        "window",
        "error",
        [
            ("{id: day0}", "{id: day0}\n  - mark: {id: fed}"),
            ("day >= 2 d, window: 2 d..3 d", "since(fed) >= 2 d, window: 3 d..4 d"),
        ],
        "2 d after fed",
    ),
    ("grace-missing", "error", [("window: 2 d..3 d", "on_missed: skip")], "add grace"),
    ("positions", "error", [("positions: 4", "positions: 3")], "4 vessels"),
    (
        "not-mounted",
        "error",
        [("containers: [media, pool], volume: {media: ask, pool: 0 mL}", "containers: [media]")],
        "pool",
    ),
    (
        "mounted-twice",
        "error",
        [("containers: product, count: 2", "containers: [product, pool], count: {product: 2}")],
        "unmount",
    ),
    ("overfill", "error", [("volume: fill,", "volume: 1200 mL,")], "1000 mL"),
    ("overfill-possible", "warning", [("volume: fill,", "volume: 970 mL,")], "pumps stop at 98% of it"),
    ("overfill", "error", [("volume: fill,", "volume: 1050 mL,")], "pumps stop at 98% of it"),
    ("overfill-possible", "warning", [("range: 100..800 mL", "range: 100..980 mL")], "min(...)"),
    ("dose-unprovable", "warning", [("volume: share.volume", "volume: 2 mL")], "shown"),
    ("quantity", "error", [("rate: 50 mL/min", "rate: 0 mL/min")], "above 0 mL/min"),
    (
        "perfusion-small",
        "warning",
        [
            (
                "  - balance:",
                (
                    "  - perfuse: {id: feed, vessel: 'pre[1]', medium: media, waste: pool, rate: 100 mL/d,\n"
                    "      between: 50..100 mL/d, keep: fill, every: 1 h, flow: 20 mL/min, until: day >= 3 d,\n"
                    "      longest: 2 d, source: P}\n  - balance:"
                ),
            )
        ],
        "2.08 mL",
    ),
    (
        "name-maybe",
        "warning",
        [("  - balance:", "  - wait: {id: clean, until: count.sterility == no_growth}\n  - balance:")],
        "known",
    ),
    ("release-pending", "error", released("count.sterility == no_growth"), "add pending: [count.sterility]"),
    ("release-result", "error", released("count.tvc > 1 cells, pending: count.ph"), "results: count.tvc"),
    ("release-result", "error", released("count.tvc > 1 cells, pending: count.sterility"), "does not read"),
    (
        "release-loop",
        "error",
        [
            (
                "      - transfer: {id: fill",
                """\
      - release: {id: lot, conditions: {clean: {when: count.tvc > 0 cells}}}
      - transfer: {id: fill""",
            )
        ],
        "after the loop",
    ),
    (
        "parallel-clash",
        "error",
        [
            (
                "  - balance:",
                """\
  - parallel:
      id: both
      branches:
        less: [{set: {id: low, station.co2: 4 %, source: P}}]
        more: [{set: {id: high, station.co2: 6 %, source: P}}]
  - balance:""",
            )
        ],
        "is set in the branch less too",
    ),
    ("source-missing", "warning", [("rate: 30 mL/min, source: P", "rate: 30 mL/min")], "step fill"),
    ("source-missing", "warning", [("limit: 1 L, source: P", "limit: 1 L")], "containers pre"),
    ("source-unknown", "error", [("rate: 30 mL/min, source: P", "rate: 30 mL/min, source: S99")], "S99"),
    (
        "estimate-advises",
        "error",
        [("count.tvc > 1e6 cells and", "cells.now > 1e6 cells and"), estimating()],
        "use: decide",
    ),
    (
        "estimate-advises",
        "error",
        [("min(pool.volume / plan.n", "min(cells.now / 1 cells * 1 mL"), estimating()],
        "advises",
    ),
    (
        "estimate-advises",
        "error",
        [
            ("when: station.temperature > 38 degC", "when: known(cells.now) and cells.now < 1 cells, then: hold"),
            estimating(),
        ],
        "only alarm",
    ),
    ("estimate-input", "error", [estimating(of="[pre]")], "sampled from 'pool'"),
    ("estimate-input", "error", [estimating(counts="[count.sterility]")], "not in cells"),
    ("estimate-input", "error", [estimating(counts="[plan.n]")], "no sample brings"),
    ("estimate-input", "error", [estimating(capacitance="station.live_density")], "needs"),
    ("estimate-input", "error", [estimating(oxygen="{tag: station.humidty, renewal: 5 min}")], "no tag in %"),
    ("container-unknown", "error", [estimating(of="[pre, pool, vat]")], "vat"),
    ("container-unknown", "error", [estimating(medium="{vat: 17 mmol/L}")], "vat"),
    ("mark-unknown", "error", [estimating(to="harvested")], "harvested"),
    ("dimension", "error", [estimating(start="pool.volume")], "cells"),
    ("dimension", "error", [estimating(medium="{media: 17 mL}")], "mmol/L"),
    ("range", "error", [estimating(stale="0 d")], "more than nothing"),
    ("kind", "error", [estimating(forecast="{at: plan.n > 2, floor: 1e9 cells}")], "time alone"),
    ("name-unknown", "error", [estimating(start="cells.now")], "cells.now"),
    ("text", "error", [('"{count.tvc} is enough"', '"{cells.at_end} is enough"'), estimating()], "cells.now"),
    ("schema", "error", [estimating(counts="[]")], "needs counts"),
    ("name-taken", "error", [("ask: {id: plan", "ask: {id: cells"), estimating()], "cells"),
]


@pytest.mark.parametrize(
    ("code", "severity", "changes", "says"), BROKEN, ids=[f"{case[0]}-{number}" for number, case in enumerate(BROKEN)]
)
def test_each_fault_is_found(code: str, severity: str, changes: list[tuple[str, str]], says: str) -> None:
    every = found(*changes)
    matching = [one for one in every if one.code == code]
    assert matching, [str(one) for one in every]
    assert matching[0].severity == severity
    assert any(says in f"{one.message} {one.hint}" for one in matching), [str(one) for one in matching]


def test_every_code_has_a_test() -> None:
    sources = "".join(path.read_text() for path in Path(check.__code__.co_filename).parent.glob("*.py"))
    calls = r"""(?:\.error|\.warning|_say)\(\s*"([a-z-]+)"|code="([a-z-]+)\""""
    codes = {first or second for first, second in re.findall(calls, sources)} - {
        "row",
        "limit",
        "include-parameter",
        "stock-unknown",
    }  # with tests of their own
    assert codes <= {code for code, *_ in BROKEN}


def test_every_code_is_explained_by_an_example_that_is_so() -> None:
    explained = sections()
    examples = {code: section for code, section in explained.items() if section.startswith("## ")}
    assert {code for code, *_ in BROKEN} == examples.keys()
    for code, section in examples.items():
        wrong, told = re.search(r"```yaml\n(.*?)\n```\n\n```text\n(.*?)\n```", section, re.DOTALL).groups()
        cases = [(changes, found(*changes)) for other, _, changes, _ in BROKEN if other == code]
        severities = {severity for other, severity, *_ in BROKEN if other == code}
        assert set(section.splitlines()[0].partition("(")[2].rstrip(")").split(" or ")) == severities
        for changes, findings in cases:
            said = [f"{each.message} (hint: {each.hint})" if each.hint else each.message for each in findings]
            old, new = changes[0]
            shown = f"# without: {' '.join(old.split())}" if not new.strip() else dedent(new).strip()
            if shown == wrong and told in said:
                break
        else:
            raise AssertionError(f"{code}: no case of this file is as the page says: {wrong!r}, {told!r}")


def test_every_code_of_the_language_is_explained() -> None:
    sources = "".join(path.read_text() for path in Path(check.__code__.co_filename).parent.glob("*.py"))
    calls = r"""(?:\.error|\.warning|_say)\(\s*"([a-z-]+)"|code="([a-z-]+)"|Severity\.ERROR, "([a-z-]+)\""""
    codes = {next(filter(None, found)) for found in re.findall(calls, sources)}
    assert codes - sections().keys() == set()


def test_an_estimate_may_stand_in_texts_and_in_guards_that_alarm_and_decide_where_it_is_said() -> None:
    text = ('"{count.tvc} is enough"', '"{count.tvc} is enough, {cells.now} are estimated"')
    guard = ("when: station.temperature > 38 degC", "when: known(cells.high) and cells.high < 1e6 cells")
    assert found(text, guard, estimating()) == []
    deciding = ("count.tvc > 1e6 cells and", "known(cells.now) and cells.now > 1e6 cells and")
    assert found(deciding, estimating(use="decide")) == []
    forecast = estimating(use="decide", forecast="{at: day >= 12 d, floor: 1e9 cells}")
    (maybe,) = found(("count.tvc > 1e6 cells and", "cells.at_end > 1e6 cells and"), forecast)
    assert (maybe.code, maybe.severity) == ("name-maybe", Severity.WARNING)


def test_what_silences_an_alarm_is_more_than_advice() -> None:
    unless = ("for: 60 s, priority: high", "unless: cells.now > 1 cells, for: 60 s, priority: high")
    assert "estimate-advises" in {one.code for one in found(unless, estimating())}


def test_a_finding_points_into_the_expression() -> None:
    (one,) = found(("volume: fill,", "volume: fill + 5 g,"))
    line = GOOD.splitlines().index(next(row for row in GOOD.splitlines() if "id: in," in row)) + 1
    assert one.line == line
    row = GOOD.splitlines()[line - 1].replace("volume: fill,", "volume: fill + 5 g,")
    assert row[one.column - 1 :].startswith("+ 5 g")


def test_the_equipments_limits_are_checked_where_they_are_known() -> None:
    limits = {"station.temperature": Range(4.0, 36.0, "degC")}
    assert [one.code for one in found(limits=limits)] == ["limit"]
    assert found(limits={"station.temperature": Range(4.0, 42.0, "degC")}) == []


def test_a_known_name_may_be_used_behind_known_and_default() -> None:
    behind = "  - wait: {{id: clean, until: {}}}\n  - balance:"
    for condition in ("known(count.sterility) and count.sterility == no_growth", "known(count.sterility)"):
        assert found(("  - balance:", behind.format(condition))) == []


def test_a_value_of_one_branch_is_a_maybe_after_it() -> None:
    branch = "steps: [{let: {id: extra, values: {v: pool.volume}}}], }"
    changed = found(
        ('steps: [{note: {id: ok, text: "{count.tvc} is enough"}}], }', branch),
        ("min(pool.volume / plan.n, 100 mL)", "min(extra.v, 100 mL)"),
    )
    assert [(one.code, one.severity) for one in changed] == [("name-maybe", Severity.WARNING)]


def test_what_only_one_branch_mounts_is_not_mounted_after_it() -> None:
    changed = found(
        ('steps: [{note: {id: ok, text: "{count.tvc} is enough"}}], }', "steps: [{unmount: {containers: pool}}], }")
    )
    assert "not-mounted" in {one.code for one in changed}


@pytest.mark.parametrize(
    ("window", "codes"),
    [("1 d..2 d", []), ("12 h..1 d", ["claim-range"]), ("1 d..3 d", ["claim-range"]), ("", ["claim-open"])],
)
def test_a_window_counts_from_the_mark_that_its_condition_names(window: str, codes: list[str]) -> None:
    """The feed is on day 2 to 3, the end 1 to 2 d later: days of the culture alone would let it be 0 to 3 d."""
    rest = f"until: since(fed) >= 1 d, {f'window: {window}, ' if window else ''}source: P"
    rest = rest.replace(">= 1 d", ">= 12 h") if window.startswith("12 h") else rest
    changes = (
        ("  - let: {id: share", f"  - mark: {{id: fed}}\n  - incubate: {{id: rest, {rest}}}\n  - let: {{id: share"),
        ("whole: {from: day0, to: started, min: 1 d, warn: 3 d", "whole: {from: fed, to: started, min: 1 d, max: 2 d"),
    )
    assert [one.code for one in found(*changes) if one.code.startswith("claim")] == codes


def test_findings_come_in_the_order_of_the_file() -> None:
    every = found(("limit: 1 L, source: P", "limit: 1 L"), ("window: 2 d..3 d", "window: 3 d..4 d"))
    assert [one.code for one in every] == ["source-missing", "window"]


ODD = ("5 L", "1..4", "f", "-1", "1e400 mL", "x.y", "pre[f.index]", "pre[9]", "[]", "{}", "''", "day", "1 d..2 d",
       "min(1 L, pool.volume)", "%", "1:1", "-5 L", "5 L / 0 mL", "count.tvc", "station")  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_no_file_breaks_the_check(seed: int) -> None:
    """Lines dropped or doubled, values replaced: there are findings, or there are none, but no accident."""
    dice = random.Random(seed)
    checked = 0
    for _ in range(25):
        lines = GOOD.splitlines()
        for _ in range(dice.randint(1, 3)):
            where = dice.randrange(len(lines))
            way = dice.choice(("drop", "double", "replace", "replace"))
            if way == "drop":
                del lines[where]
            elif way == "double":
                lines.insert(dice.randrange(len(lines)), lines[where])
            else:
                lines[where] = re.sub(r": [^,{}\[\]]+", lambda _: f": {dice.choice(ODD)}", lines[where], count=1)
        try:
            document = parse("\n".join(lines), "odd.yaml")
        except DocumentError:
            continue
        checked += 1
        assert all(str(one).startswith("odd.yaml:") for one in check(document)[1])
    assert checked > 5


# --- repeat -----------------------------------------------------------------------------------------------------------


def repeated(fields: str, step: str) -> tuple[str, str]:
    """Return the change that has a `repeat` of a step before the pool is counted."""
    count = "  - sample: {id: count, from: pool"
    return count, f"  - repeat: {{id: turns, {fields}, steps: [{step}], source: P}}\n{count}"


def said(*findings: Diagnostic) -> list[tuple[str, str]]:
    return [(each.code, each.severity.value) for each in findings]


SEEN = "ask: {id: seen, text: How many?, inputs: {n: {range: 0..9}}, source: P}"
TOP_UP = "transfer: {id: more, from: media, to: pool, volume: 100 mL, rate: 50 mL/min, source: P}"


def test_what_turns_bring_may_be_missing_to_their_condition_and_is_there_after_a_number_of_them() -> None:
    unguarded, guarded = "until: seen.n > 3, max: 4", "until: known(seen.n) and seen.n > 3, max: 4"
    assert said(*found(repeated(unguarded, "{" + SEEN + "}"))) == [("name-maybe", "warning")]
    assert found(repeated(guarded, "{" + SEEN + "}")) == []
    after = ("count.tvc > 1e6 cells", "count.tvc > 1e6 cells and seen.n > 1")
    assert found(repeated("max: 2", "{" + SEEN + "}"), after) == []
    assert said(*found(repeated(guarded, "{" + SEEN + "}"), after)) == [("name-maybe", "warning")]


def test_the_worst_number_of_turns_is_what_a_container_must_hold() -> None:
    assert found(repeated("max: 2", "{" + TOP_UP + "}")) == []
    for many in ("max: 9", "max: 9, until: day >= 3 d"):
        findings = found(repeated(many, "{" + TOP_UP + "}"))
        assert ("overfill-possible", "warning") in said(*findings), findings


def test_a_loop_by_number_has_no_mark_and_no_strange_time_in_it() -> None:
    assert said(*found(repeated("max: 2", "{mark: {id: again}}"))) == [("mark-duplicate", "error")]
    assert said(*found(repeated("max: 2, every: 5 mL", "{" + SEEN + "}"))) == [("dimension", "error")]
    assert said(*found(repeated("max: 2, until: day + 1 d", "{" + SEEN + "}"))) == [("kind", "error")]
    for wrong in ("max: 0", "max: 501", "every: 1 h", "max: 2, on_max: continue", "max: 2, every: 0 h"):
        assert said(*found(repeated(wrong, "{" + SEEN + "}"))) == [("schema", "error")], wrong


def test_turns_within_turns_are_bounded_all_together() -> None:
    within = "{choose: {id: c, cases: [{else: [{repeat: {id: again, max: 30, source: P, steps: [{" + SEEN + "}]}}]}]}}"
    assert found(repeated("max: 16", within)) == []
    (finding,) = found(repeated("max: 17", within))
    assert "up to 510 turns" in str(finding)


def test_a_batch_that_ends_in_its_turns_comes_to_nothing_after_them_unless_there_may_be_none() -> None:
    end = "{end: {as: stopped, reason: enough}}"
    assert ("unreachable", "error") in said(*found(repeated("max: 2", end)))
    assert found(repeated("max: 2, until: day >= 3 d", end)) == []


@pytest.mark.parametrize(("most", "codes"), [(40, []), (60, ["overfill-possible"])])
def test_a_rate_within_a_range_bounds_what_comes_in_a_time(most: int, codes: list[str]) -> None:
    pace = ("parameters:\n", f"parameters:\n  pace: {{default: 20 mL/min, range: 10..{most} mL/min, source: P}}\n")
    assert [one.code for one in found(pace, ("volume: share.volume", "volume: pace * 4 min"))] == codes
