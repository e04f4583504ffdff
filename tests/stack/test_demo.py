"""The demonstration as a person starts it: what it prints, what it leaves, how it refuses, how it ends early."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from simulators.virtual import run as run_virtually
from tilctl.cli import demo, demo_broker, rehearsal
from tilctl.cli.demo_broker import require_free
from tilctl.cli.demo_folder import MARKER, taken
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.main import main
from tilctl.cli.progress import Progress
from tilctl.gateway.broker import EmbeddedBroker
from tilctl.gateway.connection import Connection
from tilctl.journal.verify import verify

TILCTL = [sys.executable, "-m", "tilctl.cli.main"]
SHAKEDOWN = (files("recipes") / "library" / "shakedown.yaml").read_text(encoding="utf-8")
TREE = "til/v1/demo/suite1"


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*TILCTL, "demo", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def recipe(folder: Path, old: str, new: str) -> str:
    """Write a shakedown with one thing changed and return its path."""
    assert old in SHAKEDOWN
    path = folder / "changed.yaml"
    path.write_text(SHAKEDOWN.replace(old, new), encoding="utf-8")
    return str(path)


def too_warm(folder: Path) -> str:
    """A recipe that holds as soon as the station is warm, before anything is pumped."""
    return recipe(folder, "station.temperature > 38 degC", "station.temperature > 30 degC")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of the test's own, where `out` is made."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


# --- what it prints and leaves ------------------------------------------------------------------------------------


def test_same_seed_same_record_and_every_dose_as_the_pump_counted_it(tmp_path: Path):
    outs = [tmp_path / "a", tmp_path / "b"]
    runs = [started("--recipe", "shakedown", "--json", "--out", str(out)) for out in outs]
    results: list[dict[str, Any]] = []
    for process in runs:
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == Exit.OK, stderr
        assert "2 of 4  culture" in stderr
        assert stdout.count("\n") == 1
        results.append(json.loads(stdout))
    first, second = results
    assert first["journal_head"] == second["journal_head"]
    assert (outs[0] / "freezing.svg").read_bytes() == (outs[1] / "freezing.svg").read_bytes()

    assert (first["recipe"], first["seed"], first["state"]) == ("shakedown", 1, "complete")
    assert 0.1 < first["simulated_days"] < 1.0
    assert 0.0 < first["wall_seconds"] < 120.0
    assert first["viable_cells"] == 0.0  # a shakedown has none
    assert first["prompts_answered"] >= 10
    assert first["alarms"] == []
    assert first["plots"] == [str(outs[0] / "freezing.svg")]
    assert len(first["doses"]) == 12
    for dose in first["doses"]:
        assert dose["commanded_ml"] == pytest.approx(dose["counted_ml"], abs=0.02)
        assert dose["delivered_ml"] == pytest.approx(
            dose["commanded_ml"], rel=0.05, abs=5.0
        )  # to empty a vessel takes more

    verdict = verify(Path(first["journal"]), first["journal_head"])
    assert verdict.ok
    assert verdict.events == first["journal_events"]
    for line in (outs[0] / "log.jsonl").read_text(encoding="utf-8").splitlines():
        assert "event" in json.loads(line)


def test_a_person_is_told_what_it_came_to_and_a_held_batch_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["demo", "--recipe", too_warm(tmp_path), "--seed", "7"]) == Exit.NOT_WELL
    told = capsys.readouterr()
    assert "seed 7: held (warm: station.temperature > 30 degC" in told.out
    assert "journal verify out/demo-shakedown-7/data/batches/" in told.out
    assert "uncalibrated" in told.out
    assert "the batch is held: warm" in told.err
    assert (tmp_path / "out" / "demo-shakedown-7" / MARKER).exists()


def test_a_batch_that_is_stopped_by_its_recipe_gives_its_object_and_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    ending = "[end: {as: stopped, reason: enough}]"
    stop = f"- choose: {{id: q, cases: [{{when: fragments.flasks > 0, steps: {ending}}}, {{else: []}}]}}"
    early = recipe(tmp_path, "- mount: {id: vessels_in", f"{stop}\n  - mount: {{id: vessels_in")
    assert main(["demo", "--recipe", early, "--json"]) == Exit.NOT_WELL
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["reason"], told["doses"], told["viable_cells"]) == ("stopped", "enough", [], None)


def test_a_recipe_file_is_on_record_by_its_name_so_that_records_repeat_on_other_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    heads: list[str] = []
    for folder in ("here", "there/and/beyond"):
        place = tmp_path / folder
        place.mkdir(parents=True)
        main(["demo", "--recipe", too_warm(place), "--json"])
        heads.append(json.loads(capsys.readouterr().out)["journal_head"])
    assert heads[0] == heads[1]


# --- the folder ---------------------------------------------------------------------------------------------------


def made_by_demo(out: Path) -> None:
    """Leave what a demonstration that was killed leaves."""
    with taken(out):
        (out / "data" / "batches" / "closed").mkdir(parents=True)
        (out / "data" / "history").mkdir()
    for name in (
        "data/site.db",
        "data/site.db-wal",
        "data/unit.cell1.mark",
        "data/mqtt-cursor.json",
        "data/batches/cell1-20260105T080000.db",
        "data/history/cell1-20260105T080000.db",
        "culture.svg",
    ):
        (out / name).write_text("old")


def test_what_an_earlier_demo_left_is_replaced(tmp_path: Path):
    made_by_demo(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with taken(tmp_path / "out"):
        assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == [MARKER, "data", "log.jsonl", "notes.txt"]


@pytest.mark.parametrize(
    "name",
    [
        "data/batches/cell1-20270301T101500.db",
        "data/batches/cell2-20260105T080000.db",
        "data/lock",
        "data/batches/closed/photo.jpg",
        "data/mine/site.db",
        "freezing.svg/mine.txt",
    ],
)
def test_nothing_is_touched_beside_what_no_demo_made(tmp_path: Path, name: str):
    made_by_demo(tmp_path / "out")
    (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CommandFailed, match="which no demo made"), taken(tmp_path / "out"):
        pass
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["data/site.db", "data/batches", "culture.svg", "log.jsonl", MARKER])
def test_without_its_marker_nothing_is_a_demo(tmp_path: Path, name: str):
    made_by_demo(tmp_path / "made")
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    shutil.copytree(tmp_path / "made" / "data" / "batches", tmp_path / "out" / name) if name == "data/batches" else (
        tmp_path / "out" / name
    ).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CommandFailed, match="which no demo made") as refused, taken(tmp_path / "out"):
        pass
    assert refused.value.code == Exit.UNAVAILABLE
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_is_never_followed(tmp_path: Path):
    made_by_demo(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "data")
    made_by_demo(tmp_path / "other")
    (tmp_path / "out" / "data").symlink_to(tmp_path / "other" / "data")
    with pytest.raises(CommandFailed, match="holds data"), taken(tmp_path / "out"):
        pass
    assert (tmp_path / "other" / "data" / "site.db").exists()


def test_two_demos_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with taken(tmp_path / "out"):
        (tmp_path / "out" / "data").mkdir()
        assert main(["demo", "--recipe", "shakedown", "--out", str(tmp_path / "out")]) == Exit.UNAVAILABLE
    assert "another demo is running" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").touch()
    assert main(["demo", "--recipe", "shakedown", "--out", out]) == Exit.UNAVAILABLE
    assert "cannot be written" in capsys.readouterr().err


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing-of-this-name", "there is no recipe"),
        ("missing.yaml", "no such file"),
        ("folder/", "not a file"),
        ("broken.yaml", "broken.yaml:2:"),
        ("twice.yaml", "second time"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_bad_input(
    tmp_path: Path, name: str, says: str, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.yaml").write_text("recipe: x\n  bad: [a\n")
    (tmp_path / "twice.yaml").write_text("a: 1\na: 2\n")
    assert main(["demo", "--recipe", name]) == Exit.BAD_INPUT
    told = capsys.readouterr()
    assert says in told.err
    assert told.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--speed", "0"],
        ["--speed", "-1"],
        ["--speed", "nan"],
        ["--speed", "inf"],
        ["--speed", "fast"],
        ["--seed", "x"],
        ["--seed", "-1"],
        ["--seed", "1.5"],
        ["--seed", str(2**32)],
        ["--out", ""],
    ],
)
def test_numbers_that_make_no_sense_are_bad_input(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["demo", *arguments])
    assert ended.value.code == Exit.BAD_INPUT
    assert arguments[0] in capsys.readouterr().err


# --- the broker ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:1883", "mqtt://", "mqtt://127.0.0.1:99999"])
def test_what_is_no_broker_address_is_bad_input(url: str, capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--mqtt-url", url]) == Exit.BAD_INPUT
    assert "--mqtt-url" in capsys.readouterr().err


@pytest.mark.parametrize("listens", [True, False])
def test_a_broker_that_is_not_there_or_says_nothing_is_reported_in_time(listens: bool, monkeypatch: pytest.MonkeyPatch):
    assert demo_broker.WITHIN_S <= 3.0
    monkeypatch.setattr(demo_broker, "WITHIN_S", 0.5)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        began = time.monotonic()
        with pytest.raises(CommandFailed, match="no MQTT 5 broker") as failed:
            require_free(f"mqtt://127.0.0.1:{server.getsockname()[1]}")
    assert failed.value.code == Exit.UNAVAILABLE
    assert time.monotonic() - began < 2.0


def leave(url: str, *messages: tuple[str, str]) -> None:
    """Leave retained messages at a broker."""

    async def publish() -> None:
        async with Connection(url, "leaves") as connection:
            for topic, payload in messages:
                await connection.send(f"{TREE}/{topic}", payload.encode(), retain=True)

    asyncio.run(publish())


def retained(url: str) -> list[str]:
    """Return the topics that a broker holds messages for, below a sentinel that is sent last."""

    async def look() -> list[str]:
        async with Connection(url, "looks") as connection:
            await connection.listen([f"{TREE}/#"])
            await connection.send(f"{TREE}/sentinel", b"x")
            found: list[str] = []
            async for message in connection.messages:
                if str(message.topic).endswith("sentinel"):
                    return found
                found.append(str(message.topic).removeprefix(f"{TREE}/"))
            return found

    return asyncio.run(look())


def test_a_broker_with_a_controller_on_it_is_occupied(broker: EmbeddedBroker):
    leave(broker.url, ("status", '{"status": "online"}'))
    with pytest.raises(CommandFailed, match="online") as failed:
        require_free(broker.url)
    assert failed.value.code == Exit.UNAVAILABLE


def test_prompts_of_an_earlier_run_are_cleared_before_an_operator_sees_them(broker: EmbeddedBroker):
    leave(broker.url, ("status", '{"status": "offline"}'), ("prompt/cell1/p7", "{}"), ("alm/cell1/warm", "{}"))
    require_free(broker.url)
    assert retained(broker.url) == ["status"]


def test_a_broker_that_goes_away_ends_the_demo_with_its_reason(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def gone(self: Progress, service: object) -> None:
        broker.stop()

    monkeypatch.setattr(demo, "BROKER_GONE_S", 2.0)
    monkeypatch.setattr(Progress, "attach", gone)
    assert main(["demo", "--recipe", "shakedown", "--mqtt-url", broker.url]) == Exit.NOT_WELL
    assert "has been away" in capsys.readouterr().err


def test_an_operator_who_cannot_answer_ends_the_rehearsal(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def helpless(*_: object) -> Callable[[dict[str, Any]], Any]:
        def answer(prompt: dict[str, Any]) -> Any:
            raise LookupError(f"what is {prompt['id']}?")

        return answer

    monkeypatch.setattr(rehearsal, "_policy", helpless)
    order = rehearsal.Order("shakedown", 1, tmp_path, broker.url)
    with pytest.raises(rehearsal.RehearsalFailed, match=r"what is p1\?"):
        run_virtually(lambda clock: rehearsal.rehearse(order, clock, lambda *_: None, lambda _: None), watchdog_s=20.0)


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


def test_ctrl_c_at_a_terminal_ends_it_at_once_and_leaves_a_whole_record(tmp_path: Path):
    terminal, inside = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [*TILCTL, "demo", "--out", str(tmp_path / "out")],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background has it ignored
    )
    os.close(inside)
    seen = b""
    try:
        while b"waits for" not in seen:
            seen += os.read(terminal, 65536)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the broker as well
        began = time.monotonic()
        with contextlib.suppress(OSError):  # EIO: the other side has closed
            while piece := os.read(terminal, 65536):
                seen += piece
        assert process.wait(timeout=30) == Exit.INTERRUPTED
        assert time.monotonic() - began < 10.0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    text = seen.decode(errors="replace")
    assert "operation" in text
    assert "interrupted" in text
    assert "Traceback" not in text
    journals = list((tmp_path / "out" / "data" / "batches").glob("*.db"))
    assert len(journals) == 1
    assert verify(journals[0]).ok


# --- the main job -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_main_job_runs_to_its_end(seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--json", "--seed", seed, "--out", str(tmp_path / "out")]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "complete"
    assert 22.0 <= told["simulated_days"] <= 25.0
    assert told["viable_cells"] > 1e9
    assert 70.0 <= told["viability"] <= 100.0
    assert [Path(plot).name for plot in told["plots"]] == ["culture.svg", "freezing.svg"]
    assert all(dose["counted_ml"] == pytest.approx(dose["commanded_ml"], abs=0.02) for dose in told["doses"])
