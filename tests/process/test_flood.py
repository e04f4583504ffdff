"""Clients and brokers out of their senses: a person's hold is done, nothing leaks, and the batch is unharmed."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

sys.path.insert(0, str(Path(__file__).parent))
from cell import Cell, until
from mosquitto import PREFIX, Mosquitto

HOLD_WITHIN = 10.0  # s, on a machine that the flood and its broker share; without the second connection it is minutes
BROKEN = (b"[" * 30_000, b'{"a":' * 10_000, b"x" * 65_000, b"\xff\x00" * 100, b"", b"null", b"1e999", b"9" * 5000)
VERBS = ("pause", "resume", "status", "events", "start", "prompt-answer", "reset", "leave-safe-mode", "nonsense")


def command(verb: str, number: str, args: dict[str, Any] | None = None) -> bytes:
    now = datetime.now(UTC)
    return json.dumps(
        {
            "specversion": "1.0",
            "id": number,
            "source": "flood",
            "type": f"til.cmd.{verb}.v1",
            "subject": "cell1",
            "time": now.isoformat(),
            "exp": (now + timedelta(seconds=60)).isoformat(),
            "data": {"args": args or {}},
        }
    ).encode()


class Flood:
    """A client that sends much more than is looked at until it is told to end."""

    def __init__(self, port: int, name: str) -> None:
        self.sent = 0
        self._name = name
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set("flood")
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            n = self.sent = self.sent + 1
            verb = VERBS[n % len(VERBS)]
            body = BROKEN[n // 50 % len(BROKEN)] if n % 50 == 0 else command(verb, f"{self._name}-{n}")
            unit = "cell1" if n % 7 else "nowhere"
            self._client.publish(f"{PREFIX}/cmd/flood/{unit}/{verb}", body, n % 2, retain=n % 400 == 1).is_published()
            if n % 50 == 0:  # thousands a second, where the controller looks at 100 at most
                self._over.wait(0.02)  # paho takes what it is given without a bound

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def flooded(port: int) -> Iterator[list[Flood]]:
    floods = [Flood(port, f"flood-{n}") for n in range(2)]
    try:
        yield floods
    finally:
        for flood in floods:
            flood.close()


@contextmanager
def running(folder: Path) -> Iterator[tuple[Mosquitto, Cell]]:
    with Mosquitto(folder) as broker, Cell(folder, broker.url) as cell:
        cell.start_controller()
        until(lambda: (ready := cell.ready()) and ready["mqtt_connected"], "the controller is there")
        parameters = {"rest": "30 min"}  # it is not over before the test is, however busy the machine
        assert cell.command("start", recipe="brief", parameters=parameters)["status"] == "done"
        yield broker, cell


def figure(cell: Cell, name: str) -> float:
    lines = cell.get("/metrics")[1].splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.mark.debian("mosquitto")
def test_a_hold_is_done_in_a_flood(tmp_path: Path) -> None:
    with running(tmp_path) as (broker, cell):
        with flooded(broker.port) as floods:
            until(lambda: figure(cell, 'tilctl_dropped_total{queue="commands"}') > 1000, "more than it can look at")
            began = time.monotonic()
            assert cell.command("hold")["status"] == "done"
            assert time.monotonic() - began < HOLD_WITHIN
            until(lambda: cell.has("state_changed", path="", to_state="held"), "held")
            assert cell.get("/healthz")[0] == 200, "it is well"
            assert figure(cell, 'tilctl_queue_depth{queue="mqtt"}') < 2000, "what waits is bounded"
        assert sum(flood.sent for flood in floods) > 1000
        assert figure(cell, 'tilctl_dropped_total{queue="events"}') == 0
        until(lambda: cell.command("status")["status"] == "done", "afterwards it answers everybody")
        assert len(cell.records()) < 2000, "the record holds no flood"


@pytest.mark.debian("mosquitto")
def test_events_are_asked_for_in_ranges_that_make_no_sense(tmp_path: Path) -> None:
    with running(tmp_path) as (_, cell):
        nothing: tuple[dict[str, Any], ...] = ({"from": 10**30}, {"from": 9, "to": 2}, {"from": 2**63, "to": 2**64})
        for args in nothing:
            answer = cell.command("events", **args)
            assert (answer["status"], answer["data"]["events"], answer["data"]["next"]) == ("done", [], None), args
        refused: tuple[dict[str, Any], ...] = (
            {"from": -1}, {"from": 0}, {"to": 0}, {"from": 1.5}, {"from": "1; drop"}, {"from": None}, {"from": [1]},
            {"limit": 10**9}, {"limit": 0}, {"batch": "../site"}, {"batch": "site\0"}, {"batch": "a" * 200},
            {"batch": 7}, {"from": True, "until": 1},
        )  # fmt: skip
        for args in refused:
            answer = cell.command("events", **args)
            assert (answer["status"], answer["code"]) == ("refused", "malformed"), args
            assert answer["text"], args
        whole = cell.command("events", **{"from": 1, "to": 10**30})
        assert [event["seq"] for event in whole["data"]["events"]][:3] == [1, 2, 3]
        assert cell.get("/healthz")[0] == 200


@pytest.mark.debian("mosquitto")
def test_a_broker_that_comes_and_goes_every_moment_leaves_nothing_open(tmp_path: Path) -> None:
    with running(tmp_path) as (broker, cell):
        assert cell.controller is not None
        open_files = Path(f"/proc/{cell.controller.pid}/fd")
        before, often, never = len(list(open_files.iterdir())), random.Random(1), threading.Event()
        most = 0
        for _ in range(15):
            broker.stop()
            never.wait(often.uniform(0.1, 0.5))
            broker.start()
            never.wait(often.uniform(0.1, 0.5))
            most = max(most, len(list(open_files.iterdir())))
        assert most <= before + 4
        began = time.monotonic()
        assert cell.command("hold")["status"] in ("done", "already", "refused")  # the batch may be over
        assert time.monotonic() - began < HOLD_WITHIN
        until(lambda: (ready := cell.ready()) and ready["mqtt_connected"], "it is there again")
        told = cell.command("events")["data"]["events"]
        assert [(e["seq"], e["hash"]) for e in told] == [(r.seq, r.hash) for r in cell.records()]
        assert figure(cell, 'tilctl_dropped_total{queue="events"}') == 0
