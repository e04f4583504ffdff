"""The records of the batches of a site: found whole before anything is touched, and put away when they are over."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from devices.clock import Clock
from devices.document import DocumentError, parse, validate
from recipes.model import Recipe
from tilctl import __version__
from tilctl.config import Site
from tilctl.engine.batch import Batch
from tilctl.engine.estimating import prepare
from tilctl.engine.machine import State
from tilctl.engine.releases import awaited
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.mark import Mark
from tilctl.journal.site import SiteJournal, noted_heads
from tilctl.journal.store import Journal, JournalBroken, JournalError
from tilctl.journal.versions import last_writer
from tilctl.plant.suite import Suite

LOST = ".lost"
"""A person who makes `<batch>.lost` beside the records says that the record of this batch will not come back."""


START_WITHIN = 60.0  # s; a batch that has not come into its first state by then is begun by no restart


def over(batch: Batch) -> bool:
    """Whether a record has only to be put away: its batch was reset, or cut off at its very start, too long ago."""
    state = batch.state
    if state.closed or state.state is not State.IDLE:
        return state.closed
    made = state.started or batch.clock.now()
    return state.version > 0 or (batch.clock.now() - made).total_seconds() > START_WITHIN


def made_by(batch: Batch) -> str:
    """Return the id of the start that made a batch, "" where that is not known."""
    return batch.state.created.command if batch.state.created else ""


async def find_all(site: Site, suite: Suite, clock: Clock, journal: SiteJournal, folder: Path) -> list[Batch]:
    """Open the record of every batch in `folder`.

    Invariant: each is found whole, and each that should be there is there, before any instrument is touched.
    Raises JournalError where that is not so.
    """
    found: list[Batch] = []
    known = journal.records()
    async with AsyncExitStack() as opened:
        for path in await clock.offload(lambda: sorted(folder.glob("*.db"))):
            try:
                batch = await reopen(path, site, suite, clock)
            except JournalBroken as error:
                raise unreadable(path, error) from error
            opened.push_async_callback(batch.journal.close)
            if not over(batch) and (gone := _gone(batch)):
                raise JournalError(
                    f"{path}: its batch is under way, and the site file has no {', no '.join(gone)}: name them as "
                    "before, start again, and change the site file when the batch is over; nothing was touched"
                )
            found.append(batch)
            await batch.beside.look()
            batch.beside.mark = batch.beside.mark or _cut_short(batch, known)
        _one_for_each_unit(found)
        await _all_there(journal, folder, clock)
        taken = {record.event.batch for record in known if isinstance(record.event, ev.BatchTaken)}
        for batch in found:
            if batch.name not in taken and not over(batch):
                await journal.record(ev.BatchTaken(batch.name, batch.plant.name, made_by(batch)))
        opened.pop_all()
    return found


async def reopen(path: Path, site: Site, suite: Suite, clock: Clock) -> Batch:
    """Open the record of a batch and fold it; raises JournalError when it is broken, or is not of this site."""
    journal = await Journal.open(path, clock)
    created = journal.records()[0].event
    if not isinstance(created, ev.BatchCreated) or created.unit not in site.units:
        await journal.close()
        raise JournalError(f"{path}: this is no batch of a unit of this site ({', '.join(site.units)})")
    if path.stem != created.batch:
        await journal.close()
        raise JournalError(
            f"{path}: this is a copy of the record of {created.batch}; a record keeps its name: move the copy out of "
            f"{path.parent}"
        )
    try:  # the schema only: it was checked when it was started, and a later, stricter check does not unseat it
        recipe = validate(parse(created.recipe_text, f"{created.recipe} as frozen in {path.name}"), Recipe, "schema")
    except DocumentError as error:
        await journal.close()
        raise JournalError(f"{path}: this version cannot run the recipe frozen in it:\n{error}") from error
    shared = {role.device for role in site.shared.values()}
    taken = tuple(device for device in created.bindings.values() if device in shared)
    await prepare(recipe, clock)
    return Batch(created.batch, journal, recipe, suite.units[created.unit], clock, created.bindings, taken)


def _gone(batch: Batch) -> list[str]:
    """Return what a batch has, by its record, that the site file does not name any more."""
    known = batch.plant.instruments
    devices = [f"device {name}" for name in dict.fromkeys(batch.equipment.values()) if name not in known]
    places = batch.plant.site.places
    mounted = [each for each in batch.state.ledger if each.mounted and each.place not in places]
    return devices + [f"place {each.place}, where {each.name} is" for each in mounted]


def unreadable(path: Path, error: JournalBroken) -> JournalError:
    """Return how a record that this version cannot read is refused: which version wrote it, and what to do."""
    writer = last_writer(path)
    if not writer or "use the version that wrote it" not in str(error):
        return error
    return JournalError(
        f"{error}. It was written by version {writer}, this is version {__version__}: start version {writer} again, or "
        f"a later one; nothing was touched"
    )


async def put_away(batch: Batch, journal: SiteJournal, suite: Suite, clock: Clock) -> None:
    """Close the record of a batch that is over and move it to `closed`; repeated at boot if it was cut short.

    Whatever the disk does, the unit's instruments are free afterwards.  Raises JournalError.
    """
    try:
        if not batch.state.result:
            await batch.record(ev.BatchEnded("aborted", "it was never started"))
        for intent in batch.state.open_intents():
            if intent.outcome == "":  # Invariant: unknown is said to be unknown; nothing stays open for ever
                why = {"why": "the batch was put away before anything proved what this came to"}
                await batch.record(ev.IntentClosed(intent.number, intent.path, "in_doubt", None, None, why))
        kept = {(r.event.batch, r.event.path) for r in journal.records() if isinstance(r.event, ev.LotAwaited)}
        for lot in awaited(batch):  # Invariant: before the record is closed, so that no pending result is lost with it
            if (lot.batch, lot.path) not in kept:
                await journal.record(lot)
        if not batch.state.closed:
            await batch.record(ev.BatchClosed())
        if not _put_away(journal, batch.name):  # it is closed, and stayed where it is because somebody read it
            await journal.note_head(batch.name, batch.journal)
            await journal.record(ev.BatchPutAway(batch.name, batch.state.result))
    finally:
        await batch.journal.close()
        for device in batch.shared:
            suite.sharing.release(device, batch.name)
        suite.gate.release(batch.name)
    path = batch.journal.path

    def move() -> bool:
        # Invariant: a record is moved whole; while a reader keeps its log beside it, it stays where it is.
        if path.with_name(path.name + "-wal").exists():
            return False
        path.rename(path.parent / "closed" / path.name)
        return True

    if not await clock.offload(move):
        structlog.get_logger("controller").warning(
            "record_not_moved", path=path.name, why="somebody reads it; it is moved at the next start"
        )


def _put_away(journal: SiteJournal, name: str) -> bool:
    return any(isinstance(r.event, ev.BatchPutAway) and r.event.batch == name for r in journal.records())


def _cut_short(batch: Batch, site: Iterable[Record]) -> Mark | None:
    """Return what holds a batch whose record does not hold what the site has noted of it."""
    head, records = noted_heads(site).get(batch.name), batch.journal.records()
    if head is None or (len(records) >= head.seq and records[head.seq - 1].hash == head.hash):
        return None
    text = (
        f"the site has noted event {head.seq} of this record, which it does not hold (it ends at {len(records)}): what "
        f"was done since is not on it; put the whole record back, or look at the plant and its volumes, then restart"
    )
    return Mark(batch.name, "restored", "", text)


def _one_for_each_unit(found: Iterable[Batch]) -> None:
    there: dict[str, Batch] = {}
    for batch in found:
        if over(batch):
            continue
        other = there.setdefault(batch.plant.name, batch)
        if other is not batch:
            raise JournalError(
                f"{batch.journal.path}: {other.name} is under way on {batch.plant.name} as well; look at both (tilctl "
                f"journal show) and move the one that is not on the unit to {batch.journal.path.parent / 'closed'}"
            )


async def _all_there(journal: SiteJournal, folder: Path, clock: Clock) -> None:
    """See that no record of a batch that is under way is gone: nobody would know what hangs on its unit."""
    taken: dict[str, str] = {}
    for record in journal.records():
        match record.event:
            case ev.BatchTaken() as event:
                taken[event.batch] = event.unit
            case ev.BatchPutAway() as event:
                taken.pop(event.batch, None)
            case _:
                pass
    for batch, unit in taken.items():
        here = [folder / f"{batch}.db", folder / "closed" / f"{batch}.db"]
        if await clock.offload(lambda here=here: any(path.exists() for path in here)):
            continue
        lost = folder / f"{batch}{LOST}"
        if not await clock.offload(lost.exists):
            raise JournalError(
                f"{here[0]}: the record of the batch on {unit} is gone; put it back (tilctl journal restore), or, "
                f"where it is lost for good and the unit is cleared, say so by an empty file {lost}"
            )
        await journal.record(ev.BatchPutAway(batch, "lost"))
