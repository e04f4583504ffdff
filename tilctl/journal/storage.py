"""The blocking half of the journal: one SQLite file, one writing connection.  Runs in the storage thread only."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from tilctl.journal.chain import APPLICATION_ID, LAYOUT, SCHEMA, Row

BUSY_S = 5.0  # how long a commit waits for another process that has the file locked
_INSERT = "INSERT INTO events (seq, t, event, prev, hash) VALUES (?, ?, ?, ?, ?)"


def _connect(path: Path) -> sqlite3.Connection:
    # The thread changes between storage thread and (virtual time) loop; the clock's queue keeps uses apart.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _values(row: Row) -> tuple[int, str, str, str, str]:
    return row.seq, row.t, row.event, row.prev, row.hash


class TakenError(Exception):
    """There is a file where a new one is to be made."""


class EventFile:
    """An open journal file.  Methods raise sqlite3.Error or OSError; nothing of a failed `write` is acknowledged."""

    def __init__(self, path: Path) -> None:
        """Open an existing, verified file for writing."""
        self._connection = _connect(path)
        try:
            # FULL: a commit returns after the flush to the medium, in WAL mode too (stack.md figures: 0.1..10 ms)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "trusted_schema=OFF"):
                self._connection.execute(f"PRAGMA {pragma}").fetchall()
        except sqlite3.Error:
            self._connection.close()
            raise

    @staticmethod
    def create(path: Path, first: Row) -> None:
        """Make a new file with its first event.

        Invariant: the file has its name only when its first event is on disk, so a crash leaves all or nothing.
        Raises TakenError.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".new")
        for leftover in (draft, draft.with_name(draft.name + "-journal")):  # of a crash in here
            leftover.unlink(missing_ok=True)
        draft.touch(mode=0o640)
        with contextlib.closing(_connect(draft)) as connection:
            connection.execute("PRAGMA synchronous=EXTRA")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={LAYOUT}")
            for statement in SCHEMA.values():
                connection.execute(statement)
            connection.execute(_INSERT, _values(first))
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
        if path.exists():
            draft.unlink()
            raise TakenError(path)
        draft.rename(path)
        _sync_directory(path.parent)

    def write(self, rows: Sequence[Row]) -> None:
        """Add events in one transaction, on the medium when this returns."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(_INSERT, map(_values, rows))
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:  # SQLite itself has rolled back where the disk was full
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise

    def beat(self, t: str) -> None:
        """Replace the sign of life."""
        self._connection.execute("INSERT OR REPLACE INTO heartbeat (id, t) VALUES (1, ?)", (t,))

    def last_beat(self) -> str | None:
        """Return the last sign of life, None when there never was one."""
        row: tuple[str] | None = self._connection.execute("SELECT t FROM heartbeat").fetchone()
        return None if row is None else row[0]

    def close(self) -> None:
        """Fold the write-ahead log into the file, so that it can be read alone, and close it."""
        with contextlib.closing(self._connection), contextlib.suppress(sqlite3.Error):
            # Nothing is lost where this fails (full disk, a reader): the log beside the file has it all.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
