"""The format of the trends: packed blocks of about a minute, readable without this program.

A block is one row of the table `blocks`: `t0` and `t1` (first and last sample, UNIX seconds UTC), `samples` (n),
`columns` (JSON list of [tag, type], type "f" for 4-byte, "d" for 8-byte floats) and `data`, zlib over: n times as
8-byte floats, then for each column n values and then n quality bytes; all little-endian.  Quality 0 good,
1 uncertain, 2 stale, 3 bad (no value), 255 not sampled.  A block's hash is SHA-256 over `columns`, a line feed, `data`.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from devices.reading import Quality, Value

QUALITIES = (Quality.GOOD, Quality.UNCERTAIN, Quality.STALE, Quality.BAD)
ABSENT = 255
_CODES = {quality: code for code, quality in enumerate(QUALITIES)}
_BAD = _CODES[Quality.BAD]
_LEVEL = 6  # of zlib: about 0.4 ms for 60 tags and 60 samples


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one tag; None where there was no trustworthy number (quality bad)."""

    t: float
    value: float | None
    quality: Quality


@dataclass(frozen=True, slots=True)
class Block:
    """A packed block, as it is stored."""

    t0: float
    t1: float
    samples: int
    columns: str
    data: bytes

    def sha256(self) -> bytes:
        """Return the hash of the content (32 bytes)."""
        return hashlib.sha256(self.columns.encode() + b"\n" + self.data).digest()


@dataclass(slots=True)
class _Column:
    """One tag; rows after the last that it has a value for are not there yet."""

    values: list[float] = field(default_factory=list[float])
    qualities: bytearray = field(default_factory=bytearray)

    def reach(self, rows: int) -> None:
        """Fill up to so many rows with "not sampled"."""
        if (short := rows - len(self.values)) > 0:
            self.values += [math.nan] * short
            self.qualities += bytes((ABSENT,)) * short


class OpenBlock:
    """A block in the making."""

    def __init__(self) -> None:
        """Start empty."""
        self._times: list[float] = []
        self._columns: dict[str, _Column] = {}

    @property
    def times(self) -> list[float]:
        """The times of the samples so far, in order of arrival."""
        return self._times

    def add(self, t: float, values: Mapping[str, Value], quality: Mapping[str, Quality]) -> None:
        """Add one sample of some tags: numbers and yes/no (1, 0); symbols are not trended.

        What comes for one moment in several calls is one sample, so that their order does not matter.
        A value that is None or not finite is bad; a quality that is not given is good.
        """
        times = self._times
        if not times or times[-1] != t:
            times.append(t)
        row = len(times) - 1
        columns = self._columns
        for tag, value in values.items():
            if isinstance(value, str):
                continue
            column = columns.get(tag)
            if column is None:
                column = columns[tag] = _Column()
            if value is None or not math.isfinite(value):
                number, code = math.nan, _BAD
            else:
                number, code = float(value), _CODES[quality.get(tag, Quality.GOOD)]
            if len(column.values) > row:  # read twice in one moment: the later reading counts
                column.values[row], column.qualities[row] = number, code
                continue
            if len(column.values) < row:
                column.reach(row)
            column.values.append(number)
            column.qualities.append(code)

    def pack(self) -> Block:
        """Return the packed block: same samples, same bytes."""
        count = len(self._times)
        parts = [struct.pack(f"<{count}d", *self._times)]
        columns: list[list[str]] = []
        for tag in sorted(self._columns):
            column = self._columns[tag]
            column.reach(count)
            kind = _narrowest(column.values)
            columns.append([tag, kind])
            parts += (struct.pack(f"<{count}{kind}", *column.values), bytes(column.qualities))
        text = json.dumps(columns, separators=(",", ":"), ensure_ascii=False)
        return Block(min(self._times), max(self._times), count, text, zlib.compress(b"".join(parts), _LEVEL))


def _narrowest(values: list[float]) -> str:
    """Return "f" where 4 bytes hold every value exactly (as of most instruments), else "d"."""
    count = len(values)
    try:
        packed = struct.pack(f"<{count}f", *values)
    except OverflowError:
        return "d"
    again = struct.pack(f"<{count}d", *struct.unpack(f"<{count}f", packed))  # every NaN here has the same bits
    return "f" if again == struct.pack(f"<{count}d", *values) else "d"


def unpack(block: Block, tags: Iterable[str] | None = None) -> dict[str, list[Sample]]:
    """Return the samples of a block, of all tags or of those given; raises ValueError for damaged content."""
    wanted = None if tags is None else set(tags)
    try:
        raw = zlib.decompress(block.data)
        columns: list[list[str]] = json.loads(block.columns)
        count = block.samples
        times = struct.unpack_from(f"<{count}d", raw)
        offset = 8 * count
        found: dict[str, list[Sample]] = {}
        for tag, kind in columns:
            if wanted is None or tag in wanted:
                values = struct.unpack_from(f"<{count}{kind}", raw, offset)
                codes = raw[offset + struct.calcsize(kind) * count :][:count]
                found[tag] = [
                    Sample(t, None if math.isnan(value) else value, QUALITIES[code])
                    for t, value, code in zip(times, values, codes, strict=True)
                    if code != ABSENT
                ]
            offset += (struct.calcsize(kind) + 1) * count
    except (zlib.error, struct.error, IndexError) as error:
        raise ValueError(f"the trend block of {block.t0} is damaged ({error})") from error
    return found
