"""Records of earlier versions: today's code folds them to the same state (`tests/golden/make.py` makes them)."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from tilctl.journal.site import boots
from tilctl.journal.verify import read

GOLDEN = Path(__file__).parents[1] / "golden"
BATCHES = sorted(path for path in GOLDEN.glob("*/*.db") if path.name != "site.db")
MAKE = runpy.run_path(str(GOLDEN / "make.py"))


def differences(golden: Any, today: Any, where: str = "state") -> list[str]:
    """Return where today's fold differs; what a later version knows beside it is no difference."""
    if isinstance(golden, dict) and isinstance(today, dict):
        missing = [f"{where}.{key} is missing" for key in golden if key not in today]
        deeper = [differences(item, today[key], f"{where}.{key}") for key, item in golden.items() if key in today]
        return missing + [text for texts in deeper for text in texts]
    return [] if golden == today else [f"{where} is {today!r}, was {golden!r}"]


@pytest.mark.parametrize("path", BATCHES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_earlier_record_folds_to_the_same_state(path: Path) -> None:
    golden = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert differences(golden, MAKE["folded"](path)) == []


def test_the_golden_records_hold_what_they_are_there_for() -> None:
    """A fold that forgets would agree with nothing: each record has the trouble that it is named after."""
    states = {path.stem: MAKE["folded"](path) for path in BATCHES}
    assert states["complete"]["result"] == "complete"
    assert [i["outcome"] for i in states["killed-in-a-dose"]["intents"].values()] == [""]
    assert any(p["answer"] is None for p in states["held-with-a-prompt"]["prompts"].values())
    assert states["held-with-a-prompt"]["states"][""] == "held"
    assert [i["outcome"] for i in states["in-doubt"]["intents"].values()] == ["in_doubt"]
    assert [i["action"] for i in states["freezing"]["intents"].values() if i["outcome"] == ""] == ["start"]


def test_a_difference_is_found() -> None:
    assert differences({"a": {"b": 1.0}}, {"a": {"b": 2.0, "c": 3}, "d": 4}) == ["state.a.b is 2.0, was 1.0"]
    assert differences({"a": 1}, {}) == ["state.a is missing"]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/site.db")), ids=lambda path: path.parent.name)
def test_an_earlier_site_record_is_read(path: Path) -> None:
    records, verdict = read(path)
    assert verdict.ok, verdict.reason
    assert [boot.version for _, boot in boots(records)] == [path.parent.name]
