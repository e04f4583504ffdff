"""A small file of JSON that outlives the controller: counts of writes, numbers of runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import structlog

from devices.clock import Clock

MOST_ASIDE = 10  # damaged files that are kept for whoever looks into it
MOST_BYTES = 1 << 20  # of the file that is read back


class Kept:
    """One object, in memory and in a file; without a path in memory only."""

    def __init__(self, clock: Clock, path: Path | None = None) -> None:
        """Begin with what `path` holds; a file that cannot be read is set aside, and that is logged."""
        self.data: dict[str, Any] = {}
        self.lost = False
        """There was a file and it could not be read: what it said is not known."""
        self._clock = clock
        self._path = path
        self._log = structlog.get_logger("kept")
        if path is not None and path.exists():
            self._load(path)

    async def save(self) -> None:
        """Write what `data` holds now; returns when it is on disk.  Raises OSError."""
        if self._path is None:
            return
        path, text = self._path, json.dumps(self.data, indent=1, sort_keys=True)
        await self._clock.offload(lambda: _write(path, text))

    def _load(self, path: Path) -> None:
        try:
            if path.stat().st_size <= MOST_BYTES:
                found = json.loads(path.read_text("utf-8"))
                if isinstance(found, dict):
                    self.data = cast("dict[str, Any]", found)
                    return
            why = f"it is no JSON object of at most {MOST_BYTES} bytes"
        except (OSError, ValueError, RecursionError) as error:
            why = str(error)
        names = (path.with_suffix(f".broken{number or ''}") for number in range(MOST_ASIDE))
        aside, self.lost = next((name for name in names if not name.exists()), path.with_suffix(".broken")), True
        self._log.error("kept_file_unreadable", path=str(path), error=why, kept_as=str(aside))
        try:
            path.replace(aside)
        except OSError:
            return


def _write(path: Path, text: str) -> None:
    """Replace the file at once; a power cut leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
