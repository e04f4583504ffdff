"""Blocks, points and their quality: checked against each other and compiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from devices import profile_model as model
from devices.codec import BITS, FLOATS, CodecError, RegType, WordOrder, decode, words_of
from devices.profile_bounds import check_end, check_scale, check_symbols
from devices.profile_types import TEXT, Bit, Block, Command, Elsewhere, Point, Rule
from devices.quantity import CANONICAL
from devices.reading import Quality
from devices.role import BOOL, SYMBOL

DataPath = tuple[str | int, ...]
Find = Callable[[DataPath, str, str], None]
EXAMPLE_WITHIN = 1e-4  # relative: manuals round their examples
_Value = float | bool | str


@dataclass(frozen=True, slots=True)
class Known:
    """What a profile offers: what its commands and its failsafe may refer to."""

    blocks: Mapping[str, Block]
    points: Mapping[str, Point]
    bits: Mapping[str, Bit]
    commands: Mapping[str, Command]


def check_unit(unit: str, path: DataPath, find: Find) -> None:
    """Report a unit that is not canonical."""
    if unit not in CANONICAL:
        units = ", ".join(filter(None, CANONICAL))
        find(path, f"{unit!r} is not a canonical unit", f"set scale so that the unit is one of {units}")


def check_order(order: WordOrder | None, kind: RegType, words: int, path: DataPath, find: Find) -> None:
    """Report a word order of a value that has one word only: there it says nothing, and somebody believes it does."""
    swaps_bytes = order in (WordOrder.BADC, WordOrder.DCBA)
    if order is not None and words == 1 and kind is not RegType.STRING and not swaps_bytes:
        find((*path, "word_order"), f"{kind} is one register: it has no word order", "leave it out")


class Points:
    """Compiles the blocks and points of one file; what is wrong with them goes to `find`."""

    def __init__(self, source: model.ProfileModel, find: Find) -> None:
        self._source = source
        self._find = find
        self._points = {name: self._point(name, point) for name, point in source.points.items()}
        self._bits = self._named_bits()

    def known(self) -> Known:
        """Return what there is to refer to; commands are added later."""
        blocks = {name: self._block(name, block) for name, block in self._source.blocks.items()}
        for name, block in blocks.items():
            self.torn(blocks, block.fc, block.addr, block.count, f"block {name}", ("blocks", name))
        return Known(blocks, self._points, self._bits, {})

    def torn(self, blocks: Mapping[str, Block], fc: int, addr: int, count: int, what: str, path: DataPath) -> None:
        """Report a read that takes a part of an atomic block, or more than it: some makers forbid it."""
        for name, block in blocks.items():
            whole = (block.fc, block.addr, block.count)
            touches = fc == block.fc and addr < block.addr + block.count and block.addr < addr + count
            if block.atomic and touches and (fc, addr, count) != whole:
                text = f"{what} reads addresses {addr} to {addr + count - 1}, which tears the atomic block {name}"
                hint = f"{name} is read whole or not at all: addresses {block.addr} to {block.addr + block.count - 1}"
                self._find(path, text, hint)

    def elsewhere(self) -> tuple[Elsewhere, ...]:
        """Return the rules of quality that look at another block."""
        found: list[Elsewhere] = []
        for name, point in self._source.points.items():
            for key, rules, quality in self._rules_of(point):
                for i, rule in enumerate(rules):
                    other, _ = self._named(rule)
                    if other is None or other.block == point.block:
                        continue
                    path: DataPath = ("points", name, key, i)
                    if rule.bit is not None:
                        found.append(Elsewhere(name, rule.bit, frozenset({True}), inside=True, quality=quality))
                    elif self._listed(rule, other, path) is not None:
                        compiled = self._points[str(rule.point)]
                        values = frozenset(_read(compiled, raw) for raw in (rule.among or rule.not_in or ()))
                        found.append(Elsewhere(name, compiled.name, values, rule.among is not None, quality))
        return tuple(found)

    def _rules_of(self, point: model.PointModel) -> list[tuple[str, list[model.QualityRuleModel], Quality]]:
        return [
            ("bad_when", point.bad_when, Quality.BAD),
            ("uncertain_when", point.uncertain_when, Quality.UNCERTAIN),
        ]

    def _point(self, name: str, source: model.PointModel) -> Point:
        path: DataPath = ("points", name)
        kind, unit = source.type, source.unit
        words = words_of(kind, source.length)
        if kind is RegType.STRING and not source.length:
            self._find(path, "a string needs `length`, its number of registers", "")
        if kind is RegType.STRING or kind is RegType.BOOL or source.symbols or kind in BITS:
            if unit or source.scale != 1.0 or source.offset != 0.0 or source.range:
                self._find(path, f"{name} is no number: it has no unit, scale, offset or range", "")
            unit = TEXT if kind is RegType.STRING else BOOL if kind is RegType.BOOL else unit
            unit = SYMBOL if source.symbols else unit
        else:
            check_unit(unit, (*path, "unit"), self._find)
        if source.symbols and (kind in FLOATS or kind in BITS or kind in (RegType.BOOL, RegType.STRING)):
            self._find((*path, "symbols"), f"{kind} cannot have symbols", "use an integer type")
        if source.bits and kind not in BITS:
            self._find((*path, "bits"), f"{kind} has no named bits", "use bits16 or bits32")
        if any(index >= 16 * words for index in source.bits if kind in BITS):
            self._find((*path, "bits"), f"{kind} has bits 0 to {16 * words - 1}", "")
        if source.scale == 0:
            self._find((*path, "scale"), "a scale of 0 makes every value equal", "")
        check_scale(source.scale, (*path, "scale"), self._find)
        check_symbols(kind, source.symbols, (*path, "symbols"), self._find)
        if source.range and source.range[0] >= source.range[1]:
            self._find((*path, "range"), "the range must be written [low, high]", "")
        check_order(source.word_order, kind, words, path, self._find)
        point = Point(
            name=name,
            block=source.block,
            addr=source.addr,
            type=kind,
            words=words,
            order=source.word_order or self._source.codec.word_order,
            unit=unit,
            scale=source.scale,
            offset=source.offset,
            symbols=source.symbols,
            bits=source.bits,
            range=(source.range[0], source.range[1]) if source.range else None,
            stale_ms=source.stale_ms,
            nan=tuple(source.nan),
            bad_when=self._rules(name, source, "bad_when", source.bad_when),
            alive=source.alive,
            uncertain_when=self._rules(name, source, "uncertain_when", source.uncertain_when),
            doc=source.doc,
            frozen_s=source.frozen or 0.0,
            slope=source.slope or 0.0,
        )
        if (point.frozen_s or point.slope) and (point.symbols or point.bits or unit in (BOOL, TEXT)):
            self._find(path, "`frozen` and `slope` are for measured numbers", "an `alive` counter has to move")
        if point.slope < 0:
            self._find((*path, "slope"), "a slope is more than 0", "what it can change by in a minute, in its unit")
        if source.example is not None:
            self._example(point, source.example)
        return point

    def _example(self, point: Point, example: model.ExampleModel) -> None:
        """Hold the point against an example of the manual: word order, type and scale must give what it says."""
        path: DataPath = ("points", point.name, "example")
        try:
            raw = decode(point.type, example.words, point.order)
        except CodecError as error:
            self._find(path, str(error), "")
            return
        if isinstance(raw, str):
            return
        for order in (point.order, *WordOrder):
            value = float(decode(point.type, example.words, order)) * point.scale + point.offset
            if math.isclose(value, example.reads, rel_tol=EXAMPLE_WITHIN, abs_tol=1e-9):
                if order is not point.order:
                    text = f"{point.name} in the word order {point.order} contradicts its example"
                    self._find(path, text, f"the registers read {example.reads:g} in the order {order}")
                return
        read = raw * point.scale + point.offset
        self._find(path, f"the example reads {read:g}, not {example.reads:g}", "look at type, scale and offset")

    def _rules(
        self, name: str, source: model.PointModel, key: str, rules: list[model.QualityRuleModel]
    ) -> tuple[Rule, ...]:
        """Return the rules that look at the same block; of the others only the form is checked here."""
        found: list[Rule] = []
        for i, rule in enumerate(rules):
            path: DataPath = ("points", name, key, i)
            other, mask = self._named(rule)
            if (rule.point is None) == (rule.bit is None):
                self._find(path, "give either `point` or `bit`", "")
            elif other is None:
                what = f"point {rule.point}" if rule.bit is None else f"bit {rule.bit}"
                self._find(path, f"there is no {what}", "it must be declared under `points`")
            elif rule.bit is not None:
                if rule.among is not None or rule.not_in is not None:
                    self._find(
                        path, f"{rule.bit} is set or not: there is nothing to list", "leave `in` and `not_in` out"
                    )
                if other.block == source.block:
                    found.append(Rule(other_name(self._source, rule), frozenset(), inside=True, mask=mask))
            else:
                listed = self._listed(rule, other, path)
                if listed is not None and other.block == source.block:
                    found.append(Rule(str(rule.point), listed, rule.among is not None))
        return tuple(found)

    def _named(self, rule: model.QualityRuleModel) -> tuple[model.PointModel | None, int]:
        """Return the point that a rule looks at, and the mask of its bit."""
        if rule.bit is None:
            return self._source.points.get(rule.point or ""), 0
        for point in self._source.points.values():
            for index, name in point.bits.items():
                if name == rule.bit:
                    return point, 1 << index
        return None, 0

    def _listed(self, rule: model.QualityRuleModel, other: model.PointModel, path: DataPath) -> frozenset[int] | None:
        if other.type is RegType.STRING or other.type in FLOATS:
            self._find(path, f"{rule.point} is {other.type}; only whole numbers can be listed", "")
        elif (rule.among is None) == (rule.not_in is None):
            self._find(path, "give either `in` or `not_in`", "")
        else:
            return frozenset(rule.among if rule.among is not None else rule.not_in or ())
        return None

    def _block(self, name: str, source: model.BlockModel) -> Block:
        path: DataPath = ("blocks", name)
        if source.count > self._source.limits.max_read:
            self._find((*path, "count"), f"{source.count} registers are more than limits.max_read", "")
        check_end(f"block {name}", source.addr, source.count, (*path, "addr"), self._find)
        mine = tuple(point for point in self._points.values() if point.block == name)
        for point in mine:
            if point.addr < source.addr or point.addr + point.words > source.addr + source.count:
                self._find(
                    ("points", point.name, "addr"),
                    f"{point.name} (addresses {point.addr} to {point.addr + point.words - 1}) is outside block {name}",
                    f"{name} covers addresses {source.addr} to {source.addr + source.count - 1}",
                )
            if source.fc in (1, 2) and point.type is not RegType.BOOL:
                text = f"function code {source.fc} carries bits: type must be bool"
                self._find(("points", point.name, "type"), text, "")
        return Block(
            name, source.fc, source.addr, source.count, source.scan, source.atomic, mine, source.doc, source.first
        )

    def _named_bits(self) -> dict[str, Bit]:
        bits: dict[str, Bit] = {}
        for point in self._points.values():
            if point.block not in self._source.blocks:
                self._find(("points", point.name, "block"), f"there is no block {point.block}", "")
            for index, name in point.bits.items():
                if name in self._points or name in bits:
                    self._find(("points", point.name, "bits"), f"{name} is the name of another point or bit", "")
                bits[name] = Bit(name, point.name, index)
        return bits


def other_name(source: model.ProfileModel, rule: model.QualityRuleModel) -> str:
    """Return the name of the point that has the bit of a rule."""
    return next(name for name, point in source.points.items() if rule.bit in point.bits.values())


def _read(point: Point, raw: int) -> _Value:
    """Return what a reading of `point` shows for a raw value."""
    if point.symbols:
        return point.symbols.get(raw, "")
    if point.type is RegType.BOOL:
        return raw != 0
    return raw * point.scale + point.offset
