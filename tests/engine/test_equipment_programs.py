"""What a freezer of parts is loaded with: a programme that is not stored, numbers that would mean something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devices.instrument import CommandRefused, NotApplied
from recipes.freezing import program
from tests.engine.labs import Lab, frozen, in_lab, programmer_site

HEADER = {"holdback": 8328, "ramp_units": 8330, "dwell_units": 8331, "cycles": 8332, "end_type": 8334}
"""Of programme 1; that of programme p stands 136 (p-1) further on."""
RIGHT = {"holdback": 0, "ramp_units": 1, "dwell_units": 0, "cycles": 1, "end_type": 0}


async def loaded(at: Lab, name: str = "S2-chamber") -> int:
    """Load a programme; return the number under which it stands."""
    freezer: Any = at.suite.instruments["freezer"]
    await freezer.read_all()
    await freezer.command("load_program", {"rows": program(frozen(name))})
    return freezer.run.slot


def leave(at: Lab, **codes: int) -> None:
    """Leave something in the headers of all programmes, as whoever set up the unit did."""
    written = at.plant.devices["crf"].written
    for name, code in codes.items():
        written.update({(3, HEADER[name] + 136 * p): code for p in range(10)})


async def lasts(at: Lab) -> float:
    """Start what is loaded; return how long it ran (s)."""
    freezer, began = at.suite.instruments["freezer"], at.clock.monotonic()
    await freezer.command("start", {"sequence": 7.0})
    while at.plant.freezer.running and at.clock.monotonic() - began < 7200:
        await at.clock.sleep(1.0)
        at.plant.time()
    return at.clock.monotonic() - began


@pytest.mark.parametrize("change", [{}, {"target": 0.5}, {"timeout": 60.0}])
def test_a_programme_that_is_not_stored_in_the_freezer_closes_no_contact(change: dict[str, float], tmp_path: Path):
    rows: list[Any] = [dict(row) for row in program(frozen("S1-quick" if change else "S2-chamber"))]
    rows[0] |= {name: float(rows[0][name]) + more for name, more in change.items()}

    async def work(at: Lab) -> None:
        freezer: Any = at.suite.instruments["freezer"]
        io, heard = at.plant.devices["freezer_io"], list[str]()
        io.heard.append(lambda command, _: heard.append(command))
        await freezer.read_all()
        before = freezer.run.slot
        with pytest.raises(CommandRefused, match=r"its programme has the digest [0-9a-f]{16}; stored in the freezer"):
            await freezer.command("load_program", {"rows": rows})
        assert (heard, freezer.run.slot) == ([], before)
        assert not at.plant.freezer.running

    in_lab(tmp_path, "lab-eurotherm", work)


def test_each_stored_programme_has_its_own_start_contact(tmp_path: Path):
    async def work(at: Lab) -> None:
        freezer: Any = at.suite.instruments["freezer"]
        closed: list[float] = []
        io = at.plant.devices["freezer_io"]
        io.heard.append(lambda command, args: closed.append(args["channel"]) if args.get("value") else None)
        await loaded(at, "S1-quick")
        await freezer.command("start", {"sequence": 7.0})
        assert closed == [2]
        await loaded(at, "F3")
        assert freezer.run.slot == 0

    in_lab(tmp_path, "lab-eurotherm", work)


def test_the_header_of_a_programme_is_set_whatever_stood_there(tmp_path: Path):
    async def work(at: Lab) -> None:
        leave(at, holdback=1, ramp_units=0, dwell_units=2, cycles=3, end_type=1)
        slot = await loaded(at)
        written = at.plant.devices["crf"].written
        found = {name: written[3, addr + 136 * (slot - 1)] for name, addr in HEADER.items()}
        assert found == RIGHT
        seconds = await lasts(at)
        assert 400 < seconds < 800  # nine minutes at most
        assert at.plant.freezer.state == "complete"
        assert at.plant.freezer.setpoint == pytest.approx(-60.0)  # it stays cold at its end

    in_lab(tmp_path, "", work, programmer_site(tmp_path))


@pytest.mark.parametrize("name", HEADER)
def test_a_unit_that_keeps_its_header_is_found_before_anything_runs(name: str, tmp_path: Path):
    wrong = {"holdback": 1, "ramp_units": 0, "dwell_units": 2, "cycles": 3, "end_type": 1}

    async def work(at: Lab) -> None:
        device = at.plant.devices["crf"]
        write = device.write

        def keeps(fc: int, addr: int, values: Any) -> None:
            write(fc, addr, values)
            leave(at, **{name: wrong[name]})

        leave(at, **{name: wrong[name]})
        device.write = keeps
        with pytest.raises(NotApplied):
            await loaded(at)
        assert not at.plant.freezer.running

    in_lab(tmp_path, "", work, programmer_site(tmp_path))


@pytest.mark.parametrize(
    ("name", "code", "shorter", "longer"),
    [("ramp_units", 0, 0.0, 0.6), ("ramp_units", 2, 3.0, 99.0), ("dwell_units", 1, 1.5, 99.0), ("cycles", 2, 1.2, 9.0)],
)
def test_the_simulated_programmer_takes_its_numbers_by_the_header(
    name: str, code: int, shorter: float, longer: float, tmp_path: Path
):
    """Else no rehearsal would show that one of them was left as it was."""

    async def work(at: Lab) -> None:
        await loaded(at)
        right = await lasts(at)
        at.plant.freezer.state = "idle"
        at.plant.freezer.rest(at.plant.time())
        await at.clock.sleep(3600.0)
        await loaded(at)
        leave(at, **{name: code})
        freezer = at.suite.instruments["freezer"]
        await freezer.read_all()
        began = at.clock.monotonic()
        await freezer.command("start", {"sequence": 8.0})
        while at.plant.freezer.running and at.clock.monotonic() - began < 4 * right:
            await at.clock.sleep(1.0)
            at.plant.time()
        assert shorter < (at.clock.monotonic() - began) / right < longer

    in_lab(tmp_path, "", work, programmer_site(tmp_path))


def test_the_simulated_programmer_warms_up_at_a_reset_and_waits_at_a_holdback(tmp_path: Path):
    async def work(at: Lab) -> None:
        freezer = at.suite.instruments["freezer"]
        await loaded(at)
        leave(at, end_type=1)
        await lasts(at)
        await at.clock.sleep(2.0)
        at.plant.time()
        assert (at.plant.freezer.state, at.plant.freezer.setpoint) == ("idle", 4.0)
        await at.clock.sleep(3600.0)
        await loaded(at)
        leave(at, holdback=1)
        await freezer.read_all()
        await freezer.command("start", {"sequence": 8.0})
        await at.clock.sleep(3600.0)
        assert at.plant.devices["crf"].reads("program_mode") == "holdback"
        assert at.plant.freezer.segment == 1

    in_lab(tmp_path, "", work, programmer_site(tmp_path))


@pytest.mark.parametrize(("programs", "segments"), [(10, 3), (10, 4), (0, 25), (10, 0)])
def test_what_was_not_ordered_is_not_written(programs: int, segments: int, tmp_path: Path):
    async def work(at: Lab) -> None:
        device = at.plant.devices["crf"]
        heard: list[str] = []
        device.heard.append(lambda command, _: heard.append(command))
        device.bend("programs", lambda _: programs)
        device.bend("segments_per_program", lambda _: segments)
        with pytest.raises(CommandRefused, match="says that it holds"):
            await loaded(at)
        assert heard == []

    in_lab(tmp_path, "", work, programmer_site(tmp_path))


def test_programmes_are_used_in_turn_as_many_as_were_ordered(tmp_path: Path):
    async def work(at: Lab) -> None:
        at.plant.devices["crf"].bend("programs", lambda _: 2)
        at.plant.devices["crf"].bend("segments_per_program", lambda _: 5)  # four rows and the end: just enough
        assert [await loaded(at) for _ in range(4)] == [1, 2, 1, 2]

    in_lab(tmp_path, "", work, programmer_site(tmp_path))
