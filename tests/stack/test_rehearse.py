"""Rehearsals: the real controller among faults and kills breaks no invariant; a wrong one is found out."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from simulators.faults.model import Fault
from tests.stack.told import events, found, told
from tilctl.cli.main import main
from tilctl.cli.rehearsing import campaign
from tilctl.cli.rehearsing.cuts import KINDS, Cut, plan
from tilctl.cli.rehearsing.worker import Job, rehearse
from tilctl.engine import recovery
from tilctl.engine.exclusion import Exclusion
from tilctl.engine.runner import Runner
from tilctl.engine.verbs import transfer
from tilctl.journal import events as ev
from tilctl.journal.store import Journal
from tilctl.journal.verify import read

SHAKEDOWN = (files("recipes") / "library" / "shakedown.yaml").read_text(encoding="utf-8")
IN_A_DOSE = Cut("intent_opened", 1, "later", after=15.0, outage=120.0)


# --- the product ------------------------------------------------------------------------------------------------------


def test_without_faults_it_completes_and_breaks_nothing(tmp_path: Path) -> None:
    result = told(tmp_path)
    assert (result.outcome, result.violations, result.kills) == ("complete", [], 0)
    assert result.commanded == 12
    assert (result.doubled, result.in_doubt) == (0, 0)
    assert list((tmp_path / "data" / "batches" / "closed").glob("*.db"))  # the unit was cleared


@pytest.mark.parametrize("seed", [1, 21])
def test_cruel_faults_break_no_invariant(tmp_path: Path, seed: int) -> None:
    job = Job("shakedown", tmp_path, profile="cruel", steps=("culture/fill/first",), horizon_s=16000.0, seed=seed)
    result = rehearse(job)
    assert result.violations == []
    assert result.outcome in ("complete", "stopped", "aborted")
    assert result.kills > 0
    assert sum(result.faults.values()) > 10
    assert not job.folder.exists()  # a seed that passed leaves nothing behind


@pytest.mark.parametrize("kind", KINDS[:-2])
@pytest.mark.parametrize("how", ["event", pytest.param("commit", marks=pytest.mark.slow)])
def test_killed_at_the_boundary_of_any_kind_of_event(tmp_path: Path, kind: str, how: str) -> None:
    cuts = (Cut(kind, 1, how, outage=20.0), Cut(kind, 3, how), Cut("recovered", 1, how, outage=2.0))
    result = told(tmp_path, cuts=cuts)
    assert result.violations == []
    assert result.outcome == "complete"
    assert result.kills >= 2


def test_killed_while_the_record_is_put_away_the_next_start_closes_it_and_nothing_differs(tmp_path: Path) -> None:
    cuts = (Cut("step_started", 2, "abort", after=1.0), Cut("command_answered", 3, "event", outage=20.0))
    result = told(tmp_path, cuts=cuts)
    assert (result.outcome, result.kills, result.violations) == ("aborted", 1, [])
    assert events(tmp_path, "command_answered")[-1]["command_id"].startswith("reset")
    assert events(tmp_path, "batch_closed")


def test_a_kill_without_an_outage_costs_the_batch_nothing(tmp_path: Path) -> None:
    calm = told(tmp_path / "calm")
    cut = told(tmp_path / "cut", cuts=(Cut("step_phase", 3, "event"), Cut("prompt_opened", 2, "event")))
    assert cut.outcome == "complete"
    assert abs(cut.simulated_s - calm.simulated_s) < 30.0 * cut.kills + 1.0


def test_the_same_seed_gives_the_same_record_to_the_last_bit(tmp_path: Path) -> None:
    job = Job("shakedown", tmp_path, profile="rough", horizon_s=16000.0, seed=4, keep=True)
    one, two = rehearse(job), rehearse(job)
    assert one.kills > 0
    assert (one.head, one.events, one.simulated_s, one.faults) == (two.head, two.events, two.simulated_s, two.faults)
    other = rehearse(replace(job, seed=5))
    assert other.head != one.head


def test_over_real_sockets_it_is_the_same(tmp_path: Path) -> None:
    result = told(tmp_path, cuts=(IN_A_DOSE,), sockets=True)
    assert (result.outcome, result.violations, result.kills) == ("complete", [], 1)


def test_disk_clock_and_power_fail_and_the_batch_ends(tmp_path: Path) -> None:
    faults = (
        Fault("disk", "full", time_s=1500.0, for_s=600.0),
        Fault("clock", "step", time_s=5000.0, args={"by": 7200.0}),
        Fault("clock", "unsynchronised", time_s=6000.0, for_s=900.0),
        Fault("controller", "power_cut", time_s=6100.0, for_s=300.0, args={"both": 1.0}),
        Fault("operator", "double", time_s=1.0, for_s=9000.0),
        Fault("operator", "contradictory", time_s=1.0, for_s=9000.0),
    )
    result = told(tmp_path, *faults)
    assert result.violations == []
    assert result.kills >= 1  # the power cut; how a failed record comes back is in test_rehearse_oracles
    assert result.outcome in ("complete", "stopped", "aborted")
    assert {"disk full", "clock step", "operator double"} <= result.faults.keys()


# --- wrong controllers ------------------------------------------------------------------------------------------------


async def _nothing_happened(context: Any, intent: Any) -> None:
    """Close an interrupted dose as if the pump had not heard of it."""
    closed = ev.IntentClosed(intent.number, intent.path, "nothing", 0.0, 0.0, {})
    await context.batch.record(closed)


async def _resolves_nothing(*_: Any) -> dict[str, str]:
    return {}


def test_a_controller_that_repeats_an_interrupted_dose_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "resolve", _nothing_happened)
    monkeypatch.setattr(recovery, "_resolve", _resolves_nothing)
    result = told(tmp_path, cuts=(IN_A_DOSE,))
    assert "not_doubled" in found(result)
    assert result.doubled == 1


def test_a_controller_that_leaves_a_dose_open_and_begins_another_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forgets(_context: Any, _intent: Any) -> None:
        pass

    monkeypatch.setattr(transfer, "resolve", forgets)
    monkeypatch.setattr(recovery, "_resolve", _resolves_nothing)
    monkeypatch.setattr(Exclusion, "_against", lambda _self, _claim: {})  # else it waits for the dose, for ever
    assert "at_most_once" in found(told(tmp_path, cuts=(IN_A_DOSE,)))


def test_a_controller_that_writes_before_the_intent_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right: Callable[..., Any] = transfer._open  # pyright: ignore[reportPrivateUsage] - a fault is put into it

    async def hasty(context: Any, order: Any, way: Any, before: Any, volume: float, *, first: bool) -> int:
        args = {"sequence": int(before.sequence) + 1, "rate": 50.0, "volume": 1.0}
        await context.batch.plant.instruments[way.pump].command("dispense", args)
        return await right(context, order, way, before, volume, first=first)

    monkeypatch.setattr(transfer, "_open", hasty)
    assert "intent_before_act" in found(told(tmp_path))


def test_a_controller_that_ignores_a_hold_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_is_made_safe(_runner: Runner) -> None:
        pass

    monkeypatch.setattr(Runner, "_make_safe", nothing_is_made_safe)
    assert "rest_is_rest" in found(told(tmp_path, cuts=(Cut("intent_opened", 1, "hold", after=15.0),)))


def test_a_controller_that_forgets_what_it_was_told_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right: Callable[..., Any] = Journal.record

    async def forgets(journal: Journal, event: ev.Event) -> Any:
        if isinstance(event, ev.CommandAnswered) and event.text.startswith("prompt"):
            return None
        return await right(journal, event)

    monkeypatch.setattr(Journal, "record", forgets)
    assert found(told(tmp_path)) == {"every_command_answered"}


def test_a_controller_whose_state_is_not_its_record_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Runner._holding  # pyright: ignore[reportPrivateUsage] - a fault is put into it

    async def remembers(runner: Runner, reason: str) -> None:
        runner.batch.state.values["secret.note"] = (1.0, "")
        await right(runner, reason)

    monkeypatch.setattr(Runner, "_holding", remembers)
    assert "fold_is_state" in found(told(tmp_path, cuts=(Cut("intent_opened", 1, "hold", after=15.0),)))


# --- many of them -----------------------------------------------------------------------------------------------------


def test_one_object_of_json_and_a_build_servers_xml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junit = tmp_path / "junit.xml"
    code = main(
        ["rehearse", "shakedown", "--seeds", "3", "--jobs", "2", "--faults", "mild", "--sockets", "0.5", "--json",
         "--junit", str(junit), "--out", str(tmp_path / "out")]
    )  # fmt: skip
    data = json.loads(capsys.readouterr().out)
    assert code == 0
    assert data["recipe"] == "shakedown"
    assert data["seeds"] == sum(data["outcomes"].values()) == 3
    assert data["violations"] == []
    assert data["doses"].keys() == {"commanded", "doubled", "in_doubt"}
    assert data["doses"]["commanded"] >= 20
    assert data["faults_injected"] >= 3
    assert data["simulated_days"] > 0.3
    assert 20 < data["peak_rss_mb"] < 500
    assert data["over_sockets"] == 1
    assert data["wall_seconds"] > 0
    suite = ET.parse(junit).getroot()  # noqa: S314 - our own file
    assert (suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuite", "3", "0")
    assert [case.get("name") for case in suite] == ["seed 1", "seed 2", "seed 3"]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_recipe_that_cannot_end_well_is_told_with_its_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.yaml"  # the mistake is one of the rehearsal's recipe: a file of faults that lies
    path.write_text("faults:\n  - {at: {time: 900 s}, where: disk, what: full, for: 60 d}\n", encoding="utf-8")
    junit = tmp_path / "junit.xml"
    code = main(
        ["rehearse", "shakedown", "--seed", "7", "--faults", str(path), "--limit", "3", "--json",
         "--junit", str(junit), "--out", str(tmp_path / "out")]
    )  # fmt: skip
    data = json.loads(capsys.readouterr().out)
    assert code == 1
    assert [(v["seed"], v["invariant"]) for v in data["violations"]] == [(7, "stuck")]
    assert (tmp_path / "out" / "seed-7" / "faults.yaml").exists()
    assert 'failures="1"' in junit.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "nonsense"),
        (["shakedown", "--faults", "horrible"], "profiles are none, mild, rough, cruel"),
        (["shakedown", "--set", "fill_volume=9 L"], "its range is"),
        (["shakedown", "--set", "fill_volume"], "expected name=value"),
        (["til-rocking"], "--site demo-site: station needs temperature, co2, oxygen, ph, rocking, gas_oxygen"),
        (["til-rocking", "--site", "lab-eurotherm"], "has no oxygen, ph, rocking, gas_oxygen, set_rocking"),
        (["til-22d", "--site", "closed-device"], "there is none in unit cell1"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert main(["rehearse", *arguments, "--out", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["rehearse", "shakedown", "--seed", "1", "--junit", str(tmp_path), "--out", str(tmp_path / "out")])
    assert code == 3
    assert "--junit" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == [], "nothing was rehearsed"


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ("faults:\n  - {at: {time: 1 h}, where: pump_media, what: explode}\n", "f.yaml:2"),
        ("faults:\n  - {at: {time: 1 h}, where: pump_nine, what: reboot}\n", "pump_nine"),
        ("faults: 7\n", "f.yaml:1"),
        ("faults:\n  - {at: {step: nope/medium}, where: pump_media, what: reboot}\n", "no step nope/medium"),
    ],
)
def test_a_file_of_faults_with_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], faults: str, says: str
) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(faults, encoding="utf-8")
    assert main(["rehearse", "shakedown", "--faults", str(path), "--out", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--jobs", "x"], ["--sockets", "2"], ["--seed", "-1"]])
def test_numbers_that_are_none(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rehearse", "shakedown", *arguments])
    assert ended.value.code == 2
    assert "is no" in capsys.readouterr().err


def test_a_recipe_of_ones_own_by_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SHAKEDOWN.replace("recipe: shakedown", "recipe: mine"), encoding="utf-8")
    code = main(
        ["rehearse", str(path), "--seed", "3", "--faults", "none", "--set", "fill_volume=150 mL", "--json",
         "--out", str(tmp_path / "out"), "--keep"]
    )  # fmt: skip
    data = json.loads(capsys.readouterr().out)
    assert (code, data["recipe"], data["outcomes"]) == (0, "mine", {"complete": 1})
    record = next((tmp_path / "out" / "seed-3" / "data" / "batches" / "closed").glob("*.db"))
    records, verdict = read(record)
    assert verdict.ok
    assert data["head"] == records[-1].hash
    assert isinstance(records[0].event, ev.BatchCreated)
    assert records[0].event.parameters == {"fill_volume": "150 mL"}


def test_a_worker_that_dies_is_a_violation_and_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin: Callable[[], Any] = campaign._begin  # pyright: ignore[reportPrivateUsage] - a fault is put into it

    def killed() -> Any:
        worker = begin()
        if not dead:
            dead.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)
        return worker

    dead: list[int] = []
    monkeypatch.setattr(campaign, "_begin", killed)
    order = campaign.Order(Job("shakedown", tmp_path), [1, 2], 1, 120.0)
    tally = campaign.run(order, lambda _tally, _total: None)
    assert tally.outcomes == {"stuck": 1, "complete": 1}
    assert [violation["invariant"] for violation in tally.violations] == ["stuck"]
    assert multiprocessing.active_children() == []


def test_ctrl_c_prints_what_there_is(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tilctl.cli.main", "rehearse", "shakedown", "--seeds", "500", "--jobs", "1"]
    process = subprocess.Popen(
        [*command, "--faults", "none", "--json", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 60.0
    while not any(tmp_path.glob("seed-[2-9]")) and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    data = json.loads(out)
    assert process.returncode == 130
    assert data["interrupted"]
    assert 1 <= data["seeds"] < 500


@pytest.mark.slow
def test_thirty_days_leave_memory_tasks_and_descriptors_flat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "month.yaml"
    month = SHAKEDOWN.replace("since(day0) >= 2 min, window: 0 d..1 d", "since(day0) >= 30 d, window: 29 d..32 d")
    month = month.replace("warn: 4 h, high: 24 h", "warn: 40 d, high: 50 d").replace("shakedown", "month")
    path.write_text(month, encoding="utf-8")
    assert main(["rehearse", str(path), "--seed", "1", "--faults", "none", "--json", "--out", str(tmp_path / "o")]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["outcomes"] == {"complete": 1}
    days = [sample for sample in data["samples"] if sample["day"] >= 2.0]
    assert len(days) >= 28
    for name, allowed in (("tasks", 3), ("descriptors", 3), ("status_bytes", 400), ("rss_mb", 12.0)):
        values = [sample[name] for sample in days]
        assert max(values) - min(values) <= allowed, f"{name}: {values}"


def test_what_befalls_a_seed_follows_from_it() -> None:
    assert plan("cruel", 3) == plan("cruel", 3)
    assert plan("cruel", 3) != plan("cruel", 4)
    assert plan("none", 3) == ()
