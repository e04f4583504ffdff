"""A cell suite of real processes: broker, plant, controller, and an operator in the test."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path
from typing import Any

from simulators.operator import Operator
from simulators.remote import BenchClient
from tilctl.cli.main import main
from tilctl.cli.operator_runner import OperatorRunner
from tilctl.gateway.broker import EmbeddedBroker
from tilctl.gateway.topics import Topics
from tilctl.journal.chain import Record
from tilctl.journal.verify import read

TILCTL = [sys.executable, "-m", "tilctl.cli.main"]


def until(condition: Callable[[], Any], what: str, within: float = 60.0) -> Any:
    """Wait for a condition of another process; the only place of these tests that looks again and again."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {within:g} s: {what}")


def tilctl(*words: str | Path, within: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which must come in time."""
    return subprocess.run([*TILCTL, *map(str, words)], capture_output=True, text=True, timeout=within, check=False)


def typed(*words: str | Path) -> tuple[int, str]:
    """Type a command in this process, without the start of another; return its exit code and what it said."""
    with io.StringIO() as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        return main([*map(str, words)]), said.getvalue()


GIVEN: set[int] = set()


def free_port() -> int:
    """Return a port that is free, below those that the system gives to whoever connects: nobody takes it meanwhile.

    Each process of a parallel run has a range of its own, and none is given twice.
    """
    first = 20_000 + 1_500 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8)
    while True:
        port = random.SystemRandom().randrange(first, first + 1_500)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in GIVEN:
                GIVEN.add(port)
                return port


class Cell:
    """Processes of one suite, ended when the block is left."""

    def __init__(self, folder: Path, mqtt_url: str | None = None) -> None:
        self.folder = folder
        self.site = folder / "site.yaml"
        self.http_port = free_port()
        self._broker = None if mqtt_url else EmbeddedBroker()
        self._url = mqtt_url
        self._processes: list[subprocess.Popen[str]] = []
        self.controller: subprocess.Popen[str] | None = None
        self.operator: OperatorRunner | None = None
        self._bench: BenchClient | None = None

    def __enter__(self) -> Cell:
        url = self._url or (self._broker.start().url if self._broker else "")
        text = (files("tilctl.cli") / "demo-site.yaml").read_text()
        for port in range(5020, 5024):
            text = text.replace(f"port: {port}", f"port: {free_port()}")
        text = text.replace("mqtt://127.0.0.1:1883", url).replace("port: 9464", f"port: {self.http_port}")
        text = text.replace("scheduled: accept", "scheduled: refuse")
        text = re.sub(
            r"^scan: .*$", "scan: {active: 1 s, quiet: 1 s, idle: 1 s, trend: 10 s}", text, flags=re.MULTILINE
        )
        self.site.write_text(text)
        self.topics = Topics("til/v1/demo/suite1")
        self.plant = plant = self._spawn("simulate", "--site", str(self.site), "--seed", "3", stdout=subprocess.PIPE)
        assert plant.stdout is not None
        self.ports = json.loads(plant.stdout.readline())
        self._bench = BenchClient("127.0.0.1", self.ports["bench"])
        policy = Operator(3, self._bench.call, haste=0.001).answer
        self.operator = OperatorRunner(url, self.topics, policy, scheduled=False)
        self.operator.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.operator is not None:
            self.operator.close()
        if self._bench is not None:
            self._bench.close()
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            process.wait(timeout=30)
            if process.stdout is not None:
                process.stdout.close()
        if self._broker is not None:
            self._broker.stop()

    def start_controller(self) -> None:
        self.controller = self._spawn("run", "--site", str(self.site), "--recipes", str(Path(__file__).parent))

    def kill_controller(self) -> None:
        assert self.controller is not None
        self.controller.send_signal(signal.SIGKILL)
        self.controller.wait(timeout=10)

    def command(self, verb: str, **args: Any) -> dict[str, Any]:
        assert self.operator is not None
        return self.operator.request("cell1", verb, args, timeout_s=60).result(timeout=70)

    def get(self, path: str) -> tuple[int, str]:
        """Ask the controller over HTTP; status 0 while nobody listens."""
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except ConnectionError as error:
            return 0, str(error)
        finally:
            connection.close()

    def ready(self) -> dict[str, Any] | None:
        """Return what the controller says of itself once it is ready."""
        status, text = self.get("/readyz")
        return json.loads(text) if status == 200 else None

    def bench(self, name: str, args: dict[str, Any]) -> Any:
        assert self._bench is not None
        return self._bench.call(name, args)

    def registers(self, bus: str, unit: int, function: int, addr: int, count: int) -> list[int]:
        """Read registers of the plant beside the controller, as an instrument says them."""
        reply = self._modbus(bus, unit, struct.pack(">BHH", function, addr, count))
        return list(struct.unpack(f">{count}H", reply[2:]))

    def write_registers(self, bus: str, unit: int, addr: int, words: list[int]) -> None:
        """Write registers of the plant beside the controller, as hands at the instrument would."""
        count = len(words)
        self._modbus(bus, unit, struct.pack(f">BHHB{count}H", 16, addr, count, 2 * count, *words))

    def _modbus(self, bus: str, unit: int, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.ports["ports"][bus]), 5) as wire, wire.makefile("rb") as file:
            wire.sendall(struct.pack(">HHHB", 1, 0, 1 + len(request), unit) + request)
            (length,) = struct.unpack(">4xHx", file.read(7))
            reply = file.read(length - 1)
        assert reply[0] == request[0], f"exception {reply[1]}"
        return reply

    def records(self) -> list[Record]:
        path = next(iter(self.folder.glob("data/batches/*.db")), None)
        return [] if path is None else read(path)[0]

    def has(self, kind: str, **fields: Any) -> Record | None:
        for record in self.records():
            if record.event.kind == kind and all(getattr(record.event, k) == v for k, v in fields.items()):
                return record
        return None

    def _spawn(self, *words: str, stdout: int | None = None) -> subprocess.Popen[str]:
        log = (self.folder / f"{words[0]}.log").open("a")
        process = subprocess.Popen(
            [*TILCTL, *words], stdout=stdout or log, stderr=log, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        log.close()
        self._processes.append(process)
        return process
