"""The target of a temperature loop: what its instrument makes of a stored set point, a remote one, and its settings.

Settings that no command of the profile writes (which set point is chosen, its limits) are registers of the instrument,
as a person at its panel leaves them.
"""

from __future__ import annotations

from simulators.device import Value
from simulators.fittings.workshop import Args, Draft, Place

REMOTE_GOOD, REMOTE_LOST = 0, 1  # what the status of a remote set point reads


class Loop:
    """The set points of one controller; the chamber is told whenever one of them moves."""

    def __init__(self, place: Place, draft: Draft) -> None:
        self._place = place
        self._draft = draft
        self._stored = place.climate.targets["temperature"]
        self._remote: tuple[float, float] | None = None  # the remote set point, and when it came (s)
        self._source = "local"
        draft.values |= {
            "setpoint": lambda: self._stored,
            "target": self.target,
            "setpoint_now": self.target,
            "setpoint_source": lambda: self._source,
            "remote_setpoint": lambda: 0.0 if self._remote is None else self._remote[0],
            "remote_status": lambda: REMOTE_GOOD if self._alive() else REMOTE_LOST,
        }
        draft.handlers |= {
            "set_temperature": self._set_temperature,
            "set_remote": self._set_remote,
            "load_remote": self._set_remote,
            "use_remote": lambda _: self._choose("remote"),
            "use_local": lambda _: self._choose("local"),
        }

    def target(self) -> float:
        """Return what the loop goes for (degC): the chosen set point, within the limits of the instrument."""
        value = self._stored
        if self._reads("setpoint_selected") == "sp2":
            value = self._number("setpoint_2", value)
        if self._reads("setpoint_source") == "remote" and self._remote is not None and self._alive():
            value = self._remote[0]
        return self._within(value)

    def follow(self) -> None:
        """Let the chamber go for the target."""
        with self._place.change() as t:
            self._place.climate.set_temperature(t, self.target())

    def _within(self, value: float) -> float:
        return max(self._number("setpoint_low", value), min(self._number("setpoint_high", value), value))

    def _alive(self) -> bool:
        """Tell whether a remote set point came within its time-out; a time-out of 0 is none."""
        limit = self._number("remote_timeout", 0.0)
        return self._remote is not None and (not limit or self._place.time() < self._remote[1] + limit)

    def _set_temperature(self, args: Args) -> None:
        self._stored = self._within(float(args["value"]))
        self.follow()

    def _set_remote(self, args: Args) -> None:
        t = self._place.time()
        self._remote = (float(args["value"]), t)
        self.follow()
        if limit := self._number("remote_timeout", 0.0):
            self._place.announce(t + limit, self.follow)

    def _choose(self, source: str) -> None:
        self._source = source
        self.follow()

    def _reads(self, point: str) -> Value:
        made = self._draft.made
        return made.reads(point) if made is not None and point in self._draft.profile.points else None

    def _number(self, point: str, otherwise: float) -> float:
        value = self._reads(point)
        return float(value) if isinstance(value, (int, float)) else otherwise
