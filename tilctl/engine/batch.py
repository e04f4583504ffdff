"""One batch at run time: its record, the state folded from it, and the recipe that is frozen in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from devices.clock import Clock
from devices.quantity import parse_as
from devices.reading import Reading
from recipes.model import Recipe
from tilctl.engine.beside import Beside
from tilctl.engine.estimating import Estimating
from tilctl.engine.exclusion import Exclusion
from tilctl.engine.pacing import Pacing
from tilctl.engine.state import BatchState
from tilctl.journal.chain import Record
from tilctl.journal.events import Event, EventError, IntentClosed, ModeChanged, Outage, Recovered, StepReleased
from tilctl.journal.store import Journal, JournalError
from tilctl.plant.image import ProcessImage
from tilctl.plant.unit import UnitPlant

RECENT = 2


class Batch:
    """What a walk works on.  Everything that changes it is an event on its record first."""

    def __init__(
        self,
        name: str,
        journal: Journal,
        recipe: Recipe,
        plant: UnitPlant,
        clock: Clock,
        equipment: Mapping[str, str],
        shared: tuple[str, ...],
    ) -> None:
        self.name = name
        self.journal = journal
        self.recipe = recipe
        self.plant = plant
        self.clock = clock
        self.equipment = equipment  # the recipe's name of a piece of equipment -> the device that stands for it
        self.shared = shared  # those devices that are taken by `using`, not owned from the start
        self.found = journal.head[0]  # the last event that was on disk before this life of the controller
        self.state = BatchState()
        self.away: tuple[datetime, str] = (
            clock.now(),
            "",
        )  # since when nobody has been in control, and why that is no fact ("" where it is)
        self.recent: deque[Record] = deque(maxlen=RECENT)  # the last outage and recovery, oldest first
        self.foreseen: tuple[str, ...] = ()  # what the rest of the recipe takes of each container, in words
        self.observers: list[Callable[[Record], None]] = []
        self.record_failed = ""
        self.unwritten = 0  # events that could not be put into words
        self.observer_faults = 0
        self.beside = Beside(name, journal.path, plant.name, clock)
        self.reopening = asyncio.Lock()
        self.exclusion = Exclusion(self._open_doses)
        self.pacing = Pacing(self.state, clock)
        self._numbered = {"intent": 0, "prompt": 0}  # the last number that was given in this life
        self._last: asyncio.Future[Record] | None = None  # of the newest event that was put on the record
        self._log = structlog.get_logger("batch").bind(batch=name)
        self.estimating = Estimating(self)
        for record in journal.records():
            self.state.apply(record)
            self.estimating.apply(record)
        journal.on_commit.append(self._committed)

    @property
    def image(self) -> ProcessImage:
        """The process image."""
        return self.plant.image

    def parameter(self, name: str, path: str = "") -> str | None:
        """Return the text of a parameter as the step at a path reads it, "" as it is now; None where there is none.

        What it was adjusted to, else what the start command gave, else the recipe's default.
        """
        declared = self.recipe.parameters.get(name)
        if declared is None:
            return None
        given = self.state.created.parameters if self.state.created else {}
        return self.state.adjusted_for(name, path) or given.get(name, declared.default)

    def limit_ml(self, container: str) -> float:
        """Return the most that a container may hold, in mL."""
        return parse_as(self.recipe.containers[container.partition("[")[0]].limit, "mL")

    def density(self, container: str) -> float:
        """Return the declared density of a container's content, in g/mL."""
        return parse_as(self.recipe.containers[container.partition("[")[0]].density, "g/mL")

    def tag(self, name: str) -> Reading | None:
        """Return the reading of a tag of the recipe's equipment (`station.temperature`), or None when it is unknown."""
        equipment, _, tag = name.partition(".")
        device = self.equipment.get(equipment)
        return None if device is None else self.image.get(f"{device}.{tag}")

    def next_intent(self) -> int:
        """Return the number of a new intent.  Invariant: two branches never have one, nor is one given twice."""
        return self._next("intent", max(self.state.intents, default=0))

    def next_prompt(self) -> str:
        """Return the id of a new prompt, which no other has."""
        known = max((int(prompt.removeprefix("p")) for prompt in self.state.prompts), default=0)
        return f"p{self._next('prompt', known)}"

    def _next(self, what: str, known: int) -> int:
        self._numbered[what] = max(self._numbered[what], known) + 1
        return self._numbered[what]

    def _open_doses(self) -> dict[str, str]:
        """Return what doses that are not closed are about: containers, pump and valves, each with the step's path."""
        found: dict[str, str] = {}
        valves = {line.id: line.valves for line in self.plant.site.lines}
        for intent in self.state.open_intents():
            if intent.action == "dispense":
                args = intent.args
                about = (intent.device, args.get("from"), args.get("to"), valves.get(str(args.get("way"))))
                found |= {str(name): intent.path for name in about if name}
        return found

    async def record(self, event: Event) -> Record:
        """Put an event on the record; returns when it is on disk and in the state.  Raises JournalError."""
        self._last = self.journal.append(event)
        return await asyncio.shield(self._last)

    async def caught_up(self) -> None:
        """Wait until everything that was put on the record so far is on disk and in the state.  Raises JournalError."""
        if self._last is not None:
            await asyncio.shield(self._last)

    async def at_rest(self) -> None:
        """Wait until the state says all that was put on the record, also meanwhile.  Raises JournalError."""
        while (last := self._last) is not None:
            await asyncio.shield(last)
            if last is self._last:
                return

    def note(self, event: Event) -> asyncio.Future[Record] | None:
        """Put an event on the record without waiting and without ever raising (protective paths)."""
        try:
            future = self.journal.append(event)
        except JournalError as error:
            self._lost(event, error)
            return None
        except EventError as error:  # the record is well, only this event cannot be put into words
            self.unwritten += 1
            self._log.error("event_not_written", kind=event.kind, error=str(error))
            return None
        self._last = future
        future.add_done_callback(lambda done: self._noted(event, done))
        return future

    def _noted(self, event: Event, done: asyncio.Future[Record]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._lost(event, error)

    def _lost(self, event: Event, error: BaseException) -> None:
        self.record_failed = str(error)
        self.beside.lost(event)
        self._log.error("event_not_on_record", kind=event.kind, error=str(error))

    def _committed(self, record: Record) -> None:
        self.state.apply(record)
        self.estimating.apply(record)
        if isinstance(record.event, (Outage, Recovered)):
            self.recent.append(record)
        if isinstance(record.event, IntentClosed):
            self.exclusion.look()
        if isinstance(record.event, (ModeChanged, StepReleased)):
            self.pacing.look()
        for observer in self.observers:
            try:
                observer(record)
            except Exception:  # noqa: BLE001 - Invariant: who looks on and breaks keeps nobody else from seeing it
                self.observer_faults += 1
                self._log.exception("observer_failed", kind=record.event.kind, seq=record.seq)
