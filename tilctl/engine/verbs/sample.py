"""`sample`: a person draws a sample; its results are the answer, those that take longer an answer of their own."""

from __future__ import annotations

from typing import Any

from devices.quantity import parse_as
from recipes.steps import Sample
from tilctl.engine.context import Context
from tilctl.engine.overdue import answered
from tilctl.engine.verbs.ask import number_spec
from tilctl.journal import events as ev
from tilctl.plant.ledger import SAMPLES


async def run(context: Context, step: Sample) -> None:
    """Have the container until what is awaited has come, so that nothing is moved while somebody draws from it."""
    drawn = context.node.phases.get("drawn")
    names = _sources(context, step) if drawn is None else [str(name) for name in drawn[1]["from"]]
    async with context.alone(*names):
        await _run(context, step)


def _sources(context: Context, step: Sample) -> list[str]:
    sources = context.batch.state.ledger.family(step.from_) or [context.container(step.from_)]
    return [source.name for source in sources]


async def _run(context: Context, step: Sample) -> None:
    """Ask for the sample, wait for what is awaited, and leave a question open for what comes later."""
    if "drawn" not in context.node.phases:
        await _draw(context, step)
    due = None if step.due is None else parse_as(step.due, "s")
    if step.deferred:
        await _ask(context, step, step.deferred, "result", None if step.awaited else due)
    if step.awaited:
        prompt = await _ask(context, step, step.awaited, "sample", due)
        await answered(context, prompt, step.on_overdue)


async def _draw(context: Context, step: Sample) -> None:
    """Take the sample's volume out of the ledger."""
    sources = _sources(context, step)
    volume = context.number(step.volume, "mL")
    if volume > 0 and context.path not in context.batch.state.sampled:
        await context.batch.record(ev.Moved(context.path, 0, sources[0], SAMPLES, volume))
    await context.batch.record(ev.StepPhase(context.path, "drawn", {"from": sources}))


async def _ask(context: Context, step: Sample, names: tuple[str, ...], kind: str, due: float | None) -> Any:
    batch = context.batch
    inputs: dict[str, Any] = {}
    for name in names:
        result = batch.recipe.results[name]
        if result.choices:
            inputs[name] = {"type": "choice", "choices": list(result.choices), "label": result.label or name}
        else:
            inputs[name] = {"type": "number", "label": result.label or name} | number_spec(
                result.unit or "", result.range
            )
    drawn = [str(name) for name in context.node.phases["drawn"][1]["from"]]
    sources = [source for name in drawn if (source := batch.state.ledger.get(name)) is not None]
    spec: dict[str, Any] = {
        "inputs": inputs,
        "results": list(names),
        "containers": [],
        "from": [
            {
                "container": source.name,
                "place": source.place,
                "port": batch.plant.place(source.place).port,
                "volume_ml": source.volume_ml,
            }
            for source in sources
        ],
    }
    text = context.fill_in(step.text) if step.text else f"Sample {step.from_}: {', '.join(names)}"
    return await context.prompts.ask(context.path, kind, text, spec, due)
