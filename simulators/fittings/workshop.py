"""What every fitting works with: the plant, the instruments in the making, and readings with noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from devices.equipment.base import Source
from devices.frames import command_address
from devices.profile_types import Profile
from simulators.device import READS_BACK, Getter, Handler, SimDevice, Value
from simulators.instruments import Host
from simulators.physics.fluid import Fluidics
from simulators.physics.freezing import Freezer
from simulators.physics.noise import gauss, stream
from simulators.physics.thermal import Climate

Args = Mapping[str, Any]


class Place(Host, Protocol):
    """What the parts need of the plant."""

    climate: Climate
    fluidics: Fluidics
    freezer: Freezer

    def announce(self, t: float, action: Callable[[], None]) -> None:
        """Have `action` done at plant time `t` (s)."""


@dataclass
class Draft:
    """An instrument in the making: what physics reads and does, and what power does to it.

    `made` is the instrument, once it is there.
    """

    profile: Profile
    values: dict[str, Getter] = field(default_factory=dict[str, Getter])
    handlers: dict[str, Handler] = field(default_factory=dict[str, Handler])
    off: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    on: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    made: SimDevice | None = None

    def register(self, command: str, args: Args) -> int:
        """Return the word that stands where a command of one register writes to; 0 before anybody wrote there."""
        if self.made is None:
            return 0
        writes = self.profile.commands[command]
        return self.made.written.get((READS_BACK[writes.fc], command_address(writes, args)), 0)


class Workshop:
    """The plant and the instruments in the making, by name."""

    def __init__(self, place: Place, profiles: Mapping[str, Profile]) -> None:
        self.place = place
        self.drafts = {name: Draft(profile) for name, profile in profiles.items()}

    def noise(self, name: str, sigma: float) -> Callable[[], float]:
        """Return a source of noise of its own."""
        key = stream(self.place.seed, name)
        return lambda: gauss(key, int(self.place.time()), sigma)

    def reads(self, source: Source | None, get: Callable[[], float | None], sigma: float) -> None:
        """Let a point of a part read a physical value, with noise."""
        if source is None:
            return
        noise = self.noise(str(source), sigma)

        def read() -> Value:
            value = get()
            return None if value is None else value + noise()

        self.drafts[source.part].values[source.point] = read
