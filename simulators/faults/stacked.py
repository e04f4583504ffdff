"""Several faults may want one thing at once: the latest has its way, and the last to go gives back what was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulators.device import Bend, SimDevice

Undo = Callable[[], None]


@dataclass(slots=True)
class _Pile:
    target: object
    before: Any
    wanted: list[tuple[object, Any]] = field(default_factory=list[tuple[object, Any]])


class Stacked:
    """Attributes and points that faults have changed."""

    def __init__(self) -> None:
        self._piles: dict[tuple[int, str], _Pile] = {}
        self._bends: dict[tuple[int, str], list[tuple[object, Bend]]] = {}
        self._held: Counter[tuple[SimDevice, tuple[int, int]]] = Counter()

    def put(self, target: object, name: str, value: Any) -> Undo:
        """Give an attribute a value until the returned function is called."""
        key = (id(target), name)
        pile = self._piles.setdefault(key, _Pile(target, getattr(target, name)))
        token = object()
        pile.wanted.append((token, value))
        _give(target, name, value)

        def undo() -> None:
            pile.wanted[:] = [entry for entry in pile.wanted if entry[0] is not token]
            if not pile.wanted:
                self._piles.pop(key, None)
            _give(target, name, pile.wanted[-1][1] if pile.wanted else pile.before)

        return undo

    def bend(self, device: SimDevice, point: str, bend: Bend) -> Undo:
        """Bend what a point reads until the returned function is called."""
        bends = self._bends.setdefault((id(device), point), [])
        token = object()
        bends.append((token, bend))
        device.bend(point, *(each for _, each in bends))

        def undo() -> None:
            bends[:] = [entry for entry in bends if entry[0] is not token]
            device.bend(point, *(each for _, each in bends))

        return undo

    def hold(
        self, place: tuple[SimDevice, tuple[int, int]], begin: Callable[[], None], end: Callable[[], None]
    ) -> Undo:
        """Do `begin` unless that holds at a place already; the last of the returned functions does `end`."""
        self._held[place] += 1
        if self._held[place] == 1:
            begin()

        def undo() -> None:
            self._held[place] -= 1
            if not self._held[place]:
                del self._held[place]
                end()

        return undo


def _give(target: object, name: str, value: Any) -> None:
    if getattr(target, name) != value:
        setattr(target, name, value)
