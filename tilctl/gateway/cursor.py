"""The small file that remembers how far events were delivered, for the next process; a lost one costs repetitions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

Cursor = Mapping[tuple[str, str], int]
"""(unit, batch) -> the last event that the broker has."""

_log = structlog.get_logger("mqtt")


class CursorFile:
    """Blocking; for a thread that may wait for a disk."""

    def __init__(self, path: Path | None) -> None:
        """Keep nothing where `path` is None."""
        self._path = path
        self._written = ""
        self._failing = False

    def write(self, cursor: Cursor) -> None:
        """Write it down where it has changed; what fails is logged once, and tried again with the next change."""
        text = json.dumps({"streams": [[*key, seq] for key, seq in cursor.items()]})
        if self._path is None or text == self._written:
            return
        try:
            beside = self._path.with_suffix(".new")
            beside.write_text(text, encoding="utf-8")
            beside.replace(self._path)
        except OSError as error:
            if not self._failing:
                _log.warning("cannot note how far events were delivered; they may come twice", why=str(error))
            self._failing = True
        else:
            self._written, self._failing = text, False


def read_cursor(path: Path) -> dict[tuple[str, str], int]:
    """Return how far an earlier process delivered each (unit, batch); {} where nothing usable is written."""
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        listed = data.get("streams") or [[unit, *stream] for unit, stream in data.items() if unit != "streams"]
        return {(str(unit), str(batch)): int(seq) for unit, batch, seq in listed}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
