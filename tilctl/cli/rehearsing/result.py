"""What one rehearsal came to, in a form that passes between processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """What must not grow, once a simulated day: memory (MB), tasks, open descriptors, bytes of the status message."""

    day: float
    rss_mb: float
    tasks: int
    descriptors: int
    status_bytes: int


@dataclass
class Result:
    """One rehearsal; times in s, `simulated_s` of virtual time; `head` is the last hash of the batch's record.

    `not_applicable` faults were scheduled and have no meaning here (there is no broker); `mended` counts the records
    that a person opened again in place after the disk had failed.
    """

    seed: int
    outcome: str
    violations: list[dict[str, Any]]
    faults: dict[str, int]
    kills: int
    held_s: float
    touches: int
    commanded: int
    doubled: int
    in_doubt: int
    simulated_s: float
    wall_s: float
    events: int
    head: str
    sockets: bool
    samples: list[Sample] = field(default_factory=list[Sample])
    peak_rss_mb: float = 0.0
    not_applicable: int = 0
    mended: int = 0
    alarms: dict[str, int] = field(default_factory=dict[str, int])  # `priority alarm` -> how often it was raised

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return asdict(self)
