"""The person beside the suite: answers prompts, looks after a held batch, and clears away at the end.

Answers come from the seeded policy (`simulators.operator`), bad habits among them.  A held batch is restarted after a
while, as often as its reason is not always the same; then it is stopped or aborted, which is a legal end.  A record
that failed is opened again in place where the harness has the disk mended so.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from simulators.habits import Habits
from simulators.operator import Operator
from simulators.physics.noise import stream, uniform
from tilctl.cli.rehearsing.station import Acknowledged, Station
from tilctl.commands.envelope import rfc3339
from tilctl.engine.controller import Controller
from tilctl.engine.machine import FINAL, State

LOOKS = (120.0, 2400.0)  # s until somebody comes to a batch that is held or paused (engineering default)
HEARS = (60.0, 900.0)  # s until somebody acknowledges an alarm
CLEARS = (300.0, 1800.0)  # s until a batch that is over is cleared away
SAME_REASON = 4  # restarts for one and the same reason
MOST_RESTARTS = 60
TRIES = 200  # of one answer
TRY_AGAIN_S = 60.0
PASSING = ("safe_mode", "not_ready", "busy", "journal_failed", "disk_low", "no_record")  # refusals that may go away
MENDS = 10  # restarts or resets until a person gives up on a record that stays failed


@dataclass
class Person:
    """One operator at one station.  `spawn` begins work that outlives a controller."""

    seed: int
    station: Station
    bench: Callable[[str, dict[str, Any]], Any]
    spawn: Callable[[Coroutine[Any, Any, None], str], None]
    controller: Callable[[], Controller | None]
    haste: float = 1.0
    touches: int = 0
    start_refused: str = ""
    cleared: Callable[[], None] = lambda: None
    started: bool = False
    _policy: Operator = field(init=False)
    _typed: dict[str, set[float]] = field(default_factory=dict[str, set[float]])  # container -> mL, ever
    _seen: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _looking: bool = False
    _hearing: bool = False
    _heard: int = 0
    _over: bool = False
    _restarts: Counter[str] = field(default_factory=Counter[str])
    _numbers: int = 0

    def __post_init__(self) -> None:
        """Take up the policy."""
        self._policy = Operator(self.seed, self.bench, self.haste)

    @property
    def habits(self) -> Habits:
        """How often this person does what."""
        return self._policy.habits

    @habits.setter
    def habits(self, habits: Habits) -> None:
        self._policy.habits = habits

    # --- what is seen ---------------------------------------------------------------------------------------------

    def look(self) -> None:
        """See open prompts and the state of the batch; what is new is taken in hand."""
        controller = self.controller()
        if controller is None:
            return
        for spec in controller.prompts(self.station.unit):
            key = (str(spec["batch"]), str(spec["id"]))
            if key not in self._seen:
                self._seen.add(key)
                self.spawn(self._answer(spec), f"person answers {spec['id']}")
        rings = any(alarm.waiting for desk in controller.desks(self.station.unit) for alarm in desk.book)
        if rings and not self._hearing:
            self._hearing = True
            self.spawn(self._acknowledge(), "person hears an alarm")
        runner = controller.runner(self.station.unit)
        waits = runner is not None and runner.state in (State.HELD, State.PAUSED, *FINAL)
        if (waits or controller.safe_reason) and self.started and not self._looking:
            self._looking = True
            self.spawn(self._see_to(), "person sees to the batch")

    async def start(self, recipe: str, parameters: Mapping[str, str]) -> None:
        """Start the batch."""
        refused = ""
        for _ in range(TRIES):
            said = await self._command("start", {"recipe": recipe, "parameters": dict(parameters)})
            controller = self.controller()
            runner = None if controller is None else controller.runner(self.station.unit)
            self.started = runner is not None or said.status == "done"
            if self.started:
                return
            refused = f"start was {said.status or 'not answered'}: {f'{said.code} {said.text}'.strip()}"
            if said.status == "refused" and said.code not in PASSING:
                break
            await self._command("leave-safe-mode")
            await asyncio.sleep(TRY_AGAIN_S)
        self.start_refused = refused

    async def give(self, verb: str) -> None:
        """Give a command that nobody asked for: a hold, stop, abort or pause at a bad moment."""
        await self._command(verb, {}, {"reason": {"code": "person", "text": f"{verb}, out of turn"}})

    async def _acknowledge(self) -> None:
        """Say that the alarms are known, after a while: all that wait, as one who has looked at the list does."""
        try:
            self._heard += 1
            await asyncio.sleep(round(uniform(stream(self.seed, "alarms"), self._heard, *HEARS), 3))
            self.touches += 1
            await self.station.request(f"ack-{self._heard}", "ack", {"alarm": "*"}, None)
        finally:
            self._hearing = False

    # --- prompts --------------------------------------------------------------------------------------------------

    async def _answer(self, spec: dict[str, Any]) -> None:
        answer = self._policy.answer(spec)
        number = f"a-{spec['batch']}-{spec['id']}"
        self.touches += 1
        first = self._until_answered(number, *self._given(spec, answer.inputs, answer.delay_s))
        for index, more in enumerate(answer.again):
            other = number if more.same_id else f"{number}-x{index}"
            # the same command once more is the same to the letter, moment included
            delay = answer.delay_s if more.same_id else answer.delay_s + more.after_s
            self.spawn(self._repeat(other, *self._given(spec, more.inputs, delay)), "person answers again")
        await first

    def _given(
        self, spec: Mapping[str, Any], inputs: Mapping[str, Any], delay_s: float
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return arguments and data of an answer that takes effect so long after the question."""
        for name, value in inputs.items():
            if name.startswith("volume.") and str(value).endswith(" mL"):
                self._typed.setdefault(name.removeprefix("volume."), set()).add(float(str(value).split()[0]))
        moment = datetime.fromisoformat(str(spec["asked"])) + timedelta(seconds=delay_s)
        return {"prompt": spec["id"], "inputs": dict(inputs)}, {"batch": spec["batch"], "effective": rfc3339(moment)}

    def typed_for(self, container: str) -> set[float]:
        """Return the volumes (mL) that this person ever typed for a container, rightly or not."""
        return self._typed.get(container, set())

    async def _until_answered(self, number: str, args: dict[str, Any], data: dict[str, Any]) -> None:
        """Answer, and where that came to nothing while the question is still open, answer anew."""
        for attempt in range(TRIES):
            name = number if not attempt else f"{number}-{attempt}"
            said = await self.station.request(name, "prompt-answer", args, data)
            if said.status in ("done", "already"):
                return
            await asyncio.sleep(TRY_AGAIN_S)
            controller = self.controller()
            if (
                controller is not None
                and self.station.connected is not None
                and not self._is_open(controller, data, args)
            ):
                return

    def _is_open(self, controller: Controller, data: Mapping[str, Any], args: Mapping[str, Any]) -> bool:
        runner = controller.runner(self.station.unit)
        if runner is None or runner.batch.name != data["batch"]:
            return False
        return any(spec["id"] == args["prompt"] for spec in controller.prompts(self.station.unit))

    async def _repeat(self, number: str, args: dict[str, Any], data: dict[str, Any]) -> None:
        self.touches += 1
        await self.station.request(number, "prompt-answer", args, data)

    # --- a record that failed -------------------------------------------------------------------------------------

    def sees_failed(self) -> bool:
        """Tell whether the controller says that a record of the unit has failed."""
        controller = self.controller()
        if controller is None:
            return False
        runner = controller.runner(self.station.unit)
        return controller.journal.failed or (runner is not None and runner.batch.journal.failed)

    async def mend(self) -> bool:
        """Have a failed record opened again in place, as one who read the alarm; True once it is."""
        for _ in range(MENDS):
            controller = self.controller()
            if controller is None or self.station.connected is None:
                return False
            runner = controller.runner(self.station.unit)
            over = runner is not None and runner.state in FINAL
            await self._command("reset" if over else "restart")
            if not self.sees_failed():
                return self.controller() is controller
            await asyncio.sleep(TRY_AGAIN_S)
        return False

    # --- a batch that waits ---------------------------------------------------------------------------------------

    async def _see_to(self) -> None:
        """Come after a while, look why the batch stands, and do what a person would."""
        try:
            while True:
                await asyncio.sleep(self._draw(*(CLEARS if self._over else LOOKS)))
                controller = self.controller()
                if controller is None or self.station.connected is None:
                    continue
                runner = controller.runner(self.station.unit)
                state = State.IDLE if runner is None else runner.state
                self._over = state in FINAL
                if controller.safe_reason:
                    await self._command("leave-safe-mode")
                    continue
                match state:
                    case State.HELD:
                        await self._command(self._decide(controller))
                    case State.PAUSED:
                        await self._command("resume")
                    case State.STOPPED | State.ABORTED | State.COMPLETE:
                        await self._command("reset")
                    case State.IDLE if self.started:
                        self.cleared()
                        return
                    case _:
                        return
        finally:
            self._looking = False

    def _decide(self, controller: Controller) -> str:
        """Return `restart`, or `stop` or `abort` where that has helped too seldom."""
        reason = _reason(controller, self.station.unit)
        self._restarts[reason] += 1
        if self._restarts[reason] <= SAME_REASON and self._restarts.total() <= MOST_RESTARTS:
            return "restart"
        return "stop" if self._draw(0.0, 1.0) < 0.5 else "abort"

    # --- how ------------------------------------------------------------------------------------------------------

    async def _command(
        self, verb: str, args: Mapping[str, Any] | None = None, data: Mapping[str, Any] | None = None
    ) -> Acknowledged:
        self._numbers += 1
        self.touches += 1
        return await self.station.request(f"{verb}-{self._numbers}", verb, args, data)

    def _draw(self, low: float, high: float) -> float:
        self._numbers += 1
        return round(uniform(stream(self.seed, "person"), self._numbers, low, high), 3)


def _reason(controller: Controller, unit: str) -> str:
    """Return why a batch is held, without the numbers that differ from time to time."""
    runner = controller.runner(unit)
    if runner is None:
        return ""
    nodes = [n for n in runner.batch.state.nodes.values() if n.status not in ("complete", "acting")]
    text = "; ".join(f"{node.path}: {node.reason}" for node in nodes) or runner.batch.state.reason
    return re.sub(r"[-+]?\d+(\.\d+)?", "#", text)
