"""The guard of liquids of one batch: overfill, under-draw, dry run, occlusion, delivery, leak, wrong source.

It stands beside the engine: it is evaluated in every state, on each scan of a scale, knows of the batch only
what the record says (`Picture`), and acts on the devices through the gate, without engine, record, broker or metrics.
Unknown is not false: what is not fresh neither trips nor clears; after 30 s that is an alarm of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from devices.reading import Quality, Reading
from recipes.model import FULL_SHARE
from tilctl.guard.board import Reactions
from tilctl.guard.flow import FlowWatch
from tilctl.guard.fluid_rules import (
    GAINED_ML,
    INVALID_S,
    RIPPLE_SHARE,
    RULES,
    STILL_RPM,
    SWAP_ML,
    Rule,
    rule_of,
)
from tilctl.guard.fluid_view import Flow, Held, Picture
from tilctl.guard.leak import LeakWatch
from tilctl.plant.unit import UnitPlant

LOOKS_S = 10.0  # s between looks for silent instruments at scans of others
TRUSTED = (Quality.GOOD, Quality.UNCERTAIN)


class FluidGuard:
    """All rules for the liquids of a batch."""

    def __init__(
        self, plant: UnitPlant, picture: Callable[[], Picture], reactions: Reactions, active: Iterable[str]
    ) -> None:
        """Watch a plant; `active` are the alarms that stand on the record: what was announced is not announced anew."""
        self._plant = plant
        self._picture = picture
        self._reactions = reactions
        self._flows: dict[int, FlowWatch] = {}
        self._leak = LeakWatch()
        self._since: dict[str, float] = {}  # alarm -> time (s) of the reading from which its condition holds
        self._tripped = {alarm: "" for alarm in active if rule_of(alarm) is not None}  # alarm -> its text
        self._accepted: dict[str, float] = {}  # container -> mL above which it is overfilled anew: a person took it so
        self._levels: dict[str, float] = {}  # container -> mL at its last weighing, where all pumps stood by then
        self._unknown: dict[str, float] = {}  # instrument -> since when (s) it says nothing of what it should
        self._invalid = {alarm for alarm in active if alarm.startswith("fluid-") and alarm.endswith("-invalid")}
        self._cutting: dict[str, asyncio.Task[Any]] = {}
        self._pumps = {line.pump for line in plant.site.lines}
        self._scales = {place.scale_device for place in plant.site.places.values()}
        self._looked = -LOOKS_S  # when it was looked for silence last (s)
        self._log = structlog.get_logger("guard").bind(unit=plant.name)

    def scanned(self, device: str) -> None:
        """Judge every rule on the readings of now, after a scan of one instrument.

        Masses decide, so it is a scan of a scale that counts; any other only tells how long one has been silent.
        """
        now = self._plant.clock.monotonic()
        if device not in self._scales and now - self._looked < LOOKS_S:
            return
        self._looked = now
        picture = self._picture()
        masses = {held.name: mass for held in picture.containers if (mass := self._number(held.scale)) is not None}
        self._look_for_silence(picture, masses)
        if device not in self._scales:
            return
        here = [held for held in picture.containers if held.scale.startswith(f"{device}.")]
        for held in here:
            if held.name in masses:
                self._judge_level(held, masses[held.name])
            else:
                self._levels.pop(held.name, None)
        self._follow(picture, masses, device)
        turning = self._turning()
        if picture.flows or True in turning.values():
            self._leak.forget()
            self._since.pop("leak", None)
        elif here and None not in turning.values():  # Invariant: a pump that says nothing ends no look for a leak
            self._judge_leak(picture, masses)

    def rearm(self) -> None:
        """Take what is there as it is: a person has seen to it and restarts.  What gets worse acts anew."""
        unknown: dict[str, str] = {}
        for held in self._picture().containers:
            alarm, mass = f"overfill-{held.name}", self._number(held.scale)
            if alarm in self._tripped and mass is not None:
                self._accepted[held.name] = held.volume(mass) + GAINED_ML
            elif alarm in self._tripped:  # Invariant: unknown is not false: nobody knows what would be taken as it is
                unknown[alarm] = self._tripped[alarm] or f"what {held.name} weighs is not known"
        for alarm in self._tripped.keys() - unknown.keys():
            self._reactions.cleared(alarm)
        self._tripped = unknown
        self._since.clear()
        self._leak.forget()

    def refuses(self, device: str, command: str) -> str:
        """Return why a pump must not begin to dose now, "" where nothing speaks against it.

        Invariant: a resume is judged before it does anything: whatever stands here stands until a person restarts.
        """
        if command != "dispense" or device not in self._pumps:
            return ""
        for scale in self._scales:
            self.scanned(scale)
        standing = next((f"{alarm}: {text}" for alarm, text in self._tripped.items() if text), "")
        return standing or self._missing(device)

    def _missing(self, pump: str) -> str:
        """Return which end of a dose that is about to begin has been taken off its scale, "" where none has.

        Its mass cannot tell of one that weighed as little when it was mounted.
        """
        for flow in self._picture().flows:
            for held in (flow.source, flow.destination) if flow.pump == pump else ():
                mass = self._number(held.scale)
                if mass is not None and held.lifted(mass) and not held.lifted(held.mass_g):
                    return f"{held.name} is not at {held.place}, which weighs {mass:.0f} g: put it back, then restart"
        return ""

    async def close(self) -> None:
        """End what is under way."""
        for task in (tasks := list(self._cutting.values())):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the rules ------------------------------------------------------------------------------------------------

    def _judge_level(self, held: Held, mass: float) -> None:
        volume = held.volume(mass)
        before = self._levels.pop(held.name, volume)
        if stand := self._all_stand():  # Invariant: only what is known of the moment before tells a hand from a pump
            self._levels[held.name] = volume
        if held.lifted(mass) or (volume - before > SWAP_ML and stand):
            # Another bag, or the same one put back: what was not pumped in here is not overfilled here.
            self._accepted[held.name] = volume + GAINED_ML
        limit = max(FULL_SHARE * held.limit_ml, self._accepted.get(held.name, 0.0), held.mounted_ml + GAINED_ML)
        text = f"{held.name} at {held.place} holds {volume:.0f} mL by its mass, its limit is {held.limit_ml:.0f} mL"
        full = volume >= limit + self._ripple(held, mass)
        self._judge("overfill", held.name, self._read_at(held.scale), text, holds=full)

    def _judge_leak(self, picture: Picture, masses: dict[str, float]) -> None:
        times = [self._read_at(held.scale) for held in picture.containers if held.name in masses]
        if not times:
            return
        lost = self._leak.lost(max(times), picture, masses)
        if lost is None:
            return
        text = "the containers of the unit lose weight and nothing is transferred: sterility deviation"
        ripple = sum(self._ripple(held, masses[held.name]) for held in picture.containers if held.name in masses)
        self._judge("leak", "", max(times), text, holds=lost > ripple)

    def _ripple(self, held: Held, mass: float) -> float:
        """Return by how much (mL) what a container weighs may be wrong, because it is rocked or may be."""
        rpm = self._number(f"{held.rocker}.rocking") if held.rocker else 0.0
        return 0.0 if rpm is not None and rpm <= STILL_RPM else RIPPLE_SHARE * mass / held.density

    def _follow(self, picture: Picture, masses: dict[str, float], device: str) -> None:
        """Judge the doses that are open, each on the scans of what weighs its source."""
        for number in self._flows.keys() - {flow.intent for flow in picture.flows}:
            self._forget(self._flows.pop(number).flow)
        for flow in picture.flows:
            watch = self._flows.get(flow.intent)
            if watch is None:
                watch = self._flows[flow.intent] = FlowWatch(flow)
            counted = self._counted(flow)
            if counted is None:
                continue
            if not counted:
                watch.before(0.0, masses)
            if not self._runs(flow) or device != flow.source.scale.partition(".")[0]:
                continue
            watch.before(counted, masses)
            at = self._read_at(flow.source.scale)
            watch.look(at, counted, masses)
            ends = {end.name for f in picture.flows if f is not flow for end in (f.source, f.destination)}
            others = {held.name: held for held in picture.containers if held.name not in ends}
            found = watch.judge(
                masses, others, air=self._says(flow, "air_in_line"), blocked=self._says(flow, "occlusion")
            )
            for name in ("wrong-source", "under-draw", "dry-run", "occlusion", "delivery"):
                subject = flow.source.name if name == "under-draw" else flow.line
                self._judge(name, subject, at, _text(name, flow), holds=name in found, line=flow.line)

    def _forget(self, flow: Flow) -> None:
        for name in ("wrong-source", "dry-run", "occlusion", "delivery"):
            self._since.pop(f"{name}-{flow.line}", None)
        self._since.pop(f"under-draw-{flow.source.name}", None)

    def _judge(self, name: str, subject: str, at: float, text: str, *, holds: bool, line: str = "") -> None:
        rule, alarm = RULES[name], f"{name}-{subject}" if subject else name
        if not holds:
            self._since.pop(alarm, None)
            return
        since = self._since.setdefault(alarm, at)
        if at - since < rule.debounce_s:
            return
        first = not self._tripped.get(alarm)
        if first or not self._all_stand():
            # Invariant: at each scan, not once: a pump that was switched on again is off again one scan later.
            self._cut_off(rule, line)  # Actuate first, report second.
        if first:
            self._tripped[alarm] = text
            self._log.warning("fluid_rule", alarm=alarm, text=text)
            self._reactions.acted(alarm, rule.then, text)
            self._reactions.raised(alarm, rule.priority, f"{text}; {rule.action}", {})

    def _cut_off(self, rule: Rule, line: str) -> None:
        """Stop pumps and close valves: of the line, or of the whole unit."""
        lines = [each for each in self._plant.site.lines if rule.all_lines or each.id == line]
        for each in lines:
            if each.id in self._cutting:  # the one before is bounded, and this comes again with the next scan
                continue
            work = self._plant.cut_off(each)
            task = self._cutting[each.id] = asyncio.create_task(work, name=f"cut-off:{each.id}")
            task.add_done_callback(lambda _, name=each.id: self._cutting.pop(name, None))

    # --- what is known --------------------------------------------------------------------------------------------

    def _look_for_silence(self, picture: Picture, masses: dict[str, float]) -> None:
        """Unknown is not false: what nobody can judge is an alarm after 30 s, one for each instrument."""
        now = self._plant.clock.monotonic()
        silent: dict[str, list[str]] = {}
        for held in picture.containers:
            if held.name not in masses:
                silent.setdefault(held.scale.partition(".")[0], []).append(f"the mass of {held.name}")
        unknown = {pump for pump, turns in self._turning().items() if turns is None}
        unknown |= {flow.pump for flow in picture.flows if self._counted(flow) is None}
        for pump in unknown:
            silent.setdefault(pump, []).append("whether it turns")
        for device in self._unknown.keys() - silent.keys():
            del self._unknown[device]
        for alarm in [name for name in self._invalid if name.removeprefix("fluid-")[: -len("-invalid")] not in silent]:
            self._invalid.discard(alarm)
            self._reactions.cleared(alarm)
        for device, what in silent.items():
            alarm = f"fluid-{device}-invalid"
            if now - self._unknown.setdefault(device, now) >= INVALID_S and alarm not in self._invalid:
                self._invalid.add(alarm)
                text = f"{device} does not say {', '.join(what)}: overfill, leak and flow cannot be judged"
                self._reactions.raised(alarm, "medium", text, {})

    def _reading(self, name: str) -> Reading | None:
        reading = self._plant.image.get(name)
        return reading if reading is not None and reading.quality in TRUSTED else None

    def _number(self, name: str) -> float | None:
        return self._plant.image.number(name)

    def _read_at(self, name: str) -> float:
        reading = self._plant.image.get(name)
        return 0.0 if reading is None else reading.at

    def _runs(self, flow: Flow) -> bool:
        reading = self._reading(f"{flow.pump}.running")
        return reading is not None and reading.value is True

    def _says(self, flow: Flow, bit: str) -> bool:
        """Whether the pump itself says so; most drives have no such bit."""
        reading = self._reading(f"{flow.pump}.{bit}")
        return reading is not None and reading.value is True

    def _counted(self, flow: Flow) -> float | None:
        """Return what the pump has counted of this dose when the source was weighed, None where nobody knows."""
        running, sequence = self._reading(f"{flow.pump}.running"), self._number(f"{flow.pump}.sequence")
        counted = self._number(f"{flow.pump}.dispensed")
        if running is None or sequence is None or counted is None:
            return None
        if int(sequence) != flow.sequence:
            return 0.0
        if running.value is True:
            # The two are read one after the other: reckon up to the moment of the weighing, bounded by the order.
            counted += flow.rate / 60.0 * (self._read_at(flow.source.scale) - running.at)
        return min(max(counted, 0.0), flow.volume_ml)

    def _turning(self) -> dict[str, bool | None]:
        """Return whether each pump turns, None where it does not say."""
        readings = {pump: self._reading(f"{pump}.running") for pump in self._pumps}
        return {
            pump: reading.value if reading is not None and isinstance(reading.value, bool) else None
            for pump, reading in readings.items()
        }

    def _all_stand(self) -> bool:
        """Whether every pump is known to stand."""
        return set(self._turning().values()) <= {False}


def _text(name: str, flow: Flow) -> str:
    source, destination = flow.source.name, flow.destination.name
    match name:
        case "wrong-source":
            return f"{flow.pump} is to move from {source} to {destination}, and another container changes its weight"
        case "under-draw":
            return f"{source} is drawn below the {flow.floor_ml or 0.0:.0f} mL that are to be left in it"
        case "dry-run":
            return f"{source} is empty, and {flow.pump} is to move more from it to {destination}"
        case "occlusion":
            return f"{flow.pump} turns, and {source} does not fall as it counts"
        case _:
            return f"{flow.pump} counts one thing, and the scales of {source} and {destination} say another"
