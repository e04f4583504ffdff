"""What a bus counts, and how long the replies of its units take: for metrics, and for their time-outs."""

from __future__ import annotations

from dataclasses import dataclass, field

LATENCY_BOUNDS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Upper bounds of the latency buckets; one more bucket counts what took longer."""
WINDOW = 256
ENOUGH = 100
"""Replies that make a 99th percentile; it is taken of the last WINDOW, and anew after every _EVERY."""
_EVERY = 32


@dataclass(slots=True)
class BusStatistics:
    """Plain counters since the bus was opened; `latency` counts replies by `LATENCY_BOUNDS_S`."""

    requests: int = 0
    replies: int = 0
    exceptions: int = 0
    timeouts: int = 0
    mismatches: int = 0
    refused: int = 0
    connects: int = 0
    connect_failures: int = 0
    losses: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))


class UnitLatency:
    """Latencies of one unit. Bounded: a histogram since the start, and a ring."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
        """Replies by `LATENCY_BOUNDS_S`."""
        self.total_s = 0.0
        """Sum of all latencies (s)."""
        self.count = 0
        """Replies measured."""
        self.p99: float | None = None
        """Latency (s) that 99 % of the last replies stayed within; None before there were enough."""
        self._ring: list[float] = []

    def add(self, seconds: float, bucket: int) -> None:
        """Count a reply; `bucket` is its place in the histogram."""
        self.buckets[bucket] += 1
        self.total_s += seconds
        if len(self._ring) < WINDOW:
            self._ring.append(seconds)
        else:
            self._ring[self.count % WINDOW] = seconds
        self.count += 1
        if self.count >= ENOUGH and (self.count % _EVERY == 0 or self.p99 is None):
            self.p99 = sorted(self._ring)[max(0, -(-99 * len(self._ring) // 100) - 1)]
