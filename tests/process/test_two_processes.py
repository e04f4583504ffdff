"""Plant and controller in two processes: killed in the middle of a step, the batch goes on, nothing is repeated."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cell import Cell, until


@pytest.mark.slow  # tests/process/test_torture.py kills the same two processes at random instants
def test_killed_in_the_middle_of_a_dose_and_of_an_incubation(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        cell.start_controller()
        assert cell.command("start", recipe="quick")["status"] == "done"
        until(lambda: cell.has("intent_opened", path="fill/second"), "the second dose begins")
        cell.kill_controller()
        killed_at = len(cell.records())

        cell.start_controller()
        until(lambda: cell.has("state_changed", path="", to_state="held"), "held after the restart")
        assert cell.has("outage") is not None
        intents = [r.event for r in cell.records() if r.event.kind == "intent_opened" and r.event.path == "fill/second"]
        assert len(intents) == 1, "an intent that is open is never commanded again"
        assert cell.has("intent_closed", path="fill/second") is not None, (
            "it was closed by evidence before anything else"
        )

        assert cell.command("restart")["status"] == "done"
        until(lambda: cell.has("step_completed", path="fill/second"), "the remainder of the dose")
        until(lambda: cell.has("step_started", path="fill/static"), "the incubation")
        cell.kill_controller()
        cell.start_controller()
        until(lambda: cell.has("state_changed", path="", to_state="complete"), "it resumes by itself and ends")

        events = [record.event for record in cell.records()]
        done = [e.path for e in events if e.kind == "step_completed"]
        assert len(done) == len(set(done)), "no completed step is repeated"
        assert sum(e.kind == "noted" and e.path == "fill/before" for e in events) == 1
        first_done = next(i for i, e in enumerate(events) if e.kind == "step_completed" and e.path == "fill/first")
        assert first_done < killed_at
        flask = cell.bench("find", {"name": "flask"})
        assert flask["volume_ml"] == pytest.approx(32.0, abs=3.0), "what the plant really moved, over all intents"
        sequences = [e.args["sequence"] for e in events if e.kind == "intent_opened"]
        assert len(sequences) == len(set(sequences))
