"""The broker of the demonstration: rumqttd from the iotcore wheel, in a process of its own, on the loopback.

It keeps nothing on disk, knows no access list, and ends with this process; a site runs Mosquitto.
"""

from __future__ import annotations

import socket
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import iotcore

# Segments are memory: 10 MiB x 3 delivered everything after a consumer's stall, smaller ones lost messages.
_CONFIGURATION = """id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 10485760
max_segment_count = 3
[v5.1]
name = "v5"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 262144
max_inflight_count = 100
"""
_ATTEMPTS = 5


class EmbeddedBroker(AbstractContextManager["EmbeddedBroker"]):
    """An MQTT 5 broker for as long as the block lasts."""

    def __init__(self, port: int = 0) -> None:
        """Prepare a broker on a loopback port; 0 takes a free one."""
        self._wanted = port
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._broker: iotcore.Broker | None = None
        self.port = port

    @property
    def url(self) -> str:
        """Return the address for clients."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start, and return when connections are taken; raises OSError when a port that was asked for is in use."""
        for attempt in range(_ATTEMPTS):
            self.port = self._wanted or _free_port()
            try:
                self._start()
            except (OSError, RuntimeError):  # a free port may be taken between the choice and the start
                self.stop()
                if self._wanted or attempt == _ATTEMPTS - 1:
                    raise
            else:
                return self
        return self

    def stop(self) -> None:
        """End the process and remove its folder; may be called twice."""
        broker, self._broker = self._broker, None
        folder, self._folder = self._folder, None
        if broker is not None:
            broker.stop()
        if folder is not None:
            folder.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tilctl-broker-")
        path = Path(self._folder.name) / "broker.toml"
        path.write_text(_CONFIGURATION.format(port=self.port), encoding="utf-8")
        self._broker = iotcore.Broker(config_path=str(path))
        self._broker.start()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
