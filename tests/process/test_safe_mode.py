"""Safe mode as the people of a site see it: after three deaths in recovery, over MQTT, HTTP and the command line."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cell import Cell, typed, until
from mosquitto import Mosquitto

from tilctl.cli.exits import Exit
from tilctl.journal.verify import read


def boots(cell: Cell, kind: str = "boot_started") -> int:
    return sum(record.event.kind == kind for record in read(cell.folder / "data/site.db")[0])


def die_in_recovery(cell: Cell) -> None:
    """Kill the controller while it looks at instruments that say nothing: its recovery is not over."""
    before, ready = boots(cell), boots(cell, "boot_ready")
    cell.start_controller()
    until(lambda: boots(cell) > before, "it has begun")
    cell.kill_controller()
    assert boots(cell, "boot_ready") == ready, "it died before it was ready"


def safe_mode(cell: Cell) -> float:
    lines = cell.get("/metrics")[1].splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith("tilctl_safe_mode ")), -1.0)


@pytest.mark.debian("mosquitto", "mosquitto_sub")
def test_safe_mode_is_seen_and_left_by_hand(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Cell(tmp_path, broker.url) as cell:
        cell.start_controller()
        assert cell.command("start", recipe="brief")["status"] == "done"
        until(lambda: cell.has("intent_opened", path="fill/dose"), "the dose begins")
        cell.kill_controller()
        assert safe_mode_is_off(cell)
        plant = cell.plant
        plant.send_signal(signal.SIGSTOP)
        for _ in range(3):
            die_in_recovery(cell)
        plant.send_signal(signal.SIGCONT)

        cell.start_controller()
        until(lambda: safe_mode(cell) == 1.0, "it comes up in safe mode")
        status, said = cell.get("/readyz")
        assert status == 503
        assert '"mode": "safe"' in said
        assert "3 starts within 10 min died before recovery was complete" in said
        assert cell.get("/healthz")[0] == 200, "it is well, and not ready"

        alarm = until(lambda: broker.retained("alm/cell1/safe-mode"), "the alarm is retained")
        assert alarm["priority"] == "critical"
        state: dict[str, Any] = until(lambda: broker.retained("state/cell1/run"), "the state is retained")
        assert (state["mode"], state["state"]) == ("safe", "running")
        assert "safe-mode" in state["alarms"]
        code, said = typed("batch", "status", "--site", cell.site)
        assert code == Exit.OK
        assert "mode     safe: 3 starts within 10 min died" in said
        assert "critical safe-mode" in said

        for verb in ("pause", "reset"):
            code, said = typed("batch", verb, "--site", cell.site)
            assert (code, "safe_mode" in said, "leave-safe-mode" in said) == (Exit.NOT_WELL, True, True), said
        assert cell.has("step_completed", path="fill/dose") is None, "nothing goes on by itself"
        assert typed("batch", "hold", "--site", cell.site)[0] == Exit.OK, "a hold is heard"
        until(lambda: broker.retained("state/cell1/run").get("state") == "held", "and told")

        code, said = typed("batch", "leave-safe-mode", "--reason", "the instruments were silent", "--site", cell.site)
        assert code == Exit.OK, said
        until(cell.ready, "it is ready")
        assert safe_mode(cell) == 0.0
        until(lambda: broker.retained("alm/cell1/safe-mode").get("state") == "returned", "the alarm is over")
        assert typed("alarm", "ack", "safe-mode", "--site", cell.site)[0] == Exit.OK
        until(lambda: not broker.retained("alm/cell1/safe-mode"), "and gone, as somebody knows")
        code, said = typed("batch", "status", "--site", cell.site)
        assert (code, "mode " in said) == (Exit.OK, False), said
        assert typed("batch", "leave-safe-mode", "--site", cell.site)[0] == Exit.OK, "already"
        assert boots(cell, "safe_mode") == 2, "begun and left, both on record"


def safe_mode_is_off(cell: Cell) -> bool:
    return boots(cell, "safe_mode") == 0
