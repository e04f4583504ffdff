"""What an instrument has said: the latest message of each block, whether it is there, and answers that are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from devices.clock import Clock
from devices.mqtt.payload import MISSING, Payload, PayloadError, as_text, filled, fits, readings
from devices.mqtt.types import Ack, MqttProfile
from devices.reading import Quality, Reading, bad

MOST_AWAITED = 16
"""Answers that may be awaited at once."""

_Places = Mapping[str, bool | int | float | str]


@dataclass(slots=True)
class InboxCounts:
    """What came."""

    messages: int = 0
    malformed: int = 0
    """Too long, not UTF-8, or no JSON where JSON was expected."""
    unmatched: int = 0
    """Answers that nobody waits for: late, or to somebody else."""


class Awaited:
    """An answer to one command; `done` with `refusal` "" when it was carried out."""

    def __init__(self, ack: Ack, places: _Places) -> None:
        self.topic = filled(ack.topic, places)
        self.done = False
        self.refusal = ""
        self._ack = ack
        self._places = places

    def take(self, payload: Payload) -> bool:
        """Tell whether this is the answer; raises PayloadError when it is no JSON."""
        if not fits(payload, self._ack.match, self._places):
            return False
        if self._ack.refusal is not None and (why := payload.at(self._ack.refusal)) is not MISSING:
            self.refusal = (as_text(why) or "the instrument gives no reason")[:200]
        self.done = True
        return True


@dataclass(frozen=True, slots=True)
class Heard:
    """A message of a block: when it came (monotonic s), and whether it was sent just then (not kept by the broker)."""

    payload: Payload | None
    at: float
    live: bool


class Inbox:
    """Takes the messages of one instrument."""

    def __init__(self, profile: MqttProfile, places: _Places, clock: Clock) -> None:
        """Begin with nothing heard; `places` fill the topics of the profile."""
        self.counts = InboxCounts()
        self.online: bool | None = None
        """What its online topic says; None while it said nothing."""
        self.word = ""
        """The last word on that topic."""
        self.alive = False
        """Whether it has sent anything on this connection."""
        self.numbers = dict.fromkeys(profile.topics, 0)
        """How many live messages each block has had; none is ever taken back."""
        self._profile = profile
        self._clock = clock
        self._online_topic = filled(profile.online.topic, places)
        self._blocks: dict[str, list[str]] = {}
        for block, source in profile.topics.items():
            self._blocks.setdefault(filled(source.topic, places), []).append(block)
        self._answers = {filled(a.ack.topic, places) for a in profile.actions.values() if a.ack is not None}
        self._points = {
            block.id: [(point, profile.places[point.name]) for point in block.points]
            for block in profile.blocks.values()
        }
        self._heard: dict[str, Heard] = {}
        self._awaited: list[Awaited] = []
        self._news = asyncio.Event()

    @property
    def topics(self) -> Sequence[str]:
        """Return what must be subscribed to."""
        return list(dict.fromkeys((self._online_topic, *self._blocks, *self._answers)))

    def heard(self, block: str) -> Heard | None:
        """Return the latest message of a block; None where there is none."""
        return self._heard.get(block)

    def clear(self) -> None:
        """Forget what was said: the connection is gone, or the instrument."""
        self._heard.clear()
        self.online, self.alive, self.word = None, False, ""
        self._tell()

    def receive(self, topic: str, data: bytes, *, retained: bool) -> None:
        """Take a message; never waits."""
        self.counts.messages += 1
        try:
            payload: Payload | None = Payload(data)
        except PayloadError:
            self.counts.malformed += 1
            payload = None
        if topic == self._online_topic and payload is not None:
            self._presence(payload.text.strip())
        for block in self._blocks.get(topic, ()):
            self._block(block, payload, live=not retained)
        if topic in self._answers and payload is not None and not retained:
            self._answer(topic, payload)
        self._tell()

    def _presence(self, word: str) -> None:
        self.word = word[:80]
        self.online = word in self._profile.online.payloads
        if not self.online:
            self._heard.clear()  # Invariant: nothing of before counts when it comes back
            self.alive = False

    def _block(self, block: str, payload: Payload | None, *, live: bool) -> None:
        known = self._heard.get(block)
        if not live and known is not None and known.live:
            return
        has = self._profile.topics[block].has
        if has is not None:
            try:
                if payload is None or payload.at(has) is MISSING:
                    return  # another message of this topic
            except PayloadError:
                self.counts.malformed += 1
                return
        elif payload is not None and not self._readable(block, payload):
            self.counts.malformed += 1
            payload = None
        self._heard[block] = Heard(payload, self._clock.monotonic(), live)
        if live:
            self.alive = True
            self.numbers[block] += 1

    def _readable(self, block: str, payload: Payload) -> bool:
        path = next((place.path for _, place in self._points[block] if place.path), None)
        try:
            if path is not None:
                payload.at(path)
        except PayloadError:
            return False
        return True

    def _answer(self, topic: str, payload: Payload) -> None:
        for awaited in self._awaited:
            try:
                if awaited.topic == topic and not awaited.done and awaited.take(payload):
                    return
            except PayloadError:
                self.counts.malformed += 1
                return
        self.counts.unmatched += 1

    def expect(self, awaited: Awaited) -> bool:
        """Wait for an answer; tells whether there was room."""
        if len(self._awaited) >= MOST_AWAITED:
            return False
        self._awaited.append(awaited)
        return True

    def forget(self, awaited: Awaited) -> None:
        """Wait no longer."""
        if awaited in self._awaited:
            self._awaited.remove(awaited)

    async def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until `done` says so, at most `seconds`; tells whether it did."""
        deadline = self._clock.monotonic() + seconds
        while not done():
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                return done()
        return True

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def readings(self, block: str) -> dict[str, Reading]:
        """Return the readings of a block as they are now: what the broker had kept is uncertain, what is old stale."""
        now, heard = self._clock.monotonic(), self._heard.get(block)
        points = self._points[block]
        if heard is None or heard.payload is None:
            return {point.name: bad(point.unit, now if heard is None else heard.at) for point, _ in points}
        found = readings(heard.payload, points, heard.at)
        if not heard.live:
            found = {
                name: replace(reading, quality=Quality.UNCERTAIN) if reading.quality is Quality.GOOD else reading
                for name, reading in found.items()
            }
        return {point.name: found[point.name].aged(now, point.stale_ms / 1000) for point, _ in points}
