"""`tilctl recipe` as it is typed: what is printed, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recipes import shelf
from recipes.steps import VERBS
from tilctl.cli.main import main

SMALL = """\
recipe: small
version: "1.0.0"
title: A small one
status: draft
sources: {P: engineering default}
equipment:
  station: {role: bioreactor, needs: [temperature], positions: 4, source: P}
containers:
  pre: {kind: vessel, limit: 1 L, source: P}
procedure:
- operation: prepare
  steps:
  - set: {id: climate, station.temperature: 37 degC, source: P}
  - end: {as: complete, reason: done}
"""


def write(folder: Path, text: str, name: str = "small.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def tilctl(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["recipe", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_library_is_without_errors_and_without_warnings(capsys: pytest.CaptureFixture[str]):
    code, out, err = tilctl(capsys, "check", "til-22d", "shakedown", "F3", "--strict")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "til-22d: recipe til-22d 1.0.0: no errors, no warnings",
        "shakedown: recipe shakedown 1.0.0: no errors, no warnings",
        "F3: freezing profile F3 1.0.0: no errors, no warnings",
    ]


@pytest.mark.parametrize(
    ("old", "new", "place", "code"),
    [
        ("title:", "version: '2'\ntitle:", "3:1", "yaml-duplicate-key"),
        ("  station:", "\tstation:", "7:1", "yaml-tab"),
        ("reason: done", "reason: done, really", "14:39", "yaml-comma"),
        ("station.temperature: 37 degC", "station.temperature: 37 mL", "13:45", "dimension"),
        ("station.temperature: 37", "station.pressure: 37", "13:24", "tag-unknown"),
        ("role: bioreactor", "role: teapot", "7:13", "role-unknown"),
        ("end: {as: complete", "end: {at: complete", "14:11", "schema"),
        ("procedure:", "procedure: {", "", "yaml-syntax"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, old: str, new: str, place: str, code: str
):
    assert SMALL.count(old) == 1
    path = write(tmp_path, SMALL.replace(old, new))
    exit_code, out, _ = tilctl(capsys, "check", path)
    assert exit_code == 1
    assert f"{path}:{place}" in out
    assert f"error[{code}]" in out
    assert out.splitlines()[-1].startswith(f"{path}: recipe")


def test_a_warning_is_an_error_only_when_strict(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write(tmp_path, SMALL.replace("37 degC, source: P", "37 degC"))
    code, out, _ = tilctl(capsys, "check", path)
    assert (code, "warning[" in out) == (0, True)
    assert out.splitlines()[-1] == f"{path}: recipe small 1.0.0: no errors, 1 warning"
    assert tilctl(capsys, "check", path, "--strict")[0] == 1


def test_json_holds_every_finding(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    good = write(tmp_path, SMALL)
    bad = write(tmp_path, SMALL.replace("37 degC", "37 mL"), "bad.yaml")
    code, out, _ = tilctl(capsys, "check", good, bad, "--json")
    told: dict[str, Any] = json.loads(out)
    assert (code, told["ok"], [file["ok"] for file in told["files"]]) == (1, False, [True, False])
    assert told["files"][0] == {
        "file": good, "kind": "recipe", "name": "small", "version": "1.0.0", "ok": True, "readable": True,
        "diagnostics": [],
    }  # fmt: skip
    (found,) = told["files"][1]["diagnostics"]
    assert (found["severity"], found["code"], found["file"], found["line"]) == ("error", "dimension", bad, 13)
    assert found["hint"]


@pytest.mark.parametrize(("name", "hint"), [("no-such.yaml", "looked in"), ("nonsense", "shakedown"), ("/", "")])
def test_what_cannot_be_read_ends_with_2_and_the_rest_is_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, hint: str
):
    bad = write(tmp_path, SMALL.replace("37 degC", "37 mL"))
    code, out, _ = tilctl(capsys, "check", name, bad)
    assert code == 2
    assert f"{name}: not checked" in out
    assert hint in out
    assert "error[dimension]" in out


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\x00\xff\xfe\x00recipe", "yaml-syntax"),
        (b"recipe: " + b"[" * 5000, "yaml-"),
        (b"#" * (2 << 20), "yaml-too-large"),
        (b"", "schema"),
        (b"- a\n- b\n", "yaml-"),
        (b"a: &x [1]\nb: *x\n", "yaml-"),
        (b"recipe: !!python/object/apply:os.system [id]\n", "yaml-"),
    ],
)
def test_any_bytes_are_judged_and_none_is_a_crash(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, code: str
):
    path = tmp_path / "hostile.yaml"
    path.write_bytes(content)
    exit_code, out, _ = tilctl(capsys, "check", str(path))
    assert exit_code == 1
    assert f"error[{code}" in out


def test_a_file_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write(tmp_path, SMALL.replace("role: bioreactor", r'role: "\e]0;owned\a\nsmall.yaml: no errors"'))
    code, out, _ = tilctl(capsys, "check", path)
    assert code == 1
    assert "\x1b" not in out
    assert "\a" not in out
    assert len(out.splitlines()) == 2, "a text of the file does not become a line of ours"


def test_a_folder_comes_before_the_library(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    write(
        tmp_path, SMALL.replace("recipe: small", "recipe: shakedown").replace("A small one", "Ours"), "shakedown.yaml"
    )
    write(tmp_path, "recipe: [", "broken.yaml")
    code, out, _ = tilctl(capsys, "list", "--folder", str(tmp_path))
    assert code == 0
    names = sorted({*shelf.paths(shelf.RECIPES), "broken"})
    assert [line.split()[0].rstrip(":") for line in out.splitlines()] == names
    assert "Ours" in out
    assert "broken: cannot be used" in out
    listed = json.loads(tilctl(capsys, "list", "--json", "--folder", str(tmp_path))[1])["recipes"]
    assert [(entry["name"], bool(entry["problem"])) for entry in listed] == [(name, name == "broken") for name in names]
    paths = {entry["name"]: entry["path"] for entry in listed}
    assert paths["shakedown"] == str(tmp_path / "shakedown.yaml")
    assert "Ours" not in tilctl(capsys, "list")[1]


def test_a_code_is_explained(capsys: pytest.CaptureFixture[str]):
    code, out, _ = tilctl(capsys, "explain", "name-unknown")
    assert (code, out.startswith("## `name-unknown` (error)")) == (0, True)
    assert "dya" in out
    assert "overfill-possible" in tilctl(capsys, "explain")[1].splitlines()
    code, out, err = tilctl(capsys, "explain", "name-unkown")
    assert (code, out) == (2, "")
    assert "did you mean name-unknown" in err
    assert tilctl(capsys, "explain", "\x1b[31m")[0] == 2


def test_a_folder_that_is_none_is_bad_input(capsys: pytest.CaptureFixture[str]):
    code, out, err = tilctl(capsys, "list", "--folder", "/no/such/folder")
    assert (code, out) == (2, "")
    assert "/no/such/folder is no folder" in err


def test_the_schema_knows_every_verb(capsys: pytest.CaptureFixture[str]):
    code, out, _ = tilctl(capsys, "schema")
    schema = json.loads(out)
    assert code == 0
    assert {verb for step in schema["$defs"]["Step"]["oneOf"] for verb in step["properties"]} == {*VERBS, "include"}
    assert "takes" in json.loads(tilctl(capsys, "schema", "--fragment")[1])["properties"]
    assert "rows" in json.loads(tilctl(capsys, "schema", "--freezing")[1])["properties"]


@pytest.mark.parametrize("words", [[], ["check"], ["bake"], ["check", "til-22d", "--nonsense"]])
def test_wrong_usage_is_2(words: list[str]):
    with pytest.raises(SystemExit) as ended:
        main(["recipe", *words])
    assert ended.value.code == 2


def test_a_reader_that_goes_away_is_no_fault():
    """`tilctl recipe schema | head -1`: no traceback, no complaint of the interpreter."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tilctl.cli.main", "recipe", "schema"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 3  # it was not told in full, so nothing is claimed of it
