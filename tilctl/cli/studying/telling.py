"""How far a study is, on stderr: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

EVERY_S = 15.0


class Progress:
    """Told of each portion that is done."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._console = Console(stderr=True)
        columns = (TextColumn("lots"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=self._console, transient=True) if self._console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task("lots", total=total)
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, lots: int) -> None:
        """Count lots that are done."""
        self._done += lots
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, lots)
        elif time.monotonic() - self._told > EVERY_S:
            self._told = time.monotonic()
            print(f"{self._done} of {self._total} lots", file=sys.stderr, flush=True)
