"""The core's side of the gateway: turns commits and scans into what is published, on the core's loop.

Called after each commit and each scan. It replaces values and appends to the bounded outbox, nothing else. The
state of a unit is made once for all commits of one turn of the loop, outside the call stack of whoever committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from devices.clock import Clock
from devices.reading import Reading
from tilctl.commands.envelope import rfc3339
from tilctl.engine.machine import NUMBERS, State
from tilctl.engine.port import SITE, ControllerPort
from tilctl.gateway.outbox import Outbox, Post, Scan
from tilctl.gateway.payloads import encode
from tilctl.gateway.topics import Topics
from tilctl.gateway.transitions import Transitions
from tilctl.guard.alarm import AlarmState
from tilctl.journal.chain import Record

ALARM_EXPIRY = 7 * 24 * 3600
NOTIFY_EXPIRY = 3600  # s; it is said again while it is so
_NOT_STATE = frozenset(  # which have topics of their own
    ("readings", "waits", "alarms", "interlocks", "devices", "ledger", "estimates")
)


class Projector:
    """Keeps the outbox in step with the controller. All methods are for the core's loop."""

    def __init__(self, controller: ControllerPort, clock: Clock, outbox: Outbox, topics: Topics) -> None:
        self._controller = controller
        self._clock = clock
        self._outbox = outbox
        self._topics = topics
        self._batches: dict[str, str] = {}
        self._heads: dict[str, dict[str, Any]] = {}
        self._kept: dict[str, set[str]] = {}
        self._beside: dict[str, dict[str, dict[str, Any]]] = {}
        self._changed: dict[str, None] = {}
        self._planned: asyncio.Handle | None = None
        self._transitions = Transitions()
        self._alarms: dict[str, list[dict[str, Any]]] = {}
        self.on_alarms: list[Callable[[], None]] = []  # other alarms are shown than before

    def attach(self, unit: str, batch: str, records: Sequence[Record]) -> None:
        """Take up a batch (or, as unit `site`, the site's own journal) after it was created or opened."""
        self._batches[unit] = batch
        self._transitions.attach(unit, batch, records)
        if records:
            self._outbox.attach(unit, batch, records)
            self._note_head(unit, records[-1])
        self.refresh(unit)

    def on_record(self, unit: str, record: Record) -> None:
        """Publish a committed record, and the state that follows from it."""
        batch = self._batches.get(unit, unit)
        self._outbox.event(unit, batch, record)
        self._note_head(unit, record)
        self.refresh(unit)
        if record.event.kind.startswith("alarm_"):
            self._transition(unit, record)

    def _transition(self, unit: str, record: Record) -> None:
        """Send what happened to an alarm; on the site's record the event says of which unit it is."""
        told = self._transitions.told(unit, self._batches.get(unit, unit), record)
        if told is None:
            return
        whose, body = told
        self._outbox.notice(Post(self._topics.alarm_events(whose), encode(body), b"", ALARM_EXPIRY))
        if whose != unit:
            self.refresh(whose)

    def announce(self, unit: str, body: Mapping[str, Any]) -> None:
        """Send what people are told of the alarms of a unit."""
        self._outbox.notice(Post(self._topics.notify(unit), encode(body), b"", NOTIFY_EXPIRY))

    def standing(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the alarms of each unit as they are shown, those without a record too."""
        return self._alarms

    def on_scan(self, readings: Mapping[str, Reading], unit: str = "plant") -> None:
        """Replace the latest readings, by tag, of a unit (or of the whole plant)."""
        self._outbox.scanned(Scan(unit, dict(readings), self._clock.now(), self._clock.monotonic()))

    def on_device(self, device: str, told: Mapping[str, Any]) -> None:
        """Publish how well a device is."""
        self._outbox.keep(self._topics.device(device), encode(told))

    def alarm_beside(self, unit: str, alarm: str, text: str) -> bool:
        """Publish a critical alarm that needs no record, of a unit or of `site`; False while it is active already."""
        alarms = self._beside.setdefault(unit, {})
        if alarm in alarms:
            return False
        since = rfc3339(self._clock.now())
        alarms[alarm] = {
            "alarm": alarm, "priority": "critical", "text": text, "since": since, "state": "unacknowledged",
            "active": True, "waiting": True, "on_record": False,
        }  # fmt: skip
        self._outbox.keep(self._topics.alarm(unit, alarm), encode(alarms[alarm]))
        self._tell(unit, "raised", alarms[alarm])
        return True

    def clear_beside(self, unit: str, alarm: str) -> None:
        """End such an alarm; nothing happens where it is not active."""
        body = self._beside.get(unit, {}).pop(alarm, None)
        if body is not None:
            self._outbox.clear(self._topics.alarm(unit, alarm))
            self._tell(unit, "cleared", body)

    def _tell(self, unit: str, transition: str, body: Mapping[str, Any]) -> None:
        """Send the transition of an alarm once; what is kept shows the alarm as it is."""
        normal, raised = AlarmState.NORMAL.value, AlarmState.UNACKNOWLEDGED.value
        states = {"from": normal, "to": raised} if transition == "raised" else {"from": raised, "to": normal}
        payload = encode({**body, **states, "transition": transition, "unit": unit, "t": rfc3339(self._clock.now())})
        self._outbox.notice(Post(self._topics.alarm_events(unit), payload, b"", ALARM_EXPIRY))
        self.refresh(unit)

    def refresh(self, unit: str) -> None:
        """Publish a unit's state, prompts and alarms as they are at the next turn of the loop."""
        self._changed[unit] = None
        if self._planned is None:
            self._planned = asyncio.get_running_loop().call_soon(self._project)

    def flush(self) -> None:
        """Publish now what is planned for the next turn, as before closing."""
        if self._planned is not None:
            self._planned.cancel()
            self._project()

    def _note_head(self, unit: str, record: Record) -> None:
        self._heads[unit] = {
            "journal": self._batches.get(unit, unit),
            "seq": record.seq,
            "hash": record.hash,
            "t": record.t,
        }

    def _project(self) -> None:
        self._planned = None
        units, self._changed = list(self._changed), {}
        self._outbox.keep(self._topics.head, encode(self._heads))
        known = self._controller.units()
        for unit in units:
            if unit in known:
                self._project_unit(unit)
            elif unit == SITE:
                self._keep(SITE, self._alarm_topics(SITE, self._controller.alarms(SITE)))

    def _project_unit(self, unit: str) -> None:
        status = self._controller.status(unit)
        kept = {self._topics.run(unit): encode(self._run_state(unit, status))}
        waits: list[dict[str, Any]] = list(status.get("waits") or [])
        paths = dict.fromkeys(str(wait["path"]) for wait in waits if wait.get("path"))
        if status.get("path"):
            paths.setdefault(str(status["path"]))
        for path in paths:
            phase = {"path": path, "waits": [wait for wait in waits if wait.get("path") == path]}
            kept[self._topics.phase(unit, path)] = encode(phase)
        kept |= self._alarm_topics(unit, list(status.get("alarms") or []))
        for prompt in self._controller.prompts(unit):
            kept[self._topics.prompt(unit, str(prompt["id"]))] = encode(prompt)
        estimates: list[dict[str, Any]] = status.get("estimates") or []
        for each in estimates:
            kept[self._topics.estimate(unit, str(each["name"]))] = encode(each)
        rules: list[dict[str, Any]] = status.get("interlocks") or []
        for rule in rules:
            kept[self._topics.interlock(str(rule["unit"]), str(rule["name"]))] = encode(rule)
        self._keep(unit, kept)

    def _alarm_topics(self, unit: str, recorded: list[dict[str, Any]]) -> dict[str, bytes]:
        # One may be over and unknown in the idle unit, and new in its batch: what is active is shown.
        alarms = sorted(
            [*recorded, *self._beside.get(unit, {}).values()],
            key=lambda alarm: (bool(alarm.get("active")), str(alarm.get("since"))),
        )
        if alarms != self._alarms.get(unit, []):
            self._alarms[unit] = alarms
            for told in self.on_alarms:
                told()
        return {self._topics.alarm(unit, str(alarm["alarm"])): encode(alarm) for alarm in alarms}

    def _keep(self, unit: str, kept: Mapping[str, bytes]) -> None:
        for topic in self._kept.get(unit, set()) - set(kept):
            self._outbox.clear(topic)
        for topic, payload in kept.items():
            self._outbox.keep(topic, payload)
        self._kept[unit] = set(kept)

    def _run_state(self, unit: str, status: Mapping[str, Any]) -> dict[str, Any]:
        state = {key: value for key, value in status.items() if key not in _NOT_STATE}
        state["state_number"] = NUMBERS[State(str(status["state"]))]
        state["waits"] = status.get("waits") or []
        recorded: list[dict[str, Any]] = list(status.get("alarms") or [])
        shown = [*(a for a in recorded if not a.get("aside")), *self._beside.get(unit, {}).values()]
        state["alarms"] = [alarm["alarm"] for alarm in shown]
        state["journal_seq"] = self._heads.get(unit, {}).get("seq", 0)
        return state
