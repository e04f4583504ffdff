"""A person's command to an instrument passes the interlocks and permissives too, while no controller judges them.

What they read is read freshly, and what is latched is known from the records.  Invariant: unknown is no permission.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from devices.equipment.base import Equipment, Parts
from devices.equipment.spec import build, parts_of
from devices.instrument import DeviceError, Instrument
from devices.kept import Kept as KeptFile
from tilctl.cli.commissioning.reach import Reach, reach
from tilctl.config import Site
from tilctl.config.interlock import SITE, Interlock, Permissive, Rules, protects, read_rules
from tilctl.guard.conditions import TagCondition
from tilctl.guard.judged import moment
from tilctl.guard.kept_rules import Kept, kept_of
from tilctl.journal.chain import Record
from tilctl.journal.events import BatchClosed, BatchCreated
from tilctl.journal.mark import found as marked
from tilctl.journal.mark import mark_path
from tilctl.journal.verify import read
from tilctl.plant.image import ProcessImage


class NotPassed(Exception):
    """An interlock or a permissive is against a command; says which, why, and what to do.

    `silent`: nobody knows, for an instrument that it reads does not answer.
    """

    def __init__(self, text: str, *, silent: bool = False) -> None:
        super().__init__(text)
        self.silent = silent


@dataclass(frozen=True, slots=True)
class InForce:
    """The rules of a unit, or of shared equipment, with what the records say stands; `batch`: one is open there."""

    unit: str
    rules: Rules
    kept: Mapping[str, Kept]
    batch: bool


def in_force(site: Site) -> list[InForce]:
    """Return what is in force: what an open batch has frozen, else the site file's.  Raises NotPassed.

    Invariant: a record that cannot be read may hold a latch: then nobody knows that there is none.
    """
    known = _site_records(site)
    frozen: dict[str, Rules] = {}
    batches: dict[str, list[Record]] = {}
    names: dict[str, str] = {}
    for path in sorted((site.data / "batches").glob("*.db")):
        records, verdict = read(path)
        created = records[0].event if records else None
        if not isinstance(created, BatchCreated):
            raise NotPassed(f"{path.name} cannot be read ({verdict.reason}): nobody knows what it has latched")
        if any(isinstance(record.event, BatchClosed) for record in records):
            continue
        batches[created.unit] = records
        names[created.unit] = created.batch
        try:
            for unit, key in ((created.unit, "unit"), (SITE, SITE)) if created.interlocks is not None else ():
                frozen[unit] = read_rules((created.interlocks or {})[key])
        except (KeyError, ValueError) as error:
            raise NotPassed(f"the interlocks frozen in {path.name} cannot be read: {error}") from error
    own = {name: unit.rules for name, unit in site.units.items()} | {SITE: site.rules} | frozen
    found: list[InForce] = []
    for unit, rules in own.items():
        kept = kept_of(unit, known, batches.get(unit, ()))
        if unit in batches and (mark := marked(mark_path(site.data, unit), names[unit])) is not None:
            kept |= {name: Kept(datetime.fromisoformat(mark.t), mark.text) for name in mark.latched}
        found.append(InForce(unit, rules, kept, unit in batches))
    return found


def _site_records(site: Site) -> list[Record]:
    path = site.data / "site.db"
    if not path.exists():
        return []
    records, verdict = read(path)
    if not verdict.ok:
        raise NotPassed(f"{path.name} cannot be read ({verdict.reason}): nobody knows what is latched")
    return records


def covers(site: Site, rule: Interlock | Permissive, name: str, command: str) -> bool:
    """Tell whether a rule is against a command to an instrument, itself or as a part of equipment, when it acts."""
    if isinstance(rule, Interlock):
        own = any(output.device == name and command in output.undone_by for output in rule.outputs)
        devices = {output.device for output in rule.outputs}
    else:
        own, devices = (name, command) in rule.forbids, {device for device, _ in rule.forbids}
    parts = {part for device in devices if device in site.equipment for part in parts_of(site.equipment[device])}
    return own or name in parts


async def check_passes(site: Site, name: str, command: str, now: datetime) -> None:
    """Raise NotPassed where an interlock or a permissive is against a command, or is not known not to be."""
    if protects(site.profiles[name], command):
        return
    against = [
        (each, rule)
        for each in in_force(site)
        for rule in each.rules
        if covers(site, rule, name, command) and not _bypassed(each.kept.get(rule.name, Kept()), now)
    ]
    for each, rule in against:
        kept = each.kept.get(rule.name, Kept())
        if isinstance(rule, Interlock) and kept.since is not None and _stays(rule, batch=each.batch):
            text = f"interlock {rule.name} is tripped on record since {moment(kept.since)}: {kept.text}"
            raise NotPassed(f"{text}; start the controller, and reset it when that is over")
    if not against:
        return
    devices = {device for _, rule in against for device in rule.devices}
    async with reach(site, sorted(_asked(site, devices))) as there:
        image, silent = await _seen(there, devices)
        for each, rule in against:
            _judge(rule, image, silent, tripped=each.kept.get(rule.name, Kept()).since is not None)


def _judge(rule: Interlock | Permissive, image: ProcessImage, silent: Mapping[str, str], *, tripped: bool) -> None:
    deadband = rule.deadband if isinstance(rule, Interlock) else ""
    condition = TagCondition(image, rule.condition, rule.reads, deadband)
    holds = condition.goes_on() if tripped else condition.holds()
    kind = "interlock" if isinstance(rule, Interlock) else "permissive"
    if holds is None:
        why = "; ".join([condition.told(), *(silent[device] for device in sorted(rule.devices & silent.keys()))])
        text = f"{kind} {rule.name} cannot be judged, and what is not known is not permitted: {why}"
        raise NotPassed(f"{text}; see to that instrument first", silent=bool(rule.devices & silent.keys()))
    if isinstance(rule, Interlock) and holds:
        raise NotPassed(f"interlock {rule.name} is against it: {condition.told()}; see to the cause first")
    if isinstance(rule, Permissive) and not holds:
        act = f"; {rule.help['action']}" if "action" in rule.help else ""
        raise NotPassed(f"permissive {rule.name} needs {rule.condition}: {condition.told()}{act}")


def _stays(rule: Interlock, *, batch: bool) -> bool:
    """Tell whether what is on record stands although its condition may be over: a person has to reset it."""
    return rule.reset == "manual" or (rule.reset == "restart" and batch)


def _bypassed(kept: Kept, now: datetime) -> bool:
    return kept.bypass is not None and now < kept.bypass.until


def _asked(site: Site, devices: set[str]) -> Iterator[str]:
    for device in devices:
        yield from parts_of(site.equipment[device]) if device in site.equipment else (device,)


async def _seen(there: Reach, devices: set[str]) -> tuple[ProcessImage, dict[str, str]]:
    """Read instruments and equipment whole; return also what does not answer, with why: that is not known."""
    silent: dict[str, str] = {}
    image = ProcessImage(there.clock)
    kept = KeptFile(there.clock, there.site.data / "runs.json")
    parts = Parts(there.wires.devices, there.clock, image.put_part)
    for device in sorted(devices):
        spec = there.site.equipment.get(device)
        instrument: Instrument = there.instrument(device) if spec is None else build(device, spec, parts, kept)
        try:
            for block in instrument.profile.blocks:
                image.put(device, await instrument.read(block))
        except DeviceError as error:
            image.lost(device)
            silent[device] = str(error)
        finally:
            if isinstance(instrument, Equipment):
                await instrument.close()
    return image, silent
