"""Who may have the instruments: no controller runs, no batch has them, or manual mode is on the record."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from devices.clock import SystemClock
from devices.equipment.spec import parts_of
from tilctl.cli.commissioning.granted import in_use, person
from tilctl.cli.main import main
from tilctl.cli.run import only_one
from tilctl.config import load_site
from tilctl.journal.chain import SCHEMA
from tilctl.journal.events import SiteOpened
from tilctl.journal.store import Journal
from tilctl.journal.verify import read

sys.path.insert(0, str(Path(__file__).parent))

from commissioned import Plant, batch, notes, running, target, tilctl


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with running(tmp_path_factory.mktemp("plant")) as served:
        yield served


# --- who may


CONTACT = [
    ("check", "incubator"),
    ("probe", "incubator", "--count", "1"),
    ("scan", "--bus", "climate", "--units", "1"),
    ("read", "incubator", "temperature"),
    ("write", "incubator", "set_temperature", "value=37", "--yes"),
]


@contextmanager
def untouched(plant: Plant) -> Iterator[None]:
    before = target(plant)
    yield
    assert target(plant) == before


@pytest.mark.parametrize("words", CONTACT, ids=[words[0] for words in CONTACT])
def test_beside_a_running_controller_nobody_has_the_instruments(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path, words: tuple[str, ...]
):
    site = plant.site(tmp_path)
    verb, *rest = words
    with only_one(load_site(site)), untouched(plant):
        for more in ((), ("--manual-mode", "--reason", "I want to")):
            code, out, err = tilctl(capsys, verb, *rest, "--site", site, *more)
            assert (code, out) == (3, "")
            assert "another controller runs" in err


def test_who_has_the_site_is_named_by_process_and_purpose(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    """A forgotten probe keeps the controller from starting: it is no other controller, and it says what it is."""
    site = plant.site(tmp_path)
    words = ["device", "probe", "incubator", "--site", str(site), "--json"]
    with subprocess.Popen([sys.executable, "-m", "tilctl.cli.main", *words], stdout=subprocess.PIPE) as forgotten:
        try:
            assert forgotten.stdout is not None
            assert forgotten.stdout.readline()
            says = (
                f"data is taken by tilctl device, probe of incubator, by {person()} (process {forgotten.pid}): let it"
            )
            assert main(["run", "--site", str(site)]) == 3
            err = capsys.readouterr().err
            assert says in err
            assert "controller" not in err
            assert says in tilctl(capsys, "read", "incubator", "temperature", "--site", site)[2]
        finally:
            forgotten.kill()
    with only_one(load_site(site)):  # what was killed left its name, and that counts no more
        assert main(["run", "--site", str(site)]) == 3
        assert f"another controller runs on {tmp_path / 'data'} (process {os.getpid()})" in capsys.readouterr().err
    assert (tmp_path / "data" / "lock").read_bytes() == b""


@pytest.mark.parametrize("words", CONTACT, ids=[words[0] for words in CONTACT])
def test_an_instrument_of_a_batch_is_refused_unless_manual_mode_is_on_record(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path, words: tuple[str, ...]
):
    site = plant.site(tmp_path)
    batch(site)
    verb, *rest = words
    with untouched(plant):
        code, out, err = tilctl(capsys, verb, *rest, "--site", site)
        assert (code, out) == (1, "")
        assert "in use by a batch: incubator: batch b1 on cell1" in err
        code, out, err = tilctl(capsys, verb, *rest, "--site", site, "--manual-mode")
        assert (code, out) == (2, "")
        assert "needs --reason" in err
    assert not (tmp_path / "data" / "site.db").exists()
    code, out, err = tilctl(capsys, verb, *rest, "--site", site, "--manual-mode", "--reason", "sensor exchanged")
    assert code == 0, err
    assert out
    granted = notes(site)[0]
    assert granted.exception
    assert granted.text.startswith("manual mode, ")
    assert "incubator" in granted.text or "climate" in granted.text
    assert "sensor exchanged [incubator batch b1 on cell1]" in granted.text


def test_other_instruments_and_those_of_a_batch_that_is_over_are_free(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path)
    path = batch(site)
    assert tilctl(capsys, "read", "freezer", "ready", "--site", site)[0] == 0, "it is shared, and not taken"
    for name, point in (("scales", "mass_1"), ("pump_media", "running"), ("valves_waste", "suction")):
        assert tilctl(capsys, "read", name, point, "--site", site)[0] == 1, "places and lines belong to the unit too"
    path.unlink()
    path = batch(site, bindings={"freezer": "freezer"})
    assert tilctl(capsys, "read", "freezer", "ready", "--site", site)[0] == 1
    path.unlink()
    batch(site, closed=True)
    assert tilctl(capsys, "read", "incubator", "temperature", "--site", site)[0] == 0


def test_a_record_that_cannot_be_read_may_have_any_instrument(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path)
    path = batch(site, closed=True)
    assert tilctl(capsys, "read", "freezer", "ready", "--site", site)[0] == 0
    with closing(sqlite3.connect(path)) as connection, connection:  # its end is not what was written
        connection.execute("DROP TRIGGER events_unchanged")
        connection.execute("UPDATE events SET t = '2026-01-01T00:00:00.000Z' WHERE seq = 3")
        connection.execute(SCHEMA["events_unchanged"])
    assert tilctl(capsys, "read", "incubator", "temperature", "--site", site)[0] == 1
    path.unlink()
    path = batch(site, closed=True)
    path.write_bytes(path.read_bytes()[:512])
    code, out, err = tilctl(capsys, "read", "freezer", "ready", "--site", site)
    assert (code, out) == (1, "")
    assert "b1.db cannot be read" in err


def test_the_parts_of_equipment_belong_to_the_batch_too(tmp_path: Path):
    shutil.copy(str(files("tilctl.cli") / "lab-eurotherm.yaml"), tmp_path / "site.yaml")
    site = load_site(tmp_path / "site.yaml")
    parts = {part for spec in site.equipment.values() for part in parts_of(spec)}
    assert parts
    batch(tmp_path / "site.yaml")
    taken = in_use(site, list(site.devices))
    unit = site.units["cell1"]
    owned = {part for role in unit.roles.values() for part in parts_of(site.equipment[role.device])}
    owned |= {part for line in unit.lines for part in parts_of(site.equipment[line.pump])}
    assert owned
    assert owned <= set(taken)
    assert set(taken.values()) == {"batch b1 on cell1"}


def test_equipment_of_parts_is_told_from_an_instrument(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    shutil.copy(str(files("tilctl.cli") / "lab-eurotherm.yaml"), tmp_path / "site.yaml")
    for words in (("read", "pump_media", "running"), ("check", "pump_media"), ("write", "pump_media", "stop", "--yes")):
        code, out, err = tilctl(capsys, *words, "--site", tmp_path / "site.yaml")
        assert (code, out) == (2, "")
        assert "pump_media is equipment of parts" in err
        for part in parts_of(load_site(tmp_path / "site.yaml").equipment["pump_media"]):
            assert part in err


def test_the_time_of_the_record_never_goes_back(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    """The wall clock may have been set back since; a note of ours still comes after what is there."""
    site = plant.site(tmp_path)

    class Ahead(SystemClock):
        def now(self) -> datetime:
            return super().now() + timedelta(hours=1)

    async def make() -> None:
        clock = Ahead()
        journal = await Journal.create(tmp_path / "data" / "site.db", clock, SiteOpened("demo", "suite1", "0"))
        await journal.close()
        clock.close()

    asyncio.run(make())
    assert tilctl(capsys, "write", "incubator", "set_temperature", "value=37", "--site", site, "--yes")[0] == 0
    records, verdict = read(tmp_path / "data" / "site.db")
    assert verdict.ok
    assert len(records) == 3
    assert sorted(record.t for record in records) == [record.t for record in records]


def test_manual_mode_goes_on_the_record_that_is_there(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    site = plant.site(tmp_path)
    batch(site)
    for reason in ("first", "second"):
        words = ("read", "incubator", "temperature", "--site", site, "--manual-mode", "--reason", reason)
        assert tilctl(capsys, *words)[0] == 0  # type: ignore[arg-type]
    assert [note.text.split(": ")[1].split(" [")[0] for note in notes(site)] == ["first", "second"]
    other = plant.site(tmp_path, ("site: demo", "site: elsewhere"))
    words = ("read", "incubator", "temperature", "--site", other, "--manual-mode", "--reason", "third")
    code, out, err = tilctl(capsys, *words)  # type: ignore[arg-type]
    assert (code, out) == (4, "")
    assert "is not the record of site elsewhere" in err
    assert len(notes(site)) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("check", "teapot"), "no instrument is called 'teapot'; the site file has incubator"),
        (("probe", "incubator", "--every", "soon"), "--every"),
        (("probe", "incubator", "--every", "0 s"), "--every"),
        (("probe", "incubator", "--count", "-1"), "--count"),
        (("read", "incubator", "temperature", "--manual-mode", "--reason", " "), "--reason"),
        (("scan", "--bus", "nowhere", "--units", "1"), "no bus is called 'nowhere'; the site has climate"),
    ],
)
def test_bad_input_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path, words: tuple[str, ...], says: str
):
    verb, *rest = words
    code, out, err = tilctl(capsys, verb, *rest, "--site", plant.site(tmp_path))
    assert (code, out) == (2, "")
    assert says in err
    assert [line for line in err.splitlines() if says in line] == err.splitlines()[-1:]


def test_what_people_get_from_json_is_json(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    site = plant.site(tmp_path)
    words: list[Any] = ["write", "incubator", "set_temperature", "value=37", "--site", site, "--yes", "--json"]
    code, out, _ = tilctl(capsys, words[0], *words[1:])
    assert code == 0
    assert json.loads(out)["done"] is True
