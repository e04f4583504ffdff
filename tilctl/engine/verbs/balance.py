"""`balance`: what the ledger says of containers against what their places weigh."""

from __future__ import annotations

from devices.instrument import DeviceError
from devices.quantity import parse_as
from recipes.steps import Balance
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.journal import events as ev


async def run(context: Context, step: Balance) -> None:
    """Have the containers, then compare."""
    ledger = context.batch.state.ledger
    names = [container.name for name in step.over for container in ledger.family(name)]
    async with context.alone(*names):
        await _compare(context, step)


async def _compare(context: Context, step: Balance) -> None:
    """Compare volume gained since mounting by ledger and by mass; raises StepError when they differ by too much."""
    batch = context.batch
    containers = [container for name in step.over for container in batch.state.ledger.family(name)]
    try:
        masses = await batch.plant.weigh([container.place for container in containers])
    except DeviceError as error:
        raise StepError(
            f"{context.path}: cannot weigh: {error}", "see to the scales, then restart the batch"
        ) from error
    rows: dict[str, dict[str, float]] = {}
    unknown: list[str] = []
    for container in containers:
        mass = masses[container.place]
        if mass is None or container.mass_g is None:
            unknown.append(container.name)
            continue
        gained = (mass - container.mass_g) / batch.density(container.name)
        rows[container.name] = {
            "ledger_ml": round(container.volume_ml - container.mounted_ml, 2),
            "weighed_ml": round(gained, 2),
        }
    within = parse_as(step.within, "%") / 100
    moved = sum(abs(row["ledger_ml"]) for row in rows.values()) / 2
    off = sum(abs(row["ledger_ml"] - row["weighed_ml"]) for row in rows.values())
    share = off / moved if moved > 0 else 0.0
    closes = not unknown and share <= within
    report = {"containers": rows, "off_ml": round(off, 2), "share_pct": round(100 * share, 3), "closes": closes}
    await batch.record(ev.StepPhase(context.path, "weighed", report))
    if closes:
        return
    reason = f"not weighed: {', '.join(unknown)}" if unknown else f"ledger and scales differ by {100 * share:.1f} %"
    await batch.record(ev.ExceptionRaised("balance", reason, context.path))
    if step.on_fail == "hold":
        raise StepError(f"{context.path}: {reason}", "weigh or recount, correct the ledger, then restart the batch")
