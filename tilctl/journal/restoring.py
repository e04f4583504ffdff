"""The mark of a restore that is under way, or was cut short: no controller starts on half of a backup."""

from __future__ import annotations

from pathlib import Path

UNDER_WAY = "restore-under-way"
"""A folder in the data folder, from before the first record is touched until the last is in its place."""


def unfinished(data: Path) -> str:
    """Return why the records below `data` must not be used, "" where they may: a restore was cut short."""
    if not (data / UNDER_WAY).exists():
        return ""
    return f"{data}: a restore was cut short: run `tilctl journal restore` again with the same backup and --replace"
