"""`transfer`: move liquid.  Intent, act, evidence; each intent once, a remainder is a new one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from devices.instrument import DeviceError
from devices.quantity import parse
from recipes.dosing import Dose, DoseError, dosed, stock_of
from recipes.model import FULL_SHARE
from recipes.steps import Transfer
from tilctl.engine.context import Context
from tilctl.engine.errors import InDoubt, StepError
from tilctl.engine.intents import enough, not_safe, resolve, settle, way_of
from tilctl.engine.shield import finish
from tilctl.engine.state import format_time
from tilctl.journal import events as ev
from tilctl.plant.control.dispense import dispense
from tilctl.plant.evidence import LEAST_BY_MASS_ML, Evidence, gather_evidence
from tilctl.plant.ledger import Container
from tilctl.plant.outputs import OutputRefused
from tilctl.plant.stillness import REST_S
from tilctl.plant.unit import PlantError, Way

MOST_TRIES = 5  # without a person in between; a pump that needs more remainders than this is not doing its work
SMALLEST_ML = 0.5  # mL; a remainder below this is within what scales resolve


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be moved, settled when the step began: volumes in mL, rate in mL/min."""

    source: str
    destination: str
    volume: float
    rate: float
    tolerance: float
    empty: bool
    least: float | None = None  # mL that have to be left in the source
    dose: dict[str, Any] | None = None  # why the volume is what it is: substance, stock, amount and its unit


async def run(context: Context, step: Transfer) -> dict[str, Any]:
    """Have both containers and the line, then move."""
    async with context.alone(*_needs(context, step)):
        return await _run(context, step)


def _needs(context: Context, step: Transfer) -> list[str]:
    known = context.node.phases.get("ordered")
    if known is None:
        names = [context.container(step.from_).name, context.container(step.to).name]
    else:
        names = [str(known[1]["source"]), str(known[1]["destination"])]
    try:
        way = way_of(context.batch, *names)
    except PlantError:  # no line leads there: that is told when it is to be moved
        return names
    return [*names, way.pump, way.valves]


async def _run(context: Context, step: Transfer) -> dict[str, Any]:
    """Settle the order, wait for cells to settle, resolve what an earlier try left open, then move what is missing."""
    order = await _ordered(context, step)
    if step.settle is not None:
        await context.sleep_until(context.due(context.number(step.settle, "s")))
    for intent in context.batch.state.intents_of(context.path):
        if intent.outcome in ("", "in_doubt"):
            await resolve(context, intent)
    tries = 0
    while True:
        intents = context.batch.state.intents_of(context.path)
        delivered = sum(intent.delivered_ml or 0.0 for intent in intents)
        missing = order.volume - delivered
        if intents and (
            missing <= max(order.tolerance, _smallest(context, order)) or (step.one_shot and _done(intents[-1].outcome))
        ):
            return await _report(context, order, delivered)
        if not intents and missing < SMALLEST_ML:
            return await _report(context, order, 0.0)
        if tries >= MOST_TRIES:
            raise StepError(
                f"{context.path}: {delivered:.1f} of {order.volume:.1f} mL after {tries} tries",
                "look at pump, tubing, clamps and bag, then restart or stop the batch",
            )
        tries += 1
        part = await _part(context, order, missing, one_shot=step.one_shot, again=tries > 1)
        await _move(context, order, part, missing, first=all(_done(intent.outcome) for intent in intents))
        if part < missing and _done(context.batch.state.intents_of(context.path)[-1].outcome):
            tries = 1  # it was a part that was wanted no larger: no failure
        if order.empty and context.batch.state.intents_of(context.path)[-1].outcome == "partial":
            _check_empty(context, order)
            return await _report(context, order, delivered)  # it is empty: what the ledger missed is not there


async def _part(context: Context, order: _Order, missing: float, *, one_shot: bool, again: bool) -> float:
    """Return how much (mL) of what is missing is dosed in one go: what is rocked must not stand for longer.

    Waits until it has rocked for a while where it has just stood.  Invariant: cells are not left without oxygen for the
    sake of a dose; it is the device that is told less, so that this holds without a controller too.
    """
    batch = context.batch
    try:
        rockers = way_of(batch, order.source, order.destination).rockers
        most = await batch.plant.stillness.most_ml(rockers, order.rate)
    except PlantError as error:
        raise StepError(f"{context.path}: {error}", error.hint) from error
    except DeviceError as error:
        raise StepError(f"{context.path}: {error}", "see to the rocker, then restart the batch") from error
    if most is None:
        return missing
    if one_shot and missing > most:
        text = f"{context.path}: at {order.rate:g} mL/min, {missing:.0f} mL take longer than a rocker may stand"
        raise StepError(text, f"at most {most:.0f} mL at this rate: dose faster, or set the rocking to 0 rpm before")
    if again:
        until = batch.clock.now() + timedelta(seconds=REST_S)
        await batch.record(ev.StepPhase(context.path, "rests", {"until": format_time(until)}))
        await context.sleep_until(until)
    return min(missing, most)


def _smallest(context: Context, order: _Order) -> float:
    """Return the least remainder (mL) that is worth another dose: one that can be proven."""
    way = way_of(context.batch, order.source, order.destination)
    counts = context.batch.plant.instruments[way.pump].profile.counter
    return SMALLEST_ML if counts else LEAST_BY_MASS_ML


def _done(outcome: str) -> bool:
    return outcome == "done"


async def _ordered(context: Context, step: Transfer) -> _Order:
    known = context.node.phases.get("ordered")
    if known is None:
        data = _settle_order(context, step)
        await context.batch.record(ev.StepPhase(context.path, "ordered", data))
        known = context.node.phases["ordered"]
    return _Order(**known[1])


def _settle_order(context: Context, step: Transfer) -> dict[str, Any]:
    source, destination = context.container(step.from_), context.container(step.to)
    dose = _dose(context, step, source, destination) if step.dosed else None
    if step.amount == "volume":
        volume = context.number(step.volume or "", "mL")
    elif step.amount == "leave":
        volume = source.volume_ml - context.number(step.leave or "", "mL")
    elif step.amount == "up_to":
        volume = context.number(step.up_to or "", "mL") - destination.volume_ml
    elif dose is not None:
        volume = dose.volume
    else:
        volume = source.volume_ml
    tolerance = parse(step.tolerance)
    allowed = tolerance.value if tolerance.unit == "mL" else volume * tolerance.value / 100
    _check_volume(context, source, destination, volume, 0.0 if step.all else max(0.0, allowed))
    rate = context.number(step.rate, "mL/min")
    if rate <= 0.0:
        raise StepError(f"{context.path}: at {rate:g} mL/min nothing is ever moved", "give a rate above 0 mL/min")
    order = {
        "source": source.name,
        "destination": destination.name,
        "volume": round(max(0.0, volume), 3),
        "rate": rate,
        "tolerance": round(allowed, 3),
        "empty": step.all,
    }
    if step.leave is not None:
        order["least"] = round(max(0.0, context.number(step.leave, "mL") - allowed), 3)
    return order if dose is None else order | {"dose": dose.as_data()}


def _dose(context: Context, step: Transfer, source: Container, destination: Container) -> Dose:
    try:
        stock = stock_of(step, context.batch.recipe.containers, source.name)
        dose = dosed(step, stock, destination.volume_ml, context.number)
    except DoseError as error:
        raise StepError(f"{context.path}: {error.message}", error.hint) from error
    # Invariant: a substance that is wanted is given or a person is told; it is never passed over as too little.
    if 0.0 < dose.volume < SMALLEST_ML:
        text = f"{context.path}: {dose.volume:.2g} mL of {source.name} are too little to be dosed"
        raise StepError(text, "prepare and declare a dilution of the stock; nothing was moved")
    return dose


def _check_volume(context: Context, source: Container, destination: Container, volume: float, more: float) -> None:
    """Refuse what cannot be: more than there is, or more than fits; `more` mL may come by its tolerance."""
    if volume < -1.0:
        raise StepError(
            f"{context.path}: the volume to move is {volume:.1f} mL",
            f"check {source.name} ({source.volume_ml:.1f} mL) and {destination.name} ({destination.volume_ml:.1f} mL)",
        )
    limit = context.batch.limit_ml(destination.name)
    if destination.volume_ml + volume + more > FULL_SHARE * limit:
        raise StepError(
            f"{context.path}: {destination.name} would be over-full: it holds {destination.volume_ml:.1f} mL, "
            f"{volume:.1f} mL would come, its limit is {limit:.0f} mL, and at {FULL_SHARE:.0%} of it pumps are stopped"
            + (f" ({more:.1f} mL more are within the tolerance)" if more else ""),
            "mount an empty container or correct the recipe; nothing was moved",
        )
    if volume > source.volume_ml + max(3.0, 0.02 * source.volume_ml):
        raise StepError(
            f"{context.path}: {source.name} holds {source.volume_ml:.1f} mL, {volume:.1f} mL are wanted",
            "mount a fuller container, then stop and start again; nothing was moved",
        )


async def _move(context: Context, order: _Order, volume: float, missing: float, *, first: bool) -> None:
    """Command one intent, of `volume` of what is `missing` (mL), and close it by evidence, whatever happens."""
    batch = context.batch
    plant = batch.plant
    try:
        way = way_of(batch, order.source, order.destination)
        with plant.scanner.active(*way.devices):
            async with plant.stillness.over(way.rockers):
                before = await gather_evidence(plant, way)
                number = await _open(context, order, way, before, volume, first=first and volume == missing)
                wanted = volume - order.tolerance if volume == missing else enough(batch.state.intents[number])
                await _commanded(context, order, way, number, wanted)
    except PlantError as error:
        raise StepError(f"{context.path}: {error}", error.hint) from error
    except (DeviceError, OutputRefused) as error:
        raise StepError(f"{context.path}: {error}", "see to the device, then restart the batch") from error


async def _open(context: Context, order: _Order, way: Way, before: Evidence, volume: float, *, first: bool) -> int:
    batch = context.batch
    if not before.counter and volume < LEAST_BY_MASS_ML:
        # Invariant: what the scales cannot tell from nothing is not dosed by a pump that does not count.
        text = f"{context.path}: {way.pump} has no totaliser, and {volume:g} mL cannot be proven by mass"
        raise StepError(text, f"dose at least {LEAST_BY_MASS_ML:g} mL, or use a pump that counts")
    counted = before.total_ml is not None or not before.counter
    if before.sequence is None or not counted or before.source_g is None or before.destination_g is None:
        raise StepError(f"{context.path}: no evidence before the start: {before}", "see to the pump and the scales")
    number = batch.next_intent()
    over = min(0.02 * volume + 2.0, 20.0) if order.empty and first else 0.0  # to be sure that it is empty
    args = {
        "from": order.source,
        "to": order.destination,
        "sequence": _unused(context, way, before.sequence),
        "rate": order.rate,
        "volume": round(max(0.1, volume + over), 2),
        "way": way.line,
        "empty": order.empty,
    } | ({} if order.least is None else {"least": order.least})
    await batch.record(ev.IntentOpened(number, context.path, way.pump, "dispense", args, before.as_data()))
    return number


def _unused(context: Context, way: Way, known: int) -> int:
    """Return the next number for this pump; Invariant: no two intents share one, also after the pump lost power."""
    used = {
        int(intent.args["sequence"])
        for intent in context.batch.state.intents.values()
        if intent.device == way.pump and "sequence" in intent.args
    }
    number = known % 65535 + 1
    while number in used:
        number = number % 65535 + 1
    return number


async def _commanded(context: Context, order: _Order, way: Way, number: int, wanted: float) -> None:
    """Have the intent carried out; `wanted` (mL) is what makes it `done`."""
    batch = context.batch
    intent = batch.state.intents[number]
    trouble: PlantError | DeviceError | OutputRefused | None = None
    try:
        async with asyncio.timeout_at(batch.plant.stillness.ends(way.rockers)):
            await dispense(
                batch.plant,
                batch.name,
                way,
                int(intent.args["sequence"]),
                order.rate,
                float(intent.args["volume"]),
                until_empty=order.empty,
                density=batch.density(order.source),
                cause=(context.path, intent.seq),
            )
    except TimeoutError:
        pass  # what is rocked must go on: the dose ends here, and what is missing is another one
    except (PlantError, DeviceError, OutputRefused) as error:
        trouble = error
    finally:
        # Invariant: however this ends, the pump is stopped and the intent is closed by evidence or stays in doubt.
        why = await finish(settle(batch, intent, way, wanted=wanted))
    if why:
        reason = f"{trouble}; {why}" if trouble else why
        raise InDoubt(number, f"{context.path}: {reason}") from trouble
    if trouble is not None:
        raise trouble
    open_ = [device for device in (way.pump, way.valves) if not_safe(device) in batch.state.alarms]
    if open_:  # the dose is booked; what does not stand still is tried again while the batch is held
        raise PlantError(f"{' and '.join(open_)} could not be made safe", "see to it before the batch is restarted")


def _check_empty(context: Context, order: _Order) -> None:
    """Tell an empty container from a closed line: what is missing must be what a ledger may be wrong by."""
    delivered = sum(intent.delivered_ml or 0.0 for intent in context.batch.state.intents_of(context.path))
    missing = order.volume - delivered
    if missing > max(order.tolerance, 3.0, 0.05 * order.volume):
        raise StepError(
            f"{context.path}: only {delivered:.1f} of {order.volume:.1f} mL came out of {order.source}",
            "look for an occlusion, a closed clamp or a swapped line; then restart the batch",
        )


async def _report(context: Context, order: _Order, delivered: float) -> dict[str, Any]:
    """Put it on the exception list when what came differs from what was wanted by more than the tolerance."""
    intents = context.batch.state.intents_of(context.path)
    delivered = sum(intent.delivered_ml or 0.0 for intent in intents)
    if abs(delivered - order.volume) > max(order.tolerance, SMALLEST_ML, 3.0):
        text = f"{delivered:.1f} mL moved, {order.volume:.1f} mL were ordered"
        await context.batch.record(ev.ExceptionRaised("volume", text, context.path))
    return {"ordered_ml": order.volume, "delivered_ml": round(delivered, 3), "intents": len(intents)}
