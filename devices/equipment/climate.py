"""A bioreactor of parts: a temperature programmer, a CO2 probe, and a gas mixer of two mass-flow controllers.

The targets live in the parts: the set point in the programmer's memory, the mixture in the set points of the
controllers.  So the cells stay warm and gassed when this program dies.  The mixture is open loop: what the probe reads
is shown and guarded, not regulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from devices.equipment.base import Act, Equipment, Parts, Source
from devices.equipment.probes import Disagreement, TwoProbes
from devices.instrument import Args, CommandRefused, NotApplied, Priority, ReadFailed
from devices.reading import Quality, Reading, bad
from devices.role import BOOL

MOST_CO2 = 20.0  # %, the range of a GMP251
_USABLE = (Quality.GOOD, Quality.UNCERTAIN)
_AFTER_CUT = "see why it was cut off, then set the temperature again"
_LIMITS = ("setpoint_low", "setpoint_high")


@dataclass(frozen=True, slots=True)
class Mixer:
    """Two mass-flow controllers: CO2 and the gas that carries it, together `total` mL/min."""

    co2: str
    carrier: str
    total: float


class Climate(Equipment):
    """The role `bioreactor`."""

    role = "bioreactor"
    ends = "cut_heater"

    def __init__(
        self,
        name: str,
        parts: Parts,
        programmer: str,
        co2: Source,
        mixer: Mixer,
        *,
        second: tuple[Source, Disagreement] | None = None,
        humidity: Source | None = None,
    ) -> None:
        """Build it; `second` is a second temperature probe and when the two disagree."""
        self._programmer = programmer
        self._co2 = co2
        self._mixer = mixer
        self._second = None if second is None else second[0]
        self._probes = None if second is None else TwoProbes(second[1])
        self._humidity = humidity
        cut = parts.instruments[programmer].profile.safe_command
        self.idempotent = {"set_temperature": True, "set_co2": True} | ({"cut_heater": True} if cut else {})
        self._cut = cut
        points = parts.instruments[programmer].profile.points
        # What the loop itself goes for, where it says so: a set point that is stored may not act.
        self._target = Source(programmer, "target" if "target" in points else "setpoint")
        self._limits = [Source(programmer, name) for name in _LIMITS if name in points]
        used = (programmer, co2.part, mixer.co2, mixer.carrier)
        others = tuple(source.part for source in (self._second, humidity) if source is not None)
        super().__init__(name, parts, (*used, *others), "cut_heater" if cut else None)

    def own_points(self) -> Mapping[str, str]:
        """Return whether the probes disagree, where there are two."""
        return {} if self._second is None else {"second_temperature": "degC", "probes_disagree": BOOL}

    def acts(self) -> Mapping[str, Act]:
        """Return what carries out each command."""
        return {"set_temperature": self._set_temperature, "set_co2": self._set_co2, "cut_heater": self._cut_heater}

    def derive(self) -> dict[str, Reading]:
        """Return the climate."""
        programmer, now = self._programmer, self.clock.monotonic()
        temperature = self.seen(Source(programmer, "temperature"), "degC")
        found: dict[str, Reading] = {}
        if self._probes is not None:
            second = self.seen(self._second, "degC")
            temperature = self._probes.judged(temperature, second, now)
            found["second_temperature"] = second
            disagree = self._probes.disagree
            found["probes_disagree"] = (
                bad(BOOL, now) if disagree is None else Reading(disagree, BOOL, Quality.GOOD, now)
            )
        return found | {
            "temperature": temperature,
            "temperature_target": self.seen(self._target, "degC"),
            "co2": self.seen(self._co2, "%"),
            "co2_target": self._mixture(),
            "humidity": self.seen(self._humidity, "%"),
        }

    def _mixture(self) -> Reading:
        """Return the share of CO2 (%) that the set points of the mixer make."""
        flows = [self.seen(Source(part, "setpoint"), "mL/min") for part in (self._mixer.co2, self._mixer.carrier)]
        values = [flow.value for flow in flows if flow.quality in _USABLE and isinstance(flow.value, float)]
        oldest = min(flow.at for flow in flows)
        if len(values) < 2:
            return bad("%", oldest)
        share = 100.0 * values[0] / sum(values) if sum(values) > 0 else 0.0
        return Reading(share, "%", Quality.GOOD, oldest)

    async def _set_temperature(self, args: Args, priority: Priority) -> None:
        cuts = self.ended
        value = _number(self.name, "set_temperature", args)
        await self._within_limits(value, priority)
        if cuts != self.ended:
            raise CommandRefused(
                self.name, "set_temperature was not sent: the heater was cut off meanwhile", _AFTER_CUT
            )
        await self._heat("set_temperature", {"value": value}, priority, cuts)
        if "leave_standby" in self.parts[self._programmer].profile.commands:  # it was cut off: a target ends that
            await self._heat("leave_standby", {}, priority, cuts)
        await self._settings(self._programmer, priority)

    async def _heat(self, command: str, args: Args, priority: Priority, cuts: int) -> None:
        """Send what may make the programmer heat; raises DeviceError, NotApplied where the heater was cut off since.

        Invariant: a cut outlasts every target that was under way when it came, whichever of them reached the bus first:
        what has not been sent is not sent any more, and after what was on its way already the heater is cut off again.
        """
        try:
            await self.order(self._programmer, command, args, priority)
        finally:
            if cuts != self.ended and self._cut is not None:
                await self.order(self._programmer, self._cut, {}, Priority.STOP)
        if cuts != self.ended:
            text = f"{command} was sent, but the heater was cut off meanwhile and stays off"
            raise NotApplied(self.name, text, _AFTER_CUT, self._derived())

    async def _within_limits(self, value: float, priority: Priority) -> None:
        """Refuse what the controller itself would cut off at the limits that are set up in it."""
        if priority is Priority.STOP:  # which nothing keeps waiting: what is cut off then, the read-back says
            return
        for limit in self._limits:
            block = self.parts[limit.part].profile.points[limit.point].block
            try:
                await self.look_at(limit.part, block, priority)
            except ReadFailed as error:
                raise CommandRefused(self.name, f"set_temperature was not sent: {error.what}", error.hint) from error
            bound = self.number(limit)
            if bound is not None and (value < bound if limit.point == "setpoint_low" else value > bound):
                text = f"set_temperature was not sent: {limit} is set up as {bound:g} degC, {value:g} degC is beyond it"
                raise CommandRefused(self.name, text, "compare the limits of the controller with the recipe")

    async def _set_co2(self, args: Args, priority: Priority) -> None:
        value = _number(self.name, "set_co2", args)
        if not 0.0 <= value <= MOST_CO2:
            raise CommandRefused(self.name, f"set_co2: value {value:g} % is outside 0 to {MOST_CO2:g} %", "")
        co2 = self._mixer.total * value / 100.0
        # Less carrier first would mean more CO2 than either target for a moment; so whoever shrinks goes first.
        shares = {self._mixer.co2: co2, self._mixer.carrier: self._mixer.total - co2}
        now = {part: self.number(Source(part, "setpoint")) for part in shares}
        for part in sorted(shares, key=lambda part: shares[part] - (now[part] or 0.0)):
            await self.order(part, "set_flow", {"value": shares[part]}, priority)

    async def _cut_heater(self, _args: Args, priority: Priority) -> None:
        if self._cut is None:
            raise CommandRefused(self.name, f"{self._programmer} has no safe command", "see its profile")
        await self.order(self._programmer, self._cut, {}, priority)

    async def _settings(self, part: str, priority: Priority) -> None:
        """Read the set points of a part again, so that what was written is what is shown."""
        await self.look(part, priority)


def _number(device: str, command: str, args: Args) -> float:
    value = args.get("value")
    if isinstance(value, (int, float)) and len(args) == 1:
        return float(value)
    raise CommandRefused(device, f"{command} takes one number, `value`", f"got {dict(args)!r}")
