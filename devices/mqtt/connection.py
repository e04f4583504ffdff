"""One connection to a broker, as MQTT 5 and this project want it, around aiomqtt.

What is added was measured on aiomqtt 2.5.1: it drops the reason code of a PUBACK (a publish that the broker's access
list forbids looks delivered), leaves the socket of a connection that was never acknowledged, and has Nagle's
algorithm on (44 ms for each answer). A client object serves one connection and is not entered again: a second
`__aenter__` repeats what timed out before. Used by instruments, by simulators and by whoever speaks MQTT here.

What a login needs is read anew for each connection, beside the loop; a refusal says what was refused and what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from aiomqtt.types import PahoSocket
from paho.mqtt.client import MQTT_ERR_SUCCESS, DisconnectFlags
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from devices.mqtt.login import NOBODY, Login, LoginError, TlsContext, address, encrypted, failed_tls, refused_login
from devices.mqtt.wire import QUEUE

TIMEOUT = 5.0
"""Longest wait for the broker's answer to anything, s."""
CONNECT_TIMEOUT = 3.0
"""Longest wait for the TCP connection, s; closing may have to wait this long."""
KEEPALIVE = 10
"""Keep-alive, s: a frozen broker is noticed after twice this at the latest."""
SESSION_EXPIRY = 10
"""How long a broker keeps the session, s: longer than the delay of the will, or the delay would have no effect."""

_NOT_THIS_LOGIN = (4, 5, 0x86, 0x87, 0x8C)
"""Reason codes of a broker that does not want this user, password or way to say who one is."""


class BrokerRefusedError(aiomqtt.MqttError):
    """The broker answered, and the answer was no; says what was refused and why."""


class _Queue(asyncio.Queue[aiomqtt.Message]):
    """The queue of messages that have come; counts what did not fit."""

    dropped = 0

    def put_nowait(self, item: aiomqtt.Message) -> None:
        if self.full():
            self.dropped += 1
        super().put_nowait(item)


class Connection(aiomqtt.Client):
    """An MQTT 5 connection that looks at every reason code and leaves no socket behind."""

    def __init__(
        self,
        url: str,
        identifier: str,
        will: aiomqtt.Will | None = None,
        login: Login = NOBODY,
        room: int = QUEUE,
        most_bytes: int | None = None,
    ) -> None:
        """Prepare a connection to `mqtt://host:port` or `mqtts://...`; must be made inside the loop that uses it.

        `login` is who the broker's access list takes us for, and has the files that prove it.  `room` is how many
        messages may wait for whoever reads them; what comes beyond is dropped and counted.  `most_bytes` is the largest
        packet that the broker may send us; a larger one it drops without a word.
        """
        host, port = address(url)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_EXPIRY
        if most_bytes is not None:
            properties.MaximumPacketSize = most_bytes
        super().__init__(
            host,
            port,
            identifier=identifier,
            username=login.user or None,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=will,
            timeout=TIMEOUT,
            keepalive=KEEPALIVE,
            clean_start=True,
            properties=properties,
            queue_type=_Queue,
            max_queued_incoming_messages=room,
            max_inflight_messages=64,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self._client.connect_timeout = CONNECT_TIMEOUT
        self._acknowledged: dict[int, asyncio.Future[ReasonCode]] = {}
        self._url = url
        self._login = login
        self._tls: TlsContext | None = None

    @property
    def certificate(self) -> Mapping[str, Any]:
        """Return the broker's certificate as `ssl.SSLSocket.getpeercert` does; empty without TLS."""
        there = self._client.socket()
        return (there.getpeercert() or {}) if isinstance(there, ssl.SSLSocket) else {}

    @property
    def dropped(self) -> int:
        """Return how many messages came while the queue was full."""
        return self._queue.dropped if isinstance(self._queue, _Queue) else 0

    async def __aenter__(self) -> Self:
        entered = False
        try:
            await self._prepare()
            await super().__aenter__()
            entered = True
        except aiomqtt.MqttError as error:
            raise self._explained(error) from error
        finally:
            if not entered:
                self._abandon()
        return self

    async def _prepare(self) -> None:
        """Read what the login needs; a disk that hangs keeps nobody but this connection."""
        if self._login.password_file is None and not encrypted(self._url):
            return
        try:
            async with asyncio.timeout(TIMEOUT):
                password = await asyncio.to_thread(self._login.password)
                if encrypted(self._url):
                    self._tls = await asyncio.to_thread(self._login.context)
        except LoginError as error:
            raise aiomqtt.MqttError(str(error)) from error
        except TimeoutError as error:
            raise aiomqtt.MqttError(f"the files of the login were not read within {TIMEOUT:.0f} s") from error
        # without a name no password is sent at all
        self._client.username_pw_set(self._login.user or ("" if password is not None else None), password)
        if self._tls is not None:
            cast("Any", self._client).tls_set_context(self._tls)

    def _explained(self, error: aiomqtt.MqttError) -> aiomqtt.MqttError:
        """Return the error that says what to do, where this one is about who we are."""
        if isinstance(error, MqttConnectError):
            code = error.rc
            number = code.value if isinstance(code, ReasonCode) else code
            if number in _NOT_THIS_LOGIN:
                return BrokerRefusedError(refused_login(str(code), self._url, self._login))
            return error
        cause = error.__context__
        if self._tls is not None and isinstance(cause, ConnectionResetError):
            return aiomqtt.MqttError("the broker ended the connection; is this its port for TLS (else mqtt://)?")
        trouble = cause if isinstance(cause, ssl.SSLError) else self._tls.trouble if self._tls is not None else None
        return error if trouble is None else aiomqtt.MqttError(failed_tls(trouble, self._url, self._login))

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(exc_type, exc, tb)
        finally:
            self._abandon()

    async def send(
        self,
        topic: str,
        payload: bytes,
        qos: int = 1,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        """Publish, and with QoS 1 wait until the broker has it.

        Raises BrokerRefusedError when the broker says no, MqttError when it says nothing or the connection is gone.
        """
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc != MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, f"could not publish to {topic}")
        if qos == 0:
            return
        answer: asyncio.Future[ReasonCode] = asyncio.get_running_loop().create_future()
        self._acknowledged[info.mid] = answer
        try:
            ends: set[asyncio.Future[Any]] = {answer, self._disconnected}
            await asyncio.wait(ends, timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._acknowledged.pop(info.mid, None)
        if not answer.done():
            raise aiomqtt.MqttError(f"the broker did not acknowledge {topic} within {TIMEOUT:.0f} s, or is gone")
        reason = answer.result()
        if reason.is_failure:
            raise BrokerRefusedError(f"the broker refused a publish to {topic}: {reason}")

    async def listen(self, topics: Sequence[str], *, old: bool = True) -> dict[str, str]:
        """Subscribe with QoS 1; `old` asks for retained messages too, whose retain flag says that they are old.

        Without `old` the flag is passed as the sender set it.  Returns the topics that the broker refused, and why.
        """
        handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if old else SubscribeOptions.RETAIN_DO_NOT_SEND
        options = SubscribeOptions(qos=1, retainAsPublished=not old, retainHandling=handling)
        codes = await self.subscribe([(topic, options) for topic in topics])
        return {
            topic: f"the broker refused the subscription to {topic}: {code}; see its access list"
            for topic, code in zip(topics, codes, strict=False)
            if isinstance(code, ReasonCode) and code.is_failure
        }

    def cut(self) -> None:
        """End it without a farewell, as a pulled cable does: the broker publishes the will."""
        left = self._client.socket()
        if isinstance(left, socket.socket):
            with contextlib.suppress(OSError):
                left.shutdown(socket.SHUT_RDWR)

    def _on_publish(
        self,
        client: PahoClient,
        userdata: Any,
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        answer = self._acknowledged.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reason_code)
        super()._on_publish(client, userdata, mid, reason_code, properties)

    def _on_disconnect(
        self,
        client: PahoClient,
        userdata: Any,
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if not self._connected.done():  # aiomqtt would wait for it until the time is over
            text = "the broker ended the connection before it took us in" + (
                "" if encrypted(self._url) else "; is this its port for TLS (mqtts://)?"
            )
            self._connected.set_exception(aiomqtt.MqttError(text))
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_socket_register_write(self, client: PahoClient, userdata: Any, sock: PahoSocket) -> None:
        # aiomqtt takes the descriptor now and registers it a turn later, when it may be closed or another's
        def register() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), client.loop_write)

        self._loop.call_soon_threadsafe(register)

    def _abandon(self) -> None:
        """Close what a failed or broken connection left open."""
        self._client.disconnect()
        self._client.loop_write()
        left = self._client.socket()
        if isinstance(left, socket.socket):  # a frozen broker does not even take the farewell
            with contextlib.suppress(OSError):
                left.shutdown(socket.SHUT_RDWR)
            self._client.loop_write()
        if self._misc_task is not None:
            self._misc_task.cancel()
        for ended in (self._connected, self._disconnected):
            if ended.done() and not ended.cancelled():
                ended.exception()  # looked at, so that asyncio does not report it as lost
