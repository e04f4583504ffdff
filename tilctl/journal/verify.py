"""Is this file the record that it claims to be?  Reads only, and answers about any file, whatever it is."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tilctl.journal.chain import APPLICATION_ID, GENESIS, LAYOUT, SCHEMA, Record, digest
from tilctl.journal.events import EventError, from_json

BUSY_S = 2.0  # how long a reader waits for a process that has the file locked
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a journal file.

    `events` counts the good ones, from the first on; `head` is the hash of the last of them (64 zeros when there is
    none).  `first_bad` is the sequence number of the first event that is wrong or missing, None where the trouble is
    with the file as a whole; `reason` says it in words, "" when all is well.
    """

    ok: bool
    events: int
    head: str
    first_bad: int | None = None
    reason: str = ""


class _UnfitError(Exception):
    """The file cannot be read as a journal, or not further; `seq` is the event at fault, None for the whole file."""

    def __init__(self, reason: str, seq: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seq = seq


def verify(path: Path, head: str | None = None) -> Verdict:
    """Check a journal file: every event's place, hash and content, the layout, the database.

    `head` is a hash that was noted elsewhere: the journal must contain it, else it was cut short or rewritten since.
    Blocking; never raises for what the file is.
    """
    return read(path, head)[1]


def read(path: Path, head: str | None = None) -> tuple[list[Record], Verdict]:
    """Return the good events from the first on, up to the first bad one, and the verdict.  Blocking."""
    alone = not path.with_name(path.name + "-wal").exists()
    found = _read(path, head, alone=alone)
    if alone and not found[1].ok and path.with_name(path.name + "-wal").exists():
        return _read(path, head, alone=False)  # a writer came while we read
    return found


def _read(path: Path, head: str | None, *, alone: bool) -> tuple[list[Record], Verdict]:
    records: list[Record] = []
    try:
        _scan(path, records, alone=alone)
    except _UnfitError as error:
        return records, Verdict(False, len(records), _last(records), error.seq, error.reason)
    if head is not None and all(record.hash != head for record in records):
        reason = f"no event has the noted head {head}: the record was cut short or rewritten after that head was noted"
        return records, Verdict(False, len(records), _last(records), None, reason)
    return records, Verdict(True, len(records), _last(records))


def _last(records: list[Record]) -> str:
    return records[-1].hash if records else GENESIS


def _scan(path: Path, records: list[Record], *, alone: bool) -> None:
    """Gather the events in order; raise _UnfitError at the first thing that is wrong."""
    size = _check_file(path)
    try:
        with contextlib.closing(_open(path, alone=alone)) as connection:
            _check_layout(connection)
            for row in connection.execute("SELECT seq, t, event, prev, hash FROM events ORDER BY seq"):
                records.append(_checked(row, len(records) + 1, _last(records)))
            if not records:
                raise _UnfitError("the journal holds no event: its first one is missing", 1)
            _check_database(connection, size if alone else None)
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter from SQLite's words about a garbled layout
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_NOTADB":
            raise _UnfitError("the file is not a journal: it is not an SQLite database") from error
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise _UnfitError("the file is locked by another process: try again when that has ended") from error
        if name.startswith("SQLITE_CANTOPEN"):
            raise _UnfitError(f"the file cannot be opened ({error}): check its permissions") from error
        reason = f"the database is damaged ({error}): restore the file from a copy"
        raise _UnfitError(reason, len(records) + 1) from error


def _check_file(path: Path) -> int:
    """Return the size of the file in bytes."""
    try:
        if not path.exists():
            raise _UnfitError("there is no such file")
        if not path.is_file():
            raise _UnfitError("this is a directory or a device, not a journal file")
        size = path.stat().st_size
    except OSError as error:
        raise _UnfitError(f"the file cannot be looked at ({error.strerror}): check its permissions") from error
    if size == 0:
        raise _UnfitError("the file is empty: nothing of a journal is in it")
    return size


def _open(path: Path, *, alone: bool) -> sqlite3.Connection:
    # A closed journal (no log beside it) is read as immutable: that works on a read-only medium and leaves no trace.
    # Only SQLite ever opens the file here: closing a handle of our own would drop the locks of a writer beside us.
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    connection.text_factory = bytes
    return connection


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _check_layout(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("BEGIN")  # one snapshot for everything below, whatever a writer does meanwhile
    application = _pragma(connection, "application_id")
    if application != APPLICATION_ID:
        raise _UnfitError(f"the file is not a journal: it is a database of another application (id {application:#x})")
    layout = _pragma(connection, "user_version")
    if layout != LAYOUT:
        raise _UnfitError(
            f"the journal has layout {layout}, this program reads layout {LAYOUT}: use the version that wrote it"
        )
    rows = cast("list[tuple[bytes, bytes]]", connection.execute("SELECT name, sql FROM sqlite_schema").fetchall())
    found = {name.decode(errors="replace"): (sql or b"").decode(errors="replace") for name, sql in rows}
    for name in sorted(SCHEMA.keys() | found.keys()):
        if name not in found:
            raise _UnfitError(f"the layout was altered: {name} is missing")
        if SCHEMA.get(name) != found[name]:
            raise _UnfitError(f"the layout was altered: {name} is not as this program makes it")


def _checked(row: tuple[object, ...], seq: int, after: str) -> Record:
    """Return the record of a row that must be event `seq` and follow the hash `after`."""
    if row[0] != seq:
        raise _UnfitError(f"event {seq} is missing: a row numbered {row[0]!r} stands in its place", seq)
    try:
        t, event, prev, own = (field.decode() for field in row[1:] if isinstance(field, bytes))
    except ValueError as error:
        raise _UnfitError(f"event {seq} was altered: it is not text any more", seq) from error
    if not _TIME.fullmatch(t) or not _HASH.fullmatch(prev) or not _HASH.fullmatch(own):
        raise _UnfitError(f"event {seq} was altered: its time or its hashes are malformed", seq)
    if prev != after:
        raise _UnfitError(
            f"event {seq} does not follow the event before it: one was altered, removed, added or moved", seq
        )
    if digest(seq, t, event, prev) != own:
        raise _UnfitError(f"event {seq} was altered: its content does not have its hash", seq)
    try:
        return Record(seq, t, from_json(event), prev, own)
    except EventError as error:
        raise _UnfitError(
            f"event {seq} is whole, but cannot be read: {error}; use the version that wrote it", seq
        ) from error


def _check_database(connection: sqlite3.Connection, size: int | None) -> None:
    """Look at what is not events; `size` of a file that has no log beside it, and so must hold every page."""
    try:
        first = cast("bytes", connection.execute("PRAGMA integrity_check(1)").fetchone()[0]).decode(errors="replace")
        wanted = _pragma(connection, "page_count") * _pragma(connection, "page_size")
    except sqlite3.DatabaseError as error:
        first, wanted = str(error), size
    if first == "ok" and size not in {None, wanted}:
        first = f"it has {size} bytes instead of {wanted}"
    if first != "ok":
        raise _UnfitError(
            f"every event is whole, but the file is damaged ({first}): keep it, and restore an intact copy"
        )
