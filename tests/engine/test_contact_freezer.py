"""A freezer by its contacts: an alarm that bounces, a running contact that is late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devices.instrument import CommandRefused, DeviceOffline, OutcomeUnknown, Priority
from tests.engine.labs import Lab, in_lab, started

RUNNING, ALARM = "di_0", "di_1"


def freezer(at: Lab) -> Any:
    return at.suite.instruments["freezer"]


def bend(at: Lab, contact: str, *, closed: bool | None) -> None:
    """Show a contact closed or open whatever the plant does; None: as it is."""
    io = at.plant.devices["freezer_io"]
    if closed is None:
        io.bend(contact)
    else:
        io.bend(contact, lambda _: closed)


async def seen(at: Lab, seconds: int = 1) -> list[str]:
    """Return the states of so many scans, one a second."""
    states: list[str] = []
    for _ in range(seconds):
        await at.clock.sleep(1.0)
        states.append((await freezer(at).read_all())["program_state"].value)
    return states


async def late(at: Lab) -> None:
    """Start a run whose running contact does not close in time."""
    await freezer(at).read_all()
    bend(at, RUNNING, closed=False)
    with pytest.raises(OutcomeUnknown, match=r"the running contact did not close within 10 s.*look at the freezer"):
        await started(at)


def test_the_contacts_are_those_of_the_site(tmp_path: Path):
    async def work(at: Lab) -> None:
        contacts = freezer(at)._contacts
        assert (f"di_{contacts.running}", f"di_{contacts.alarm}") == (RUNNING, ALARM)

    in_lab(tmp_path, "lab-eurotherm", work)


def test_an_alarm_that_bounces_ends_no_run(tmp_path: Path):
    async def work(at: Lab) -> None:
        await started(at)
        bend(at, ALARM, closed=True)
        assert set(await seen(at, 9)) == {"running"}
        bend(at, ALARM, closed=None)
        assert set(await seen(at, 3)) == {"running"}
        bend(at, ALARM, closed=True)  # it is timed anew
        assert set(await seen(at, 9)) == {"running"}
        bend(at, ALARM, closed=None)
        assert freezer(at).run.ended_as == "running"
        bend(at, RUNNING, closed=False)
        assert set(await seen(at, 9)) == {"running"}

    in_lab(tmp_path, "lab-eurotherm", work)


def test_an_alarm_that_stands_is_a_fault_also_where_the_run_ends_by_it(tmp_path: Path):
    async def work(at: Lab) -> None:
        await started(at)
        await seen(at)
        bend(at, RUNNING, closed=False)
        states = await seen(at, 5)
        bend(at, ALARM, closed=True)  # five seconds later: the run was not complete in between
        states += await seen(at, 12)
        assert (set(states[:-2]), states[-1]) == ({"running"}, "fault")
        bend(at, ALARM, closed=None)
        assert "complete" not in await seen(at, 12)

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_fault_that_is_over_leaves_a_run_under_way(tmp_path: Path):
    async def work(at: Lab) -> None:
        await started(at)
        bend(at, ALARM, closed=True)
        assert (await seen(at, 12))[-1] == "fault"
        bend(at, ALARM, closed=None)
        assert await seen(at) == ["running"]
        bend(at, RUNNING, closed=False)
        assert set(await seen(at, 9)) == {"running"}
        assert (await seen(at, 3))[-1] == "complete"

    in_lab(tmp_path, "lab-eurotherm", work)


def test_what_runs_after_a_fault_that_stopped_the_run_is_another(tmp_path: Path):
    async def work(at: Lab) -> None:
        await started(at)
        await seen(at)
        bend(at, ALARM, closed=True)
        bend(at, RUNNING, closed=False)
        await seen(at, 12)
        bend(at, ALARM, closed=None)
        bend(at, RUNNING, closed=True)  # by hand, at its panel
        assert await seen(at) == ["running"]
        bend(at, RUNNING, closed=False)
        assert "complete" not in await seen(at, 12)

    in_lab(tmp_path, "lab-eurotherm", work)


def test_no_run_begins_while_the_alarm_contact_is_closed(tmp_path: Path):
    async def work(at: Lab) -> None:
        bend(at, ALARM, closed=True)
        readings = await freezer(at).read_all()
        assert (readings["program_state"].value, readings["ready"].value) == ("idle", False)
        with pytest.raises(CommandRefused, match="it is not ready"):
            await started(at)

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_running_contact_that_is_late_does_not_say_that_nothing_was_heard(tmp_path: Path):
    async def work(at: Lab) -> None:
        await late(at)
        for _ in range(40):  # longer than the engine waits before it believes that a run is not known
            await at.clock.sleep(1.0)
            readings = await freezer(at).read_all()
            found = [readings[name].value for name in ("program_state", "sequence", "ready")]
            assert found == ["idle", 7.0, False]
        with pytest.raises(CommandRefused, match="it is not ready"):
            await started(at, 8)
        bend(at, RUNNING, closed=None)
        assert await seen(at) == ["running"]
        bend(at, RUNNING, closed=False)
        assert set(await seen(at, 9)) == {"running"}
        assert (await seen(at, 3))[-1] == "complete"
        at.plant.devices["freezer_chamber"].bend("temperature", lambda _: 4.0)
        assert (await freezer(at).read_all())["ready"].value is True

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_start_in_doubt_is_settled_by_holding_the_freezer(tmp_path: Path):
    async def work(at: Lab) -> None:
        await late(at)
        await freezer(at).command("abort", {}, Priority.STOP)
        readings = await freezer(at).read_all()
        assert [readings[name].value for name in ("program_state", "ready")] == ["aborted", True]

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_start_that_was_refused_is_in_no_doubt(tmp_path: Path):
    async def work(at: Lab) -> None:
        await freezer(at).read_all()

        async def refused(*_: Any) -> None:
            raise CommandRefused("freezer_io", "illegal function", "")

        freezer(at)._contact = refused
        with pytest.raises(CommandRefused, match="illegal function"):
            await started(at)
        readings = await freezer(at).read_all()
        assert [readings[name].value for name in ("sequence", "ready")] == [0.0, True]

    in_lab(tmp_path, "lab-eurotherm", work)


def test_a_look_that_fails_after_the_start_does_not_say_that_it_was_not_sent(tmp_path: Path):
    async def work(at: Lab) -> None:
        await freezer(at).read_all()

        async def silent(*_: Any) -> None:
            raise DeviceOffline("freezer_io", "silent", "")

        freezer(at).look = silent
        with pytest.raises(OutcomeUnknown, match="the running contact did not close"):
            await started(at)

    in_lab(tmp_path, "lab-eurotherm", work)
