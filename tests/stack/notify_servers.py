"""A real HTTP server and a real mail server for tests of what people are told: on loopback, each in a thread."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any


class Hook:
    """What a webhook's server does and has heard."""

    def __init__(self) -> None:
        self.status = 200
        self.stall: threading.Event | None = None  # where set: nothing is answered before
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.url = ""


class Post:
    """What a mail server does and has heard; `password` None: it asks for none."""

    def __init__(self, password: str | None = None) -> None:
        self.password = password
        self.refuse_to = False
        self.mails: list[EmailMessage] = []
        self.envelopes: list[tuple[str, str]] = []
        self.users: list[str] = []
        self.port = 0


class _Threads(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    block_on_close = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may hang up: that is its affair."""


@contextlib.contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def webhook(tls: tuple[Path, Path] | None = None) -> Iterator[Hook]:
    """Serve a webhook; with `tls` (certificate, key) over https."""
    hook = Hook()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if hook.stall is not None:
                hook.stall.wait(20.0)
            hook.paths.append(self.path)
            hook.heads.append(dict(self.headers))
            hook.bodies.append(body)
            self.send_response(hook.status)
            if 300 <= hook.status < 400:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    class Server(_Threads, http.server.HTTPServer):
        pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme, host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
    hook.url = f"{scheme}://{host}:{server.server_address[1]}/alarms?key=SECRET"
    with _served(server):
        yield hook


@contextlib.contextmanager
def mail_server(post: Post) -> Iterator[Post]:
    """Serve SMTP as far as a client needs it to hand over a mail, with a password where there is one."""

    class Handler(socketserver.StreamRequestHandler):
        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

        def handle(self) -> None:
            self.say("220 test ESMTP")
            known, sender, to = post.password is None, "", ""
            while line := self.rfile.readline():
                word, _, rest = line.decode().strip().partition(" ")
                match word.upper():
                    case "EHLO":
                        self.say("250-test")
                        self.say("250 AUTH PLAIN")
                    case "AUTH":
                        _, user, password = base64.b64decode(rest.split()[-1]).decode().split("\0")
                        post.users.append(user)
                        known = password == post.password
                        self.say("235 welcome" if known else f"535 no: {password}")
                    case "MAIL" if not known:
                        self.say("530 who are you?")
                    case "MAIL":
                        sender = rest
                        self.say("250 ok")
                    case "RCPT" if post.refuse_to:
                        self.say("550 nobody of this name: " + rest)
                    case "RCPT":
                        to = rest
                        self.say("250 ok")
                    case "DATA":
                        self.say("354 go on")
                        text = b""
                        while (part := self.rfile.readline()) not in (b".\r\n", b""):
                            text += part[1:] if part.startswith(b".") else part
                        mail = message_from_bytes(text, policy=policy.default)
                        assert isinstance(mail, EmailMessage)
                        post.mails.append(mail)
                        post.envelopes.append((sender, to))
                        self.say("250 taken")
                    case "QUIT":
                        self.say("221 bye")
                        return
                    case _:
                        self.say("250 ok")

    server = _Threads(("127.0.0.1", 0), Handler)
    post.port = server.server_address[1]
    with _served(server):
        yield post
