"""Questions to people: opened once, kept over a restart, answered once, and in force from a stated moment."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from devices.quantity import QuantityError, parse_as
from tilctl.engine.batch import Batch
from tilctl.engine.state import Prompt, format_time, parse_time
from tilctl.journal import events as ev
from tilctl.journal.chain import Record

MAX_TEXT = 500  # characters of one answered text


class BadAnswer(ValueError):
    """An answer that does not fit its question; the text says each input that is wrong and what was expected."""


class Prompts:
    """The open questions of one batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._answered: dict[str, asyncio.Event] = {}
        self._outside: dict[str, contextlib.ExitStack] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._taking: set[str] = set()
        self._withdrawn: set[str] = set()  # also those of which that is not on disk yet
        batch.observers.append(self._observe)

    def resume(self) -> None:
        """Take up what the record leaves open: questions without answer, and answers not yet in force."""
        for prompt in self._batch.state.prompts.values():
            if prompt.open:
                self._wait_outside(prompt.id)
            elif prompt.answer is not None and not prompt.answered and not prompt.withdrawn:
                self._schedule(prompt.id)

    async def ask(
        self, path: str, kind: str, text: str, spec: dict[str, Any], due_s: float | None, attempt: int = 1
    ) -> Prompt:
        """Open a question and return it; one attempt of a step asks once.  `due_s`: seconds from now."""
        state = self._batch.state
        for prompt in state.prompts.values():
            known = (prompt.path, prompt.kind, prompt.spec.get("attempt"))
            if known == (path, kind, attempt) and not prompt.withdrawn:
                return prompt
        number = self._batch.next_prompt()
        now = self._batch.clock.now()
        due = None if due_s is None else format_time(_after(now, due_s))
        payload: dict[str, Any] = {
            "id": number,
            "batch": self._batch.name,
            "unit": self._batch.plant.name,
            "path": path,
            "kind": kind,
            "text": text,
            "asked": format_time(now),
            "due": due,
            "attempt": attempt,
            **spec,
        }
        await self._batch.record(ev.PromptOpened(number, path, kind, text, payload, due))
        return state.prompts[number]

    async def wait(self, prompt: Prompt, until: datetime | None = None) -> bool:
        """Wait until an answer is in force; False when `until` passes first."""
        if prompt.answered:
            return True
        event = self._answered.setdefault(prompt.id, asyncio.Event())
        if until is None:
            await event.wait()
            return True
        left = (until - self._batch.clock.now()).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, left)):
                await event.wait()
        except TimeoutError:
            return prompt.answered
        return True

    async def receive(self, command_id: str, client: str, args: dict[str, Any], effective: str) -> str:
        """Take an answer: put it on the record and let it take effect in its time.

        Returns the id of the prompt; raises BadAnswer (nothing recorded) or KeyError when no such prompt is open.
        """
        number = str(args.get("prompt", ""))
        prompt = self._batch.state.prompts[number]
        if not prompt.open or number in self._taking or number in self._withdrawn:
            raise KeyError(number)
        given = args.get("inputs", {})
        if not isinstance(given, dict):
            raise BadAnswer("inputs must be an object of names and values")
        inputs = check_answer(prompt, cast("dict[str, Any]", given))
        now = self._batch.clock.now()
        moment = max(now, parse_time(effective)) if effective else now
        self._taking.add(number)  # a second answer that comes before this one is on disk finds the prompt taken
        try:
            await self._batch.record(ev.AnswerReceived(number, command_id, client, inputs, format_time(moment)))
        finally:
            self._taking.discard(number)
        if number in self._withdrawn:  # the batch was ended while it was on its way to disk: it never takes effect
            raise KeyError(number)
        return number

    def withdraw(self, reason: str, path: str | None = None, keep: Collection[str] = ()) -> None:
        """Withdraw every question that nobody need answer any more, and every answer that is not in force yet.

        `path`: those of this step alone.  `keep`: those that outlast the batch.
        """
        for prompt in list(self._batch.state.prompts.values()):
            if prompt.id in keep or (path is not None and prompt.path != path):
                continue
            if not prompt.answered and not prompt.withdrawn and prompt.id not in self._withdrawn:
                self._withdrawn.add(prompt.id)
                self._batch.note(ev.PromptWithdrawn(prompt.id, reason))
                if path is not None and overdue(prompt.id) in self._batch.state.alarms:
                    self._batch.note(ev.AlarmCleared(overdue(prompt.id)))

    def reopened(self) -> None:
        """Do once more what a failed record did not take: answers that came into force meanwhile, and withdrawals."""
        for prompt in list(self._batch.state.prompts.values()):
            if prompt.answered or prompt.withdrawn:
                continue
            if prompt.id in self._withdrawn:
                self._batch.note(ev.PromptWithdrawn(prompt.id, "found when the record was opened again"))
            elif prompt.answer is not None and prompt.id not in self._tasks:
                self._schedule(prompt.id)

    async def close(self) -> None:
        """End all waiting; the record keeps what is open."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for stack in self._outside.values():
            stack.close()
        self._tasks.clear()
        self._outside.clear()

    def _observe(self, record: Record) -> None:
        match record.event:
            case ev.PromptOpened(prompt=number):
                self._wait_outside(number)
            case ev.AnswerReceived(prompt=number):
                self._release(number)
                self._schedule(number)
            case ev.PromptAnswered(prompt=number):
                if overdue(number) in self._batch.state.alarms:
                    self._batch.note(ev.AlarmCleared(overdue(number)))
                self._answered.setdefault(number, asyncio.Event()).set()
            case ev.PromptWithdrawn(prompt=number):
                self._release(number)
                if (task := self._tasks.pop(number, None)) is not None:
                    task.cancel()
            case _:
                pass

    def _wait_outside(self, number: str) -> None:
        stack = contextlib.ExitStack()
        stack.enter_context(self._batch.clock.outside(f"prompt {number}"))
        self._outside[number] = stack

    def _release(self, number: str) -> None:
        stack = self._outside.pop(number, None)
        if stack is not None:
            stack.close()

    def _schedule(self, number: str) -> None:
        self._tasks[number] = asyncio.create_task(self._take_effect(number), name=f"answer:{number}")

    async def _take_effect(self, number: str) -> None:
        prompt = self._batch.state.prompts[number]
        if prompt.effective is None or prompt.answer is None:
            return
        left = (prompt.effective - self._batch.clock.now()).total_seconds()
        await self._batch.clock.sleep(max(0.0, left))
        if number in self._withdrawn or prompt.withdrawn:
            return  # Invariant: an answer changes nothing in a batch that has ended
        specs = cast("dict[str, dict[str, Any]]", prompt.spec.get("inputs", {}))
        units = {name: _canonical(spec) for name, spec in specs.items() if spec.get("type") == "number"}
        values = {name: prompt.answer.get(name) for name in specs}
        given = {name: unit for name, unit in units.items() if unit}
        if self._batch.state.overtaken(prompt.path):
            text = f"{prompt.text}: answered when a later round of the step had begun; it decides nothing any more"
            self._batch.note(ev.ExceptionRaised("late", text, prompt.path))
        self._batch.note(ev.ValuesSet(prompt.path, values, given))
        self._batch.note(ev.PromptAnswered(number, prompt.path, prompt.answer))
        self._tasks.pop(number, None)


def overdue(number: str) -> str:
    """Return the alarm of a question that nobody answered in time."""
    return f"overdue-{number}"


def _after(moment: datetime, seconds: float) -> datetime:
    return moment + timedelta(seconds=seconds)


def _canonical(spec: Mapping[str, Any]) -> str:
    return str(spec.get("canonical", spec.get("unit", "")))


def check_answer(prompt: Prompt, given: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs in canonical units; raises BadAnswer naming each input that is wrong."""
    return check_inputs(cast("dict[str, dict[str, Any]]", prompt.spec.get("inputs", {})), given)


def check_inputs(specs: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs in canonical units; raises BadAnswer naming each input that is wrong."""
    wrong = [f"unknown input {name!r} (asked: {', '.join(specs) or 'nothing'})" for name in given if name not in specs]
    inputs: dict[str, Any] = {}
    for name, spec in specs.items():
        value = given.get(name)
        if value is None or value == "":
            if not spec.get("optional"):
                wrong.append(f"{name} is missing ({_wanted(spec)})")
            continue
        try:
            inputs[name] = _one(value, spec)
        except (ValueError, TypeError) as error:
            wrong.append(f"{name}: {error} ({_wanted(spec)})")
    if wrong:
        raise BadAnswer("; ".join(wrong))
    return inputs


def _one(value: Any, spec: Mapping[str, Any]) -> Any:
    kind = spec.get("type")
    if kind == "choice":
        if value not in spec["choices"]:
            raise ValueError(f"{value!r} is none of the choices")
        return value
    if kind == "number":
        return _number(value, spec)
    text = str(value)
    if not isinstance(value, str) or len(text) > MAX_TEXT or not text.isprintable():
        raise ValueError(f"a printable text of at most {MAX_TEXT} characters is expected")
    return text


def _number(value: Any, spec: Mapping[str, Any]) -> float:
    canonical, shown = _canonical(spec), str(spec.get("unit", ""))
    if isinstance(value, bool):
        raise TypeError("a number is expected")
    text = str(value).strip()
    with contextlib.suppress(ValueError):  # a bare number is in the unit that the question shows
        float(text)
        text = f"{text} {shown}".strip()
    try:
        number = parse_as(text, canonical)
    except QuantityError as error:
        raise ValueError(str(error)) from error
    if not math.isfinite(number):
        raise ValueError("a finite number is expected")
    low, high = spec.get("min"), spec.get("max")
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(f"{text} is out of range")
    return number


def _wanted(spec: Mapping[str, Any]) -> str:
    if spec.get("type") == "choice":
        return f"one of {', '.join(spec['choices'])}"
    if spec.get("type") == "number":
        return f"expected {spec.get('min')} to {spec.get('max')} {_canonical(spec)}".rstrip()
    return "expected a text"
