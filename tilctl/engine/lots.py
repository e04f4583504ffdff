"""Lots whose batch is put away while results are awaited: kept, asked for and decided on the site's record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recipes.expr import ExprError, Operand
from recipes.release import PENDING, Condition
from recipes.releasing import outstanding, verdict
from tilctl.engine.port import Command, Outcome
from tilctl.engine.prompts import BadAnswer, check_inputs
from tilctl.engine.releases import ALARM, signature
from tilctl.guard.desk import Desk
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.store import Journal

SIGN = "sign"
"""The question that a lot which is re-opened asks: that its rejection is signed."""


MARKS_KEPT = 1000  # rows of files of results that are known by their marks, of one batch
BATCHES_KEPT = 50  # closed batches whose marks are known


@dataclass
class _Lot:
    awaited: ev.LotAwaited
    outcome: str
    verdicts: dict[str, str]
    pending: list[str]
    values: dict[str, list[Any]]
    prompts: dict[str, dict[str, Any]]

    def lookup(self, name: str) -> Operand | None:
        value, unit = self.values.get(name, (None, ""))
        return Operand(name, value, unit)


class Lots:
    """Folded from the site's record; lots that are decided are gone."""

    def __init__(self) -> None:
        self._lots: dict[tuple[str, str], _Lot] = {}
        self._units: dict[str, str] = {}  # closed batch -> its unit
        self._asked: dict[str, tuple[str, list[str]]] = {}  # command -> closed batch and marks, not answered yet
        self._marks: dict[str, list[str]] = {}  # closed batch -> marks of the rows that were taken

    def take(self, record: Record) -> None:
        """Take in what the site's record says of a lot."""
        match record.event:
            case ev.LotAwaited() as event:
                prompts = {str(spec["id"]): dict(spec) for spec in event.prompts}
                values = {name: list(given) for name, given in event.values.items()}
                lot = _Lot(event, "conditional", dict(event.verdicts), list(event.pending), values, prompts)
                self._lots[event.batch, event.path] = lot
                self._units[event.batch] = event.unit
            case ev.CommandReceived() as event if event.args.get("batch") and (marks := marks_of(event)):
                self._asked[event.command_id] = (str(event.args["batch"]), marks)
            case ev.CommandAnswered() as event if event.command_id in self._asked:
                batch, marks = self._asked.pop(event.command_id)
                if event.status == "done":
                    self._marks[batch] = [*self._marks.pop(batch, []), *marks][-MARKS_KEPT:]
                while len(self._marks) > BATCHES_KEPT:
                    del self._marks[next(iter(self._marks))]
            case ev.LotAnswered() as event if (lot := self._lots.get((event.batch, event.path))) is not None:
                lot.outcome, lot.verdicts, lot.pending = event.outcome, dict(event.verdicts), list(event.pending)
                _answered(lot, event)
                if lot.outcome in ("released", "rejected"):
                    del self._lots[event.batch, event.path]
            case _:
                pass

    def imported(self, unit: str) -> dict[str, list[str]]:
        """Return the marks of the rows of results that were taken for closed batches of a unit."""
        return {batch: list(marks) for batch, marks in self._marks.items() if self._units.get(batch) == unit}

    def rows(self, unit: str) -> list[dict[str, Any]]:
        """Return the lots of a unit that await something: batch, path, outcome, pending, verdicts, prompts."""
        return [
            {
                "batch": batch, "path": path, "outcome": lot.outcome, "pending": list(lot.pending),
                "verdicts": dict(lot.verdicts), "prompts": list(lot.prompts.values()),
            }
            for (batch, path), lot in self._lots.items()
            if lot.awaited.unit == unit
        ]  # fmt: skip

    async def carry_out(
        self, command: Command, accepted: Callable[[int, str], None], journal: Journal, desk: Desk
    ) -> Outcome:
        """Take an answer to a question of a lot; raises JournalError.  Results and how the lot stands are one event."""
        received = ev.CommandReceived(
            command.id, command.client, command.verb, dict(command.args), command.content_sha256, command.actor
        )
        record = await journal.record(received)
        accepted(record.seq, record.hash)
        outcome = await self._answer(command, journal, desk)
        await journal.record(ev.CommandAnswered(command.id, outcome.status, outcome.code, outcome.text))
        return outcome

    async def _answer(self, command: Command, journal: Journal, desk: Desk) -> Outcome:
        batch, number = str(command.args.get("batch")), str(command.args.get("prompt"))
        lot = next((lot for (name, _), lot in self._lots.items() if name == batch and number in lot.prompts), None)
        if lot is None or lot.awaited.unit != command.unit:
            asked = sorted({each for (name, _), lot in self._lots.items() if name == batch for each in lot.prompts})
            return Outcome("refused", "no_prompt", f"no open prompt {number!r} of {batch} (open: {', '.join(asked)})")
        spec = lot.prompts[number]
        try:
            inputs = check_inputs(spec["inputs"], dict(command.args.get("inputs", {})))
        except BadAnswer as error:
            return Outcome("refused", "bad_answer", str(error))
        event = _judged(lot, number, command, inputs)
        if event.outcome == "reopened" and number != SIGN:  # Actuate first, report second.
            text = f"{event.path} of {batch}, released conditionally, is re-opened: see to where the lot is"
            desk.raise_(alarm_of(batch), "critical", text, event.path, {})
        await journal.record(event)
        if event.outcome == "rejected":
            desk.clear(alarm_of(batch))
        return Outcome("done", "", f"prompt {number} of {batch} is answered: the lot is {event.outcome}")


def marks_of(command: ev.CommandReceived) -> list[str]:
    """Return the marks of the rows of a file of results that an answer was made of."""
    reported: Mapping[str, Mapping[str, Any]] = command.args.get("reported") or {}
    return [str(each["row"]) for each in reported.values() if each.get("row")]


def alarm_of(batch: str) -> str:
    """Return the alarm of a closed batch whose release is re-opened."""
    return f"{ALARM}-{batch}"


def _judged(lot: _Lot, number: str, command: Command, inputs: Mapping[str, Any]) -> ev.LotAnswered:
    """Return what an answer makes of a lot."""
    about, by = lot.awaited, command.actor or command.client
    if number == SIGN:
        return ev.LotAnswered(
            about.batch, about.path, number, command.id, by, dict(inputs), "rejected", dict(lot.verdicts), []
        )
    later = _Lot(about, lot.outcome, dict(lot.verdicts), [], dict(lot.values), {})
    later.values |= _values(lot.prompts[number], inputs)
    conditions = {name: Condition.model_validate(given) for name, given in about.conditions.items()}
    for name, condition in conditions.items():
        if later.verdicts.get(name) == "pending":
            try:
                found = verdict(condition, later)
            except ExprError:
                found = "unknown"
            later.verdicts[name] = "pending" if found == "unknown" else found
    pending = outstanding(conditions, later.verdicts, later)
    if lot.outcome == "reopened" or "not met" in later.verdicts.values():
        outcome = "reopened"
    else:
        outcome = "conditional" if "pending" in later.verdicts.values() else "released"
    return ev.LotAnswered(
        about.batch, about.path, number, command.id, by, dict(inputs), outcome, later.verdicts, pending
    )


def _values(spec: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, list[Any]]:
    step = str(spec.get("path")).rpartition("/")[2]
    units = {name: str(each.get("canonical") or "") for name, each in spec["inputs"].items()}
    return {f"{step}.{name}": [value, units.get(name, "")] for name, value in inputs.items()}


def _answered(lot: _Lot, event: ev.LotAnswered) -> None:
    """Take in an answer: what was answered `pending` stays asked for; a lot that is re-opened asks for a signature."""
    spec = lot.prompts.pop(event.prompt, None)
    if spec is not None and event.prompt != SIGN:
        lot.values |= _values(spec, event.inputs)
        left = {name: each for name, each in spec["inputs"].items() if event.inputs.get(name) in (None, PENDING)}
        if left:
            lot.prompts[event.prompt] = {**spec, "inputs": left, "results": list(left)}
    if lot.outcome == "reopened" and SIGN not in lot.prompts:
        about = lot.awaited
        text = f"The release of {about.path} is re-opened. Sign that the lot of {about.batch} is rejected"
        of_it = {"id": SIGN, "batch": about.batch, "unit": about.unit, "path": about.path, "kind": "release"}
        lot.prompts[SIGN] = of_it | {"text": text, "due": None} | signature(about.sign)
