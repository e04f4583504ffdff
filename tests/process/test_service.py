"""The service as a site runs it: commands by hand over Mosquitto, brokers and instruments that come and go, SIGTERM."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

sys.path.insert(0, str(Path(__file__).parent))
from cell import Cell, free_port, tilctl, until
from mosquitto import Mosquitto

from tilctl.cli.exits import Exit
from tilctl.gateway.broker import EmbeddedBroker

LABELS = {
    "alarm", "bus", "channel", "code", "device", "interlock", "le", "part", "permissive", "priority", "queue",
    "result", "state", "status", "tag", "unit", "version",
}  # fmt: skip
PATIENT = "COI-920851"


@pytest.mark.debian("mosquitto", "mosquitto_rr", "mosquitto_sub")
def test_a_batch_by_hand_over_a_broker_that_is_restarted_and_a_controller_that_is_killed(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Cell(tmp_path, broker.url) as cell:
        cell.start_controller()
        until(lambda: broker.retained("status").get("status") == "online", "the controller is online")
        broker.subscribe("archive", "evt/cell1")

        start: dict[str, Any] = {"args": {"recipe": "brief"}, "reason": {"code": "planned", "text": f"for {PATIENT}"}}
        shakedown: dict[str, Any] = {"args": {"recipe": "shakedown"}}
        assert broker.request("start", "by-hand-1", start)["status"] == "accepted"
        answer = until(
            lambda: again if (again := broker.request("start", "by-hand-1", start))["status"] != "accepted" else None,
            "the same command, repeated, has the same answer",
        )
        assert (answer["status"], answer["text"]) == ("done", "cell1 is running")
        other = until(  # answers to the repetitions before may still come to the same topic
            lambda: said if (said := broker.request("start", "by-hand-1", shakedown))["status"] == "refused" else None,
            "the same id for another command is refused",
        )
        assert other["code"] == "repeated_other_content"

        until(lambda: cell.has("intent_opened", path="fill/dose"), "the dose begins")
        state = broker.retained("state/cell1/run")
        assert (state["state"], state["recipe"]) == ("running", "brief")
        figures_are_in_order(cell)

        broker.stop()
        until(lambda: (ready := cell.ready()) and not ready["mqtt_connected"], "the controller knows that it is alone")
        assert cell.has("intent_closed") is None, "all this within the dose"
        until(lambda: cell.has("state_changed", path="", to_state="complete"), "the batch ends without a broker")
        broker.start()
        records = cell.records()
        heard: list[dict[str, Any]] = []
        until(
            lambda: (
                heard.extend(broker.fetch("archive", "evt/cell1", max(1, len(records) - len(heard))))
                or heard[-1]["seq"] == records[-1].seq
            ),
            "the last event is delivered",
        )
        first_of_each = {event["seq"]: event["hash"] for event in heard}
        assert list(first_of_each.items()) == [(record.seq, record.hash) for record in records], "in order, no gap"
        until(lambda: broker.retained("state/cell1/run")["state"] == "complete", "the state follows")

        cell.kill_controller()
        until(lambda: broker.retained("status").get("status") == "offline", "the broker says so for it", within=20)
        assert broker.retained("state/cell1/run")["state"] == "complete", "the last state stays"


def figures_are_in_order(cell: Cell) -> None:
    """Scrape while a batch runs: what is exported parses, is true, and tells nobody's name."""
    status, text = cell.get("/metrics")
    assert status == 200
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert found["tilctl_unit_state", "cell1"] == 50
    assert found["tilctl_mqtt_connected",] == 1
    assert found["tilctl_modbus_requests_total", "fluidics"] > 10
    assert found["tilctl_reading_celsius", "incubator.temperature"] == pytest.approx(30, abs=15)
    assert found["tilctl_reading_age_seconds", "incubator.temperature"] < 5
    assert found["tilctl_dropped_total", "events"] == 0
    assert found["tilctl_scan_lateness_seconds_count",] > 0
    assert {label for sample in samples for label in sample.labels} <= LABELS
    (path,) = cell.folder.glob("data/batches/*.db")
    assert not [name for name in (PATIENT, "operator", "terminal", path.stem) if name in text], "nobody is named"


@pytest.mark.debian("promtool")
def test_prometheus_takes_the_figures_of_the_service(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        cell.start_controller()
        until(cell.ready, "the controller is ready")
        _, text = cell.get("/metrics")
    done = subprocess.run(
        [shutil.which("promtool") or "promtool", "check", "metrics"],
        input=text, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "tilctl_reading_celsius" in text
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_sigterm_is_a_hold_and_the_next_start_comes_back_held(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        cell.start_controller()
        assert cell.command("start", recipe="brief")["status"] == "done"
        until(lambda: cell.has("intent_opened", path="fill/dose"), "the dose begins")
        until(lambda: cell.bench("truth", {})["pumps"]["pump_media"]["log"], "the pump runs")
        assert cell.controller is not None
        cell.controller.send_signal(signal.SIGTERM)
        assert cell.controller.wait(timeout=15) == Exit.OK, "within 15 s"
        ended = datetime.now(UTC)
        held = cell.has("state_changed", path="", to_state="holding")
        assert held is not None
        assert held.event.reason == "SIGTERM: the service was told to end"
        assert cell.has("state_changed", path="", to_state="held") is not None
        (run,) = cell.bench("truth", {})["pumps"]["pump_media"]["log"]
        assert run["ended"] is not None
        assert run["counted_ml"] < 8.0, "the pump was stopped"
        assert cell.registers("fluidics", 4, 4, 0, 2) == [0, 0], "the valves are closed"
        assert cell.registers("climate", 1, 3, 0, 4)[:2] == [0x41F0, 0x0000], "the cells stay warm: 30 degC"

        cell.start_controller()
        until(cell.ready, "the controller is ready again")
        assert cell.command("status")["data"]["state"] == "held"
        outage = cell.has("outage")
        assert outage is not None
        assert datetime.fromisoformat(outage.event.from_t) <= ended < datetime.fromisoformat(outage.event.to_t)
        only_one_controller(cell)
        assert cell.command("restart")["status"] == "done"
        assert cell.command("status")["data"]["state"] == "running"


def only_one_controller(cell: Cell) -> None:
    """Try to start another one beside the one that runs: on its data, and on its port."""
    second = tilctl("run", "--site", cell.site)
    assert second.returncode == Exit.UNAVAILABLE
    assert f"another controller runs on {cell.folder}/data" in second.stderr
    beside = cell.folder / "beside.yaml"
    beside.write_text(cell.site.read_text().replace("data: data", "data: other"))
    third = tilctl("run", "--site", beside)
    assert third.returncode == Exit.UNAVAILABLE
    assert f"127.0.0.1:{cell.http_port} cannot be opened" in third.stderr
    assert cell.command("status")["data"]["state"] == "held", "the first one does not mind"


def test_absent_instruments_and_an_absent_broker_keep_no_controller_from_starting(tmp_path: Path) -> None:
    port = free_port()
    with Cell(tmp_path, f"mqtt://127.0.0.1:{port}") as cell:
        text = cell.site.read_text()
        cell.site.write_text(text.replace(f"port: {cell.ports['ports']['climate']}", f"port: {free_port()}"))
        cell.start_controller()
        ready = until(cell.ready, "the controller is ready")
        assert ready | {"ok": True, "ready": True, "mqtt_connected": False} == ready
        with EmbeddedBroker(port):
            until(lambda: (now := cell.ready()) and now["mqtt_connected"], "it finds the broker that came later")
            answer = cell.command("start", recipe="brief")
            assert (answer["status"], answer["code"]) == ("refused", "not_ready")
            assert "incubator is offline" in answer["text"]
            assert "pump" not in answer["text"], "only what is absent is named"
            assert cell.command("status")["data"]["state"] == "idle"
