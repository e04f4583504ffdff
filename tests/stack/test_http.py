"""The HTTP face over real sockets: metrics with base units, health, and a server that nobody can block."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from devices.reading import Quality, Reading, bad
from tilctl.gateway.alarm_metrics import AlarmNumbers
from tilctl.gateway.http import MAX_CONNECTIONS, HttpGateway
from tilctl.gateway.metrics import BOUNDS_S, Snapshot, Timing, UnitFigures, registry


class Suite:
    """What the server asks."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.healthy = True
        self.ready = False

    def healthz(self) -> tuple[bool, dict[str, Any]]:
        return self.healthy, {"beat_age_s": 0.1}

    def readyz(self) -> tuple[bool, dict[str, Any]]:
        return self.ready, {"units": {"cell1": "recovering"}}


@pytest.fixture
def suite() -> Suite:
    return Suite()


@pytest.fixture
def port(suite: Suite) -> Iterator[int]:
    figures = registry(lambda: suite.snapshot, {"version": "0.1.0"})
    server = HttpGateway("127.0.0.1", 0, figures, suite.healthz, suite.readyz)
    yield server.start()
    server.close()
    server.close()


def get(port: int, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", ""), response.read()
    finally:
        connection.close()


def figures(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = get(port, "/metrics")[2].decode()
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


ALARMS = AlarmNumbers(
    units=("cell1", "site"),
    standing={("cell1", "high", "acknowledged"): 1, ("site", "low", "shelved"): 2},
    active={("cell1", "high"): 1},
    announced={("cell1", "high"): 9},
    flood=True,
    flood_s=61.5,
    chattering=2,
    stale=3,
    oldest_unacknowledged_s=90.0,
    top=(("cell1/warm", 7),),
    notifications={("webhook", "delivered"): 4},
)


def full_snapshot() -> Snapshot:
    timing = Timing()
    for seconds in (0.0004, 0.002, 0.3, 60.0):
        timing.observe(seconds)
    return Snapshot(
        units={"cell1": UnitFigures(50, 7, 1.5, 2)},
        readings={
            "station.temperature": Reading(37.0, "degC", Quality.GOOD, 99.0),
            "station.co2": Reading(5.0, "%", Quality.UNCERTAIN, 98.0),
            "p1.mass": Reading(1000.0, "g", Quality.STALE, 10.0),
            "pump.rate": Reading(60.0, "mL/min", Quality.GOOD, 99.5),
            "freezer.state": Reading("running", "symbol", Quality.GOOD, 99.0),
            "pump.running": Reading(value=True, unit="", quality=Quality.GOOD, at=99.0),
            "p2.mass": bad("g", 5.0),
        },
        now=100.0,
        timings={"commit": timing.frozen()},
        depths={"journal": 3},
        drops={"telemetry": 4},
        commands={"done": 5},
        refusals={"expired": 1},
        bus_requests={"climate": 10},
        bus_timeouts={"climate": 1},
        scans={"pump": (0.4, 1.0)},
        heartbeat=(7.0, 10.0),
        head_unexported=3.0,
        started=1_700_000_000.5,
        synchronised=False,
        interlocks=[
            {"kind": "interlock", "unit": "cell1", "name": "hot", "state": "latched", "bypass": None, "unknown": False},
            {"kind": "permissive", "unit": "site", "name": "ln2", "state": "permits", "bypass": {}, "unknown": True},
        ],
        mqtt_connected=True,
        records={"cell1": (True, 12.5), "site": (False, 0.0)},
        devices={"incubator": "good", "scales": "failure"},
        disk=(3_000_000, 400_000_000),
        alarms=ALARMS,
        self_test={"passed": 7, "failed": 1, "not_allowed": 0, "last_s": 0.02},
    )


def test_without_a_snapshot_of_now_nothing_old_is_told(suite: Suite, port: int):
    nothing = {("tilctl_build_info", (("version", "0.1.0"),)): 1.0, ("tilctl_loop_answers", ()): 0.0}
    assert figures(port) == nothing
    suite.snapshot = full_snapshot()
    assert figures(port)["tilctl_loop_answers", ()] == 1.0
    suite.snapshot = None
    assert figures(port) == nothing


def test_interlocks_and_permissives_are_figures(suite: Suite, port: int):
    suite.snapshot = full_snapshot()
    found = figures(port)
    hot, ln2 = (("interlock", "hot"), ("unit", "cell1")), (("permissive", "ln2"), ("unit", "site"))
    assert [found[f"tilctl_interlock_{what}", hot] for what in ("tripped", "bypassed", "unknown")] == [1.0, 0.0, 0.0]
    assert [found[f"tilctl_permissive_{what}", ln2] for what in ("forbids", "bypassed", "unknown")] == [0.0, 1.0, 1.0]


def test_figures_are_in_base_units_with_their_age_beside(suite: Suite, port: int):
    suite.snapshot = full_snapshot()
    found = figures(port)

    def of(name: str, **labels: str) -> float | None:
        return found.get((f"tilctl_{name}", tuple(sorted(labels.items()))))

    assert of("unit_state", unit="cell1") == 50
    assert of("unit_transitions_total", unit="cell1") == 7
    assert of("batch_biological_seconds", unit="cell1") == 129_600
    assert of("alarms_active", unit="cell1", priority="high") == 1
    assert of("alarms_active", unit="cell1", priority="critical") == 0
    assert of("alarms", unit="cell1", priority="high", state="acknowledged") == 1
    assert of("alarms", unit="site", priority="low", state="shelved") == 2
    assert of("alarm_announcements_total", unit="cell1", priority="high") == 9
    assert (of("alarm_flood"), of("alarm_flood_seconds_total"), of("alarms_chattering")) == (1, 61.5, 2)
    assert (of("alarms_stale"), of("alarm_oldest_unacknowledged_seconds")) == (3, 90.0)
    assert of("alarm_top", unit="cell1", alarm="warm") == 7
    assert of("notifications_total", channel="webhook", result="delivered") == 4
    assert of("reading_celsius", tag="station.temperature") == 37.0
    assert of("reading_ratio", tag="station.co2") == pytest.approx(0.05)
    assert of("reading_litres_per_second", tag="pump.rate") == pytest.approx(0.001)
    assert of("reading_value", tag="pump.running") == 1.0
    assert of("reading_age_seconds", tag="p1.mass") == 90.0
    assert of("reading_oldest_seconds") == 95.0
    assert of("reading_good", tag="p2.mass") == 0.0
    assert of("commit_seconds_bucket", le="0.001") == 1
    assert of("commit_seconds_bucket", le="0.0025") == 2
    assert of("commit_seconds_bucket", le=str(BOUNDS_S[-1])) == 3
    assert of("commit_seconds_bucket", le="+Inf") == of("commit_seconds_count") == 4
    assert of("commit_seconds_sum") == pytest.approx(60.3024)
    assert of("dropped_total", queue="telemetry") == 4
    assert of("commands_refused_total", code="expired") == 1
    assert of("modbus_timeouts_total", bus="climate") == 1
    assert (of("scan_age_seconds", device="pump"), of("scan_period_seconds", device="pump")) == (0.4, 1.0)
    assert (of("heartbeat_age_seconds"), of("heartbeat_period_seconds")) == (7.0, 10.0)
    assert of("head_unexported_seconds") == 3.0
    assert of("start_time_seconds") == 1_700_000_000.5
    assert of("clock_synchronised") == 0
    assert of("mqtt_connected") == 1
    assert of("device_status", device="incubator", status="good") == 1
    assert of("device_status", device="incubator", status="failure") == 0
    assert of("device_status", device="scales", status="failure") == 1
    assert sum(value for (name, _), value in found.items() if name == "tilctl_device_status") == 2, "one class each"
    assert (of("journal_failed", unit="cell1"), of("journal_failed", unit="site")) == (1, 0)
    assert of("journal_oldest_pending_seconds", unit="cell1") == 12.5
    assert (of("data_free_bytes"), of("data_total_bytes")) == (3_000_000, 400_000_000)
    assert (of("mqtt_selftests_total", result="passed"), of("mqtt_selftests_total", result="failed")) == (7, 1)
    assert of("mqtt_selftest_seconds") == 0.02


def test_a_clock_of_which_nothing_is_known_is_not_said_to_be_right(suite: Suite, port: int):
    suite.snapshot = replace(full_snapshot(), synchronised=None)
    assert "tilctl_clock_synchronised" not in {name for name, _ in figures(port)}


def test_a_stale_or_bad_reading_has_no_value(suite: Suite, port: int):
    suite.snapshot = full_snapshot()
    valued = {labels for name, labels in figures(port) if name == "tilctl_reading_grams"}
    assert valued == set(), "the stale mass and the bad one are not exported as masses"


def test_no_label_names_a_batch_or_a_person(suite: Suite, port: int):
    suite.snapshot = full_snapshot()
    labels = {label for _, pairs in figures(port) for label, _ in pairs}
    known = {"unit", "tag", "priority", "queue", "status", "code", "bus", "le", "version", "part", "result", "device"}
    assert labels <= known | {"interlock", "permissive", "alarm"} | {"state", "channel"}  # names of the site file, too


@pytest.mark.debian("promtool")
def test_promtool_finds_nothing_to_say(suite: Suite, port: int):
    suite.snapshot = full_snapshot()
    promtool = shutil.which("promtool") or "promtool"
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=get(port, "/metrics")[2], capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_health_and_readiness_are_codes_and_facts(suite: Suite, port: int):
    status, kind, body = get(port, "/healthz")
    assert (status, kind, json.loads(body)) == (200, "application/json", {"ok": True, "beat_age_s": 0.1})
    status, _, body = get(port, "/readyz")
    assert (status, json.loads(body)["units"]) == (503, {"cell1": "recovering"})
    suite.ready, suite.healthy = True, False
    assert get(port, "/readyz")[0] == 200
    assert get(port, "/healthz?x=1")[0] == 503


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("POST", "/metrics", 501), ("HEAD", "/healthz", 200)]
)
def test_nothing_else_is_served(port: int, method: str, path: str, status: int):
    found, _, body = get(port, path, method)
    assert found == status
    if method == "HEAD":
        assert body == b""


def test_an_occupied_port_is_named(port: int, suite: Suite):
    second = HttpGateway("127.0.0.1", port, registry(lambda: None, {}), suite.healthz, suite.readyz)
    with pytest.raises(OSError, match=f"127.0.0.1:{port} cannot be opened"):
        second.start()
    second.close()


def test_silent_connections_take_no_more_than_their_room(suite: Suite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tilctl.gateway.http._Handler.timeout", 0.3)
    server = HttpGateway("127.0.0.1", 0, registry(lambda: None, {}), suite.healthz, suite.readyz)
    port = server.start()
    silent = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(MAX_CONNECTIONS)]
    refused = socket.create_connection(("127.0.0.1", port), 5)
    assert refused.recv(1) == b"", "one more is closed at once"
    for connection in silent:
        assert connection.recv(1) == b"", "and the silent ones when their patience is over"
    assert get(port, "/healthz")[0] == 200
    for connection in (*silent, refused):
        connection.close()
    server.close()
