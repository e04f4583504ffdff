"""A commercial controlled-rate freezer by its contacts: start, running, alarm, hold; the programme is its own.

None of these freezers has a public register map, so nothing but contacts is asked of it, and our own probes say what
the chamber and the sample do.  A person has stored programmes in it, each with a start contact of its own; the site
file says which, by the digest of their rows.  A batch that wants another is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from devices.equipment.base import Parts, Source
from devices.equipment.freezer import ABORTED, COMPLETE, FAULT, IDLE, RUNNING, PartsFreezer, Probes, named
from devices.equipment.outputs import switch
from devices.instrument import CommandRefused, DeviceError, DeviceOffline, NotApplied, OutcomeUnknown, Priority
from devices.kept import Kept
from devices.reading import Quality, Reading
from devices.role import BOOL

PULSE_S = 0.5  # s that a start contact is closed
RUNNING_WITHIN_S = 10.0  # s from the start until the running contact must have closed
LOOK_EVERY_S = 0.5
OPEN_FOR_S = 10.0  # s that the running contact stands open before a run has ended
ALARM_FOR_S = 10.0  # s that the alarm contact stands closed before it is a fault
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
        self._alarm_since: float | None = None  # monotonic s, since when the alarm contact is closed
        self._stopped = False  # the running contact has stood open since the last start: what closes it is another run
        self._unproven = False  # a start was, or may have been, sent, and its run was not seen yet
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
        closed = running.value is True
        self._time(running, alarm)
        stopped = self._open_since is not None and running.at - self._open_since >= OPEN_FOR_S
        self._stopped = self._stopped or stopped
        # Invariant: a contact that bounces ends no run.
        if self._alarm_since is not None and alarm.at - self._alarm_since >= ALARM_FOR_S:
            return FAULT, at
        ended_as = self.run.ended_as
        if closed:
            if ended_as == FAULT and self._alarm_since is None and not self._stopped:
                self.run.ended_as = RUNNING  # the fault is over, and it has run all the while
            return RUNNING, at
        if ended_as == RUNNING and self.ran:  # an alarm that may become a fault is waited for
            return (COMPLETE if stopped and self._alarm_since is None else RUNNING), at
        if ended_as == FAULT and not stopped:
            return FAULT, at
        return (ended_as if ended_as in (COMPLETE, ABORTED) else IDLE), at

    def _time(self, running: Reading, alarm: Reading) -> None:
        """Take in since when the running contact is open and the alarm contact closed, by the times of the readings."""
        if alarm.value is not True:
            self._alarm_since = None
        elif self._alarm_since is None:
            self._alarm_since = alarm.at
        if running.value is not True:
            self._open_since = running.at if self._open_since is None else self._open_since
            return
        self._open_since = None
        if self._unproven:  # the run is seen, however late
            self._unproven, self._stopped, self.ran = False, False, True

    def ready(self, state: str | None) -> bool:
        """Tell whether neither contact is closed, no start is in doubt, and our own probe says that nothing is frozen.

        Invariant: a freezer whose last start is in doubt may begin at any moment.
        """
        probe = self._probes.chamber or self._probes.sample
        cold = self.number(probe)
        rests = state in (IDLE, COMPLETE, ABORTED) and self._alarm_since is None and not self._unproven
        return rests and cold is not None and cold > WARM_ENOUGH

    def sequence(self, state: str | None) -> float:
        """Return the number of the last run; of a start in doubt its own.

        Invariant: a running contact that is late does not say that the start was not heard.
        """
        return float(self.run.sequence) if self._unproven else super().sequence(state)

    async def load(self, rows: list[Mapping[str, Any]], priority: Priority) -> None:
        """Compare the programme with what is stored in the freezer: nothing can be written into it."""
        found = digest(rows)
        start = self._contacts.starts.get(found)
        if start is None:
            known = ", ".join(self._contacts.starts) or "none"
            text = f"its programme has the digest {found}; stored in the freezer are {known}"
            raise CommandRefused(self.name, text, "store it by hand, and name its digest in the site file")
        self.run.slot = start

    async def begin(self, priority: Priority, ended: int) -> None:
        """Close the start contact for a moment; the running contact is the proof.

        Raises OutcomeUnknown where it does not close in time: the start stays in doubt until the run is seen, it is
        held by `end`, or the controller starts anew.
        """
        contacts = self._contacts
        self._open_since, self._stopped = None, False
        if contacts.hold is not None:  # it is closed since the last run was held
            await self._contact(contacts.hold, 0.0, priority)
            self.not_aborted(ended)
        self._unproven = True
        try:
            await self._contact(self.run.slot, 1.0, priority)
        except DeviceError as error:
            self._unproven = isinstance(error, (OutcomeUnknown, NotApplied))  # else it was not sent
            raise
        try:
            await self.clock.sleep(PULSE_S)
            await self._contact(self.run.slot, 0.0, priority)
        except DeviceError as error:  # the start was sent: whatever comes now, nobody may take it for not sent
            raise OutcomeUnknown(
                self.name, f"start: the contact did not open again: {error}", "look at it", {}
            ) from error
        deadline = self.clock.monotonic() + RUNNING_WITHIN_S
        while self.clock.monotonic() < deadline and ended == self.ended:
            with suppress(DeviceError):  # a look that fails proves nothing, least of all that nothing was sent
                await self.look(contacts.part, priority)
            if self.program_state()[0] in (RUNNING, FAULT):
                return
            await self.clock.sleep(LOOK_EVERY_S)
        if ended != self.ended:
            return
        text = f"start: the running contact did not close within {RUNNING_WITHIN_S:g} s; it may start yet"
        hint = "look at the freezer; if it does not run, abort it, or without a hold contact restart the controller"
        raise OutcomeUnknown(self.name, text, hint, {})

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
        self._unproven = False  # it is held, whether it had started or not

    async def _contact(self, channel: int, value: float, priority: Priority) -> None:
        await switch(self, self._contacts.part, channel, value, priority)
