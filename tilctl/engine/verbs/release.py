"""`release`: the check list of a lot is judged, shown and signed; what is pending stays asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devices.quantity import parse_as
from recipes.expr import ExprError
from recipes.release import Release
from recipes.releasing import Verdict, outcome_of, outstanding, verdict
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.engine.overdue import answered
from tilctl.engine.releases import ask_for
from tilctl.journal import events as ev


async def run(context: Context, step: Release) -> None:
    """Have what the conditions come to signed, once; the lot is decided by one event."""
    batch = context.batch
    if context.path in batch.state.lots:
        return
    due = None if step.due is None else parse_as(step.due, "s")
    attempt = len([phase for phase in context.node.phases if phase.startswith("overtaken_")]) + 1
    while True:
        verdicts, pending = _judged(context, step)
        if f"judged_{attempt}" not in context.node.phases:
            await batch.record(ev.StepPhase(context.path, f"judged_{attempt}", {**verdicts}))
        shown = context.node.phases[f"judged_{attempt}"][1]
        try:
            await ask_for(batch, context.prompts, pending)
        except LookupError as error:
            raise StepError(f"{context.path}: {error}", "take the sample, or correct the recipe") from error
        prompt = await context.prompts.ask(
            context.path, "release", *_question(context, step, shown, pending), due, attempt
        )
        await answered(context, prompt, "hold")
        verdicts, pending = _judged(context, step)
        if verdicts == shown:
            break
        # Invariant: what was signed is what was shown; a result that came meanwhile is shown and signed anew.
        await batch.record(ev.StepPhase(context.path, f"overtaken_{attempt}", {**verdicts}))
        attempt += 1
    answer = prompt.answer or {}
    outcome = str(answer.get("decision"))
    text = in_words(outcome, verdicts, str(answer.get("why") or ""))
    if outcome == "rejected":
        batch.note(ev.ExceptionRaised("release", text, context.path))
    batch.note(ev.ValuesSet(context.path, {"outcome": outcome}))
    by = ", ".join(f"{role} {answer.get(f'sign.{role}')}" for role in step.sign)
    left = pending if outcome == "conditional" else []
    await batch.record(ev.LotDecided(context.path, outcome, {**verdicts}, left, by, text))


def in_words(outcome: str, verdicts: Mapping[str, str], why: str = "") -> str:
    """Return how a lot stands as a phrase: `conditional: pending sterility`."""
    parts = [
        f"{verdict} {', '.join(names)}"
        for verdict in ("not met", "pending")
        if (names := [name for name, found in verdicts.items() if found == verdict])
    ]
    return outcome + (f": {'; '.join(parts)}" if parts else "") + (f" ({why})" if why else "")


def _judged(context: Context, step: Release) -> tuple[dict[str, Verdict], list[str]]:
    try:
        verdicts: dict[str, Verdict] = {
            name: verdict(condition, context.scope) for name, condition in step.conditions.items()
        }
    except ExprError as error:
        raise StepError(f"{context.path}: {error}", "the recipe needs a correction") from error
    for name, condition in step.conditions.items():
        if verdicts[name] == "unknown":  # Invariant: unknown is neither met nor failed
            context.truth(condition.when)
            text = f"{context.path}: the condition '{name}' cannot be judged"
            raise StepError(text, "see to what is missing, then restart the batch")
    return verdicts, outstanding(step.conditions, verdicts, context.scope)


def _question(
    context: Context, step: Release, verdicts: Mapping[str, Verdict], pending: list[str]
) -> tuple[str, dict[str, Any]]:
    outcome = outcome_of(verdicts.values())
    inputs: dict[str, Any] = {
        # Invariant: nobody can release what the conditions reject; whoever signs may always reject.
        "decision": {"type": "choice", "choices": list(dict.fromkeys((outcome, "rejected"))), "label": "decision"},
        "why": {"type": "text", "label": "remark", "optional": True},
    }
    inputs |= {f"sign.{role}": {"type": "text", "label": f"{role} (name or badge)"} for role in step.sign}
    conditions = {
        name: {"label": each.label or name, "when": each.when, "verdict": verdicts[name]}
        for name, each in step.conditions.items()
    }
    text = context.fill_in(step.text) if step.text else f"Release of {context.path}"
    awaited = f"; awaited: {', '.join(pending)}" if pending else ""
    spec = {"inputs": inputs, "sign": list(step.sign), "containers": [], "conditions": conditions}
    return f"{text}: {in_words(outcome, verdicts)}{awaited}", spec
