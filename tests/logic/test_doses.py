"""Doses by stock: what volume they come to, what is wrong with them, and which pre-dilution would do."""

from __future__ import annotations

import pytest
from pytest import approx

from devices.diagnostic import Diagnostic
from devices.document import parse
from devices.quantity import parse as quantity
from devices.quantity import show
from recipes.catalog import load_text
from recipes.check import check
from recipes.difference import differences
from recipes.dosing import Stock
from recipes.master import master_record
from recipes.steps import Transfer
from recipes.words import sentence
from tilctl.cli.dryrun.walk import dry_run

RECIPE = """\
recipe: small
version: "1.0.0"
title: A small one
status: draft
sources: {P: engineering default}
containers:
  media: {kind: bag, limit: 5.5 L, holds: medium, source: P}
  okt3:  {kind: bag, limit: 1 L, holds: OKT3, stock: {okt3: 30 ug/mL}, source: P}
  mix:   {kind: bag, limit: 1 L, holds: both, stock: {okt3: 10 ug/mL, il2: 1e6 IU/mL}, source: P}
  rep:   {kind: vessel, class: gas-permeable-500cm2, limit: 5.5 L, source: P}
parameters:
  conc: {default: 30 ng/mL, range: 30..60 ng/mL, source: P}
procedure:
- operation: only
  steps:
  - mount: {id: hang, containers: [media, okt3, mix], volume: ask}
  - mount: {id: vessel, containers: rep, volume: 0 mL}
  - transfer: {id: fill, from: media, to: rep, volume: 5 L, rate: 80 mL/min, tolerance: 1 mL, source: P}
  - transfer: {id: okt3, from: okt3, to: rep, final: conc, rate: 30 mL/min, tolerance: 1 mL, source: P}
  - transfer:
      {id: il2, from: mix, to: rep, dose: 3000 IU/mL * rep.volume, of: il2, rate: 30 mL/min, tolerance: 1 mL, source: P}
"""


def changed(*changes: tuple[str, str]) -> str:
    text = RECIPE
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
        text = text.replace(old, new)
    return text


def found(*changes: tuple[str, str]) -> list[Diagnostic]:
    return check(parse(changed(*changes), "small.yaml"))[1]


def test_a_dose_by_stock_draws_nothing() -> None:
    assert [str(one) for one in found()] == []


@pytest.mark.parametrize(
    ("code", "severity", "change", "says"),
    [
        ("stock-unknown", "error", ("from: okt3, to", "from: media, to"), "media: {stock: {SUBSTANCE"),
        ("stock-unknown", "error", ("of: il2, ", ""), "holds okt3, il2: of which?"),
        ("stock-unknown", "error", ("of: il2, ", "of: il7, "), "it holds okt3, il2"),
        ("dimension", "error", ("final: conc,", "final: 3 IU/mL,"), "density (g/mL) is wanted"),
        ("dimension", "error", ("final: conc,", "dose: 3 mL,"), "mass (g) is wanted"),
        ("dimension", "error", ("dose: 3000 IU/mL *", "dose: 3000 ng/mL *"), "activity (IU) is wanted"),
        ("dimension", "error", ("okt3: 30 ug/mL", "okt3: 30 ug"), "'30 ug' is in g"),
        ("range", "error", ("okt3: 30 ug/mL", "okt3: 0 ug/mL"), "more than nothing"),
        ("dose-impossible", "error", ("30..60 ng/mL", "30..30000 ng/mL"), "of okt3 cannot come of a stock of"),
        ("source-missing", "warning", ("{okt3: 30 ug/mL}, source: P", "{okt3: 30 ug/mL}"), "containers okt3"),
        ("name-unknown", "error", ("final: conc,", "final: cnc,"), "conc"),
        # 5 L at 3000 IU/mL of 3.9e4 IU/mL are 385 mL and more: at worst the vessel would be too full
        ("overfill-possible", "warning", ("il2: 1e6 IU/mL", "il2: 3.9e4 IU/mL"), "'rep' would hold up to 5398"),
        ("overfill", "error", ("il2: 1e6 IU/mL", "il2: 3e4 IU/mL"), "'rep' would hold at least 55"),
        # 3 mL and more, but below what a scale shows after a crash
        ("dose-unprovable", "warning", ("dose: 3000 IU/mL * rep.volume", "dose: 3e6 IU + 1e6 IU"), "at most 4 mL"),
        ("schema", "error", ("final: conc,", "final: conc, dose: 1 ug,"), "leave, up_to, all, dose, final"),
        ("schema", "error", ("volume: 5 L, ", "volume: 5 L, of: il2, "), "of names the substance of a dose"),
    ],
)  # fmt: skip
def test_each_fault_is_found(code: str, severity: str, change: tuple[str, str], says: str) -> None:
    every = found(change)
    matching = [one for one in every if one.code == code]
    assert matching, [str(one) for one in every]
    assert matching[0].severity == severity
    assert any(says in f"{one.message} {one.hint}" for one in matching), [str(one) for one in matching]


@pytest.mark.parametrize(
    ("stock", "dose", "severity", "message", "diluted", "times"),
    [
        # the examples of the domain brief, 5.1: 30 ng/mL in 5 L are 0.15 mL of 1 mg/mL, and 3 mL of 50 ug/mL
        ("okt3: 1 mg/mL", "final: 30 ng/mL,", "error", "as little as 0.15 mL of okt3", "okt3: 0.03 mg/mL", 34),
        ("okt3: 50 ug/mL", "dose: 12 ng/mL * 1 L,", "error", "0.24 mL of okt3", "okt3: 2.4 ug/mL", 21),
        ("okt3: 0.1 mg/mL", "final: conc,", "warning", "as little as 1.5 mL of okt3", "okt3: 0.03 mg/mL", 4),
        ("okt3: 0.1 mg/mL", "dose: 200 ug,", "warning", "2 mL of okt3", "okt3: 0.04 mg/mL", 3),
    ],
)
def test_what_is_too_little_names_the_dilution_that_would_do(
    stock: str, dose: str, severity: str, message: str, diluted: str, times: int
) -> None:
    (one,) = found(("okt3: 30 ug/mL", stock), ("final: conc,", dose))
    assert (one.code, one.severity) == ("dose-small", severity)
    assert one.message.startswith(message)
    assert f"dilute it 1 to {times} (ask), mount that and declare stock: {{{diluted}}}" in one.hint
    assert [str(one) for one in found(("okt3: 30 ug/mL", diluted), ("final: conc,", dose))] == []


def test_the_volume_that_comes_counts_with_a_final_concentration() -> None:
    course = dry_run(load_text(RECIPE, "small.yaml"), 1, {"conc": "60 ng/mL"})
    assert course.ended == "complete", course.reason
    moved = course.moved_ml["okt3", "rep"]
    held = course.moved_ml["media", "rep"]
    assert 30e3 * moved / (held + moved) == approx(60.0, rel=0.15)  # ng/mL; the pump may slip by the tolerance of 1 mL
    assert course.moved_ml["mix", "rep"] == approx(3e-3 * (held + moved), rel=0.08)


def test_a_dry_run_holds_where_a_controller_would() -> None:
    text = changed(("okt3: 30 ug/mL", "okt3: 1 mg/mL"), ("range: 30..60 ng/mL", "range: 1..600 ng/mL"))
    course = dry_run(load_text(text, "small.yaml"), 1, {"conc": "1 ng/mL"})
    assert (course.ended, "too little to be dosed" in course.reason) == ("held", True)


def test_a_dose_in_words_and_in_differences() -> None:
    recipe = load_text(RECIPE, "small.yaml")
    final, dose = (step for step in recipe.procedure[0].steps[-2:] if isinstance(step, Transfer))
    assert sentence(final, recipe) == (
        "Transfer from okt3 to rep at 30 mL/min what makes conc of okt3 (stock 30 ug/mL) there, tolerance 1 mL."
    )
    assert "what holds 3000 IU/mL * rep.volume of il2 (stock 1e6 IU/mL)" in sentence(dose, recipe)
    other = load_text(
        changed(("il2: 1e6 IU/mL", "il2: 2e6 IU/mL"), ("of: il2, ", "of: okt3, "), ("3000 IU/mL", "3 ng/mL")), "x"
    )
    told = [f"{each.part} {each.words}" for each in differences(recipe, other)]
    assert "container mix: stock of il2 1e6 IU/mL -> 2e6 IU/mL" in told
    assert any("of il2 -> okt3" in line for line in told)
    table = next(table for table in master_record(recipe, "", "").before if table.title == "Containers")
    assert "both; stock: okt3 10 ug/mL, il2 1e6 IU/mL" in table.rows[2]


@pytest.mark.parametrize(
    "text", ["30 ng/mL", "50 ug/mL", "1 mg/mL", "3000 IU/mL", "150 ug", "12 ng", "2 mg", "1.005 g/mL"]
)
def test_concentrations_and_masses_are_shown_as_people_write_them(text: str) -> None:
    assert show(quantity(text).value, quantity(text).unit) == text


@pytest.mark.parametrize("share", [0.03, 0.0333333, 0.5, 0.99, 1e-4])
def test_a_dilution_is_never_stronger_than_needed_and_keeps_two_digits(share: float) -> None:
    stock = Stock("okt3", "1 mg/mL", "g/mL", 1e-3)
    value = float(stock.diluted(share).split()[0])
    assert share * 0.9 <= value <= share * (1 + 1e-9)
