"""`tilctl recipe doc` as it is typed: the master batch record in Markdown and in HTML, and what is refused."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from recipes import shelf
from tests.logic.pages import Page
from tilctl.cli.main import main

SMALL = """\
recipe: small
version: "1.0.0"
title: A small one
status: draft
sources: {P: engineering default}
containers:
  pool: {kind: bag, limit: 1 L, source: P}
procedure:
- operation: prepare
  steps:
  - ask: {id: look, text: Look at it, sign: [operator]}
  - end: {as: complete, reason: done}
"""
HOSTILE = (
    r"""</td><script>alert(1)</script> & <b>x</b> | *so* _so_ `so` ~~so~~ [a](http://x) [b]: c &lt; \\* "quoted" """
).strip()

TOLD = (
    "| Status | illustrative, not clinical |",
    "| Check | no errors, no warnings |",
    "| tvc_floor | least cells to go on at day 11 | 5e6 cells | 1e6..1e8 cells | GKU |",
    "| station | bioreactor | temperature, co2 | 6 |  | P |",
    "| cs10 | bag |  | 1 | 400 mL | CS10: 10 % DMSO, 2 to 8 degC | 1.06 g/mL |  | GKU |",
    "| CM2: CM1 and AIM-V 1:1, IL-2 3000 IU/mL, OKT3 30 ng/mL | cm2 | 1 | at most 6 L each | 4.1 |",
    "| mycoplasma | mycoplasma PCR |  | negative, positive, pending |  |",
    "| dmso | dmso_added | freeze_started |  | 30 min | 60 min |  | GKU, P |",
    (
        "| co2_low | station.co2 is below 4 % for 15 min; deadband 0.2 %; from day0 to harvested | high: alarm | "
        "an empty cylinder, a closed valve | the medium buffers for some hours, then pH rises | change the cylinder ("
        "time allowed: 4 h) | P, GKU |"
    ),
    "## 1 receipt: Tumour receipt and fragments",
    "- Enter: time since surgery (since_surgery): a number in h, 0..48 h",
    "- Scan: lot and coi",
    "- Sign: operator and verifier",
    "**1.3** fit (controller): Take the first branch of which the condition is true:",
    "**1.3.1** When arrive.band_ok is no:",
    (
        "**1.3.1.1** end (controller): End the batch as stopped: transport left 2 to 8 degC: quarantine, quality "
        "decides."
    ),
    "**1.3.2** In every other case: go on.",
    "**2.6** fill (controller): For each mounted pre, one after the other (f below):",
    "**2.6.1** cm1 (controller): Transfer 1000 mL from cm1 to each pre at 50 mL/min, tolerance 2 %.",
    "**2.10** static (controller): Leave the culture alone until day is at least 11 d.",
    "- Window: ends on day 10 d..11.5 d",
    "- After an outage: goes on by itself up to 4 h; after a longer one the batch waits for a person",
    (
        "**3.5** count11 (operator, laboratory): Draw a sample of 2 mL from pool; the laboratory reports tvc and "
        "viability."
    ),
    "- Due: within 4 h, then hold the batch",
    (
        "**7.8** run (controller): Freeze product in freezer by profile F3, and judge the run by its acceptance "
        "criteria."
    ),
    "| 4 | seed | ramp | chamber | -25 K/min | -40 degC | at the exotherm or by time | 3 min | GKU, P |",
    "| S28 | public summaries of the AMTAGVI label |",
    "| 2.6.1 cm1 | volume 1000 mL, rate 50 mL/min, tolerance 2 % | GKU, P | unverified, engineering default |",
    "| container conc | limit 500 mL, density 1.02 g/mL | P, GKU | engineering default, unverified |",
    "| 7.7 load | due 20 min | P | engineering default |",
    "| F3 tracking | within 4 K | P | engineering default |",
)


def write(folder: Path, text: str, name: str = "small.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def doc(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["recipe", "doc", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_batch_record_of_the_main_recipe_in_markdown(capsys: pytest.CaptureFixture[str]):
    code, out, err = doc(capsys, "til-22d")
    assert (code, err) == (0, "")
    assert doc(capsys, "til-22d", "--markdown")[1] == out
    text = shelf.read("til-22d", shelf.RECIPES).text
    lines = out.splitlines()
    assert lines[0] == "# TIL expansion in 22 days, cryopreserved"
    assert f"| SHA-256 | {hashlib.sha256(text.encode()).hexdigest()} |" in lines
    assert [line for line in TOLD if line not in lines] == []
    assert "Begins when the batch has been granted freezer" in out
    doubts = out[out.index("## Numbers to be verified") :]
    assert "7.5 fill" not in doubts, "its number was read in a source"


def test_the_numbers_go_up_and_none_is_there_twice(capsys: pytest.CaptureFixture[str]):
    numbers = re.findall(r"^\*\*([\d.]+)\*\*", doc(capsys, "til-22d")[1], flags=re.MULTILINE)
    parsed = [tuple(int(part) for part in number.split(".")) for number in numbers]
    assert parsed == sorted(set(parsed))
    assert {number[0] for number in parsed} == set(range(1, 9))
    for number in parsed:
        assert number[-1] == 1 or (*number[:-1], number[-1] - 1) in parsed, number


def test_turns_and_branches_inside_one_another_are_numbered_on(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    inside = """\
  - repeat:
      id: turns
      max: 3
      every: 2 h
      steps:
      - choose:
          id: enough
          cases:
          - when: look.n > 1
            steps:
            - mark: {id: t1}
            - mark: {id: t2}
          - else: []
  - end:"""
    out = doc(capsys, write(tmp_path, SMALL.replace("  - end:", inside)))[1]
    assert re.findall(r"^\*\*([\d.]+)\*\* (.*)$", out, flags=re.MULTILINE)[1:] == [
        ("1.2", "turns (controller): Repeat, 3 turns, one every 2 h:"),
        ("1.2.1", "enough (controller): Take the first branch of which the condition is true:"),
        ("1.2.1.1", "When look.n is above 1:"),
        ("1.2.1.1.1", "t1 (controller): Record this moment as t1."),
        ("1.2.1.1.2", "t2 (controller): Record this moment as t2."),
        ("1.2.1.2", "In every other case: go on."),
        ("1.3", "end (controller): End the batch as complete: done."),
    ]


def test_html_is_one_file_that_asks_for_nothing(capsys: pytest.CaptureFixture[str]):
    code, out, err = doc(capsys, "til-22d", "--html")
    assert (code, err) == (0, "")
    page = Page(out)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "a", "object", "form"} & set(page.tags)
    assert not {"src", "href", "style"} & {name for name, _ in page.attributes}
    assert "http://" not in out
    assert "https://" not in out
    assert "url(" not in out
    assert "size: A4" in out
    assert ["no.", "step", "by", "done by / date"] in page.rows
    rows = {row[0]: row for row in page.rows}
    assert rows["2.6.1"][1].startswith(
        "cm1: Transfer 1000 mL from cm1 to each pre at 50 mL/min, tolerance 2 %.After an outage"
    )
    assert rows["2.6.1"][2:] == ["controller", ""]
    assert rows["1.1"][2:] == ["operator", "operator:verifier:"], "room for each signature"
    assert rows["1.3.1"] == ["1.3.1", "When arrive.band_ok is no:"]
    steps = re.findall(r"^\*\*([\d.]+)\*\*", doc(capsys, "til-22d")[1], flags=re.MULTILINE)
    assert [row[0] for row in page.rows if re.fullmatch(r"\d+\.[\d.]+", row[0])] == steps


def hostile(folder: Path) -> str:
    quoted = HOSTILE.replace("\\", "\\\\").replace('"', '\\"') + r"\e]0;owned\a\nline"
    text = SMALL.replace("title: A small one", f'title: "{quoted}"').replace("text: Look at it", f'text: "{quoted}"')
    return write(folder, text.replace("P: engineering default", f'P: "{quoted}"'))


def test_texts_of_a_recipe_are_no_html(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    out = doc(capsys, hostile(tmp_path), "--html")[1]
    page = Page(out)
    assert page.open == []
    assert not {"script", "b", "a"} & set(page.tags)
    shown = HOSTILE + r"\x1b]0;owned\x07 line"
    assert f"look: {shown}." in {row[1][: len(shown) + 7] for row in page.rows if len(row) > 1}
    assert "\x1b" not in out


def test_texts_of_a_recipe_are_no_markdown(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    out = doc(capsys, hostile(tmp_path))[1]
    assert "\x1b" not in out
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    shown = HOSTILE + r"\x1b]0;owned\x07 line"
    found: list[str] = []
    for token in reader.parse(out):
        assert token.type != "html_block"
        inner = token.children or []
        kinds = {child.type for child in inner if child.content not in ("", "1.1", "1.2")} - {"softbreak"}
        assert kinds <= {"text", "text_special"}, token.content
        assert {child.tag for child in inner} <= {"", "strong", "br"}
        found.append("".join(child.content for child in inner))
    assert shown in found, "the title, unchanged to the reader"
    assert f"1.1 look (operator): {shown}." in found
    assert shown in found[found.index("tag") :], "and in a cell of a table"


def test_what_is_no_markup_is_not_escaped(capsys: pytest.CaptureFixture[str]):
    """Markdown is the default because it reads well in a terminal."""
    out = doc(capsys, "til-22d")[1]
    assert "\\" not in out
    assert "feeder_count.volume" in out
    assert "0.8 * count22.tvc" in out


def test_a_recipe_with_findings_is_told_and_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write(tmp_path, SMALL.replace("text: Look at it", "text: 'Look at {nobody.n}', due: 3 parsecs"))
    code, out, err = doc(capsys, path)
    assert code == 0
    assert err == f"{path}: 2 errors, 1 warning: see tilctl recipe check\n"
    assert "| Check | 2 errors, 1 warning: it cannot be started |" in out
    assert "Look at {nobody.n}." in out
    assert "- Due: within 3 parsecs, then alarm and go on" in out


def test_a_recipe_without_its_freezing_profile_is_told_without_it(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    freezing = "  - freeze: {with: freezer, load: pool, profile: F99}\n  - end:"
    code, out, err = doc(capsys, write(tmp_path, SMALL.replace("  - end:", freezing)))
    assert (code, "error" in err) == (0, True)
    assert "by profile F99" in out
    assert "## Freezing profile" not in out


@pytest.mark.parametrize(
    ("old", "new"), [("procedure:", "procedures:"), ("status: draft", "status: fine"), ("title: A", "title: [")]
)
def test_what_the_schema_refuses_is_told_as_the_check_tells_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, old: str, new: str
):
    path = write(tmp_path, SMALL.replace(old, new))
    assert main(["recipe", "check", path]) == 1
    diagnostics = capsys.readouterr().out.splitlines()[:-1]
    code, out, err = doc(capsys, path)
    assert (code, out) == (2, "")
    assert err.splitlines()[1:] == diagnostics


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("nonsense", "there is no recipe 'nonsense' (hint: there is: "),
        ("no-such.yaml", "looked in"),
        ("/", "not a file"),
        ("F3", "there is no recipe 'F3'"),
        ("a\x1b[31m\nb", r"there is no recipe 'a\x1b[31m b'"),
        ("x" * 5000, "(5000 characters)"),
        ("x" * 5000 + ".yaml", "File name too long"),
        ("nul\0.yaml", "cannot be read"),
    ],
)
def test_a_recipe_that_is_not_there(capsys: pytest.CaptureFixture[str], asked: str, told: str):
    code, out, err = doc(capsys, asked)
    assert (code, out) == (2, "")
    assert told in err
    assert "\x1b" not in err
    assert len(err) < 1000


def test_a_file_is_written_once_and_replaced_only_when_told(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = tmp_path / "record.html"
    assert doc(capsys, "shakedown", "--html", "-o", str(path)) == (0, "", "")
    assert Page(path.read_text("utf-8")).open == []
    assert path.read_text("utf-8") == doc(capsys, "shakedown", "--html")[1]
    code, out, err = doc(capsys, "til-22d", "-o", str(path))
    assert (code, out) == (2, "")
    assert f"{path} is there already, nothing was written" in err
    assert "--force" in err
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert doc(capsys, "til-22d", "-o", str(path), "--force")[0] == 0
    assert path.read_text("utf-8").startswith("# TIL expansion")


def test_the_recipe_itself_is_never_written_over(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write(tmp_path, SMALL)
    (tmp_path / "link.yaml").symlink_to(path)
    for out in (path, str(tmp_path / "link.yaml")):
        code, _, err = doc(capsys, path, "-o", out, "--force")
        assert (code, "is the recipe itself" in err) == (2, True)
    assert Path(path).read_text("utf-8") == SMALL


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("/no/such/folder/x.html", "No such file or directory"),
        ("x" * 400, "File name too long"),
        ("/proc/x.html", "cannot be written"),
        ("a\0b", "cannot be written"),
    ],
)
def test_a_place_that_takes_no_file(capsys: pytest.CaptureFixture[str], out: str, told: str):
    code, printed, err = doc(capsys, "shakedown", "-o", out)
    assert (code, printed) == (3, "")
    assert told in err
    assert "give a file in a folder" in err
    assert len(err) < 500


def test_a_disk_that_is_full(capsys: pytest.CaptureFixture[str]):
    code, _, err = doc(capsys, "shakedown", "-o", "/dev/full", "--force")
    assert (code, "No space left" in err) == (3, True)


def test_force_without_a_file_is_a_slip(capsys: pytest.CaptureFixture[str]):
    code, out, err = doc(capsys, "shakedown", "--force")
    assert (code, out, "-o FILE" in err) == (2, "", True)


@pytest.mark.parametrize("words", [[], ["til-22d", "--html", "--markdown"], ["til-22d", "shakedown"]])
def test_wrong_usage_is_2(words: list[str]):
    with pytest.raises(SystemExit) as ended:
        main(["recipe", "doc", *words])
    assert ended.value.code == 2


def test_a_folder_comes_before_the_library(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    write(tmp_path, SMALL.replace("recipe: small", "recipe: shakedown"), "shakedown.yaml")
    assert doc(capsys, "shakedown", "--folder", str(tmp_path))[1].startswith("# A small one")
    assert doc(capsys, "shakedown", "--folder", "/no/such")[0] == 2
