"""The truth over time, for plots and oracles: culture each hour, the freezing run each ten seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from simulators.physics.fluid import Container

ROWS = 50_000  # 22 days of six vessels each hour are 3,168


@dataclass(frozen=True, slots=True)
class CultureRow:
    """One vessel at one moment: `t` in s, cells, viability in % (feeders gated out), mmol/L, IU/mL, mL, degC."""

    t: float
    name: str
    port: int
    viable: float
    feeders: float
    viability: float | None
    glucose: float
    lactate: float
    il2: float
    volume: float
    temperature: float


class Trace:
    """A bounded record of culture rows."""

    def __init__(self) -> None:
        self.rows: deque[CultureRow] = deque(maxlen=ROWS)

    def record(self, t: float, places: Iterable[tuple[int, Container]]) -> None:
        """Note every vessel or bag of `places` (port, container) in which something lives, or tissue lies."""
        for port, container in places:
            c = container.contents
            if not (c.alive or container.fragments):
                continue
            viability = c.viability
            self.rows.append(
                CultureRow(
                    t,
                    container.name,
                    port,
                    c.viable,
                    c.feeders,
                    None if viability is None else 100.0 * viability,
                    c.concentration("glucose"),
                    c.concentration("lactate"),
                    c.concentration("il2"),
                    c.volume,
                    c.temperature,
                )
            )
