"""The oracle for absences: after an outage a batch goes on by itself only where its recipe allows it.

How long nobody was in control is known here from the kills themselves, not from what the controller noted of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from devices.quantity import parse_as
from simulators.faults.model import Fault
from tilctl.cli.rehearsing.violations import Book
from tilctl.cli.rehearsing.written import Written
from tilctl.engine.machine import State
from tilctl.engine.state import BatchState, Node, StepStatus
from tilctl.journal import events as ev

WENT_ON = (State.RUNNING, State.PAUSING, State.RESTARTING)
BY_ITSELF = ("resume", "redo", "reattach")  # what `on_restart` may say for a step to go on without a person
ENDING = ("stopping", "aborting", "stopped", "aborted", "complete")
SHORT_S = 5.0  # s by which an outage may be told too short: commits, and the moment of the kill itself


@dataclass
class AbsenceOracle:
    """Judges what follows from an outage.  `now` is seconds of the world, `off` how wrong (s) its clock may be."""

    book: Book
    written: Written
    now: Callable[[], float]
    off: Callable[[], float]
    in_control: bool = False
    _alive: bool = False
    _died: float = 0.0
    _since: float | None = None  # s of the world since when nobody has been in control of the batch
    _exchanged: list[str] = field(default_factory=list[str])  # instruments, while nobody was in control
    _barred: str = ""  # why it may not go on without a person
    _asked: bool = False  # a person has asked for it since

    # --- lives ----------------------------------------------------------------------------------------------------

    def boots(self) -> None:
        """A controller starts; it is in control once it has made or recovered the batch."""
        self._alive = True

    def dies(self) -> None:
        """A controller is killed."""
        self._died = self.now()
        if self.in_control:
            self._since = self._died
        self.in_control = self._alive = False

    def befalls(self, fault: Fault, devices: Sequence[str]) -> None:
        """Take note of a fault: an instrument that is exchanged while nobody is there is for a person to accept."""
        if fault.what == "replaced" and not self.in_control:
            self._exchanged += devices

    # --- what it does ---------------------------------------------------------------------------------------------

    def recorded(self, state: BatchState, event: ev.Event) -> None:
        """Judge an event."""
        match event:
            case ev.BatchCreated() | ev.Recovered():
                # what was committed in the moment of a death was still in control then
                self.in_control, self._since = self._alive, None if self._alive else self._died
            case ev.Outage():
                self._returns(state, event)
            case ev.CommandReceived(verb="restart"):
                self._asked = True
            case ev.StateChanged(path=""):
                if event.to_state in ENDING or (event.to_state == State.RESTARTING and self._asked):
                    self._barred, self._exchanged = "", []
            case ev.StepStarted() | ev.StepCompleted() | ev.IntentOpened() if self._barred:
                self._goes_on(f"{event.kind} of {event.path}")
            case _:
                pass

    def look(self, state: BatchState) -> None:
        """Judge at a scan."""
        if self._barred and self.in_control and state.state in WENT_ON:
            self._goes_on(f"the batch is {state.state.value}")

    def _goes_on(self, what: str) -> None:
        self.book.note("waits_for_a_person", f"{what}, and {self._barred}; nobody restarted it")
        self._barred = ""

    def _returns(self, state: BatchState, event: ev.Outage) -> None:
        if self.in_control or self._since is None:
            return
        away, off = self.now() - self._since, self.off()
        if not event.uncertain and event.seconds < away - SHORT_S - off:
            self.book.note("outage_is_told", f"an outage of {away:.0f} s is on record as {event.seconds:.0f} s")
        exchanged, self._exchanged = self._exchanged, []
        if state.state not in WENT_ON:
            return
        against = [text for node in state.nodes.values() if (text := self._against(state, node, away - SHORT_S - off))]
        against += [f"{device} was exchanged" for device in exchanged if device in state.serials]
        if against:
            self._barred, self._asked = against[0], False

    def _against(self, state: BatchState, node: Node, away: float) -> str:
        step = self.written.step(state, node.path)
        if step is None or node.status is StepStatus.COMPLETE:
            return ""
        if node.status is not StepStatus.ACTING:
            return f"{node.path} is {node.status.value}"
        if step.on_restart not in BY_ITSELF:
            return f"{node.path} is for a person to restart (on_restart: {step.on_restart})"
        if step.max_outage is not None and away > parse_as(step.max_outage, "s"):
            return f"{node.path} allows an outage of {step.max_outage}, it was {away:.0f} s"
        return ""
