"""Copies of a site's records: taken while the controller runs, and put back while none does.

A backup is a folder: `site.db`, `batches/`, `history/`, and last `manifest.json`, which names every file with its
SHA-256 and, of records, the number of events and the head.  A folder without it is half a backup.  The site's record is
copied first, so that each batch copied after it holds every head that the copy of the site's record has noted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tilctl.journal.chain import Record
from tilctl.journal.events import BatchCreated, SiteOpened
from tilctl.journal.mark import Mark, found, leave, mark_path
from tilctl.journal.restoring import UNDER_WAY
from tilctl.journal.site import noted_heads
from tilctl.journal.verify import read

MANIFEST = "manifest.json"
FORMAT = 1
FOLDERS = ("batches", "history")
PAGES = 256  # pages for each step of a copy: a writer is never kept waiting longer than that takes


class BackupError(Exception):
    """A backup that cannot be taken, or cannot be trusted; says which file, why, and what to do."""


class WrongFolderError(BackupError):
    """The folder that was named is no place for a backup, or holds none of this site."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a backup; `events` and `head` of records only."""

    path: str
    bytes: int
    sha256: str
    events: int | None = None
    head: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds; `t` is when it was taken."""

    site: str
    node: str
    t: str
    version: str
    files: tuple[Entry, ...]
    format: int = FORMAT

    @property
    def events(self) -> int:
        """The number of events in all its records."""
        return sum(entry.events or 0 for entry in self.files)


def backup(data: Path, out: Path, t: str, version: str) -> Manifest:
    """Copy the records below `data` into the new or empty folder `out` and verify every copy.  Blocking.

    Works beside a running controller.  Raises BackupError, OSError; without a manifest what is there is no backup.
    """
    if out.resolve().is_relative_to(data.resolve()):  # a restore moves what lies there, and one disk dies as a whole
        raise WrongFolderError(f"{out}: this is inside the data folder {data}; take a folder elsewhere")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WrongFolderError(f"{out}: there is something already; take a new folder for each backup")
    if not (data / "site.db").is_file():
        raise BackupError(f"{data / 'site.db'}: there is no such record: is this the data folder of a site?")
    out.mkdir(parents=True, exist_ok=True)
    entries = [_copied(data / "site.db", out, "site.db")]
    site = read(out / "site.db")[0]
    for folder in FOLDERS:
        (out / folder).mkdir()
    (out / "batches" / "closed").mkdir()
    for path in _records(data):
        if not any(Path(entry.path).name == path.name for entry in entries):  # put away after it was copied
            entries.append(_copied(path, out, str(path.relative_to(data))))
    for path in sorted((data / "history").glob("*.db")):
        _copy(path, out / "history" / path.name)
        _check_trends(out / "history" / path.name)
        entries.append(_entry(out, f"history/{path.name}"))
    opened = _opened(site, out / "site.db")
    manifest = Manifest(opened.site, opened.node, t, version, tuple(entries))
    _check_heads(out, site)
    _sync_tree(out)
    _write(out / MANIFEST, json.dumps(asdict(manifest), indent=1) + "\n")
    return manifest


def check(folder: Path, site: str | None = None, node: str | None = None) -> Manifest:
    """Verify a whole backup: its manifest, each file's hash, each record, the noted heads.  Raises BackupError.

    `site` and `node` are those that it must be of.  Blocking; changes nothing.
    """
    manifest = _manifest(folder)
    if site is not None and (manifest.site, manifest.node) != (site, node):
        raise WrongFolderError(
            f"{folder}: this is a backup of site {manifest.site}, node {manifest.node}, not of site {site}, node {node}"
        )
    listed = {entry.path for entry in manifest.files}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    for name in sorted(there - listed):
        raise BackupError(f"{folder / name}: the manifest does not know this file")
    for entry in manifest.files:
        path = folder / entry.path
        if entry.path not in there:
            raise BackupError(f"{path}: the file is missing")
        if (path.stat().st_size, _sha256(path)) != (entry.bytes, entry.sha256):
            raise BackupError(f"{path}: the file was altered since the backup was taken")
        if entry.head is not None:
            _check_record(path, entry)
        else:
            _check_trends(path)
    site_records = read(folder / "site.db")[0]
    opened = _opened(site_records, folder / "site.db")
    if (opened.site, opened.node) != (manifest.site, manifest.node):
        raise BackupError(f"{folder / 'site.db'}: it is of site {opened.site}, the manifest says {manifest.site}")
    _check_heads(folder, site_records)
    return manifest


def restore(folder: Path, data: Path, site: str, node: str, *, replace: bool, aside: str) -> Manifest:
    """Put a backup in place of the records below `data`, which no controller may hold (the caller has the lock).

    Everything is copied and verified beside the old records before any of them is touched; then each folder changes
    its place as a whole.  With `replace` the old ones are kept in `data/aside`.  Raises BackupError, OSError.
    """
    manifest = check(folder, site, node)
    standing = [name for name in ("site.db", *FOLDERS) if _holds_something(data / name)]
    staging = data / UNDER_WAY
    if standing and not replace and not staging.exists():
        raise BackupError(f"{data}: there are records already ({', '.join(standing)}); to put them aside use --replace")
    kept = data / aside
    if kept.exists():
        raise BackupError(f"{kept}: there is something already; try again in a second")
    data.mkdir(parents=True, exist_ok=True)
    # Invariant: from here to the end the folder `restore-under-way` keeps a controller from starting.
    if staging.exists():
        shutil.rmtree(staging)  # of a restore that was cut short: the backup has all of it
    shutil.copytree(folder, staging)
    check(staging, site, node)
    _sync_tree(staging)
    _mark_restored(staging, data, manifest.t)
    _sync(data)
    for name in (*FOLDERS, "site.db"):
        for beside in (name, f"{name}-wal", f"{name}-shm"):
            if (data / beside).exists():
                kept.mkdir(exist_ok=True)
                (data / beside).rename(kept / beside)
        (staging / name).rename(data / name)
    for cursor in data.glob("mqtt-cursor.*"):  # delivered again is better than never
        cursor.unlink()
    _sync(data)
    shutil.rmtree(staging)
    _sync(data)
    return manifest


def _mark_restored(folder: Path, data: Path, t: str) -> None:
    """Invariant: a batch that is put back to an older record is held: what was done since, doses too, is not on it."""
    for path in sorted((folder / "batches").glob("*.db")):
        created = read(path)[0][0].event
        if not isinstance(created, BatchCreated):
            continue
        text = (
            f"the record was restored from a backup taken at {t}: what was done since is not on it; compare the plant "
            f"with the record before it goes on"
        )
        place = mark_path(data, created.unit)
        earlier = found(place, created.batch)
        if earlier is not None:
            if text in earlier.text:  # of a restore that was cut short
                continue
            text += f"; before that: {earlier.state} {earlier.t} {earlier.text}"
        leave(place, Mark(created.batch, "restored", t, text))


# --- files ------------------------------------------------------------------------------------------------------------


def _records(data: Path) -> Iterator[Path]:
    """Yield the records of batches; one that is put away meanwhile is met in its new place."""
    yield from sorted((data / "batches").glob("*.db"))
    yield from sorted((data / "batches" / "closed").glob("*.db"))


def _copied(path: Path, out: Path, name: str) -> Entry:
    if not path.exists() and (moved := path.parent / "closed" / path.name).exists():
        path, name = moved, f"{Path(name).parent}/closed/{path.name}"
    target = out / name
    _copy(path, target)
    records, verdict = read(target)
    if not verdict.ok:
        raise BackupError(f"{path}: the copy is not well: {verdict.reason}")
    return _entry(out, name, len(records), verdict.head)


def _copy(source: Path, target: Path) -> None:
    """Copy a database beside its writer, whole and at one moment."""
    uri = f"{source.absolute().as_uri()}?mode=ro"
    try:
        with (
            contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5.0)) as old,
            contextlib.closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new, pages=PAGES)
            new.execute("PRAGMA journal_mode=DELETE").fetchall()  # alone, without a log beside it
    except sqlite3.Error as error:
        raise BackupError(f"{source}: it cannot be copied ({error}): verify it") from error


def _entry(folder: Path, name: str, events: int | None = None, head: str | None = None) -> Entry:
    path = folder / name
    return Entry(name, path.stat().st_size, _sha256(path), events, head)


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise WrongFolderError(f"{folder}: there is no such folder; name the one that `journal backup` made")
    if not path.is_file():
        raise WrongFolderError(f"{path}: there is no manifest: this is no backup, or half of one")
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if data["format"] != FORMAT:
            raise BackupError(f"{path}: format {data['format']!r}, this program reads format {FORMAT}")
        files = tuple(Entry(**entry) for entry in data.pop("files"))
        manifest = Manifest(**data, files=files)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackupError(f"{path}: the manifest cannot be read ({error!r})") from error
    names = [entry.path for entry in files]
    if "site.db" not in names or any(Path(name).is_absolute() or ".." in Path(name).parts for name in names):
        raise BackupError(f"{path}: the manifest names no site.db, or files outside the backup")
    return manifest


def _check_record(path: Path, entry: Entry) -> None:
    records, verdict = read(path, entry.head)
    if not verdict.ok:
        raise BackupError(f"{path}: {verdict.reason}")
    if (len(records), verdict.head) != (entry.events, entry.head):
        raise BackupError(f"{path}: it has {len(records)} events, the manifest says {entry.events}")


def _check_heads(folder: Path, site: list[Record]) -> None:
    """Hold the heads that the site's record has noted against the batches that are there."""
    noted, opened = noted_heads(site), {record.hash for record in site}
    for path in _records(folder):
        records, _ = read(path)
        created = records[0].event if records else None
        if not isinstance(created, BatchCreated):
            raise BackupError(f"{path}: this is not the record of a batch")
        head = noted.pop(created.batch, None)
        if head is not None and (len(records) < head.seq or records[head.seq - 1].hash != head.hash):
            raise BackupError(
                f"{path}: site.db has noted event {head.seq} of it, which it does not hold: it was cut short"
            )
        if created.site_head not in opened and head is not None:
            raise BackupError(f"{path}: it was begun under another site's record than the site.db beside it")


def _check_trends(path: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict != "ok":
        raise BackupError(f"{path}: the trends are damaged ({verdict})")


def _opened(records: list[Record], path: Path) -> SiteOpened:
    first = records[0].event if records else None
    if not isinstance(first, SiteOpened):
        raise BackupError(f"{path}: this is not the record of a site")
    return first


def _holds_something(path: Path) -> bool:
    return any(child.is_file() for child in path.rglob("*")) if path.is_dir() else path.exists()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    """Give a file its name only when it is whole and on the medium."""
    draft = path.with_name(path.name + ".new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    _sync(path.parent)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
