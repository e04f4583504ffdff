"""`mount`: a person puts vessels and bags into their places; what is in them becomes an account of the ledger."""

from __future__ import annotations

from typing import Any, cast

from devices.instrument import DeviceError
from devices.quantity import parse_as
from recipes.steps import Mount
from tilctl.engine.batch import Batch
from tilctl.engine.context import Context
from tilctl.engine.errors import StepError
from tilctl.engine.overdue import answered
from tilctl.engine.state import StepStatus
from tilctl.journal import events as ev
from tilctl.plant.ledger import Container
from tilctl.plant.unit import PlantError

MINUTES_A_DAY = 1440.0
PLACES = "the free places"


async def run(context: Context, step: Mount) -> None:
    """Settle places, ask for the containers, weigh what hangs there, and open the accounts."""
    if "planned" not in context.node.phases:
        async with context.alone(PLACES):  # Invariant: no two steps plan one place
            await context.batch.record(ev.StepPhase(context.path, "planned", {"containers": _plan(context, step)}))
    containers = cast("list[dict[str, Any]]", context.node.phases["planned"][1]["containers"])
    async with context.alone(*(str(item["name"]) for item in containers)):
        await _put_up(context, step, containers)


async def _put_up(context: Context, step: Mount, containers: list[dict[str, Any]]) -> None:
    """Ask for the containers, weigh what hangs there, and open the accounts."""
    inputs: dict[str, Any] = {}
    for item in containers:
        if item["volume_ml"] is None:
            limits = {"min": 0.0, "max": item["limit_ml"], "unit": "mL", "canonical": "mL"}
            inputs[f"volume.{item['name']}"] = {"type": "number", "label": f"volume in {item['name']}"} | limits
        if step.scan:
            inputs[f"scan.{item['name']}"] = {"type": "scan", "label": f"label of {item['name']}"}
    names = ", ".join(f"{item['name']} at {item['place']}" for item in containers)
    text = context.fill_in(step.text) if step.text else f"Mount {names}"
    spec, due = {"inputs": inputs, "containers": containers}, None if step.due is None else parse_as(step.due, "s")
    prompt = await context.prompts.ask(context.path, "mount", text, spec, due)
    if not await answered(context, prompt, "continue"):  # overdue: told, and waited for all the same
        await context.prompts.wait(prompt)
    answer = prompt.answer or {}
    try:
        masses = await context.batch.plant.weigh([str(item["place"]) for item in containers])
    except DeviceError as error:
        raise StepError(
            f"{context.path}: cannot weigh: {error}", "see to the scales, then restart the batch"
        ) from error
    for item in containers:
        name, place = str(item["name"]), str(item["place"])
        if context.batch.state.ledger.at(place) is not None:
            continue  # a repeated walk: this one is on record already
        volume = item["volume_ml"] if item["volume_ml"] is not None else answer[f"volume.{name}"]
        scan = str(answer.get(f"scan.{name}", ""))
        mass = masses[place]
        lost = parse_as(context.batch.recipe.containers[name.partition("[")[0]].evaporation, "mL/min") * MINUTES_A_DAY
        await context.batch.record(
            ev.Mounted(context.path, name, place, str(item["class"]), float(volume), scan, mass, lost)
        )


def _plan(context: Context, step: Mount) -> list[dict[str, Any]]:
    batch = context.batch
    taken = {container.place for container in batch.state.ledger if container.mounted} | _promised(context)
    planned: list[dict[str, Any]] = []
    for family in step.containers:
        declared = batch.recipe.containers[family]
        count_text = step.count_of(family)
        count = int(context.number(count_text or declared.count or "1", ""))  # of 1..4 a mount says how many
        names = [family] if declared.count is None else [f"{family}[{index}]" for index in range(1, count + 1)]
        volume_text = step.volume_of(family)
        volume = None if volume_text == "ask" else context.number(volume_text, "mL")
        for name in names:
            if (known := batch.state.ledger.get(name)) is not None and known.mounted:
                raise StepError(f"{context.path}: {name} is mounted already, at {known.place}", "unmount it first")
            try:
                place = batch.plant.free_place(step.at or declared.place_class, taken, rocked=declared.rocked)
            except PlantError as error:
                raise StepError(f"{context.path}: {name}: {error}", error.hint) from error
            taken.add(place)
            planned.append(_item(batch, name, place, volume))
    return planned


def _promised(context: Context) -> set[str]:
    """Return the places that a mount of another branch is about to fill."""
    found: set[str] = set()
    for node in context.batch.state.nodes.values():
        planned = node.phases.get("planned")
        if node.verb == "mount" and node.path != context.path and node.status is not StepStatus.COMPLETE and planned:
            found |= {str(item["place"]) for item in planned[1]["containers"]}
    return found


def published(batch: Batch, container: Container) -> dict[str, Any]:
    """Return a mounted container as a prompt shows it."""
    return _item(batch, container.name, container.place, round(container.volume_ml, 3))


def _item(batch: Batch, name: str, place: str, volume: float | None) -> dict[str, Any]:
    declared = batch.recipe.containers[name.partition("[")[0]]
    return {
        "name": name,
        "kind": declared.kind,
        "class": declared.class_ or declared.kind,
        "holds": declared.holds or "",
        "place": place,
        "port": batch.plant.place(place).port,
        "limit_ml": batch.limit_ml(name),
        "volume_ml": volume,
    }
