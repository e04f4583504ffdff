"""Is it still the same plant?  Instruments by their serial numbers, containers by what they weigh.

Somebody may have exchanged a pump or a bag while no controller ran.  What is found is accepted by a person's restart,
and that is on record; only then does it become what is expected.
"""

from __future__ import annotations

from dataclasses import dataclass

from recipes.model import walk
from recipes.steps import Freeze
from tilctl.engine.batch import Batch
from tilctl.journal import events as ev

REPLACED, MISMATCH = "device-replaced", "mass-mismatch"  # alarms
# Engineering defaults: what a container's mass may be off its ledger.  Each transfer closes within max(3 mL, 2 %), so
# what was moved since the mounting adds up; and a culture loses some water in a day.
MASS_G = 10.0
MASS_SHARE = 0.01  # of all that the container took and gave since it was mounted, and of what it holds
MASS_G_A_DAY = 1.5


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A container that does not weigh (g) what the ledger expects of it."""

    container: str
    place: str
    expected_g: float
    found_g: float

    def __str__(self) -> str:
        return f"{self.container} at {self.place} weighs {self.found_g:.0f} g, {self.expected_g:.0f} g were expected"


def needed(batch: Batch) -> tuple[str, ...]:
    """Return the instruments without which a batch cannot go on: its own, and what weighs in its places."""
    scales = [place.scale_device for place in batch.plant.site.places.values() if place.scale_device]
    return tuple(dict.fromkeys([*batch.plant.devices, *scales, *batch.equipment.values()]))


def present(batch: Batch) -> list[ev.DeviceSeen]:
    """Return the instruments that stand behind the batch's names now, where the record knows others or none."""
    found: list[ev.DeviceSeen] = []
    for name in needed(batch):
        instrument = batch.plant.instruments[name]
        if instrument.serial and batch.state.serials.get(name) != instrument.serial:
            found.append(ev.DeviceSeen(name, instrument.profile.id, instrument.serial))
    return found


def replaced(batch: Batch) -> list[str]:
    """Return one text for each instrument that is not the one that the record knows."""
    known = batch.state.serials
    return [
        f"device-replaced: {seen.device} has serial number {seen.serial}, the batch knows it as {known[seen.device]}"
        for seen in present(batch)
        if known.get(seen.device)
    ]


def mismatches(batch: Batch) -> list[Mismatch]:
    """Return the mounted containers that do not weigh what they should, by readings that are fresh.

    Left out is what nobody can expect anything of: no scale, never weighed, part of a dose in doubt, or one whose place
    is empty because a freezer is loaded with it, or because somebody was asked to take it away.
    """
    state = batch.state
    loads, leaving = _loads(batch), _leaving(batch)
    doubtful = {str(intent.args.get(end)) for intent in state.open_intents() for end in ("from", "to")}
    found: list[Mismatch] = []
    for container in state.ledger:
        if not container.mounted or container.mass_g is None or container.name in doubtful:
            continue
        place = batch.plant.place(container.place)
        now = batch.image.number(f"{place.scale_device}.{place.scale_point}") if place.scale_device else None
        if now is None or (abs(now) < MASS_G and (container.family in loads or container.name in leaving)):
            continue
        density = batch.density(container.name)
        expected = container.expected_g(density) or 0.0
        if abs(now - expected) > _allowed(batch, container.name, container.volume_ml):
            found.append(Mismatch(container.name, container.place, round(expected, 1), round(now, 1)))
    return found


def _loads(batch: Batch) -> set[str]:
    return {step.load for op in batch.recipe.procedure for _, step in walk(op.steps, op.id) if isinstance(step, Freeze)}


def _leaving(batch: Batch) -> set[str]:
    """Return the containers that a step under way has asked somebody to take away: they may be gone already."""
    state = batch.state
    unmounts = (prompt for prompt in state.prompts.values() if prompt.kind == "unmount" and not prompt.withdrawn)
    asked = [prompt.spec.get("containers", []) for prompt in unmounts if not state.complete(prompt.path)]
    return {str(container["name"]) for containers in asked for container in containers}


def _allowed(batch: Batch, name: str, volume_ml: float) -> float:
    """Return by how much (g) a container may be off: for what went through it, and for the days that it stands."""
    state = batch.state
    moved = sum(
        intent.delivered_ml or 0.0
        for intent in state.intents.values()
        if name in (intent.args.get("from"), intent.args.get("to"))
    )
    days = 0.0 if state.started is None else (batch.clock.now() - state.started).total_seconds() / 86400
    return MASS_G + MASS_SHARE * (max(volume_ml, 0.0) + moved) + MASS_G_A_DAY * days


def accept(batch: Batch) -> None:
    """Put on record that a person goes on with what is there."""
    for seen in present(batch):
        batch.note(seen)
    for found in mismatches(batch) if MISMATCH in batch.state.alarms else ():
        batch.note(ev.Weighed(found.container, found.place, found.expected_g, found.found_g))
