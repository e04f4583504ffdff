"""Alarms over the devices of a unit: one for each class of NE 107, with cause, consequence and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from devices.diagnosis import Ne107
from tilctl.guard.board import Priority, Watch
from tilctl.guard.catalog import Details, blinded_by
from tilctl.guard.health import Health
from tilctl.guard.ne107 import MOST_REASONS, Verdict

LASTS = 30.0
"""s that a device has to be of a class: one reply that got lost is no alarm (engineering default)."""


@dataclass(frozen=True, slots=True)
class _Kind:
    id: str
    status: Ne107
    priority: Priority
    text: str
    cause: str
    consequence: str
    action: str
    allowed: str

    @property
    def help(self) -> dict[str, str]:
        told = {"cause": self.cause, "consequence": self.consequence, "action": self.action}
        return told | {"allowed": self.allowed}


_KINDS = (
    _Kind(
        "failure", Ne107.FAILURE, "high", "has failed",
        "it does not answer, or what it says means nothing",
        "what needs it waits, and nothing guards by it",
        "see the reasons (tilctl batch status), mend or exchange it", "1 h",
    ),
    _Kind(
        "function-check", Ne107.FUNCTION_CHECK, "low", "is under check",
        "somebody is at it, or it warms up",
        "its readings are uncertain, and it may not do what it is told",
        "let it finish, or set it back to automatic", "the work at it",
    ),
    _Kind(
        "out-of-specification", Ne107.OUT_OF_SPECIFICATION, "medium", "is out of specification",
        "beyond what it is made for, or its calibration holds no more",
        "its readings are uncertain; conditions go on with them",
        "bring it back within its limits, or calibrate it", "8 h",
    ),
    _Kind(
        "maintenance", Ne107.MAINTENANCE, "low", "wants maintenance",
        "wear, or a date that comes near",
        "its readings are good, but will not stay so",
        "plan it for the time after this batch", "next visit",
    ),
)  # fmt: skip


def device_watches(health: Health, devices: Iterable[str], seen: Callable[[str], Iterable[str]]) -> list[Watch]:
    """Return the watches over these devices; `seen` tells which points of a device the unit uses.

    A device may be of several classes at once: each has its own alarm, so that a lost connection ends no other.
    """
    return [_watch(health, device, tuple(seen(device)), kind) for device in dict.fromkeys(devices) for kind in _KINDS]


def _watch(health: Health, device: str, points: tuple[str, ...], kind: _Kind) -> Watch:
    judged: Verdict | None = None
    holds: bool | None = None

    def condition() -> bool | None:
        nonlocal judged, holds
        verdict = health.verdict(device)
        if verdict is not judged:
            judged = verdict
            mine = any(not reason.alarmed for reason in verdict.about(points).of(kind.status))
            # Unknown is not false; and where something is known to be wrong already, that is what is told.
            holds = None if verdict.status is Ne107.UNKNOWN else mine
        return holds

    def operands() -> dict[str, Any]:
        reasons = health.verdict(device).about(points).of(kind.status)
        return {f"reason {i}": reason.text for i, reason in enumerate(reasons[:MOST_REASONS], 1)}

    return Watch(
        id=f"device-{device}-{kind.id}", text=f"{device} {kind.text}", priority=kind.priority, then="alarm",
        for_s=LASTS, condition=condition, operands=operands, devices=frozenset({device}),
        details=Details(group=blinded_by(device) if kind.status is Ne107.FAILURE else "", help=kind.help),
    )  # fmt: skip
