"""The chain and the layout of a journal file: what makes a record a record.

A journal is one SQLite database.  Each event carries the hash of the one before it, so that no event can be changed,
removed, added or moved without every later hash changing.  To check a file without this program:

    for seq, t, event, prev, hash in "SELECT seq, t, event, prev, hash FROM events ORDER BY seq":
        sha256('[' + seq + ',"' + t + '",' + event + ',"' + prev + '"]') == hash, and prev is the hash before it

The first `prev` is 64 zeros; `event` is the text as stored.  What the chain cannot show is that events are missing at
its end: for that, heads are noted elsewhere (site.db, MQTT, the report).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from tilctl.journal.events import Event, seal

APPLICATION_ID = 0x74696C6A  # "tilj"; shown by file(1)
LAYOUT = 1  # PRAGMA user_version; another layout is another number
GENESIS = "0" * 64

# Invariant: an event is only ever added, and only after the last one; SQLite itself refuses everything else.
SCHEMA = {
    "events": """CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  t TEXT NOT NULL,
  event TEXT NOT NULL,
  prev TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT""",
    "heartbeat": "CREATE TABLE heartbeat (id INTEGER PRIMARY KEY CHECK (id = 1), t TEXT NOT NULL) STRICT",
    "events_in_order": """CREATE TRIGGER events_in_order BEFORE INSERT ON events
WHEN new.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM events)
  OR new.prev <> coalesce((SELECT hash FROM events ORDER BY seq DESC LIMIT 1), printf('%064d', 0))
BEGIN SELECT raise(ABORT, 'an event is added after the last one only'); END""",
    "events_stay": """CREATE TRIGGER events_stay BEFORE DELETE ON events
BEGIN SELECT raise(ABORT, 'events are never deleted'); END""",
    "events_unchanged": """CREATE TRIGGER events_unchanged BEFORE UPDATE ON events
BEGIN SELECT raise(ABORT, 'events are never changed'); END""",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One event with its place in the chain; `t` is RFC 3339 UTC with milliseconds."""

    seq: int
    t: str
    event: Event
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class Row:
    """A record as the file holds it, `event` being its canonical text."""

    seq: int
    t: str
    event: str
    prev: str
    hash: str


def stamp(moment: datetime) -> str:
    """Return an aware moment as records carry it: "2026-01-05T08:00:00.000Z" (milliseconds cut off, not rounded)."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def digest(seq: int, t: str, event: str, prev: str) -> str:
    """Return the hash of one event: SHA-256 over the canonical JSON of [seq, t, event, prev]."""
    return hashlib.sha256(f'[{seq},"{t}",{event},"{prev}"]'.encode()).hexdigest()


def link(event: Event, moment: datetime, after: tuple[int, str]) -> tuple[Record, Row]:
    """Return the record that follows the head `after` (sequence, hash); raises EventError."""
    text, sealed = seal(event)
    seq, t, prev = after[0] + 1, stamp(moment), after[1]
    own = digest(seq, t, text, prev)
    return Record(seq, t, sealed, prev, own), Row(seq, t, text, prev, own)
