"""The service: controller, command door, MQTT and HTTP, put together in one process on one loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from devices.clock import Clock
from devices.mqtt.wire import Connect
from devices.reading import Reading
from tilctl import __version__
from tilctl.cli.record_watch import RecordWatch
from tilctl.cli.wellness import Wellness
from tilctl.commands.door import Door, Refusal
from tilctl.config import Site
from tilctl.engine.controller import Controller
from tilctl.engine.machine import NUMBERS, State
from tilctl.engine.port import SITE
from tilctl.engine.state import parse_time
from tilctl.gateway.alarm_metrics import AlarmNumbers, numbers
from tilctl.gateway.cursor import read_cursor
from tilctl.gateway.http import HttpGateway
from tilctl.gateway.metrics import Snapshot, Timing, UnitFigures, registry
from tilctl.gateway.mqtt import MqttGateway
from tilctl.gateway.notify import Notifier
from tilctl.gateway.notify_plan import Standing, standing
from tilctl.gateway.notify_send import Way
from tilctl.gateway.outbox import Outbox, replay_from
from tilctl.gateway.projector import Projector
from tilctl.gateway.replay import EventReader
from tilctl.gateway.topics import Topics
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.plant.suite import Suite
from tilctl.record.alarm_figures import AlarmFigures

TURNS_WITHIN = 2.0  # s of real time in which a healthy loop finds a moment for a question


def wall() -> datetime:
    """Return the real time of day; the freshness of a command is judged by it, in a rehearsal too."""
    return datetime.now(UTC)


class Service:
    """Everything that runs; `open`, then wait, then `close`."""

    def __init__(
        self,
        site: Site,
        clock: Clock,
        boot: str,
        recipes: Sequence[Path] = (),
        brokers: Mapping[str, Connect] | None = None,
        ways: Mapping[str, Sequence[Way]] | None = None,
    ) -> None:
        """Put the parts together; `brokers` (bus -> maker) stand in for those of instruments in a rehearsal.

        `ways` are those to people by webhook and e-mail; a rehearsal has none, whatever its site file says.
        """
        self.site = site
        self.clock = clock
        self.suite = Suite(site, clock, brokers=brokers)
        self.controller = Controller(site, clock, self.suite, boot, recipes)
        self.topics = Topics(site.topic_prefix)
        self.http_port = site.http_port
        cursor = site.data / "mqtt-cursor.json"
        self._outbox = Outbox(replay_from(self._file_of), read_cursor(cursor), clock.monotonic)
        self._projector = Projector(self.controller, clock, self._outbox, self.topics)
        self._records = RecordWatch(self.controller, clock, self._projector, self._outbox.say)
        self._door = Door(self.controller, clock, wall, scheduled=site.scheduled_commands, on_refusal=self._refused)
        self.mqtt = MqttGateway(
            site.mqtt_url,
            self.topics,
            self._door,
            clock,
            self._outbox,
            login=site.mqtt_login,
            identity={"boot": boot, "version": __version__, "config": site.sha256},
            cursor=cursor,
            reader=EventReader(self.topics, tuple(site.units), self._file_of, self._outbox.latest, wall),
        )
        self._http = HttpGateway(
            site.http_host,
            site.http_port,
            registry(self._snapshot, {"version": __version__}),
            self._healthy,
            self._ready,
        )
        self._alarm_figures = AlarmFigures()  # since this process began
        self._notifier = Notifier(
            site, self.controller.clock, boot, self._standing, self._projector.announce, ways or {}
        )
        self._projector.on_alarms.append(self._notifier.refresh)
        self._lateness = Timing()
        self._commits = Timing()
        self._lag = Timing()
        self._figures: Snapshot | None = None
        self._since = clock.monotonic()  # what has not happened yet is as old as this process
        self._started = clock.now().timestamp()
        self._not_well: list[str] = []
        self.wellness = Wellness(self.controller, self.suite, clock)
        for unit in self.suite.units.values():
            unit.well = lambda: self.wellness.well
        self._log = structlog.get_logger("service")

    async def open(self) -> None:
        """Open everything, the door to the outside last.  Raises OSError or JournalError; nothing is left open then."""
        try:
            self.http_port = self._http.start()
            self.controller.on_batch.append(self._projector.attach)
            self.controller.on_record.append(self._recorded)
            self.controller.on_scan.append(self._scanned)
            self.controller.on_status.append(self._projector.refresh)
            self.controller.on_device.append(self._projector.on_device)
            await self.controller.open_records()
            self._records.start()
            for unit in self.controller.units():  # also what an idle one has standing from an earlier life
                self._projector.refresh(unit)
            self._notifier.start(self.controller.desks(SITE)[0])
            # Invariant: a hold is heard while a batch is being recovered; an idle suite has nothing to hold.
            if any(self.controller.runner(unit) is not None for unit in self.controller.units()):
                self.mqtt.start()
            await self.controller.recover()
            self._outbox.look_again()
            self._records.look()
            self._notifier.begin()
            self.mqtt.start()
        except BaseException:
            await self.close()
            raise
        self._log.info("ready", site=self.site.name, units=list(self.controller.units()), http_port=self.http_port)

    async def close(self) -> None:
        """Close everything, the door to the outside first."""
        await self._door.close()
        await self._records.close()
        self._projector.flush()
        await self._notifier.close()
        await asyncio.to_thread(self.mqtt.close)
        await self.controller.close()
        await asyncio.to_thread(self._http.close)
        self.clock.close()

    def _scanned(self, readings: Mapping[str, Reading]) -> None:
        self._projector.on_scan(readings)
        self._records.look()
        device = next(iter(readings), "").partition(".")[0]
        if device:
            self._lateness.observe(self.suite.scanner.stats[device].late_last)

    def _recorded(self, unit: str, record: Record) -> None:
        self._projector.on_record(unit, record)
        runner = self.controller.runner(unit) if unit in self.controller.units() else None
        journal = self.controller.journal if runner is None else runner.batch.journal
        self._alarm_figures.take(record.event, parse_time(record.t), "" if unit == SITE else unit, unit)
        self._commits.observe(journal.statistics.last_s)

    def _refused(self, refusal: Refusal) -> None:
        """Put a command that the door turned away on the site's record."""
        self.controller.note_refusal(
            ev.CommandRefused(
                refusal.client, refusal.unit, refusal.verb, refusal.command_id, refusal.code, refusal.text[:500]
            )
        )

    # --- called in threads of the HTTP server ---------------------------------------------------------------------

    def _ask_core(self) -> bool:
        """Let the core freeze its figures; False when its loop does not turn."""
        done = threading.Event()
        asked = time.monotonic()

        def freeze() -> None:
            self._lag.observe(time.monotonic() - asked)
            self._figures = self._freeze()
            self._not_well = self._records.not_well()
            done.set()

        self.clock.enter(freeze)
        return done.wait(TURNS_WITHIN)

    def _snapshot(self) -> Snapshot | None:
        """Return the figures of now; those of an earlier moment would look like a controller that is well."""
        return self._figures if self._ask_core() else None

    def _healthy(self) -> tuple[bool, dict[str, Any]]:
        turns = self._ask_core()
        failed = self._not_well if turns else []
        unwell = dict(self.wellness.unwell)
        if not turns:
            unwell["loop"] = f"it has not turned for {TURNS_WITHIN:g} s"
        return not unwell and not failed, {"loop_turns": turns, "record_failed": failed, "not_well": unwell}

    def _ready(self) -> tuple[bool, dict[str, Any]]:
        mode = {"mode": self.controller.mode, "mode_reason": self.controller.mode_reason}
        return self.controller.ready, {"ready": self.controller.ready, "mqtt_connected": self.mqtt.connected} | mode

    # --- on the core's loop ---------------------------------------------------------------------------------------

    def _freeze(self) -> Snapshot:
        """Return the figures of now."""
        units: dict[str, UnitFigures] = {}
        for unit in self.controller.units():
            runner = self.controller.runner(unit)
            if runner is None:
                units[unit] = UnitFigures(NUMBERS[State.IDLE], 0, None, 0)
                continue
            state = runner.batch.state
            day = state.since("day0", self.controller.clock.now())
            prompts = sum(prompt.open for prompt in state.prompts.values())
            elapsed = None if day is None else day.total_seconds() / 86400
            units[unit] = UnitFigures(
                NUMBERS[runner.state], state.version, elapsed, prompts, runner.batch.estimating.rows()
            )
        now, scans = self.clock.monotonic(), self.suite.scanner.stats
        site = None if self.controller.mode == "opening" else self.controller.journal
        journals = [*([site] if site else []), *(r.batch.journal for u in units if (r := self.controller.runner(u)))]
        return Snapshot(
            units=units,
            readings=self.suite.image.all(),
            now=now,
            timings={
                "scan_lateness": self._lateness.frozen(),
                "commit": self._commits.frozen(),
                "loop_lag": self._lag.frozen(),
            },
            depths={
                "mqtt": self._outbox.waiting,
                "journal": sum(journal.pending for journal in journals),
                "notify": self._notifier.waiting,
            },
            drops={
                "answers": self._outbox.counts.answers_dropped,
                "events": self._outbox.counts.events_dropped,
                "commands": self.mqtt.counts.commands_dropped,
                "notices": self._outbox.counts.notices_dropped,
            },
            commands={"received": self._door.counts.received},
            refusals=dict(self._door.counts.refused),
            bus_requests={name: bus.statistics.requests for name, bus in self.suite.buses.items()},
            bus_timeouts={name: bus.statistics.timeouts for name, bus in self.suite.buses.items()},
            device_latency=self.suite.latencies(),
            scans={name: (now - max(each.turned, self._since), each.period) for name, each in scans.items()},
            heartbeat=(site.beat_age_s, self.controller.beat_every) if site else None,
            head_unexported=self._outbox.unacknowledged_s(self.topics.head),
            started=self._started,
            synchronised=self.controller.clock.synchronised(),
            interlocks=self.controller.interlocking.all_rows(),
            mqtt_connected=self.mqtt.connected,
            mode=self.controller.mode,
            clock_offset=self.controller.clock.offset,
            unwell=dict(self.wellness.unwell),
            records={name: (each.failed, each.waiting_s) for name, each in self._records.figures().items()},
            disk=None if (room := self._records.space) is None else (room.free, room.total),
            devices={name: self.controller.health.verdict(name).status.value for name in self.controller.health},
            self_test=asdict(self.mqtt.self_test.counts),
            alarms=self._alarm_numbers(),
        )

    def _alarm_numbers(self) -> AlarmNumbers:
        rows = {unit: self._projector.standing().get(unit, ()) for unit in (*self.controller.units(), SITE)}
        return numbers(rows, self._alarm_figures, self.controller.clock.now(), self._notifier.counts())

    def _standing(self) -> list[Standing]:
        """Return all alarms as they are shown, for who tells people of them."""
        found: list[Standing] = []
        for unit, rows in self._projector.standing().items():
            runner = None if unit == SITE else self.controller.runner(unit)
            batch = "" if runner is None else runner.batch.name
            found += [standing(unit, row, batch) for row in rows]
        return found

    # --- called in the MQTT thread --------------------------------------------------------------------------------

    def _file_of(self, unit: str, batch: str) -> Path:
        """Return the record that a stream of events is read from."""
        if unit == "site":
            return self.site.data / "site.db"
        folder = self.site.data / "batches"
        closed = folder / "closed" / f"{batch}.db"
        return closed if closed.exists() else folder / f"{batch}.db"
