"""What a recipe declares adjustable, as it is told to people, compared, and planned; what reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.document import parse
from recipes.adjustable import adjusted, readers
from recipes.check import check
from tilctl.cli.main import main

PATH = Path(__file__).parents[1] / "engine" / "recipes" / "adjustable.yaml"


def test_limits_and_roles_are_told_and_readers_are_found() -> None:
    recipe, found = check(parse(PATH.read_text(), "adjustable.yaml"))
    assert recipe is not None
    assert found == []
    assert {name: adjusted(each) for name, each in recipe.parameters.items()} == {
        "pause": "1..30 min, by process_engineer",
        "warm": "35..38 degC, by process_engineer or quality",
        "way": "short, long, by quality",
        "fixed": "",
    }
    assert readers(recipe, "pause") == ["stay/one", "stay/two", "later/rounds/each"]
    assert readers(recipe, "warm") == ["stay/climate", "later/warmer"]
    assert readers(recipe, "way") == ["later/extra"], "by its condition"


def test_it_stands_in_the_batch_record_and_in_a_comparison(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["recipe", "doc", str(PATH)]) == 0
    row = "| pause | how long each wait is | 5 min | 1 s..10 h | P | 1..30 min, by process_engineer |"
    assert row in capsys.readouterr().out.splitlines()
    other = tmp_path / "other.yaml"
    other.write_text(PATH.read_text().replace("range: 1..30 min", "range: 1..40 min"))
    assert main(["recipe", "diff", str(PATH), str(other)]) == 1
    assert "parameter pause: adjust range 1..30 min -> 1..40 min" in capsys.readouterr().out
