"""Carries out faults of instruments and of the wire, and ends them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from devices.clock import Clock
from simulators.faults.instruments import Deeds, Target, all_of
from simulators.faults.model import WORKING, Fault, check, kind_of
from simulators.faults.stacked import Stacked, Undo
from simulators.faults.vocabulary import BUS, DEVICES, HARNESS
from simulators.plant import Plant
from simulators.server import ModbusServer, Refusals, UnitFaults
from simulators.suite import Suite

KEPT = 10_000  # of what was injected
FLAGS = (
    "silent",
    "wrong_function",
    "wrong_unit",
    "wrong_transaction",
    "short_reply",
    "truncated",
    "stale",
    "swapped_words",
    "bad_crc",
)
GARBAGE = b"\xff\x00"  # what a line reads when somebody pulls at it
GATEWAY = 0x0B
RETRY_S = 5.0  # to look again whether a dispense is over


@dataclass(slots=True)
class _Running:
    fault: Fault
    undo: Undo
    timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class Injected:
    """What was begun at `t` (s of the plant), and where, when the fault had left that open."""

    t: float
    where: str
    fault: Fault


class Injector:
    """Faults of the plants of a site and of the servers in front of them.

    A fault with `for` ends by itself, by the running loop's time; `end` ends it early, `close` ends all.
    """

    def __init__(self, plants: Iterable[Plant], servers: Suite, clock: Clock) -> None:
        """`plants` are those of the cells, in their order."""
        self.plants = list(plants)
        self.servers = servers
        self.clock = clock
        self.injected: deque[Injected] = deque(maxlen=KEPT)
        self._counted: Counter[str] = Counter()
        self._running: list[_Running] = []
        self._stacked = Stacked()
        self._dark: Counter[str] = Counter()  # instruments without power, by how many faults
        self._deeds = Deeds(self._stacked)
        self._targets = {
            name: Target(name, device, plant, plant.stand_ins.get(name))
            for plant in reversed(self.plants)
            for name, device in plant.devices.items()
        }

    @property
    def active(self) -> list[Fault]:
        """Return the faults that have begun and not ended; what was a moment is not among them."""
        return [running.fault for running in self._running]

    @property
    def count(self) -> dict[str, int]:
        """Return how often each word was carried out."""
        return dict(sorted(self._counted.items()))

    def check(self, faults: Iterable[Fault]) -> None:
        """Check faults against this site; raises DocumentError with every finding."""
        check(faults, {name: t.device.profile for name, t in self._targets.items()}, self.servers.servers.keys())

    def apply(self, fault: Fault) -> bool:
        """Begin a fault now; False, and nothing, where the instrument has nothing that the fault is about, or no bus.

        Raises ValueError for what is carried out by whoever runs controller, broker, clock, disk and operator (the
        devices' half of a power cut of `both` is `of_devices`), DocumentError for what this site does not have.
        """
        if fault.where in HARNESS:
            raise ValueError(f"{fault.where}: {fault.what} is no fault of an instrument")
        self.check([fault])
        where = self._resolved(fault.where)
        if (target := self._targets.get(where)) is not None and (
            not self._wired(target) or not self._deeds.applies(fault, target)
        ):
            return False
        undo = self._begin(replace(fault, where=where))
        self._counted[fault.what] += 1
        self.injected.append(Injected(self.plants[0].time(), where, fault))
        if undo is None:
            return True
        running = _Running(fault, undo)
        self._running.append(running)
        if fault.for_s is not None:
            running.timer = asyncio.get_running_loop().call_later(fault.for_s, self._end, running)
        return True

    def end(self, fault: Fault) -> None:
        """End a fault before its time; one that is not active is none."""
        for running in [each for each in self._running if each.fault is fault]:
            self._end(running)

    def close(self) -> None:
        """End all faults."""
        for running in list(self._running):
            self._end(running)

    def _end(self, running: _Running) -> None:
        if running not in self._running:
            return
        self._running.remove(running)
        if running.timer is not None:
            running.timer.cancel()
        running.undo()

    def _resolved(self, where: str) -> str:
        """Return the instrument that is meant: of those that work, the one whose dispense began last."""
        if not where.startswith(WORKING):
            return where
        role = where.removeprefix(WORKING)
        self.plants[0].time()
        runs = [(pump.run.started, name) for plant in self.plants for name, pump in plant.pumps.items() if pump.run]
        pump = max(runs)[1] if runs else next(iter(self.plants[0].pumps))
        return pump.replace("pump", role)

    def _begin(self, fault: Fault) -> Undo | None:
        if fault.what == "power_cut":
            return all_of([self._cut_power(target) for target in self._of(fault.where)])
        if kind_of(fault.where) == BUS:
            server = self.servers.servers[fault.where.removeprefix("bus:")]
            return self._bus(fault, server) or self._wire(fault, list(server.faults.values()))
        target = self._targets[fault.where]
        if fault.what == "reboot":
            if not self._dark[fault.where]:
                target.power(on=False)
                target.power(on=True)
            return None
        if self._is_wire(fault.what):
            return self._wire(fault, [self.servers.faults(device) for device in target.devices])
        if fault.what == "rollover":
            self._rollover(target, fault)
            return None
        return self._deeds.do(fault, target)

    def _of(self, where: str) -> list[Target]:
        if where == DEVICES:
            return self._served()
        if kind_of(where) == BUS:
            served = self.servers.servers[where.removeprefix("bus:")].units.values()
            return [t for t in self._served() if any(device in served for device in t.devices)]
        return [self._targets[where]]

    def _wired(self, target: Target) -> bool:
        """Tell whether any bus leads to it: what a plant has and its site does not name is on none."""
        served = [device for server in self.servers.servers.values() for device in server.units.values()]
        return any(device is each for device in target.devices for each in served)

    def _served(self) -> list[Target]:
        """Return the instruments that are there, those that parts stand in for among them, each once."""
        parts = {id(d) for t in self._targets.values() if t.stand_in is not None for d in t.devices}
        wired = {id(d) for server in self.servers.servers.values() for d in server.units.values()}
        return [
            t
            for t in self._targets.values()
            if t.stand_in is not None or (id(t.device) in wired and id(t.device) not in parts)
        ]

    def _cut_power(self, target: Target) -> Undo:
        self._dark[target.name] += 1
        silent = [self._stacked.put(self.servers.faults(device), "silent", value=True) for device in target.devices]
        mute = all_of(silent)
        if self._dark[target.name] == 1:
            target.power(on=False)

        def back() -> None:
            mute()
            self._dark[target.name] -= 1
            if not self._dark[target.name]:
                target.power(on=True)

        return back

    def _is_wire(self, what: str) -> bool:
        return what in FLAGS or what in ("late", "busy", "gateway", "garbage_before")

    def _wire(self, fault: Fault, units: list[UnitFaults]) -> Undo:
        name, value = fault.what, True
        if fault.what == "late":
            return all_of([self._stacked.put(unit, "delay_s", fault.number("delay")) for unit in units])
        if fault.what == "garbage_before":
            size = int(fault.number("bytes"))
            return all_of([self._stacked.put(unit, name, (GARBAGE * size)[:size]) for unit in units])
        if fault.what == "busy" and (few := int(fault.number("n"))):
            code = int(fault.number("code"))
            return all_of([self._stacked.put(unit, "refusals", Refusals(code, few)) for unit in units])
        if fault.what in ("busy", "gateway"):
            code = GATEWAY if fault.what == "gateway" else int(fault.number("code"))
            return all_of([self._stacked.put(unit, "refuse", code) for unit in units])
        return all_of([self._stacked.put(unit, name, value) for unit in units])

    def _bus(self, fault: Fault, server: ModbusServer) -> Undo | None:
        if fault.what == "half_open":
            return self._stacked.put(server, "half_open", value=True)
        if fault.what == "refuse_connect":
            undo = self._stacked.put(server, "refuses", value=True)
            server.cut()
            return undo
        if fault.what == "idle_close":
            return self._stacked.put(server, "idle_close_s", fault.number("idle"))
        if fault.what == "second_client_refused":
            return self._stacked.put(server, "most_clients", int(fault.number("clients")))
        if fault.what == "cut":
            server.cut()
            return _nothing
        return None

    def _rollover(self, target: Target, fault: Fault) -> None:
        """Set the totaliser while the pump rests: in the middle of a dispense it would be a jump."""
        if self._deeds.near_rollover(target, fault.number("before")):
            return
        loop = asyncio.get_running_loop()
        running = _Running(fault, _nothing)
        running.timer = loop.call_later(RETRY_S, self._again, running, target)
        self._running.append(running)

    def _again(self, running: _Running, target: Target) -> None:
        self._end(running)
        self._rollover(target, running.fault)


def of_devices(fault: Fault) -> Fault | None:
    """Return the devices' half of a power cut of the controller; None where they keep their power."""
    if (fault.where, fault.what) != ("controller", "power_cut") or not fault.number("both"):
        return None
    return replace(fault, where=DEVICES, args={}, units={})


def _nothing() -> None:
    """Do nothing."""
