"""Backup and restore: taken beside a writer, verified in every file, put back as a whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from pathlib import Path

import pytest

from devices.clock import SystemClock
from tilctl.cli.main import main
from tilctl.history.store import History
from tilctl.journal import backup as backup_module
from tilctl.journal import events as ev
from tilctl.journal.backup import BackupError, backup, check, restore
from tilctl.journal.mark import found, mark_path
from tilctl.journal.restoring import UNDER_WAY, unfinished
from tilctl.journal.site import SiteJournal
from tilctl.journal.store import Journal, JournalError
from tilctl.journal.verify import read, verify

SITE = ev.SiteOpened("demo", "suite1", "0.1.0")
T = "2026-01-05T08:00:00+00:00"


def created(name: str, site_head: str) -> ev.BatchCreated:
    return ev.BatchCreated(name, "cell1", "small", "1", "0" * 64, "recipe: small", {}, {}, "0.1.0", site_head)


class Living:
    """A site whose controller runs: its journals are open, one batch is closed, one has trends."""

    def __init__(self, data: Path, clock: SystemClock) -> None:
        self.data, self.clock = data, clock
        self.batches: list[Journal] = []

    async def open(self) -> None:
        for folder in ("batches/closed", "history"):
            (self.data / folder).mkdir(parents=True)
        self.site = await SiteJournal.start(self.data / "site.db", self.clock, SITE, "boot-1")
        for name in ("b1", "b2"):
            batch = await Journal.create(
                self.data / "batches" / f"{name}.db", self.clock, created(name, self.site.head[1])
            )
            for number in range(20):
                await batch.record(ev.Noted("rep", f"{name} {number}", exception=False))
            await self.site.note_head(name, batch)
            self.batches.append(batch)
        await self.batches[0].close()
        self.batches[0].path.rename(self.data / "batches/closed/b1.db")
        self.history = History(self.data / "history" / "b2.db", self.clock)
        self.history.sample(1_767_600_000.0, {"incubator.temperature": 37.0})
        await self.history.flush()

    async def close(self) -> None:
        await self.history.close()
        await self.batches[1].close()
        await self.site.close()


@pytest.fixture
async def living(tmp_path: Path) -> AsyncIterator[Living]:
    clock = SystemClock()
    living = Living(tmp_path / "data", clock)
    await living.open()
    yield living
    await living.close()
    clock.close()


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".mark")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- backup


async def test_a_backup_beside_a_writer_holds_what_was_acknowledged(living: Living, tmp_path: Path):
    writing, stop = living.batches[1], asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            await writing.record(ev.Noted("rep", "meanwhile", exception=False))

    writer = asyncio.create_task(write())
    before = writing.head[0]
    manifest = await asyncio.to_thread(backup, living.data, tmp_path / "copy", T, "0.1.0")
    stop.set()
    await writer
    assert sorted(entry.path for entry in manifest.files) == [
        "batches/b2.db", "batches/closed/b1.db", "history/b2.db", "site.db",
    ]  # fmt: skip
    copied = {entry.path: entry for entry in manifest.files}
    assert before <= (copied["batches/b2.db"].events or 0) <= writing.head[0]
    assert writing.head[0] > before, "the writer went on"
    for name in ("site.db", "batches/b2.db", "batches/closed/b1.db"):
        live, copy = read(living.data / name)[0], read(tmp_path / "copy" / name)[0]
        assert live[: len(copy)] == copy
    assert check(tmp_path / "copy", "demo", "suite1") == manifest
    assert not [p for p in (tmp_path / "copy").rglob("*") if p.name.endswith(("-wal", "-shm", ".new"))]
    assert json.loads((tmp_path / "copy" / "manifest.json").read_text())["t"] == T
    assert verify(living.batches[1].path).ok


async def test_a_batch_that_is_put_away_meanwhile_is_there_once(
    living: Living, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await living.batches[1].close()
    usual = backup_module._copied

    def copied(path: Path, out: Path, name: str) -> backup_module.Entry:
        entry = usual(path, out, name)
        if path.name == "b2.db":
            path.rename(path.parent / "closed" / path.name)
        return entry

    monkeypatch.setattr(backup_module, "_copied", copied)
    manifest = backup(living.data, tmp_path / "copy", T, "0.1.0")
    assert sorted(e.path for e in manifest.files if "b2" in e.path) == ["batches/b2.db", "history/b2.db"]
    assert check(tmp_path / "copy") == manifest


async def test_a_backup_goes_into_a_new_folder_only(living: Living, tmp_path: Path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine").write_text("")
    with pytest.raises(BackupError, match="something already"):
        backup(living.data, tmp_path / "copy", T, "0")
    with pytest.raises(BackupError, match="no such record"):
        backup(tmp_path / "copy", tmp_path / "other", T, "0")


async def test_a_broken_record_is_no_backup(living: Living, tmp_path: Path):
    path = living.data / "batches/closed/b1.db"
    path.write_bytes(path.read_bytes().replace(b"b1 7", b"b1 8", 1))
    with pytest.raises(BackupError, match=r"closed/b1\.db: the copy is not well: event 9 was altered"):
        backup(living.data, tmp_path / "copy", T, "0")
    with pytest.raises(BackupError, match="half of one"):
        check(tmp_path / "copy")


# --- what is wrong with a backup is found


def spoil(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))


def manifest_of(folder: Path, name: str, **changes: object) -> None:
    """Write a manifest that agrees with a file that was changed: as a forger would."""
    data = json.loads((folder / "manifest.json").read_text())
    for entry in data["files"]:
        if entry["path"] == name:
            path = folder / name
            entry.update({"bytes": path.stat().st_size, "sha256": backup_module._sha256(path)} | changes)
    (folder / "manifest.json").write_text(json.dumps(data))


def older(folder: Path) -> None:
    """Cut the batch short, tidily, and let the manifest agree."""
    path = folder / "batches/b2.db"
    records, _ = read(path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        sql = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'events_stay'").fetchone()[0]
        connection.execute("DROP TRIGGER events_stay")
        connection.execute("DELETE FROM events WHERE seq > 5")
        connection.execute(sql)
    manifest_of(folder, "batches/b2.db", events=5, head=records[4].hash)


def forged(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def wrong(folder: Path) -> None:
        spoil(folder, name, change)
        manifest_of(folder, name)

    return wrong


def manifest_says(old: bytes, new: bytes) -> Callable[[Path], None]:
    return lambda folder: spoil(folder, "manifest.json", lambda content: content.replace(old, new))


def other_note(content: bytes) -> bytes:
    return content.replace(b"b2 3", b"b2 4")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "no manifest"),
    "no JSON": (lambda f: (f / "manifest.json").write_text("{"), "cannot be read"),
    "other JSON": (lambda f: (f / "manifest.json").write_text("[]"), "cannot be read"),
    "later format": (manifest_says(b'"format": 1', b'"format": 2'), "format 2"),
    "outside": (manifest_says(b"history/b2", b"../b2"), "outside"),
    "a file is missing": (lambda f: (f / "batches/b2.db").unlink(), "b2.db: the file is missing"),
    "a file too much": (lambda f: shutil.copy(f / "site.db", f / "batches/b3.db"), "does not know this file"),
    "a changed event": (lambda f: spoil(f, "batches/b2.db", other_note), "was altered since"),
    "half a file": (lambda f: spoil(f, "site.db", lambda b: b[: len(b) // 2]), "was altered since"),
    "half a file of trends": (forged("history/b2.db", lambda b: b[:5000]), "trends are damaged"),
    "a forged event": (forged("batches/b2.db", other_note), "event 5 was altered"),
    "an older batch": (older, "site.db has noted event 21"),
}


@pytest.mark.parametrize(("wrong", "text"), WRONG.values(), ids=WRONG.keys())
async def test_a_backup_that_is_not_whole_is_not_taken(
    living: Living, tmp_path: Path, wrong: Callable[[Path], object], text: str
):
    folder = tmp_path / "copy"
    backup(living.data, folder, T, "0")
    wrong(folder)
    target = tmp_path / "elsewhere"
    with pytest.raises(BackupError, match=text):
        restore(folder, target, "demo", "suite1", replace=True, aside="old")
    assert not target.exists() or not tree(target), "nothing was touched"


async def test_a_backup_of_another_site_is_not_taken(living: Living, tmp_path: Path):
    backup(living.data, tmp_path / "copy", T, "0")
    with pytest.raises(BackupError, match="of site demo, node suite1, not of site demo, node suite2"):
        restore(tmp_path / "copy", tmp_path / "new", "demo", "suite2", replace=False, aside="old")


# --- restore


async def test_a_restored_site_goes_on_where_the_backup_was(living: Living, tmp_path: Path):
    manifest = backup(living.data, tmp_path / "copy", T, "0")
    data = tmp_path / "new"
    restore(tmp_path / "copy", data, "demo", "suite1", replace=False, aside="old")
    assert {k: v for k, v in tree(tmp_path / "copy").items() if k != "manifest.json"} == tree(data)
    site = await SiteJournal.start(data / "site.db", living.clock, SITE, "boot-2")
    batch = await Journal.open(data / "batches/b2.db", living.clock)
    copied = {entry.path: entry for entry in manifest.files}
    assert batch.head == (copied["batches/b2.db"].events, copied["batches/b2.db"].head)
    await batch.record(ev.Noted("rep", "it goes on", exception=False))
    await batch.close()
    await site.close()
    assert verify(data / "batches/b2.db").ok
    history = History(data / "history/b2.db", living.clock)
    history.sample(1_767_600_060.0, {"incubator.temperature": 37.0})
    await history.flush()
    assert (history.statistics.blocks, history.statistics.failures) == (1, 0)
    await history.close()


async def test_records_that_are_there_are_replaced_when_told_only_and_kept(living: Living, tmp_path: Path):
    backup(living.data, tmp_path / "copy", T, "0")
    await living.batches[1].record(ev.Noted("rep", "after the backup", exception=False))
    await living.close()
    (living.data / "mqtt-cursor.json").write_text("{}")
    before = tree(living.data)
    with pytest.raises(BackupError, match="--replace"):
        restore(tmp_path / "copy", living.data, "demo", "suite1", replace=False, aside="old")
    assert tree(living.data) == before
    restore(tmp_path / "copy", living.data, "demo", "suite1", replace=True, aside="old")
    old = tree(living.data / "old")
    assert old == {name: content for name, content in before.items() if name != "mqtt-cursor.json"}
    shutil.rmtree(living.data / "old")
    assert {k: v for k, v in tree(tmp_path / "copy").items() if k != "manifest.json"} == tree(living.data)


async def test_a_restore_that_is_cut_short_anywhere_keeps_a_controller_from_starting_until_it_is_repeated(
    living: Living, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    backup(living.data, tmp_path / "copy", T, "0")
    await living.close()
    usual, count = Path.rename, 0

    class Cut(Exception):
        pass

    cuts = 0
    for after in range(20):
        data = tmp_path / f"data{after}"
        shutil.copytree(living.data, data)
        count = 0

        def rename(path: Path, target: Path, after: int = after) -> Path:
            nonlocal count
            if count == after:
                raise Cut
            count += 1
            return usual(path, target)

        monkeypatch.setattr(Path, "rename", rename)
        try:
            restore(tmp_path / "copy", data, "demo", "suite1", replace=True, aside="old")
        except Cut:
            monkeypatch.setattr(Path, "rename", usual)
            cuts += 1
            assert unfinished(data)
            with pytest.raises(JournalError, match="restore was cut short"):
                await SiteJournal.start(data / "site.db", living.clock, SITE, "boot-2")
            restore(tmp_path / "copy", data, "demo", "suite1", replace=False, aside="again")
        monkeypatch.setattr(Path, "rename", usual)
        assert not (data / UNDER_WAY).exists()
        mark = found(mark_path(data, "cell1"), "b2")
        assert mark is not None, "what was done since the backup would be done again"
        assert (mark.state, mark.text.count("restored from a backup")) == ("restored", 1)
        now = {k: v for k, v in tree(data).items() if not k.startswith(("old/", "again/"))}
        assert now == {k: v for k, v in tree(tmp_path / "copy").items() if k != "manifest.json"}
        if count < after:
            break
    assert cuts >= 5


# --- as it is typed


@pytest.fixture
def site_file(living: Living, tmp_path: Path) -> Path:
    text = (files("tilctl.cli") / "demo-site.yaml").read_text()
    lines = [f"data: {living.data}" if line.startswith("data:") else line for line in text.splitlines()]
    path = tmp_path / "site.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def typed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main(["journal", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


async def test_backup_verify_restore_as_they_are_typed(
    living: Living, site_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    copy = tmp_path / "copy"
    code, out, err = typed(capsys, "backup", "--site", site_file, "--out", copy)
    assert (code, err) == (0, "")
    assert "site demo, node suite1" in out
    assert "3 records" in out
    assert typed(capsys, "backup", "--site", site_file, "--out", copy)[0] == 2
    before = tree(living.data)
    code, out, _ = typed(capsys, "restore", copy, "--site", site_file, "--verify")
    assert (code, "whole" in out, tree(living.data) == before) == (0, True, True)
    code, _, err = typed(capsys, "restore", copy, "--site", site_file)
    assert (code, "--replace" in err) == (4, True)
    await living.close()
    code, out, _ = typed(capsys, "restore", copy, "--site", site_file, "--replace")
    assert (code, "replaced-" in out) == (0, True)
    code, _, err = typed(capsys, "restore", tmp_path / "nowhere", "--site", site_file)
    assert (code, "no such folder" in err) == (2, True)
    code, _, err = typed(capsys, "restore", tmp_path, "--site", site_file)
    assert (code, "this is no backup" in err) == (2, True)
    (copy / "site.db").write_bytes(b"")
    assert typed(capsys, "restore", copy, "--site", site_file, "--verify")[0] == 4, "damaged is not wrongly named"


@pytest.mark.parametrize("below", ["batches/in", "batches/closed/in", "history/in", "in", "", "history/../batches/in"])
async def test_no_backup_is_taken_into_the_data_folder(
    living: Living, site_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], below: str
):
    before = tree(living.data)
    link = tmp_path / "link"
    link.symlink_to(living.data)
    for data in (living.data, link):
        code, out, err = typed(capsys, "backup", "--site", site_file, "--out", data / below)
        assert (code, out) == (2, "")
        assert f"inside the data folder {living.data}" in err
    assert tree(living.data) == before


async def test_a_place_that_cannot_be_written_is_named_with_what_to_do(
    living: Living, site_file: Path, capsys: pytest.CaptureFixture[str]
):
    code, out, err = typed(capsys, "backup", "--site", site_file, "--out", "/proc/copy")
    assert (code, out) == (3, "")
    assert err.startswith("tilctl journal: /proc/copy: No such file or directory; check that the place is there")
    assert "Errno" not in err


async def test_nothing_is_restored_under_a_running_controller(
    living: Living, site_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    typed(capsys, "backup", "--site", site_file, "--out", tmp_path / "copy")
    handle = os.open(living.data / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    before = tree(living.data)
    code, _, err = typed(capsys, "restore", tmp_path / "copy", "--site", site_file, "--replace")
    os.close(handle)
    assert (code, "another controller runs" in err) == (3, True)
    assert tree(living.data) == before


async def test_verify_uses_what_the_record_of_the_site_has_noted(
    living: Living, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    closed = living.data / "batches/closed/b1.db"
    code, out, _ = typed(capsys, "verify", closed)
    assert code == 0
    assert f"holds what {living.data / 'site.db'} has noted of it: event 21" in out
    copy = tmp_path / "copy"
    backup(living.data, copy, T, "0")
    older(copy)
    code, out, _ = typed(capsys, "verify", copy / "batches/b2.db")
    assert code == 1
    assert "has noted event 21 of it, which it does not hold" in out
    told = json.loads(typed(capsys, "verify", copy / "batches/b2.db", "--json")[1])
    assert (told["ok"], told["noted"]["seq"]) == (False, 21)
    (copy / "site.db").unlink()  # alone it cannot be found out
    assert typed(capsys, "verify", copy / "batches/b2.db")[0] == 0
