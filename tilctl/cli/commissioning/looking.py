"""`tilctl device check`: whether each instrument is the one that is meant, set as its profile assumes, and well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devices.instrument import DeviceError, Instrument
from devices.profile_types import Profile
from devices.reading import Quality, Reading, Value
from devices.role import PARTS, ROLES
from tilctl.cli.commissioning.reach import Reach, Where


@dataclass
class Looked:
    """What was seen of one instrument; `bad` are points without a value, `wrong` is why it is not well."""

    name: str
    profile: Profile
    serial: str = ""
    blocks: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    bad: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    latencies_s: list[float] = field(default_factory=list[float])
    watchdog: str = ""
    missing: list[str] = field(default_factory=list[str])
    """What its profile wants from the site file and has not got."""

    @property
    def well(self) -> bool:
        """Return whether nothing is wrong with it."""
        return not self.wrong

    def as_json(self) -> dict[str, Any]:
        """Return it for machines; latencies in ms."""
        ms = sorted(round(1000 * seconds, 3) for seconds in self.latencies_s)
        spread = {"min": ms[0], "median": ms[len(ms) // 2], "max": ms[-1], "requests": len(ms)} if ms else None
        return {
            "name": self.name, "well": self.well, "profile": self.profile.id, "evidence": self.profile.evidence,
            "serial": self.serial, "blocks": self.blocks, "bad": self.bad, "wrong": self.wrong, "latency_ms": spread,
            "watchdog": self.watchdog, "missing": self.missing,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Return it for people, the verdict first."""
        profile = self.profile
        title = f"{profile.maker} {profile.model}, profile {profile.id} (evidence {profile.evidence})"
        told = [f"{self.name}: {'well' if self.well else 'NOT WELL'}: {title}"]
        told += [f"  wrong: {text}" for text in self.wrong]
        told += [f"  warning: {text}" for text in self.missing]
        if any(block["read"] for block in self.blocks):
            settings = f"{len(profile.asserts)} settings stand" if profile.asserts else "no settings to look at"
            identity = "the profile knows no identity"
            if profile.identity is not None:
                expected = profile.identity.setting.expected
                identity = "identity as expected" if expected else "identity read, with nothing to hold it against"
            told.append(f"  {identity}, serial number {self.serial or 'not known'}, {settings}")
        for block in self.blocks:
            good = f"{block['good']} of {block['points']} good" if block.get("points") else "no points in it"
            what = f"{good}, {block['ms']:.1f} ms" if block["read"] else "not read"
            told.append(f"  block {block['block']}: {what}")
        if self.bad:
            told.append(f"  without a value: {', '.join(self.bad)}")
        spread = self.as_json()["latency_ms"]
        if spread:
            told.append(
                f"  latency {spread['min']:.1f} / {spread['median']:.1f} / {spread['max']:.1f} ms "
                f"(least, median, most of {spread['requests']} requests)"
            )
        return [*told, *([f"  watchdog: {self.watchdog}"] if self.watchdog else [])]


async def look(there: Reach, name: str) -> Looked:
    """Read identity, settings and each block once, by the controller's own driver."""
    instrument = there.instrument(name)
    looked, seen = Looked(name, instrument.profile), dict[str, Value]()
    heard = there.heard_of(name)
    before = len(heard.latencies)
    for block in instrument.profile.blocks.values():
        try:
            readings = await instrument.read(block.id)
        except DeviceError as error:
            looked.blocks.append({"block": block.id, "read": False})
            looked.wrong.append(str(error).removeprefix(f"{name}: "))
            if not looked.serial and not any(each["read"] for each in looked.blocks):
                break  # it does not answer, or is another: asking on would only take time
            continue
        seen |= {point: reading.value for point, reading in readings.items()}
        took = heard.took.get(where_of(there, instrument, block.id), 0.0)
        looked.blocks.append(_block(block.id, readings, took))
        looked.bad += [point for point, reading in readings.items() if reading.quality is Quality.BAD]
        looked.serial = instrument.serial
    looked.latencies_s = heard.latencies[before:]
    looked.missing = there.site.devices[name].given.missing(instrument.profile, seen)
    looked.wrong += [
        f"{point} has no value, and it is what a {instrument.profile.role} is for" for point in _lacks(looked)
    ]
    return looked


def where_of(there: Reach, instrument: Instrument, block_id: str) -> Where:
    """Return how a block is asked for on its bus."""
    block = instrument.profile.blocks[block_id]
    return there.site.devices[instrument.name].unit, block.fc, block.addr, block.count


def _block(name: str, readings: Mapping[str, Reading], took_s: float) -> dict[str, Any]:
    good = sum(reading.quality is Quality.GOOD for reading in readings.values())
    return {"block": name, "read": True, "points": len(readings), "good": good, "ms": round(1000 * took_s, 3)}


def _lacks(looked: Looked) -> list[str]:
    """Return points without a value that the instrument is for; a whole freezer has none of a sample that is not in."""
    part, whole = PARTS.get(looked.profile.role), ROLES.get(looked.profile.role)
    if part is not None:
        return [point for point in part.points if point in looked.bad]
    points = list(whole.points) if whole else []
    return points if set(points) <= set(looked.bad) else []
