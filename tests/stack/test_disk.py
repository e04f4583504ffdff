"""The shipped controller on a disk of its own that fills up, stands still, and turns read-only: a real file system.

What must hold: nothing new is begun, the cells keep their targets, hold and abort act, people are told by ways that
need no record, and when the disk is back a person's restart opens the record again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "process"))
from cell import Cell, until
from mosquitto import Mosquitto

from tilctl.journal.verify import read, verify

SIZE_MB = 400  # well above what is called low


class Disk:
    """An ext4 file system in a file, mounted on a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "data"
        self._image = folder / "disk.img"
        self._frozen = False

    def make(self) -> None:
        """Raises CalledProcessError where one may not mount."""
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(SIZE_MB * 1_000_000)
        _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", str(self._image))
        self.mount()

    def mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.path))

    def unmount(self) -> None:
        _run("umount", str(self.path))

    def fill(self) -> None:
        free = os.statvfs(self.path)
        with (self.path / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 64 * 1024)
        with (self.path / "crumbs").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def make_room(self) -> None:
        for name in ("filler", "crumbs"):
            (self.path / name).unlink()

    def freeze(self) -> None:
        _run("fsfreeze", "-f", str(self.path))
        self._frozen = True

    def thaw(self) -> None:
        if self._frozen:
            _run("fsfreeze", "-u", str(self.path))
            self._frozen = False

    def turn_read_only(self) -> None:
        """As the kernel does when it finds the file system damaged."""
        _run("mount", "-o", "remount,abort", str(self.path))


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=60)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of its own, or a named skip."""
    missing = [name for name in ("mkfs.ext4", "mount", "fsfreeze") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing else'} to mount a file system")
    disk = Disk(tmp_path)
    try:
        disk.make()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"may not mount a file system here: {error.stderr.decode().strip()}")
    yield disk
    disk.thaw()
    subprocess.run(["umount", "-l", str(disk.path)], check=False, capture_output=True)


class Scene:
    """A suite whose records lie on the disk of a test."""

    def __init__(self, cell: Cell, broker: Mosquitto, disk: Disk) -> None:
        self.cell, self.broker, self.disk = cell, broker, disk

    def start(self) -> None:
        self.cell.start_controller()
        until(lambda: (ready := self.cell.ready()) and ready["mqtt_connected"], "the controller is there")

    def into_the_second_dose(self) -> None:
        assert self.cell.command("start", recipe="quick")["status"] == "done"
        until(lambda: self.cell.has("intent_opened", path="fill/second"), "the second dose begins")

    def metric(self, name: str) -> float | None:
        lines: list[str] = self.cell.get("/metrics")[1].splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), None)

    def state(self) -> float | None:
        return self.metric('tilctl_unit_state{unit="cell1"}')

    def held_and_told(self, why: str) -> None:
        """What people see, and by which ways."""
        until(lambda: self.state() == 60.0, "the batch is held", within=60)
        status, text = self.cell.get("/healthz")
        assert (status, json.loads(text)["ok"]) == (503, False)
        assert "cell1" in json.loads(text)["record_failed"]
        assert self.metric('tilctl_journal_failed{unit="cell1"}') == 1.0
        alarm = until(lambda: self.broker.retained("alm/cell1/record-failed"), "the alarm, over MQTT")
        assert (alarm["priority"], alarm["on_record"]) == ("critical", False)
        assert why in alarm["text"]
        until(lambda: "cell1" in self.broker.retained("status")["record_failed"], "the status says so")
        run = until(
            lambda: state if (state := self.broker.retained("state/cell1/run"))["state"] == "held" else None,
            "the state shows it",
        )
        assert run["record"] == "failed"
        assert "record-failed" in run["alarms"]

    def pumps(self) -> list[list[int]]:
        """What the pumps count of themselves: whether they run, and their totals."""
        return [self.cell.registers("fluidics", unit, 4, 0, 8) for unit in (1, 2, 3)]

    def nothing_is_begun(self) -> None:
        refused = self.cell.command("restart")
        assert (refused["status"], refused["code"]) == ("failed", "journal_failed"), refused
        assert self.cell.command("hold")["status"] == "already"
        assert self.state() == 60.0

    def goes_on(self) -> None:
        """A person restarts; the batch comes to its end, and the record to its truth."""
        answer: dict[str, Any] = until(
            lambda: answer if (answer := self.cell.command("restart"))["status"] == "done" else None,
            "the record is opened again",
            within=30,
        )
        assert answer["status"] == "done"
        until(lambda: self.broker.retained("alm/cell1/record-failed") == {}, "the alarm is over")
        assert self.cell.get("/healthz")[0] == 200
        until(lambda: self.cell.has("state_changed", path="", to_state="complete"), "the batch ends", within=90)
        events = [record.event for record in self.cell.records()]
        assert [e.code for e in events if e.kind == "exception_raised"].count("record-failed") == 1
        assert ("running", "held") in [
            (e.from_state, e.to_state) for e in events if e.kind == "state_changed" and e.path == ""
        ]
        moved = sum(e.delivered_ml or 0.0 for e in events if e.kind == "intent_closed" and e.path == "fill/second")
        assert abs(moved - 24.0) < 4.0
        (path,) = self.cell.folder.glob("data/batches/*.db")
        assert verify(path).ok


@pytest.fixture
def scene(tmp_path: Path, disk: Disk) -> Iterator[Scene]:
    with Mosquitto(tmp_path) as broker, Cell(tmp_path, broker.url) as cell:
        scene = Scene(cell, broker, disk)
        scene.start()
        try:
            yield scene
        finally:
            disk.thaw()


pytestmark = pytest.mark.debian("mosquitto", "mosquitto_sub")


def test_a_full_disk(scene: Scene) -> None:
    scene.into_the_second_dose()
    acknowledged = len(scene.cell.records())
    scene.disk.fill()
    scene.held_and_told("full")
    scene.nothing_is_begun()
    assert len(scene.cell.records()) >= acknowledged
    scene.disk.make_room()
    assert scene.state() == 60.0
    scene.goes_on()


@pytest.mark.slow
def test_a_disk_that_stands_still(scene: Scene) -> None:
    scene.into_the_second_dose()
    scene.disk.freeze()
    scene.held_and_told("did not answer")
    assert (scene.cell.ready() or {})["mqtt_connected"], "the gateway waits for no disk"
    assert scene.cell.command("hold")["status"] == "already"
    scene.disk.thaw()
    scene.goes_on()


@pytest.mark.slow
def test_a_disk_that_turns_read_only(scene: Scene) -> None:
    scene.into_the_second_dose()
    known = scene.cell.records()
    scene.disk.turn_read_only()
    scene.held_and_told("")
    scene.nothing_is_begun()
    assert scene.cell.command("abort")["status"] == "done"
    assert scene.state() == 90.0
    scene.cell.kill_controller()
    scene.disk.unmount()
    scene.disk.mount()
    scene.start()
    found = scene.cell.records()
    assert found[: len(known)] == known, "what was acknowledged is there"
    (path,) = scene.cell.folder.glob("data/batches/*.db")
    assert read(path)[1].ok


@pytest.mark.slow
def test_a_disk_that_is_nearly_full_is_told_before_and_starts_no_batch(scene: Scene) -> None:
    free = os.statvfs(scene.disk.path)
    with (scene.disk.path / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 50_000_000)
    answer = scene.cell.command("start", recipe="quick")
    assert (answer["status"], answer["code"]) == ("refused", "disk_low")
    until(lambda: scene.broker.retained("alm/site/disk-low"), "it is told", within=60)
    assert scene.metric("tilctl_data_free_bytes")
    assert scene.broker.retained("status")["disk_low"]
    (scene.disk.path / "filler").unlink()
    until(lambda: scene.broker.retained("alm/site/disk-low") == {}, "it is over", within=60)
    assert scene.cell.command("start", recipe="quick")["status"] == "done"
