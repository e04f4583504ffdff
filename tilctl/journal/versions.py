"""Which version of the program wrote a record: for whoever holds one that this version cannot read."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any, cast


def last_writer(path: Path) -> str:
    """Return the newest version that says in a record that it wrote there, "" where none does.  Blocking.

    Looks at the plain JSON, so that it knows events of later versions too; never raises for what the file is.
    """
    found = ""
    with contextlib.suppress(sqlite3.Error, OSError):
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=2.0)) as connection:
            for (text,) in connection.execute("SELECT event FROM events ORDER BY seq"):
                found = _named(str(text)) or found
    return found


def _named(text: str) -> str:
    try:
        event = json.loads(text)
    except ValueError:
        return ""
    if not isinstance(event, dict):
        return ""
    fields = cast("dict[str, Any]", event)
    report = fields.get("report")
    inner = cast("dict[str, Any]", report).get("software") if isinstance(report, dict) else None
    kind = fields.get("kind")
    version = (
        fields.get("software")
        if kind in ("batch_created", "batch_reopened")
        else inner
        if kind == "recovered"
        else None
    )
    if kind in ("site_opened", "boot_started"):
        version = fields.get("version")
    return version if isinstance(version, str) else ""
