"""Fragments written out where a recipe includes them: equal to what is written by hand, mistakes at their place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from devices.diagnostic import Diagnostic
from devices.document import Document, DocumentError, parse
from recipes import catalog, shelf
from recipes.check import check
from recipes.include import MOST_DEEP, MOST_INCLUDES, MOST_TEXT
from recipes.written import written
from tilctl.cli.main import main

RECIPE = """\
# A comment that stays.
recipe: small
version: "1.0.0"
title: A small one
status: draft
sources: {P: engineering default}
containers:
  one: {kind: bag, limit: 1 L, source: P}
procedure:
- operation: prepare
  steps:
  - mount: {id: hang, containers: one, volume: ask}
  - ask: {id: plan, text: How much?, inputs: {n: {range: 1..4}}, source: P}
- include: {fragment: draw, with: {source: one, share: plan.n + 1}}
"""
DRAW = """\
fragment: draw
version: "1.0.0"
title: Draw some of it off
takes:
  source: {kind: container, label: what is drawn from}
  share: {kind: expression}
  drawn: {kind: name, default: drawn}
  whom: {kind: text, default: the operator}
sources: {P: engineering default}
containers:
  two: {kind: bag, limit: 2 L, source: P}
procedure:
- operation: draw
  title: Draw it off, by $whom
  steps:
  - mount: {id: $drawn, containers: two, volume: {two: 0 mL}}
  - transfer: {id: off, from: $source, to: two, volume: $source.volume / $share, rate: 30 mL/min, source: P}
  - note: {id: told, text: "Drawn by $whom: {$source.volume / $share} of {{$}}"}
"""
BY_HAND = """\
recipe: small
version: "1.0.0"
title: A small one
status: draft
sources: {P: engineering default}
containers:
  one: {kind: bag, limit: 1 L, source: P}
  two: {kind: bag, limit: 2 L, source: P}
procedure:
- operation: prepare
  steps:
  - mount: {id: hang, containers: one, volume: ask}
  - ask: {id: plan, text: How much?, inputs: {n: {range: 1..4}}, source: P}
- operation: draw
  title: Draw it off, by the operator
  steps:
  - mount: {id: drawn, containers: two, volume: {two: 0 mL}}
  - transfer: {id: off, from: one, to: two, volume: one.volume / (plan.n + 1), rate: 30 mL/min, source: P}
  - note: {id: told, text: "Drawn by the operator: {one.volume / (plan.n + 1)} of {{$}}"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fragments").mkdir()
    put(tmp_path)
    return tmp_path


def put(folder: Path, recipe: str = RECIPE, **fragments: str) -> Path:
    """Write a recipe, and its fragments beside it."""
    for name, text in {"draw": DRAW, **fragments}.items():
        (folder / "fragments" / f"{name}.yaml").write_text(text)
    path = folder / "small.yaml"
    path.write_text(recipe)
    return path


def changed(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
        text = text.replace(old, new)
    return text


def found(path: Path) -> list[Diagnostic]:
    """Return what is found in a recipe, while it is written out or after."""
    try:
        return check(catalog.find(path))[1]
    except DocumentError as error:
        return list(error.diagnostics)


def test_an_include_is_what_would_be_written_by_hand(folder: Path) -> None:
    flat = catalog.find(folder / "small.yaml")
    assert catalog.load_document(flat) == catalog.load_text(BY_HAND, "by-hand.yaml")
    assert found(folder / "small.yaml") == []


def test_the_text_of_the_flat_recipe_says_all_of_it(folder: Path) -> None:
    flat = catalog.find(folder / "small.yaml")
    alone = parse(flat.text, "frozen")
    assert alone.data == flat.data
    assert catalog.load_text(flat.text, "frozen") == catalog.load_document(flat)  # no fragment is looked for
    first, second, *_ = flat.text.splitlines()
    assert first == "# A comment that stays."
    assert second.startswith("# Written out: fragment draw 1.0.0, sha256 ")
    assert "include" not in flat.text
    assert catalog.find(folder / "small.yaml").text == flat.text


def test_a_recipe_without_includes_keeps_its_text(folder: Path) -> None:
    for text in (BY_HAND, changed(BY_HAND, ("inputs: {n:", "inputs: {include: {}, n:"))):
        assert catalog.find(put(folder, text)).text == text


FREE = some.text(some.characters(exclude_categories=("Cs",)), max_size=30)
KEYS = FREE.filter(bool)  # no file has an empty one


@given(some.recursive(FREE, lambda inner: some.lists(inner, max_size=4) | some.dictionaries(KEYS, inner, max_size=4)))
def test_what_is_written_reads_back_as_it_was(data: Any) -> None:
    assert parse(written({"all": data}), "written").data == {"all": data}


# place, code and part of the message or hint, by what is changed in the recipe or in the fragment
WRONG: list[tuple[str, str, str, str, str]] = [
    ("source: one, share: plan.n + 1", "source: one", "small.yaml:14:3", "include-parameter", "wants 'share'"),
    ("share: plan.n + 1", "shape: plan.n", "small.yaml:14:49", "include-parameter", "did you mean share?"),
    ("share: plan.n + 1", "share: plan.n +", "small.yaml:14:64", "expression", "ends too early"),
    ("source: one,", "source: one.volume,", "small.yaml:14:44", "expression", "no container"),
    ("share: plan.n + 1", "share: 1, drawn: a.b", "small.yaml:14:66", "expression", "no name"),
    ("fragment: draw,", "fragment: drw,", "small.yaml:14:3", "fragment-unknown", "there is: draw, "),
    ("fragment: draw,", "fragmnt: draw,", "small.yaml:14:3", "schema", "'fragment' is missing"),
    ("- include: {", "- operation: x\n  include: {", "small.yaml:14:3", "schema", "operation"),
    ("title: Draw some", "titel: Draw some", "draw.yaml:1:1", "schema", "'title' is missing"),
    (
        "- operation: draw\n  title: Draw it off, by $whom\n  steps:\n",
        "- include: {fragment: draw}\n- operation: x\n  steps:\n",
        "draw.yaml:13:3",
        "include-cycle",
        "draw -> draw",
    ),
    (
        "procedure:\n- operation: draw\n  title: Draw it off, by $whom\n  steps:\n",
        "steps:\n",
        "small.yaml:14:3",
        "include-place",
        "holds steps; here operations",
    ),
    (
        "sources: {P: engineering default}\ncontainers:\n  two",
        "guards: {}\ncontainers:\n  two",
        "draw.yaml:9:1",
        "schema",
        "guards",
    ),
    ("from: $source,", "from: $sauce,", "draw.yaml:17:31", "include-parameter", "did you mean $source?"),
    ("/ $share, r", "/ $whom, r", "draw.yaml:17:74", "include-parameter", "stands in an expression"),
    ("{$source.volume / $share} of", "$source of", "draw.yaml:18:45", "include-parameter", "write {$source}"),
    ("/ $share, r", "/ x$share, r", "draw.yaml:17:75", "include-parameter", "within a word"),
    ("whom: {kind: text", "whom: {kind: words", "draw.yaml:8:10", "schema", "words"),
    ("default: drawn}", "default: two drawn}", "draw.yaml:7:32", "expression", "no name"),
    ("volume: {two: 0", "volume: {two: 0 mL, $source: 0 mL, one: 0", "draw.yaml:16:77", "include-parameter", "second"),
    ("two: {kind: bag", "one: {kind: bag", "draw.yaml:11:3", "include-conflict", "small.yaml:8 (containers)"),
    (
        "default}\ncontainers:\n  two",
        "other}\ncontainers:\n  two",
        "draw.yaml:9:11",
        "include-conflict",
        "'P' is declared otherwise",
    ),
    # what only the check of the flat recipe finds is told where it was written
    ("rate: 30 mL/min, ", "rate: 30 mL, ", "draw.yaml:17:88", "dimension", "flow"),
    ("share: plan.n + 1", "share: plan.m", "draw.yaml:17:57", "name-unknown", "plan.n"),
    ("id: off,", "id: $drawn,", "draw.yaml:17:5", "id-duplicate", "a second step 'drawn'"),
    ("- operation: draw", "- operation: prepare", "draw.yaml:13:3", "id-duplicate", "a second operation"),
]


@pytest.mark.parametrize(("old", "new", "place", "code", "words"), WRONG)
def test_a_mistake_is_told_where_it_was_made(
    folder: Path, old: str, new: str, place: str, code: str, words: str
) -> None:
    assert (RECIPE + DRAW).count(old) == 1
    path = put(folder, RECIPE.replace(old, new), draw=DRAW.replace(old, new))
    one = next(one for one in found(path) if one.code == code)
    text = str(one)
    assert place in text
    assert words in text
    inside = "draw.yaml" in place
    assert one.via == (f"{path}:14:3" if inside else one.via)
    assert (f"(included at {path}:14:3)" in text) == bool(one.via)


def test_every_code_of_an_include_has_a_test() -> None:
    folder = Path(check.__code__.co_filename).parent
    sources = "".join((folder / name).read_text() for name in ("include.py", "fragment.py"))
    codes = set(re.findall(r'"((?:include|fragment)-[a-z]+)"', sources))
    assert codes == {code for *_, code, _ in WRONG if "-" in code and code[0] in "if" and code != "id-duplicate"} | {
        "include-limit"
    }


def test_steps_are_included_among_steps_and_a_fragment_in_a_fragment(folder: Path) -> None:
    inner = DRAW[: DRAW.index("procedure:")].replace("fragment: draw", "fragment: tell")
    inner += 'steps:\n- note: {id: $drawn, text: "{$share} of {$source.volume}"}\n'
    outer = changed(
        DRAW, ("  - note: {", "  - include: {fragment: tell, with: {source: $source, share: $share * 2}}\n  - note: {")
    )
    put(folder, draw=changed(outer, ("id: $drawn, c", "id: hang, c")), tell=inner)
    steps = catalog.load(folder / "small.yaml").procedure[1].steps
    assert [step.id for step in steps] == ["hang", "off", "drawn", "told"]
    assert steps[2].verb == "note"
    assert steps[2].text == "{((plan.n + 1) * 2)} of {one.volume}"
    put(folder, draw=outer, tell=inner.replace("id: $drawn", "id: hang").replace("$share} of", "$share.x} of"))
    one = found(folder / "small.yaml")[0]
    fragments = folder / "fragments"
    assert (one.file, one.line) == (str(fragments / "tell.yaml"), 13)
    assert one.via == f"{fragments / 'draw.yaml'}:18:5, {folder / 'small.yaml'}:14:3"  # the last one first


def test_an_include_twice_has_an_id_before_those_of_its_operations(folder: Path) -> None:
    clear = changed(DRAW, ("  - note: {id: told", "  - unmount: {id: clear, containers: two}\n  - note: {id: told"))
    more = "- include: {fragment: draw, id: again, with: {source: one, share: 3}}\n"
    recipe = catalog.load_document(catalog.find(put(folder, RECIPE + more, draw=clear)))
    assert [operation.id for operation in recipe.procedure] == ["prepare", "draw", "again_draw"]
    transfer = recipe.procedure[2].steps[1]
    assert transfer.verb == "transfer"
    assert transfer.volume == "one.volume / (3)"
    steps = DRAW.replace("procedure:\n- operation: draw\n  title: Draw it off, by $whom\n  steps:\n", "steps:\n")
    within = "  - include: {fragment: draw, id: again, with: {source: one, share: 3}}\n"
    (one,) = found(put(folder, RECIPE[: RECIPE.rindex("- include")] + within, draw=steps))
    assert (one.code, one.line, one.column) == ("include-place", 14, 31)


@pytest.mark.parametrize("value", ["one, to: three", "{{a: b}}", "1\n- note: x", "}} of {{", "$share", "a: b # c"])
def test_a_value_is_one_value_and_never_yaml(folder: Path, value: str) -> None:
    flat = catalog.find(put(folder, changed(RECIPE, ("share: plan.n + 1", f"share: 1, whom: {yaml_text(value)}"))))
    title = catalog.load_document(parse(flat.text, "again")).procedure[1].title
    assert title == f"Draw it off, by {value}"
    with pytest.raises(DocumentError, match="expression"):
        catalog.find(put(folder, changed(RECIPE, ("share: plan.n + 1", f"share: {yaml_text(value)}"))))


def yaml_text(value: str) -> str:
    return '"' + value.replace("\n", "\\n") + '"'


def chain(folder: Path, depth: int, each: int) -> Path:
    """Write fragments that include one another, each the next so many times."""
    for level in range(1, depth + 1):
        again = f"- include: {{fragment: f{level + 1}}}\n" * each
        inner = "- note: {text: deep}\n" if level == depth else again
        (folder / "fragments" / f"f{level}.yaml").write_text(
            f'fragment: f{level}\nversion: "1.0.0"\ntitle: x\nsteps:\n{inner}'
        )
    return put(folder, RECIPE[: RECIPE.rindex("- include")] + "  - include: {fragment: f1}\n")


def test_depth_number_and_size_are_bounded(folder: Path) -> None:
    assert [one.code for one in found(chain(folder, MOST_DEEP, 1))] == []
    (deep,) = found(chain(folder, MOST_DEEP + 1, 1))
    assert (deep.code, "f4 -> f5" in deep.message) == ("include-limit", True)
    many = found(chain(folder, 3, MOST_INCLUDES))  # 60 * 60 * 60
    assert {one.code for one in many if one.code != "more"} == {"include-limit"}
    long = "takes: {x: {kind: text}}\nsteps:\n" + "- note: {text: $x}\n" * (MOST_TEXT // 500)
    (folder / "fragments" / "f1.yaml").write_text(f'fragment: f1\nversion: "1.0.0"\ntitle: x\n{long}')
    recipe = RECIPE[: RECIPE.rindex("- include")] + f"  - include: {{fragment: f1, with: {{x: {'y' * 1000}}}}}\n"
    (size,) = found(put(folder, recipe))
    assert (size.code, size.message) == ("include-limit", "with its fragments this recipe is too large")


def test_what_is_written_out_can_be_read_back_or_is_refused(folder: Path) -> None:
    """Each file is shallow enough; together they are deeper than a file may be, and so than a record's text may be."""
    path = chain(folder, MOST_DEEP, 1)
    for level in range(1, MOST_DEEP + 1):
        inner = "{note: {text: deep}}" if level == MOST_DEEP else f"{{include: {{fragment: f{level + 1}}}}}"
        for turn in range(4):
            inner = f"{{repeat: {{id: r{turn}, max: 2, steps: [{inner}]}}}}"
        text = f'fragment: f{level}\nversion: "1.0.0"\ntitle: x\nsteps:\n- {inner}\n'
        (folder / "fragments" / f"f{level}.yaml").write_text(text)
    (one,) = found(path)
    assert (one.code, one.message) == ("include-limit", "with its fragments this is too large or too deep")


def test_a_cycle_over_several_fragments_names_them(folder: Path) -> None:
    path = chain(folder, 2, 1)
    (folder / "fragments" / "f2.yaml").write_text(
        'fragment: f2\nversion: "1.0.0"\ntitle: x\nsteps:\n- include: {fragment: f1}\n'
    )
    (one,) = found(path)
    assert (one.code, one.message) == ("include-cycle", "a fragment includes itself: f1 -> f2 -> f1")


def test_a_fragment_beside_the_recipe_comes_before_others(folder: Path, tmp_path_factory: Any) -> None:
    other: Path = tmp_path_factory.mktemp("other")
    (other / "fragments").mkdir()
    (other / "fragments" / "draw.yaml").write_text(changed(DRAW, ("title: Draw it", "title: Another draws it")))
    titles: list[str | None] = []
    for path in (folder / "small.yaml", other / "small.yaml"):
        path.write_text(RECIPE)
        titles.append(catalog.load(path, (other, folder)).procedure[1].title)
    assert titles == ["Draw it off, by the operator", "Another draws it off, by the operator"]
    (folder / "fragments" / "harvest-to-store.yaml").write_text("not: used by the library")
    assert catalog.load("til-22d", (folder,)) == catalog.load("til-22d")


def test_the_recipes_that_freeze_share_their_end() -> None:
    ends: list[Document] = [catalog.find(name) for name in ("til-22d", "til-16d")]
    tails = [document.data["procedure"][-3:] for document in ends]
    assert [operation["operation"] for operation in tails[0]] == ["harvest", "cryopreserve", "release"]
    assert str(tails[0]).replace("count22", "count16").replace("day 22", "day 16") == str(tails[1])
    files = [shelf.paths(shelf.RECIPES)[name].read_text() for name in ("til-22d", "til-16d")]
    assert all("fragment: harvest-to-store" in text and "CS10:" not in text for text in files)


def test_the_command_line_checks_a_fragment_by_its_header(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "check", "harvest-to-store"]) == 0
    assert "fragment harvest-to-store 1.1.0: no errors" in capsys.readouterr().out
    path = put(folder, draw=changed(DRAW, ("kind: name", "kind: nme"))).parent / "fragments" / "draw.yaml"
    assert main(["recipe", "check", str(path)]) == 1
    assert f"{path}:7:11: error[schema]" in capsys.readouterr().out
