"""`tilctl journal` as it is typed: the verdict, the record for people and for machines, the exit code."""

from __future__ import annotations

import asyncio
import hashlib
import json
import types
import typing
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from devices.clock import SystemClock
from tilctl.cli.journal import KINDS
from tilctl.cli.main import main
from tilctl.cli.plain import one_line
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.store import Journal
from tilctl.journal.verify import read
from tilctl.record.words import describe

EVENTS: list[ev.Event] = [
    ev.SiteOpened("demo", "suite1", "0.1.0"),
    ev.StepStarted("rep", "operation"),
    ev.StepStarted("rep/medium", "transfer"),
    ev.Noted("rep/medium", "first line\nsecond \x1b[2J line", exception=False),
    ev.Marked("day0", "2026-01-05T08:00:00.000Z"),
    ev.StepStarted("rep/medium2", "transfer"),
    ev.AlarmRaised("warm", "high", "too warm", "rep/medium", {"station.temperature": 38.2}),
]


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A closed journal of EVENTS."""
    clock = SystemClock()
    journal = await Journal.create(tmp_path / "batch.db", clock, EVENTS[0])
    for event in EVENTS[1:]:
        await journal.record(event)
    await journal.close()
    clock.close()
    return journal.path


def tilctl(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main(["journal", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def spoiled(path: Path) -> Iterator[Path]:
    """Make files that are no whole journal, from one that is."""
    content = path.read_bytes()
    for name, part in (
        ("truncated.db", content[: len(content) // 2]),
        ("short.db", content[:100]),
        ("empty.db", b""),
        ("text.db", b"this is no database " * 1000),
    ):
        path.with_name(name).write_bytes(part)
        yield path.with_name(name)


def damaged(path: Path, old: bytes, new: bytes) -> Path:
    """Change bytes of the file, as a disk or a person would."""
    content = path.read_bytes()
    assert content.count(old) == 1
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return path


async def test_an_intact_record(capsys: pytest.CaptureFixture[str], path: Path):
    head = read(path)[0][-1].hash
    assert tilctl(capsys, "verify", path) == (0, f"{path}: intact, 7 events, head {head}\n", "")
    code, out, _ = tilctl(capsys, "verify", path, "--json")
    assert code == 0
    assert json.loads(out) == {
        "path": str(path), "ok": True, "events": 7, "head": head, "first_bad": None, "reason": "",
        "noted": None,
    }  # fmt: skip


async def test_a_changed_event_is_named(capsys: pytest.CaptureFixture[str], path: Path):
    damaged(path, b"first line", b"First line")
    code, out, _ = tilctl(capsys, "verify", path)
    assert code == 1
    assert "broken, first bad event 4: event 4 was altered" in out
    assert "(3 good events)" in out
    told = json.loads(tilctl(capsys, "verify", path, "--json")[1])
    assert (told["ok"], told["first_bad"], told["events"]) == (False, 4, 3)


async def test_a_record_cut_short_is_found_by_a_noted_head(capsys: pytest.CaptureFixture[str], path: Path):
    noted = read(path)[0][4].hash
    assert tilctl(capsys, "verify", path, "--head", noted.upper())[0] == 0
    code, out, _ = tilctl(capsys, "verify", path, "--head", "ab" * 32)
    assert code == 1
    assert "cut short or rewritten" in out


@pytest.mark.parametrize("head", ["", "abc", "z" * 64, "0" * 63, "--json"])
async def test_a_head_that_is_no_hash_is_bad_input(capsys: pytest.CaptureFixture[str], path: Path, head: str):
    code, out, err = tilctl(capsys, "verify", path, f"--head={head}")
    assert (code, out) == (2, "")
    assert "expected 64 hexadecimal digits" in err


@pytest.mark.parametrize("verb", ["verify", "show"])
async def test_what_is_no_record(capsys: pytest.CaptureFixture[str], path: Path, verb: str):
    for other in spoiled(path):
        code, out, err = tilctl(capsys, verb, other)
        assert code == 1, other.name
        assert f"{other}: broken" in out + err
    for missing in (path.with_name("none.db"), path.parent, Path("/dev/null")):
        code, out, err = tilctl(capsys, verb, missing)
        assert (code, out) == (2, "")
        assert f"{missing}: there is no such file" in err


async def test_show_gives_one_line_for_each_event(capsys: pytest.CaptureFixture[str], path: Path):
    code, out, err = tilctl(capsys, "show", path)
    lines = out.splitlines()
    t = read(path)[0][0].t
    assert (code, err, len(lines)) == (0, "", len(EVENTS))
    assert lines[0] == f"     1  {t}  site demo, node suite1: record opened by version 0.1.0"
    assert lines[3].endswith(r"  note: first line second \x1b[2J line  (rep/medium)")
    assert lines[6].endswith("  alarm warm (high): too warm [station.temperature 38.2]  (rep/medium)")
    assert "\x1b" not in out


async def test_show_can_be_narrowed(capsys: pytest.CaptureFixture[str], path: Path):
    def seen(*words: str) -> list[int]:
        code, out, _ = tilctl(capsys, "show", path, *words)
        assert code == 0
        return [int(line.split()[0]) for line in out.splitlines()]

    assert seen("--kind", "step_started") == [2, 3, 6]
    assert seen("--kind", "marked", "--kind", "noted") == [4, 5]
    assert seen("--path", "rep") == [2, 3, 4, 6, 7]
    assert seen("--path", "rep/medium") == [3, 4, 7], "a path is not a prefix of a name"
    assert seen("--path", "rep/") == [2, 3, 4, 6, 7]
    assert seen("--from", "6") == [6, 7]
    assert seen("--from", "6", "--kind", "step_started", "--path", "rep/medium2") == [6]
    assert seen("--from", "99") == []


async def test_json_lines_can_be_checked_without_this_program(capsys: pytest.CaptureFixture[str], path: Path):
    code, out, _ = tilctl(capsys, "show", path, "--json")
    prev = "0" * 64
    assert code == 0
    for number, line in enumerate(out.splitlines(), 1):
        told: dict[str, Any] = json.loads(line)
        event = json.dumps(told["event"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        text = f'[{told["seq"]},"{told["t"]}",{event},"{told["prev"]}"]'
        assert (told["seq"], told["prev"]) == (number, prev)
        assert hashlib.sha256(text.encode()).hexdigest() == told["hash"]
        prev = told["hash"]
    assert number == len(EVENTS)


async def test_show_of_a_broken_record_gives_the_good_events(capsys: pytest.CaptureFixture[str], path: Path):
    damaged(path, b"first line", b"First line")
    code, out, err = tilctl(capsys, "show", path)
    assert (code, len(out.splitlines())) == (1, 3)
    assert "broken, first bad event 4" in err


async def test_a_record_that_is_being_written_can_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    clock = SystemClock()
    journal = await Journal.create(tmp_path / "live.db", clock, EVENTS[0])
    await journal.record(EVENTS[1])
    assert tilctl(capsys, "verify", journal.path)[0] == 0
    assert len(tilctl(capsys, "show", journal.path)[1].splitlines()) == 2
    await journal.close()
    clock.close()


async def test_looking_changes_nothing(capsys: pytest.CaptureFixture[str], path: Path):
    kept = await asyncio.to_thread(Path.read_bytes, path)
    tilctl(capsys, "verify", path)
    tilctl(capsys, "show", path, "--json")
    assert sorted(each.name for each in path.parent.iterdir()) == ["batch.db"]
    assert await asyncio.to_thread(Path.read_bytes, path) == kept


@pytest.mark.parametrize("words", [["show", "x.db", "--kind", "none"], ["show", "x.db", "--from", "0"], ["verify"], []])
def test_wrong_usage_is_2(words: list[str]):
    with pytest.raises(SystemExit) as ended:
        main(["journal", *words])
    assert ended.value.code == 2


@pytest.mark.parametrize("kind", get_args(ev.Event), ids=lambda kind: kind.__name__)
def test_every_event_has_its_words(kind: type[Any]):
    hints = get_type_hints(kind)
    event = kind(**{item.name: sample(hints[item.name]) for item in fields(kind) if item.name != "kind"})
    words = describe(event)
    assert words
    assert one_line(words) == words
    assert event.kind in KINDS
    assert Record(1, "t", event, "", "").event is event


def sample(hint: Any) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        return get_args(hint)[0]
    if origin in (typing.Union, types.UnionType):
        return sample(get_args(hint)[0])
    if origin is dict:
        return {"name": "value"}
    if origin in (list, tuple):
        inner = get_args(hint)[0]
        return [] if get_origin(inner) is dict else [sample(inner)]
    return {str: "text", int: 3, float: 2.5, bool: True, dict: {}}[hint]


class Told(SystemClock):
    """A clock that stands where a test sets it."""

    moment = datetime(2026, 1, 5, 8, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


async def test_where_the_time_went(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    clock = Told()
    began = clock.moment
    journal = await Journal.create(tmp_path / "batch.db", clock, EVENTS[0])
    for hours, event in (
        (0.0, ev.StateChanged("", "idle", "running", "start", "")),
        (0.0, ev.StepStarted("grow", "operation")),
        (0.0, ev.StepStarted("grow/first", "incubate")),
        (2.0, ev.StateChanged("", "running", "holding", "hold", "")),
        (3.0, ev.StateChanged("", "held", "restarting", "restart", "")),
        (3.0, ev.StateChanged("", "restarting", "running", "done", "")),
        (34.5, ev.Outage("2026-01-06T18:00:00.000Z", "2026-01-06T18:30:00.000Z", 1800.0)),
        (35.0, ev.StepCompleted("grow/first")),
        (35.0, ev.StepStarted("grow/second", "incubate")),
        (35.5, ev.BatchEnded("aborted", "")),
        (99.0, ev.Noted("", "the unit waits to be reset", exception=False)),
    ):
        clock.moment = began + timedelta(hours=hours)
        await journal.record(event)
    await journal.close()
    clock.close()
    code, out, err = tilctl(capsys, "times", journal.path)
    assert (code, err) == (0, "")
    assert [line.rsplit(maxsplit=1)[1] for line in out.splitlines()] == ["step", "grow", "grow/first", "grow/second"]
    (first,) = [line for line in out.splitlines() if line.endswith("grow/first")]
    assert " ".join(first.split()) == "1d 11:00:00 1d 09:30:00 - 01:00:00 00:30:00 grow/first"
    (second,) = [line for line in out.splitlines() if line.endswith("grow/second")]
    assert second.split()[0] == "00:30:00", "until the batch ended, not until the unit was freed"
    code, out, err = tilctl(capsys, "times", journal.path, "--json", "--path", "grow/first")
    assert (code, json.loads(out)) == (
        0,
        {
            "path": "grow/first", "total": 35 * 3600.0, "running": 33.5 * 3600.0, "paused": 0.0, "held": 3600.0,
            "outage": 1800.0, "ended": True,
        },
    )  # fmt: skip
    assert tilctl(capsys, "times", tmp_path / "none.db")[0] == 2
    damaged(journal.path, b"grow/second", b"grow/2econd")
    code, out, err = tilctl(capsys, "times", journal.path)
    assert code == 1
    assert "broken, first bad event" in err
    assert "grow/first" in out, "what is good is told"
