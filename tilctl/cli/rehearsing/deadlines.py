"""The oracle for what must not go on though its time has passed: missed moments, and answers that never came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from devices.quantity import parse_as
from recipes.steps import Ask, Incubate, Sample, Wait
from tilctl.cli.rehearsing.times import TimeOracle
from tilctl.cli.rehearsing.violations import Book
from tilctl.cli.rehearsing.written import Written
from tilctl.engine.machine import State
from tilctl.engine.state import BatchState
from tilctl.journal import events as ev

SLACK_S = 15.0  # s that commits and a look may cost


@dataclass
class DeadlineOracle:
    """Judges deadlines of the recipe on the plant's clock.

    `now` is seconds of the world, `off` how wrong (s) the record's time may be; `in_control` says whether a controller
    has the batch, and its record works.
    """

    book: Book
    written: Written
    times: TimeOracle
    now: Callable[[], float]
    off: Callable[[], float]
    in_control: Callable[[], bool]
    _began: dict[str, float] = field(default_factory=dict[str, float])
    _missed: dict[str, float] = field(default_factory=dict[str, float])  # path -> when that was put on record
    _held: float = -1.0  # when the batch was held last
    _running: float | None = None  # since when it runs, uninterrupted
    _due: dict[str, tuple[str, float]] = field(default_factory=dict[str, tuple[str, float]])  # prompt -> path, when

    def recorded(self, state: BatchState, event: ev.Event) -> None:
        """Judge an event."""
        match event:
            case ev.StepStarted():
                self._began.setdefault(event.path, self.now())
            case ev.StepPhase(phase="missed"):
                self._missed[event.path] = self.now()
            case ev.StateChanged(path=""):
                self._running = self.now() if event.to_state == State.RUNNING else None
                if event.to_state == State.HOLDING:
                    self._held = self.now()
            case ev.StepCompleted():
                self._completed(state, event)
            case ev.PromptOpened():
                self._asked(state, event)
            case ev.PromptAnswered() | ev.PromptWithdrawn():
                self._due.pop(event.prompt, None)
            case _:
                pass

    def look(self, state: BatchState) -> None:
        """Judge at a scan what has not been answered."""
        if not self.in_control():
            self._running = None
        elif self._running is None and state.state is State.RUNNING:
            self._running = self.now()
        late = SLACK_S + self.off()
        for prompt, (path, due) in list(self._due.items()):
            if self._running is not None and self._running < due - late and self.now() > due + late:
                del self._due[prompt]
                over = f"{path}: no answer {self.now() - due:.0f} s after it was due"
                self.book.note("overdue_holds", f"{over}, and the batch goes on (on_overdue: hold)")

    def _asked(self, state: BatchState, event: ev.PromptOpened) -> None:
        step = self.written.step(state, event.path)
        if event.prompt_kind == "result" or not isinstance(step, (Ask, Sample)) or step.due is None:
            return
        if step.on_overdue == "hold":
            self._due[event.prompt] = event.path, self.now() + parse_as(step.due, "s")

    def _completed(self, state: BatchState, event: ev.StepCompleted) -> None:
        step = self.written.step(state, event.path)
        if not isinstance(step, (Wait, Incubate)) or step.grace is None or event.data.get("skipped"):
            return
        due = self._due_of(state, event.path, step)
        if due is None:
            return
        late = self.now() - due
        if late <= parse_as(step.grace, "s") + SLACK_S + self.off():
            return
        said = f"{event.path} ended {late:.0f} s late, {step.grace} are allowed"
        if event.path not in self._missed:
            self.book.note("missed_is_told", f"{said}, and nothing was said of it")
        elif step.on_missed == "abort":
            self.book.note("missed_is_told", f"{said}, and it was completed (on_missed: abort)")
        elif step.on_missed == "hold" and self._held < self._missed[event.path]:
            self.book.note("missed_is_told", f"{said}, and the batch was not held (on_missed: hold)")

    def _due_of(self, state: BatchState, path: str, step: Wait | Incubate) -> float | None:
        """Return when (s of the world) a step was to end, None where that is not understood."""
        if isinstance(step, Wait) and step.for_ is not None:
            try:
                return self._began[path] + parse_as(step.for_, "s")
            except (KeyError, ValueError):
                return None
        return self.times.due(state, path)
