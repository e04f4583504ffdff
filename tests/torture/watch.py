"""Looks into the record of the batch while somebody else writes it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any


class Watch:
    """Follows the events of a batch's file, from outside."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "data" / "batches"
        self._path: Path | None = None
        self._connection: sqlite3.Connection | None = None
        self._seq = 0
        self.state = "idle"
        self.kinds: dict[str, int] = {}
        self.last = ""
        self.warm_since: str | None = None  # `t` of the record when the first temperature was confirmed

    def look(self) -> list[dict[str, Any]]:
        """Return what has come since the last look; nothing while the file is being made, moved or locked."""
        path = max(self._folder.glob("*.db"), default=None)
        if path is not None and path != self._path:  # another one: what was there was cut off at its very start
            self.close()
            self._path, self._seq = path, 0
        if self._connection is None:
            if path is None:
                return []
            self._connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0, isolation_level=None)
        try:
            rows = self._connection.execute("SELECT seq, t, event FROM events WHERE seq > ? ORDER BY seq", (self._seq,))
            found = [(int(seq), str(t), json.loads(text)) for seq, t, text in rows.fetchall()]
        except sqlite3.Error:
            self.close()
            return []
        for seq, t, event in found:
            self._seq = seq
            self.last = event["kind"]
            self.kinds[self.last] = self.kinds.get(self.last, 0) + 1
            if self.last == "target_confirmed" and event["tag"] == "station.temperature":
                self.warm_since = self.warm_since or t
            if self.last == "state_changed" and not event["path"]:
                self.state = event["to_state"]
        return [event for *_, event in found]

    def close(self) -> None:
        """Let go of the file: a record that somebody reads is not moved."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
