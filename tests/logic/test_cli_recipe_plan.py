"""`tilctl recipe plan` as it is typed: what is printed and written, what is refused, and the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.logic.pages import Page
from tilctl.cli.main import main

SITE = Path(__file__).parents[2] / "deploy" / "site.yaml"
START = ("--start", "2026-03-16T08:00")
SMALL = """\
recipe: small
version: "1.0.0"
title: A small one
status: draft
sources: {P: engineering default}
equipment:
  station: {role: bioreactor, needs: [temperature], positions: 4, source: P}
containers:
  pool: {kind: bag, limit: 1 L, holds: buffer, source: P}
parameters:
  rest: {default: 3 h, range: 1..9 h, source: P}
procedure:
- operation: prepare
  steps:
  - ask: {id: look, text: Look at it, sign: [operator]}
  - wait: {id: rest, for: rest, source: P}
  - ask: {id: again, text: Look again}
"""
HOSTILE = """</td></svg><script>alert(1)</script> & <b>x</b> $\\\\frac{$ ]]> "quoted" """


def write(folder: Path, text: str, name: str = "small.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def plan(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["recipe", "plan", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_plan_of_the_main_recipe(capsys: pytest.CaptureFixture[str]):
    code, out, err = plan(capsys, "til-22d", *START, "--zone", "Europe/Berlin", "--holiday", "2026-04-03", "2026-04-06")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "TIL expansion in 22 days, cryopreserved"
    for told in (
        "Standing:      An estimate: a dry run of the typical donor on a simulated plant whose model is not calibrated",
        "Ends as:       complete",
        "Start:         Mon 2026-03-16 08:00 +01:00",
        "Holidays:      2026-04-03, 2026-04-06",
        "Operations",
        "cm1      CM1: RPMI-type medium",
        "CS10: 10 % DMSO, 2 to 8 degC ",
    ):
        assert any(line.startswith(told) for line in lines), told
    (harvest,) = [line for line in lines if line.endswith("harvest: Harvest, count and wash, day 22")]
    assert "+02:00" in harvest, "clocks were put forward meanwhile"
    assert "Best starts" not in out
    assert plan(capsys, "til-22d", *START, "--zone", "Europe/Berlin", "--holiday", "2026-04-06", "--holiday",
                "2026-04-03")[1] == out, "the same plan each time"  # fmt: skip


def test_the_zone_is_that_of_the_site_or_the_one_given(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write(tmp_path, SMALL)
    site = write(tmp_path, SITE.read_text("utf-8").replace("Etc/UTC", "Asia/Kolkata"), "site.yaml")
    for words, zone, start in (
        ((), "Etc/UTC", "08:00:00+00:00"),
        (("--site", site), "Asia/Kolkata", "08:00:00+05:30"),
        (("--zone", "Europe/Berlin"), "Europe/Berlin", "08:00:00+01:00"),
    ):
        told = json.loads(plan(capsys, path, *START, *words, "--json")[1])
        assert (told["zone"], told["start"]) == (zone, f"2026-03-16T{start}")


def test_json_is_one_object_and_says_what_was_given(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write(tmp_path, SMALL)
    code, out, _ = plan(
        capsys, path, "--json", *START, "--set", "rest=5 h", "--hours", "07:30-16:00", "--weekdays", "mon,wed",
        "--suggest",
    )  # fmt: skip
    told = json.loads(out)
    assert (code, len(out.splitlines())) == (0, 1)
    assert told["parameters"] == {"rest": "5 h"}
    assert told["working"] == {"hours": "07:30-16:00", "weekdays": "mon,wed", "holidays": []}
    first, second = told["visits"]
    assert (first["signs"], second["signs"]) == (["operator"], [])
    assert first["steps"][0]["words"] == "Look at it"
    assert len(told["suggestions"]) == 5
    assert json.loads(plan(capsys, path, "--json", *START)[1])["suggestions"] == []


def test_better_starts_are_printed_beside_the_one_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    out = plan(capsys, write(tmp_path, SMALL), "--start", "2026-03-20T16:00", "--suggest")[1]
    best = out[out.index("Best starts") :]
    assert "Mon 2026-03-23 08:00 +00:00" in best
    assert "The start that was asked for leaves 1 visit" in best


# --- files ------------------------------------------------------------------------------------------------------------


def test_chart_and_page_are_written_the_same_each_time(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    files = [(tmp_path / f"{n}.svg", tmp_path / f"{n}.html") for n in "ab"]
    for svg, html in files:
        words = ("--zone", "Europe/Berlin", "--svg", str(svg), "--html", str(html), "--suggest")
        assert plan(capsys, "til-22d", *START, *words)[0] == 0
    chart, text = (file.read_text("utf-8") for file in files[0])
    assert [file.read_text("utf-8") for file in files[1]] == [chart, text]
    assert ET.fromstring(chart).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - ours
    named = ("day0", "rep_start", "harvested", "cryopreserve", "visits", "working time", "simulated, uncalibrated")
    for words in (*named, "Tue 03-17", "local time, Europe/Berlin"):
        assert words in chart
    page = Page(text)
    assert page.open == []
    assert page.tags.count("svg") == 1
    assert not {"script", "link", "img", "iframe", "a", "object", "form", "metadata"} & set(page.tags)
    assert {name for name, _ in page.attributes if "href" in name or name == "src"} <= {"xlink:href"}
    assert {(value or "")[0] for name, value in page.attributes if name == "xlink:href"} == {"#"}
    assert "size: A4" in text
    heads = [row for row in page.rows if row[0] in ("begin", "visit", "bag", "content", "drawn", "start")]
    assert [head[0] for head in heads] == ["begin", "visit", "visit", "bag", "content", "drawn", "start"]
    rows = {row[0]: row for row in page.rows}
    assert rows["cm1"][2:5] == ["1", "1", "4080 mL"]
    assert rows["Start"] == ["Start", "Mon 2026-03-16 08:00 +01:00"]
    (other,) = [file for file, _ in files[1:]]
    assert plan(capsys, "til-22d", "--start", "2026-03-16T09:00", "--svg", str(other), "--force")[0] == 0
    assert other.read_text("utf-8") != chart


def test_texts_of_a_recipe_are_no_html(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    quoted = HOSTILE.replace('"', '\\"') + r"\e]0;owned\a\nline"
    text = SMALL.replace("title: A small one", f'title: "{quoted}"').replace("text: Look at it", f'text: "{quoted}"')
    text = text.replace("\\frac{", "\\frac{{")
    out = tmp_path / "plan.html"
    code, printed, err = plan(capsys, write(tmp_path, text), *START, "--html", str(out))
    assert (code, err) == (0, "")
    page = Page(out.read_text("utf-8"))
    assert page.open == []
    assert not {"script", "b"} & set(page.tags)
    assert any("<script>alert(1)</script> & <b>x</b>" in cell for row in page.rows for cell in row)
    assert "\x1b" not in printed + out.read_text("utf-8")


def test_files_are_written_once_and_replaced_only_when_told(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path, svg, html = write(tmp_path, SMALL), tmp_path / "plan.svg", tmp_path / "plan.html"
    html.write_text("mine", "utf-8")
    code, out, err = plan(capsys, path, *START, "--svg", str(svg), "--html", str(html))
    assert (code, out) == (2, "")
    assert f"--html: {html} is there already, nothing was written" in err
    assert (svg.exists(), html.read_text("utf-8")) == (False, "mine")
    assert plan(capsys, path, *START, "--svg", str(svg), "--html", str(html), "--force")[0] == 0
    assert html.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_what_is_read_is_never_written_over(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path, site = write(tmp_path, SMALL), write(tmp_path, SITE.read_text("utf-8"), "site.yaml")
    for option, file, name in (("--svg", path, "recipe"), ("--html", site, "site file")):
        code, _, err = plan(capsys, path, *START, "--site", site, option, file, "--force")
        assert (code, f"is the {name} itself" in err) == (2, True)
    code, _, err = plan(capsys, path, *START, "--svg", str(tmp_path / "x"), "--html", str(tmp_path / "x"))
    assert (code, "give two files" in err) == (2, True)
    assert (Path(path).read_text("utf-8"), (tmp_path / "x").exists()) == (SMALL, False)


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["stopped", "held"])
def test_a_batch_that_does_not_come_to_its_end_is_told_with_its_reason(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, end: str
):
    step, why = {
        "stopped": ("end: {as: stopped, reason: nothing grew}", "nothing grew"),
        "held": ("wait: {id: hot, until: station.temperature > 45 degC, timeout: 1 h, source: P}", "did not come true"),
    }[end]
    path, page = write(tmp_path, f"{SMALL}  - {step}\n"), tmp_path / "plan.html"
    code, out, err = plan(capsys, path, *START, "--html", str(page))
    assert (code, err) == (1, "")
    (told,) = [line for line in out.splitlines() if line.startswith("Ends as:")]
    assert end in told and why in told  # noqa: PT018
    assert why in page.read_text("utf-8")
    code, out, _ = plan(capsys, path, *START, "--json")
    assert (code, json.loads(out)["ended"]) == (1, end)
    assert why in json.loads(out)["reason"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--start", "tomorrow"), "--start: 'tomorrow' is no moment: expected local time"),
        (("--start", "2026-03-29T02:30", "--zone", "Europe/Berlin"), "clocks are put forward over it"),
        (("--start", "2026-10-25T02:30", "--zone", "Europe/Berlin"), "2026-10-25T02:30+02:00 or"),
        ((*START, "--zone", "Europe"), "--zone: no time zone is called 'Europe'"),
        ((*START, "--zone", ""), "--zone: no time zone is called ''"),
        ((*START, "--site", "no-such.yaml"), "the site file cannot be used:\nno-such.yaml:1:1: error[file-missing]"),
        ((*START, "--hours", "17:00-08:00"), "--hours: '17:00-08:00' end before they begin"),
        ((*START, "--hours", "08:00-24:00"), "write 23:59, which means to the end of the day"),
        ((*START, "--weekdays", "monday"), "--weekdays: 'monday' are no weekdays: expected days such as mon-fri"),
        ((*START, "--holiday", "2026-02-30"), "--holiday: '2026-02-30' is no date"),
        ((*START, "--set", "speed=3"), "--set: speed is unknown (there are: rest)"),
        ((*START, "--set", "rest=10 h"), "its range is"),
        ((*START, "--set", "rest=10 mL"), "--set: rest:"),
        ((*START, "--set", "rest"), "expected name=value"),
        ((*START, "--force"), "say which file may be replaced"),
        ((*START, "--folder", "/no/such"), "is no folder"),
    ],
)
def test_what_is_given_wrong_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], told: str
):
    code, out, err = plan(capsys, write(tmp_path, SMALL), *words)
    assert (code, out) == (2, "")
    assert told in err


@pytest.mark.parametrize(
    ("old", "new", "code"), [("for: rest", "for: nap", "name-unknown"), ("status: draft", "status: fine", "schema")]
)
def test_a_recipe_with_errors_is_refused_as_the_check_tells_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, old: str, new: str, code: str
):
    path = write(tmp_path, SMALL.replace(old, new))
    assert main(["recipe", "check", path]) == 1
    errors = [line for line in capsys.readouterr().out.splitlines() if "error[" in line]
    exit_code, out, err = plan(capsys, path, *START)
    assert (exit_code, out) == (2, "")
    assert errors
    assert all(line in err.splitlines() for line in errors)
    assert f"error[{code}]" in err
    assert plan(capsys, "no-such", *START)[0] == 2


def test_a_place_that_takes_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write(tmp_path, SMALL)
    for out in ("/no/such/folder/x.svg", "x" * 400, "a\0b"):
        code, printed, err = plan(capsys, path, *START, "--svg", out)
        assert (code, printed) == (3, "")
        assert "--svg: " in err and "cannot be written" in err  # noqa: PT018


@pytest.mark.parametrize("words", [[], ["til-22d"], ["til-22d", *START, "--zone", "Etc/UTC", "--site", "x"]])
def test_wrong_usage_is_2(words: list[str]):
    with pytest.raises(SystemExit) as ended:
        main(["recipe", "plan", *words])
    assert ended.value.code == 2


def test_freezing_profiles_of_a_folder_are_found(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "freezing").mkdir()
    quick = (Path(__file__).parents[2] / "recipes/library/freezing/S1-quick.yaml").read_text("utf-8")
    write(tmp_path / "freezing", quick.replace("profile: S1-quick", "profile: OURS"), "OURS.yaml")
    text = SMALL.replace("parameters:", "  cold: {kind: bag, limit: 1 L, source: P}\nparameters:")
    text = text.replace("containers:", "  freezer: {role: freezer, shared: true}\ncontainers:")
    text = text.replace("- operation: prepare\n", "- operation: prepare\n  using: [freezer]\n")
    steps = (
        "  - mount: {id: in, containers: cold, volume: 0 mL, source: P}\n"
        "  - freeze: {id: run, with: freezer, load: cold, profile: OURS, source: P}\n"
    )
    code, out, _ = plan(capsys, write(tmp_path, text + steps), *START, "--folder", str(tmp_path))
    assert (code, "complete" in out) == (0, True)


def test_the_help_of_recipes_does_not_wait_for_the_plant():
    look = (
        "import sys\nfrom tilctl.cli.main import main\n"
        "try:\n    main(['recipe', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'matplotlib', 'simulators.plant', 'tilctl.engine.binding', 'pymodbus'} & set(sys.modules)\n"
        "sys.exit(f'{heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
