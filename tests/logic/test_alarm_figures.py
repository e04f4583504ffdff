"""The figures of alarms, by hand: rate, flood, chatter, stale, shares, several records as one console; the report."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from devices.clock import SystemClock
from tilctl.cli.exits import Exit
from tilctl.cli.main import main
from tilctl.gateway.alarm_metrics import numbers
from tilctl.journal import alarms as ev
from tilctl.journal.alarms import FIRST_OUT
from tilctl.journal.chain import Record
from tilctl.journal.events import BatchHead, SiteOpened
from tilctl.journal.lifecycle import BatchCreated, StateChanged
from tilctl.journal.store import Journal
from tilctl.record.alarm_figures import AlarmFigures, figures, merged

T0 = datetime(2026, 3, 1, tzinfo=UTC)
MIN, HOUR = 60.0, 3600.0
Told = tuple[float, Any]


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def raised(alarm: str, priority: str = "medium", unit: str = "", *, latching: bool = False) -> ev.AlarmRaised:
    return ev.AlarmRaised(alarm, priority, "text", unit=unit, latching=latching)  # type: ignore[arg-type]


def counted(*told: Told, until: float | None = None) -> AlarmFigures:
    found = AlarmFigures()
    for seconds, event in told:
        found.take(event, at(seconds))
    if until is not None:
        found.at(at(until))
    found.settle()
    return found


def each(count: int, every: float, begin: float = 0.0) -> list[Told]:
    """So many alarms, each another one, at equal distances."""
    return [(begin + n * every, raised(f"a{n}-{begin:g}")) for n in range(count)]


def test_the_rate_is_over_all_the_time_that_was_looked_at() -> None:
    found = counted(*each(12, 30 * MIN), until=6 * HOUR)
    assert (found.announced, found.seconds, found.rate_per_hour) == (12, 6 * HOUR, 2.0)


@pytest.mark.parametrize(("count", "every", "floods"), [(9, 10.0, 0), (10, 10.0, 1), (10, 66.0, 1), (10, 67.0, 0)])
def test_a_flood_begins_with_the_tenth_in_ten_minutes(count: int, every: float, floods: int) -> None:
    found = counted(*each(count, every), until=count * every)
    assert (found.floods, found.in_flood) == (floods, bool(floods))


def test_a_flood_is_over_when_fewer_than_five_came_in_ten_minutes() -> None:
    """Ten at 0, 10, ..., 90 s: it begins at 90 s.  The sixth (50 s) leaves the window at 650 s: four are left."""
    found = counted(*each(10, 10.0), until=20 * MIN)
    assert (found.in_flood, found.floods, found.flood_s) == (False, 1, 560.0)
    going_on = counted(*each(10, 10.0), until=650.0)
    assert (going_on.in_flood, going_on.flood_s) == (True, 560.0)
    assert going_on.most_in_window == 10


def test_an_alarm_that_comes_three_times_in_a_minute_chatters() -> None:
    def on_and_off(every: float) -> list[Told]:
        return [told for n in range(3) for told in ((n * every, raised("a")), (n * every + 1, ev.AlarmCleared("a")))]

    found = counted(*on_and_off(30.0), until=100.0)
    assert dict(found.chattering) == {"a": 1}
    assert found.chatters(at(59 * MIN)) == ["a"]
    assert found.chatters(at(62 * MIN)) == []
    assert not counted(*on_and_off(31.0)).chattering
    assert counted(*on_and_off(30.0)).by_alarm["a"] == 3


def test_an_alarm_that_stands_for_more_than_a_day_is_stale() -> None:
    found = counted(
        (0, raised("old")), (0, raised("gone")), (1 * HOUR, raised("new")), (2 * HOUR, ev.AlarmCleared("gone"))
    )
    assert found.stale(at(24 * HOUR)) == []
    assert found.stale(at(24 * HOUR + 1)) == ["old"]


def test_the_shares_are_held_against_eighty_fifteen_five() -> None:
    wanted = {"low": 16, "medium": 3, "high": 1}
    found = counted(*((0, raised(f"{p}{n}", p)) for p, count in wanted.items() for n in range(count)))
    assert found.shares() == {"low": 0.80, "medium": 0.15, "high": 0.05}
    both = counted((0, raised("a", "high")), (0, raised("b", "critical")))
    assert both.shares() == {"low": 0.0, "medium": 0.0, "high": 1.0}, (
        "the guide has three, a critical one is a high one"
    )
    assert AlarmFigures().shares() == {"low": 0.0, "medium": 0.0, "high": 0.0}


def test_how_fast_people_answer() -> None:
    found = counted(
        (0, raised("a")), (60, ev.AlarmAcknowledged("a", "anna")), (100, raised("b")),
        (400, ev.AlarmAcknowledged("b", "anna")), (500, ev.AlarmAcknowledged("b", "anna")),
    )  # fmt: skip
    assert (found.acknowledged, found.acknowledge_s, found.longest_unacknowledged_s) == (2, 360.0, 300.0)


def test_a_low_one_that_is_over_waits_for_nobody() -> None:
    found = counted(
        (0, raised("a", "low")), (10, ev.AlarmCleared("a")), (1000, raised("a", "low")),
        (1060, ev.AlarmAcknowledged("a", "anna")),
    )  # fmt: skip
    assert (found.acknowledged, found.longest_unacknowledged_s) == (1, 60.0)
    latching = counted(
        (0, raised("a", "low", latching=True)), (10, ev.AlarmCleared("a")), (70, ev.AlarmAcknowledged("a", "x"))
    )
    assert latching.longest_unacknowledged_s == 70.0


def test_one_that_is_announced_anew_waits_anew() -> None:
    found = counted(
        (0, raised("a")), (60, ev.AlarmAcknowledged("a", "anna")), (1860, ev.AlarmAgain("a", "re_alarm")),
        (1890, ev.AlarmAcknowledged("a", "anna")),
    )  # fmt: skip
    assert (found.acknowledged, found.acknowledge_s, dict(found.again)) == (2, 90.0, {"re_alarm": 1})


def test_what_is_set_aside_is_announced_when_it_is_set_back() -> None:
    told: Sequence[Told] = (
        (0, ev.AlarmSetAside("a", "shelved", "anna", "cable")),
        (1, ev.AlarmSetAside("a", "out_of_service", "ben", "probe")),
        (10, raised("a")),
        (100, ev.AlarmSetBack("a", "shelved", "anna")),
    )
    found = counted(*told)
    assert (found.announced, found.unannounced) == (0, 1)
    found = counted(*told, (200, ev.AlarmSetBack("a", "out_of_service", "ben")))
    assert (found.announced, dict(found.by_priority)) == (1, {"medium": 1})
    over = counted(*told, (150, ev.AlarmCleared("a")), (200, ev.AlarmSetBack("a", "out_of_service", "ben")))
    assert over.announced == 0
    assert dict(over.set_aside) == {"shelved": 1, "out_of_service": 1}


def test_followers_that_first_out_hides_make_no_flood() -> None:
    storm: list[Told] = [(0.0, raised(f"a{n}")) for n in range(30)]
    hidden: list[Told] = [
        (0.1, ev.AlarmSetAside(f"a{n}", "suppressed", FIRST_OUT, "a0 came first")) for n in range(1, 30)
    ]
    found = counted(*storm, *hidden, until=60.0)
    assert (found.announced, found.unannounced, found.floods) == (1, 29, 0)
    late = [(seconds + 3.0, event) for seconds, event in hidden]
    assert counted(*storm, *late, until=60.0).announced == 30, "people were told by then"


def test_raised_twice_is_one_alarm_and_the_alarms_of_two_units_are_two() -> None:
    found = counted((0, raised("a", unit="cell1")), (1, raised("a", unit="cell1")), (2, raised("a", unit="cell2")))
    assert dict(found.by_alarm) == {"cell1/a": 1, "cell2/a": 1}
    assert dict(found.by_unit) == {("cell1", "medium"): 1, ("cell2", "medium"): 1}
    assert found.top(1) == [("cell1/a", 1)]


# --- several records as one console -----------------------------------------------------------------------------------


def record(told: Iterable[Told]) -> list[Record]:
    def text(seconds: float) -> str:
        return at(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    return [Record(seq, text(t), event, "", "") for seq, (t, event) in enumerate(told, start=1)]


def begun(unit: str) -> BatchCreated:
    return BatchCreated(f"{unit}-1", unit, "still", "1", "", "", {}, {}, "0", "", {}, "")


def test_ten_alarms_of_two_units_flood_the_one_person_who_watches_both() -> None:
    one = record([(0, begun("cell1")), *each(5, 60.0)])
    two = record([(0, begun("cell2")), *each(5, 60.0, begin=30.0)])
    assert (figures(one).floods, figures(two).floods) == (0, 0)
    together = merged({"one": one, "two": two})
    assert (together.announced, together.floods, together.most_in_window) == (10, 1, 10)
    assert set(together.by_unit) == {("cell1", "medium"), ("cell2", "medium")}


def test_an_alarm_that_a_batch_takes_over_is_one_alarm() -> None:
    site = record(
        [
            (0, raised("a", unit="cell1")),
            (100, ev.AlarmAcknowledged("a", "batch cell1-1", "cell1")),
            (100, ev.AlarmCleared("a", "cell1")),
            (1000.5, raised("a", unit="cell1")),
            (1060, ev.AlarmAcknowledged("a", "anna", "cell1")),
        ]
    )
    batch = record([(90, begun("cell1")), (100, raised("a")), (1000, StateChanged("", "stopped", "idle", "reset"))])
    for order in ({"site": site, "b": batch}, {"b": batch, "site": site}):
        found = merged(order)
        assert (found.announced, found.acknowledged, found.longest_unacknowledged_s) == (1, 1, 1060.0)
        assert dict(found.active) == {"cell1/a": T0}
    over = merged({"site": site[:3], "b": batch})
    assert dict(over.active) == {}, "a batch that is put away holds no alarm"


# --- live -------------------------------------------------------------------------------------------------------------


def row(priority: str, state: str, since: float, *how: str, active: bool = True) -> dict[str, Any]:
    waiting = state == "unacknowledged" and not how
    return {
        "priority": priority, "state": state, "since": at(since).isoformat(), "active": active, "waiting": waiting,
        "aside": {name: {} for name in how},
    }  # fmt: skip


def test_the_numbers_of_now() -> None:
    rows = {
        "cell1": [
            row("high", "unacknowledged", 0.0),
            row("high", "acknowledged", 100.0),
            row("low", "unacknowledged", 200.0, "suppressed", "out_of_service"),
            row("medium", "normal", 0.0, "shelved", active=False),
        ],
        "site": [],
    }
    told = numbers(rows, counted((0, raised("a", unit="cell1"))), at(25 * HOUR), {("mqtt", "published"): 3})
    assert told.standing == {
        ("cell1", "high", "unacknowledged"): 1,
        ("cell1", "high", "acknowledged"): 1,
        ("cell1", "low", "out_of_service"): 1,
        ("cell1", "medium", "shelved"): 1,
    }
    assert told.active == {("cell1", "high"): 2, ("cell1", "low"): 1}
    assert (told.stale, told.oldest_unacknowledged_s, told.top) == (3, 25 * HOUR, (("cell1/a", 1),))


# --- the report -------------------------------------------------------------------------------------------------------


def journal(path: Path, first: Any, *events: Any) -> Path:
    async def write() -> None:
        clock = SystemClock()
        made = await Journal.create(path, clock, first)
        for event in events:
            await made.record(event)
        await made.close()
        clock.close()

    asyncio.run(write())
    return path


def test_the_report_of_several_records_has_each_and_all_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storm = [raised(f"a{n}", "low") for n in range(6)]
    batch = journal(tmp_path / "cell1-1.db", begun("cell1"), *storm)
    site = journal(
        tmp_path / "site.db", SiteOpened("demo", "suite1", "0"), *(raised(f"b{n}", unit="site") for n in range(5))
    )
    assert main(["alarm", "report", str(batch), str(site), "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert {name: one["floods"] for name, one in told["records"].items()} == {"cell1-1": 0, "site": 0}
    assert (told["together"]["announced"], told["together"]["floods"]) == (11, 1)
    assert main(["alarm", "report", str(batch), str(site)]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == ["cell1-1", "site", "together"]
    assert main(["alarm", "report", str(batch)]) == Exit.OK
    assert "together" not in capsys.readouterr().out


def test_a_report_of_no_record_and_of_a_broken_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alarm", "report", str(tmp_path / "none.db")]) == Exit.BAD_INPUT
    assert "there is no such record" in capsys.readouterr().err
    path = journal(tmp_path / "b.db", begun("cell1"), raised("a"), BatchHead("x", 1, "0" * 64), raised("c"))
    with sqlite3.connect(path) as file:
        triggers = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            file.execute(f"DROP TRIGGER {name}")
        file.execute("UPDATE events SET event = replace(event, 'x', 'y') WHERE seq = 3")
        for _, sql in triggers:
            file.execute(sql)
    file.close()
    assert main(["alarm", "report", str(path), "--json"]) == Exit.NOT_WELL
    told = capsys.readouterr()
    assert "is broken" in told.err
    assert json.loads(told.out)["records"]["b"]["announced"] == 1, "its good part is counted"
    text = tmp_path / "notes.txt"
    text.write_text("no record")
    assert main(["alarm", "report", str(text)]) == Exit.NOT_WELL
