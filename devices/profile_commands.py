"""Commands of a profile: what they write, within which limits, and how it is read back; checked and compiled."""

from __future__ import annotations

from dataclasses import replace
from math import floor, isfinite

from devices import profile_model as model
from devices.codec import BITS, FLOATS, CodecError, RegType, WordOrder, encode, words_of
from devices.profile_bounds import check_end, check_scale, check_symbols
from devices.profile_points import DataPath, Find, Known, check_order, check_unit
from devices.profile_proof import check_meaning, check_proof
from devices.profile_types import TEXT, Check, Command, Index, Point, Slot, Storage, Table, Verify
from devices.role import BOOL, SYMBOL

_SINGLE = {5: 1, 6: 1}  # function codes that carry one register or coil
_READ_BACK = {5: 1, 15: 1, 6: 3, 16: 3}  # write function -> function that reads the same table
_MOST_PLACES = 4096  # that an indexed command may reach


class Commands:
    """Compiles the commands of one file; what is wrong with them goes to `find`."""

    def __init__(self, source: model.ProfileModel, known: Known, find: Find) -> None:
        self._source = source
        self._known = known
        self._find = find

    def compiled(self) -> dict[str, Command]:
        """Return all commands."""
        return {name: self._command(name, command, self._known) for name, command in self._source.commands.items()}

    def _command(self, name: str, source: model.CommandModel, known: Known) -> Command:
        path: DataPath = ("commands", name)
        write = source.write
        fields = tuple(self._slot(field, (*path, "write", "fields", i)) for i, field in enumerate(write.fields))
        rows: Table | None = None
        if write.rows is not None:
            inner = (*path, "write", "rows", "fields")
            slots = tuple(self._slot(field, (*inner, i)) for i, field in enumerate(write.rows.fields))
            rows = Table(write.rows.arg, write.rows.max, slots, sum(slot.words for slot in slots))
        words = sum(slot.words for slot in fields) + (rows.max * rows.words if rows else 0)
        self._frame(name, write, fields, rows, words)
        index = self._index(name, write)
        reach = sum((i.last - i.first) * i.stride for i in index)
        check_end(name, write.addr + reach, words, (*path, "write", "addr"), self._find)
        for i, denied in enumerate(self._source.deny):
            if write.addr <= denied.range[1] and write.addr + reach + words - 1 >= denied.range[0]:
                self._find((*path, "write", "addr"), f"{name} writes denied registers: {denied.why}", f"see deny[{i}]")
        if source.only_on_change and source.verify.none is not None:
            self._find((*path, "only_on_change"), "what cannot be read back cannot be compared", "")
        for other in source.after:
            if other not in self._source.commands:
                self._find((*path, "after", other), f"there is no command {other}", "name one of `commands`")
        storage = source.storage
        if storage.kind == "eeprom" and storage.per_day is None:
            self._find(
                (*path, "storage"), "memory that wears needs a budget", "give per_day, and life where it is known"
            )
        return Command(
            name=name,
            fc=write.fc,
            addr=write.addr,
            words=words,
            fields=fields,
            rows=rows,
            idempotent=source.idempotent,
            verify=self._verify(name, source, known, fields),
            index=index,
            storage=Storage(storage.per_day, storage.life) if storage.kind == "eeprom" else None,
            only_on_change=source.only_on_change,
            min_interval_s=source.min_interval_ms / 1000,
            delay_s=source.delay_ms / 1000,
            requires=tuple(self._require(name, i, require) for i, require in enumerate(source.requires)),
            doc=source.doc,
            after_s={other: pause / 1000 for other, pause in source.after.items()},
        )

    def _frame(
        self, name: str, write: model.WriteModel, fields: tuple[Slot, ...], rows: Table | None, words: int
    ) -> None:
        """Check that the request can be sent as it is described."""
        path: DataPath = ("commands", name, "write")
        if not fields and not rows:
            self._find(path, f"{name} writes nothing", "give `fields` or `rows`")
        if words > self._source.limits.max_write:
            self._find(path, f"{name} writes {words} registers, more than limits.max_write", "")
        if words != _SINGLE.get(write.fc, words):
            self._find(path, f"function code {write.fc} writes one value, {name} has {words} registers", "")
        if write.fc in (5, 15) and any(slot.type is not RegType.BOOL for slot in fields):
            self._find(path, f"function code {write.fc} writes coils: every field must be bool", "")
        whole = [slot.arg for slot in fields if slot.arg and slot.modulo is None]
        names = [*whole, *(i.arg for i in write.index), *([rows.arg] if rows else [])]
        if len({*names}) != len(names):
            self._find(path, "an argument is named twice", "only the parts of one, with `modulo`, share a name")

    def _index(self, name: str, write: model.WriteModel) -> tuple[Index, ...]:
        path: DataPath = ("commands", name, "write", "index")
        index = tuple(Index(i.arg, i.first, i.last, i.stride) for i in write.index)
        places = 1
        for i, each in enumerate(index):
            places *= each.last - each.first + 1
            if each.last < each.first:
                self._find((*path, i), "last is less than first", "")
        if places > _MOST_PLACES:
            self._find(path, f"{name} reaches {places} places, more than {_MOST_PLACES}", "")
        return index

    def _require(self, name: str, number: int, source: model.RequireModel) -> Check:
        path: DataPath = ("commands", name, "requires", number)
        bit = self._known.bits.get(source.point)
        point = self._known.points.get(bit.point if bit else source.point)
        if point is None:
            self._find(path, f"there is no point {source.point}", "")
            return Check(source.point, None, (), 0.0)
        if (source.among is None) == (source.not_in is None):
            self._find(path, "give either `in` or `not_in`", "")
        listed = source.among or source.not_in or []
        values = [self._value(text, BOOL if bit else point.unit, point, path) for text in listed]
        check = Check(source.point, None, tuple(values), 0.0)
        check_proof(check, point, None, path, self._find, bit=bit is not None)  # also of what it must not
        return check if source.not_in is None else replace(check, inside=False)

    def _slot(self, source: model.FieldModel, path: DataPath) -> Slot:
        words = 1
        if source.type is RegType.STRING:
            self._find(path, "a text cannot be written by a command", "use a numeric type")
        else:
            words = words_of(source.type)
            check_order(source.word_order, source.type, words, path, self._find)
        if (source.arg is None) == (source.value is None):
            self._find(path, "give either `arg` (from the caller) or `value` (fixed, raw)", "")
        bounded = source.min is not None and source.max is not None
        if source.arg is not None and not bounded and not source.symbols and source.type is not RegType.BOOL:
            self._find(path, f"{source.arg} has no limits", "give min and max, or symbols")
        if bounded and (source.min or 0.0) > (source.max or 0.0):
            self._find(path, "min is greater than max", "")
        if not source.symbols:
            check_unit(source.unit, (*path, "unit"), self._find)
        if source.scale == 0:
            self._find((*path, "scale"), "a scale of 0 cannot be written", "")
        if not check_scale(source.scale, (*path, "scale"), self._find):
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
            modulo=source.modulo,
            keep=source.keep.point if source.keep else "",
            keep_mask=source.keep.mask if source.keep else 0,
        )
        if source.keep is not None:
            self._kept(source, source.keep, path)
        check_symbols(source.type, source.symbols, (*path, "symbols"), self._find)
        try:
            raws = [source.value] + [
                edge / source.scale if source.type in FLOATS else _part(edge / source.scale, source.modulo)
                for edge in (source.min, source.max)
                if edge is not None
            ]
            for raw in raws:
                if raw is not None and source.type is not RegType.STRING:
                    encode(source.type, raw)
        except CodecError as error:
            self._find(path, str(error), "the type must hold every value that is allowed")
        return slot

    def _kept(self, source: model.FieldModel, keep: model.KeepModel, path: DataPath) -> None:
        point = self._known.points.get(keep.point)
        if point is None or point.words != 1 or point.type not in (*BITS, RegType.UINT16):
            self._find((*path, "keep"), f"{keep.point} is no point of one whole register", "bits16 or uint16")
        if words_of(source.type) != 1 or not 0 < keep.mask <= 0xFFFF:
            self._find((*path, "keep"), "bits are kept of one register of 16 bits", "")
        if any(int(raw or 0) & keep.mask for raw in (source.value, *source.symbols)):
            self._find((*path, "keep"), "a bit is both kept and written", "")

    def _verify(self, name: str, command: model.CommandModel, known: Known, fields: tuple[Slot, ...]) -> Verify:
        source, path = command.verify, ("commands", name, "verify")
        if (bool(source.points) + (source.echo is not None) + (source.none is not None)) != 1:
            self._find(path, "give one of `points`, `echo` or `none`", "`none` takes the reason as its text")
        if source.none is not None and not source.none.strip():
            self._find((*path, "none"), "say why the write cannot be read back", "")
        args = [slot.arg for slot in command.write.fields if slot.arg and slot.modulo is None]
        needed: list[str] = []
        checks: list[Check] = []
        for i, check in enumerate(source.points):
            there = (*path, "points", i)
            bit = known.bits.get(check.point)
            point = known.points.get(bit.point if bit else check.point)
            if point is None:
                self._find(there, f"there is no point {check.point}", "")
                continue
            needed.append(point.block)
            among = [check.equals] if check.equals is not None else list(check.among or [])
            if (check.arg is not None) + (check.equals is not None) + bool(check.among) != 1:
                self._find(there, "give one of `arg`, `equals` or `in`", "")
            if check.arg is not None and check.arg not in args:
                self._find(there, f"{name} has no argument {check.arg}", f"one of {', '.join(args) or '(none)'}")
            values = [self._value(text, BOOL if bit else point.unit, point, there) for text in among]
            checks.append(Check(check.point, check.arg, tuple(values), check.tolerance))
            slot = next((s for s in fields if check.arg and s.arg == check.arg and s.modulo is None), None)
            check_proof(checks[-1], point, slot, there, self._find, bit=bit is not None)
            check_meaning(self._source.profile.role, name, checks[-1], there, self._find)
        if source.echo is not None:
            echo = known.blocks.get(source.echo)
            needed.append(source.echo)
            start = command.write.addr
            fits = echo is not None and echo.addr <= start < echo.addr + echo.count  # it moves with the index
            if echo is None or not fits or echo.fc != _READ_BACK[command.write.fc]:
                text = f"{source.echo} is no block of the same table over all that {name} writes"
                self._find(
                    (*path, "echo"), text, "read it with the function code of the table, from its first register"
                )
            elif echo.atomic and command.write.index:
                text = f"{name} moves with its index, and {source.echo} is atomic: what is read then is not that block"
                self._find((*path, "echo"), text, "declare the block without atomic, or name one for each index")
        return Verify(source.within_ms, tuple(checks), source.echo, tuple(dict.fromkeys(needed)), source.none or "")

    def _value(self, text: str, unit: str, point: Point, path: DataPath) -> float | bool | str:
        """Type the text of a check by its point."""
        if unit == BOOL:
            if text not in ("true", "false"):
                self._find(path, f"{point.name} is true or false, not {text}", "")
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
            self._find(path, f"{point.name} is a number, not {text!r}", "")
            return 0.0


def _part(raw: float, modulo: int | None) -> int:
    """Return the whole number that stands in the register for a raw value; raises CodecError where none can."""
    if not isfinite(raw):
        raise CodecError("its limits by its scale are beyond any register")
    return round(raw) if modulo is None else floor(raw) % modulo
