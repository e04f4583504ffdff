"""What must not go on by itself: each oracle finds the controller that does, and the right one it lets pass."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from simulators.faults.model import Fault
from tests.stack.told import found, told
from tilctl.cli.rehearsing.cuts import Cut
from tilctl.engine import identity, recovery
from tilctl.engine.errors import ProcedureEnd, StepError
from tilctl.engine.state import parse_time
from tilctl.engine.verbs import incubate, sample
from tilctl.guard.board import GuardBoard
from tilctl.guard.interlocks import Interlocks

SHAKEDOWN = (files("recipes") / "library" / "shakedown.yaml").read_text(encoding="utf-8")
IN_A_DOSE = Cut("intent_opened", 1, "later", after=15.0, outage=120.0)
IN_THE_INCUBATION = Cut("marked", 1, "later", after=20.0, outage=7200.0)  # an outage of 1 h is allowed
WARM = Fault("incubator", "heater_runaway", time_s=9000.0, for_s=7200.0, args={"to": 38.8})  # the interlock is at 39
HOT = Fault("incubator", "heater_runaway", time_s=9000.0, for_s=7200.0, args={"to": 60.0})
SLOW = Fault("operator", "late", time_s=1.0, for_s=1e6, args={"factor": 100.0})
INCUBATION = "until: since(day0) >= 2 min, "


def shelf(folder: Path, old: str, new: str) -> dict[str, Any]:
    """Return the plan of a shakedown in which one thing is written otherwise."""
    assert SHAKEDOWN.count(old) == 1
    folder.mkdir()
    (folder / "changed.yaml").write_text(SHAKEDOWN.replace(old, new).replace("recipe: shakedown", "recipe: changed"))
    return {"recipe": "changed", "folders": (folder,)}


# --- guards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [WARM, HOT])
def test_a_chamber_that_runs_away_is_acted_on(tmp_path: Path, fault: Fault) -> None:
    result = told(tmp_path, fault)
    assert result.violations == []
    assert result.held_s > 0.0


def test_a_controller_that_does_not_ask_its_guards_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuardBoard, "scan", lambda _board: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    assert "guards_act" in found(told(tmp_path, WARM))


def test_a_controller_that_does_not_ask_its_interlocks_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(*_: Any) -> None:
        pass

    monkeypatch.setattr(Interlocks, "scanned", deaf)
    assert "interlocks_act" in found(told(tmp_path, HOT))


# --- outages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [IN_A_DOSE, IN_THE_INCUBATION])
def test_a_batch_waits_where_its_recipe_says_so(tmp_path: Path, cut: Cut) -> None:
    result = told(tmp_path, cuts=(cut,))
    assert (result.outcome, result.violations) == ("complete", [])
    assert result.held_s > 0.0


def test_a_controller_that_goes_on_where_a_person_has_to_look_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "RESUMES", (*recovery.RESUMES, "hold"))
    assert "waits_for_a_person" in found(told(tmp_path, cuts=(IN_A_DOSE,)))


def test_a_controller_that_goes_on_after_too_long_an_outage_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> str:
        return ""

    monkeypatch.setattr(recovery, "_too_long", never)
    assert "waits_for_a_person" in found(told(tmp_path, cuts=(IN_THE_INCUBATION,)))


def test_nor_does_a_second_death_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgets(records: Any, _last_beat: Any) -> Any:
        return parse_time(records[-1].t), ""  # of the life that died in its recovery, and was never in control

    monkeypatch.setattr(recovery, "_uncontrolled", forgets)
    cuts = (IN_THE_INCUBATION, Cut("outage", 1, "event", outage=5.0))
    assert {"outage_is_told", "waits_for_a_person"} <= found(told(tmp_path, cuts=cuts))


EXCHANGED = Fault("pump_waste", "replaced", step="culture/static", after_s=600.0)
WHILE_AWAY = Cut("marked", 1, "later", after=20.0, outage=1800.0)


def test_an_instrument_that_is_exchanged_while_nobody_is_there_is_for_a_person(tmp_path: Path) -> None:
    result = told(tmp_path, EXCHANGED, cuts=(WHILE_AWAY,))
    assert result.violations == []
    assert result.held_s > 0.0


def test_a_controller_that_takes_it_for_the_same_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_batch: Any) -> list[str]:
        return []

    monkeypatch.setattr(identity, "replaced", none)
    assert "waits_for_a_person" in found(told(tmp_path, EXCHANGED, cuts=(WHILE_AWAY,)))


# --- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["hold", "run_late", "skip"])
def test_a_missed_moment_is_told(tmp_path: Path, rule: str) -> None:
    order = shelf(tmp_path / "shelf", INCUBATION, f"{INCUBATION}grace: 5 min, on_missed: {rule}, ")
    result = told(tmp_path, cuts=(IN_THE_INCUBATION,), **order)
    assert result.violations == []


@pytest.mark.parametrize("rule", ["hold", "run_late", "abort"])
def test_a_controller_that_says_nothing_of_it_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    async def silent(*_: Any) -> None:
        pass

    monkeypatch.setattr(incubate, "judge", silent)
    order = shelf(tmp_path / "shelf", INCUBATION, f"{INCUBATION}grace: 5 min, on_missed: {rule}, ")
    assert "missed_is_told" in found(told(tmp_path, cuts=(IN_THE_INCUBATION,), **order))


def test_so_is_one_that_says_it_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = incubate.judge

    async def mild(context: Any, *rest: Any) -> None:
        try:
            await right(context, *rest)
        except StepError as error:
            for note in error.notes:
                await context.batch.record(note)
        except ProcedureEnd:
            pass

    monkeypatch.setattr(incubate, "judge", mild)
    for rule in ("hold", "abort"):
        order = shelf(tmp_path / rule, INCUBATION, f"{INCUBATION}grace: 5 min, on_missed: {rule}, ")
        assert "missed_is_told" in found(told(tmp_path / f"data-{rule}", cuts=(IN_THE_INCUBATION,), **order))


def late_count(folder: Path) -> dict[str, Any]:
    """Return the plan of a shakedown that is held where its count does not come within an hour."""
    return shelf(folder, "on_overdue: continue", "on_overdue: hold")


def test_an_overdue_answer_holds(tmp_path: Path) -> None:
    result = told(tmp_path, SLOW, **late_count(tmp_path / "shelf"))
    assert result.violations == []
    assert result.held_s > 0.0


def test_a_controller_that_waits_for_ever_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def waits(context: Any, prompt: Any, _on_overdue: str) -> bool:
        await context.prompts.wait(prompt)
        return True

    monkeypatch.setattr(sample, "answered", waits)
    assert "overdue_holds" in found(told(tmp_path, SLOW, **late_count(tmp_path / "shelf")))


def test_an_incubation_whose_time_was_over_when_it_began_is_not_late(tmp_path: Path) -> None:
    wait = "  - wait: {id: before, for: 40 min, source: P}\n"
    result = told(
        tmp_path / "out", **shelf(tmp_path / "shelf", "  - mark: {id: day0}\n", f"  - mark: {{id: day0}}\n{wait}")
    )
    assert (result.outcome, result.violations) == ("complete", [])
