"""What the guard of liquids is told of a batch, from its state: containers, open doses, and where people work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from tilctl.engine.batch import Batch
from tilctl.engine.intents import room_of
from tilctl.engine.state import Intent, Prompt
from tilctl.guard.fluid_view import Flow, Held, Picture
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.plant.ledger import Container
from tilctl.plant.unit import PlantError

_CHANGES = (
    ev.IntentOpened, ev.IntentClosed, ev.Mounted, ev.Unmounted, ev.Moved, ev.Weighed, ev.PromptOpened,
    ev.LedgerCorrected, ev.AnswerReceived, ev.PromptAnswered, ev.PromptWithdrawn,
)  # fmt: skip
_HANDS_ANYWHERE = ("ask", "reconcile")  # the words of the recipe say where, which nobody here reads


def pictures_of(batch: Batch) -> Callable[[], Picture]:
    """Return what tells the picture of a batch; it is made anew only when the record says something that changes it."""
    known: list[Picture] = []
    epoch = 0

    def seen(record: Record) -> None:
        nonlocal epoch
        if isinstance(record.event, _CHANGES):
            epoch += 1
            known.clear()

    def picture() -> Picture:
        if not known:
            known.append(_picture(batch, epoch))
        return known[0]

    batch.observers.append(seen)
    return picture


def _picture(batch: Batch, epoch: int) -> Picture:
    state = batch.state
    held = {container.name: found for container in state.ledger if (found := _held(batch, container)) is not None}
    flows = [_flow(batch, intent, held) for intent in state.intents.values() if intent.outcome == ""]
    hands: set[str] = set()
    anywhere = False
    for prompt in state.prompts.values():
        if not (prompt.answered or prompt.withdrawn):
            places = _places(prompt)
            anywhere = anywhere or places is None
            hands |= places or set()
    return Picture(
        tuple(held.values()), tuple(flow for flow in flows if flow is not None),
        None if anywhere else frozenset(hands), epoch,
    )  # fmt: skip


def _held(batch: Batch, container: Container) -> Held | None:
    """Return a container as the guard sees it; None where nothing weighs it, or nothing weighed it."""
    if not container.mounted or container.mass_g is None or container.family not in batch.recipe.containers:
        return None
    place = batch.plant.place(container.place)
    if not place.scale_device:
        return None
    return Held(
        container.name, container.place, f"{place.scale_device}.{place.scale_point}", batch.density(container.name),
        batch.limit_ml(container.name), container.mounted_ml, container.mass_g, place.rocked_by,
    )  # fmt: skip


def _flow(batch: Batch, intent: Intent, held: dict[str, Held]) -> Flow | None:
    args = intent.args
    source, destination = held.get(str(args.get("from"))), held.get(str(args.get("to")))
    if intent.action != "dispense" or source is None or destination is None:
        return None
    try:
        way = batch.plant.way(source.place, destination.place)
    except PlantError:
        return None
    floor = cast("float | None", args.get("least"))
    return Flow(
        intent.number, way.line, way.pump, int(args["sequence"]), source, destination, float(args["rate"]),
        float(args["volume"]), bool(args.get("empty")), floor, swallowed_ml=room_of(batch, way.line)[1],
    )  # fmt: skip


def _places(prompt: Prompt) -> set[str] | None:
    """Return the places where a prompt sends somebody, None where that is not said."""
    if prompt.kind in _HANDS_ANYWHERE:
        return None
    rows = cast("list[dict[str, Any]]", [*prompt.spec.get("containers", []), *prompt.spec.get("from", [])])
    return {str(row["place"]) for row in rows if "place" in row}
