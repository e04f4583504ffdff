"""What a condition of the site file may name: tags of roles, the mass at a place, points of instruments.

Each name is read at one point of the process image, `device.point`; what an instrument has is known from its profile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from devices.profile import Profile
from devices.role import BOOL, ROLES, SYMBOL
from recipes import kinds
from recipes.kinds import Type
from recipes.syntax import ExprError
from tilctl.config.site import Place, RoleBinding

_TEXTS = (SYMBOL, "text")


class TagNames:
    """The names that the conditions of one unit, or of the site, may use; a `TypeScope`."""

    def __init__(
        self, profiles: Mapping[str, Profile], roles: Mapping[str, RoleBinding], places: Mapping[str, Place]
    ) -> None:
        """Take the profiles of devices and equipment by name, the roles, and the places that are weighed."""
        self._profiles = profiles
        self._roles = roles
        self._places = places

    def read_at(self, name: str) -> str:
        """Return the `device.point` that a name is read at, "" where there is none."""
        head, _, tag = name.partition(".")
        if head in self._places and tag == "mass":
            place = self._places[head]
            return f"{place.scale_device}.{place.scale_point}" if place.scale_device else ""
        device = self._roles[head].device if head in self._roles else head
        profile = self._profiles.get(device)
        known = profile is not None and (tag in profile.points or tag in profile.bits)
        return f"{device}.{tag}" if known else ""

    def type_of(self, name: str) -> Type | None:
        """Return the type of a name, None where there is no such name."""
        device, _, point = self.read_at(name).partition(".")
        if not device:
            return None
        profile = self._profiles[device]
        if point in profile.bits:
            return kinds.BOOL
        unit = profile.points[point].unit
        if unit == BOOL:
            return kinds.BOOL
        return kinds.TEXT if unit in _TEXTS else kinds.number(unit)

    def reads(self, names: frozenset[str]) -> dict[str, str]:
        """Return `device.point` by name; raises ExprError for a name that there is not."""
        found = {name: self.read_at(name) for name in sorted(names)}
        for name, at in found.items():
            if not at:
                raise ExprError(f"no name '{name}' here", 1, self.hint(), code="name-unknown")
        return found

    def hint(self) -> str:
        """Return some of the names that there are."""
        return f"such as {', '.join(list(self._some())[:6])}"

    def _some(self) -> Iterator[str]:
        for name, binding in self._roles.items():
            yield from (f"{name}.{tag}" for tag in (ROLES[binding.role].tags if binding.role in ROLES else ()))
        yield from (f"{name}.mass" for name, place in self._places.items() if place.scale_device)
        for device, profile in self._profiles.items():
            yield from (f"{device}.{point}" for point in (*profile.points, *profile.bits))
