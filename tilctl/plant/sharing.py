"""Shared equipment: granted in the order of asking, never stolen, kept until it is given back and rests.

Whoever asks takes a place in the queue and keeps it until the grant, through hold and restart, or until it leaves.
What runs (a freezer with a programme) is granted to nobody, whoever gave it back: unknown is not idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from devices.clock import Clock
from devices.instrument import Instrument
from devices.reading import Quality
from tilctl.plant.image import ProcessImage
from tilctl.plant.outputs import OutputGate

_NEXT = timedelta(milliseconds=1)  # the resolution of the record: no two places are of the same moment
_RUNS = "program_state"  # the point by which an instrument with a programme of its own says whether it runs


@dataclass(slots=True)
class Holder:
    """Who has a device, since when; `leaving`: it is given back as soon as the device is known to rest."""

    owner: str
    since: datetime
    leaving: bool = False


@dataclass(slots=True)
class Place:
    """A place in the queue for a device."""

    since: datetime
    owner: str
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class Sharing:
    """Who has which shared device, and who waits for it."""

    def __init__(self, gate: OutputGate, clock: Clock, rests: Callable[[str], bool]) -> None:
        """Share devices behind a gate; `rests(device)` tells whether it is known to run nothing."""
        self.changed: list[Callable[[], None]] = []  # told on the loop when an owner or a queue has changed
        self._gate = gate
        self._clock = clock
        self._rests = rests
        self._holders: dict[str, Holder] = {}
        self._queues: dict[str, list[Place]] = {}
        self._log = structlog.get_logger("sharing")

    def owner(self, device: str) -> str | None:
        """Return which batch has a device."""
        holder = self._holders.get(device)
        return None if holder is None else holder.owner

    def holder(self, device: str) -> Holder | None:
        """Return who has a device and since when."""
        return self._holders.get(device)

    def queue(self, device: str) -> tuple[str, ...]:
        """Return who waits for a device, the next one first."""
        return tuple(place.owner for place in self._queues.get(device, ()))

    def ask(self, devices: Iterable[str], owner: str, since: datetime) -> datetime:
        """Take a place in the queue for each device, all at once, and return the moment that it counts from.

        That is later than any that waits, even if the clock was set back.  Who has a place or a device keeps it.
        Invariant: one order for all devices, so that two who need the same two never wait for each other.
        """
        wanted = [device for device in devices if not self._has(device, owner)]
        known = [place.since for queue in self._queues.values() for place in queue if place.owner == owner]
        newest = max((place.since for queue in self._queues.values() for place in queue), default=None)
        if known:
            since = min(known)
        elif newest is not None and since <= newest:
            since = newest + _NEXT
        for device in wanted:
            if owner not in self.queue(device):
                self.wait_again(device, owner, since)
        return since

    def wait_again(self, device: str, owner: str, since: datetime) -> None:
        """Put a batch into the queue at the place that belongs to the moment of its asking."""
        queue = self._queues.setdefault(device, [])
        queue.append(Place(since, owner))
        queue.sort(key=lambda place: (place.since, place.owner))
        self._serve(device)
        self._tell()

    async def acquire(self, device: str, owner: str) -> None:
        """Wait until `owner`, which has asked, has the device; a cancelled wait keeps its place.

        Raises RuntimeError when it has no place in the queue.
        """
        if self._has(device, owner):
            return
        place = next((place for place in self._queues.get(device, ()) if place.owner == owner), None)
        if place is None:
            raise RuntimeError(f"{owner} waits for {device} and has not asked for it")
        await place.granted.wait()

    def restore(self, device: str, owner: str, since: datetime, *, leaving: bool = False) -> bool:
        """Give a device back to the batch that had it before the controller was down; False when another has it."""
        if not self._grant(device, Holder(owner, since, leaving)):
            return False
        self._serve(device)
        self._tell()
        return True

    def release(self, device: str, owner: str) -> None:
        """Leave the queue, or give the device back; the next has it at once, or when it is known to rest."""
        queue = self._queues.get(device, [])
        queue[:] = [place for place in queue if place.owner != owner]
        holder = self._holders.get(device)
        if holder is not None and holder.owner == owner:
            holder.leaving = True
        self._serve(device)
        self._tell()

    def scanned(self, device: str) -> None:
        """Look whether a device that was read just now can go to the next."""
        holder = self._holders.get(device)
        if (holder is not None and holder.leaving) or (holder is None and self._queues.get(device)):
            before = self.owner(device)
            self._serve(device)
            if self.owner(device) != before:
                self._tell()

    def _has(self, device: str, owner: str) -> bool:
        holder = self._holders.get(device)
        return holder is not None and holder.owner == owner and not holder.leaving

    def _serve(self, device: str) -> None:
        """Invariant: what runs is granted to nobody, and nobody is granted out of turn."""
        if not self._rests(device):
            return
        holder = self._holders.get(device)
        if holder is not None and holder.leaving:
            del self._holders[device]
            self._gate.release_device(holder.owner, device)
            holder = None
        queue = self._queues.get(device)
        if holder is None and queue and self._grant(device, Holder(queue[0].owner, self._clock.now())):
            queue.pop(0).granted.set()

    def _grant(self, device: str, holder: Holder) -> bool:
        held = self._gate.owner(device)
        if held is not None and held != holder.owner:
            self._log.error("shared_device_has_an_owner", device=device, owner=held, wanted_by=holder.owner)
            return False
        self._gate.claim(holder.owner, (device,))
        self._holders[device] = holder
        return True

    def _tell(self) -> None:
        for callback in self.changed:
            callback()


def known_to_rest(image: ProcessImage, instruments: Mapping[str, Instrument], device: str) -> bool:
    """Return whether an instrument runs no programme; one that says nothing, or nothing new, may run."""
    blocks = instruments[device].profile.blocks.values()
    if not any(point.name == _RUNS for block in blocks for point in block.points):
        return True
    reading = image.get(f"{device}.{_RUNS}")
    return reading is not None and reading.quality is Quality.GOOD and reading.value != "running"
