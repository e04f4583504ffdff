"""The invariants, asked at every event, at every command that an instrument hears, and at every kill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from simulators.plant import Plant
from tilctl.cli.rehearsing.doses import DoseOracle
from tilctl.cli.rehearsing.station import Acknowledged
from tilctl.cli.rehearsing.times import TimeOracle
from tilctl.cli.rehearsing.violations import Book
from tilctl.cli.rehearsing.warmth import WarmOracle
from tilctl.commands.door import Reply
from tilctl.engine.controller import Controller
from tilctl.engine.machine import State
from tilctl.engine.state import BatchState, Intent, fold
from tilctl.journal import events as ev
from tilctl.journal.chain import Record

RESTING = ("held", "paused", "stopped", "aborted", "complete")
SAFE = (State.HELD, State.STOPPED, State.ABORTED)
SAFE_WITHIN = 15.0  # s: 5 s for each device, pumps before valves, and one try more
PROTECTIVE = ("stop", "close", "cut_heater", "silence", "acknowledge")
LIMITS: Mapping[str, tuple[float, float]] = {  # of what may ever be commanded (profiles of the suite)
    "set_temperature": (4.0, 42.0),
    "set_co2": (0.0, 20.0),
}
FOLD_EVERY = 100  # events between two comparisons of the live state with the fold


class Oracle(Protocol):
    """Something that judges beside these, on the record and at each scan."""

    def recorded(self, state: BatchState, event: ev.Event) -> None:
        """Judge an event that is on disk."""

    def look(self, state: BatchState) -> None:
        """Judge at a scan."""


@dataclass
class Invariants:
    """Watches one batch in one world.

    `now` is virtual seconds; `troubled(device)` says whether a fault is, or was just now, at work on an instrument.
    """

    plant: Plant
    book: Book
    doses: DoseOracle
    times: TimeOracle
    warmth: WarmOracle
    others: Sequence[Oracle]
    now: Callable[[], float]
    troubled: Callable[[str], bool]
    controller: Callable[[], Controller | None]
    unit: str
    state: BatchState = field(default_factory=BatchState)  # folded here, from what was told
    heads: list[str] = field(default_factory=list[str])
    safe_since: float | None = None
    looked: float = -1.0
    heard: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])

    # --- the record -----------------------------------------------------------------------------------------------

    def recorded(self, record: Record) -> None:
        """Judge one event that is on disk; called in order, before anybody acts on it."""
        if record.seq != len(self.heads) + 1:
            self.book.note("record_gapless", f"event {record.seq} was told after event {len(self.heads)}")
            return
        self.heads.append(record.hash)
        self.state.apply(record)
        for oracle in self.others:
            oracle.recorded(self.state, record.event)
        match record.event:
            case ev.IntentOpened() as event:
                self.doses.opened(self.state, self.state.intents[event.intent])
            case ev.IntentClosed() as event:
                self.doses.closed(self.state.intents[event.intent])
                self.doses.pumps(self.state)
                self.doses.conserved()
                self.doses.ledger(self.state)
            case ev.Mounted() as event:
                self.doses.mounted(self.state, event)
            case ev.StateChanged(path=""):
                self._changed(record.event)
            case ev.CommandAnswered() | ev.CommandRefused():
                self._has_code(record.event)
            case ev.StepStarted() as event:
                self.times.started(event)
            case ev.StepCompleted() as event:
                self.times.completed(self.state, event)
            case ev.Marked() as event:
                self.times.marked(event)
            case ev.AlarmRaised() as event:
                self._alarm(event)
            case ev.AlarmCleared() as event:
                self.doses.suspicion.clears(event.alarm)
            case ev.ExceptionRaised() as event:
                self.doses.suspicion.says(event.path, event.text)
            case ev.StepFailed() | ev.StepInDoubt() as event:
                self.doses.suspicion.says(event.path, event.reason)
            case _:
                pass
        if record.seq % FOLD_EVERY == 0 or (isinstance(event := record.event, ev.StateChanged) and not event.path):
            self.live()

    def _alarm(self, event: ev.AlarmRaised) -> None:
        self.doses.suspicion.says(event.path, f"{event.alarm} {event.text}")
        if event.alarm == "internal-error" or "internal error" in event.text:
            self.book.note("no_internal_error", event.text)

    def _changed(self, event: ev.StateChanged) -> None:
        safe = event.to_state in SAFE
        if not safe:
            self.safe_since = None
        elif self.safe_since is None:
            self.safe_since = self.now()
        if event.to_state in ("holding", "paused"):
            self.times.disturbed += 1
        if event.to_state in RESTING:
            self._at_rest(event.to_state)

    def _at_rest(self, state: str) -> None:
        for name, pump in self.plant.pumps.items():
            if pump.run is not None and not self._unreachable(name):
                self.book.note("rest_is_rest", f"{name} turns while the batch is {state}")

    def _has_code(self, event: ev.CommandAnswered | ev.CommandRefused) -> None:
        status = event.status if isinstance(event, ev.CommandAnswered) else "refused"
        if status in ("refused", "failed") and not event.code:
            self.book.note("refusal_has_code", f"{event.command_id} was {status} without a code: {event.text}")

    # --- what the instruments hear --------------------------------------------------------------------------------

    def hears(self, device: str, command: str, args: Mapping[str, Any]) -> None:
        """Judge a command in the moment in which an instrument takes it."""
        if command == "cut_heater":
            self.warmth.cuts()
        if command in PROTECTIVE:
            return
        if command in LIMITS:
            low, high = LIMITS[command]
            value = float(args["value"])
            if not low <= value <= high:
                self.book.note("inside_limits", f"{device}.{command}({value:g}) is outside {low:g} to {high:g}")
            self.is_target(device, command, value)
        if command == "dispense":
            self._is_meant(device, args)
        if command == "select":
            self._is_way(device, int(args["suction"]), int(args["delivery"]))
        self.owned(device, f"{device}.{command}")
        controller = self.controller()
        runner = None if controller is None else controller.runner(self.unit)
        state = State.IDLE if runner is None else runner.state
        if command in ("dispense", "select") and state in (*SAFE, State.COMPLETE, State.PAUSED, State.IDLE):
            self.book.note("rest_is_rest", f"{device}.{command} was heard while the batch is {state.value}")

    def owned(self, device: str, heard: str) -> None:
        """Judge whose an instrument is that heard something."""
        controller, created = self.controller(), self.state.created
        if controller is None or created is None:
            self.book.note("alive", f"{heard} was heard and no controller is alive")
            return
        owner = controller.suite.gate.owner(device)
        if owner != created.batch:
            self.book.note("one_owner", f"{heard} was heard, and {device} belongs to {owner or 'nobody'}")

    def _is_meant(self, device: str, args: Mapping[str, Any]) -> None:
        sequence, volume, rate = int(args["sequence"]), float(args["volume"]), float(args["rate"])
        if not (0.0 < volume <= 10_000.0 and 0.0 < rate <= 200.0):
            self.book.note("inside_limits", f"{device}.dispense({volume:g} mL at {rate:g} mL/min)")
        if (device, sequence) in self.heard:
            self.book.note("at_most_once", f"{device} heard number {sequence} twice")
        self.heard.add((device, sequence))
        meant = [
            i
            for i in self.state.intents.values()
            if (i.device, i.args.get("sequence")) == (device, sequence) and i.outcome == ""
        ]
        pump = self.plant.pumps[device]
        for (
            intent
        ) in meant:  # clamps that are stuck, or did not take it, are found by the read-back; not so a wrong order
            ways = self._ways(intent)
            if (pump.suction, pump.delivery) != ways and not self.troubled(device.replace("pump", "valves")):
                self.book.note(
                    "act_is_intent",
                    f"{device} was started from port {pump.suction} to {pump.delivery}, intent {intent.number} is"
                    f" from {ways[0]} to {ways[1]}",
                )
        if not meant:
            self.book.note("intent_before_act", f"{device} heard number {sequence}, and no open intent is on disk")

    def _is_way(self, device: str, suction: int, delivery: int) -> None:
        """A path is opened only for a dose whose intent is open, and only the path of that dose."""
        pump = device.replace("valves", "pump")
        meant = [i for i in self.state.intents.values() if i.device == pump and i.outcome == ""]
        if (suction, delivery) not in [self._ways(intent) for intent in meant]:
            self.book.note(
                "intent_before_act",
                f"{device} was switched from port {suction} to {delivery}, and no open intent on disk has this path",
            )

    def _ways(self, intent: Intent) -> tuple[int, ...]:
        """Return the ports of a dose, suction first."""
        accounts = (self.state.ledger.get(str(intent.args.get(end))) for end in ("from", "to"))
        return tuple(0 if account is None else self.doses.port(account.place) for account in accounts)

    def is_target(self, device: str, command: str, value: float) -> None:
        """Judge a target that an instrument hears: it stands on disk."""
        created = self.state.created
        names = {} if created is None else created.bindings
        tags = [f"{equipment}.{command.removeprefix('set_')}" for equipment, d in names.items() if d == device]
        known = [self.state.targets[tag][0] for tag in tags if tag in self.state.targets]
        if not any(isinstance(v, (int, float)) and abs(v - value) < 0.01 for v in known):
            self.book.note(
                "intent_before_act", f"{device}.{command}({value:g}) was heard, and no such target is on disk"
            )

    # --- all the time ---------------------------------------------------------------------------------------------

    def scanned(self) -> None:
        """Judge what can be judged at each scan, cheaply."""
        if self.safe_since is not None and self.now() - self.safe_since > SAFE_WITHIN:
            for name, pump in self.plant.pumps.items():
                if pump.run is not None and not self._unreachable(name):
                    self.book.note("held_means_safe", f"{name} turns {SAFE_WITHIN:g} s after the batch came to rest")
        now = self.now()
        if now != self.looked:  # several instruments are read in one moment
            self.looked = now
            self.warmth.look(self.state)
            for oracle in self.others:
                oracle.look(self.state)

    def _unreachable(self, pump: str) -> bool:
        return self.troubled(pump)

    # --- people ---------------------------------------------------------------------------------------------------

    def replied(self, reply: Reply) -> None:
        """Judge an answer in the moment in which a person reads it."""
        if reply.status in ("refused", "failed") and not reply.code:
            self.book.note("refusal_has_code", f"{reply.correlation} was {reply.status} without a code: {reply.text}")
        if reply.code == "internal":
            self.book.note("no_internal_error", f"{reply.correlation}: {reply.text}")

    # --- kills and the end ----------------------------------------------------------------------------------------

    def survived(self, records: list[Record], known: Mapping[str, Acknowledged], verdict: str) -> None:
        """Judge the file of the batch as a dead controller left it, and go on from what it holds."""
        if verdict:
            self.book.note("record_whole", verdict)
            return
        self.times.disturbed += 1
        for number, digest in enumerate(self.heads, 1):
            if number > len(records) or records[number - 1].hash != digest:
                self.book.note("nothing_lost", f"event {number} was acknowledged and is not on disk")
                break
        commands = {r.event.command_id for r in records if isinstance(r.event, ev.CommandReceived)}
        for command_id, said in known.items():
            on_batch = said.seq is not None and said.seq <= len(records) and records[said.seq - 1].hash == said.hash
            if on_batch and command_id not in commands:
                self.book.note("nothing_lost", f"{command_id} ({said.verb}) was acknowledged and is not on the record")
        self._same(fold(records[: len(self.heads)]), self.state, "the fold of the file", "what was told")
        for record in records[len(self.heads) :]:  # committed, and the controller died before it knew
            self.recorded(record)

    def live(self) -> None:
        """The live state is the fold of its record."""
        controller = self.controller()
        runner = None if controller is None else controller.runner(self.unit)
        if runner is not None and not runner.batch.record_failed:
            self._same(self.state, runner.batch.state, "the fold of the record", "the live state")

    def finish(self, records: list[Record]) -> None:
        """Judge the whole at the end."""
        self.doses.conserved()
        self.doses.pumps(self.state)
        self._same(fold(records), self.state, "the fold of the file", "what was told")
        for command_id in self.state.commands.keys() - self.state.answers.keys():
            verb = self.state.commands[command_id].verb
            self.book.note("every_command_answered", f"{command_id} ({verb}) is on record and was never answered")
        self.live()

    def _same(self, one: BatchState, other: BatchState, what: str, against: str) -> None:
        mine, theirs = plain(one), plain(other)
        for name in mine.keys() | theirs.keys():
            if mine.get(name) != theirs.get(name):
                self.book.note("fold_is_state", f"{what} differs from {against} in {name}")


def plain(state: BatchState) -> dict[str, Any]:
    """Return every field of a state in a form that can be compared."""
    fields = dict(vars(state))
    fields["ledger"] = list(state.ledger)
    return fields
