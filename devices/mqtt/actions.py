"""Commands of an MQTT profile: what they publish, within which limits, and what proves them; checked and compiled."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from devices.codec import RegType, WordOrder
from devices.mqtt import model
from devices.mqtt.meaning import check_own, check_told
from devices.mqtt.payload import PLACE, path_of
from devices.mqtt.types import Ack, Action, Arg, ArgValue, Form, Message
from devices.profile_bounds import check_scale
from devices.profile_points import check_unit
from devices.profile_proof import check_meaning, check_proof
from devices.profile_types import TEXT, Check, Command, Point, Slot, Verify
from devices.role import BOOL, SYMBOL

_DataPath = tuple[str | int, ...]
_Find = Callable[[_DataPath, str, str], None]
_STANDING = frozenset({"prefix", "reply", "id"})
"""Places that the driver fills in any message."""


class Actions:
    """Compiles the commands of one file; what is wrong with them goes to `find`."""

    def __init__(self, source: model.MqttProfileModel, points: Mapping[str, Point], find: _Find) -> None:
        self._source = source
        self._points = points
        self._find = find

    def commands(self) -> dict[str, Command]:
        """Return what the controller knows of the commands."""
        return {name: self._command(name, command) for name, command in self._source.commands.items()}

    def actions(self) -> dict[str, Action]:
        """Return what the driver publishes for them."""
        return {name: self._action(name, command) for name, command in self._source.commands.items()}

    @staticmethod
    def message(source: model.MessageModel, args: Collection[str], path: _DataPath, find: _Find) -> Message:
        """Check and compile a message that may have places for `args`."""
        if any(char in source.topic for char in "+#\0"):
            find((*path, "topic"), f"{source.topic} stands for several topics", "a message goes to one topic")
        check_own(source.topic, (*path, "topic"), find)
        body = source.text if source.text is not None else source.json_text
        if (source.text is None) == (source.json_text is None):
            find(path, "give one of `text` or `json`", "text: '' is an empty payload")
        content: Any = None
        if source.json_text is not None:
            try:
                content = json.loads(source.json_text)
            except (ValueError, RecursionError) as error:
                find((*path, "json"), f"this is no JSON: {error!s:.100}", 'quote every place: "{arg}"')
        known = {*args, *_STANDING}
        for name in PLACE.findall(f"{source.topic} {body or ''}"):
            if name not in known:
                find(path, f"{{{name}}} has no meaning here", f"one of {', '.join(sorted(known))}")
        return Message(source.topic, source.text or "", content, is_json=source.json_text is not None)

    def _command(self, name: str, source: model.CommandModel) -> Command:
        slots = tuple(self._slot(arg, given, ("commands", name, "args", arg)) for arg, given in source.args.items())
        return Command(
            name=name,
            fc=0,
            addr=0,
            words=0,
            fields=slots,
            rows=None,
            idempotent=source.idempotent,
            verify=self._verify(name, source, slots),
            doc=source.doc,
        )

    def _slot(self, arg: str, source: model.ArgModel, path: _DataPath) -> Slot:
        if source.type == "text":
            self._find((*path, "type"), "a free text cannot be an argument", "use symbol")
        if source.type == "number":
            check_unit(source.unit, (*path, "unit"), self._find)
            if source.min is None or source.max is None:
                self._find(path, f"{arg} has no limits", "give min and max")
            elif source.min > source.max:
                self._find(path, "min is greater than max", "")
            if source.scale == 0:
                self._find((*path, "scale"), "a scale of 0 cannot be sent", "")
            check_scale(source.scale, (*path, "scale"), self._find)
        elif source.min is not None or source.max is not None:
            self._find(path, f"a {source.type} has no limits", "")
        if (source.type == "symbol") != bool(source.symbols):
            self._find(path, "symbols belong to the type symbol, and only to it", "text in the message: symbol")
        if (source.true is None) != (source.false is None) or (source.true is not None and source.type != "bool"):
            self._find(path, "give both `true` and `false`, of a bool, or neither", "")
        kind = {"number": RegType.FLOAT64, "bool": RegType.BOOL}.get(source.type, RegType.STRING)
        unit = {"number": source.unit, "bool": BOOL}.get(source.type, SYMBOL)
        symbols = dict(enumerate(source.symbols.values()))
        return Slot(arg, None, kind, 0, WordOrder.ABCD, unit, 1.0, source.min, source.max, symbols)

    def _action(self, name: str, source: model.CommandModel) -> Action:
        path: _DataPath = ("commands", name)
        message = self.message(source.publish, source.args, (*path, "publish"), self._find)
        body = f"{source.publish.topic} {source.publish.text or ''} {source.publish.json_text or ''}"
        sent = {*PLACE.findall(body)}
        args: dict[str, Arg] = {}
        for arg, given in source.args.items():
            if arg not in sent:
                self._find((*path, "args", arg), f"{arg} is asked for and never sent", f"write {{{arg}}}")
            if arg in _STANDING:
                self._find((*path, "args", arg), f"{arg} is filled in by the driver", "choose another name")
            if given.only_when is not None and not message.is_json:
                self._find((*path, "args", arg, "only_when"), "a part of a text cannot be left out", "use `json`")
            form = Form(given.type, given.scale, given.offset, given.true, given.false, given.symbols or None)
            args[arg] = Arg(form, self._only(given, source, (*path, "args", arg, "only_when")))
        return Action(message, args, None if source.ack is None else self._ack(source.ack, sent, {*args}, path))

    def _only(self, given: model.ArgModel, source: model.CommandModel, path: _DataPath) -> tuple[str, ArgValue] | None:
        if given.only_when is None:
            return None
        ((other, text),) = given.only_when.items()
        decider = source.args.get(other)
        if decider is None or decider.type not in ("bool", "symbol") or decider.only_when is not None:
            self._find(path, f"{other} is no bool or symbol that is always sent", "")
            return None
        if decider.type == "bool":
            if text not in ("true", "false"):
                self._find(path, f"{other} is true or false, not {text}", "")
            return other, text == "true"
        if text not in decider.symbols.values():
            self._find(path, f"{other} has no symbol {text}", f"one of {', '.join(decider.symbols.values())}")
        return other, text

    def _ack(self, source: model.AckModel, sent: Collection[str], args: Collection[str], above: _DataPath) -> Ack:
        path: _DataPath = (*above, "ack")
        if any(char in source.topic for char in "+#\0"):
            self._find((*path, "topic"), f"{source.topic} stands for several topics", "")
        check_own(source.topic, (*path, "topic"), self._find, ("prefix", "reply"))
        for name in PLACE.findall(" ".join((source.topic, *source.match.values()))):
            if name not in (*args, *_STANDING):
                self._find(path, f"{{{name}}} has no meaning here", f"one of {', '.join([*args, *_STANDING])}")
            elif name == "id" and "id" not in sent:
                self._find(path, "the answer cannot have an {id} that was never sent", "send {id} in `publish`")
        if "{id}" in source.topic:
            self._find((*path, "topic"), "answers are subscribed to once: their topic cannot have the {id} of one", "")
        match = tuple((path_of(at), text) for at, text in source.match.items())
        refusal = None if source.refusal is None else path_of(source.refusal)
        if refusal is not None and "{id}" not in source.match.values():
            self._find((*path, "refusal"), "without {id} an error may be the answer to somebody else", "match {id}")
        return Ack(source.topic, match, refusal, source.within_ms / 1000)

    def _verify(self, name: str, source: model.CommandModel, slots: tuple[Slot, ...]) -> Verify:
        path: _DataPath = ("commands", name, "verify")
        verify = source.verify
        if (verify.none is None) == (not verify.points):
            self._find(path, "give `points` to read back, or `none` with the reason", "")
        if verify.none is not None and source.ack is None:
            self._find(path, f"nothing would show whether {name} was carried out", "give `ack` or `points`")
        checks: list[Check] = []
        needed: list[str] = []
        for i, check in enumerate(verify.points):
            there = (*path, "points", i)
            point = self._points.get(check.point)
            if point is None:
                self._find(there, f"there is no point {check.point}", "")
                continue
            needed.append(point.block)
            among = [check.equals] if check.equals is not None else list(check.among or [])
            if (check.arg is not None) + (check.equals is not None) + bool(check.among) != 1:
                self._find(there, "give one of `arg`, `equals` or `in`", "")
            if check.arg is not None and check.arg not in source.args:
                self._find(there, f"{name} has no argument {check.arg}", f"one of {', '.join(source.args) or '(none)'}")
            values = tuple(self._value(text, point, there) for text in among)
            checks.append(Check(check.point, check.arg, values, check.tolerance))
            slot = next((slot for slot in slots if check.arg is not None and slot.arg == check.arg), None)
            check_proof(checks[-1], point, slot, there, self._find)
            check_meaning(self._source.profile.role, name, checks[-1], there, self._find)
        check_told(name, source, self._source.points, checks, self._find)
        return Verify(verify.within_ms, tuple(checks), None, tuple(dict.fromkeys(needed)), verify.none or "")

    def _value(self, text: str, point: Point, path: _DataPath) -> float | bool | str:
        """Type the text of a check by its point."""
        symbols = [*point.symbols.values()]
        if point.unit == BOOL:
            if text not in ("true", "false"):
                self._find(path, f"{point.name} is true or false, not {text}", "")
            return text == "true"
        if point.unit == SYMBOL and text not in symbols:
            self._find(path, f"{point.name} has no symbol {text}", f"one of {', '.join(symbols)}")
        if point.unit in (SYMBOL, TEXT):
            return text
        try:
            return float(text)
        except ValueError:
            self._find(path, f"{point.name} is a number, not {text!r}", "")
            return 0.0
