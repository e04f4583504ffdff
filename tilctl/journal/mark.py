"""The last-resort mark of a unit: what its batch came to without its record, on a disk that takes no event any more.

`data/unit.<unit>.mark` has its size from the start and is written over in place, so that a full disk takes it.  The
next start that finds it holds the batch.  Best effort: where it cannot be written, nothing is kept waiting for it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

SIZE = 1024  # bytes: within two blocks of any disk
_TEXT = 600  # characters of the text, so that all of it has room


@dataclass(frozen=True, slots=True)
class Mark:
    """What `batch` came to (a state, `held` or graver) at `t`, and in words; not on its record.

    `latched` are the interlocks that tripped meanwhile and were not reset.
    """

    batch: str
    state: str
    t: str
    text: str
    latched: tuple[str, ...] = ()


def mark_path(data: Path, unit: str) -> Path:
    """Return where the mark of a unit is."""
    return data / f"unit.{unit}.mark"


def lay(path: Path) -> None:
    """Give the mark its room on the disk; one that is there keeps what it says.  Raises OSError.  Blocking."""
    there = path.read_bytes() if path.exists() else b""
    if len(there) < SIZE:
        _write(path, os.O_CREAT, there)


def leave(path: Path, mark: Mark) -> None:
    """Write a mark over what was there, through to the medium.  Raises OSError.  Blocking."""
    words = asdict(mark)
    # Less text where every character is escaped, or many are latched; at the worst none.
    for length in (_TEXT, _TEXT // 6, 0):
        data = json.dumps(words | {"text": mark.text[:length]}).encode("ascii")
        if len(data) <= SIZE:
            break
    _write(path, os.O_CREAT, data)


def wipe(path: Path) -> None:
    """Take the mark back: what it said is on record.  Raises OSError.  Blocking."""
    if path.exists():
        _write(path, 0, b"")


def found(path: Path, batch: str) -> Mark | None:
    """Return the mark that stands for a batch, None where none does.  Blocking.

    Invariant: a mark that cannot be read (torn, or the disk) stands: unknown is not false.
    """
    try:
        data = path.read_bytes().strip(b" \0\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        return Mark(batch, "held", "", f"{path.name} cannot be read ({error})")
    if not data:
        return None
    try:
        words = json.loads(data)
        latched = tuple(str(name) for name in words.get("latched", ()))
        whose, state, t, text = (str(words[key]) for key in ("batch", "state", "t", "text"))
        mark = Mark(whose, state, t, text, latched)
    except (ValueError, TypeError, KeyError) as error:
        return Mark(batch, "held", "", f"{path.name} cannot be read ({error!r:.100})")
    return mark if mark.batch == batch else None


def _write(path: Path, flags: int, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | flags, 0o600)
    try:
        os.pwrite(handle, data.ljust(SIZE), 0)
        os.fsync(handle)
    finally:
        os.close(handle)
