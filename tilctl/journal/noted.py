"""What the site's record beside a batch has noted of it: the one thing that shows events missing at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tilctl.journal.chain import Record
from tilctl.journal.events import BatchCreated
from tilctl.journal.site import noted_heads
from tilctl.journal.verify import read


@dataclass(frozen=True, slots=True)
class Noted:
    """The last head that `site` has noted of a batch; `why` says what does not fit, "" where it does."""

    site: Path
    seq: int
    why: str


def noted_beside(path: Path, records: Sequence[Record]) -> Noted | None:
    """Hold the record of a batch against the site.db in a folder above it.

    None where there is none, where it has noted nothing of this batch, or where it cannot be read itself: then it
    proves nothing about the batch.  Blocking.
    """
    created = records[0].event if records else None
    if not isinstance(created, BatchCreated):
        return None
    for folder in list(path.absolute().parents)[:3]:
        site = folder / "site.db"
        if site.is_file():
            return _held(site, created.batch, records)
    return None


def _held(site: Path, batch: str, records: Sequence[Record]) -> Noted | None:
    found, verdict = read(site)
    head = noted_heads(found).get(batch)
    if head is None or not verdict.ok:
        return None
    if len(records) >= head.seq and records[head.seq - 1].hash == head.hash:
        return Noted(site, head.seq, "")
    why = f"{site} has noted event {head.seq} of it, which it does not hold: it was cut short or rewritten after that"
    return Noted(site, head.seq, why)
