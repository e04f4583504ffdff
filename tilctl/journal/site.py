"""The journal of the site: what is not of one batch (boots, heads of the batches, configurations, idle alarms)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Self

from devices.clock import Clock
from tilctl.journal.chain import Record
from tilctl.journal.events import BatchHead, BootStarted, SiteOpened
from tilctl.journal.restoring import unfinished
from tilctl.journal.store import Journal, JournalError


class WrongSiteError(JournalError):
    """The file is a journal, but not that of this site and node."""


class SiteJournal(Journal):
    """site.db: a journal whose first event names the site."""

    @classmethod
    async def start(
        cls,
        path: Path,
        clock: Clock,
        site: SiteOpened,
        boot: str,
        opened: Callable[[Self], Awaitable[tuple[str, str]]] | None = None,
    ) -> Self:
        """Open the site's journal, or make it with the event `site` at the first start, and record this boot.

        The boot's event carries the last sign of life of the boot before. The first one of this boot is for the caller
        to write (`beat`), once it is in control again: a boot that dies while it recovers shortens no outage.
        `opened` is called before the boot is on record, and returns `machine` and `zero` of `BootStarted`.
        Raises WrongSiteError, JournalError after a restore that was cut short, and what `Journal.open` and
        `Journal.create` raise.
        """
        if why := await clock.offload(lambda: unfinished(path.parent)):
            raise JournalError(why)
        known = await clock.offload(path.exists)
        journal = await (cls.open(path, clock) if known else cls.create(path, clock, site))
        first = journal.records()[0].event
        if not isinstance(first, SiteOpened) or (first.site, first.node) != (site.site, site.node):
            await journal.close()
            owner = f"site {first.site}, node {first.node}" if isinstance(first, SiteOpened) else "a batch"
            raise WrongSiteError(f"{path}: this is the journal of {owner}, not of site {site.site}, node {site.node}")
        machine = ("", "") if opened is None else await opened(journal)
        await journal.record(BootStarted(boot, site.version, journal.last_beat(), *machine))
        return journal

    async def note_head(self, batch: str, journal: Journal) -> Record:
        """Copy the head of a batch's journal into this one, so that a batch file cut short is found."""
        return await self.record(BatchHead(batch, *journal.head))


def noted_heads(records: Iterable[Record]) -> dict[str, BatchHead]:
    """Return the last noted head of each batch, for `verify(path, head)`."""
    return {record.event.batch: record.event for record in records if isinstance(record.event, BatchHead)}


def boots(records: Iterable[Record]) -> list[tuple[str, BootStarted]]:
    """Return the boots with their times, oldest first."""
    return [(record.t, record.event) for record in records if isinstance(record.event, BootStarted)]
