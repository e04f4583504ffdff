"""Telling those who look on: whoever breaks over it keeps nobody else from being told, and harms no control."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVarTuple

import structlog

Ts = TypeVarTuple("Ts")


class Teller:
    """Calls back; what breaks is counted in `faults`, and logged once for each kind."""

    def __init__(self) -> None:
        self.faults = 0
        self._told: set[tuple[str, type[Exception]]] = set()
        self._log = structlog.get_logger("telling")

    def __call__(self, callbacks: Iterable[Callable[[*Ts], None]], *args: *Ts) -> None:
        """Call each with `args`.  Invariant: never raises; the outside never steers."""
        for callback in callbacks:
            try:
                callback(*args)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next one is told
                self.faults += 1
                known = (repr(callback), type(error))
                if known not in self._told:
                    self._told.add(known)
                    self._log.exception("callback_failed", callback=repr(callback))
