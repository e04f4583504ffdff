"""Checks of the interlocks and permissives of a site file: each can be judged, can act, and is not a broker's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from devices.equipment.spec import Spec, origins_of
from devices.profile import Profile
from devices.quantity import QuantityError, parse, show
from devices.role import BOOL, ROLES, SYMBOL
from recipes import hysteresis
from recipes.expr import Expression, compile
from recipes.kinds import BOOL as CONDITION
from recipes.syntax import ExprError
from recipes.units import number
from tilctl.config.alarms import check_time
from tilctl.config.interlock import SITE, Interlock, Limit, Output, Permissive, Rules, limits_of, protects, undoing
from tilctl.config.references import Findings, Where
from tilctl.config.schema import InterlockEntry, PermissiveEntry, SiteFile, UnitEntry
from tilctl.config.site import Device, Line, RoleBinding, UnitSite
from tilctl.config.tags import TagNames

LIMITS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("bioreactor", "temperature"): (20.0, 60.0),
    ("bioreactor", "co2"): (1.0, 50.0),
}
"""Between what an upper limit of a tag can lie (engineering default), by role and tag, in the unit of the tag.

Below, it would trip in every culture; above, nothing is left that it could protect: cells die at 45 degC.  Beside these
it lies within what the instrument measures: a value beyond its range is bad, and trips nothing.
"""
_WHOLE = {"pumps": ("stop", "stop"), "valves": ("closed", "close")}
"""What is said of all pumps or valves of a unit, and the command that does it."""

_DEVICE_WORDS = ("cut", "stop", "close", "abort")
_NEVER_BY_ITSELF = ("pump", "valves")
"""Roles whose interlocks are not to be bypassed unless the site says so: a vessel runs over within seconds."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose rules are checked: its instruments by role, and the pumps and valves of its lines."""

    name: str
    where: Where
    roles: Mapping[str, RoleBinding]
    whole: Mapping[str, tuple[str, ...]]
    names: TagNames
    lines: tuple[Line, ...] = ()

    @property
    def devices(self) -> dict[str, str]:
        """Return its instruments by what they are called: by role, and by their own names."""
        found = {name: role.device for name, role in self.roles.items()}
        own = [*found.values(), *(device for devices in self.whole.values() for device in devices)]
        return found | {device: device for device in own}


class RuleCheck:
    """Checks the rules of units and of the site."""

    def __init__(
        self, devices: Mapping[str, Device | Spec], profiles: Mapping[str, Profile], findings: Findings
    ) -> None:
        """Check against devices and equipment by name, with their profiles."""
        self._devices = devices
        self._profiles = profiles
        self._findings = findings

    def unit(self, unit: UnitSite, entry: UnitEntry, shared: Mapping[str, RoleBinding]) -> UnitSite:
        """Return a unit with its rules; its conditions may name shared equipment too, its outputs may not."""
        whole = {
            "pumps": tuple(dict.fromkeys(line.pump for line in unit.lines)),
            "valves": tuple(dict.fromkeys(line.valves for line in unit.lines)),
        }
        names = TagNames(self._profiles, {**shared, **unit.roles}, unit.places)
        owner = Owner(unit.name, ("units", unit.name), unit.roles, whole, names, unit.lines)
        return replace(unit, rules=self._rules(owner, entry.interlocks, entry.permissives))

    def site(self, model: SiteFile, units: Iterable[UnitSite], shared: Mapping[str, RoleBinding]) -> Rules:
        """Return the rules of shared equipment."""
        rules = self._rules(
            Owner(SITE, (), shared, {}, TagNames(self._profiles, shared, {})), model.interlocks, model.permissives
        )
        taken = {rule.name: unit.name for unit in units for rule in unit.rules}
        for rule in rules:
            if rule.name in taken:  # a person names it without a unit
                kind = "interlocks" if rule.name in rules.interlocks else "permissives"
                self._findings.add(
                    (kind, rule.name), "site-rule-name", f"{taken[rule.name]} has a rule called {rule.name} too",
                    "call it otherwise",
                )  # fmt: skip
        return rules

    def _rules(
        self, owner: Owner, interlocks: Mapping[str, InterlockEntry], permissives: Mapping[str, PermissiveEntry]
    ) -> Rules:
        for name in interlocks.keys() & permissives.keys():
            where = (*owner.where, "permissives", name)
            self._findings.add(where, "site-rule-name", f"an interlock is called {name} too", "call it otherwise")
        found = {name: self._interlock(owner, name, entry) for name, entry in interlocks.items()}
        allowed = {name: self._permissive(owner, name, entry) for name, entry in permissives.items()}
        return Rules(
            {name: each for name, each in found.items() if each is not None},
            {name: each for name, each in allowed.items() if each is not None},
        )

    # --- interlocks -----------------------------------------------------------------------------------------------

    def _interlock(self, owner: Owner, name: str, entry: InterlockEntry) -> Interlock | None:
        """Invariant: what an interlock acts on can be acted on, and it can trip, or the site does not load."""
        where: Where = (*owner.where, "interlocks", name)
        given = [each is not None for each in (entry.tag, entry.above, entry.when, entry.then)]
        short = given == [True, True, False, False]
        if not short and given != [False, False, True, True]:
            hint = "write {tag: ..., above: ...}, or {when: ..., then: {...}}"
            self._findings.add(where, "site-interlock", f"{name} says neither or both of what it has to", hint)
            return None
        if entry.tag is not None and entry.above is not None:
            found = self._short(owner, where, entry.tag, entry.above)
            if found is None:
                return None
            condition, then, at = f"{entry.tag} > {entry.above}", {found: "cut"}, "above"
        else:
            condition, then, at = entry.when or "", entry.then or {}, "when"
        expression, reads = self._condition(owner, (*where, at), condition)
        if expression is None:
            return None
        for limit in limits_of(condition, reads, self._units(reads)):
            self._can_trip((*where, at), limit)
        self._no_broker((*where, "tag" if short else at), (device.partition(".")[0] for device in reads.values()))
        outputs = self._outputs(owner, where, then, short=short)
        for_s, off_delay_s = (
            check_time((*where, key), key, text, self._findings)
            for key, text in (("for", entry.for_), ("off_delay", entry.off_delay))
        )
        deadband = self._deadband((*where, "deadband"), owner, expression, entry.deadband)
        roles = {self._profiles[output.device].role for output in outputs}
        default = "never" if roles & set(_NEVER_BY_ITSELF) else "allowed"
        return Interlock(
            name, condition, reads, (entry.bypass or default) == "allowed", entry.priority, entry.text or "",
            entry.help, entry.source or "", self._in_order(owner, outputs), for_s, off_delay_s, deadband, entry.reset,
        )  # fmt: skip

    def _short(self, owner: Owner, where: Where, tag: str, above: str) -> str | None:
        """Return the instrument of the short form, None where its tag or its limit is wrong."""
        tags = {
            f"{name}.{each}": (role, unit)
            for name, role in owner.roles.items()
            if role.role in ROLES
            for each, unit in self._tags(role).items()
            if unit not in (SYMBOL, BOOL)
        }
        if not self._findings.known((*where, "tag"), tag, tags, "tag of this unit"):
            return None
        role, unit = tags[tag]
        before = len(self._findings.list)
        self._findings.number((*where, "above"), above, unit)
        return role.device if len(self._findings.list) == before else None

    def _tags(self, role: RoleBinding) -> Mapping[str, str]:
        """Return the tags of a role that its instrument has, with their units."""
        profile = self._profiles.get(role.device)
        return ROLES[role.role].tags_for(() if profile is None else profile.points)

    def _outputs(self, owner: Owner, where: Where, then: Mapping[str, str], *, short: bool) -> list[Output]:
        found: dict[str, Output] = {}
        if not then:
            self._findings.add((*where, "then"), "site-interlock", "it does nothing", "name an output, {pumps: stop}")
        for name, word in then.items():
            place: Where = (*where, "tag") if short else (*where, "then", name)
            if name in owner.whole:
                said, command = _WHOLE[name]
                if word != said:
                    self._findings.add(place, "site-output", f"{name} cannot be {word!r}", f"{name}: {said}")
                    continue
                if not owner.whole[name]:
                    self._findings.add(place, "site-output", f"{owner.name} has no {name}", "it has no lines")
                devices = [(device, command) for device in owner.whole[name]]
            else:
                own = owner.devices
                if not self._findings.known(place, name, own, f"output of {owner.name}"):
                    continue
                command = self._command(place, own[name], word)
                devices = [(own[name], command)] if command else []
            self._no_broker(place, [device for device, _ in devices])
            for device, command in devices:
                profile = self._profiles.get(device)
                if profile is not None and self._can(place, device, profile, command):
                    found[device] = Output(device, command, undoing(profile))
        return list(found.values())

    def _in_order(self, owner: Owner, outputs: list[Output]) -> tuple[Output, ...]:
        """Return outputs with the pumps that each waits for: valves for those of their own lines, as in a hold."""
        devices, waits = {output.device for output in outputs}, dict[str, dict[str, None]]()
        for line in owner.lines:
            if line.pump in devices:
                waits.setdefault(line.valves, {})[line.pump] = None
        return tuple(replace(output, after=tuple(waits.get(output.device, ()))) for output in outputs)

    def _command(self, where: Where, device: str, word: str) -> str:
        """Return the command that a word stands for, "" where there is none."""
        profile = self._profiles.get(device)
        if profile is None:
            return ""
        if word not in _DEVICE_WORDS:
            hint = f"one of {', '.join(_DEVICE_WORDS)}"
            self._findings.add(where, "site-output", f"{device} cannot be told to {word!r}", hint)
            return ""
        if word != "cut":
            return word
        if profile.safe_command is None:
            message = f"{device} cannot be cut off: its profile {profile.id} has no `safe_command`"
            self._findings.add(where, "site-no-cut-off", message, "name one under `failsafe` in the profile")
        return profile.safe_command or ""

    def _can(self, where: Where, device: str, profile: Profile, command: str) -> bool:
        if command in profile.commands and protects(profile, command):
            return True
        known = ", ".join(each for each in profile.commands if protects(profile, each)) or "nothing"
        self._findings.add(where, "site-output", f"{device} ({profile.id}) cannot {command}", f"it can {known}")
        return False

    def _no_broker(self, where: Where, devices: Iterable[str]) -> None:
        """Invariant: no interlock hangs on a broker."""
        for device in dict.fromkeys(devices):
            if device in self._profiles and "mqtt" in self._profiles[device].kinds:
                message = f"{device} is reached over MQTT: it must not be what an interlock relies on"
                self._findings.add(where, "site-mqtt-barrier", message, "use an instrument on a wire of its own")

    def _can_trip(self, where: Where, limit: Limit) -> None:
        """Report an interlock that would always trip, or never."""
        device, _, point = limit.at.partition(".")
        spec = self._devices.get(device)
        origin = None if spec is None or isinstance(spec, Device) else origins_of(spec).get(point)
        owner, measured = (device, point) if origin is None else (origin.part, origin.point)
        found = self._profiles[owner].points.get(measured) if owner in self._profiles else None
        reach = None if found is None else found.range
        above = limit.operator in (">", ">=")
        said = f"{'above' if above else 'below'} {show(limit.value, limit.unit)}"
        if reach is not None and not reach[0] < limit.value < reach[1]:
            low, high = (show(bound, limit.unit) for bound in reach)
            text = f"{said} is not within what {owner}.{measured} measures, {low} to {high}"
            self._findings.add(where, "site-never-trips", text, "name a limit that it can see, beyond the set points")
            return
        low, high = LIMITS.get((self._profiles[device].role, point), (limit.value, limit.value))
        if above and not low <= limit.value <= high:
            bounds = f"{show(low, limit.unit)} to {show(high, limit.unit)}"
            text = f"{said} would trip always, or too late; expected {bounds}"
            self._findings.add(where, "site-never-trips", text, "name a limit a little above the highest set point")

    # --- permissives ----------------------------------------------------------------------------------------------

    def _permissive(self, owner: Owner, name: str, entry: PermissiveEntry) -> Permissive | None:
        where: Where = (*owner.where, "permissives", name)
        expression, reads = self._condition(owner, (*where, "needs"), entry.needs)
        if expression is None:
            return None
        for limit in limits_of(entry.needs, reads, self._units(reads)):
            self._can_be_met((*where, "needs"), limit)
        forbids: dict[tuple[str, str], None] = {}
        for index, text in enumerate(entry.forbids):
            head, _, command = text.partition(".")
            place: Where = (*where, "forbids", index)
            known = owner.devices | {whole: whole for whole in owner.whole}
            if not self._findings.known(place, head, known, f"output of {owner.name}"):
                continue
            for device in owner.whole.get(head, (known[head],)):
                profile = self._profiles.get(device)
                if profile is None:
                    continue
                if command not in profile.commands:
                    hint = f"it has {', '.join(profile.commands) or 'none'}"
                    self._findings.add(
                        place, "site-output", f"{device} ({profile.id}) has no command {command!r}", hint
                    )
                elif protects(profile, command):
                    message = f"{device}.{command} makes safe: nothing may forbid that"
                    self._findings.add(place, "site-output", message, "forbid what moves something")
                else:
                    forbids[device, command] = None
        may = (entry.bypass or "allowed") == "allowed"
        return Permissive(
            name, entry.needs, reads, may, entry.priority, entry.text or "", entry.help, entry.source or "",
            tuple(forbids),
        )  # fmt: skip

    def _can_be_met(self, where: Where, limit: Limit) -> None:
        """Report what is asked for and can never be."""
        device, _, point = limit.at.partition(".")
        spec = self._devices.get(device)
        if spec is not None and not isinstance(spec, Device) and point in _ORIGINATED and point not in origins_of(spec):
            text = f"{device} has nothing that measures {point}: this would forbid for ever"
            self._findings.add(where, "site-never-met", text, "give the equipment such a part, or take this out")

    # --- both -----------------------------------------------------------------------------------------------------

    def _condition(self, owner: Owner, where: Where, text: str) -> tuple[Expression | None, dict[str, str]]:
        """Return a condition and what it reads; what is wrong with it is reported, and gives None."""
        try:
            expression = compile(text)
            if any(self._reported(owner, name.partition(".")[0]) for name in expression.names):
                return None, {}
            reads = owner.names.reads(expression.names)
            found = expression.check(owner.names)
        except ExprError as error:
            hint = error.hint or (owner.names.hint() if error.code == "name-unknown" else "")
            self._findings.add(where, "site-condition", f"{text!r}: {error.message} (column {error.column})", hint)
            return None, {}
        if found != CONDITION:
            hint = "compare with < <= > >= == !="
            self._findings.add(where, "site-condition", f"{text!r} is {found}, and no condition", hint)
            return None, {}
        if not reads:
            self._findings.add(where, "site-condition", f"{text!r} reads no instrument", owner.names.hint())
            return None, {}
        return expression, reads

    def _reported(self, owner: Owner, name: str) -> bool:
        """Tell whether a role has no usable instrument, which was reported where it is bound."""
        return name in owner.roles and owner.roles[name].device not in self._profiles

    def _units(self, reads: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, at in reads.items():
            device, _, point = at.partition(".")
            known = self._profiles[device].points.get(point)
            if known is not None and known.unit not in (SYMBOL, BOOL, "text"):
                found[name] = known.unit
        return found

    def _deadband(self, where: Where, owner: Owner, expression: Expression, text: str | None) -> str:
        if text is None:
            return ""
        try:
            quantity = parse(text)
            fits = hysteresis.fits(expression, owner.names, number(quantity.value, quantity.unit).dim)
        except (QuantityError, ExprError) as error:
            self._findings.add(where, "site-quantity", str(error))
            return ""
        if not fits or not quantity.value > 0:
            message = f"a deadband of {text} fits no comparison of '{expression.text}'"
            self._findings.add(where, "site-deadband", message, "a difference above 0, such as 0.5 K for degrees")
            return ""
        return text


_ORIGINATED = ("ln2_level", "chamber_temperature", "humidity")
"""Points that equipment of parts has only where its site gives it a part for them."""
