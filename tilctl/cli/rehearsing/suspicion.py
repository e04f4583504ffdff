"""Which container a ledger may be wrong about: one whose own evidence a fault falsified, and of which the record spoke.

A fault concerns a container where it was at work on a dose that touched it: on the pump or the valves of that dose, on
the scale at either end, or as a leak of what hangs there.  What the record says concerns a dose, a container, or an
instrument of a dose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from simulators.faults.model import Fault
from tilctl.engine.intents import not_safe
from tilctl.engine.state import Intent

AT_PUMP = ("slip", "slow_drip", "occlusion", "bag_empty", "counter_reset", "clamp_stuck")
AT_READING = ("stuck", "offset", "drift", "noise", "nan", "stale", "swapped_words", "replaced", "sensor_break")
AT_WRITING = ("not_applied", "eeprom_worn")
ON_PATH = (*AT_PUMP, *AT_READING, *AT_WRITING)
AFTER = ("slow_drip", "clamp_stuck", "not_applied")  # what lets liquid flow when the dose is over
CHANNEL = "mass_"
WEIGHED_BEFORE_S = 30.0  # s before its intent in which a dose gathers its first evidence (20 s at most, and the read)


@dataclass(frozen=True, slots=True)
class Spell:
    """A fault that can falsify evidence, on some instruments; `port` 0 is all of a scale.  Times in s of the world."""

    what: str
    devices: tuple[str, ...]
    port: int
    since: float
    until: float

    def overlaps(self, since: float, until: float) -> bool:
        """Tell whether it was at work at some time in between."""
        return self.since <= until and since <= self.until


@dataclass(slots=True)
class Touch:
    """One dose: the containers that it touched with their ports, and whether the record has spoken of it."""

    number: int
    path: str
    pump: str
    ends: dict[str, int]
    since: float
    until: float = math.inf
    clamped: float = math.inf  # until when the clamps of its pump stood so: another dose moves them
    said: float = -math.inf  # when the record spoke of it last

    @property
    def devices(self) -> tuple[str, str]:
        """The instruments that carry it out."""
        return self.pump, self.pump.replace("pump", "valves")


@dataclass
class Suspicion:
    """Keeps faults, doses and remarks; `explains` judges.  `now` is seconds of the world."""

    now: Callable[[], float]
    _spells: list[Spell] = field(default_factory=list[Spell])
    _touches: dict[int, Touch] = field(default_factory=dict[int, Touch])
    _named: dict[str, float] = field(default_factory=dict[str, float])  # container -> when the record named it last
    _settled: dict[str, float] = field(default_factory=dict[str, float])  # container -> up to when all is explained
    _standing: set[str] = field(default_factory=set[str])  # alarms that say, for as long as they stand: it may flow

    # --- what happens ---------------------------------------------------------------------------------------------

    def befalls(self, fault: Fault, devices: Sequence[str]) -> None:
        """Take note of a fault that begins on some instruments."""
        if fault.what not in (*ON_PATH, "leak"):
            return
        point = str(fault.args.get("point", ""))
        port = int(fault.number("port")) if fault.what == "leak" else 0
        if point.startswith(CHANNEL):
            port = int(point.removeprefix(CHANNEL))
        now = self.now()
        self._spells.append(Spell(fault.what, tuple(devices), port, now, now + fault.lasts_s))

    def opens(self, intent: Intent, ends: dict[str, int]) -> None:
        """Take note of a dose; `ends` are the ports of its containers."""
        now = self.now()
        for other in self._touches.values():
            if other.pump == intent.device:
                other.clamped = min(other.clamped, now)
        self._touches[intent.number] = Touch(intent.number, intent.path, intent.device, ends, now - WEIGHED_BEFORE_S)

    def closes(self, intent: Intent, really: dict[str, int]) -> None:
        """Take note of its end; `really` are containers that it touched though it should not have."""
        touch = self._touches.get(intent.number)
        if touch is None:
            return
        touch.until = self.now()
        touch.ends |= really
        if intent.outcome == "in_doubt":
            touch.said = self.now()

    def says(self, path: str, text: str) -> None:
        """Take note of an alarm or exception: at a step's path, naming containers or instruments."""
        now = self.now()
        if text.startswith(not_safe("")):
            self._standing.add(text.partition(" ")[0])
        last = {touch.pump: touch.number for touch in self._touches.values()}
        for touch in self._touches.values():
            recent = touch.number == last[touch.pump] or touch.until == math.inf
            if (path and touch.path == path) or (recent and any(device in text for device in touch.devices)):
                touch.said = now
            if "scales" in text and touch.until == math.inf and self._of_its_scales(touch, text):
                touch.said = now
            for name in touch.ends:
                if name in text:
                    self._named[name] = now

    def _of_its_scales(self, touch: Touch, text: str) -> bool:
        channels = [word for word in text.replace(".", " ").replace(":", " ").split() if word.startswith(CHANNEL)]
        return not channels or any(f"{CHANNEL}{port}" in channels for port in touch.ends.values())

    # --- what follows ---------------------------------------------------------------------------------------------

    def clears(self, alarm: str) -> None:
        """Take note of the end of an alarm: what it says holds up to now."""
        if alarm in self._standing:
            self.says("", alarm)
            self._standing.discard(alarm)

    def explains(self, container: str, port: int) -> bool:
        """Tell whether a ledger may be wrong about a container; what was explained once explains nothing further."""
        for alarm in self._standing:
            self.says("", alarm)
        touches = [touch for touch in self._touches.values() if container in touch.ends]
        last = max([self._named.get(container, -math.inf), *(touch.said for touch in touches)])
        settled = self._settled.get(container, -math.inf)
        # what the record says of a fault comes after it, and after what was explained before
        found = last > settled and any(since <= last for since in self._suspected(port, touches))
        if found:
            self._settled[container] = self.now()
        return found

    def suspected(self, container: str, port: int) -> bool:
        """Tell whether a fault was at work on its evidence, whatever the record says."""
        touches = [touch for touch in self._touches.values() if container in touch.ends]
        return any(True for _ in self._suspected(port, touches))

    def _suspected(self, port: int, touches: Iterable[Touch]) -> Iterator[float]:
        """Yield since when each fault was at work on doses of a container, or on what hangs there."""
        for touch in touches:
            for spell in self._spells:
                until = touch.clamped if spell.what in AFTER else touch.until
                if self._concerns(spell, touch) and spell.overlaps(touch.since, max(until, touch.until)):
                    yield max(touch.since, spell.since)
        yield from (spell.since for spell in self._leaks((port,)))

    def _concerns(self, spell: Spell, touch: Touch) -> bool:
        if spell.what in ON_PATH and any(device in spell.devices for device in touch.devices):
            return True
        weighs = "scales" in spell.devices and spell.what in (*AT_READING, "leak")
        return weighs and spell.port in (0, *touch.ends.values())

    def _leaks(self, ports: Sequence[int]) -> Iterable[Spell]:
        return (spell for spell in self._spells if spell.what == "leak" and spell.port in ports)
