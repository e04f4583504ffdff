"""MQTT profiles: checked and compiled, into the Profile that every instrument has and the places in its messages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from devices import profile_failsafe as failsafe
from devices.codec import RegType, WordOrder
from devices.document import Diagnostic, Document, DocumentError, Severity, validate
from devices.mqtt import model
from devices.mqtt.actions import Actions
from devices.mqtt.meaning import check_own
from devices.mqtt.payload import PLACE, path_of
from devices.mqtt.types import Ask, Form, MqttProfile, Online, PointPlace, Source
from devices.profile_bounds import check_evidence, check_scale
from devices.profile_fields import number
from devices.profile_ne107 import signs_of
from devices.profile_points import check_unit
from devices.profile_sim import check_values
from devices.profile_types import TEXT, Block, Command, Point, Sim
from devices.role import BOOL, PARTS, ROLES, SYMBOL, Role

KIND = "mqtt"
_MOST_BLOCKS = 64  # topics that one instrument may have
_DataPath = tuple[str | int, ...]
_TYPES = {"number": RegType.FLOAT64, "bool": RegType.BOOL, "symbol": RegType.STRING, "text": RegType.STRING}


def compile_mqtt(document: Document) -> MqttProfile:
    """Check and compile a parsed profile; raises DocumentError with every finding."""
    return _Compiler(document, validate(document, model.MqttProfileModel, "profile")).compiled()


class _Compiler:
    """Turns one file into an MqttProfile, collecting findings instead of stopping at the first."""

    def __init__(self, document: Document, source: model.MqttProfileModel) -> None:
        self._document = document
        self._source = source
        self._findings: list[Diagnostic] = []

    def _find(self, path: _DataPath, message: str, hint: str) -> None:
        line, column = self._document.at(path)
        name = self._document.name
        self._findings.append(Diagnostic(Severity.ERROR, "profile-invalid", message, name, line, column, hint))

    def compiled(self) -> MqttProfile:
        """Compile all parts; raises DocumentError when anything was found."""
        source, header, transport = self._source, self._source.profile, self._source.transport
        forms = {name: self._form(point, ("points", name)) for name, point in source.points.items()}
        points = {name: self._point(name, point, forms[name]) for name, point in source.points.items()}
        places = {
            name: PointPlace(path_of(point.json_path), forms[name], self._absent(name, point))
            for name, point in source.points.items()
        }
        actions = Actions(source, points, self._find)
        commands = actions.commands()
        if len(source.blocks) > _MOST_BLOCKS:
            self._find(("blocks",), f"{len(source.blocks)} blocks, more than {_MOST_BLOCKS}", "")
        if source.failsafe.watchdog is not None:
            hint = "a timer in the device is an argument of its command"
            self._find(("failsafe", "watchdog"), "an instrument over MQTT is not fed by a watchdog", hint)
        if source.failsafe.silence is not None:
            text = "nobody asks an instrument over MQTT: it does not know a silence"
            self._find(("failsafe", "silence"), text, "leave it out")
        self._role(points, commands)
        check_evidence(header, self._find)
        if source.sim is not None:
            check_values(source.sim.values, points, self._find)
        self._topic(transport.online.topic, ("transport", "online", "topic"))
        if PLACE.search(transport.mqtt.prefix) or transport.mqtt.prefix[0] in "$/" or transport.mqtt.prefix[-1] == "/":
            self._find(("transport", "mqtt", "prefix"), "a prefix is the beginning of topics, without a place", "")
        if transport.online.lost in transport.online.payload:
            self._find(("transport", "online", "lost"), "what its will says cannot mean that it is there", "")
        topics = {name: self._asked(name, block, points.values()) for name, block in source.blocks.items()}
        if source.serial is not None and source.serial.block not in topics:
            self._find(("serial", "block"), f"there is no block {source.serial.block}", "")
        blocks = {name: self._block(name, block, points) for name, block in source.blocks.items()}
        result = MqttProfile(
            id=header.id,
            version=header.version,
            role=header.role,
            maker=header.maker,
            model=header.model,
            evidence=header.evidence,
            sources=tuple(header.sources),
            order=WordOrder.ABCD,
            offline_after=max(1, transport.offline_after),
            max_read=0,
            max_write=0,
            identity=None,
            asserts=(),
            blocks=blocks,
            points=points,
            bits={},
            commands=commands,
            safe_command=failsafe.safe_command_of(source.failsafe, commands, self._find),
            on_comm_loss=source.failsafe.on_comm_loss,
            watchdog=None,
            after_power_loss=source.failsafe.after_power_loss,
            sim=None if source.sim is None else Sim(source.sim.model, source.sim.values),
            sha256=hashlib.sha256(self._document.text.encode()).hexdigest(),
            kinds=(KIND,),
            open_checks=tuple(header.open_checks),
            ne107=signs_of(source.ne107, blocks, points, {}, self._find),
            prefix=transport.mqtt.prefix,
            online=Online(transport.online.topic, frozenset(transport.online.payload), transport.online.lost),
            topics=topics,
            places=places,
            actions=actions.actions(),
            serial_place=None if source.serial is None else (source.serial.block, path_of(source.serial.json_path)),
        )
        if self._findings:
            raise DocumentError(tuple(self._findings))
        return result

    def _topic(self, topic: str, path: _DataPath) -> None:
        """Check a topic that is subscribed to: it is one topic, of this unit."""
        if any(char in topic for char in "+#\0"):
            self._find(path, f"{topic} stands for several topics", "name one topic; no + and no #")
        check_own(topic, path, self._find)
        if unknown := [name for name in PLACE.findall(topic) if name != "prefix"]:
            self._find(path, f"{{{unknown[0]}}} has no meaning here", "only {prefix} has")

    def _form(self, source: model.FormModel, path: _DataPath) -> Form:
        """Check how a value is written."""
        if source.type == "number":
            check_unit(source.unit, (*path, "unit"), self._find)
        elif source.unit or source.scale != 1.0 or source.offset != 0.0:
            self._find(path, f"a {source.type} has no unit, scale or offset", "")
        if source.scale == 0:
            self._find((*path, "scale"), "a scale of 0 makes every value equal", "")
        check_scale(source.scale, (*path, "scale"), self._find)
        if (source.type == "symbol") != bool(source.symbols):
            self._find(path, "symbols belong to the type symbol, and only to it", "text in the message: symbol")
        if (source.true is None) != (source.false is None) or (source.true is not None and source.true == source.false):
            self._find(path, "give both `true` and `false`, or neither for JSON's own", "")
        if source.true is not None and source.type != "bool":
            self._find(path, "`true` and `false` belong to the type bool", "")
        return Form(source.type, source.scale, source.offset, source.true, source.false, source.symbols or None)

    def _point(self, name: str, source: model.PointModel, form: Form) -> Point:
        path: _DataPath = ("points", name)
        if source.block not in self._source.blocks:
            self._find((*path, "block"), f"there is no block {source.block}", "")
        if source.range is not None and (form.kind != "number" or source.range[0] >= source.range[1]):
            self._find((*path, "range"), "the range must be written [low, high], of a number", "")
        unit = {"number": source.unit, "bool": BOOL, "symbol": SYMBOL}.get(form.kind, TEXT)
        return Point(
            name=name,
            block=source.block,
            addr=0,
            type=_TYPES[form.kind],
            words=0,
            order=WordOrder.ABCD,
            unit=unit,
            scale=source.scale,
            offset=source.offset,
            symbols=dict(enumerate(source.symbols.values())),
            bits={},
            range=(source.range[0], source.range[1]) if source.range else None,
            stale_ms=source.stale_ms,
            nan=(),
            bad_when=(),
            doc=source.doc,
        )

    def _absent(self, name: str, source: model.PointModel) -> float | bool | str | None:
        """Type what a point reads where the message does not have it."""
        text = source.absent
        if text is None:
            return None
        try:
            if source.type == "number":
                return float(number(text))
            if source.type == "bool":
                return {"true": True, "false": False}[text]
        except (ValueError, KeyError):
            self._find(("points", name, "absent"), f"{text!r} is no {source.type}", "")
        if source.type == "symbol" and text not in source.symbols.values():
            hint = f"one of {', '.join(source.symbols.values())}"
            self._find(("points", name, "absent"), f"{name} has no symbol {text}", hint)
        return text

    def _block(self, name: str, source: model.BlockModel, points: Mapping[str, Point]) -> Block:
        mine = tuple(point for point in points.values() if point.block == name)
        return Block(name, 0, 0, 0, source.scan, atomic=True, points=mine, doc=source.doc)

    def _asked(self, name: str, source: model.BlockModel, points: Iterable[Point]) -> Source:
        path: _DataPath = ("blocks", name)
        self._topic(source.topic, (*path, "topic"))
        ask: Ask | None = None
        if source.ask is not None:
            message = Actions.message(source.ask, (), (*path, "ask"), self._find)
            if source.ask.topic == source.topic:
                self._find((*path, "ask", "topic"), "the question would be taken for the answer", "")
            stale = min((point.stale_ms for point in points if point.block == name), default=60_000)
            every = source.ask.every_ms or stale // 2
            if every >= stale:
                self._find((*path, "ask", "every_ms"), f"it would be stale after {stale} ms", "ask earlier")
            ask = Ask(message, source.ask.within_ms / 1000, every / 1000)
        return Source(source.topic, None if source.has is None else path_of(source.has), ask)

    def _role(self, points: Mapping[str, Point], commands: Mapping[str, Command]) -> None:
        """Check that the instrument offers what its role promises."""
        path: _DataPath = ("profile", "role")
        name = self._source.profile.role
        role: Role | None = ROLES.get(name) or PARTS.get(name)
        if role is None:
            self._find(path, f"there is no role {name}", f"one of {', '.join([*ROLES, *PARTS])}")
            return
        for point, unit in role.points.items():
            if point not in points:
                self._find(path, f"a {name} must offer the point {point}", f"declare it, in {unit or 'no unit'}")
        for point, unit in {**role.points, **role.optional}.items():
            if point in points and points[point].unit != unit:
                text = f"a {name} gives {point} in {unit!r}, not in {points[point].unit!r}"
                self._find(("points", point), text, "")
        for command, wanted in role.commands.items():
            if command not in commands:
                self._find(path, f"a {name} must offer the command {command}", f"arguments: {', '.join(wanted)}")
            elif {*commands[command].args} != {*wanted}:
                hint = f"its arguments are: {', '.join(wanted) or 'none'}"
                self._find(("commands", command), f"{command} of a {name} has other arguments", hint)


def at_prefix(profile: MqttProfile, prefix: str) -> MqttProfile:
    """Return the profile of the unit whose topics begin with `prefix`; raises ValueError for one that cannot be."""
    if not prefix or any(char in prefix for char in "+#\0{}") or prefix[0] in "$/" or prefix[-1] == "/":
        raise ValueError(f"{prefix!r} is no prefix of topics: expected the one of the unit, without wildcards")
    return replace(profile, prefix=prefix)
