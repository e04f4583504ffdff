"""Commands that were on record and not answered when the controller went down: each gets its answer at the next start.

Nothing is carried out late by itself: what had not begun is answered as failed, and a person gives it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tilctl.engine.batch import Batch
from tilctl.journal import events as ev
from tilctl.journal.chain import Record

CODE = "interrupted"
_TEXT = "the controller went down before it was carried out: look at the unit, then give it again"


def answer(batch: Batch) -> None:
    """Answer what a batch's record leaves unanswered, as its state proves it, without waiting."""
    for seq, command in _unanswered(batch.journal.records()):
        if command.command_id in batch.state.answers:
            continue  # its station repeated it meanwhile
        if _carried_out(batch, seq, command):
            text = "it had its effect, where it was legal; the controller went down before it was answered"
            batch.note(ev.CommandAnswered(command.command_id, "done", "", text))
            continue
        batch.note(ev.CommandAnswered(command.command_id, "failed", CODE, _TEXT))
        batch.note(ev.ExceptionRaised(CODE, f"{command.verb} by {command.client}: {_TEXT}", ""))


def answers_for_site(
    records: Iterable[Record], batches: Mapping[str, str], *, safe_mode: bool
) -> list[ev.CommandAnswered]:
    """Return the answers that the site's record leaves open; `batches`: start command -> batch that it made."""
    answers: list[ev.CommandAnswered] = []
    records = list(records)
    lots = {record.event.command_id for record in records if isinstance(record.event, ev.LotAnswered)}
    for _, command in _unanswered(records):
        if command.verb == "start" and command.command_id in batches:
            text = f"{batches[command.command_id]} was started"
            answers.append(ev.CommandAnswered(command.command_id, "done", "", text))
        elif command.verb == "leave-safe-mode" and not safe_mode:
            answers.append(ev.CommandAnswered(command.command_id, "done", "", "safe mode is left"))
        elif command.command_id in lots:
            answers.append(ev.CommandAnswered(command.command_id, "done", "", "the answer is on record"))
        else:
            answers.append(ev.CommandAnswered(command.command_id, "failed", CODE, _TEXT))
    return answers


def _unanswered(records: Iterable[Record]) -> list[tuple[int, ev.CommandReceived]]:
    found: dict[str, tuple[int, ev.CommandReceived]] = {}
    for record in records:
        match record.event:
            case ev.CommandReceived() as event:
                found[event.command_id] = (record.seq, event)
            case ev.CommandAnswered() as event:
                found.pop(event.command_id, None)
            case _:
                pass
    return list(found.values())


def _carried_out(batch: Batch, seq: int, command: ev.CommandReceived) -> bool:
    """Whether the record shows what a command led to.

    Hold, stop and abort act before they are on record: one that is there was judged, and had its effect if it could.
    """
    if command.verb in ("hold", "stop", "abort", "leave-safe-mode"):
        return True
    if command.verb == "prompt-answer":
        return any(prompt.command_id == command.command_id for prompt in batch.state.prompts.values())
    if command.verb == "correct":
        return command.command_id in batch.state.corrected
    if command.verb in ("adjust", "mode", "proceed", "skip"):
        return command.command_id in batch.state.changed_by
    return any(
        isinstance(record.event, ev.StateChanged) and record.event.path == "" and record.event.command == command.verb
        for record in batch.journal.records()[seq:]
    )
