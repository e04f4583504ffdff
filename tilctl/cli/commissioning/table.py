"""`tilctl device probe`: every point of an instrument as it reads now, with its raw words, quality, age and latency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from devices.instrument import DeviceError, Instrument
from devices.profile_types import Block
from devices.reading import Quality, Reading
from tilctl.cli.commissioning.looking import where_of
from tilctl.cli.commissioning.reach import Reach
from tilctl.cli.plain import one_line

COLOURS = {Quality.GOOD: "green", Quality.UNCERTAIN: "yellow", Quality.STALE: "yellow", Quality.BAD: "red"}


@dataclass(frozen=True, slots=True)
class Row:
    """One point: raw words in hex ("" where none came), the reading, its age and the latency of its block (s)."""

    point: str
    block: str
    raw: str
    reading: Reading | None
    age_s: float | None
    latency_s: float | None
    trouble: str = ""

    @property
    def bad(self) -> bool:
        """Return whether it has no value."""
        return bool(self.trouble) or self.reading is None or self.reading.quality is Quality.BAD

    def as_json(self) -> dict[str, Any]:
        """Return it for machines; unknown is null."""
        reading = self.reading
        return {
            "point": self.point, "block": self.block, "raw": self.raw.split(),
            "value": reading.value if reading else None, "unit": reading.unit if reading else None,
            "quality": str(reading.quality) if reading else str(Quality.BAD),
            "age_s": _rounded(self.age_s, 1.0), "latency_ms": _rounded(self.latency_s, 1000.0),
            "trouble": self.trouble,
        }  # fmt: skip


class Probe:
    """Looks at one instrument again and again; what was read last is shown until it is read again, and ages."""

    def __init__(self, there: Reach, name: str) -> None:
        """Prepare; nothing is sent yet."""
        self._there = there
        self._instrument: Instrument = there.instrument(name)
        self._last: dict[str, Reading] = {}

    async def look(self) -> list[Row]:
        """Read every block once and return a row for each point and named bit."""
        rows: list[Row] = []
        for block in self._instrument.profile.blocks.values():
            trouble = ""
            try:
                self._last |= await self._instrument.read(block.id)
            except DeviceError as error:
                trouble = one_line(error)
            rows += self._rows(block, trouble)
        return rows

    def _rows(self, block: Block, trouble: str) -> list[Row]:
        heard = self._there.heard_of(self._instrument.name)
        where = where_of(self._there, self._instrument, block.id)
        words, took = heard.words.get(where), heard.took.get(where)
        rows: list[Row] = []
        for point in block.points:
            first = point.addr - block.addr
            raw = "" if words is None or trouble else " ".join(f"{w:04X}" for w in words[first : first + point.words])
            rows.append(self._row(point.name, block.id, raw, None if trouble else took, point.stale_ms, trouble))
            rows += [self._row(bit, block.id, "", None, point.stale_ms, trouble) for bit in point.bits.values()]
        return rows

    def _row(self, name: str, block: str, raw: str, took: float | None, stale_ms: int, trouble: str) -> Row:
        reading, now = self._last.get(name), self._there.clock.monotonic()
        if reading is None:
            return Row(name, block, raw, None, None, took, trouble)
        return Row(name, block, raw, reading.aged(now, stale_ms / 1000), max(0.0, now - reading.at), took, trouble)


def drawn(name: str, title: str, rows: list[Row]) -> Table:
    """Return the rows as a table for a terminal."""
    table = Table(title=f"{name}: {title}", title_justify="left", box=None, pad_edge=False)
    for column in ("point", "block", "raw words"):
        table.add_column(column, no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("quality", no_wrap=True)
    table.add_column("age s", justify="right", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    for row in rows:
        quality = row.reading.quality if row.reading else Quality.BAD
        table.add_row(
            row.point, row.block, row.raw, _shown(row.reading), row.reading.unit if row.reading else "",
            f"[{COLOURS[quality]}]{quality}[/]", _number(row.age_s, 1.0), _number(row.latency_s, 1000.0),
        )  # fmt: skip
    troubles = dict.fromkeys(row.trouble for row in rows if row.trouble)
    if troubles:
        table.caption, table.caption_justify = Text("\n".join(troubles), style="red"), "left"
    return table


def _shown(reading: Reading | None) -> str:
    if reading is None or reading.value is None:
        return "none"
    value = reading.value
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else one_line(value)


def _number(value: float | None, times: float) -> str:
    return "" if value is None else f"{value * times:.1f}"


def _rounded(value: float | None, times: float) -> float | None:
    return None if value is None else round(value * times, 3)
