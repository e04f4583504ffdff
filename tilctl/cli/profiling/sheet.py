"""A profile as a sheet of tables, for people: plain text or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devices.codec import RegType
from devices.diagnosis import Ne107
from devices.mqtt.types import MqttProfile
from devices.profile_types import Block, Check, Command, Point, Profile, Rule, Setting, Slot
from devices.role import BOOL, SYMBOL
from tilctl.cli.plain import one_line
from tilctl.cli.profiling import topics

EVIDENCE = {
    "simulated": "made for the simulator: there is no such instrument",
    "driver": "after a public driver that runs on the hardware; no manual was seen",
    "manual": "after the maker's manual; never tried on the instrument",
    "manual+driver": "after the maker's manual and a public driver; never tried on the instrument by us",
    "bench": "seen to hold on an instrument on the bench",
}
"""What each level of evidence means, lowest first."""
_OF_REGISTERS = (
    "word order", "one request", "identity", "read by", "addresses", "count", "atomic", "address", "type", "scale",
    "writes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One table of a sheet: a title, the names of its columns ("" for a list of facts), its rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheet(profile: Profile) -> list[Part]:
    """Return all that a profile says; parts about which it says nothing are left out."""
    title = f"{profile.maker} {profile.model} ({profile.id}, version {profile.version})"
    parts = [Part(title, ("", ""), tuple(_facts(profile)))]
    settings = tuple(_setting(setting) for setting in profile.asserts)
    parts.append(Part("Settings that must stand", ("register", "type", "expected", "why", "source"), settings))
    blocks = tuple(
        (b.id, f"fc {b.fc}", _span(b.addr, b.count), str(b.count), _scan(b), "yes" if b.atomic else "", b.doc)
        for b in profile.blocks.values()
    )
    parts.append(Part("Blocks", ("block", "read by", "addresses", "count", "scan", "atomic", "source"), blocks))
    points = tuple(_point(profile, point) for point in profile.points.values())
    columns = (
        "point",
        "block",
        "address",
        "type",
        "unit",
        "scale",
        "range",
        "old after",
        "quality and meaning",
        "source",
    )
    parts.append(Part("Points", columns, points))
    commands = tuple(row for command in profile.commands.values() for row in _command(command))
    columns = ("command", "writes", "argument", "limits", "kept", "repeat", "read-back", "source")
    parts.append(Part("Commands", columns, commands))
    denied = tuple((_span(deny.first, deny.last - deny.first + 1), deny.why) for deny in profile.deny)
    parts.append(Part("Registers that no command may touch", ("addresses", "why"), denied))
    if isinstance(profile, MqttProfile):
        parts = [_without_registers(part) for part in parts]
        parts[0] = Part(parts[0].title, parts[0].columns, (*parts[0].rows, *topics.facts(profile)))
        parts += [Part(*table) for table in topics.tables(profile)]
    return [part for part in parts if part.rows]


def _without_registers(part: Part) -> Part:
    """Leave out what only an instrument with registers has."""
    kept = [i for i, column in enumerate(part.columns) if column not in _OF_REGISTERS]
    rows = [tuple(row[i] for i in kept) for row in part.rows if row[0] not in _OF_REGISTERS]
    return Part(part.title, tuple(part.columns[i] for i in kept), tuple(rows))


def plain(parts: Sequence[Part]) -> str:
    """Return a sheet as aligned text."""
    lines: list[str] = []
    for part in parts:
        rows = [[one_line(cell) for cell in row] for row in ([part.columns] if any(part.columns) else [])]
        rows += [[one_line(cell) for cell in row] for row in part.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(part.columns))]
        lines += ["", one_line(part.title), "-" * len(one_line(part.title))]
        lines += [
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
    return "\n".join(lines[1:])


def markdown(parts: Sequence[Part]) -> str:
    """Return a sheet as Markdown."""
    lines: list[str] = []
    for index, part in enumerate(parts):
        lines += ["", f"{'#' if index == 0 else '##'} {_escaped(part.title)}", ""]
        lines += [_row(part.columns), "|" + "---|" * len(part.columns)]
        lines += [_row(row) for row in part.rows]
    return "\n".join(lines[1:])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    plain_text = one_line(text)
    for mark in "\\`*_<>|[]":
        plain_text = plain_text.replace(mark, f"\\{mark}")
    return plain_text


def _facts(profile: Profile) -> list[tuple[str, str]]:
    facts = [
        ("role", profile.role),
        (
            "evidence",
            f"{profile.evidence}: {EVIDENCE.get(profile.evidence, 'a level that this version does not know')}",
        ),
        *(("open check", text) for text in profile.open_checks),
        *(("source", text) for text in profile.sources),
        ("transport", _transport(profile)),
        ("as delivered", _factory(profile)),
        ("word order", f"{profile.order} unless a point says otherwise"),
        ("one request", f"reads {profile.max_read} registers at most, writes {profile.max_write}"),
        ("identity", _identity(profile)),
        ("nobody talks to it", profile.on_comm_loss.replace("_", " ")),
        ("made safe by", profile.safe_command or "nothing: it has no safe command"),
        ("watchdog", _watchdog(profile)),
        ("found out by silence", _silence(profile)),
        ("power loss", ", ".join(f"{part} {fate}" for part, fate in profile.after_power_loss.items())),
        *(("on each connection", f"{name}, with the value that the site gives") for name in profile.on_connect),
        *(("known at commissioning", f"{name}: {why}") for name, why in profile.at_commissioning.items()),
        *((each.value.replace("_", " "), ", ".join(shown)) for each in Ne107 if (shown := _signs(profile, each))),
        ("simulated by", profile.sim.model if profile.sim else "plain registers"),
        ("sha256", profile.sha256),
    ]
    return [(name, text) for name, text in facts if text]


def _signs(profile: Profile, status: Ne107) -> list[str]:
    return [str(sign) for sign in profile.ne107 if sign.status is status]


def _transport(profile: Profile) -> str:
    text = f"{', '.join(profile.kinds)}; gone after {profile.offline_after} failures in a row"
    if profile.gap_s:
        text += f"; {1000 * profile.gap_s:g} ms between requests"
    if profile.pause_after_connect_s:
        text += f"; {1000 * profile.pause_after_connect_s:g} ms after a connect"
    return text


def _factory(profile: Profile) -> str:
    factory, told = profile.factory, list[str]()
    if factory is not None and factory.port:
        told.append(f"TCP port {factory.port}, unit {factory.tcp_unit}")
    if factory is not None and factory.baud:
        told.append(f"{factory.baud} baud {factory.format}, unit {factory.rtu_unit}")
    return "; ".join(told)


def _identity(profile: Profile) -> str:
    identity = profile.identity
    if identity is None:
        return "none: whoever answers is taken for it"
    setting = identity.setting
    where = f"fc {identity.fc}, register {setting.addr}, {setting.type}"
    told = f"{where} reads {setting.expected}" if setting.expected else f"{where}, kept as part of the serial number"
    none = "; no serial number" if setting.expected else ""
    return told + (f"; serial number at {identity.serial.addr}" if identity.serial else none)


def _watchdog(profile: Profile) -> str:
    dog = profile.watchdog
    if dog is None:
        return "none"
    action = dog.action.replace("_", " ")
    return f"{dog.command} with {dog.timeout_s:g} s, fed every {dog.period_s:g} s; else: {action}; {dog.tripped} tells"


def _silence(profile: Profile) -> str:
    silence = profile.silence
    if silence is None:
        return ""
    shown = f"{', '.join(silence.safe)} read true"
    opened = f", and {', '.join(silence.opened)} false" if silence.opened else ""
    return f"within {silence.within_s:g} s without a request {shown}{opened}"


def _setting(setting: Setting) -> tuple[str, ...]:
    return f"fc {setting.fc}, {setting.addr}", str(setting.type), setting.expected, setting.why, setting.doc


def _scan(block: Block) -> str:
    return f"{block.scan}, first" if block.first else block.scan


def _span(first: int, count: int) -> str:
    last = first + count - 1
    return f"{first} (0x{first:04X})" if count == 1 else f"{first}..{last} (0x{first:04X}..0x{last:04X})"


def _point(profile: Profile, point: Point) -> tuple[str, ...]:
    low_high = "" if point.range is None else f"{point.range[0]:g}..{point.range[1]:g}"
    order = f" {point.order}" if point.words > 1 and point.type is not RegType.STRING else ""
    return (
        point.name,
        point.block,
        _span(point.addr, point.words),
        f"{point.type}{order}",
        point.unit,
        _scale(point.scale, point.offset, point.unit),
        low_high,
        f"{point.stale_ms / 1000:g} s",
        "; ".join(_meaning(profile, point)),
        point.doc,
    )


def _scale(scale: float, offset: float, unit: str) -> str:
    if unit in (BOOL, SYMBOL):
        return ""
    return f"x {scale:g}" * (scale != 1.0) + f" {offset:+g}" * (offset != 0.0)


def _meaning(profile: Profile, point: Point) -> list[str]:
    told = [
        f"{raw} = {name}" for raw, name in {**point.symbols, **{f"bit {i}": n for i, n in point.bits.items()}}.items()
    ]
    told += [f"bad: reads {value:g}" for value in point.nan]
    told += [f"bad: {_rule(profile, rule)}" for rule in point.bad_when]
    told += [f"uncertain: {_rule(profile, rule)}" for rule in point.uncertain_when]
    for rule in profile.elsewhere:
        if rule.point == point.name:
            values = ", ".join(sorted(map(_shown, rule.values)))
            told.append(f"{rule.quality}: {rule.other} {'is' if rule.inside else 'is not'} {values}")
    return [*told, "must keep moving"] if point.alive else told


def _rule(profile: Profile, rule: Rule) -> str:
    if rule.mask:
        names = (bit.name for bit in profile.bits.values() if bit.point == rule.point and rule.mask >> bit.index & 1)
        return f"{' or '.join(names)} is set"
    return f"raw {rule.point} {'is' if rule.inside else 'is not'} {', '.join(map(str, sorted(rule.values)))}"


def _command(command: Command) -> list[tuple[str, ...]]:
    """Return a row for each argument; the first one says what is true of the command."""
    slots = [slot for slot in command.fields if slot.arg]
    limits = [(index.arg, f"{index.first}..{index.last}, {index.stride} registers apart") for index in command.index]
    limits += [(str(slot.arg), _limits(slot)) for slot in {slot.arg: slot for slot in reversed(slots)}.values()][::-1]
    if command.rows is not None:
        limits.append((command.rows.arg, f"at most {command.rows.max} rows of:"))
        limits += [(f"- {slot.arg}", _limits(slot)) for slot in command.rows.fields if slot.arg]
    first, *rest = limits or [("none", "")]
    head = (
        command.name, f"fc {command.fc}, {_span(command.addr, command.words)}", *first, _kept(command),
        "harmless" if command.idempotent else "does it again", _read_back(command), "; ".join(_conditions(command)),
    )  # fmt: skip
    return [head, *(("", "", name, text, "", "", "", "") for name, text in rest)]


def _limits(slot: Slot) -> str:
    if slot.symbols:
        return " | ".join(slot.symbols.values())
    if slot.type is RegType.BOOL:
        return "true | false"
    return f"{slot.min:g}..{slot.max:g} {slot.unit}".rstrip() if slot.min is not None and slot.max is not None else ""


def _kept(command: Command) -> str:
    if command.storage is None:
        return "no"
    told = [f"{command.storage.per_day} a day"] if command.storage.per_day else []
    told += [f"{command.storage.life} in its life"] if command.storage.life else []
    return "wears: " + (", ".join(told) or "no budget known")


def _read_back(command: Command) -> str:
    verify = command.verify
    if verify.reason:
        return f"none: {verify.reason}"
    told = [f"block {verify.echo} echoes it"] if verify.echo else [_expects(check) for check in verify.checks]
    return f"{', '.join(told)} within {verify.within_ms / 1000:g} s"


def _expects(check: Check) -> str:
    what = check.arg or " or ".join(_shown(value) for value in check.among)
    return f"{check.point} {'=' if check.inside else 'is not'} {what}" + (
        f" +-{check.tolerance:g}" if check.tolerance else ""
    )


def _shown(value: float | bool | str) -> str:
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _conditions(command: Command) -> list[str]:
    told = [command.doc] if command.doc else []
    told += [f"only while {_expects(check)}" for check in command.requires]
    told += ["not sent where it stands already"] * command.only_on_change
    told += [f"{command.min_interval_s:g} s between two"] * (command.min_interval_s > 0)
    told += [f"{pause:g} s after {other}" for other, pause in command.after_s.items()]
    told += [f"looked at after {command.delay_s:g} s"] * (command.delay_s > 0)
    return told
