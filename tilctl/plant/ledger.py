"""Containers and the volume ledger: every vessel, bag and line is an account, every movement a double entry.

What comes from outside or leaves has a counter account, so that the sum over all of them is 0 at any moment: nothing
comes from nowhere.  Pure: changed only by entries, so that it can be folded from the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

SAMPLES = "samples"
SUPPLY = "supply"  # where mounted containers got what they hold; below 0
EVAPORATED = "evaporated"
CORRECTIONS = "corrections"  # what people have corrected, by its counter sign
AWAY = "away"  # what containers held that were taken and whose name was mounted anew
MEDIUM_DENSITY = 1.005  # g/mL; culture medium, general knowledge, unverified
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Container:
    """A vessel or bag as the ledger sees it: volumes in mL, mass in g, density in g/mL, `evaporates` in mL/d."""

    name: str
    place: str
    vessel_class: str
    volume_ml: float
    mounted_ml: float
    mass_g: float | None
    scan: str
    density: float = MEDIUM_DENSITY
    mounted: bool = True
    evaporates: float = 0.0

    @property
    def family(self) -> str:
        """The name without an index: `pre` of `pre[2]`."""
        return self.name.partition("[")[0]

    @property
    def index(self) -> int:
        """The index, counted from 1; 1 for a container that stands alone."""
        inside = self.name.partition("[")[2].rstrip("]")
        return int(inside) if inside else 1

    def expected_g(self, density: float) -> float | None:
        """Return what it should weigh (g, gross) with a content of this density; None where it never was weighed."""
        return None if self.mass_g is None else self.mass_g + (self.volume_ml - self.mounted_ml) * density


def line_account(line: str) -> str:
    """Return the name of a line's account: what it has swallowed and keeps."""
    return f"line {line}"


class Ledger:
    """The accounts."""

    def __init__(self) -> None:
        self._accounts: dict[str, Container] = {}
        self._others: dict[str, float] = {}
        self._evaporated_to: float | None = None  # s since 1970

    @property
    def others(self) -> Mapping[str, float]:
        """Return the accounts that are no containers, in mL: lines, and the counter accounts."""
        return MappingProxyType(self._others)

    def total(self) -> float:
        """Return the sum over all accounts (mL): 0, but for rounding."""
        return sum(account.volume_ml for account in self._accounts.values()) + sum(self._others.values())

    def mounted(
        self,
        name: str,
        place: str,
        vessel_class: str,
        volume_ml: float,
        mass_g: float | None,
        scan: str,
        evaporates: float = 0.0,
    ) -> None:
        """Open an account for what was put in a place; `evaporates` in mL/d."""
        if (before := self._accounts.get(name)) is not None:
            self._book(AWAY, before.volume_ml)
        self._book(SUPPLY, -volume_ml)
        self._accounts[name] = Container(
            name, place, vessel_class, volume_ml, volume_ml, mass_g, scan, evaporates=evaporates
        )

    def weighed(self, name: str, change_g: float) -> None:
        """Expect so much more mass of a container from now on; its volume stays what was moved."""
        account = self._accounts.get(name)
        if account is not None and account.mass_g is not None:
            self._accounts[name] = replace(account, mass_g=account.mass_g + change_g)

    def unmounted(self, name: str) -> None:
        """Mark a container as taken away; its account stays for the record."""
        if name in self._accounts:
            self._accounts[name] = replace(self._accounts[name], mounted=False)

    def moved(self, source: str, destination: str, volume_ml: float, line: str = "", kept_ml: float = 0.0) -> None:
        """Enter a movement: `volume_ml` into one account, that and what the line kept out of the other.

        `kept_ml` below 0 is what the line gave back.  Samples leave into an account of their own.
        """
        self._accounts.setdefault(SAMPLES, Container(SAMPLES, "", "sample", 0.0, 0.0, None, "", mounted=False))
        self._add(source, -volume_ml - kept_ml)
        self._add(destination, volume_ml)
        if kept_ml:
            self._book(line_account(line), kept_ml)

    def corrected(self, name: str, change_ml: float, *, from_mounting: bool) -> None:
        """Enter a signed correction; `from_mounting`: it held that from the first, by its mass."""
        account = self._accounts.get(name)
        if account is None:
            return
        mounted = account.mounted_ml + (change_ml if from_mounting else 0.0)
        self._accounts[name] = replace(account, volume_ml=account.volume_ml + change_ml, mounted_ml=mounted)
        self._book(CORRECTIONS, -change_ml)

    def evaporate(self, to_s: float) -> None:
        """Take off what has evaporated up to a moment (s since 1970) from what is mounted and declared to."""
        since, self._evaporated_to = self._evaporated_to, to_s
        if since is None or to_s <= since:
            self._evaporated_to = to_s if since is None else since
            return
        for account in list(self._accounts.values()):
            if account.evaporates and account.mounted:
                gone = min(account.evaporates * (to_s - since) / DAY_S, max(account.volume_ml, 0.0))
                self._add(account.name, -gone)
                self._book(EVAPORATED, gone)

    def kept_by(self, line: str) -> float:
        """Return what a line holds (mL)."""
        return self._others.get(line_account(line), 0.0)

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

    def _add(self, name: str, change_ml: float) -> None:
        account = self._accounts[name]
        self._accounts[name] = replace(account, volume_ml=account.volume_ml + change_ml)

    def _book(self, name: str, change_ml: float) -> None:
        self._others[name] = self._others.get(name, 0.0) + change_ml
