"""Activity matrices of closed devices: what is wrong is told in full, and what is made of them only watches."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.document import DocumentError, parse
from devices.profile import load_profile
from devices.role import ROLES
from recipes.catalog import load
from recipes.check import check
from recipes.matrix import MOST_BYTES, MOST_ROWS, parse_matrix, read_text
from recipes.matrix_recipe import recipe_text
from recipes.model import walk
from recipes.shelf import paths
from tilctl.cli.dryrun.walk import dry_run
from tilctl.cli.exits import Exit
from tilctl.cli.main import main

LIBRARY = paths("")["til-automate"].parent / "matrices" / "til-automate.csv"
HEAD = "day,time,activity,volume,source,comment\n"
START, END = "0,00:00,start,,,\n", "9,00:00,harvest,100 mL,,\n"
WATCHING = {"ask", "choose", "end", "incubate", "mark", "note", "wait"}


def told(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        parse_matrix(text, "m.csv")
    return [f"{it.line}:{it.column} {it.message}" for it in caught.value.diagnostics]


def test_the_recipe_of_the_library_is_what_its_matrix_makes() -> None:
    text = read_text(LIBRARY)
    assert recipe_text(parse_matrix(text, LIBRARY.name), text) == paths("")["til-automate"].read_text()


def test_a_closed_device_is_supervised_and_never_controlled() -> None:
    recipe = load("til-automate")
    steps = [step for operation in recipe.procedure for _, step in walk(operation.steps, operation.id)]
    assert {step.verb for step in steps} <= WATCHING
    assert all(guard.then == "alarm" for guard in recipe.guards)
    role, profile = ROLES["automaton"], load_profile("closed-automaton")
    assert (dict(role.settable), dict(role.commands), dict(role.abilities), dict(profile.commands)) == ({}, {}, {}, {})


def test_what_was_exchanged_is_asked_for_within_the_window_of_its_step() -> None:
    course = dry_run(load("til-automate"), 3)
    assert (course.ended, course.exceptions, course.alarms) == ("complete", [], []), course.reason
    assert 12.0 <= (course.marks["harvested"] - course.marks["day0"]) / 86400.0 < 12.5
    exchanged = [path for path in course.asked if path.endswith("_exchange")]
    assert len(exchanged) == 6


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("-1,00:00,sample,,,", "3:1 '-1' is no day"),
        ("1.5,00:00,sample,,,", "3:1 '1.5' is no day"),
        ("36,00:00,sample,,,", "3:1 '36' is no day"),
        ("1,24:00,sample,,,", "3:3 '24:00' is no time"),
        ("1,6:00,sample,,,", "3:3 '6:00' is no time"),
        ("1,06:00,dance,,,", "3:9 'dance' is no activity"),
        ("1,06:00,feed,,,", "3:14 feed wants a volume"),
        ("1,06:00,feed,30 g,,", "3:14 feed wants a volume: '30 g' measures mass"),
        ("1,06:00,feed,0 mL,,", "3:14 '0 mL' is no volume"),
        ("1,06:00,feed,90 L,,", "3:14 '90 L' is no volume"),
        ("1,06:00,sample,5 mL,,", "3:16 'sample' moves no volume"),
        ("1,06:00,sample,,S9,", "3:17 no line says what the source S9 is"),
        ("1,06:00,sample,,9,", "3:17 '9' is no tag"),
        ('1,06:00,"feed",30 mL,,"a, b",c', "3:30 more cells than columns"),
        ('1,06:00,sample,,,"open', "3:1 no CSV"),
        ("1,06:00,sample,,," + "x" * 401, "3:18 comment is longer"),
        ("1,06:00,sample,,,a\x07b", "3:18 comment is longer"),
        ("0,00:00,start,,,", "3:1 a second start"),
    ],
)
def test_a_bad_row_is_told_with_line_and_column(row: str, said: str) -> None:
    (found,) = told(HEAD + START + row + "\n" + END)
    assert found.startswith(said)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    bad = "1,25:00,dance,5 mL,,\n"
    assert len(told(HEAD + START + bad * 3 + END)) == 9


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1 no steps"),
        (HEAD, "2:1 no steps"),
        (HEAD + START, "3:1 the last step is no harvest"),
        (HEAD + END, "2:1 the first step is no start"),
        (HEAD + START + "2,00:00,sample,,,\n1,00:00,sample,,,\n" + END, "4:1 this step is earlier"),
        (HEAD + START + END + END, "4:1 a step after the harvest"),
        ("day,time,activity\n" + "0,00:00,start\n9,00:00,harvest\n", "1:1 the column 'volume' is missing"),
        ("day,day,time,activity,volume\n", "1:5 the column 'day' is unknown or there twice"),
        ("# colour: red\n" + HEAD + START + END, "1:1 a line with # says nothing known"),
        ("# recipe: No Name\n" + HEAD + START + END, "1:1 'No Name' is no name"),
        ("# status: approved\n" + HEAD + START + END, "1:1 a matrix is draft or illustrative"),
        (HEAD + START + END + "# recipe: late\n", "4:1 a line with # comes after"),
        (HEAD + START + "1,00:00,culture,,,\n" * MOST_ROWS + END, f"{MOST_ROWS + 2}:1 more than {MOST_ROWS} steps"),
    ],
)
def test_what_is_wrong_with_the_whole_is_told(text: str, said: str) -> None:
    assert told(text)[0].startswith(said)


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    for content, said in ((b"\xff\xfe\x00", "UTF-8"), (b"x" * (MOST_BYTES + 1), "larger than 256 KiB")):
        path.write_bytes(content)
        with pytest.raises(DocumentError, match=said):
            read_text(path)
    with pytest.raises(DocumentError, match="file-missing"):
        read_text(tmp_path / "none.csv")


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=60))
def test_any_comment_makes_a_recipe_without_errors(comment: str) -> None:
    cell = comment.replace('"', '""')
    text = f'{HEAD}{START}1,00:00,exchange,125 mL,,"{cell}"\n{END}'
    try:
        matrix = parse_matrix(text, "m.csv")
    except DocumentError:
        return  # what cannot be printed is told
    recipe, found = check(parse(recipe_text(matrix, text), "made.yaml"))
    assert recipe is not None
    assert [str(it) for it in found] == []


def test_the_command_writes_a_recipe_and_never_over_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made.yaml"
    assert main(["recipe", "from-matrix", str(LIBRARY), "-o", str(out)]) == Exit.OK
    assert out.read_text() == paths("")["til-automate"].read_text()
    assert main(["recipe", "from-matrix", str(LIBRARY), "-o", str(out)]) == Exit.BAD_INPUT
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(HEAD + START + "1,06:00,dance,,,\n")
    assert main(["recipe", "from-matrix", str(wrong)]) == Exit.BAD_INPUT
    assert "wrong.csv:3:9: error[matrix-row]: 'dance' is no activity" in capsys.readouterr().err
