"""What befalls a rehearsal: faults at their time or step, and those that only the one who runs the controller can do.

Faults of instruments and buses are the injector's (`simulators.faults`).  Here: power of the controller, its disk and
its wall clock, and the person's habits.  The only brokers of a rehearsal are those of instruments: where a site has
none, faults of a broker do not happen and are counted apart, and so are those of what an instrument has not.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simulators.faults.injector import Injector, of_devices
from simulators.faults.model import Fault
from simulators.faults.stacked import Stacked
from simulators.faults.vocabulary import UNSEEN
from simulators.habits import habits_of
from simulators.physics.noise import stream, uniform
from tilctl.cli.rehearsing.cuts import Cut
from tilctl.journal import events as ev
from tilctl.journal.chain import Record

if TYPE_CHECKING:
    from tilctl.cli.rehearsing.world import World

ERRORS: Mapping[str, int] = {"full": errno.ENOSPC, "eio": errno.EIO, "read_only": errno.EROFS}
AFTERMATH_S = 4 * 3600.0  # s after a fault of an instrument in which its effects are still its own
REPAIR_S = (60.0, 1800.0)  # s until somebody starts a controller again whose record was lost
DIES_AGAIN = 0.25  # share of starts after a power cut that are cut short once more
IN_PLACE = 0.5  # share of failed records that a person opens again in place; else the service is started again
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
        self._habits: list[Fault] = []  # of the person, now
        self.not_applicable = 0
        self.mended = 0
        self._started = False
        self._stepped = 0.0
        self._again = 0
        self.next_outage = 0.0
        self._stacked = Stacked()
        self._injector = Injector([world.plant], world.servers, world.clock) if world.plan.faults else None
        self._parts = _parts(world)

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
        match fault.where:
            case "broker":
                await self._broker(fault)
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
                self._inject(fault)

    def _inject(self, fault: Fault) -> None:
        """Begin a fault of an instrument or bus, and tell the oracles what it concerns."""
        if self._injector is None:
            return
        bus = fault.where.removeprefix("bus:")
        if (bus != fault.where and bus not in self._world.servers.servers) or not self._injector.apply(fault):
            self.not_applicable += 1
            return
        if fault.what in UNSEEN:
            return
        where = self._injector.injected[-1].where  # of those that work, the one that was meant
        devices = [name for name in self._parts if where in self._places(name)]
        self._trouble(fault, where)
        self._world.suspicion.befalls(fault, devices)
        self._world.warmth.befalls(fault, devices)
        self._world.guarding.befalls(fault, devices)
        self._world.absence.befalls(fault, devices)

    def _count(self, fault: Fault) -> None:
        self._own[f"{fault.where} {fault.what}"] += 1

    def _power_cut(self, fault: Fault) -> None:
        devices = of_devices(fault)
        if devices is not None and self._injector is not None:
            self._inject(devices)
        self._world.cut(fault.for_s or 0.0, power=True)

    async def _broker(self, fault: Fault) -> None:
        """Let the brokers of instruments misbehave; a rehearsal has no other."""
        brokers = self._world.behind.brokers.values()
        if not brokers:
            self.not_applicable += 1
            return
        self._count(fault)
        name, value = {
            "stop": ("stopped", True),
            "duplicate": ("duplicates", True),
            "late": ("delay_s", fault.number("delay") if fault.what == "late" else 0.0),
        }[fault.what]
        undo = [self._stacked.put(broker, name, value) for broker in brokers]
        await asyncio.sleep(fault.for_s or 0.0)
        for end in undo:
            end()

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
        world, life = self._world, self._world.life
        if not self._failed and not world.person.sees_failed():
            return
        key, number = stream(world.plan.seed, "repair"), 2 * self._own.total()
        await asyncio.sleep(uniform(key, number, *REPAIR_S))
        if life is not world.life or self._disk:  # it was started again by then, or the disk is gone again
            return
        if uniform(key, number + 1) >= IN_PLACE:
            world.cut(5.0)  # somebody starts the service again
            return
        self._failed = False
        if not world.person.sees_failed():  # it has been opened again by then, or what failed was no record
            return
        if await world.person.mend():
            self.mended += 1
        elif life is not None and life is world.life and not life.dead and not self._disk:
            world.book.note("reopens", "the disk is well, and no restart or reset opens the record again")
            world.cut(5.0)

    async def _mood(self, fault: Fault) -> None:
        """Give the person a habit for a while."""
        person = self._world.person
        self._habits.append(fault)
        person.habits = habits_of(self._habits)
        await asyncio.sleep(fault.for_s or 3600.0)
        self._habits.remove(fault)
        person.habits = habits_of(self._habits)

    # --- what others ask ------------------------------------------------------------------------------------------

    def booting(self) -> None:
        """A controller starts: now and then it dies in its recovery, once more."""
        world, self._failed = self._world, False
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

    def troubled(self, device: str) -> bool:
        """Tell whether an instrument is under a fault, or was a short while ago."""
        if not self._troubles:
            return False
        until = max(self._troubles.get(place, 0.0) for place in self._places(device))
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

    def _places(self, device: str) -> list[str]:
        """Return where a fault concerns an instrument: all, itself, its parts, and the buses that they are on."""
        parts = self._parts.get(device, (device,))
        wired = [self._world.site.devices[part] for part in parts if part in self._world.site.devices]
        return ["devices", device, *parts, *(f"bus:{each.bus}" for each in wired)]

    def _trouble(self, fault: Fault, where: str) -> None:
        until = self._world.loop.time() + fault.lasts_s + AFTERMATH_S
        self._troubles[where] = max(self._troubles.get(where, 0.0), until)


def _parts(world: World) -> Mapping[str, tuple[str, ...]]:
    """Return each instrument, and each that parts stand in for, with what of it is on the wire."""
    names = {id(device): name for name, device in world.plant.devices.items() if name in world.site.devices}
    built = {
        name: tuple(names[id(device)] for device in stand_in.devices if id(device) in names)
        for name, stand_in in world.plant.stand_ins.items()
    }
    return {name: (name,) for name in world.site.devices} | built
