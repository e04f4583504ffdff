"""The programmes in a temperature controller: segments, and the header that says what their numbers mean.

A header is what stands in the registers, whoever wrote it: rates and times are by its units, the end by its end type,
and a holdback keeps the programme where it is while the chamber does not follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from simulators.device import Handler
from simulators.fittings.workshop import Args, Draft
from simulators.physics.freezing import Row

PER_MINUTE = {"per_second": 60.0, "per_minute": 1.0, "per_hour": 1.0 / 60.0}
SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
FOR_EVER_S = 1e9


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a programme means: factors for its rates (to K/min) and times (to s), how it ends."""

    rate: float = 1.0
    time: float = 1.0
    cycles: int = 1
    end_type: str = "dwell"
    holds_back: bool = False

    @classmethod
    def of(cls, draft: Draft, program: int) -> Header:
        """Return the header that stands in the registers; a profile that knows none means K/min, s and a dwell."""
        points, commands = draft.profile.points, draft.profile.commands

        def stands(command: str) -> int | None:
            return draft.register(command, {"program": program}) if command in commands else None

        def named(command: str, point: str) -> str:
            word = stands(command)
            return "" if word is None else points[point].symbols.get(word, "")

        cycles, holdback = stands("set_cycles"), stands("set_holdback")
        return cls(
            PER_MINUTE.get(named("set_ramp_units", "program_ramp_units"), 1.0),
            # Taken at its worst: a unit on which the times of the IEEE region are counted in the units of the header.
            SECONDS.get(named("set_dwell_units", "program_dwell_units"), 1.0),
            1 if cycles is None else cycles,
            named("set_end_type", "program_end_type") or "dwell",
            bool(holdback),
        )


def segments() -> tuple[Mapping[int, Mapping[int, Row]], dict[str, Handler]]:
    """Return the segments of each programme, and the handlers of the commands that write them."""
    programs: dict[int, dict[int, Row]] = {}

    def segment(make: Callable[[Args], Row], args: Args) -> None:
        programs.setdefault(int(args.get("program", 1)), {})[int(args["segment"])] = make(args)

    def ramp(args: Args) -> Row:
        return Row("ramp", "chamber", float(args["rate"]), float(args["target"]), "target", 0.0)

    def dwell(args: Args) -> Row:
        return Row("hold", "", 0.0, 0.0, "time", float(args["time"]))

    def end(_args: Args) -> Row:
        return Row("end", "", 0.0, 0.0, "", 0.0)

    made = {"ramp_segment": ramp, "dwell_segment": dwell, "end_segment": end}
    return programs, {name: partial(segment, make) for name, make in made.items()}


def course(program: Mapping[int, Row], chamber: float, header: Header) -> list[Row]:
    """Return the rows of a programme, up to its end; a ramp goes from where the one before it ended.

    Held back, it does not leave its first segment: nobody said how far the chamber may be away.
    """
    rows: list[Row] = []
    at = chamber
    for number in sorted(program):
        row = program[number]
        if row.kind == "end":
            break
        if row.kind == "ramp":
            rate = abs(row.rate) * header.rate
            rows.append(Row("ramp", "chamber", rate if row.target > at else -rate, row.target, "target", 0.0))
            at = row.target
        else:
            rows.append(Row("hold", "chamber", 0.0, at, "time", row.timeout * header.time))
    if rows and header.holds_back:
        return [Row("hold", "chamber", 0.0, chamber, "time", FOR_EVER_S)]
    return rows * max(1, header.cycles)
