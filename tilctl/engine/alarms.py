"""The alarms of all units and of the site: whose desk they are noted at, and when they are judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import structlog

from devices.clock import Clock
from tilctl.config import Site
from tilctl.engine import site_watches
from tilctl.engine.alarm_commands import Refused
from tilctl.engine.beside import ALARMS_KEPT
from tilctl.engine.fitness import watches_over
from tilctl.engine.interlocking import Standing
from tilctl.engine.port import SITE, Command
from tilctl.engine.runner import Runner, priority_of
from tilctl.engine.slot import Slot, suppressed_by_design
from tilctl.engine.state import parse_time
from tilctl.engine.telling import Teller
from tilctl.guard.board import Action, GuardBoard, Priority, Reactions
from tilctl.guard.book import AlarmBook
from tilctl.guard.desk import BY_DESIGN, Desk
from tilctl.guard.device_watches import device_watches
from tilctl.guard.health import Health
from tilctl.journal import alarms as ev
from tilctl.journal.chain import Record
from tilctl.journal.events import EventError
from tilctl.journal.store import Journal, JournalError
from tilctl.plant.suite import Suite


class Alarms:
    """One for a controller.  Invariant: judged with and without batches, in every mode, whoever owns a device."""

    def __init__(
        self, site: Site, clock: Clock, suite: Suite, health: Health, journal: Callable[[], Journal | None]
    ) -> None:
        """`health` knows how well devices are; `journal` is the site's, None before it is open."""
        self._health = health
        self._site = site
        self._clock = clock
        self._suite = suite
        self._journal = journal
        self._board: GuardBoard | None = None
        self._slots: Mapping[str, Slot] = {}
        self._devices: dict[str, frozenset[str]] = {}  # alarm of the site -> the shared equipment that it is about
        self._tell = Teller()
        self._lost: dict[tuple[str, str], tuple[datetime, ev.AlarmRaised | ev.AlarmCleared]] = {}
        self._lost_aside: dict[tuple[str, str], ev.AlarmSetAside | ev.AlarmSetBack] = {}  # what the design wanted last
        self._log = structlog.get_logger("alarms")
        self.desks = {name: Desk(clock, self._note, AlarmBook(), name) for name in (*site.units, SITE)}
        for desk in self.desks.values():
            desk.escalate_s = site.notify.escalate

    def watch(self, slots: Mapping[str, Slot]) -> None:
        """Begin to watch.  Invariant: before anything is read, and before anything is done."""
        self._slots = slots
        for name, slot in slots.items():
            plant = self._suite.units[name]
            # Devices first: what is blind because one of them failed comes after that in their first-out group.
            own = site_watches.of_unit(self._site, plant.site, plant.watched, self._suite.image)
            slot.watch([*watches_over(self._health, plant), *own])
        desk = self.desks[SITE]
        shared = [binding.device for binding in self._site.shared.values()]
        points = {name: list(self._suite.instruments[name].profile.points) for name in shared}
        watches = device_watches(self._health, shared, lambda device: points[device])
        watches += site_watches.of_site(self._site, self._suite.image)
        desk.known(watches)
        for slot in slots.values():
            slot.watch_also(watches)
        self._devices = {watch.id: (watch.devices or frozenset()) & frozenset(shared) for watch in watches}
        reactions = Reactions(self._raise, self._clear, self._act, self._by_design)
        active = {alarm for each in self._all() for alarm in each.book.active}
        suppressed = {alarm for each in self._all() for alarm in suppressed_by_design(each.book)}
        self._board = GuardBoard(self._clock, watches, reactions, active, suppressed)
        desk.changed()

    def passed_on(self) -> None:
        """Note what stands of shared equipment where it belongs now: with the batch that was given it, or nowhere."""
        if self._board is None:
            return
        alarms = [each for w in self._devices for each in (w, f"{w}-invalid", f"internal-error-{w}")]
        for alarm in alarms:  # first: what is set aside is not announced where it comes to
            for desk in self._elsewhere(alarm):
                self.at(alarm).set_aside_as(desk, alarm)
        for alarm, priority, text, values in self._board.standing():
            if not self.at(alarm).stands(alarm):
                self._raise(alarm, priority, text, values)
            self.given_to(alarm, self._concerned(alarm))
        for alarm in alarms:
            for desk in self._elsewhere(alarm):
                desk.gone_over(self.at(alarm), alarm)

    def given_to(self, alarm: str, runner: Runner | None) -> None:
        """Hand an alarm of shared equipment over to the batch that has it, None for the site, from everywhere else."""
        here = self.desks[SITE] if runner is None else runner.desk
        for desk in self._all():
            if desk is not here and desk.stands(alarm):
                desk.hand_over(alarm, "the site" if runner is None else f"batch {runner.batch.name}")

    def at(self, alarm: str) -> Desk:
        """Return where an alarm of the site or of shared equipment is noted now."""
        runner = self._concerned(alarm)
        return self.desks[SITE] if runner is None else runner.desk

    def desks_for(self, command: Command, desks: tuple[Desk, ...]) -> tuple[Desk, ...]:
        """Return the desks that a command about an alarm may mean: `desks` of its unit, or where the alarm goes.

        One of shared equipment is set aside where it is noted, or it would be announced there all the same.  Raises
        Refused where that is the batch of another unit.
        """
        alarm = str(command.args.get("alarm", ""))
        if _watch(alarm) not in self._devices:
            return desks
        here = self.at(alarm)
        rest = tuple(desk for desk in desks if desk is not here)
        if here in desks or here is self.desks[SITE]:
            return (here, *rest)
        if command.verb in ("shelve", "out-of-service"):
            unit = next(name for name, slot in self._slots.items() if slot.desk is here)
            raise Refused("no_alarm", f"{alarm} is of equipment that the batch of {unit} has now: name that unit")
        return rest

    def _all(self) -> list[Desk]:
        slots = self._slots.values()
        found = (self.desks[SITE], *(slot.desk for slot in slots), *(slot.idle for slot in slots))
        return list({id(desk): desk for desk in found}.values())

    def _elsewhere(self, alarm: str) -> list[Desk]:
        here = self.at(alarm)
        return [desk for desk in self._all() if desk is not here]

    def _concerned(self, alarm: str) -> Runner | None:
        """Return the batch that has the equipment which an alarm is about, None where no batch has it."""
        devices = self._devices.get(_watch(alarm), frozenset())
        owners = {self._suite.gate.owner(device) for device in devices}
        runners = (slot.runner for slot in self._slots.values())
        return next((runner for runner in runners if runner is not None and runner.batch.name in owners), None)

    def _raise(self, alarm: str, priority: Priority, text: str, values: dict[str, Any]) -> None:
        if (runner := self._concerned(alarm)) is not None:
            runner.alarm(alarm, priority, text, values)
        else:
            self.desks[SITE].raise_(alarm, priority, text, "", values)

    def _clear(self, alarm: str) -> None:
        for desk in self._all():
            if desk.stands(alarm):
                desk.clear(alarm)

    def _by_design(self, alarm: str, suppressed: bool) -> None:
        self.at(alarm).by_design(alarm, suppressed)
        for desk in () if suppressed else self._elsewhere(alarm):
            if alarm in suppressed_by_design(desk.book):
                desk.by_design(alarm, False)

    def _act(self, alarm: str, action: Action, text: str) -> None:
        if (runner := self._concerned(alarm)) is not None:
            runner.act(alarm, action, text)

    def judge(self, device: str | None = None) -> None:
        """Judge what a reading of this device may change; everything where none is named."""
        self._tell((self.note_lost,))
        for slot in self._slots.values():
            self._tell((slot.judged,), device)
        if self._board is not None:
            self._tell((self._board.scan,), device)

    def of_an_interlock(self, standing: Standing, raised: bool) -> None:
        """Note an alarm of an interlock or permissive that no batch is concerned by, or its end."""
        desk = self.desks[standing.unit]
        if raised:
            desk.explain(standing.alarm, standing.help, standing.group)
            desk.raise_(standing.alarm, priority_of(standing.priority), standing.text, "", standing.values)
        elif desk.stands(standing.alarm):
            desk.clear(standing.alarm)

    def take(self, record: Record) -> None:
        """Take in what the site's record says of an alarm."""
        event = record.event
        if isinstance(event, ev.AlarmEvent) and event.unit in self.desks:
            desk = self.desks[event.unit]
            desk.book.apply(event, parse_time(record.t), record.seq)
            if self._board is not None:  # not while the record is being read
                desk.changed()

    def close(self) -> None:
        """Wait for nothing any more."""
        for slot in self._slots.values():
            slot.close()
        for desk in self.desks.values():
            desk.close()

    def unnoted(self, unit: str) -> list[tuple[datetime, ev.AlarmRaised]]:
        """Return the alarms of a unit, or of the site, that are active and not on record, with since when."""
        return [
            (t, event)
            for (whose, _), (t, event) in self._lost.items()
            if whose == unit and isinstance(event, ev.AlarmRaised)
        ]

    def _note(self, event: ev.AlarmEvent) -> None:
        """Put an alarm on the site's record; where that is dead it is kept, shown, and noted when it is open again."""
        journal = self._journal()
        if journal is None or journal.failed:
            self._lose(event, "it is not open" if journal is None else "it has failed")
            return
        try:
            journal.append(event).add_done_callback(lambda done: self._noted(event, done))
        except (JournalError, EventError) as error:
            self._lose(event, str(error))

    def _noted(self, event: ev.AlarmEvent, done: asyncio.Future[Record]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._lose(event, str(error))

    def _lose(self, event: ev.AlarmEvent, why: str) -> None:
        self._log.error("alarm_not_on_record", alarm=event.alarm, unit=event.unit, kind=event.kind, why=why)
        key = (event.unit, event.alarm)
        on_record = event.unit in self.desks and event.alarm in self.desks[event.unit].book.active
        match event:
            case ev.AlarmCleared() if not on_record:
                self._lost.pop(key, None)
            case ev.AlarmRaised() if on_record:  # its end was lost, and so is that it came again: it is as it was
                self._lost.pop(key, None)
            case ev.AlarmRaised() | ev.AlarmCleared() if key in self._lost or len(self._lost) < ALARMS_KEPT:
                self._lost.setdefault(key, (self._clock.now(), event))
            case ev.AlarmSetAside(by=by) | ev.AlarmSetBack(by=by) if by == BY_DESIGN:
                if key in self._lost_aside or len(self._lost_aside) < ALARMS_KEPT:
                    self._lost_aside[key] = event
            case _:
                pass

    def note_lost(self) -> None:
        """Note what could not be noted, once the record takes it again."""
        journal = self._journal()
        if (self._lost or self._lost_aside) and journal is not None and not journal.failed:
            lost, self._lost = self._lost, {}
            aside, self._lost_aside = self._lost_aside, {}
            for event in (*aside.values(), *(event for _, event in lost.values())):
                self._note(event)


def _watch(alarm: str) -> str:
    """Return what an alarm tells of: itself, or that it is not known or does not work."""
    return alarm.removesuffix("-invalid").removeprefix("internal-error-")
