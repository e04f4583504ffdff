"""Profiles of instruments: loading a file of `profiles/` or of a site, checking it, compiling it.

A profile is declared once and everything is derived from it: the requests of a scan, the limits of a command,
the read-back that proves it, the registers a simulator serves. Every finding is reported at once, with its line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from devices import profile_failsafe as failsafe
from devices import profile_model as model
from devices.codec import BITS, FLOATS, CodecError, RegType, WordOrder, encode, words_of
from devices.document import Diagnostic, Document, DocumentError, Severity, load, parse, validate
from devices.profile_types import (
    TEXT,
    Bit,
    Block,
    Check,
    Command,
    Identity,
    Point,
    Profile,
    Rule,
    Serial,
    Setting,
    Slot,
    Table,
    Verify,
)
from devices.quantity import CANONICAL
from devices.role import BOOL, ROLES, SYMBOL

__all__ = ["Block", "Command", "Point", "Profile", "compile_profile", "load_profile", "profile_ids"]

_SINGLE = {5: 1, 6: 1}  # function codes that carry one register or coil

_DataPath = tuple[str | int, ...]


def profile_ids() -> tuple[str, ...]:
    """Return the ids of the profiles that come with the product, sorted."""
    names = [entry.name for entry in (files("devices") / "profiles").iterdir()]
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def load_profile(id_or_path: str | Path) -> Profile:
    """Load a profile of the product by its id, or any profile by the path of its .yaml file.

    Raises DocumentError with every finding, each with file, line and column.
    """
    if isinstance(id_or_path, str) and not id_or_path.endswith(".yaml"):
        return _packaged(id_or_path)
    return compile_profile(load(Path(id_or_path)))


@cache
def _packaged(profile_id: str) -> Profile:
    name = f"{profile_id}.yaml"
    if profile_id not in profile_ids():
        hint = f"one of {', '.join(profile_ids())}, or the path of a .yaml file"
        finding = Diagnostic(Severity.ERROR, "profile-unknown", "there is no such profile", name, 1, 1, hint)
        raise DocumentError((finding,))
    document = parse((files("devices") / "profiles" / name).read_text("utf-8"), name)
    profile = compile_profile(document)
    if profile.id != profile_id:
        line, column = document.at(("profile", "id"))
        text = f"the file is {name} but declares {profile.id}"
        raise DocumentError((Diagnostic(Severity.ERROR, "profile-unknown", text, name, line, column),))
    return profile


def compile_profile(document: Document) -> Profile:
    """Check and compile a parsed profile; raises DocumentError with every finding."""
    return _Compiler(document, validate(document, model.ProfileModel, "profile")).profile()


@dataclass(frozen=True, slots=True)
class _Known:
    """What a command may refer to."""

    blocks: Mapping[str, Block]
    points: Mapping[str, Point]
    bits: Mapping[str, Bit]


class _Compiler:
    """Turns one file into a Profile, collecting findings instead of stopping at the first."""

    def __init__(self, document: Document, source: model.ProfileModel) -> None:
        self._document = document
        self._source = source
        self._findings: list[Diagnostic] = []

    def _find(self, path: _DataPath, message: str, hint: str = "") -> None:
        line, column = self._document.at(path)
        self._findings.append(
            Diagnostic(Severity.ERROR, "profile-invalid", message, self._document.name, line, column, hint)
        )

    def profile(self) -> Profile:
        """Compile all parts; raises DocumentError when anything was found."""
        source = self._source
        points = {name: self._point(name, point) for name, point in source.points.items()}
        blocks = {name: self._block(name, block, points) for name, block in source.blocks.items()}
        bits = self._bits(points)
        known = _Known(blocks, points, bits)
        commands = {name: self._command(name, command, known) for name, command in source.commands.items()}
        self._role(known, commands)
        result = Profile(
            id=source.profile.id,
            version=source.profile.version,
            role=source.profile.role,
            maker=source.profile.maker,
            model=source.profile.model,
            evidence=source.profile.evidence,
            sources=tuple(source.profile.sources),
            order=source.codec.word_order,
            offline_after=source.transport.offline_after,
            max_read=source.limits.max_read,
            max_write=source.limits.max_write,
            identity=self._identity(),
            asserts=tuple(
                Setting(entry.fc, entry.addr, entry.type, words_of(entry.type), entry.equals, entry.why)
                for i, entry in enumerate(source.asserts)
                if self._numeric(entry.type, ("asserts", i, "type"))
            ),
            blocks=blocks,
            points=points,
            bits=bits,
            commands=commands,
            safe_command=failsafe.safe_command_of(source.failsafe, commands, self._find),
            on_comm_loss=source.failsafe.on_comm_loss,
            watchdog=failsafe.watchdog_of(source.failsafe, commands, known, self._find),
            after_power_loss=source.failsafe.after_power_loss,
            sim_model=source.sim.model if source.sim else None,
            sha256=hashlib.sha256(self._document.text.encode()).hexdigest(),
        )
        if self._findings:
            raise DocumentError(tuple(self._findings))
        return result

    def _role(self, known: _Known, commands: Mapping[str, Command]) -> None:
        """Check that the instrument offers what its role promises to recipes."""
        path: _DataPath = ("profile", "role")
        role = ROLES.get(self._source.profile.role)
        if role is None:
            self._find(path, f"there is no role {self._source.profile.role}", f"one of {', '.join(ROLES)}")
            return
        units = {name: point.unit for name, point in known.points.items()} | dict.fromkeys(known.bits, BOOL)
        for name, unit in role.points.items():
            if name not in units:
                self._find(path, f"a {role.name} must offer the point {name}", f"declare it, in {unit or 'no unit'}")
            elif units[name] != unit:
                self._find(("points", name), f"a {role.name} gives {name} in {unit!r}, not in {units[name]!r}")
        for name, wanted in role.commands.items():
            if name not in commands:
                self._find(path, f"a {role.name} must offer the command {name}", f"arguments: {', '.join(wanted)}")
                continue
            table = commands[name].rows
            args = {slot.arg for slot in commands[name].fields if slot.arg} | ({table.arg} if table else set[str]())
            if args != set(wanted):
                hint = f"its arguments are: {', '.join(wanted) or 'none'}"
                self._find(("commands", name), f"{name} of a {role.name} has other arguments", hint)

    def _numeric(self, kind: RegType, path: _DataPath) -> bool:
        if kind is RegType.STRING:
            self._find(path, "a text cannot be compared with a number here", "use a numeric type")
            return False
        return True

    def _unit(self, unit: str, path: _DataPath) -> None:
        if unit not in CANONICAL:
            units = ", ".join(filter(None, CANONICAL))
            self._find(path, f"{unit!r} is not a canonical unit", f"set scale so that the unit is one of {units}")

    def _identity(self) -> Identity | None:
        source = self._source.identity
        if source is None or not self._numeric(source.type, ("identity", "type")):
            return None
        setting = Setting(source.fc, source.addr, source.type, words_of(source.type), source.expect, "the model")
        end, serial = source.addr + setting.words, None
        if source.serial is not None:
            serial = Serial(source.serial.addr, source.serial.type, words_of(source.serial.type, source.serial.length))
            if serial.addr < source.addr:
                self._find(("identity", "serial", "addr"), "the serial number must not stand before the identity")
            end = max(end, serial.addr + serial.words)
        count = end - source.addr
        if count > self._source.limits.max_read:
            self._find(("identity",), f"identity and serial number span {count} registers, more than limits.max_read")
        return Identity(source.fc, source.addr, count, setting, serial)

    def _point(self, name: str, source: model.PointModel) -> Point:
        path: _DataPath = ("points", name)
        kind, unit = source.type, source.unit
        if kind is RegType.STRING and not source.length:
            self._find(path, "a string needs `length`, its number of registers")
        if kind is RegType.STRING or kind is RegType.BOOL or source.symbols or kind in BITS:
            if unit or source.scale != 1.0 or source.offset != 0.0 or source.range:
                self._find(path, f"{name} is no number: it has no unit, scale, offset or range")
            unit = TEXT if kind is RegType.STRING else BOOL if kind is RegType.BOOL else unit
            unit = SYMBOL if source.symbols else unit
        else:
            self._unit(unit, (*path, "unit"))
        if source.symbols and (kind in FLOATS or kind in BITS or kind in (RegType.BOOL, RegType.STRING)):
            self._find((*path, "symbols"), f"{kind} cannot have symbols", "use an integer type")
        if source.bits and kind not in BITS:
            self._find((*path, "bits"), f"{kind} has no named bits", "use bits16 or bits32")
        if any(index >= 16 * words_of(kind) for index in source.bits if kind in BITS):
            self._find((*path, "bits"), f"{kind} has bits 0 to {16 * words_of(kind) - 1}")
        if source.scale == 0:
            self._find((*path, "scale"), "a scale of 0 makes every value equal")
        if source.range and source.range[0] >= source.range[1]:
            self._find((*path, "range"), "the range must be written [low, high]")
        rules = tuple(self._rule(name, source, i) for i in range(len(source.bad_when)))
        return Point(
            name=name,
            block=source.block,
            addr=source.addr,
            type=kind,
            words=words_of(kind, source.length),
            order=source.word_order or self._source.codec.word_order,
            unit=unit,
            scale=source.scale,
            offset=source.offset,
            symbols=source.symbols,
            bits=source.bits,
            range=(source.range[0], source.range[1]) if source.range else None,
            stale_ms=source.stale_ms,
            nan=tuple(source.nan),
            bad_when=tuple(rule for rule in rules if rule is not None),
            alive=source.alive,
        )

    def _rule(self, name: str, source: model.PointModel, index: int) -> Rule | None:
        rule, path = source.bad_when[index], ("points", name, "bad_when", index)
        other = self._source.points.get(rule.point)
        if other is None or other.block != source.block:
            self._find(path, f"{rule.point} is not a point of the block {source.block}", "quality comes with the value")
        elif other.type is RegType.STRING or other.type in FLOATS:
            self._find(path, f"{rule.point} is {other.type}; only whole numbers can be listed")
        elif (rule.among is None) == (rule.not_in is None):
            self._find(path, "give either `in` or `not_in`")
        else:
            listed = rule.among if rule.among is not None else rule.not_in
            return Rule(rule.point, frozenset(listed or ()), rule.among is not None)
        return None

    def _block(self, name: str, source: model.BlockModel, points: Mapping[str, Point]) -> Block:
        path: _DataPath = ("blocks", name)
        if source.count > self._source.limits.max_read:
            self._find((*path, "count"), f"{source.count} registers are more than limits.max_read")
        mine = tuple(point for point in points.values() if point.block == name)
        for point in mine:
            if point.addr < source.addr or point.addr + point.words > source.addr + source.count:
                self._find(
                    ("points", point.name, "addr"),
                    f"{point.name} (addresses {point.addr} to {point.addr + point.words - 1}) is outside block {name}",
                    f"{name} covers addresses {source.addr} to {source.addr + source.count - 1}",
                )
            if source.fc in (1, 2) and point.type is not RegType.BOOL:
                self._find(("points", point.name, "type"), f"function code {source.fc} carries bits: type must be bool")
        return Block(name, source.fc, source.addr, source.count, source.scan, source.atomic, mine)

    def _bits(self, points: Mapping[str, Point]) -> dict[str, Bit]:
        bits: dict[str, Bit] = {}
        for point in points.values():
            if point.block not in self._source.blocks:
                self._find(("points", point.name, "block"), f"there is no block {point.block}")
            for index, name in point.bits.items():
                if name in points or name in bits:
                    self._find(("points", point.name, "bits"), f"{name} is the name of another point or bit")
                bits[name] = Bit(name, point.name, index)
        return bits

    def _command(self, name: str, source: model.CommandModel, known: _Known) -> Command:
        path: _DataPath = ("commands", name)
        write = source.write
        fields = tuple(self._slot(field, (*path, "write", "fields", i)) for i, field in enumerate(write.fields))
        rows: Table | None = None
        if write.rows is not None:
            inner = (*path, "write", "rows", "fields")
            slots = tuple(self._slot(field, (*inner, i)) for i, field in enumerate(write.rows.fields))
            rows = Table(write.rows.arg, write.rows.max, slots, sum(slot.words for slot in slots))
        words = sum(slot.words for slot in fields) + (rows.max * rows.words if rows else 0)
        if not fields and not rows:
            self._find((*path, "write"), f"{name} writes nothing", "give `fields` or `rows`")
        if words > self._source.limits.max_write:
            self._find((*path, "write"), f"{name} writes {words} registers, more than limits.max_write")
        if words != _SINGLE.get(write.fc, words):
            self._find((*path, "write"), f"function code {write.fc} writes one value, {name} has {words} registers")
        if write.fc in (5, 15) and any(slot.type is not RegType.BOOL for slot in fields):
            self._find((*path, "write"), f"function code {write.fc} writes coils: every field must be bool")
        names = [slot.arg for slot in fields if slot.arg] + ([rows.arg] if rows else [])
        if len(set(names)) != len(names):
            self._find((*path, "write"), "an argument is named twice")
        for i, denied in enumerate(self._source.deny):
            if write.addr <= denied.range[1] and write.addr + words - 1 >= denied.range[0]:
                self._find((*path, "write", "addr"), f"{name} writes denied registers: {denied.why}", f"see deny[{i}]")
        verify = self._verify(name, source, known)
        return Command(name, write.fc, write.addr, words, fields, rows, source.idempotent, verify)

    def _slot(self, source: model.FieldModel, path: _DataPath) -> Slot:
        words = 1
        if source.type is RegType.STRING:
            self._find(path, "a text cannot be written by a command", "use a numeric type")
        else:
            words = words_of(source.type)
        if (source.arg is None) == (source.value is None):
            self._find(path, "give either `arg` (from the caller) or `value` (fixed, raw)")
        bounded = source.min is not None and source.max is not None
        if source.arg is not None and not bounded and not source.symbols and source.type is not RegType.BOOL:
            self._find(path, f"{source.arg} has no limits", "give min and max, or symbols")
        if bounded and (source.min or 0.0) > (source.max or 0.0):
            self._find(path, "min is greater than max")
        if not source.symbols:
            self._unit(source.unit, (*path, "unit"))
        if source.scale == 0:
            self._find((*path, "scale"), "a scale of 0 cannot be written")
            return Slot(None, 0.0, RegType.UINT16, 1, WordOrder.ABCD, "", 1.0, None, None, {})
        slot = Slot(
            arg=source.arg,
            value=source.value,
            type=source.type,
            words=words,
            order=source.word_order or self._source.codec.word_order,
            unit=SYMBOL if source.symbols else source.unit,
            scale=source.scale,
            min=source.min,
            max=source.max,
            symbols=source.symbols,
        )
        raws = [source.value, *source.symbols] + [
            edge if source.type in FLOATS else round(edge / source.scale)
            for edge in (source.min, source.max)
            if edge is not None
        ]
        try:
            for raw in raws:
                if raw is not None and source.type is not RegType.STRING:
                    encode(source.type, raw)
        except CodecError as error:
            self._find(path, str(error), "the type must hold every value that is allowed")
        return slot

    def _verify(self, name: str, command: model.CommandModel, known: _Known) -> Verify:
        source, path = command.verify, ("commands", name, "verify")
        if (bool(source.points) + (source.echo is not None) + (source.none is not None)) != 1:
            self._find(path, "give one of `points`, `echo` or `none`", "`none` takes the reason as its text")
        if source.none is not None and not source.none.strip():
            self._find((*path, "none"), "say why the write cannot be read back")
        args = [slot.arg for slot in command.write.fields if slot.arg]
        needed: list[str] = []
        checks: list[Check] = []
        for i, check in enumerate(source.points):
            there = (*path, "points", i)
            bit = known.bits.get(check.point)
            point = known.points.get(bit.point if bit else check.point)
            if point is None:
                self._find(there, f"there is no point {check.point}")
                continue
            needed.append(point.block)
            among = [check.equals] if check.equals is not None else list(check.among or [])
            if (check.arg is None) == (not among):
                self._find(there, "give one of `arg`, `equals` or `in`")
            if check.arg is not None and check.arg not in args:
                self._find(there, f"{name} has no argument {check.arg}", f"one of {', '.join(args) or '(none)'}")
            values = [self._value(text, BOOL if bit else point.unit, point, there) for text in among]
            checks.append(Check(check.point, check.arg, tuple(values), check.tolerance))
        if source.echo is not None:
            echo = known.blocks.get(source.echo)
            needed.append(source.echo)
            start = command.write.addr
            if echo is None or echo.fc != 3 or not echo.addr <= start < echo.addr + echo.count:  # holding registers
                self._find((*path, "echo"), f"{source.echo} is no block of holding registers over what {name} writes")
        return Verify(source.within_ms, tuple(checks), source.echo, tuple(dict.fromkeys(needed)), source.none or "")

    def _value(self, text: str, unit: str, point: Point, path: _DataPath) -> float | bool | str:
        """Type the text of a check by its point."""
        if unit == BOOL:
            if text not in ("true", "false"):
                self._find(path, f"{point.name} is true or false, not {text}")
            return text == "true"
        if unit == SYMBOL:
            if text not in point.symbols.values():
                self._find(path, f"{point.name} has no symbol {text}", f"one of {', '.join(point.symbols.values())}")
            return text
        if unit == TEXT:
            return text
        try:
            return float(text)
        except ValueError:
            self._find(path, f"{point.name} is a number, not {text!r}")
            return 0.0
