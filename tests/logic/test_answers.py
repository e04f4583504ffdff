"""What a person answers, as text or number: in canonical units, or refused input by input."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tilctl.engine.prompts import BadAnswer, check_answer
from tilctl.engine.state import Prompt

VOLUME = {"type": "number", "unit": "L", "canonical": "mL", "min": 0.0, "max": 6000.0}
COUNT = {"type": "number", "unit": "", "canonical": "", "min": 0.0, "max": 200.0}


def checked(value: Any, spec: dict[str, Any]) -> Any:
    prompt = Prompt("p1", "rep/in", "ask", "?", {"inputs": {"it": spec}}, datetime.now(UTC), None)
    return check_answer(prompt, {"it": value})["it"]


@pytest.mark.parametrize(
    ("value", "spec", "taken"),
    [
        ("4800 mL", VOLUME, 4800.0),
        ("4.8 L", VOLUME, 4800.0),
        ("4.8", VOLUME, 4800.0),
        (" 4.8 ", VOLUME, 4800.0),
        (4.8, VOLUME, 4800.0),
        (4, VOLUME, 4000.0),
        ("12", COUNT, 12.0),
        (12, COUNT, 12.0),
    ],
)
def test_a_number_with_its_unit_or_bare_in_the_unit_that_is_shown(value: Any, spec: dict[str, Any], taken: float):
    assert checked(value, spec) == taken


@pytest.mark.parametrize(
    "value", ["7", "5e6 cells", "nan", "inf", "1e400", "", "five", "4_8", True, [4], None, "-1 mL"]
)
def test_what_is_no_volume_in_range_is_refused_by_name(value: Any):
    with pytest.raises(BadAnswer, match="it"):
        checked(value, VOLUME)


def test_digits_for_a_scan_stay_text():
    assert checked("00123", {"type": "scan"}) == "00123"
