"""What happens when nothing else helps: a fault of the program, and an output that takes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tilctl.cli import main as entry
from tilctl.cli.exits import Exit

TILCTL = [sys.executable, "-m", "tilctl.cli.main"]


def test_a_full_output_is_an_error_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*TILCTL, "recipe", "list"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == Exit.UNAVAILABLE
    assert done.stderr == "tilctl recipe: the output cannot be written: No space left on device\n"


def test_a_fault_of_the_program_ends_with_70_one_line_and_its_place_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def arguments(self, parser: object) -> None:
            pass

        def run(self, args: object) -> int:
            raise ZeroDivisionError("a fault\nof the program")

    logged: list[tuple[str, object]] = []
    monkeypatch.setattr(entry, "_module", lambda command: Broken())
    monkeypatch.setattr(entry, "configure", lambda **_: None)
    monkeypatch.setattr(
        entry.structlog, "get_logger", lambda name: type("L", (), {"error": lambda _, e, **k: logged.append((e, k))})()
    )
    assert entry.main(["journal"]) == Exit.INTERNAL == 70
    err = capsys.readouterr().err
    assert err == (
        "tilctl journal: a fault of the program, ZeroDivisionError: a fault of the program: report it with the log\n"
    )
    ((event, found),) = logged
    assert event == "internal_error"
    assert isinstance(found["exc_info"], ZeroDivisionError)
