"""The blocking half of the history: one SQLite file.  The writing methods run in the storage thread only."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

from tilctl.history.blocks import Block, OpenBlock, Sample, unpack

APPLICATION_ID = 0x74696C68  # "tilh"
LAYOUT = 1
BUSY_S = 5.0
_SCHEMA = (
    """CREATE TABLE blocks (
  number INTEGER PRIMARY KEY,
  t0 REAL NOT NULL,
  t1 REAL NOT NULL,
  samples INTEGER NOT NULL,
  columns TEXT NOT NULL,
  data BLOB NOT NULL
) STRICT""",
    "CREATE INDEX blocks_by_time ON blocks (t0)",
    # the last block whose hash is on the record; written a block later, so that no hour is ever left out
    "CREATE TABLE covered (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL) STRICT",
)


class HistoryError(Exception):
    """The file is no history of ours, or damaged; says which file and why."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A block on disk."""

    number: int
    t0: float
    t1: float
    sha256: bytes


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    layout = connection.execute("PRAGMA user_version").fetchone()[0]
    if (application, layout) != (APPLICATION_ID, LAYOUT):
        raise HistoryError(f"{path}: not a history of layout {LAYOUT} (application {application:#x}, layout {layout})")


def _stored(connection: sqlite3.Connection, after: int, upto: int) -> list[Stored]:
    query = "SELECT number, t0, t1, samples, columns, data FROM blocks WHERE number > ? AND number <= ? ORDER BY number"
    return [
        Stored(row[0], row[1], row[2], Block(*row[1:]).sha256()) for row in connection.execute(query, (after, upto))
    ]


class HistoryFile:
    """The writing side; opens, or makes, the file at the first use and again after a failure to open."""

    def __init__(self, path: Path) -> None:
        """Touch nothing yet."""
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._backlog_told = False

    def store(self, block: OpenBlock, covered: int | None) -> list[Stored]:
        """Pack and write a block; return it, the first time after those that wait for their hash since a crash.

        `covered` is the number of the last block whose hash is on the record.
        Raises sqlite3.Error, OSError, HistoryError.
        """
        packed = block.pack()
        if self._connection is None:
            self._connection = self._opened()
        connection = self._connection
        with contextlib.ExitStack() as undo:
            undo.callback(_roll_back, connection)
            connection.execute("BEGIN IMMEDIATE")
            values = (packed.t0, packed.t1, packed.samples, packed.columns, packed.data)
            insert = "INSERT INTO blocks (t0, t1, samples, columns, data) VALUES (?, ?, ?, ?, ?)"
            number = connection.execute(insert, values).lastrowid or 0
            _mark(connection, covered)
            connection.execute("COMMIT")
        if self._backlog_told:
            return [Stored(number, packed.t0, packed.t1, packed.sha256())]
        marked: tuple[int] | None = connection.execute("SELECT number FROM covered").fetchone()
        backlog = _stored(connection, marked[0] if marked else 0, number)
        self._backlog_told = True
        return backlog

    def close(self, covered: int | None) -> None:
        """Note what is covered and close the file; raises sqlite3.Error."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.closing(connection):
                _mark(connection, covered)
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            if not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={LAYOUT}")
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute("COMMIT")
            _check(connection, self._path)
            # NORMAL: a power cut may lose the last minutes of the trends, never damages them
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
        except (sqlite3.Error, HistoryError):
            connection.close()
            raise
        return connection


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _mark(connection: sqlite3.Connection, covered: int | None) -> None:
    if covered is not None:
        connection.execute("INSERT OR REPLACE INTO covered (id, number) VALUES (1, ?)", (covered,))


@contextlib.contextmanager
def _reading(path: Path) -> Generator[sqlite3.Connection, None, None]:
    """Open a history for reading; every failure inside becomes a HistoryError."""
    try:
        if not path.is_file():
            raise HistoryError(f"{path}: there is no such history")
        alone = not path.with_name(
            path.name + "-wal"
        ).exists()  # closed: readable on a read-only medium, without a trace
        uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)) as connection:
            _check(connection, path)
            yield connection
    except (sqlite3.Error, ValueError, OSError) as error:
        raise HistoryError(f"{path}: {error}") from error


def read(path: Path, tags: Iterable[str] | None, t0: float, t1: float) -> dict[str, list[Sample]]:
    """Return the stored samples of the tags (None: of all) with t0 <= t <= t1, in order of time.

    Times are UNIX seconds UTC.  A tag that was never sampled has no entry.  Blocking.  Raises HistoryError.
    """
    wanted = None if tags is None else list(tags)
    found: dict[str, list[Sample]] = {}
    query = "SELECT t0, t1, samples, columns, data FROM blocks WHERE t1 >= ? AND t0 <= ? ORDER BY t0, number"
    with _reading(path) as connection:
        for row in connection.execute(query, (t0, t1)):
            for tag, samples in unpack(Block(*row), wanted).items():
                found.setdefault(tag, []).extend(sample for sample in samples if t0 <= sample.t <= t1)
    return found


def stored(path: Path, first: int, blocks: int) -> list[Stored]:
    """Return `blocks` blocks from number `first` on, to compare with the record by `block_hash`.

    Blocking.  Raises HistoryError.
    """
    with _reading(path) as connection:
        return _stored(connection, first - 1, first + blocks - 1)
