"""A commercial controlled-rate freezer by its contacts: start, running, alarm, hold; the programme is its own.

None of these freezers has a public register map, so nothing but contacts is asked of it, and our own probes say what
the chamber and the sample do.  A person has stored programmes in it, each with a start contact of its own; the site
file says which, by the digest of their rows.  A batch that wants another is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devices.equipment.base import Parts, Source
from devices.equipment.freezer import ABORTED, COMPLETE, FAULT, IDLE, RUNNING, PartsFreezer, Probes, named
from devices.equipment.outputs import switch
from devices.instrument import CommandRefused, DeviceError, DeviceOffline, NotApplied, OutcomeUnknown, Priority
from devices.kept import Kept
from devices.reading import Quality
from devices.role import BOOL

PULSE_S = 0.5  # s that a start contact is closed
RUNNING_WITHIN_S = 10.0  # s from the start until the running contact must have closed
LOOK_EVERY_S = 0.5
OPEN_FOR_S = 10.0  # s that the running contact stands open before a run has ended
WARM_ENOUGH = 1.0  # degC: below this something may be frozen in it, and no run begins


@dataclass(frozen=True, slots=True)
class Contacts:
    """Where the freezer is wired to an I/O module: outputs `hold` and one of `starts`, inputs `running` and `alarm`.

    `starts` maps the digest of each stored programme to the output that starts it.
    """

    part: str
    starts: Mapping[str, int]
    running: int
    alarm: int
    hold: int | None = None


def digest(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the digest of a programme, by which the site file names the one that is stored in the freezer."""
    table = [row for row in map(named, rows) if row["kind"] != "end"]
    plain = [[row[key] for key in ("kind", "listen", "rate", "target", "end", "timeout")] for row in table]
    whole = [[float(value) if isinstance(value, (int, float)) else str(value) for value in row] for row in plain]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]


class ContactFreezer(PartsFreezer):
    """The role `freezer` by contacts."""

    def __init__(self, name: str, parts: Parts, contacts: Contacts, probes: Probes, kept: Kept) -> None:
        """Build it."""
        self._contacts = contacts
        self._open_since: float | None = None  # monotonic s, since when the running contact is open
        super().__init__(name, parts, (contacts.part,), probes, kept)

    def program_state(self) -> tuple[str | None, float]:
        """Return what the contacts mean."""
        running, alarm = (
            self.seen(Source(self._contacts.part, f"di_{n}"), BOOL)
            for n in (self._contacts.running, self._contacts.alarm)
        )
        at = min(running.at, alarm.at)
        if running.quality is not Quality.GOOD or alarm.quality is not Quality.GOOD:
            return None, at
        if alarm.value is True:
            return FAULT, at
        if running.value is True:
            self._open_since = None
            return RUNNING, at
        if self.run.ended_as == RUNNING and self.ran:
            # Invariant: a contact that bounces ends no run.
            self._open_since = running.at if self._open_since is None else self._open_since
            return (COMPLETE if running.at - self._open_since >= OPEN_FOR_S else RUNNING), at
        if self.run.ended_as == RUNNING:
            return IDLE, at
        return (self.run.ended_as if self.run.ended_as in (COMPLETE, ABORTED) else IDLE), at

    def ready(self, state: str | None) -> bool:
        """Tell whether neither contact is closed, and our own probe says that nothing in it is frozen."""
        probe = self._probes.chamber or self._probes.sample
        cold = self.number(probe)
        return state in (IDLE, COMPLETE, ABORTED) and cold is not None and cold > WARM_ENOUGH

    async def load(self, rows: list[Mapping[str, Any]], priority: Priority) -> None:
        """Compare the programme with what is stored in the freezer: nothing can be written into it."""
        found = digest(rows)
        start = self._contacts.starts.get(found)
        if start is None:
            known = ", ".join(self._contacts.starts) or "none"
            text = f"its programme has the digest {found}; stored in the freezer are {known}"
            raise CommandRefused(self.name, text, "store it by hand, and name its digest in the site file")
        self.run.slot = start

    async def begin(self, priority: Priority) -> None:
        """Close the start contact for a moment; the running contact is the proof."""
        contacts = self._contacts
        self._open_since = None
        if contacts.hold is not None:  # it is closed since the last run was held
            await self._contact(contacts.hold, 0.0, priority)
        await self._contact(self.run.slot, 1.0, priority)
        try:
            await self.clock.sleep(PULSE_S)
            await self._contact(self.run.slot, 0.0, priority)
        except DeviceError as error:  # the start was sent: whatever comes now, nobody may take it for not sent
            raise OutcomeUnknown(
                self.name, f"start: the contact did not open again: {error}", "look at it", {}
            ) from error
        deadline = self.clock.monotonic() + RUNNING_WITHIN_S
        while self.clock.monotonic() < deadline:
            await self.look(contacts.part, priority)
            if self.program_state()[0] in (RUNNING, FAULT):
                return
            await self.clock.sleep(LOOK_EVERY_S)

    async def end(self, priority: Priority) -> None:
        """Close the hold contact, where there is one: the freezer stays where it is."""
        contacts = self._contacts
        if contacts.hold is None:
            raise CommandRefused(self.name, "it has no hold contact: end the run at its panel", "go there now")
        before, self.run.ended_as = self.run.ended_as, ABORTED
        try:
            await self._contact(contacts.hold, 1.0, priority)
        except (CommandRefused, DeviceOffline, NotApplied):  # it runs on
            self.run.ended_as = before
            raise

    async def _contact(self, channel: int, value: float, priority: Priority) -> None:
        await switch(self, self._contacts.part, channel, value, priority)
