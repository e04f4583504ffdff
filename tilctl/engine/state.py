"""The state of a batch, folded from its record.

Invariant: whatever the engine knows of a batch it knows from here, and nothing changes here but by `apply` of a
committed record; so the fold of the file equals the live state at every moment, and resuming is folding.  Pure: no
I/O, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from tilctl.engine.machine import State
from tilctl.guard.book import AlarmBook
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.changes import Mode, Release
from tilctl.plant.control.cascade import Cascade
from tilctl.plant.ledger import Ledger

Value = float | str | bool | None


class StepStatus(StrEnum):
    """Where a step stands; a step that is not known is pending."""

    ACTING = "acting"
    HELD = "held"
    COMPLETE = "complete"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"


@dataclass
class Node:
    """A step that was walked at least once."""

    path: str
    verb: str
    started: datetime
    status: StepStatus = StepStatus.ACTING
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    phases: dict[str, tuple[datetime, dict[str, Any]]] = field(
        default_factory=dict[str, tuple[datetime, dict[str, Any]]]
    )
    reason: str = ""
    began: int = 0  # number of the event by which it began first: what is adjusted later is not for it


@dataclass
class Intent:
    """One effect: commanded at most once, closed by evidence or by a person."""

    number: int
    path: str
    device: str
    action: str
    args: dict[str, Any]
    evidence: dict[str, Any]
    opened: datetime
    outcome: str = ""
    delivered_ml: float | None = None
    counted_ml: float | None = None
    seq: int = 0  # of the event that opened it: the cause of what is written for it


@dataclass
class Prompt:
    """A question to a person; `answer` as it was given, effective from `effective`."""

    id: str
    path: str
    kind: str
    text: str
    spec: dict[str, Any]
    asked: datetime
    due: datetime | None
    answer: dict[str, Any] | None = None
    effective: datetime | None = None
    command_id: str = ""  # the command that brought the answer
    answered: bool = False
    withdrawn: bool = False

    @property
    def open(self) -> bool:
        """Whether a person is still asked."""
        return self.answer is None and not self.withdrawn


@dataclass
class StandingControl:
    """A reading that is kept: since when, by which step, and when a target was moved for it last."""

    path: str
    cascade: Cascade
    since: datetime
    moved: datetime | None = None


def parse_time(text: str) -> datetime:
    """Return the aware UTC moment of an RFC 3339 text."""
    return datetime.fromisoformat(text).astimezone(UTC)


def bare_path(path: str) -> str:
    """Return a path without the numbers of loops and branches: the step of the recipe that it walks."""
    return "/".join(part for part in path.split("/") if not part.isdigit())


def format_time(moment: datetime) -> str:
    """Return the RFC 3339 text of a moment, in milliseconds, as the record writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class BatchState:
    """Everything that is known of one batch."""

    def __init__(self) -> None:
        self.created: ev.BatchCreated | None = None
        self.states: dict[str, State] = {"": State.IDLE}
        self.version = 0  # counts transitions of the batch; commands may demand the one that they saw
        self.operation = ""
        self.held_for = ""  # why it was held last
        self.nodes: dict[str, Node] = {}
        self.values: dict[str, tuple[Value, str]] = {}
        self.setters: dict[str, str] = {}  # name of a value -> path of the step that set it
        self.rounds: dict[str, str] = {}  # step of the recipe -> its path in the round that began last
        self.marks: dict[str, datetime] = {}
        self.serials: dict[str, str] = {}  # instrument -> the serial number that the batch works with
        self.targets: dict[str, tuple[Value, str]] = {}
        self.wanted: dict[str, tuple[str, int]] = {}  # target -> step and number of the event that wants it
        self.confirmed: set[str] = set()  # targets that their device has read back
        self.controls: dict[str, StandingControl] = {}  # reading -> what keeps it
        self.sampled: set[str] = set()  # sample steps whose volume is booked
        self.corrected: set[str] = set()  # commands whose correction of the ledger is booked
        self.adjusted: dict[str, list[tuple[int, str]]] = {}  # parameter -> numbers of the events and new values
        self.mode: Mode = "automatic"
        self.released: dict[str, Release] = {}  # step that has not begun yet -> what a person wants of it
        self.changed_by: set[str] = set()  # commands whose change of this batch is on record
        self.intents: dict[int, Intent] = {}
        self.closed_twice: list[int] = []  # intents; never happens
        self.freezing: dict[int, list[ev.FreezeSampled]] = {}  # intent -> what was seen of its run, in order
        self.prompts: dict[str, Prompt] = {}
        self.lots: dict[str, ev.LotDecided] = {}  # path of a release -> how its lot stands
        self.book = AlarmBook()
        self.alarms = self.book.active  # those whose condition holds
        self.commands: dict[str, ev.CommandReceived] = {}
        self.answers: dict[str, ev.CommandAnswered] = {}
        self.ledger = Ledger()
        self.result = ""
        self.reason = ""
        self.closed = False
        self.started: datetime | None = None
        self.changed: datetime | None = None  # when the batch came into its present state

    @property
    def state(self) -> State:
        """The state of the batch."""
        return self.states[""]

    def node(self, path: str) -> Node | None:
        """Return the step at a path, or None while it is pending."""
        return self.nodes.get(path)

    def complete(self, path: str) -> bool:
        """Whether a step is complete and is never walked again."""
        node = self.nodes.get(path)
        return node is not None and node.status is StepStatus.COMPLETE

    def intents_of(self, path: str) -> list[Intent]:
        """Return the intents of a step, in order."""
        return [intent for intent in self.intents.values() if intent.path == path]

    def open_intents(self) -> list[Intent]:
        """Return the intents that no evidence has closed, those in doubt among them."""
        return [intent for intent in self.intents.values() if intent.outcome in ("", "in_doubt")]

    def overtaken(self, path: str) -> bool:
        """Whether a later round of a step has begun: Invariant: what comes of this one then decides nothing."""
        return self.rounds.get(bare_path(path), path) != path

    def adjusted_for(self, name: str, path: str) -> str | None:
        """Return the value that a parameter was adjusted to, as the step at a path reads it; None where it was not.

        Invariant: a step that has begun reads what it began with, however often it is walked; "" reads what is now.
        """
        node = self.nodes.get(path)
        return next((v for seq, v in reversed(self.adjusted.get(name, [])) if node is None or seq < node.began), None)

    def since(self, mark: str, now: datetime) -> timedelta | None:
        """Return biological time since a mark, or None while it is not set."""
        moment = self.marks.get(mark)
        return None if moment is None else now - moment

    def apply(self, record: Record) -> None:
        """Take in one committed record."""
        event, t = record.event, parse_time(record.t)
        self.ledger.evaporate(t.timestamp())
        match event:
            case ev.BatchCreated():
                self.created, self.started = event, t
            case ev.StateChanged():
                self._transition(event, t)
            case ev.StepStarted() | ev.StepPhase() | ev.StepCompleted() | ev.StepHeld() | ev.StepFailed():
                self._step(event, t, record.seq)
            case ev.StepInDoubt():
                self.nodes[event.path].status = StepStatus.IN_DOUBT
                self.nodes[event.path].reason = event.reason
            case ev.IntentOpened() | ev.IntentClosed():
                self._intent(event, t, record.seq)
            case ev.PromptOpened() | ev.AnswerReceived() | ev.PromptAnswered() | ev.PromptWithdrawn():
                self._prompt(event, t)
            case ev.TargetSet():
                self.targets[event.tag] = (event.value, event.unit)
                self.wanted[event.tag] = (event.path, record.seq)
                self.confirmed.discard(event.tag)
            case ev.ControlSet() | ev.ControlEnded() | ev.ControlMoved():
                self._control(event, t, record.seq)
            case ev.TargetConfirmed():
                self.confirmed.add(event.tag)
            case ev.ValuesSet() if not self.overtaken(event.path):
                step = event.path.rpartition("/")[2]
                for name, value in event.values.items():
                    self.values[f"{step}.{name}"] = (value, event.units.get(name, ""))
                    self.setters[f"{step}.{name}"] = event.path
            case ev.Marked():
                self.marks[event.mark] = parse_time(event.t)
            case ev.Mounted():
                self.ledger.mounted(
                    event.container, event.place, event.vessel_class, event.volume_ml, event.mass_g, event.scan,
                    event.evaporates,
                )  # fmt: skip
            case ev.DeviceSeen():
                self.serials[event.device] = event.serial
            case ev.FreezeSampled():
                self.freezing.setdefault(event.intent, []).append(event)
            case ev.Weighed():
                self.ledger.weighed(event.container, event.found_g - event.expected_g)
            case ev.LedgerCorrected():
                self.ledger.corrected(event.container, event.change_ml, from_mounting=event.from_mounting)
                self.corrected.add(event.command)
            case ev.ParameterAdjusted():
                self.adjusted.setdefault(event.parameter, []).append((record.seq, event.new))
                self.changed_by.add(event.command)
            case ev.ModeChanged():
                self.mode = event.to_mode
                self.changed_by.add(event.command)
            case ev.StepReleased():
                self.released[event.path] = event.how
                self.changed_by.add(event.command)
            case ev.Unmounted():
                self.ledger.unmounted(event.container)
            case ev.Moved():
                self.ledger.moved(event.from_container, event.to_container, event.volume_ml)
                self.sampled.add(event.path)
            case _ if isinstance(event, ev.AlarmEvent):
                self.book.apply(event, t, record.seq)
            case ev.CommandReceived():
                self.commands[event.command_id] = event
            case ev.CommandAnswered():
                self.answers[event.command_id] = event
            case ev.LotDecided():
                self.lots[event.path] = event
            case ev.BatchEnded():
                self.result, self.reason = event.result, event.reason
            case ev.BatchClosed():
                self.closed = True
            case _:
                pass  # kept for the reader of the record; the engine does not steer by it

    def _control(self, event: ev.ControlEvent, t: datetime, seq: int) -> None:
        match event:
            case ev.ControlSet():
                self.controls[event.of] = StandingControl(event.path, Cascade.from_data(event.data), t)
            case ev.ControlEnded():
                self.controls.pop(event.of, None)
            case ev.ControlMoved():
                self.targets[event.tag] = (event.value, event.unit)
                self.wanted[event.tag] = (event.path, seq)
                self.confirmed.discard(event.tag)
                if event.of in self.controls:
                    self.controls[event.of].moved = t

    def _transition(self, event: ev.StateChanged, t: datetime) -> None:
        self.states[event.path] = State(event.to_state)
        if event.path:
            self.operation = event.path
        else:
            self.version += 1
            self.changed = t
            if event.to_state == State.HOLDING:
                self.held_for = event.reason

    def _forget(self, path: str) -> None:
        """Drop the values of earlier rounds of this step and of the loops around it: they say nothing of this round."""
        step = bare_path(path)
        self.rounds[step] = path
        parts = path.split("/")
        around = [("/".join(parts[:i]) + "/", f"{parts[i]}/") for i in range(1, len(parts)) if self._loops(parts[:i])]
        for name, setter in list(self.setters.items()):
            earlier = any(setter.startswith(loop) and not setter.startswith(loop + own) for loop, own in around)
            if earlier or (setter != path and bare_path(setter) == step):
                del self.values[name], self.setters[name]

    def _loops(self, parts: list[str]) -> bool:
        node = self.nodes.get("/".join(parts))
        return node is not None and node.verb in ("for_each", "repeat", "perfuse")

    def _step(
        self,
        event: ev.StepStarted | ev.StepPhase | ev.StepCompleted | ev.StepHeld | ev.StepFailed,
        t: datetime,
        seq: int,
    ) -> None:
        if isinstance(event, ev.StepStarted):
            self.released.pop(event.path, None)
            known = self.nodes.get(event.path)
            if known is None:
                self._forget(event.path)
                self.nodes[event.path] = Node(event.path, event.verb, t, data=dict(event.data), began=seq)
            else:
                known.status, known.reason = StepStatus.ACTING, ""
            return
        node = self.nodes[event.path]
        match event:
            case ev.StepPhase():
                node.phases[event.phase] = (t, dict(event.data))
            case ev.StepCompleted():
                node.status, node.reason = StepStatus.COMPLETE, ""
                node.data.update(event.data)
            case ev.StepHeld():
                node.status, node.reason = StepStatus.HELD, event.reason
            case ev.StepFailed():
                node.status, node.reason = StepStatus.FAILED, event.reason

    def _intent(self, event: ev.IntentOpened | ev.IntentClosed, t: datetime, seq: int) -> None:
        if isinstance(event, ev.IntentOpened):
            self.intents[event.intent] = Intent(
                event.intent, event.path, event.device, event.action, dict(event.args), dict(event.evidence), t, seq=seq
            )
            return
        intent = self.intents[event.intent]
        if intent.outcome not in ("", "in_doubt"):
            # Invariant: an intent is closed once; a second closing books nothing.
            self.closed_twice.append(event.intent)
            return
        intent.outcome = event.outcome
        intent.delivered_ml, intent.counted_ml = event.delivered_ml, event.counted_ml
        if (event.delivered_ml or event.line_ml) and "from" in intent.args:
            # Invariant: closing an intent and booking it are one event, so that no crash books it twice.
            args, delivered = intent.args, event.delivered_ml or 0.0
            self.ledger.moved(str(args["from"]), str(args["to"]), delivered, str(args.get("way", "")), event.line_ml)

    def _prompt(
        self, event: ev.PromptOpened | ev.AnswerReceived | ev.PromptAnswered | ev.PromptWithdrawn, t: datetime
    ) -> None:
        if isinstance(event, ev.PromptOpened):
            due = parse_time(event.due) if event.due else None
            self.prompts[event.prompt] = Prompt(
                event.prompt, event.path, event.prompt_kind, event.text, dict(event.spec), t, due
            )
            return
        prompt = self.prompts[event.prompt]
        match event:
            case ev.AnswerReceived():
                prompt.answer, prompt.effective = dict(event.inputs), parse_time(event.effective)
                prompt.command_id = event.command_id
            case ev.PromptAnswered():
                prompt.answered = True
            case ev.PromptWithdrawn():
                prompt.withdrawn = True


def fold(records: list[Record]) -> BatchState:
    """Return the state that a record leads to."""
    state = BatchState()
    for record in records:
        state.apply(record)
    return state
