"""What waits to be published: written by the core, read by the MQTT thread, bounded in every part.

- answers to commands: a queue; the oldest is dropped when it is full (the station asks again, with the same id);
- notices (transitions of alarms, what people are told): a queue of its own, so that a storm of alarms costs no answer;
- kept topics (state, prompts, alarms, heads): the latest value only;
- journal events: the journal itself is the outbox. A short memory holds the latest records; what has fallen out of
  it, or was committed before this process began, is read again from the batch file through `replay`. Batches that an
  earlier process left undelivered come first;
- readings: the latest of each tag, replaced.

Nothing here waits, and nothing raises into the core.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from devices.reading import Reading
from tilctl.journal.chain import Record
from tilctl.journal.verify import read

MEMORY = 2000
"""Records of a batch that are held in memory for delivery; older ones are read from the file."""
MAX_ANSWERS = 1000
MAX_NOTICES = 5000
MAX_STREAMS = 64

Replay = Callable[[str, str, int, int], Sequence[Record]]
"""(unit, batch, after seq, limit) -> the records that follow, from the batch file; empty where it cannot be read.

Called in the MQTT thread; may block, must not raise.
"""


@dataclass(frozen=True, slots=True)
class Post:
    """One answer on its way; `expiry` in s."""

    topic: str
    payload: bytes
    correlation: bytes
    expiry: int


@dataclass(frozen=True, slots=True)
class Scan:
    """The readings of one scan, and the two times that turn a reading's source time into a moment."""

    unit: str
    readings: Mapping[str, Reading]
    now: datetime
    monotonic: float


@dataclass(slots=True)
class Stream:
    """The events of one batch: how far the record goes, how far it was delivered."""

    unit: str
    batch: str
    delivered: int
    head: int
    memory: deque[Record] = field(default_factory=lambda: deque[Record](maxlen=MEMORY))
    older: list[Record] = field(default_factory=list[Record])
    """What was last read from the file, for a batch whose delivery has fallen behind `memory`; the thread's own."""
    unread: bool = False
    """An earlier process delivered up to here; how far the file goes is not known yet."""
    attached: bool = False


@dataclass(slots=True)
class OutboxCounts:
    """What was lost, since boot; each is zero in a healthy run."""

    answers_dropped: int = 0
    events_dropped: int = 0
    notices_dropped: int = 0


class Outbox:
    """Shared by the core and the MQTT thread; every method takes the lock for a moment and never waits."""

    def __init__(
        self,
        replay: Replay | None = None,
        delivered: Mapping[tuple[str, str], int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with what an earlier process left: `delivered` says up to which event of each (unit, batch)."""
        self._lock = threading.Lock()
        self._wake: Callable[[], None] = _nobody
        self._answers: deque[Post] = deque()
        self._notices: deque[Post] = deque()
        self._kept: dict[str, bytes] = {}
        self._changed: dict[str, None] = {}
        self._monotonic = monotonic
        self._unacknowledged: dict[str, float] = {}  # kept topic -> since when the broker lacks its latest value
        self._connected = False
        self._streams = {
            (unit, batch): Stream(unit, batch, seq, seq, unread=replay is not None)
            for (unit, batch), seq in (delivered or {}).items()
        }
        self._facts: tuple[dict[str, Any], bool] = ({}, False)  # what the status says beside, and whether it is new
        self._scans: dict[str, Scan] = {}
        self.replay = replay
        self.counts = OutboxCounts()

    # --- the core's side

    def answer(self, post: Post) -> None:
        """Queue an answer."""
        with self._lock:
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.popleft()
                self.counts.answers_dropped += 1
            self._answers.append(post)
        self._wake()

    def notice(self, post: Post) -> None:
        """Queue what is told once: the oldest is dropped when too much waits, for its like is on the record."""
        with self._lock:
            if len(self._notices) >= MAX_NOTICES:
                self._notices.popleft()
                self.counts.notices_dropped += 1
            self._notices.append(post)
        self._wake()

    def keep(self, topic: str, payload: bytes) -> None:
        """Set the retained value of a topic; nothing happens when it has this value."""
        with self._lock:
            if self._kept.get(topic) == payload:
                return
            self._kept[topic] = payload
            self._unacknowledged.setdefault(topic, self._monotonic())
            if self._connected:
                self._changed[topic] = None
        self._wake()

    def clear(self, topic: str) -> None:
        """Remove a retained topic, here and at the broker."""
        with self._lock:
            self._kept.pop(topic, None)
            self._unacknowledged.pop(topic, None)
            if self._connected:  # else the sweep after connecting finds what the broker still has
                self._changed[topic] = None
        self._wake()

    def attach(self, unit: str, batch: str, records: Sequence[Record]) -> None:
        """Take up a batch that has been created or opened: what was not delivered of its `records` follows."""
        with self._lock:
            stream = self._stream(unit, batch, 0)
            stream.attached, stream.unread = True, False
            stream.memory.extend(r for r in records if r.seq > max(stream.delivered, stream.head))
            stream.head = max(stream.head, records[-1].seq)
        self._wake()

    def look_again(self) -> None:
        """Look once more how far the records of earlier batches go: recovery may have written their ends."""
        with self._lock:
            for stream in self._streams.values():
                stream.unread = not stream.attached and self.replay is not None
        self._wake()

    def say(self, facts: Mapping[str, Any]) -> None:
        """Set what the retained status says beside `online`."""
        with self._lock:
            if self._facts[0] == facts:
                return
            self._facts = (dict(facts), True)
        self._wake()

    def event(self, unit: str, batch: str, record: Record) -> None:
        """Queue a committed record."""
        with self._lock:
            stream = self._stream(unit, batch, record.seq - 1)
            stream.memory.append(record)
            stream.head = record.seq
        self._wake()

    def scanned(self, scan: Scan) -> None:
        """Replace the latest readings: each tag's latest counts, whether a scan reads one instrument or all."""
        with self._lock:
            waiting = self._scans.get(scan.unit)
            readings = {**waiting.readings, **scan.readings} if waiting is not None else scan.readings
            self._scans[scan.unit] = Scan(scan.unit, readings, scan.now, scan.monotonic)

    # --- the thread's side

    def on_change(self, wake: Callable[[], None]) -> None:
        """Call `wake`, from any thread, whenever something waits."""
        self._wake = wake

    def unacknowledged_s(self, topic: str) -> float:
        """Return for how long the broker has lacked the latest value of a kept topic, s; 0 where it has it."""
        with self._lock:
            since = self._unacknowledged.get(topic)
            return 0.0 if since is None else self._monotonic() - since

    def connected(self) -> None:
        """Begin a connection: all kept topics go out again."""
        with self._lock:
            self._connected = True
            self._changed = dict.fromkeys(self._kept)

    def lost(self) -> None:
        """End a connection: kept topics wait in their latest value, nothing else is remembered."""
        with self._lock:
            self._connected = False
            self._changed.clear()

    def take_answers(self, limit: int) -> list[Post]:
        """Remove and return the oldest answers, and where there are few the oldest notices."""
        with self._lock:
            found = [self._answers.popleft() for _ in range(min(limit, len(self._answers)))]
            return found + [self._notices.popleft() for _ in range(min(limit - len(found), len(self._notices)))]

    def give_back(self, posts: Sequence[Post]) -> None:
        """Put back what could not be sent; notices among answers go before what waits, in their order."""
        with self._lock:
            self._answers.extendleft(reversed(posts))

    def take_kept(self, limit: int) -> list[tuple[str, bytes]]:
        """Return topics that changed with their value now (empty: remove), and regard them as sent."""
        with self._lock:
            topics = list(self._changed)[:limit]
            for topic in topics:
                del self._changed[topic]
            return [(topic, self._kept.get(topic, b"")) for topic in topics]

    def acknowledged(self, topic: str, payload: bytes) -> None:
        """Note that the broker has taken a value of a kept topic."""
        with self._lock:
            if self._kept.get(topic) == payload:
                self._unacknowledged.pop(topic, None)
            elif topic in self._unacknowledged:  # a newer value came while this one was on its way
                self._unacknowledged[topic] = self._monotonic()

    def is_kept(self, topic: str) -> bool:
        """Return whether a retained topic is still ours."""
        with self._lock:
            return topic in self._kept

    def facts(self) -> dict[str, Any]:
        """Return what the status says beside, and regard it as said."""
        with self._lock:
            self._facts = (self._facts[0], False)
            return dict(self._facts[0])

    @property
    def has_news(self) -> bool:
        """Return whether the status says something else than it said last."""
        return self._facts[1]

    def latest(self, unit: str) -> str:
        """Return the batch of a unit that was begun last, "" where none is known."""
        with self._lock:
            return next((s.batch for s in reversed(self._streams.values()) if s.unit == unit), "")

    def next_stream(self) -> Stream | None:
        """Return a batch with undelivered events, the oldest first."""
        with self._lock:
            return next((s for s in self._streams.values() if s.delivered < s.head or s.unread), None)

    def in_memory(self, stream: Stream) -> bool:
        """Return whether the next records of a batch need no file."""
        with self._lock:
            oldest = stream.memory[0].seq if stream.memory else stream.head + 1
            return not stream.unread and oldest <= stream.delivered + 1

    def next_events(self, stream: Stream, limit: int) -> list[Record]:
        """Return the next undelivered records of a batch, from memory or from its file.

        What neither has is counted as dropped and left out: a consumer sees the gap in `seq`.
        """
        if stream.unread:
            self._read_on(stream)
        with self._lock:
            after, memory = stream.delivered, list(stream.memory)
        if after >= stream.head:
            return []
        oldest = memory[0].seq if memory else stream.head + 1
        if oldest <= after + 1:
            stream.older = []
            return [r for r in memory if r.seq > after][:limit]
        if not any(r.seq == after + 1 for r in stream.older) and self.replay is not None:
            stream.older = [*self.replay(stream.unit, stream.batch, after, MEMORY)]
        follows = [r for r in stream.older if after < r.seq < oldest][:limit]
        if follows and follows[0].seq == after + 1:
            return follows
        with self._lock:
            self.counts.events_dropped += oldest - 1 - after
            stream.delivered = oldest - 1
        return []

    def _read_on(self, stream: Stream) -> None:
        """Read what follows in a file that nobody writes any more; at its end it is not unread any longer."""
        found = [] if self.replay is None else [*self.replay(stream.unit, stream.batch, stream.delivered, MEMORY)]
        with self._lock:
            if not stream.unread:  # attached meanwhile
                return
            stream.unread = len(found) == MEMORY
            if found:
                stream.older, stream.head = found, max(stream.head, found[-1].seq)

    def confirm(self, stream: Stream, seq: int) -> None:
        """Mark a batch as delivered up to `seq`."""
        with self._lock:
            stream.delivered = max(stream.delivered, seq)
            while stream.memory and stream.memory[0].seq <= stream.delivered:
                stream.memory.popleft()

    def take_scans(self) -> list[Scan]:
        """Remove and return the latest scan of each unit."""
        with self._lock:
            scans = list(self._scans.values())
            self._scans.clear()
        return scans

    def cursor(self) -> dict[tuple[str, str], int]:
        """Return up to which event each batch (unit, batch) was delivered."""
        with self._lock:
            return {key: stream.delivered for key, stream in self._streams.items()}

    @property
    def waiting(self) -> int:
        """Return how much waits: answers, notices of alarms, changed topics and undelivered events."""
        with self._lock:
            posts = len(self._answers) + len(self._notices)
            return posts + len(self._changed) + sum(s.head - s.delivered for s in self._streams.values())

    def _stream(self, unit: str, batch: str, start: int) -> Stream:
        """Return the stream of a batch, made if need be (delivered up to `start` if we know no better); locked."""
        stream = self._streams.get((unit, batch))
        if stream is None:
            stream = Stream(unit, batch, start, start)
            self._forget_finished(unit)
            self._streams[unit, batch] = stream
        return stream

    def _forget_finished(self, unit: str) -> None:
        """Drop earlier streams of a unit that are delivered; if too many are not, the oldest (counted)."""
        for key in [k for k, s in self._streams.items() if s.unit == unit and s.delivered >= s.head and not s.unread]:
            del self._streams[key]
        while len(self._streams) >= MAX_STREAMS:
            lost = self._streams.pop(next(iter(self._streams)))
            self.counts.events_dropped += lost.head - lost.delivered


def replay_from(path_of: Callable[[str, str], Path]) -> Replay:
    """Return a replay that reads the batch files; `path_of` gives the file of a unit's batch."""

    def replay(unit: str, batch: str, after: int, limit: int) -> Sequence[Record]:
        records, _ = read(path_of(unit, batch))  # an unreadable file gives no records
        return records[after : after + limit]

    return replay


def _nobody() -> None:
    """Wake nobody: no thread is attached."""
