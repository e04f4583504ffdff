"""What README and ARCHITECTURE say is so: what can be tried is tried, what is listed is complete."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

from pydantic import TypeAdapter

from devices import document
from devices.clock import SystemClock
from recipes import catalog
from recipes.check import check
from recipes.steps import VERBS as STEPS
from tilctl.cli.exits import Exit
from tilctl.cli.main import COMMANDS
from tilctl.commands.verbs import VERBS
from tilctl.config.schema import CalibrationEntry, EquipmentEntry
from tilctl.guard.alarm import table_text
from tilctl.journal.events import BatchHead, SiteOpened
from tilctl.journal.store import Journal

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
WHOLE = ("verbs", "physics", "history", "config", "profiles", "library")  # folders that are told of as one


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_exit_codes_are_those_of_the_program() -> None:
    told = re.findall(r"^\| (\d+) \| `(\w+)` \|", README, flags=re.MULTILINE)
    assert [(int(code), name) for code, name in told] == [(code.value, code.name) for code in Exit]


def test_the_verbs_are_all_there() -> None:
    for verb in (*STEPS, *VERBS):
        assert f"`{verb}`" in README, verb


def test_the_commands_that_are_shown_exist() -> None:
    for line in "\n".join(blocks("sh")).splitlines():
        words = line.split()
        if words[:1] == ["tilctl"]:
            assert words[1] in COMMANDS, line


def test_the_recipe_has_nothing_wrong_and_its_mistakes_are_found_as_told() -> None:
    (text,) = [block for block in blocks("yaml") if "procedure:" in block]
    recipe, found = check(document.parse(text, "top-up.yaml"))
    assert recipe is not None
    assert found == []
    wrong = text.replace("station.temperature: 37 degC", "station.temperature: 37 mL").replace(
        "fill, rate", "fil, rate"
    )
    shown = [str(finding) for finding in check(document.parse(wrong, "top-up.yaml"))[1]]
    told = [line for block in blocks("text") for line in block.splitlines() if line.startswith("top-up.yaml:")]
    assert len(told) == 3
    assert set(told) <= set(shown)


def test_the_fragment_can_be_included_as_told(tmp_path: Path) -> None:
    (fragment,) = [block for block in blocks("yaml") if block.startswith("fragment:")]
    (text,) = [block for block in blocks("yaml") if "procedure:" in block]
    (tmp_path / "fragments").mkdir()
    (tmp_path / "fragments" / "rinse.yaml").write_text(fragment)
    include = "  - include: {fragment: rinse, with: {bag: medium}}\n  - incubate:"
    (tmp_path / "top-up.yaml").write_text(text.replace("  - incubate:", include))
    recipe, found = check(catalog.find(tmp_path / "top-up.yaml"))
    assert recipe is not None
    assert found == []
    assert 'volume: "min((50 mL), medium.volume)"' in catalog.find(tmp_path / "top-up.yaml").text


def test_the_equipment_is_as_a_site_file_takes_it() -> None:
    (text,) = [block for block in blocks("yaml") if "calibrations:" in block]
    data = document.parse(text, "site.yaml").data
    equipment = TypeAdapter(dict[str, EquipmentEntry]).validate_python(data["equipment"])
    assert {entry.kind for entry in equipment.values()} == {"climate", "pump", "valves", "freezer-programmer"}
    TypeAdapter(dict[str, list[CalibrationEntry]]).validate_python(data["calibrations"])


async def make_record(path: Path) -> str:
    """Make a record of two events and return its head."""
    clock = SystemClock()
    journal = await Journal.create(path, clock, SiteOpened("demo", "suite1", "0"))
    record = await journal.record(BatchHead("one", 7, "0" * 64))
    await journal.close()
    clock.close()
    return record.hash


def test_the_record_can_be_checked_with_the_standard_library_alone(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    head = asyncio.run(make_record(path))
    words = [sys.executable, "-I", "-c", *blocks("python"), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == f"intact, head {head}\n", done.stderr
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER events_unchanged")
        connection.execute("UPDATE events SET event = replace(event, '7', '8') WHERE seq = 2")
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode != 0
    assert "AssertionError: event 2" in done.stderr


def test_the_architecture_tells_of_every_file_and_of_none_that_is_gone() -> None:
    modules = [path for top in ("devices", "recipes", "simulators", "tilctl") for path in (ROOT / top).rglob("*.py")]
    stems = {path.stem for path in modules if not path.stem.startswith("_") and path.parent.name not in WHOLE}
    section = ARCHITECTURE.split("\n## Files\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    told = {Path(name).stem for row in rows for name in re.findall(r"`([\w/*]+(?:\.py)?)`", row.split("|")[1])}
    wild = [name.rstrip("*") for name in told if name.endswith("*")]
    assert {stem for stem in stems - told if not stem.startswith(tuple(wild))} == set(), "not told of"
    there = {path.stem for path in modules} | {*WHOLE}
    assert {name for name in told if not name.endswith("*")} - there == set(), "gone"


def test_each_of_the_known_field_problems_has_a_test() -> None:
    """Those of Modbus instruments, numbered, that the drivers are made for: each test says which row it is of."""
    told = {
        int(row)
        for path in (ROOT / "tests").rglob("*.py")
        for row in re.findall(r"Row (\d+):", path.read_text("utf-8"))
    }
    assert told == set(range(1, 29))


def test_the_table_of_alarms_is_the_one_that_is_in_force() -> None:
    assert table_text() in ARCHITECTURE
