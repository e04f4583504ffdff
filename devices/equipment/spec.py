"""Equipment as a site describes it: which parts play what, checked and built by `build`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from devices.calibration import Curve
from devices.equipment.base import Equipment, Parts, Source
from devices.equipment.climate import Climate, Mixer
from devices.equipment.contact_freezer import ContactFreezer, Contacts
from devices.equipment.freezer import Probes
from devices.equipment.probes import Disagreement
from devices.equipment.programmer_freezer import ProgrammerFreezer
from devices.equipment.pump import Enable, PeristalticPump
from devices.equipment.valves import Output, RelayValves
from devices.instrument import Args, DeviceOffline, DeviceState, DeviceStatus, Instrument, Priority
from devices.kept import Kept
from devices.profile_types import Profile
from devices.reading import Reading


@dataclass(frozen=True, slots=True)
class ClimateSpec:
    """A bioreactor: `programmer` heats, `co2` is measured, `mixer` gasses."""

    programmer: str
    co2: Source
    mixer: Mixer
    second: tuple[Source, Disagreement] | None = None
    humidity: Source | None = None


@dataclass(frozen=True, slots=True)
class PumpSpec:
    """A pump: `drive` turns, `curve` (rpm, mL/min pairs) is that of its `tubing`, `enable` gives it its power."""

    drive: str
    curve: tuple[tuple[float, float], ...]
    enable: Enable | None = None
    tubing: str = ""


@dataclass(frozen=True, slots=True)
class ValvesSpec:
    """A manifold: the relay of each port, on both sides."""

    suction: Mapping[int, Output]
    delivery: Mapping[int, Output]


@dataclass(frozen=True, slots=True)
class ProgrammerFreezerSpec:
    """A freezer by a programmer, and our own probe in the sample."""

    programmer: str
    sample: Source | None
    ln2: Source | None = None


@dataclass(frozen=True, slots=True)
class ContactFreezerSpec:
    """A freezer by its contacts, and our own probes."""

    contacts: Contacts
    probes: Probes


Spec = ClimateSpec | PumpSpec | ValvesSpec | ProgrammerFreezerSpec | ContactFreezerSpec

ROLE_OF: Mapping[type, str] = {
    ClimateSpec: "bioreactor",
    PumpSpec: "pump",
    ValvesSpec: "valves",
    ProgrammerFreezerSpec: "freezer",
    ContactFreezerSpec: "freezer",
}


def parts_of(spec: Spec) -> dict[str, str]:
    """Return the parts of equipment and the role that each has to play; "" where only a point is needed of it."""
    match spec:
        case ClimateSpec():
            found = {
                spec.programmer: "temperature_programmer",
                spec.mixer.co2: "gas_flow",
                spec.mixer.carrier: "gas_flow",
            }
            others = (spec.co2, spec.humidity, spec.second[0] if spec.second else None)
        case PumpSpec():
            found = {spec.drive: "pump_drive"} | ({spec.enable.part: "digital_io"} if spec.enable else {})
            others = ()
        case ValvesSpec():
            found = {output.part: "digital_io" for side in (spec.suction, spec.delivery) for output in side.values()}
            others = ()
        case ProgrammerFreezerSpec():
            found, others = {spec.programmer: "temperature_programmer"}, (spec.sample, spec.ln2)
        case ContactFreezerSpec():
            found = {spec.contacts.part: "digital_io"}
            others = (spec.probes.chamber, spec.probes.sample, spec.probes.ln2)
    return found | {source.part: "" for source in others if source is not None and source.part not in found}


def contacts_of(spec: Spec) -> list[tuple[str, str]]:
    """Return the outputs and inputs of modules that equipment uses, each as part and point (`do_0`, `di_1`)."""
    match spec:
        case PumpSpec():
            return [] if spec.enable is None else [(spec.enable.part, f"do_{spec.enable.channel}")]
        case ValvesSpec():
            return [(o.part, f"do_{o.channel}") for side in (spec.suction, spec.delivery) for o in side.values()]
        case ContactFreezerSpec():
            contacts = spec.contacts
            outputs = [*contacts.starts.values(), *(() if contacts.hold is None else (contacts.hold,))]
            used = [f"do_{channel}" for channel in outputs] + [f"di_{contacts.running}", f"di_{contacts.alarm}"]
            return [(contacts.part, point) for point in used]
        case _:
            return []


def sources_of(spec: Spec) -> dict[str, Source]:
    """Return the points of parts that equipment names, by the key under which the site file has them."""
    match spec:
        case ClimateSpec():
            found = {"co2": spec.co2, "humidity": spec.humidity, "second": spec.second[0] if spec.second else None}
        case ProgrammerFreezerSpec():
            found = {"sample": spec.sample, "ln2": spec.ln2}
        case ContactFreezerSpec():
            found = {"chamber": spec.probes.chamber, "sample": spec.probes.sample, "ln2": spec.probes.ln2}
        case _:
            found = {}
    return {key: source for key, source in found.items() if source is not None}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a point must be to be taken for a quantity: its unit, a word of its name, and the roles that measure it.

    A plug and a flow controller have a temperature too, but it is their own; `roles` empty: an instrument of any.
    """

    unit: str
    word: str
    roles: tuple[str, ...] = ()


_THERMOMETERS = ("temperature_programmer", "co2_probe", "do_probe", "ph_probe", "bioreactor", "freezer")
MEASURED: Mapping[str, Measured] = {
    "co2": Measured("%", "co2", ("co2_probe", "bioreactor")),
    "humidity": Measured("%", "humidity"),
    "second": Measured("degC", "temperature", _THERMOMETERS),
    "chamber": Measured("degC", "temperature", _THERMOMETERS),
    "sample": Measured("degC", "temperature", _THERMOMETERS),
    "ln2": Measured("%", "level"),
}
"""What the points of `sources_of` must be, by the same keys."""


def origins_of(spec: Spec) -> dict[str, Source]:
    """Return the points of parts that tags of the equipment are read from."""
    match spec:
        case ClimateSpec():
            found = {"temperature": Source(spec.programmer, "temperature"), "co2": spec.co2, "humidity": spec.humidity}
        case ProgrammerFreezerSpec():
            chamber = Source(spec.programmer, "temperature")
            found = {"chamber_temperature": chamber, "sample_temperature": spec.sample, "ln2_level": spec.ln2}
        case ContactFreezerSpec():
            probes = spec.probes
            found = {
                "chamber_temperature": probes.chamber,
                "sample_temperature": probes.sample,
                "ln2_level": probes.ln2,
            }
        case _:
            found = {}
    return {tag: source for tag, source in found.items() if source is not None}


def build(name: str, spec: Spec, parts: Parts, kept: Kept) -> Equipment:
    """Return the equipment; raises ValueError with what is wrong with its parts."""
    match spec:
        case ClimateSpec():
            return Climate(
                name, parts, spec.programmer, spec.co2, spec.mixer, second=spec.second, humidity=spec.humidity
            )
        case PumpSpec():
            return PeristalticPump(name, parts, spec.drive, Curve(spec.curve), spec.enable)
        case ValvesSpec():
            return RelayValves(name, parts, spec.suction, spec.delivery)
        case ProgrammerFreezerSpec():
            return ProgrammerFreezer(name, parts, spec.programmer, spec.sample, kept, ln2=spec.ln2)
        case ContactFreezerSpec():
            return ContactFreezer(name, parts, spec.contacts, spec.probes, kept)


@dataclass
class Planned:
    """An instrument that is only on paper: what a site file is checked with before anything is opened."""

    name: str
    profile: Profile
    status: DeviceStatus = field(default_factory=lambda: DeviceStatus(DeviceState.OFFLINE, "only planned"))
    serial: str = ""

    async def read(self, block: str, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Raise DeviceOffline."""
        raise DeviceOffline(self.name, f"{block} cannot be read: only planned")

    async def read_all(self, priority: Priority = Priority.DATA) -> dict[str, Reading]:
        """Raise DeviceOffline."""
        raise DeviceOffline(self.name, "only planned")

    async def command(self, name: str, args: Args, priority: Priority = Priority.COMMAND) -> dict[str, Reading]:
        """Raise DeviceOffline."""
        raise DeviceOffline(self.name, f"{name} was not sent: only planned")


def planned(profiles: Mapping[str, Profile]) -> dict[str, Instrument]:
    """Return planned instruments by name."""
    return {name: Planned(name, profile) for name, profile in profiles.items()}
