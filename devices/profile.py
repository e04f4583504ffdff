"""Profiles of instruments: loading a file of `profiles/` or of a site, checking it, compiling it.

A profile is declared once and everything is derived from it: the requests of a scan, the limits of a command,
the read-back that proves it, the registers a simulator serves. Every finding is reported at once, with its line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import cast

from devices import profile_failsafe as failsafe
from devices import profile_model as model
from devices.codec import RegType, words_of
from devices.document import Diagnostic, Document, DocumentError, Severity, load, parse, validate
from devices.profile_bounds import check_end, check_evidence, check_raw, check_table
from devices.profile_commands import Commands
from devices.profile_given import at_commissioning_of, on_connect_of
from devices.profile_ne107 import signs_of
from devices.profile_points import Known, Points
from devices.profile_sim import sim_of
from devices.profile_types import (
    Block,
    Command,
    Deny,
    Factory,
    Identity,
    Point,
    Profile,
    Serial,
    Setting,
)
from devices.role import BOOL, PARTS, ROLES

__all__ = ["Block", "Command", "Point", "Profile", "compile_profile", "load_profile", "profile_ids"]

_DataPath = tuple[str | int, ...]


def profile_ids() -> tuple[str, ...]:
    """Return the ids of the profiles that come with the product, sorted."""
    names = [entry.name for entry in (files("devices") / "profiles").iterdir()]
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def load_profile(id_or_path: str | Path, folders: Sequence[Path] = ()) -> Profile:
    """Load a profile by its id, from the first of `folders` that has it or of the product; or by the path of its file.

    Raises DocumentError with every finding, each with file, line and column.
    """
    if isinstance(id_or_path, Path) or id_or_path.endswith(".yaml"):
        return compile_profile(load(Path(id_or_path)))
    for folder in folders:
        path = folder / f"{id_or_path}.yaml"
        if path.is_file():
            document = load(path)
            return _named(compile_profile(document), id_or_path, document)
    return _packaged(id_or_path)


@cache
def _packaged(profile_id: str) -> Profile:
    name = f"{profile_id}.yaml"
    if profile_id not in profile_ids():
        hint = f"one of {', '.join(profile_ids())}, or the path of a .yaml file"
        finding = Diagnostic(Severity.ERROR, "profile-unknown", "there is no such profile", name, 1, 1, hint)
        raise DocumentError((finding,))
    document = parse((files("devices") / "profiles" / name).read_text("utf-8"), name)
    return _named(compile_profile(document), profile_id, document)


def _named(profile: Profile, profile_id: str, document: Document) -> Profile:
    """Return the profile, whose id must be that by which it was asked for; raises DocumentError."""
    if profile.id != profile_id:
        line, column = document.at(("profile", "id"))
        text = f"the file is {profile_id}.yaml but declares {profile.id}"
        raise DocumentError((Diagnostic(Severity.ERROR, "profile-unknown", text, document.name, line, column),))
    return profile


def compile_profile(document: Document) -> Profile:
    """Check and compile a parsed profile; raises DocumentError with every finding."""
    transport: object = document.data.get("transport")
    if isinstance(transport, dict) and "mqtt" in str(cast("dict[str, object]", transport).get("kinds")):
        from devices.mqtt.profile import compile_mqtt  # noqa: PLC0415 - only a site that has one pays for it

        return compile_mqtt(document)
    return _Compiler(document, validate(document, model.ProfileModel, "profile")).profile()


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
        points = Points(source, self._find)
        known = points.known()
        commands = Commands(source, known, self._find).compiled()
        self._role(known, commands)
        identity = self._identity()
        asserts = tuple(self._setting(i, entry) for i, entry in enumerate(source.asserts))
        if identity is not None:
            points.torn(known.blocks, identity.fc, identity.addr, identity.count, "the identity", ("identity",))
        for i, setting in enumerate(asserts):
            points.torn(known.blocks, setting.fc, setting.addr, setting.words, "it", ("asserts", i))
        check_evidence(source.profile, self._find)
        transport = source.transport
        result = Profile(
            id=source.profile.id,
            version=source.profile.version,
            role=source.profile.role,
            maker=source.profile.maker,
            model=source.profile.model,
            evidence=source.profile.evidence,
            sources=tuple(source.profile.sources),
            order=source.codec.word_order,
            offline_after=transport.offline_after,
            max_read=source.limits.max_read,
            max_write=source.limits.max_write,
            identity=identity,
            asserts=asserts,
            blocks=known.blocks,
            points=known.points,
            bits=known.bits,
            commands=commands,
            safe_command=failsafe.safe_command_of(source.failsafe, commands, self._find),
            on_comm_loss=source.failsafe.on_comm_loss,
            watchdog=failsafe.watchdog_of(source.failsafe, commands, known, self._find),
            silence=failsafe.silence_of(source.failsafe, known, self._find),
            after_power_loss=source.failsafe.after_power_loss,
            sim=sim_of(source, known.points, self._find),
            sha256=hashlib.sha256(self._document.text.encode()).hexdigest(),
            kinds=tuple(transport.kinds),
            gap_s=transport.gap_ms / 1000,
            pause_after_connect_s=transport.pause_after_connect_ms / 1000,
            factory=_factory(transport),
            deny=tuple(Deny(denied.range[0], denied.range[1], denied.why) for denied in source.deny),
            elsewhere=points.elsewhere(),
            open_checks=tuple(source.profile.open_checks),
            on_connect=on_connect_of(source, commands, self._find),
            at_commissioning=at_commissioning_of(source, known, self._find),
            alarms=source.alarms,
            ne107=signs_of(source.ne107, known.blocks, known.points, known.bits, self._find),
        )
        failsafe.check_configured(source, self._find)
        for i, denied in enumerate(source.deny):
            if denied.range[0] > denied.range[1]:
                self._find(("deny", i, "range"), "the range must be written [first, last]")
        if self._findings:
            raise DocumentError(tuple(self._findings))
        return result

    def _role(self, known: Known, commands: Mapping[str, Command]) -> None:
        """Check that the instrument offers what its role promises, to recipes or to equipment that it is part of."""
        path: _DataPath = ("profile", "role")
        name = self._source.profile.role
        role = ROLES.get(name) or PARTS.get(name)
        if role is None:
            self._find(path, f"there is no role {name}", f"one of {', '.join([*ROLES, *PARTS])}")
            return
        units = {name: point.unit for name, point in known.points.items()} | dict.fromkeys(known.bits, BOOL)
        for name, unit in role.points.items():
            if name not in units:
                self._find(path, f"a {role.name} must offer the point {name}", f"declare it, in {unit or 'no unit'}")
            elif units[name] != unit:
                self._find(("points", name), f"a {role.name} gives {name} in {unit!r}, not in {units[name]!r}")
        for name, unit in role.optional.items():
            if units.get(name, unit) != unit:
                self._find(("points", name), f"a {role.name} gives {name} in {unit!r}, not in {units[name]!r}")
        for name, wanted in role.commands.items():
            if name not in commands:
                self._find(path, f"a {role.name} must offer the command {name}", f"arguments: {', '.join(wanted)}")
            elif {*commands[name].args} != {*wanted}:
                hint = f"its arguments are: {', '.join(wanted) or 'none'}"
                self._find(("commands", name), f"{name} of a {role.name} has other arguments", hint)
        for name in role.some_settable:
            if f"set_{name}" in commands and not {name, f"{name}_target"} <= {*units}:
                text = f"a {role.name} with set_{name} must offer the points {name} and {name}_target"
                self._find(path, text, "its target has to be read back, and what becomes of it")
        for name, may in role.abilities.items():
            if name in commands and not {*commands[name].args} <= {*may}:
                hint = f"its arguments are among: {', '.join(may) or 'none'}"
                self._find(("commands", name), f"{name} of a {role.name} has other arguments", hint)

    def _numeric(self, kind: RegType, path: _DataPath) -> bool:
        if kind is RegType.STRING:
            self._find(path, "a text cannot be compared with a number here", "use a numeric type")
            return False
        return True

    def _setting(self, number: int, source: model.AssertModel) -> Setting:
        path: _DataPath = ("asserts", number)
        words = 1
        if self._numeric(source.type, (*path, "type")):
            words = words_of(source.type)
        if (source.equals is None) == (source.among is None):
            self._find(path, "give either `equals` or `in`")
        among = tuple(source.among or ()) if source.equals is None else (source.equals,)
        order = source.word_order or self._source.codec.word_order
        self._stands(source.fc, source.addr, source.type, words, path)
        if source.among is not None and not source.among:
            self._find((*path, "in"), "nothing is listed: no value would stand", "list the values that may stand there")
        for value in among if source.type is not RegType.STRING else ():
            check_raw(source.type, value, (*path, "in" if source.equals is None else "equals"), self._find)
        return Setting(source.fc, source.addr, source.type, words, among, source.why, order, doc=source.doc)

    def _stands(self, fc: int, addr: int, kind: RegType, words: int, path: _DataPath) -> None:
        """Check that there are registers of this kind there."""
        check_table(fc, kind, (*path, "type"), self._find)
        check_end("it", addr, words, (*path, "addr"), self._find)

    def _identity(self) -> Identity | None:
        source = self._source.identity
        if source is None:
            return None
        path: _DataPath = ("identity",)
        text = source.type is RegType.STRING
        if text and not source.length:
            self._find((*path, "type"), "a string needs `length`, its number of registers")
        if (text and source.expect is not None) or (not text and source.starts is not None):
            self._find(path, f"{source.type} is compared with `{'starts' if text else 'expect'}`")
        if source.expect is not None and not text:
            check_raw(source.type, source.expect, (*path, "expect"), self._find)
        if source.starts is not None and text and len(source.starts) > 2 * source.length:
            hint = "give `length`, two characters for each register"
            self._find((*path, "starts"), f"{source.starts!r} is longer than {2 * source.length} characters", hint)
        words = words_of(source.type, source.length)
        self._stands(source.fc, source.addr, source.type, words, path)
        order = source.word_order or self._source.codec.word_order
        among = () if source.expect is None else (float(source.expect),)
        starts = source.starts or ""
        setting = Setting(source.fc, source.addr, source.type, words, among, "the model", order, starts, source.doc)
        end, serial = source.addr + words, None
        if source.serial is not None:
            serial = Serial(source.serial.addr, source.serial.type, words_of(source.serial.type, source.serial.length))
            self._stands(source.fc, serial.addr, serial.type, serial.words, (*path, "serial"))
            if not serial.words:
                self._find((*path, "serial", "type"), "a string needs `length`, its number of registers")
            if serial.addr < source.addr:
                self._find((*path, "serial", "addr"), "the serial number must not stand before the identity")
            end = max(end, serial.addr + serial.words)
        count = end - source.addr
        if count > self._source.limits.max_read:
            self._find(path, f"identity and serial number span {count} registers, more than limits.max_read")
        return Identity(source.fc, source.addr, count, setting, serial)


def _factory(source: model.TransportModel) -> Factory | None:
    tcp, rtu = source.tcp, source.rtu
    if tcp is None and rtu is None:
        return None
    return Factory(
        tcp.port if tcp else 0,
        tcp.unit if tcp else 0,
        rtu.baud if rtu else 0,
        rtu.format if rtu else "",
        rtu.unit if rtu else 0,
    )
