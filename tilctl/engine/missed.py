"""A moment that passed while nobody was there: what the recipe says of it, once."""

from __future__ import annotations

from devices.quantity import parse_as, show
from recipes.steps import Incubate, Wait
from tilctl.engine.context import Context
from tilctl.engine.errors import ProcedureEnd, StepError
from tilctl.journal import events as ev

MISSED = "missed"  # the phase of a step that ended late; with `skip` what follows it in its list is passed over


async def judge(context: Context, step: Wait | Incubate, late_s: float) -> None:
    """Do what `on_missed` says when a step ends later than its grace allows; raises StepError and ProcedureEnd.

    Invariant: a missed moment leads to one late run at most, however many restarts come between.
    """
    known = context.node.phases.get(MISSED)
    if step.grace is None or (known is None and late_s <= parse_as(step.grace, "s")):
        return
    if known is None:
        text = f"ended {show(late_s, 's')} late, {step.grace} are allowed (on_missed: {step.on_missed})"
        raised = ev.ExceptionRaised("missed", text, context.path)
        phase = ev.StepPhase(context.path, MISSED, {"late_s": round(late_s, 3), "skip": step.on_missed == "skip"})
        # Invariant: in one transaction, with the hold too, so that no crash has it judged twice, or held for never.
        if step.on_missed == "hold":
            hint = "decide whether what follows may still be done, then restart"
            raise StepError(f"{context.path}: {text}", hint, (raised, phase))
        context.batch.note(raised)
        await context.batch.record(phase)
    if step.on_missed == "abort":
        raise ProcedureEnd("aborted", f"{context.path}: its moment was missed")
