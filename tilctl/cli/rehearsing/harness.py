"""What befalls a rehearsal: faults at their time or step, and those that only the one who runs the controller can do.

Faults of instruments and buses are the injector's (`simulators.faults`).  Here: power of the controller, its disk and
its wall clock, and the person's moods.  A rehearsal has no broker, so faults of a broker do not happen in it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simulators.faults.injector import Injector, of_devices
from simulators.faults.model import Fault
from simulators.physics.noise import stream, uniform
from tilctl.cli.rehearsing.cuts import Cut
from tilctl.journal import events as ev
from tilctl.journal.chain import Record

if TYPE_CHECKING:
    from tilctl.cli.rehearsing.world import World

ERRORS: Mapping[str, int] = {"full": errno.ENOSPC, "eio": errno.EIO, "read_only": errno.EROFS}
LYING = (  # what makes ledger and plant differ though every dose was done right
    "leak", "slow_drip", "slip", "bag_empty", "offset", "noise", "stuck", "stale", "swapped_words", "occlusion",
    "clamp_stuck", "replaced", "counter_reset", "not_applied", "wrong_volume", "contradictory", "nan",
)  # fmt: skip
AFTERMATH_S = 4 * 3600.0  # s after a fault of an instrument in which its effects are still its own
REPAIR_S = (60.0, 1800.0)  # s until somebody starts a controller again whose record was lost
DIES_AGAIN = 0.25  # share of starts after a power cut that are cut short once more
IN_RECOVERY_S = 6.0  # s that a recovery takes about


class Harness:
    """Carries out the schedule of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: list[Fault] = []  # for their step
        self._cuts = list(world.plan.cuts)
        self._seen: Counter[str] = Counter()
        self._own: Counter[str] = Counter()
        self._disk: str = ""
        self._disk_until = 0.0
        self._failed = False
        self._troubles: dict[str, float] = {}  # instrument or bus -> until when it is under a fault
        self._falsified = False
        self._started = False
        self._stepped = 0.0
        self._again = 0
        self.next_outage = 0.0
        self._injector = Injector([world.plant], world.servers, world.clock) if world.plan.faults else None

    # --- when -----------------------------------------------------------------------------------------------------

    def recorded(self, record: Record) -> None:
        """Begin what waits for this event."""
        event = record.event
        if not self._started and isinstance(event, ev.StateChanged):
            self._started = True
            for fault in self._world.plan.faults:
                if fault.time_s is None:
                    self._waiting.append(fault)
                else:
                    self._world.spawn(self._later(fault.time_s, fault), "fault")
        if isinstance(event, ev.StepStarted):
            for fault in [fault for fault in self._waiting if fault.meets(event.path)]:
                self._waiting.remove(fault)
                self._world.spawn(self._later(fault.after_s, fault), "fault")
        self._seen[event.kind] += 1
        for cut in [c for c in self._cuts if c.kind == event.kind and c.nth == self._seen[event.kind]]:
            self._cuts.remove(cut)
            self._cut(cut)

    def _cut(self, cut: Cut) -> None:
        if cut.is_command:
            self._world.spawn(self._command(cut), "command out of turn")
            return
        match cut.how:
            case "event":
                self._world.cut(cut.outage)
            case "later":
                self._world.spawn(self._cut_later(cut), "power cut")
            case _:
                self.next_outage = cut.outage
                if self._world.life_clock is not None:
                    self._world.life_clock.commits_left = 0

    async def _command(self, cut: Cut) -> None:
        await asyncio.sleep(cut.after)
        self._own[f"operator {cut.how}"] += 1
        await self._world.person.give(cut.how)

    async def _cut_later(self, cut: Cut) -> None:
        await asyncio.sleep(cut.after)
        self._world.cut(cut.outage)

    async def _later(self, seconds: float, fault: Fault) -> None:
        await asyncio.sleep(seconds)
        if not self._world.ended.is_set():
            await self._apply(fault)

    # --- what -----------------------------------------------------------------------------------------------------

    async def _apply(self, fault: Fault) -> None:
        if fault.what in LYING:
            self._falsified = True
        match fault.where:
            case "broker":
                return
            case "controller":
                self._count(fault)
                self._power_cut(fault)
            case "clock":
                self._count(fault)
                await self._clock(fault)
            case "disk":
                self._count(fault)
                await self._break_disk(fault)
            case "operator":
                self._count(fault)
                await self._mood(fault)
            case _:
                self._trouble(fault)
                if self._injector is not None:
                    self._injector.apply(fault)

    def _count(self, fault: Fault) -> None:
        self._own[f"{fault.where} {fault.what}"] += 1

    def _power_cut(self, fault: Fault) -> None:
        devices = of_devices(fault)
        if devices is not None and self._injector is not None:
            self._trouble(devices)
            self._injector.apply(devices)
        self._world.cut(fault.for_s or 0.0, power=True)

    async def _clock(self, fault: Fault) -> None:
        world = self._world
        if fault.what == "step":
            by = fault.number("by")
            world.wall_off += by
            self._stepped += abs(by)
            world.invariants.times.disturbed += 1
            if world.life_clock is not None:
                world.life_clock.step(by)
            return
        world.synchronised = False
        await asyncio.sleep(fault.for_s or 86400.0)
        world.synchronised = True
        if world.life_clock is not None:
            world.life_clock.server = True

    async def _break_disk(self, fault: Fault) -> None:
        if self._disk:
            return
        self._disk, self._disk_until = fault.what, self._world.loop.time() + (fault.for_s or 1.0)
        await asyncio.sleep(fault.for_s or 1.0)
        self._disk = ""
        if self._failed:
            self._failed = False
            key = stream(self._world.plan.seed, "repair")
            await asyncio.sleep(uniform(key, self._own.total(), *REPAIR_S))
            self._world.cut(5.0)  # the person starts the service again: its record is dead until then

    async def _mood(self, fault: Fault) -> None:
        moods = self._world.person.moods
        match fault.what:
            case "late":
                moods.late = fault.number("factor")
            case "double":
                moods.double = True
            case "contradictory":
                moods.contradictory = True
            case _:
                moods.wrong_volume = fault.number("by") / 100.0
        await asyncio.sleep(fault.for_s or 3600.0)
        match fault.what:
            case "late":
                moods.late = 1.0
            case "double":
                moods.double = False
            case "contradictory":
                moods.contradictory = False
            case _:
                moods.wrong_volume = 0.0

    # --- what others ask ------------------------------------------------------------------------------------------

    def booting(self) -> None:
        """A controller starts: now and then it dies in its recovery, once more."""
        world = self._world
        if world.boots < 2 or self._again >= 3 or not world.plan.cuts:
            return
        key = stream(world.plan.seed, "recovery")
        if uniform(key, 2 * world.boots) < DIES_AGAIN:
            self._again += 1
            after = round(uniform(key, 2 * world.boots + 1, 0.0, IN_RECOVERY_S), 3)
            world.spawn(self._cut_later(Cut("boot", world.boots, "later", after, 1.0)), "power cut")

    def close(self) -> None:
        """End all faults."""
        if self._injector is not None:
            self._injector.close()

    def disk(self) -> float:
        """Return how long (s) storage work hangs; raises OSError while the disk refuses."""
        if not self._disk:
            return 0.0
        if self._disk == "hang":
            return max(0.0, self._disk_until - self._world.loop.time())
        self._failed = True
        number = ERRORS[self._disk]
        raise OSError(number, os.strerror(number))

    def disk_trouble(self) -> bool:
        """Tell whether the disk is, or was since the last start, at fault."""
        return bool(self._disk) or self._failed

    def time_off(self) -> float:
        """Return by how much (s) the record's time may be wrong: only where machine and clock failed both."""
        return self._stepped if self._world.machine else 0.0

    def falsified(self) -> bool:
        """Tell whether a fault has been at work that makes ledger and truth differ."""
        return self._falsified or self._world.person.lies > 0

    def troubled(self, device: str) -> bool:
        """Tell whether an instrument is under a fault, or was a short while ago."""
        if not self._troubles:
            return False
        until = max((self._troubles.get(name, 0.0) for name in ("devices", device, self._bus(device))), default=0.0)
        return self._world.loop.time() < until

    def at_the_bench(self, name: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the hands do at the bench: as told."""
        del name
        return dict(args)

    def counts(self) -> Mapping[str, int]:
        """Return how many faults happened, by place and word."""
        found = Counter(self._own)
        if self._injector is not None:
            found.update(self._injector.count)
        return {name: found[name] for name in sorted(found)}

    def _bus(self, device: str) -> str:
        site = self._world.site.devices.get(device)
        return "" if site is None else f"bus:{site.bus}"

    def _trouble(self, fault: Fault) -> None:
        names: Sequence[str] = [fault.where]
        if fault.where.startswith("working:"):
            role = fault.where.removeprefix("working:")
            names = [name for name in self._world.plant.devices if name.startswith(role)]
        lasts = (fault.for_s if fault.for_s is not None else 1e9) + AFTERMATH_S
        for name in names:
            self._troubles[name] = max(self._troubles.get(name, 0.0), self._world.loop.time() + lasts)
