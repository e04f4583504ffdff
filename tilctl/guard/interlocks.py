"""Interlocks and permissives of the site, without engine, record, disk, broker or metrics.

They are judged first on each scan of an instrument that they read, whether a batch runs or not, while the controller
recovers and in safe mode.  While an interlock is tripped it acts at each scan, and until it is reset the gate refuses
what would undo it.  Unknown is not false: what is not to be trusted neither trips nor clears, and permits nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

import structlog

from devices.clock import Clock
from devices.reading import Quality, Reading
from tilctl.config.interlock import Interlock, Output, Permissive, Rules
from tilctl.guard.board import INVALID_AFTER
from tilctl.guard.conditions import TagCondition
from tilctl.guard.judged import LONGEST_BYPASS_S, NEVER, Either, JudgedInterlock, JudgedPermissive, Phase, broken_row
from tilctl.guard.kept_rules import Kept
from tilctl.plant.image import ProcessImage
from tilctl.plant.outputs import OutputGate
from tilctl.plant.unit import PINCH_AFTER

AGAIN_S = 5.0  # s between tries to cut off what has not taken it, once the condition is over; as for a held batch


class Reactions(Protocol):
    """What is told; each returns at once and never raises."""

    def tripped(self, judged: JudgedInterlock, *, first: bool) -> None:
        """Take note that it acts: at each scan on which it does."""
        ...

    def acted(self, judged: JudgedInterlock) -> None:
        """Take note of what its instruments said (`judged.failing`)."""
        ...

    def changed(self, judged: Either) -> None:
        """Take note that it is shown differently now."""
        ...

    def was_reset(self, judged: JudgedInterlock, by: str, why: str, *, restarting: bool) -> None:
        """Take note that it lets go, for a restart of the batch or for another reason."""
        ...

    def bypass_over(self, judged: Either) -> None:
        """Take note that its bypass has come to its end."""
        ...

    def unknown(self, judged: Either, *, told: bool) -> None:
        """Take note that it cannot be judged for long (`told`), or can again."""
        ...

    def broke(self, judged: Either, error: Exception) -> None:
        """Take note that it does not work, by a fault of the program."""
        ...

    def mended(self, judged: Either) -> None:
        """Take note that it works again."""
        ...

    def has_batch(self, judged: JudgedInterlock) -> bool:
        """Tell whether it concerns a batch: only then a restart can come."""
        ...


class Interlocks:
    """All interlocks and permissives of a site, by unit; those of shared equipment are of the unit `site`."""

    def __init__(
        self, image: ProcessImage, gate: OutputGate, clock: Clock, reactions: Reactions, owners: Mapping[str, str]
    ) -> None:
        """Judge on an image; `owners` names the equipment that a part belongs to, with whose scan it is read."""
        self._image = image
        self._gate = gate
        self._clock = clock
        self._reactions = reactions
        self._owners = owners
        self._units: dict[str, dict[str, Either]] = {}
        self._at: dict[str, list[Either]] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._log = structlog.get_logger("interlocks")
        gate.bar(self.barred, self.cut_off)
        gate.over.append(self._written)

    def enforce(self, unit: str, rules: Rules) -> None:
        """Put the rules of a unit in force instead of those before; what stands of one of the same name stays."""
        before, now = self._units.get(unit, {}), dict[str, Either]()
        for rule in rules:
            judged = self._judged(unit, rule)
            if (old := before.get(rule.name)) is not None:
                judged.take(old.kept())
            now[rule.name] = judged
        self._units[unit] = now
        self._at = {}
        for judged in self:
            for device in {self._owners.get(name, name) for name in judged.condition.devices}:
                self._at.setdefault(device, []).append(judged)

    def restore(self, unit: str, kept: Mapping[str, Kept]) -> None:
        """Take over what the records say of the rules of a unit."""
        for name, each in kept.items():
            if (judged := self._units.get(unit, {}).get(name)) is not None:
                judged.take(each)

    def _judged(self, unit: str, rule: Interlock | Permissive) -> Either:
        deadband = rule.deadband if isinstance(rule, Interlock) else ""
        condition = TagCondition(self._image, rule.condition, rule.reads, deadband)
        if isinstance(rule, Interlock):
            return JudgedInterlock(unit, condition, rule=rule)
        return JudgedPermissive(unit, condition, rule=rule)

    def __iter__(self) -> Iterator[Either]:
        for rules in self._units.values():
            yield from rules.values()

    def of(self, unit: str) -> Mapping[str, Either]:
        """Return the rules of a unit by name."""
        return self._units.get(unit, {})

    def devices(self, unit: str) -> frozenset[str]:
        """Return the instruments that the rules of a unit read."""
        found = (name for judged in self.of(unit).values() for name in judged.condition.devices)
        return frozenset(self._owners.get(name, name) for name in found)

    # --- judging --------------------------------------------------------------------------------------------------

    def scanned(self, device: str, readings: Mapping[str, Reading]) -> None:
        """Judge what reads an instrument, on the image that has just taken its readings; act where it has to be."""
        if readings and all(reading.quality is Quality.BAD for reading in readings.values()):
            for judged in self:  # it may have been without power, and forgotten that it was cut off
                if isinstance(judged, JudgedInterlock) and judged.phase is not Phase.NORMAL:
                    judged.owed.update({device} & {output.device for output in judged.rule.outputs})
        for judged in self._at.get(device, ()):
            self._bordered(judged)

    def look(self) -> None:
        """Judge everything, also what is not scanned any more."""
        for judged in self:
            self._bordered(judged)

    def _bordered(self, judged: Either) -> None:
        try:
            self._judge(judged)
        except Exception as error:  # noqa: BLE001 - Invariant: one that breaks stops none of the others
            self._break(judged, error)
            return
        if judged.broken or judged.mend:
            judged.broken = judged.mend = False
            self._reactions.mended(judged)

    def _break(self, judged: Either, error: Exception) -> None:
        if not judged.broken:
            judged.broken = True
            self._log.error("interlock_failed", unit=judged.unit, interlock=judged.rule.name, exc_info=error)
            self._reactions.broke(judged, error)

    def _judge(self, judged: Either) -> None:
        self._end_bypass(judged)
        if isinstance(judged, JudgedPermissive):
            permits = judged.condition.holds()
            self._known(judged, known=permits is not None)
            if permits is not judged.permits:
                judged.permits = permits
                self._reactions.changed(judged)
            return
        if judged.phase is Phase.TRIPPED:
            self._judge_tripped(judged)
        else:
            self._judge_untripped(judged)
        # Invariant: until its reset its outputs are off: what has not taken that, or may have lost it, gets it again,
        # also when its condition is over or not known; not at each scan, since one that is silent may be so for days.
        owes = judged.owed and judged.phase is not Phase.NORMAL and not judged.bypassed(self._clock.now())
        if owes and (now := self._clock.monotonic()) >= judged.again:
            judged.again = now + AGAIN_S
            self._act(judged, judged.owed)

    def _judge_tripped(self, judged: JudgedInterlock) -> None:
        holds = judged.condition.goes_on()
        self._known(judged, known=holds is not None)
        if holds is None:
            judged.false_since = None  # Invariant: what is not known does not end it
            return
        if holds:
            judged.false_since = None
            if not judged.bypassed(self._clock.now()):
                # Invariant: at each scan, not once: what was switched on again meanwhile is off again one scan later.
                self._act(judged)  # Actuate first, report second.
                self._reactions.tripped(judged, first=False)
            return
        now = self._clock.monotonic()
        judged.false_since = now if judged.false_since is None else judged.false_since
        if now - judged.false_since < judged.rule.off_delay_s:
            return
        judged.phase = Phase.LATCHED
        self._reactions.changed(judged)
        self._let_go_by_itself(judged)

    def _judge_untripped(self, judged: JudgedInterlock) -> None:
        holds = judged.condition.holds()
        self._known(judged, known=holds is not None)
        if holds is None:
            return
        if not holds:
            judged.true_since = None
            if judged.phase is Phase.LATCHED:
                self._let_go_by_itself(judged)
            return
        now = self._clock.monotonic()
        judged.true_since = now if judged.true_since is None else judged.true_since
        if now - judged.true_since < judged.rule.for_s or judged.bypassed(self._clock.now()):
            return
        self._act(judged)  # Actuate first, report second.
        first = judged.phase is Phase.NORMAL
        judged.phase, judged.false_since = Phase.TRIPPED, None
        if first:
            judged.since = self._clock.now()
            judged.text = judged.condition.told()
            self._log.warning("interlock_tripped", unit=judged.unit, interlock=judged.rule.name, text=judged.text)
        self._reactions.tripped(judged, first=first)

    def _let_go_by_itself(self, judged: JudgedInterlock) -> None:
        """Reset what needs no person: by its rule, or because no batch is there that one could restart."""
        if judged.rule.reset == "auto":
            self.let_go(judged, "", "it is over")
        elif judged.rule.reset == "restart" and not self._reactions.has_batch(judged):
            self.let_go(judged, "", "it is over, and no batch is there to be restarted")

    def let_go(self, judged: JudgedInterlock, by: str, why: str, *, restarting: bool = False) -> None:
        """Reset one whose condition is over."""
        judged.phase, judged.since, judged.text = Phase.NORMAL, None, ""
        judged.true_since = judged.false_since = None
        judged.failing.clear()
        judged.owed.clear()
        judged.again = NEVER
        self._reactions.was_reset(judged, by, why, restarting=restarting)

    def restarted(self, rules: Iterable[Either], by: str) -> None:
        """A person restarts the batch that rules concern: what a restart resets is reset where it is over."""
        for judged in rules:
            if not isinstance(judged, JudgedInterlock) or judged.phase is Phase.NORMAL:
                continue
            if judged.rule.reset != "manual" and self.over(judged):
                self.let_go(judged, by, "the batch is restarted", restarting=True)

    def over(self, judged: JudgedInterlock) -> bool:
        """Return whether the condition of an interlock is known to be over; one that breaks never is."""
        try:
            return judged.over()
        except Exception as error:  # noqa: BLE001 - a person's restart must not fail for it
            self._break(judged, error)
            return False

    def _known(self, judged: Either, *, known: bool) -> None:
        """Tell once that something cannot be judged for INVALID_AFTER, and when that is over."""
        now = self._clock.monotonic()
        if known:
            judged.unknown_since = None
        elif judged.unknown_since is None:
            judged.unknown_since = now
        # Unknown ends nothing: what was told before a start stands until it is known.
        lasts = 0.0 if judged.unknown_since is None else now - judged.unknown_since
        told = not known and (judged.unknown_told or lasts >= INVALID_AFTER)
        if told is not judged.unknown_told:
            judged.unknown_told = told
            self._reactions.unknown(judged, told=told)

    def _end_bypass(self, judged: Either) -> None:
        if judged.bypass is None:
            return
        now = self._clock.monotonic()
        if judged.until is None or judged.until[0] != judged.bypass:
            lasts = (judged.bypass.until - self._clock.now()).total_seconds()
            judged.until = judged.bypass, now + min(lasts, LONGEST_BYPASS_S)
        if not judged.bypassed(self._clock.now()) or now >= judged.until[1]:
            judged.bypass = None
            self._reactions.bypass_over(judged)
            self.in_force_again(judged)

    def in_force_again(self, judged: Either) -> None:
        """Take note that a bypass has ended: what stays off until its reset may have been switched on meanwhile."""
        if isinstance(judged, JudgedInterlock) and judged.phase is not Phase.NORMAL:
            judged.owe()
            self._act(judged)  # Actuate first, report second.
            self._reactions.tripped(judged, first=False)

    # --- the gate -------------------------------------------------------------------------------------------------

    def barred(self, device: str, command: str) -> str:
        """Return why a command must not go to an instrument now, "" where nothing is against it."""
        return self._against(self, device, command)

    def cut_off(self, device: str, command: str) -> str:
        """Return why an interlock is against a command now, "" where none is."""
        return self._against((each for each in self if isinstance(each, JudgedInterlock)), device, command)

    def _against(self, rules: Iterable[Either], device: str, command: str) -> str:
        now = self._clock.now()
        for judged in rules:
            if not _covers(judged, device, command) or judged.bypassed(now):
                continue
            try:
                # Invariant: unknown is no permission.
                if isinstance(judged, JudgedInterlock) or judged.condition.holds() is not True:
                    return judged.why_not()
            except Exception as error:  # noqa: BLE001 - Invariant: one that breaks permits nothing of what it is about
                self._break(judged, error)
                return f"{judged.rule.name} does not work: {error!r:.200}"
        return ""

    # --- acting ---------------------------------------------------------------------------------------------------

    def _written(self, device: str, command: str) -> None:
        """Undo what was on its way to an instrument already when an interlock tripped, or may have been."""
        now = self._clock.now()
        for judged in self:
            if isinstance(judged, JudgedInterlock) and _covers(judged, device, command) and not judged.bypassed(now):
                judged.owed.add(device)
                self._act(judged, judged.owed)

    def _act(self, judged: JudgedInterlock, only: Iterable[str] | None = None) -> None:
        """Make its outputs safe, `only` those of some instruments."""
        for output in judged.rule.outputs:
            key = (output.device, output.command)
            if only is not None and output.device not in only:
                continue
            if key in self._tasks:  # the one before is bounded, and this comes again with the next scan
                continue
            task = asyncio.create_task(self._send(judged, output), name=f"interlock:{output.device}")
            self._tasks[key] = task
            task.add_done_callback(lambda _, key=key: self._tasks.pop(key, None))

    async def _send(self, judged: JudgedInterlock, output: Output) -> None:
        pumps = [task for (device, _), task in self._tasks.items() if device in output.after]
        if pumps:  # valves close when the pumps of their lines stand still, and in any case soon
            await asyncio.wait(pumps, timeout=PINCH_AFTER)
        judged.owed.discard(output.device)  # before it is sent: what is written meanwhile owes it anew
        protected = await self._gate.protect(output.device, output.command)
        if judged.phase is Phase.NORMAL:  # it was reset meanwhile
            return
        if protected.error:
            judged.failing[output.device] = protected.error
            judged.owed.add(output.device)
        else:
            judged.failing.pop(output.device, None)
        self._reactions.acted(judged)

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- looking --------------------------------------------------------------------------------------------------

    def rows(self, unit: str, now: datetime) -> list[dict[str, Any]]:
        """Return each rule of a unit as people and machines are shown it."""
        return [self._row(judged, now) for judged in self.of(unit).values()]

    def _row(self, judged: Either, now: datetime) -> dict[str, Any]:
        try:
            return judged.row(now)
        except Exception as error:  # noqa: BLE001 - whoever looks on sees all the others
            self._break(judged, error)
            return broken_row(judged, error)


def _covers(judged: Either, device: str, command: str) -> bool:
    """Tell whether it is against a command as it stands: a permissive may be, an interlock is until it is reset."""
    if isinstance(judged, JudgedPermissive):
        return (device, command) in judged.rule.forbids
    if judged.phase is Phase.NORMAL:
        return False
    return any(output.device == device and command in output.undone_by for output in judged.rule.outputs)
