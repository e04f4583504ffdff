"""Mosquitto as a site runs it, stopped and started by a test, and its own clients as a person calls them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parent))
from cell import free_port, until

PREFIX = "til/v1/demo/suite1"


class Mosquitto:
    """A broker on one port of the loopback that keeps sessions and retained topics over a restart."""

    def __init__(self, folder: Path, settings: str = "allow_anonymous true\n", scheme: str = "mqtt") -> None:
        self.port = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(
            f"listener {self.port} 127.0.0.1\nuser root\nset_tcp_nodelay true\n"
            f"max_queued_messages 100000\npersistence true\npersistence_location {folder}/\n{settings}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and return when connections are taken."""
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self._process = subprocess.Popen([program, "-c", str(self._configuration)], stderr=subprocess.DEVNULL)
        until(self._listens, "mosquitto listens", within=10)

    def stop(self) -> None:
        """End it in order: it writes down what it keeps."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    # --- the programs of mosquitto-clients ------------------------------------------------------------------------

    def request(self, verb: str, command_id: str, data: dict[str, Any]) -> dict[str, Any]:
        """Send a command written by hand with mosquitto_rr; return the first answer: that it is on record."""
        now = datetime.now(UTC)
        envelope = {
            "specversion": "1.0",
            "id": command_id,
            "source": "terminal",
            "type": f"til.cmd.{verb}.v1",
            "subject": "cell1",
            "time": now.isoformat(),
            "exp": (now + timedelta(seconds=60)).isoformat(),
            "data": data,
        }
        topics = ("-t", f"{PREFIX}/cmd/terminal/cell1/{verb}", "-e", f"{PREFIX}/rsp/terminal/{command_id}")
        return json.loads(self._ask("mosquitto_rr", "-q", "1", *topics, "-m", json.dumps(envelope)))

    def retained(self, topic: str) -> dict[str, Any]:
        """Return what a topic below the prefix holds for someone who comes now; {} where it holds nothing."""
        said = self._ask("mosquitto_sub", "-t", f"{PREFIX}/{topic}", "-C", "1", "--retained-only")
        return json.loads(said or "{}")

    def subscribe(self, name: str, topic: str) -> None:
        """Make a lasting session of this name: the broker keeps for it what is published from now on."""
        self._ask("mosquitto_sub", *self._session(name, topic), "-E")

    def fetch(self, name: str, topic: str, count: int) -> list[dict[str, Any]]:
        """Return the next `count` messages that the broker has kept for a session."""
        said = self._ask("mosquitto_sub", *self._session(name, topic), "-C", str(count))
        return [json.loads(line) for line in said.splitlines()]

    def _session(self, name: str, topic: str) -> tuple[str, ...]:
        return ("-i", name, "-c", "-x", "3600", "-q", "1", "-t", f"{PREFIX}/{topic}")

    def _ask(self, program: str, *words: str) -> str:
        where = ("-V", "5", "-h", "127.0.0.1", "-p", str(self.port), "-W", "10")
        done = subprocess.run([program, *where, *words], capture_output=True, text=True, timeout=30, check=False)
        return done.stdout
