"""How far long work is: one line on standard error, at a terminal each time, else now and then."""

from __future__ import annotations

import sys
import time

EVERY_S = 15.0  # s between lines where there is no terminal


class HowFar:
    """Told what is done of how many; says how long it will still take."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._began = time.monotonic()
        self._told = self._began
        self._terminal = self._stream.isatty()

    def tell(self, done: int, total: int, text: str) -> None:
        """Show `text` and the time that is left, by the time that it took so far."""
        now = time.monotonic()
        if not self._terminal and now - self._told < EVERY_S and done < total:
            return
        self._told = now
        left = (now - self._began) / done * (total - done)
        line = f"{text}, {int(left // 60)}:{int(left % 60):02d} left"
        print(
            f"\r\x1b[K{line}" if self._terminal else line,
            end="" if self._terminal else "\n",
            file=self._stream,
            flush=True,
        )

    def close(self) -> None:
        """End the line."""
        if self._terminal:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
