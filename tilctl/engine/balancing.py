"""The ledger as people see and correct it: accounts beside what the scales say, and signed corrections."""

from __future__ import annotations

from typing import Any

from devices.quantity import QuantityError, parse_as, show
from tilctl.engine.batch import Batch
from tilctl.engine.machine import State
from tilctl.engine.port import Command, Outcome
from tilctl.engine.runner import Runner
from tilctl.journal import events as ev
from tilctl.plant.ledger import Container


async def correct(runner: Runner | None, command: Command) -> Outcome:
    """Book a signed correction of one container, by two people who say who they are; raises JournalError."""
    if runner is None or runner.state is State.IDLE:
        return Outcome("refused", "illegal_state", "there is no batch whose ledger could be corrected")
    batch = runner.batch
    await batch.at_rest()  # Invariant: from here to the booking nothing is waited for, so that none is reckoned twice
    if command.id in batch.state.corrected:
        return Outcome("already", "", "it is booked already")
    container = batch.state.ledger.get(str(command.args.get("container", "")))
    if container is None or container.family not in batch.recipe.containers:
        names = ", ".join(each.name for each in batch.state.ledger if each.mounted) or "none"
        text = f"no container is called {command.args.get('container')!r}; mounted: {names}"
        return Outcome("refused", "bad_parameter", text)
    found = _change(batch, container, command)
    if isinstance(found, str):
        return Outcome("refused", "bad_parameter", found)
    if (why := _unsigned(command)) or (why := _under_way(batch, container)):
        return Outcome("refused", "bad_parameter", why)
    second = dict(command.args["second"])
    volume = round(container.volume_ml + found, 3)
    event = ev.LedgerCorrected(
        container.name, round(found, 3), volume, command.reason, command.actor, f"{second['user']} ({second['role']})",
        _from_mounting(batch, container, found), command.id,
    )  # fmt: skip
    await batch.record(event)
    return Outcome("done", "", f"{container.name} holds {show(volume, 'mL')} by the ledger now")


def ledger_of(batch: Batch) -> dict[str, Any]:
    """Return the ledger as JSON-able values: `containers` (mL, g; None where nobody knows) and the other `accounts`."""
    state = batch.state
    rows: list[dict[str, Any]] = []
    for container in state.ledger:
        if container.family not in batch.recipe.containers:
            continue
        expected, weighed = container.expected_g(batch.density(container.name)), _weighed(batch, container)
        known = expected is not None and weighed is not None
        rows.append(
            {
                "name": container.name,
                "place": container.place if container.mounted else "",
                "volume_ml": _rounded(container.volume_ml),
                "limit_ml": batch.limit_ml(container.name),
                "expected_g": _rounded(expected),
                "weighed_g": _rounded(weighed),
                "off_g": _rounded((weighed or 0.0) - (expected or 0.0)) if known else None,
            }
        )
    samples = state.ledger.get("samples")
    accounts = {name: _rounded(volume) for name, volume in state.ledger.others.items()}
    accounts |= {"samples": _rounded(samples.volume_ml)} if samples else {}
    return {"containers": rows, "accounts": accounts, "forecast": list(batch.foreseen)}


def _change(batch: Batch, container: Container, command: Command) -> float | str:
    """Return by how much (mL) a command changes a container, or why it cannot."""
    volume, change = str(command.args.get("volume", "")), str(command.args.get("change", ""))
    if bool(volume) is bool(change):
        return "give either the true volume now (`volume`) or a signed `change`, with its unit"
    try:
        by = parse_as(change, "mL") if change else parse_as(volume, "mL") - container.volume_ml
    except QuantityError as error:
        return str(error)
    after, limit = container.volume_ml + by, batch.limit_ml(container.name)
    if not 0.0 <= after <= limit:
        return f"{container.name} would hold {show(after, 'mL')}; it can hold 0 mL to {show(limit, 'mL')}"
    return by or f"{container.name} holds {show(after, 'mL')} by the ledger already"


def _unsigned(command: Command) -> str:
    """Return what is missing of two people and a reason, "" where nothing is.  Their names are claims: see the door."""
    if not command.reason:
        return "a correction needs a reason"
    first, second = command.actor.rpartition(" (")[0].strip(), str(command.args["second"]["user"]).strip()
    if not first:
        return "a correction needs the person who makes it (`actor`)"
    return "the second person must be another one" if _plain(first) == _plain(second) else ""


def _plain(user: str) -> str:
    return "".join(user.casefold().split())


def _under_way(batch: Batch, container: Container) -> str:
    """Invariant: nothing is corrected that a dose is about to book: its evidence closes it, or a person's answer."""
    for intent in batch.state.open_intents():
        if container.name in (intent.args.get("from"), intent.args.get("to")):
            how = "answer its question first" if intent.outcome else "wait for its end"
            return f"a dose from or to {container.name} is not closed yet: {how}"
    return ""


def _from_mounting(batch: Batch, container: Container, change: float) -> bool:
    """Whether its weight says that the volume was wrong from the first, and nothing came or left unseen since."""
    density = batch.density(container.name)
    weighed, expected = _weighed(batch, container), container.expected_g(density)
    if weighed is None or expected is None:
        return False
    return abs(weighed - expected) < abs(weighed - expected - change * density)


def _weighed(batch: Batch, container: Container) -> float | None:
    place = batch.plant.site.places.get(container.place) if container.mounted else None
    return batch.image.number(f"{place.scale_device}.{place.scale_point}") if place and place.scale_device else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
