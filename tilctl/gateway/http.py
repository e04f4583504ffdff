"""The HTTP face: `/metrics`, `/healthz`, `/readyz`; read only, in threads of its own, on the loopback by default."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

MAX_CONNECTIONS = 8
"""Connections served at once; one more is closed at once."""
PATIENCE_S = 5.0
"""How long a connection may be silent."""

Probe = Callable[[], tuple[bool, dict[str, Any]]]
"""Whether all is well, and what is known; called in a thread of the server, must not block."""

_log = structlog.get_logger("http")


class HttpGateway:
    """The server and its thread."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, healthz: Probe, readyz: Probe) -> None:
        """Prepare to serve on `host`:`port` (0: any free port).

        `healthz`: the core's loop turns. `readyz`: the controller can take commands.
        """
        self._where = (host, port)
        self._registry = registry
        self._probes = {"/healthz": healthz, "/readyz": readyz}
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Open the port and serve; returns the port. Raises OSError, naming the address, when it cannot be opened."""
        registry, probes = self._registry, self._probes

        class Handler(_Handler):
            def answer(self) -> tuple[HTTPStatus, str, bytes]:
                return _answer(self.path.split("?")[0], self.headers.get("Accept", ""), registry, probes)

        try:
            self._server = _Server(self._where, Handler)
        except OSError as error:
            host, port = self._where
            message = f"HTTP address {host}:{port} cannot be opened ({error.strerror}): is another controller running?"
            raise OSError(error.errno, message) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="http", daemon=True)
        self._thread.start()
        return self._server.server_address[1]

    def close(self) -> None:
        """Stop serving, close the port, end all threads; may be called twice."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for them; PATIENCE_S bounds it
    allow_reuse_address = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, where: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._room = threading.Semaphore(MAX_CONNECTIONS)
        super().__init__(where, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.warning("a scrape broke off", client=str(client_address), exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    server_version = "tilctl"
    sys_version = ""

    def answer(self) -> tuple[HTTPStatus, str, bytes]:
        raise NotImplementedError

    def do_GET(self) -> None:
        status, content_type, body = self.answer()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
        _log.debug("request", line=format % args)


def _answer(
    path: str,
    accept: str,
    registry: CollectorRegistry,
    probes: dict[str, Probe],
) -> tuple[HTTPStatus, str, bytes]:
    if path == "/metrics":
        encode, content_type = choose_encoder(accept)
        return HTTPStatus.OK, content_type, encode(registry)
    if path in probes:
        well, facts = probes[path]()
        status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
        return status, "application/json", json.dumps({"ok": well, **facts}).encode()
    known = ["/metrics", *probes]
    return HTTPStatus.NOT_FOUND, "application/json", json.dumps({"ok": False, "known": known}).encode()
