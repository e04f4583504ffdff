"""The service under a service manager: ready when it is, fed while it turns, ended by a hold that nothing tears."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cell import Cell, until

from tilctl.cli.exits import Exit


def heard(listener: socket.socket) -> list[str]:
    lines: list[str] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            lines += listener.recv(4096).decode().split("\n")
    return lines


def test_ready_fed_silent_while_it_stands_still_and_two_signals_make_one_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cell(tmp_path) as cell, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1500000")
        lines: list[str] = []

        def says(*words: str) -> bool:
            lines.extend(heard(listener))
            return all(any(line.startswith(word) for line in lines) for word in words)

        cell.start_controller()
        controller = cell.controller
        assert controller is not None
        until(lambda: says("READY=1"), "it is ready")
        assert lines[0].startswith("EXTEND_TIMEOUT_USEC="), "it asked for time while it started"
        assert lines.index("READY=1") < next((n for n, line in enumerate(lines) if line == "WATCHDOG=1"), len(lines)), (
            "not fed before"
        )
        assert cell.ready() is not None
        cell.command("start", recipe="brief")
        until(lambda: says("STATUS=cell1 running", "WATCHDOG=1"), "it runs and is fed")
        until(lambda: cell.has("intent_opened", path="fill/dose"), "the dose begins")

        controller.send_signal(signal.SIGSTOP)
        heard(listener)
        with pytest.raises(AssertionError, match="not within"):
            until(lambda: heard(listener), "fed while it stands still", within=3.0)
        controller.send_signal(signal.SIGCONT)
        lines.clear()
        until(lambda: says("STATUS=NOT WELL: the loop stood still"), "it says so")
        until(lambda: says("WATCHDOG=1"), "it turns again, and is fed")

        controller.send_signal(signal.SIGTERM)
        until(lambda: says("STOPPING=1"), "it ends")
        for _ in range(3):
            controller.send_signal(signal.SIGTERM)
            controller.send_signal(signal.SIGINT)
        assert controller.wait(timeout=60) == Exit.OK
        last = cell.records()
        assert cell.has("state_changed", path="", to_state="held"), "held to its end, whatever came meanwhile"
        closed = [record.event for record in last if record.event.kind == "intent_closed"]
        assert len(closed) == 1
        assert closed[0].outcome in ("partial", "done")
