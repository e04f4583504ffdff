"""Interlocks and permissives as they are in force: resolved to instruments, frozen, readable from a record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

from pydantic import TypeAdapter, ValidationError

from devices.alarm import Priority
from devices.profile import Profile
from devices.quantity import QuantityError, parse_as
from recipes import syntax
from recipes.expr import compile

SITE = "site"
"""The unit of what stands at the top of the site file, for shared equipment."""

Reset = Literal["auto", "restart", "manual"]
Json = dict[str, Any]
_ENDS = ("stop", "close", "abort")
_UNDO: Mapping[str, tuple[str, ...]] = {
    "bioreactor": ("set_temperature",), "pump": ("dispense",), "valves": ("select",), "freezer": ("start",)
}  # fmt: skip
"""Which commands of a role undo that it was cut off, stopped, closed or aborted."""


def protects(profile: Profile, command: str) -> bool:
    """Tell whether a command of an instrument only makes safe: its safe command, a stop, what feeds its watchdog."""
    dog = profile.watchdog
    return command in (profile.safe_command, *_ENDS) or (dog is not None and command == dog.command)


def undoes(profile: Profile, command: str) -> bool:
    """Tell whether a command may undo that an instrument was cut off; of one without a role, whatever is not safe."""
    known = _UNDO.get(profile.role)
    return command in known if known is not None else not protects(profile, command)


def undoing(profile: Profile) -> tuple[str, ...]:
    """Return the commands of an instrument that undo its being cut off."""
    return tuple(command for command in profile.commands if undoes(profile, command))


@dataclass(frozen=True, slots=True)
class Output:
    """What is done to one instrument; `undone_by` are the commands that are refused until it is reset.

    `after` are the pumps of the same interlock that valves wait for, a moment, before they close.
    """

    device: str
    command: str
    undone_by: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limit:
    """A comparison of one tag with a number: `at` is its `device.point`, `value` in its canonical `unit`."""

    tag: str
    at: str
    operator: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What interlocks and permissives share: a name, what is read (`device.point` by name), what people are told."""

    name: str
    condition: str
    reads: Mapping[str, str]
    may_bypass: bool = True
    priority: Priority = "critical"
    text: str = ""
    help: Mapping[str, str] = field(default_factory=dict[str, str])
    source: str = ""

    @property
    def devices(self) -> frozenset[str]:
        """Return the instruments whose reading may change it."""
        return frozenset(at.partition(".")[0] for at in self.reads.values())


@dataclass(frozen=True, slots=True)
class Interlock(Rule):
    """While its condition has held for `for_s` (s), and until it is reset, its outputs are and stay off.

    It is over when it has not held for `off_delay_s` (s), with `deadband` taken off its comparisons.
    """

    outputs: tuple[Output, ...] = ()
    for_s: float = 0.0
    off_delay_s: float = 0.0
    deadband: str = ""
    reset: Reset = "restart"


@dataclass(frozen=True, slots=True)
class Permissive(Rule):
    """While its condition is not true, `forbids` (device, command) are refused."""

    forbids: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """All of one unit, or of the site."""

    interlocks: Mapping[str, Interlock] = field(default_factory=dict[str, Interlock])
    permissives: Mapping[str, Permissive] = field(default_factory=dict[str, Permissive])

    def __iter__(self) -> Iterator[Interlock | Permissive]:
        yield from self.interlocks.values()
        yield from self.permissives.values()

    def written(self) -> Json:
        """Return them as they are put on a record."""
        return {
            "interlocks": {name: _plain(asdict(each)) for name, each in self.interlocks.items()},
            "permissives": {name: _plain(asdict(each)) for name, each in self.permissives.items()},
        }


NO_RULES = Rules()


def read_rules(written: Json) -> Rules:
    """Return the rules of a record; raises ValueError for what this version cannot read."""
    try:
        return TypeAdapter(Rules).validate_python(written)
    except ValidationError as error:
        raise ValueError(f"the interlocks on record cannot be read: {error.errors()[0]['msg']}") from error


def differences(frozen: Rules, present: Rules) -> list[str]:
    """Return which rules differ, and how, for a person."""
    before = {each.name: each for each in frozen}
    now = {each.name: each for each in present}
    told = [f"{name} is gone" for name in before if name not in now]
    told += [f"{name} is new" for name in now if name not in before]
    for name in before.keys() & now.keys():
        one, other = asdict(before[name]), asdict(now[name])
        changed = sorted(key for key in one.keys() | other.keys() if _plain(one.get(key)) != _plain(other.get(key)))
        if changed:
            told.append(f"{name} differs in {', '.join(changed)}")
    return sorted(told)


def limits_of(condition: str, reads: Mapping[str, str], units: Mapping[str, str]) -> list[Limit]:
    """Return the comparisons of a tag with a number in a condition; `units` by tag, of those that have one.

    A comparison below a `not` is left out.
    """
    return list(_limits(compile(condition).node, reads, units))


def only_limit(condition: str, reads: Mapping[str, str], unit: str) -> Limit | None:
    """Return the limit where a condition is one comparison of a tag of this unit with a number, else None."""
    node = compile(condition).node
    return next(_compared(node, reads, dict.fromkeys(reads, unit)), None) if isinstance(node, syntax.Binary) else None


_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _limits(node: syntax.Node, reads: Mapping[str, str], units: Mapping[str, str]) -> Iterator[Limit]:
    if isinstance(node, syntax.Binary) and node.operator in ("and", "or"):
        yield from _limits(node.left, reads, units)
        yield from _limits(node.right, reads, units)
    else:
        yield from _compared(node, reads, units)


def _compared(node: syntax.Node, reads: Mapping[str, str], units: Mapping[str, str]) -> Iterator[Limit]:
    if not isinstance(node, syntax.Binary) or node.operator not in _TURNED:
        return
    for named, operator, literal in (
        (node.left, node.operator, node.right), (node.right, _TURNED[node.operator], node.left)
    ):  # fmt: skip
        if not isinstance(named, syntax.Name) or not isinstance(literal, syntax.Literal):
            continue
        tag = named.pattern
        if tag not in reads or tag not in units:
            continue
        try:
            value = parse_as(literal.text, units[tag])
        except QuantityError:
            continue
        yield Limit(tag, reads[tag], operator, value, units[tag])


def _plain(value: object) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[Any]", value)]
    return value
