"""Containers and the volume ledger: every vessel and bag is an account, every movement a double entry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

SAMPLES = "samples"
MEDIUM_DENSITY = 1.005  # g/mL; culture medium, general knowledge, unverified


@dataclass(frozen=True, slots=True)
class Container:
    """A vessel or bag as the ledger sees it: volumes in mL, mass in g, density in g/mL."""

    name: str
    place: str
    vessel_class: str
    volume_ml: float
    mounted_ml: float
    mass_g: float | None
    scan: str
    density: float = MEDIUM_DENSITY
    mounted: bool = True

    @property
    def family(self) -> str:
        """The name without an index: `pre` of `pre[2]`."""
        return self.name.partition("[")[0]

    @property
    def index(self) -> int:
        """The index, counted from 1; 1 for a container that stands alone."""
        inside = self.name.partition("[")[2].rstrip("]")
        return int(inside) if inside else 1


class Ledger:
    """The accounts.  Pure: changed only by entries, so that it can be folded from the record."""

    def __init__(self) -> None:
        self._accounts: dict[str, Container] = {}

    def mounted(
        self, name: str, place: str, vessel_class: str, volume_ml: float, mass_g: float | None, scan: str
    ) -> None:
        """Open an account for what was put in a place."""
        self._accounts[name] = Container(name, place, vessel_class, volume_ml, volume_ml, mass_g, scan)

    def weighed(self, name: str, change_g: float) -> None:
        """Expect so much more mass of a container from now on; its volume stays what was moved."""
        account = self._accounts.get(name)
        if account is not None and account.mass_g is not None:
            self._accounts[name] = replace(account, mass_g=account.mass_g + change_g)

    def unmounted(self, name: str) -> None:
        """Mark a container as taken away; its account stays for the record."""
        if name in self._accounts:
            self._accounts[name] = replace(self._accounts[name], mounted=False)

    def moved(self, source: str, destination: str, volume_ml: float) -> None:
        """Enter a movement: out of one account, into the other; samples leave into an account of their own."""
        self._accounts.setdefault(SAMPLES, Container(SAMPLES, "", "sample", 0.0, 0.0, None, "", mounted=False))
        for name, change in ((source, -volume_ml), (destination, volume_ml)):
            account = self._accounts[name]
            self._accounts[name] = replace(account, volume_ml=account.volume_ml + change)

    def get(self, name: str) -> Container | None:
        """Return a container by name, also by the bare name of a family of one."""
        found = self._accounts.get(name)
        return found if found is not None else self._accounts.get(f"{name}[1]")

    def family(self, name: str) -> list[Container]:
        """Return the mounted containers of a family, in order of index."""
        members = [c for c in self._accounts.values() if c.mounted and name in (c.family, c.name)]
        return sorted(members, key=lambda c: c.index)

    def at(self, place: str) -> Container | None:
        """Return what is mounted in a place, or None."""
        return next((c for c in self._accounts.values() if c.mounted and c.place == place), None)

    def __iter__(self) -> Iterator[Container]:
        return iter(self._accounts.values())
