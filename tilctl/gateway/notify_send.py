"""The ways on which people are told, webhooks and mail servers: each way to each person has a thread and a short queue.

Nothing here is waited for by the core, and nothing raises into it.  Neither addresses of webhooks nor what their files
hold is ever logged: whoever knows them can speak in our name.
"""

from __future__ import annotations

import http.client
import json
import smtplib
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import structlog

from devices.mqtt.login import Login, LoginError
from tilctl import __version__
from tilctl.config.site import Mail, Notify
from tilctl.gateway.notify_words import mail_of

TIMEOUT_S = 10.0  # for each step of a delivery: connecting, TLS, sending, the answer
RETRY_S, LONGEST_S = 2.0, 300.0  # until the next try: doubled each time, up to the second (engineering defaults)
EXPIRES_S = 3600.0  # a message that could not be delivered until then is given up: the next one says what still stands
QUEUE = 20
CLOSE_WITHIN_S = 2.0

Body = Mapping[str, Any]


REFUSED_HTTP = (400, 413, 422)  # what is wrong with these is the message: sent again, it is refused again


class DeliveryError(Exception):
    """A message was not taken; the text says why, without an address or a secret.

    `final`: this one never will be; the next one may.
    """

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class Way(Protocol):
    """One way to one person."""

    @property
    def channel(self) -> str:
        """Return what it is: webhook or email."""
        ...

    @property
    def host(self) -> str:
        """Return which machine takes it."""
        ...

    def deliver(self, body: Body) -> None:
        """Deliver one message; blocks for a bounded time, raises DeliveryError."""
        ...


class Webhook:
    """POST with JSON; only 2xx is taken as delivered, nothing is followed elsewhere."""

    channel = "webhook"

    def __init__(self, url: str, login: Login, timeout: float = TIMEOUT_S) -> None:
        self._parts = urlsplit(url)
        self._login = login
        self._timeout = timeout
        self.host = self._parts.hostname or ""

    def deliver(self, body: Body) -> None:
        """See `Way`."""
        parts = self._parts
        try:
            headers = {"Content-Type": "application/json", "User-Agent": f"tilctl/{__version__}"}
            token = self._login.password()
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            connection = self._connection()
            try:
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request("POST", target, json.dumps(body).encode(), headers)
                status = connection.getresponse().status
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, LoginError, ValueError) as error:
            raise DeliveryError(_why(error)) from error
        if not 200 <= status < 300:
            raise DeliveryError(f"it answers HTTP {status}", final=status in REFUSED_HTTP)

    def _connection(self) -> http.client.HTTPConnection:
        if self._parts.scheme == "http":  # to this machine itself, by the check of the site file
            return http.client.HTTPConnection(self.host, self._parts.port, timeout=self._timeout)
        context = self._login.context()
        return http.client.HTTPSConnection(self.host, self._parts.port, timeout=self._timeout, context=context)


class EMail:
    """One message for each, handed to the site's mail server."""

    channel = "email"

    def __init__(self, mail: Mail, to: str, timeout: float = TIMEOUT_S) -> None:
        self._mail = mail
        self._to = to
        self._timeout = timeout
        self.host = mail.host

    def deliver(self, body: Body) -> None:
        """See `Way`."""
        try:
            with self._server() as server:
                password = self._mail.login.password()
                if password is not None:
                    server.login(self._mail.login.user, password)
                server.send_message(mail_of(body, self._mail.sender, self._to))
        except (OSError, LoginError, ValueError) as error:  # SMTPException is an OSError
            final = isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500
            raise DeliveryError(_why(error), final=final) from error

    def _server(self) -> smtplib.SMTP:
        mail = self._mail
        if mail.tls == "tls":
            return smtplib.SMTP_SSL(mail.host, mail.port, timeout=self._timeout, context=mail.login.context())
        server = smtplib.SMTP(mail.host, mail.port, timeout=self._timeout)
        if mail.tls == "starttls":
            done = False
            try:
                server.starttls(context=mail.login.context())
                done = True
            finally:
                if not done:
                    server.close()
        return server


def _why(error: Exception) -> str:
    """Say what went wrong; never what a server or a library repeats of what it was given."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate cannot be trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {(error.reason or 'no reason').replace('_', ' ').lower()}"
        case smtplib.SMTPAuthenticationError():
            return f"it refuses our name or password (SMTP {error.smtp_code})"
        case smtplib.SMTPResponseException():
            return f"it refuses with SMTP {error.smtp_code}"
        case smtplib.SMTPRecipientsRefused():
            return "it refuses the address of the person"
        case smtplib.SMTPException():
            return f"it does not speak as a mail server should ({type(error).__name__})"
        case TimeoutError():
            return "no answer in time"
        case LoginError():
            return str(error)
        case OSError():
            return error.strerror or type(error).__name__
        case _:
            return type(error).__name__


def ways_of(notify: Notify) -> dict[str, list[Way]]:
    """Return the ways to each person of a site file, by name."""
    found: dict[str, list[Way]] = {}
    for person in notify.people:
        ways = found.setdefault(person.name, [])
        if person.webhook:
            ways.append(Webhook(person.webhook, person.token))
        if person.email and notify.mail is not None:
            ways.append(EMail(notify.mail, person.email))
    return found


class Sender:
    """A thread that delivers messages one by one, again and again at growing intervals until they are too old."""

    def __init__(self, to: str, way: Way, changed: Callable[[], None], retry_s: float = RETRY_S) -> None:
        """`changed` is called in the thread, after each try; it must not block."""
        self.to = to
        self.way = way
        self.counts: Counter[str] = Counter()  # delivered, retried, dropped, expired
        self._changed = changed
        self._retry_s = retry_s
        self._queue: deque[tuple[float, Body]] = deque()
        self._lock = threading.Condition()
        self._closing = False
        self._failing: float | None = None  # since when nothing was delivered that should have been
        self._why = ""
        self._log = structlog.get_logger("notify").bind(to=to, channel=way.channel, host=way.host)
        self._thread = threading.Thread(target=self._run, name=f"notify:{to}:{way.channel}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, body: Body) -> None:
        """Queue a message, from any thread; where too many wait the oldest is dropped and counted."""
        with self._lock:
            if len(self._queue) >= QUEUE:
                self._queue.popleft()
                self.counts["dropped"] += 1
            self._queue.append((time.monotonic(), body))
            self._lock.notify()

    def close(self) -> None:
        """Deliver what waits for a short while, then end; a try under way ends by its own time limit."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSE_WITHIN_S)

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        with self._lock:
            return len(self._queue)

    @property
    def failing_s(self) -> float:
        """For how long nothing could be delivered that should have been, s; also where one try takes that long."""
        with self._lock:
            begun = [t for t in (self._failing, self._queue[0][0] if self._queue else None) if t is not None]
            return time.monotonic() - min(begun) if begun else 0.0

    @property
    def why(self) -> str:
        """Why the last try failed, "" where it did not."""
        return self._why

    def _run(self) -> None:
        pause = self._retry_s
        while (head := self._next()) is not None:
            put, body = head
            try:
                self.way.deliver(body)
            except Exception as error:  # noqa: BLE001 - whatever a library comes to, the next message is tried
                known = isinstance(error, DeliveryError)
                why, final = (str(error), error.final) if known else (type(error).__name__, False)
                self._log.warning("not_delivered", why=why, waiting=self.waiting, final=final)
                self._failed(head, why, final=final)
                self._tell()
                if not final:  # one that is never taken keeps no later one waiting
                    self._rest(pause)
                    pause = min(2 * pause, LONGEST_S)
                continue
            pause = self._retry_s
            with self._lock:
                self.counts["delivered"] += 1
                self._take(head)
                self._failing, self._why = None, ""
            self._log.info("delivered", kind=body.get("kind"), seconds=round(time.monotonic() - put, 3))
            self._tell()

    def _tell(self) -> None:
        if not self._closing:  # nobody is left to be told
            self._changed()

    def _next(self) -> tuple[float, Body] | None:
        """Return the oldest message; None where there is none and the end is near, or where it failed at the end."""
        with self._lock:
            while not self._queue:
                if self._closing:
                    return None
                self._lock.wait()
            return None if self._closing and self._why else self._queue[0]

    def _failed(self, head: tuple[float, Body], why: str, *, final: bool) -> None:
        with self._lock:
            self._failing = head[0] if self._failing is None else self._failing
            self._why = why
            if final:
                self.counts["dropped"] += self._take(head)
                return
            self.counts["retried"] += 1
            if time.monotonic() - head[0] >= EXPIRES_S and self._take(head):
                self.counts["expired"] += 1

    def _take(self, head: tuple[float, Body]) -> bool:
        """Remove a message that may have been dropped meanwhile."""
        found = bool(self._queue) and self._queue[0] is head
        if found:
            self._queue.popleft()
        return found

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._lock:
            while not self._closing and (left := end - time.monotonic()) > 0:
                self._lock.wait(left)
