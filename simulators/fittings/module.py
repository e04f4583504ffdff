"""A simulated I/O module: outputs, what they move, inputs; a host watchdog that opens all outputs and says so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from simulators.fittings.workshop import Args, Draft, Place, Workshop

HOST_LOST_S = 10.0  # s without a request until an I/O module with a host watchdog opens its outputs [P]


class Module:
    """One of them.

    `latches`: what the host watchdog opened stays open, channel by channel, until its safe status is cleared; a write
    to it is acknowledged until then, and does nothing.
    """

    def __init__(self, place: Place, *, guarded: bool, latches: bool) -> None:
        self.outputs: dict[int, bool] = {}
        self.inputs: dict[int, Callable[[], bool]] = {}
        self.safe: set[int] = set()  # channels whose safe status stands
        self._place = place
        self._guarded = guarded
        self._latches = latches
        self._channels: set[int] = set()
        self._watchers: dict[int, list[Callable[[bool], None]]] = {}
        self._heard: float | None = None
        self._guarding = False

    def has(self, channel: int) -> None:
        """Have an output with this number."""
        self._channels.add(channel)

    def watch(self, channel: int, moved: Callable[[bool], None]) -> None:
        """Tell `moved` of each change of an output."""
        self._watchers.setdefault(channel, []).append(moved)

    def input(self, channel: int) -> bool:
        """Return what an input sees."""
        self._place.time()
        read = self.inputs.get(channel)
        return read is not None and read()

    def set_output(self, args: Args) -> None:
        """Switch an output."""
        self._look()
        if int(args["channel"]) not in self.safe:
            self._switch(int(args["channel"]), bool(args["value"]))

    def clear_safe(self, args: Args) -> None:
        """Clear the safe status of an output; it stays open until somebody closes it."""
        self._look()
        self.safe.discard(int(args["channel"]))

    def power_off(self) -> None:
        """Open every output and forget."""
        self.open_all()
        self.safe.clear()
        self._heard = None

    def open_all(self) -> None:
        """Open every output."""
        for channel in [channel for channel, on in self.outputs.items() if on]:
            self._switch(channel, on=False)

    def asked(self) -> None:
        """Take note of a request: the host lives."""
        if not self._guarded:
            return
        self._look()
        self._heard = self._place.time()
        if any(self.outputs.values()) and not self._guarding:
            self._guarding = True
            self._place.announce(self._heard + HOST_LOST_S, self._due)

    def _due(self) -> None:
        """See whether the host was lost, as long as there is something to open."""
        due = (self._heard or 0.0) + HOST_LOST_S
        if any(self.outputs.values()) and self._place.time() < due:
            self._place.announce(due, self._due)
            return
        self._guarding = False
        self._look()

    def _look(self) -> None:
        """Act when the host was silent for too long; one that never spoke is not lost."""
        t = self._place.time()  # first: what is due by now may be this very look
        if not self._guarded or self._heard is None or t < self._heard + HOST_LOST_S:
            return
        self._heard = None
        self.open_all()
        if self._latches:
            self.safe |= self._channels

    def _switch(self, channel: int, on: bool) -> None:
        if self.outputs.get(channel, False) is on:
            return
        self.outputs[channel] = on
        for moved in self._watchers.get(channel, ()):
            moved(on)


class Modules:
    """The I/O modules of a place, each made when it is first asked for."""

    def __init__(self, shop: Workshop) -> None:
        self.made: dict[str, Module] = {}
        self._shop = shop

    def of(self, part: str) -> Module:
        """Return a module."""
        module = self.made.get(part)
        if module is None:
            draft = self._shop.drafts[part]
            guarded, latches = draft.profile.on_comm_loss == "stops", "clear_safe" in draft.profile.commands
            module = self.made[part] = Module(self._shop.place, guarded=guarded, latches=latches)
            _bind(draft, module)
        return module

    def is_on(self, part: str, channel: int) -> bool:
        """Tell whether an output is closed."""
        return self.of(part).outputs.get(channel, False)


def _bind(draft: Draft, module: Module) -> None:
    draft.handlers |= {"set_output": module.set_output, "clear_safe": module.clear_safe}
    for point in draft.profile.points:
        kind, _, number = point.partition("_")
        if not number.isdigit():
            continue
        channel = int(number)
        if kind == "do":
            module.has(channel)
            draft.values[point] = partial(module.outputs.get, channel, False)
        elif kind == "di":
            draft.values[point] = partial(module.input, channel)
        elif kind == "safe":
            draft.values[point] = partial(module.safe.__contains__, channel)
    draft.off.append(module.power_off)
