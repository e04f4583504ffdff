"""Files of laboratory results: every bad row told with its line and column, and nothing answered but what is asked."""

from __future__ import annotations

from typing import Any

import pytest

from tilctl.cli.results_file import MOST_BYTES, MOST_ROWS, Question, left, match, read

HEAD = "step,result,value,unit,time,analyst\n"
CELLS = {"type": "number", "unit": "cells", "canonical": "cells", "min": 0.0, "max": 2e11}
STERILITY = {"type": "choice", "choices": ["pending", "no_growth", "growth"]}


def question(number: str, path: str, batch: str = "b1", closed: bool = False, **inputs: dict[str, Any]) -> Question:
    return Question(batch, closed, {"id": number, "path": path, "inputs": inputs, "results": list(inputs)})


ASKED = [question("p3", "end/count", tvc=CELLS), question("p4", "end/count", sterility=STERILITY)]
GOOD = HEAD + "count,tvc,4.5e9,cells,2026-01-19T08:30:00Z,Anna\nend/count,sterility,no_growth,,2026-01-19T08:30Z,Anna\n"


def told(text: str, asked: list[Question] | None = None) -> list[str]:
    rows, wrong = read(text.encode(), "f.csv")
    return wrong + match(rows, ASKED if asked is None else asked, "f.csv")[1]


@pytest.mark.parametrize("text", [GOOD, "\ufeff" + GOOD.replace(",", ";").replace("\n", "\r\n"), GOOD + "\n,,,,,\n"])
def test_a_good_file_is_an_answer_to_each_question(text: str) -> None:
    rows, wrong = read(text.encode(), "f.csv")
    answers, unfit = match(rows, ASKED, "f.csv")
    assert wrong + unfit == []
    assert [(a.question.id, a.inputs) for a in answers] == [
        ("p3", {"tvc": "4.5e9 cells"}), ("p4", {"sterility": "no_growth"})
    ]  # fmt: skip
    assert answers[0].reported["tvc"] | {"row": ""} == {"time": "2026-01-19T08:30:00Z", "analyst": "Anna", "row": ""}
    marks = [row.mark for row in rows]
    assert left(rows, ASKED, {"b1": marks[:1]}) == rows[1:], "what this batch has taken is not sent again"
    assert left(rows, ASKED, {"b0": marks}) == rows, "another batch may have the same result"
    assert left(rows, [], {"b0": marks}) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("analyst\n", "who\n", "f.csv:1: columns: no analyst; unknown who"),
        ("step,result", "step,step", "f.csv:1: columns: no result; twice step"),
        ("count,tvc,4.5e9", "count,4.5e9", "f.csv:2: 5 fields, expected 6"),
        ("count,tvc", "cuont,tvc", "f.csv:2: step: nothing is awaited from 'cuont'; awaited: p3 (end/count)"),
        ("count,tvc", "count,ph", "f.csv:2: result: 'ph' is not asked for; asked: tvc, sterility"),
        ("4.5e9,cells", "4.5e9,", "f.csv:2: unit: is empty; the question is in cells"),
        ("4.5e9,cells", "4.5e9,mL", "f.csv:2: value: tvc: "),
        ("4.5e9,cells", "4.5e12,cells", "out of range"),
        ("4.5e9,cells", "many,cells", "f.csv:2: value: tvc"),
        ("no_growth,,", "no_growth,cells,", "f.csv:3: unit: 'cells': this result has none"),
        ("no_growth,,", "none,,", "f.csv:3: value: sterility: 'none' is none of the choices"),
        ("2026-01-19T08:30:00Z", "19.1.2026", "f.csv:2: time: '19.1.2026'"),
        ("2026-01-19T08:30:00Z", "2026-01-19T08:30:00", "with its zone"),
        ("08:30:00Z,Anna", "08:30:00Z,", "f.csv:2: analyst: is empty"),
        ("08:30:00Z,Anna", "08:30:00Z,An\x1bna", "f.csv:2: analyst: a printable text"),
        ("end/count,sterility,no_growth,,", "count,tvc,1e9,cells,", "f.csv:3: result: given twice"),
    ],
)
def test_each_bad_row_is_told_with_line_and_column(old: str, new: str, says: str) -> None:
    found = told(GOOD.replace(old, new, 1))
    assert any(says in text for text in found), found


def test_all_bad_rows_are_told_at_once() -> None:
    rows = "".join(f"count,ph,{n},,2026-01-19T08:30:00Z,Anna\n" for n in range(4))
    assert [text.partition(": ")[0] for text in told(HEAD + rows)] == [f"f.csv:{n}" for n in range(2, 6)]


def test_a_question_that_is_answered_in_part_is_told() -> None:
    both = [question("p5", "end/count", sterility=STERILITY, tvc=CELLS)]
    (text,) = told(HEAD + "p5,sterility,pending,,2026-01-19T08:30:00Z,Anna\n", both)
    assert text.startswith("f.csv:2: result: p5 asks for tvc as well")


def test_two_that_ask_for_the_same_have_to_be_told_apart() -> None:
    two = [question("p3", "a/count", tvc=CELLS), question("p3", "a/count", "b0", True, tvc=CELLS)]
    assert "asked for by p3 of b1, p3 of b0" in told(HEAD + "count,tvc,1,cells,2026-01-19T08:30:00Z,A\n", two)[0]


def test_what_is_no_table_is_told() -> None:
    assert "no UTF-8 at byte 0" in read(b"\xff\xfe", "f.csv")[1][0]
    assert f"at most {MOST_BYTES}" in read(b"x" * (MOST_BYTES + 1), "f.csv")[1][0]
    assert f"more than {MOST_ROWS} rows" in read((HEAD + "a,b,c,d,e,f\n" * (MOST_ROWS + 1)).encode(), "f.csv")[1][0]
    assert "no rows" in read(b"", "f.csv")[1][0]
    assert "no rows" in read(HEAD.encode(), "f.csv")[1][0]
    assert "no CSV" in read((HEAD + '"' + "x" * 200_000).encode(), "f.csv")[1][0]
