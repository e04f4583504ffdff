"""Shared equipment: granted in the order of asking, never stolen, kept until it is given back."""

from __future__ import annotations

import asyncio
from collections import deque

from tilctl.plant.outputs import OutputGate


class Sharing:
    """Who has which shared device, and who waits for it."""

    def __init__(self, gate: OutputGate) -> None:
        self._gate = gate
        self._owner: dict[str, str] = {}
        self._queue: dict[str, deque[tuple[str, asyncio.Future[None]]]] = {}

    def owner(self, device: str) -> str | None:
        """Return which batch has a device."""
        return self._owner.get(device)

    async def acquire(self, device: str, owner: str) -> None:
        """Wait until `owner` has the device; returns at once when it has it already (after a hold or a restart)."""
        if self._owner.get(device) == owner:
            return
        if device not in self._owner:
            self._grant(device, owner)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (owner, granted)
        queue = self._queue.setdefault(device, deque())
        queue.append(entry)
        try:
            await granted
        except asyncio.CancelledError:
            if entry in queue:
                queue.remove(entry)
            elif self._owner.get(device) == owner:
                self.release(device, owner)
            raise

    def restore(self, device: str, owner: str) -> None:
        """Give a device back to the batch that had it before the controller was down."""
        self._grant(device, owner)

    def release(self, device: str, owner: str) -> None:
        """Give a device back; the next in the queue has it at once."""
        if self._owner.get(device) != owner:
            return
        del self._owner[device]
        self._gate.release_device(owner, device)
        queue = self._queue.get(device)
        while queue:
            next_owner, granted = queue.popleft()
            if not granted.done():
                self._grant(device, next_owner)
                granted.set_result(None)
                return

    def _grant(self, device: str, owner: str) -> None:
        self._gate.claim(owner, (device,))
        self._owner[device] = owner
