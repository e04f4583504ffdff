"""A freezer of a temperature programmer: the programme runs in the controller, ramp by ramp, without us.

It regulates its own chamber: rows that listen to the sample, or wait for an exotherm, are refused before anything is
written.  Its programmes are used in turn; the number of the one that runs says after a restart whether a start was
heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devices.equipment.base import Parts, Source
from devices.equipment.freezer import ABORTED, COMPLETE, IDLE, RUNNING, PartsFreezer, Probes
from devices.instrument import CommandRefused, Priority, ReadFailed
from devices.kept import Kept
from devices.reading import Quality, Reading
from devices.role import SYMBOL

IDLE_AT, IDLE_WITHIN = 4.0, 2.0  # degC: a run begins from here
_NEEDED = ("ramp_segment", "dwell_segment", "end_segment", "program_run", "program_reset")
_RUNS = ("run", "holdback")
_HEADER = ("set_holdback", "set_ramp_units", "set_dwell_units", "set_cycles", "set_end_type")


class ProgrammerFreezer(PartsFreezer):
    """The role `freezer` by a programmer of the role `temperature_programmer`."""

    def __init__(
        self, name: str, parts: Parts, programmer: str, sample: Source | None, kept: Kept, **more: Any
    ) -> None:
        """Build it; raises ValueError for a controller that has no programmes."""
        commands = parts.instruments[programmer].profile.commands
        if missing := [command for command in _NEEDED if command not in commands]:
            profile = parts.instruments[programmer].profile.id
            raise ValueError(f"{programmer} ({profile}) runs no programmes: it has no {', '.join(missing)}")
        self._programmer = programmer
        self._commands = commands
        slots = [i for i in commands["ramp_segment"].index if i.arg == "program"]
        self._slots = (slots[0].first, slots[0].last) if slots else (1, 1)
        places = next(i for i in commands["ramp_segment"].index if i.arg == "segment")
        self._places = places.last - places.first + 1
        probes = Probes(Source(programmer, "temperature"), sample, more.get("ln2"))
        super().__init__(name, parts, (programmer,), probes, kept)

    def program_state(self) -> tuple[str | None, float]:
        """Return what the programmer's mode means."""
        mode = self.seen(Source(self._programmer, "program_mode"), SYMBOL)
        if mode.quality is not Quality.GOOD:
            return None, mode.at
        if mode.value in _RUNS:
            return RUNNING, mode.at
        if mode.value == "complete":
            return COMPLETE, mode.at
        if mode.value == "hold":
            return ABORTED, mode.at
        return (IDLE if self.run.ended_as in (IDLE, RUNNING) else self.run.ended_as), mode.at

    def ready(self, state: str | None) -> bool:
        """Tell whether the chamber is at its start and nothing runs."""
        chamber = self.number(Source(self._programmer, "temperature"))
        return state not in (None, RUNNING) and chamber is not None and abs(chamber - IDLE_AT) <= IDLE_WITHIN

    def fits(self, state: str | None) -> bool:
        """Tell whether the programme that is chosen is the one of the last run."""
        slot = self.number(Source(self._programmer, "program"))
        return slot is None or self._slots == (1, 1) or int(slot) == self.run.slot

    def setpoint(self) -> Reading:
        """Return the set point that the programmer works with."""
        return self.seen(Source(self._programmer, "setpoint_now"), "degC")

    def segment(self) -> Reading:
        """Return the segment under way."""
        return self.seen(Source(self._programmer, "segment"), "")

    async def load(self, rows: list[Mapping[str, Any]], priority: Priority) -> None:
        """Write the rows as segments of the next programme, each read back."""
        wrong = [f"row {i} {why}" for i, row in enumerate(rows, 1) if (why := _cannot(row))]
        if len(rows) >= self._places:  # the last one is the end
            wrong.append(f"{len(rows)} rows; it holds {self._places - 1}")
        if wrong:
            hint = "choose a freezing profile that follows the chamber, ramp by ramp"
            raise CommandRefused(self.name, f"load_program was not sent: {'; '.join(wrong)}", hint)
        try:
            await self.look(self._programmer, priority)
            first, last = await self._ordered(len(rows), priority)
        except ReadFailed as error:
            raise CommandRefused(self.name, f"load_program was not sent: {error.what}", error.hint) from error
        if self.program_state()[0] in (None, RUNNING):
            raise CommandRefused(self.name, "load_program was not sent: a programme runs, or nobody knows", "")
        self.run.slot = first + (self.run.slot - first + 1) % (last - first + 1)
        for command in _HEADER:  # rates, times and the end mean what we mean, whatever stood there
            if command in self._commands:
                args = {"program": float(self.run.slot)} if "program" in self._commands[command].args else {}
                await self.order(self._programmer, command, args, priority)
        for number, row in enumerate(rows, 1):
            if row["kind"] == "ramp":
                values = {"target": float(row["target"]), "rate": abs(float(row["rate"]))}
                await self._segment("ramp_segment", number, values, priority)
            else:
                await self._segment("dwell_segment", number, {"time": float(row["timeout"])}, priority)
        await self._segment("end_segment", len(rows) + 1, {}, priority)
        await self.keep()

    async def _ordered(self, rows: int, priority: Priority) -> tuple[int, int]:
        """Return the first and the last programme of the unit as it was ordered, which says where its segments stand.

        Raises CommandRefused where it does not hold so many rows, or does not say how many it holds.
        """
        first, last = self._slots
        points = self.parts[self._programmer].profile.points
        found: list[float | None] = []
        for name in ("programs", "segments_per_program"):
            if name not in points:
                return first, last
            await self.look_at(self._programmer, points[name].block, priority)
            found.append(self.number(Source(self._programmer, name)))
        programs, segments = found
        if not programs or not segments or rows >= segments or programs < first:
            text = f"load_program was not sent: {rows} rows and an end; {self._programmer} says that it holds "
            text += f"{programs} programmes of {segments} segments"
            raise CommandRefused(self.name, text, "see what was ordered of the programmer, or shorten the profile")
        return first, min(last, int(programs))

    async def begin(self, priority: Priority, ended: int) -> None:
        """Choose the programme and run it."""
        if "program_reset" in self._commands and self.program_state()[0] != IDLE:
            await self.order(self._programmer, "program_reset", {}, priority)
            self.not_aborted(ended)
        if "select_program" in self._commands:
            await self.order(self._programmer, "select_program", {"program": float(self.run.slot)}, priority)
            self.not_aborted(ended)
        args = {"program": float(self.run.slot)} if "program" in self._commands["program_run"].args else {}
        await self.order(self._programmer, "program_run", args, priority)

    async def end(self, priority: Priority) -> None:
        """Hold the programme: the chamber stays where it is."""
        if self.program_state()[0] == RUNNING or priority is Priority.STOP:
            await self.order(self._programmer, "program_hold", {}, priority)

    async def _segment(self, command: str, number: int, values: Mapping[str, float], priority: Priority) -> None:
        args = {"segment": float(number), **values}
        if "program" in self._commands[command].args:
            args["program"] = float(self.run.slot)
        await self.order(self._programmer, command, args, priority)


def _cannot(row: Mapping[str, Any]) -> str:
    """Return why a programmer of this kind cannot do a row; "" where it can."""
    if row["listen"] != "chamber":
        return "listens to the sample; the programmer regulates its chamber only"
    if row["end"] == "exotherm_or_time":
        return "waits for an exotherm; the programmer sees none"
    if row["kind"] == "hold" and (row["end"] != "time" or not float(row["timeout"]) > 0):
        return "is a hold that does not end by its time"
    if row["kind"] == "ramp" and row["end"] != "target":
        return "is a ramp that does not end by its target"
    return ""
