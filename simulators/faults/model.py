"""A fault as data: when, for how long, where, what; read from a file, and checked before anything runs.

    faults:
      - {at: {time: 76 h}, for: 5 min, where: pump_media, what: silent}
      - {at: {step: rep/medium, after: 20 s}, where: pump_media, what: reboot}
      - {at: {step: rep/medium, after: 5 s}, for: 2 min, where: "working:pump", what: occlusion}

`where` is an instrument (of the suite, or a part of its equipment), `bus:NAME`, `devices`, `controller`, `broker`,
`clock`, `disk`, `operator`, or `working:ROLE`: the instrument of that role (pump, valves) that moves liquid when the
fault begins, else the first of that role.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from devices.document import Diagnostic, Document, DocumentError, Severity, load, validate
from devices.profile_types import Point, Profile
from devices.quantity import QuantityError, parse_as
from devices.quantity import parse as quantity
from simulators.faults import vocabulary
from simulators.faults.vocabulary import (
    BUS,
    CHOICE,
    DEVICES,
    HARNESS,
    OF_POINT,
    PART,
    POINT,
    ROLES,
    SETPOINTS,
    SETTINGS,
    Arg,
    Word,
)

WORKING = "working:"
LONGEST_S = 60 * 86400.0
MOST = 10_000
Value = float | str


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; times in s, amounts in canonical units.

    It begins `time_s` after the batch started, or where that is None, `after_s` after the first step at the path `step`
    (without loop numbers: of any round) became acting.  `for_s` None: a moment, or for good.
    """

    where: str
    what: str
    time_s: float | None = None
    step: str = ""
    after_s: float = 0.0
    for_s: float | None = None
    args: Mapping[str, Value] = field(default_factory=dict[str, Value], hash=False)
    units: Mapping[str, str] = field(default_factory=dict[str, str], hash=False, compare=False)
    place: tuple[str, int, int] = field(default=("", 1, 1), compare=False)  # file, line, column

    def number(self, name: str) -> float:
        """Return an argument that is a number, or its default; raises KeyError where it has none."""
        value = self.args.get(name)
        if value is None:
            word = vocabulary.find(kind_of(self.where) or "", self.what)
            meanings = [word] if word else vocabulary.named(self.what)
            value = next((w.args[name].default for w in meanings if name in w.args), None)
        if value is None or isinstance(value, str):
            raise KeyError(f"{self.what} has no number {name}")
        return float(value)

    @property
    def lasts_s(self) -> float:
        """How long it lasts (s): 0 for a moment, infinity for good; what it left may last longer."""
        set_ = self.what == "local_change" and self.args.get("target") in SETPOINTS
        if set_ or vocabulary.of_a_moment(self.what):
            return 0.0
        return math.inf if self.for_s is None else self.for_s

    def meets(self, path: str) -> bool:
        """Tell whether a step at `path` is the one that this fault waits for."""
        return self.time_s is None and self.step in (path, plain_path(path))

    def as_dict(self) -> dict[str, Any]:
        """Return it as it would stand in a file, amounts in canonical units, for records and reports."""
        at = (
            {"time": f"{self.time_s:g} s"}
            if self.time_s is not None
            else {"step": self.step, "after": f"{self.after_s:g} s"}
        )
        shown: dict[str, Any] = {"at": at, "where": self.where, "what": self.what}
        if self.for_s is not None:
            shown["for"] = f"{self.for_s:g} s"
        return shown | {name: value if isinstance(value, str) else f"{value:g}" for name, value in self.args.items()}

    def __str__(self) -> str:
        when = f"{self.time_s:g} s" if self.time_s is not None else f"{self.step} + {self.after_s:g} s"
        args = "".join(f" {name}={value}" for name, value in self.args.items())
        span = "" if self.for_s is None else f" for {self.for_s:g} s"
        return f"{when}: {self.where} {self.what}{args}{span}"


def plain_path(path: str) -> str:
    """Return a step's path without the numbers of loop rounds."""
    return "/".join(part for part in path.split("/") if not part.isdigit())


def kind_of(where: str, roles: Mapping[str, str] | None = None) -> str | None:
    """Return the kind of a `where`: a role, bus, devices or a word of the harness; None when it is not known.

    `roles` maps instruments to roles, any other role is that of a part; without it, and for the names of the simulated
    suite, the name tells.
    """
    if where in HARNESS or where == DEVICES:
        return where
    if where.startswith("bus:"):
        return BUS
    if where.startswith(WORKING):
        role = where.removeprefix(WORKING)
        return role if role in ("pump", "valves") else None
    if roles is not None:
        role = roles.get(where)
        return role if role is None or role in ROLES else PART
    return next((role for name, role in _BY_NAME if where.startswith(name)), None)


_BY_NAME = (
    ("incubator", "bioreactor"),
    ("pump", "pump"),
    ("valves", "valves"),
    ("scales", "scale"),
    ("freezer", "freezer"),
)


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return parse_as(value, "s")
        except QuantityError as error:
            raise ValueError(str(error)) from None
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0.0, le=LONGEST_S)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AtModel(_Strict):
    """When a fault begins: `time` since the batch started, or `after` a `step` became acting."""

    time: Seconds | None = None
    step: str = ""
    after: Seconds = 0.0

    @model_validator(mode="after")
    def _one(self) -> AtModel:
        if (self.time is None) == (not self.step):
            raise ValueError("give either `time` (since the batch started) or `step` (with `after`)")
        if self.time is not None and self.after:
            raise ValueError("`after` belongs to `step`; add it to `time`")
        return self


class FaultModel(BaseModel):
    """One entry of a file; what is not named here are arguments of the word."""

    model_config = ConfigDict(extra="allow", frozen=True)

    at: AtModel
    lasts: Annotated[Seconds | None, Field(alias="for", gt=0.0)] = None
    where: Annotated[str, Field(min_length=1)]
    what: Annotated[str, Field(min_length=1)]


class FileModel(_Strict):
    """A file of faults."""

    faults: Annotated[list[FaultModel], Field(max_length=MOST)]


def load_faults(path: Path) -> tuple[Fault, ...]:
    """Return the faults of a YAML file; raises DocumentError with file, line and column of every finding."""
    document = load(Path(path))
    source = validate(document, FileModel, "faults-invalid")
    findings: list[Diagnostic] = []
    faults = [_fault(document, index, entry, findings) for index, entry in enumerate(source.faults)]
    if findings:
        raise DocumentError(tuple(findings))
    return tuple(faults)


def check(faults: Iterable[Fault], instruments: Mapping[str, Profile], buses: Collection[str]) -> None:
    """Check that every `where` exists, that its word means something there, and that it has the points named.

    `instruments` are those of the site by name.  Raises DocumentError with every finding.
    """
    roles = {name: profile.role for name, profile in instruments.items()}
    findings: list[Diagnostic] = []
    for fault in faults:
        problem = (
            _where(fault, roles, buses)
            or _meaning(fault, kind_of(fault.where, roles))
            or _panel(fault, instruments)
            or _point(fault, instruments)
        )
        if problem:
            findings.append(Diagnostic(Severity.ERROR, "faults-invalid", problem[0], *fault.place, problem[1]))
    if findings:
        raise DocumentError(tuple(findings))


def _fault(document: Document, index: int, entry: FaultModel, findings: list[Diagnostic]) -> Fault:
    path = ("faults", index)
    given = dict(entry.model_extra or {})
    args: dict[str, Value] = {}
    units: dict[str, str] = {}

    def wrong(key: str, message: str, hint: str = "") -> None:
        findings.append(document.diagnostic(Severity.ERROR, "faults-invalid", (*path, key), message, hint=hint))

    kind = kind_of(entry.where)
    meanings = vocabulary.named(entry.what)
    fitting = [word for word in meanings if kind is None or kind in word.kinds]
    if not meanings:
        wrong(
            "what",
            f"there is no fault {entry.what!r}",
            f"one of {', '.join(sorted({w.name for w in vocabulary.WORDS}))}",
        )
    elif not fitting:
        wrong("what", f"{entry.what} means nothing at {entry.where}", f"it may stand at {_kinds(meanings)}")
    else:
        word = next((w for w in fitting if set(given) <= set(w.args)), fitting[0])
        if word.lasts == "moment" and entry.lasts is not None:
            wrong("for", f"{word.name} happens in a moment", "leave `for` out")
        if word.lasts == "while" and entry.lasts is None:
            wrong("what", f"{word.name} needs `for`: how long it lasts", "for example `for: 5 min`")
        for key in given.keys() - word.args.keys():
            wrong(key, f"{word.name} takes no {key}", f"it takes {', '.join(word.args) or 'nothing'}")
        for key, arg in word.args.items():
            if key not in given:
                if arg.default is None:
                    wrong("what", f"{word.name} needs {key}", "")
                continue
            try:
                args[key], units[key] = _value(arg, str(given[key]))
            except (QuantityError, ValueError) as error:
                wrong(key, f"{key}: {error}")
        if word.name == "local_change":
            for key, message, hint in _by_hand(given, lasts=entry.lasts is not None):
                wrong(key, message, hint)
    line, column = document.at(path)
    return Fault(
        entry.where,
        entry.what,
        entry.at.time,
        entry.at.step,
        entry.at.after,
        entry.lasts,
        args,
        units,
        (document.name, line, column),
    )


def _by_hand(args: Mapping[str, Any], *, lasts: bool) -> Iterable[tuple[str, str, str]]:
    """Yield what does not fit together in a local change: where, what, what to do."""
    target = str(args.get("target", ""))
    if target in SETPOINTS and "value" not in args:
        yield "what", f"local_change of {target} needs value", f"for example `value: 30 {SETPOINTS[target]}`"
    if target in SETPOINTS and lasts:
        yield "for", f"a hand sets {target} in a moment", "leave `for` out: whoever sets it again ends it"
    if target in SETTINGS and "value" in args:
        yield "value", f"another {target} is whatever the profile does not assert", "leave `value` out"


def _value(arg: Arg, text: str) -> tuple[Value, str]:
    """Return an argument's value and its unit; raises QuantityError or ValueError."""
    if arg.unit == POINT:
        return text, ""
    if arg.unit == CHOICE:
        if text not in arg.choices:
            raise ValueError(f"{text!r} is not one of {', '.join(arg.choices)}")
        return text, ""
    if arg.unit == OF_POINT or "|" in arg.unit:
        found = quantity(text)
        value, unit = found.value, found.unit
        if "|" in arg.unit and unit not in arg.unit.split("|"):
            raise ValueError(f"{text!r} is in {unit or 'no unit'}, not in {' or '.join(arg.unit.split('|'))}")
    else:
        value, unit = parse_as(text, arg.unit), arg.unit
    if not arg.low <= value <= arg.high or not math.isfinite(value):
        raise ValueError(f"{text!r} is outside {arg.low:g} to {arg.high:g} {arg.unit}".rstrip())
    return value, unit


def _kinds(words: Iterable[Word]) -> str:
    return ", ".join(dict.fromkeys(kind for word in words for kind in word.kinds))


def _where(fault: Fault, roles: Mapping[str, str], buses: Collection[str]) -> tuple[str, str] | None:
    if fault.where.startswith("bus:") and fault.where.removeprefix("bus:") not in buses:
        return f"there is no bus {fault.where.removeprefix('bus:')!r}", f"one of {', '.join(sorted(buses))}"
    kind = kind_of(fault.where, roles)
    if kind is None or (fault.where.startswith(WORKING) and kind not in roles.values()):
        known = [*sorted(roles), *(f"bus:{bus}" for bus in sorted(buses)), DEVICES, *HARNESS]
        return f"there is no {fault.where!r} here", f"one of {', '.join(known)}, working:pump, working:valves"
    return None


def _meaning(fault: Fault, kind: str | None) -> tuple[str, str] | None:
    word = vocabulary.find(kind or "", fault.what)
    if word is None:
        return f"{fault.what} means nothing at {fault.where}", f"it may stand at {_kinds(vocabulary.named(fault.what))}"
    if strange := sorted(fault.args.keys() - word.args.keys()):
        return (
            f"{fault.what} at {fault.where} takes no {', '.join(strange)}",
            f"it takes {', '.join(word.args) or 'nothing'}",
        )
    return None


def _panel(fault: Fault, instruments: Mapping[str, Profile]) -> tuple[str, str] | None:
    target = str(fault.args.get("target"))
    unit = SETPOINTS.get(target)
    if fault.what != "local_change" or unit is None:
        return None
    if f"set_{target}" not in instruments[fault.where].commands:
        return f"{fault.where} has no set point of {target}", f"name an instrument with the command set_{target}"
    if fault.units.get("value", unit) != unit:
        return f"the target {target} is in {unit}, not in {fault.units['value']}", ""
    return None


def _point(fault: Fault, instruments: Mapping[str, Profile]) -> tuple[str, str] | None:
    if "point" not in fault.args:
        return None
    name = str(fault.args["point"])
    if fault.where.startswith(WORKING):
        role = fault.where.removeprefix(WORKING)
        profile = next(p for p in instruments.values() if p.role == role)
    else:
        profile = instruments[fault.where]
    point = profile.points.get(name)
    if point is None:
        return f"{fault.where} has no point {name!r}", f"one of {', '.join(profile.points)}"
    if fault.what in ("noise", "offset", "drift") and not _numeric(point):
        return f"{name} of {fault.where} is no number: it can only be stuck", ""
    if fault.what == "nan" and not (point.nan or str(point.type).startswith("float")):
        return f"{name} of {fault.where} cannot read as no value: its type has none", "name a point of type float32"
    for key, unit in fault.units.items():
        if key in ("sigma", "by") and unit not in ("", point.unit):
            return f"{key} is in {unit}; {name} of {fault.where} is in {point.unit or 'no unit'}", ""
    return None


def _numeric(point: Point) -> bool:
    return not (point.symbols or point.bits or point.unit in ("bool", "symbol", "text"))
