"""What goes wrong before anything runs: each a clear message and the documented exit code, and nothing is touched."""

from __future__ import annotations

import re
import shutil
import socket
import sqlite3
import sys
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cell import Cell, free_port, tilctl, typed, until

from tilctl.cli.exits import Exit
from tilctl.journal.verify import read

WARM, CHANGED = [0x41F0, 0x0000], [0x41F8, 0x0000]  # 30 and 31 degC as float32


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The site file of the demonstration, at a free port."""
    path = tmp_path / "site.yaml"
    text = (files("tilctl.cli") / "demo-site.yaml").read_text()
    path.write_text(text.replace("port: 9464", f"port: {free_port()}"))
    return path


def test_every_finding_in_a_site_file_has_its_place(site: Path) -> None:
    text = site.read_text()
    for good, bad in (
        ("profile: sim-incubator", "profile: sim-oven"),
        ("timeout: 1 s}\n  fluidics", "timeout: 1 mL}\n  fluidics"),
        ("scale: scales.mass_3", "scale: scales.mass_33"),
        ("pump: pump_waste", "pump: pump_wine"),
    ):
        assert good in text
        text = text.replace(good, bad)
    site.write_text(text)
    done = tilctl("run", "--site", site)
    assert (done.returncode, done.stdout) == (Exit.BAD_INPUT, "")
    first, *findings = done.stderr.splitlines()
    assert first == "tilctl run: the site file cannot be used:"
    lines = text.splitlines()
    for wrong in ("sim-oven", "1 mL", "mass_33", "pump_wine"):
        (finding,) = [finding for finding in findings if wrong in finding]
        place = re.match(rf"{re.escape(str(site))}:(\d+):(\d+): error", finding)
        assert place is not None, finding
        line, column = int(place[1]), int(place[2])
        assert wrong in lines[line - 1][column - 1 :], finding
    assert len([finding for finding in findings if "no name 'station." not in finding]) == 4
    assert not (site.parent / "data").exists(), "nothing was made"


@pytest.mark.parametrize(
    ("good", "bad", "code"),
    [
        ("node: suite1", "node: suite1\nnode: suite2", "yaml-duplicate-key"),
        ("node: suite1", "\tnode: suite1", "yaml-tab"),
        ("{host: 127.0.0.1, port", "{host: 127.0.0.1, local, port", "yaml-comma"),
        ("node: suite1", "node: [suite1", "yaml-syntax"),
        ("node: suite1", "node: suite1\nnodule: suite2", "site"),
    ],
)
def test_broken_yaml_is_shown_where_it_breaks(site: Path, good: str, bad: str, code: str) -> None:
    site.write_text(site.read_text().replace(good, bad))
    done = tilctl("run", "--site", site)
    assert done.returncode == Exit.BAD_INPUT
    assert re.search(rf"^{re.escape(str(site))}:\d+:\d+: error\[{code}\]", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_not_there_or_taken_is_named(site: Path, tmp_path: Path) -> None:
    absent = tilctl("run", "--site", tmp_path / "nowhere.yaml")
    assert absent.returncode == Exit.BAD_INPUT
    assert f"{tmp_path}/nowhere.yaml" in absent.stderr

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        site.write_text(re.sub(r"http: .*", f"http: {{host: 127.0.0.1, port: {port}}}", site.read_text()))
        done = tilctl("run", "--site", site)
        assert done.returncode == Exit.UNAVAILABLE
        assert f"HTTP address 127.0.0.1:{port} cannot be opened" in done.stderr
        assert not (tmp_path / "data" / "site.db").exists()

        site.write_text(re.sub(r"port: 5022", f"port: {port}", site.read_text()))
        done = tilctl("simulate", "--site", site)
        assert done.returncode == Exit.UNAVAILABLE
        assert f"bus weighing: cannot listen on 127.0.0.1:{port}" in done.stderr

    (tmp_path / "file").write_text("")
    site.write_text(site.read_text().replace("data: data", "data: file"))
    done = tilctl("run", "--site", site)
    assert done.returncode == Exit.UNAVAILABLE
    assert f"the data folder {tmp_path}/file cannot be used" in done.stderr


def test_a_damaged_record_stops_the_start_before_anything_is_touched(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        cell.start_controller()
        assert cell.command("start", recipe="brief")["status"] == "done"
        until(lambda: cell.has("target_confirmed"), "the incubator has its target")
        cell.kill_controller()
        until(lambda: cell.registers("climate", 1, 3, 0, 4)[:2] == WARM, "30 degC")
        cell.write_registers("climate", 1, 0, CHANGED)  # whoever comes back with a whole record writes 30 degC again
        data, kept = tmp_path / "data", tmp_path / "kept"
        for path in data.glob("**/*.db"):  # what was killed left a log beside the file: bring both together
            with closing(sqlite3.connect(path)) as file:
                file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copytree(data, kept)
        batch = next((data / "batches").glob("*.db"))

        for damage, path, first_bad in (
            (tampered, batch, 4),
            (without_one, batch, 4),
            (cut, batch, None),
            (emptied, batch, None),
            (tampered, data / "site.db", 4),
            (cut, data / "site.db", None),
        ):
            shutil.rmtree(data)
            shutil.copytree(kept, data)
            good = len(read(path)[0])
            damage(path)
            what = f"{path.name} {damage.__name__}"
            done = tilctl("run", "--site", cell.site, "--recipes", Path(__file__).parent)
            assert done.returncode == Exit.RECORD, f"{what}: {done.stderr}"
            assert str(path) in done.stderr, what
            assert "Nothing was touched" in done.stderr, what
            assert "Traceback" not in done.stderr, what
            code, verdict = typed("journal", "verify", path)
            assert code == Exit.NOT_WELL, what
            if first_bad is not None:
                assert f"first bad event {first_bad}:" in verdict, f"{what}: {verdict}"
                assert f"({first_bad - 1} good events)" in verdict, what
                assert f"event {first_bad}" in done.stderr, f"{what}: {done.stderr}"
                assert good > first_bad
            assert cell.registers("climate", 1, 3, 0, 4)[:2] == CHANGED, f"{what}: the plant is as it was"

        shutil.rmtree(data)
        shutil.copytree(kept, data)
        cell.start_controller()
        until(cell.ready, "with its record whole it comes back")
        assert cell.registers("climate", 1, 3, 0, 4)[:2] == WARM, "and sees to the cells"


def change(path: Path, statement: str) -> None:
    """Change a record behind its back: the triggers that refuse it are taken away for a moment."""
    with closing(sqlite3.connect(path)) as file, file:
        triggers = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        assert triggers
        for name, _ in triggers:
            file.execute(f"DROP TRIGGER {name}")
        file.execute(statement)
        for _, text in triggers:
            file.execute(text)


def tampered(path: Path) -> None:
    change(path, "UPDATE events SET event = replace(event, '\"kind\"', '\"kind\" ') WHERE seq = 4")


def without_one(path: Path) -> None:
    change(path, "DELETE FROM events WHERE seq = 4")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")
