"""The output gate: the one way to a device.  Ownership, cause and permits are checked here, and nowhere else.

Every write has a cause: an event of its owner's record that is on disk already.  Three kinds of writes are told apart:

- `one_shot`: what must happen once (a dose, the start of a freezing run).  Its cause is an intent of this life of the
  controller, and each cause is commanded at most once.
- `attached`: what belongs to an open intent and does nothing by itself (a way through the valves, a programme).
- `idempotent`: what may be written again (a target).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from devices.instrument import DeviceError, Instrument, OutcomeUnknown, Priority
from devices.reading import Reading
from devices.role import PAUSE
from tilctl.plant.complaints import Complaints

ACT_WITHIN = 60.0  # s for one command with its read-back; drivers end far below that
PROTECT_WITHIN = 5.0  # s; a device that does not answer in this time does not keep the others waiting

Permit = Callable[[str, str, Mapping[str, Any]], str]
Bar = Callable[[str, str], str]
Seen = Callable[[str, Mapping[str, Reading]], None]
Kind = Literal["one_shot", "attached", "idempotent"]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is written: the event number `seq` of the owner's record, which step it is of, and how it binds."""

    path: str
    seq: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Act:
    """One write, as it is about to be sent; `owner` is "" and `cause` None where it is protective and nobody's."""

    owner: str
    device: str
    command: str
    args: Mapping[str, Any]
    cause: Cause | None
    protective: bool


Observer = Callable[[Act], None]


class OutputRefused(Exception):
    """An output that the gate did not let through; says which, and why."""

    def __init__(self, device: str, command: str, reason: str) -> None:
        super().__init__(f"{device}.{command} refused: {reason}")
        self.device = device
        self.command = command
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Protected:
    """What became of one protective write: `error` is empty when the device read back as wanted, after `seconds`."""

    device: str
    command: str
    error: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _OwnersRecord:
    """What the gate knows of an owner's record: its head, where this life began, and the one-shots commanded since."""

    head: Callable[[], int]
    since: int
    commanded: set[tuple[str, int]]


class OutputGate:
    """Every write to every device passes here."""

    def __init__(self, instruments: Mapping[str, Instrument], seen: Seen, shown: Seen | None = None) -> None:
        """Guard these instruments; `seen` takes what a device reads back after a command.

        `shown` takes that of a protective write, which nobody may act by at once (None: as any other).
        """
        self._instruments = instruments
        self._seen = seen
        self._shown = shown or seen
        self._owners: dict[str, str] = {}
        self._records: dict[str, _OwnersRecord] = {}
        self._permits: list[Permit] = []
        self._bars: list[Bar] = []
        self._cuts: list[Bar] = []
        self.observers: list[Observer] = []  # told just before each write; must return at once
        self.over: list[
            Callable[[str, str], None]
        ] = []  # told (device, command) when a write is over, whatever it came to
        self._complaints = Complaints()
        self._log = structlog.get_logger("outputs")

    def permit(self, permit: Permit) -> None:
        """Ask `permit(device, command, args)` before each unprotective write; a text refuses it, "" lets it pass."""
        self._permits.append(permit)

    def bar(self, bar: Bar, cut: Bar) -> None:
        """Ask `bar(device, command)` before each unprotective write, first of all: an interlock refuses by a text.

        `cut` says the same of what an interlock has cut off only, without the permissives.
        """
        self._bars.append(bar)
        self._cuts.append(cut)

    def barred(self, device: str, command: str) -> str:
        """Return why an interlock or a permissive refuses a command now, "" where none does.

        Invariant: one that breaks permits nothing.
        """
        return self._refusal(self._bars, device, command)

    def cut_off(self, device: str, command: str) -> str:
        """Return why an interlock keeps a command cut off; what makes safe gives way to that, and to no permissive."""
        return self._refusal(self._cuts, device, command)

    def _refusal(self, bars: list[Bar], device: str, command: str) -> str:
        for bar in bars:
            try:
                reason = bar(device, command)
            except Exception as error:  # noqa: BLE001 - one that breaks permits nothing
                self._log.exception("bar_failed", device=device, command=command)
                return f"internal error in an interlock: {error!r:.200}"
            if reason:
                return reason
        return ""

    def claim(self, owner: str, devices: tuple[str, ...], *, head: Callable[[], int] | None = None) -> None:
        """Give devices to one owner; raises OutputRefused when another has one of them.

        `head` tells the number of the last event on disk of the owner's record; without one nothing is let through.
        What it says at the owner's first claim is where this life of the controller begins.
        """
        for device in devices:
            held = self._owners.get(device)
            if held is not None and held != owner:
                raise OutputRefused(device, "claim", f"it belongs to batch {held}")
        for device in devices:
            self._owners[device] = owner
        if head is not None and owner not in self._records:
            self._records[owner] = _OwnersRecord(head, head(), set())

    def release(self, owner: str) -> None:
        """Take back everything that an owner has."""
        for device in [name for name, held in self._owners.items() if held == owner]:
            del self._owners[device]
        self._records.pop(owner, None)

    def release_device(self, owner: str, device: str) -> None:
        """Take back one device, if it is that owner's."""
        if self._owners.get(device) == owner:
            del self._owners[device]

    def owner(self, device: str) -> str | None:
        """Return who owns a device."""
        return self._owners.get(device)

    async def act(
        self, owner: str, device: str, command: str, args: Mapping[str, Any] | None = None, *, cause: Cause
    ) -> dict[str, Reading]:
        """Command a device once and return what was read back.

        Raises OutputRefused before anything is sent, or a DeviceError (of which OutcomeUnknown says that nobody
        knows whether the device acted).
        """
        given = args or {}
        held = self._owners.get(device)
        # Invariant: one owner for each device; nobody else's batch moves it.
        if held != owner:
            raise OutputRefused(device, command, f"it belongs to {held or 'nobody'}, not to {owner}")
        record = self._checked(owner, device, command, cause)
        # Invariant: no writer passes an interlock or a permissive that is against it.
        if barred := self.barred(device, command):
            raise OutputRefused(device, command, barred)
        for permit in self._permits:
            reason = permit(device, command, given)
            if reason:
                raise OutputRefused(device, command, reason)
        if cause.kind == "one_shot":
            record.commanded.add((device, cause.seq))
        self._tell(Act(owner, device, command, given, cause, protective=False))
        try:
            async with asyncio.timeout(ACT_WITHIN):
                readings = await self._instruments[device].command(command, given, Priority.COMMAND)
        except DeviceError:
            raise
        except Exception as error:  # a driver that breaks or hangs: whether it had written is not known
            what = (
                f"no end within {ACT_WITHIN:g} s" if isinstance(error, TimeoutError) else f"its driver broke: {error!r}"
            )
            raise OutcomeUnknown(device, f"{command}: {what}", "look at the instrument", {}) from error
        finally:
            self._ended(device, command)
        self._seen(device, readings)
        return readings

    async def upkeep(self, device: str, command: str, args: Mapping[str, Any]) -> dict[str, Reading]:
        """Arm, feed or disarm a device's own watchdog, or have a rocker stand for a while: of no owner, on no record.

        Raises OutputRefused for any other command, or a DeviceError.
        """
        profile = self._instruments[device].profile
        watchdog = profile.watchdog
        # Invariant: nothing else goes to a device without an owner and a cause but what makes it safe, and a pause that
        # the device bounds and ends by itself.
        if command != (PAUSE if PAUSE in profile.commands else None) and (
            watchdog is None or command != watchdog.command
        ):
            raise OutputRefused(device, command, "this is not the command of its watchdog")
        self._tell(Act(self._owners.get(device, ""), device, command, args, None, protective=True))
        readings = await self._instruments[device].command(command, args, Priority.ALARM)
        self._seen(device, readings)
        return readings

    def _checked(self, owner: str, device: str, command: str, cause: Cause) -> _OwnersRecord:
        """Return the owner's record when it holds the cause of a write; raises OutputRefused."""
        record = self._records.get(owner)
        # Invariant: intent before act: what wants a write is on disk before a device hears of it.
        if record is None or not 1 <= cause.seq <= record.head():
            raise OutputRefused(device, command, f"its cause, event {cause.seq} of {owner}, is not on disk")
        known = self._instruments[device].profile.commands.get(command)
        if known is not None and not known.idempotent and cause.kind != "one_shot":
            raise OutputRefused(device, command, f"it must not be repeated, and was given as {cause.kind}")
        if cause.kind == "idempotent":
            return record
        # Invariant: what an earlier life of the controller began is closed by evidence, never commanded again.
        if cause.seq <= record.since:
            raise OutputRefused(device, command, f"its cause, event {cause.seq}, is from before the controller started")
        # Invariant: at most once: one cause, one command to a device.
        if cause.kind == "one_shot" and (device, cause.seq) in record.commanded:
            raise OutputRefused(device, command, f"event {cause.seq} was commanded already")
        return record

    def _tell(self, act: Act) -> None:
        for observer in self.observers:
            try:
                observer(act)
            except Exception:  # noqa: BLE001 - whoever looks on keeps nothing from being stopped
                self._log.exception("observer_failed", device=act.device, command=act.command)

    def _ended(self, device: str, command: str) -> None:
        """Tell that a write is over.  Invariant: one that an interlock overtook does not outlast it."""
        for observer in self.over:
            try:
                observer(device, command)
            except Exception:  # noqa: BLE001 - what breaks here does not change what became of the write
                self._log.exception("observer_failed", device=device, command=command)

    async def protect(self, device: str, command: str, args: Mapping[str, Any] | None = None) -> Protected:
        """Write a protective output (stop, close), at once, whoever owns the device; never raises, always bounded."""
        self._tell(Act(self._owners.get(device, ""), device, command, args or {}, None, protective=True))
        loop = asyncio.get_running_loop()
        began = loop.time()
        work = loop.create_task(self._protected(device, command, args or {}), name=f"protect:{device}")
        try:
            # Not a time-out around the call: one that cannot even be cancelled keeps nobody waiting either.
            await asyncio.wait((work,), timeout=PROTECT_WITHIN)
        finally:
            work.cancel()
            self._ended(device, command)
        error = work.result() if work.done() and not work.cancelled() else f"no answer within {PROTECT_WITHIN:g} s"
        self._complain(device, command, error, loop.time())
        return Protected(device, command, error, loop.time() - began)

    def _complain(self, device: str, command: str, error: str, now: float) -> None:
        """Log a failure and its end; a device that is silent for a week is tried every 5 s."""
        if error and (trouble := self._complaints.failed(device, command, now, error)):
            self._log.error("protective_write_failed", device=device, command=command, error=error, tries=trouble.tries)
        elif not error and (over := self._complaints.worked(device, command)):
            self._log.warning(
                "protective_write_recovered", device=device, command=command, tries=over.tries,
                lasted_s=round(now - over.since, 1),
            )  # fmt: skip

    async def _protected(self, device: str, command: str, args: Mapping[str, Any]) -> str:
        try:
            readings = await self._instruments[device].command(command, args, Priority.STOP)
        except DeviceError as failure:
            return str(failure)
        except Exception as failure:  # noqa: BLE001 - Invariant: what breaks here keeps no other device from being made safe
            return f"internal error: {failure!r}"
        try:
            self._shown(device, readings)  # or what was read before the write would pass for what stands now
        except Exception:  # noqa: BLE001 - it is safe all the same
            self._log.exception("observer_failed", device=device, command=command)
        return ""
