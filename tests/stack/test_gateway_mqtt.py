"""The MQTT face against real brokers: the embedded one, and Mosquitto where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from devices.clock import SystemClock
from devices.reading import Quality, Reading
from tilctl.cli.operator_runner import OperatorRunner
from tilctl.commands.door import Door
from tilctl.engine.port import Command, Outcome, StoredAnswer
from tilctl.gateway.broker import EmbeddedBroker
from tilctl.gateway.client import NoAnswerError, StationClient
from tilctl.gateway.connection import Connection, properties_for_publish
from tilctl.gateway.cursor import read_cursor
from tilctl.gateway.mqtt import MqttGateway
from tilctl.gateway.outbox import MAX_ANSWERS, MEMORY, Outbox, Post, replay_from
from tilctl.gateway.projector import Projector
from tilctl.gateway.topics import Topics
from tilctl.journal.chain import GENESIS, Record
from tilctl.journal.events import Noted
from tilctl.journal.store import Journal

TOPICS = Topics("til/v1/test/suite1")
LISTENERS = itertools.count()
MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Mosquitto:
    """A Mosquitto that may be stopped and started at one port; keeps nothing on disk."""

    def __init__(self, folder: Path, extra: str = "allow_anonymous true\n") -> None:
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(
            f"listener {self.port} 127.0.0.1\nset_tcp_nodelay true\nmax_queued_messages 100000\nuser root\n{extra}",
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._configuration)], stderr=subprocess.DEVNULL)
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.01)
        pytest.fail("mosquitto did not come up")

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Embedded:
    """The embedded broker with the same surface; always at one port."""

    def __init__(self) -> None:
        self.port = free_port()
        self._broker = EmbeddedBroker(self.port)
        self.url = self._broker.url

    def start(self) -> None:
        self._broker.start()

    def stop(self) -> None:
        self._broker.stop()


Broker = Mosquitto | Embedded


@pytest.fixture(params=["iotcore", pytest.param("mosquitto", marks=pytest.mark.debian("mosquitto"))])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """A running broker of each kind."""
    broker: Broker = Embedded() if request.param == "iotcore" else Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@dataclass
class SmallController:
    """What the gateway needs of a controller."""

    state: dict[str, Any] = field(default_factory=lambda: {"state": "running", "state_version": 3, "batch": "b1"})
    open_prompts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    executed: list[Command] = field(default_factory=list[Command])
    record: dict[str, StoredAnswer] = field(default_factory=dict[str, StoredAnswer])
    until: asyncio.Event | None = None  # what it waits for before a command is done

    def units(self) -> list[str]:
        return ["cell1"]

    def status(self, unit: str) -> dict[str, Any]:
        return dict(self.state)

    def imported(self, unit: str) -> dict[str, list[str]]:
        return {}

    def prompts(self, unit: str) -> list[dict[str, Any]]:
        return list(self.open_prompts)

    def known_command(self, unit: str, command_id: str) -> StoredAnswer | None:
        return self.record.get(command_id)

    async def execute(self, command: Command, accepted: Callable[[int, str], None]) -> Outcome:
        self.executed.append(command)
        accepted(len(self.executed), "digest")
        if self.until is not None:
            await self.until.wait()
        self.record[command.id] = StoredAnswer(command.content_sha256, {"status": "done", "code": "", "text": ""})
        return Outcome("done")


class Core:
    """The core's side, on the loop of the test."""

    def __init__(self, url: str, cursor: Path | None = None) -> None:
        self.url = url
        self.cursor = cursor
        self.controller = SmallController()
        self.clock = SystemClock()
        self.door = Door(self.controller, self.clock, lambda: datetime.now(UTC), scheduled=True)
        self.outbox = Outbox(delivered=read_cursor(cursor) if cursor else None)
        self.projector = Projector(self.controller, self.clock, self.outbox, TOPICS)
        self.gateway = self.new_gateway()

    def new_gateway(self) -> MqttGateway:
        self.gateway = MqttGateway(
            self.url,
            TOPICS,
            self.door,
            self.clock,
            self.outbox,
            identity={"boot": "boot-1", "version": "0"},
            cursor=self.cursor,
        )
        return self.gateway

    async def connected(self) -> None:
        await until(lambda: self.gateway.connected)

    async def close(self) -> None:
        self.projector.flush()
        self.gateway.close()
        await self.door.close()
        self.clock.close()


@pytest.fixture
async def core(broker: Broker) -> AsyncIterator[Core]:
    """A gateway that is connected to the broker."""
    core = Core(broker.url)
    core.gateway.start()
    await core.connected()
    yield core
    await core.close()


@dataclass
class Heard:
    """What a listener has received, and its connection for publishing."""

    connection: Connection
    messages: list[tuple[str, bytes, bool]] = field(default_factory=list[tuple[str, bytes, bool]])
    correlations: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def of(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(payload) if payload else {} for name, payload, _ in self.messages if name == topic]

    def last(self, topic: str) -> dict[str, Any] | None:
        found = self.of(topic)
        return found[-1] if found else None


@contextlib.asynccontextmanager
async def listening(url: str, *topics: str) -> AsyncIterator[Heard]:
    async with Connection(url, f"listener-{next(LISTENERS)}", room=100_000) as connection:  # it misses nothing
        heard = Heard(connection)

        async def read() -> None:
            async for message in connection.messages:
                heard.messages.append((str(message.topic), bytes(message.payload), bool(message.retain)))
                correlation = getattr(message.properties, "CorrelationData", None)
                if correlation is not None:
                    heard.correlations[str(message.topic)] = correlation

        reader = asyncio.create_task(read())
        await connection.listen(topics)
        yield heard
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


def record(seq: int, text: str = "", batch_hash: str = "") -> Record:
    return Record(
        seq, "2026-01-05T08:00:00.000Z", Noted("rep", text, exception=False), batch_hash or GENESIS, f"h{seq}"
    )


def envelope(verb: str, command_id: str, client: str = "desk", **data: Any) -> bytes:
    now = datetime.now(UTC)
    return json.dumps(
        {
            "specversion": "1.0",
            "id": command_id,
            "source": client,
            "type": f"til.cmd.{verb}.v1",
            "subject": "cell1",
            "time": now.isoformat(),
            "exp": (now + timedelta(seconds=30)).isoformat(),
            "data": {"args": {}, **data},
        },
    ).encode()


async def test_a_station_gets_accepted_and_done(broker: Broker, core: Core):
    async with (
        listening(broker.url, TOPICS.reply("desk", "+")) as heard,
        StationClient(broker.url, TOPICS, "desk") as desk,
    ):
        status = await desk.online()
        answer = await desk.request("cell1", "pause", command_id="c-1")
        await until(lambda: len(heard.of(TOPICS.reply("desk", "c-1"))) == 2)
    assert (status["status"], status["boot"]) == ("online", "boot-1")
    assert (answer["status"], answer["correlation"], answer["state"], answer["journal_seq"]) == (
        "done",
        "c-1",
        "running",
        1,
    )
    assert [a["status"] for a in heard.of(TOPICS.reply("desk", "c-1"))] == ["accepted", "done"]
    assert heard.correlations[TOPICS.reply("desk", "c-1")] == b"c-1"
    assert [c.verb for c in core.controller.executed] == ["pause"]


async def test_a_repeated_command_runs_once(broker: Broker, core: Core):
    async with StationClient(broker.url, TOPICS, "desk") as desk:
        first = await desk.request("cell1", "pause", command_id="c-1")
        again = await desk.request("cell1", "pause", command_id="c-1")
        other = await desk.request("cell1", "stop", command_id="c-1")
    assert (first["status"], again["status"], other["code"]) == ("done", "done", "repeated_other_content")
    assert len(core.controller.executed) == 1


async def test_status_tells_the_state(broker: Broker, core: Core):
    async with StationClient(broker.url, TOPICS, "desk") as desk:
        answer = await desk.request("cell1", "status")
    assert answer["data"]["batch"] == "b1"


async def test_a_command_without_response_topic_is_answered_at_its_own_level(broker: Broker, core: Core):
    async with listening(broker.url, TOPICS.reply("desk", "#")) as heard:
        await heard.connection.send(TOPICS.command("desk", "cell1", "hold"), envelope("hold", "c-1"))
        await until(lambda: heard.last(TOPICS.reply("desk", "c-1")) and len(heard.messages) == 2)
    assert [c.verb for c in core.controller.executed] == ["hold"]


async def test_a_foreign_response_topic_gets_nothing_and_stops_only_what_may_be_stopped(broker: Broker, core: Core):
    foreign = properties_for_publish(response_topic=TOPICS.command("other", "cell1", "abort"))
    async with listening(broker.url, TOPICS.reply("desk", "#"), TOPICS.command("other", "+", "+")) as heard:
        for verb, command_id in (("resume", "c-1"), ("hold", "c-2")):
            topic = TOPICS.command("desk", "cell1", verb)
            await heard.connection.send(topic, envelope(verb, command_id), properties=foreign)
        await until(lambda: heard.last(TOPICS.reply("desk", "c-1")) and len(heard.messages) == 3)
    refusal = heard.last(TOPICS.reply("desk", "c-1"))
    assert refusal is not None
    assert refusal["code"] == "bad_response_topic"
    assert [c.verb for c in core.controller.executed] == ["hold"]
    assert not [m for m in heard.messages if "/cmd/" in m[0]]


async def test_refusals_are_answered_with_code_and_text(broker: Broker, core: Core):
    cases = {
        "wrong_client": (TOPICS.command("desk", "cell1", "hold"), envelope("hold", "wrong_client", client="other")),
        "unknown_verb": (TOPICS.command("desk", "cell1", "dance"), envelope("dance", "unknown_verb")),
        "unknown_unit": (
            TOPICS.command("desk", "cell9", "hold"),
            envelope("hold", "unknown_unit").replace(b'"cell1"', b'"cell9"'),
        ),
        "malformed": (TOPICS.command("desk", "cell1", "hold"), envelope("abort", "malformed")),
    }
    async with listening(broker.url, TOPICS.reply("desk", "#")) as heard:
        for topic, payload in cases.values():
            await heard.connection.send(topic, payload)
        await until(lambda: len(heard.messages) == len(cases))
    for code in cases:
        answer = heard.last(TOPICS.reply("desk", code))
        assert answer is not None
        assert (answer["status"], answer["code"]) == ("refused", code)
        assert answer["text"]
    assert core.controller.executed == []
    assert sum(core.door.counts.refused.values()) == len(cases)


async def test_what_cannot_be_answered_is_counted(broker: Broker, core: Core):
    async with listening(broker.url, TOPICS.reply("desk", "#")) as heard:
        await heard.connection.send(TOPICS.command("desk", "cell1", "hold"), b"not a command")
        await until(lambda: core.gateway.counts.unanswerable == 1)
    assert core.door.counts.refused["malformed"] == 1
    assert heard.messages == []


async def test_a_retained_command_that_lies_at_the_broker_is_never_executed(broker: Broker):
    topic = TOPICS.command("desk", "cell1", "abort")
    async with listening(broker.url, TOPICS.status) as heard:
        await heard.connection.send(topic, envelope("abort", "c-1"), retain=True)
        core = Core(broker.url)
        core.gateway.start()
        async with StationClient(broker.url, TOPICS, "desk") as desk:
            await desk.request("cell1", "pause", command_id="c-2")  # what came before this has been taken
        await heard.connection.send(topic, b"", retain=True)
        await core.close()
    assert [c.id for c in core.controller.executed] == ["c-2"]


@pytest.mark.debian("mosquitto")  # the embedded broker does not pass the flag on to those who are connected
async def test_a_command_sent_with_retain_is_refused(tmp_path: Path):
    broker = Mosquitto(tmp_path)
    broker.start()
    core = Core(broker.url)
    core.gateway.start()
    await core.connected()
    async with listening(broker.url, TOPICS.reply("desk", "#")) as heard:
        topic = TOPICS.command("desk", "cell1", "hold")
        await heard.connection.send(topic, envelope("hold", "c-1"), retain=True)
        await until(lambda: heard.messages)
    assert (heard.last(TOPICS.reply("desk", "c-1")) or {})["code"] == "retained"
    assert core.controller.executed == []
    await core.close()
    broker.stop()


async def test_state_prompts_and_alarms_are_retained_and_vanish_when_over(broker: Broker, core: Core):
    core.controller.state |= {
        "path": "rep/fill",
        "waits": [{"path": "rep/fill", "text": "pump runs"}],
        "alarms": [{"alarm": "warm/1", "priority": "high", "text": "38.1 degC"}],
        "interlocks": [{"unit": "site", "name": "ln2", "state": "permits"}],
        "estimates": [{"name": "cells", "now": 5e8}],
    }
    core.controller.open_prompts = [{"id": "p1", "unit": "cell1", "text": "Mount"}]
    core.projector.refresh("cell1")
    prompt, alarm = TOPICS.prompt("cell1", "p1"), f"{TOPICS.prefix}/alm/cell1/warm_1"
    phase = TOPICS.phase("cell1", "rep/fill")
    async with listening(
        broker.url, *(f"{TOPICS.prefix}/{what}/#" for what in ("state", "prompt", "alm", "ilk"))
    ) as heard:
        interlock = f"{TOPICS.prefix}/ilk/site/ln2"
        await until(lambda: all(heard.last(topic) for topic in (prompt, alarm, phase, interlock, TOPICS.run("cell1"))))
        assert (heard.last(interlock) or {})["state"] == "permits"
        assert (heard.last(TOPICS.estimate("cell1", "cells")) or {})["now"] == 5e8
        run = heard.last(TOPICS.run("cell1"))
        assert run is not None
        assert (run["state"], run["state_number"], run["alarms"]) == ("running", 50, ["warm/1"])
        assert "interlocks" not in run
        assert "estimates" not in run
        core.controller.state |= {"state": "held", "path": "", "waits": [], "alarms": [], "estimates": []}
        core.controller.open_prompts = []
        core.projector.refresh("cell1")
        await until(lambda: [heard.last(topic) for topic in (prompt, alarm, phase)] == [{}, {}, {}])
        await until(lambda: heard.last(TOPICS.estimate("cell1", "cells")) == {})
        await until(lambda: (heard.last(TOPICS.run("cell1")) or {}).get("state_number") == 60)
    async with listening(broker.url, f"{TOPICS.prefix}/#") as late:
        await until(lambda: late.last(TOPICS.run("cell1")))
        assert not late.of(prompt)
        assert not late.of(alarm)


async def test_what_an_earlier_process_left_retained_is_removed(broker: Broker):
    stale = TOPICS.prompt("cell1", "p-old")
    async with listening(broker.url, f"{TOPICS.prefix}/prompt/#") as heard:
        await heard.connection.send(stale, b'{"id": "p-old"}', retain=True)
        core = Core(broker.url)
        core.controller.open_prompts = [{"id": "p-new", "unit": "cell1"}]
        core.projector.refresh("cell1")
        core.gateway.start()
        await until(lambda: heard.last(stale) == {} and heard.last(TOPICS.prompt("cell1", "p-new")))
        await core.close()
    async with listening(broker.url, f"{TOPICS.prefix}/#") as late:
        await until(lambda: late.last(TOPICS.prompt("cell1", "p-new")))
        assert not late.of(stale)
        assert late.last(TOPICS.status) == {"status": "offline", "boot": "boot-1", "version": "0"}


async def test_events_come_in_order_with_their_chain(broker: Broker, core: Core):
    async with listening(broker.url, TOPICS.events("cell1"), TOPICS.head) as heard:
        core.projector.attach("cell1", "b7", [record(1)])
        for seq in range(2, 201):
            core.projector.on_record("cell1", record(seq, f"event {seq}"))
        await until(lambda: len(heard.of(TOPICS.events("cell1"))) == 200)
        await until(lambda: (heard.last(TOPICS.head) or {}).get("cell1", {}).get("seq") == 200)
    events = heard.of(TOPICS.events("cell1"))
    assert [e["seq"] for e in events] == list(range(1, 201))
    assert events[1]["data"] == {"kind": "noted", "path": "rep", "text": "event 2", "exception": False}
    assert (events[1]["id"], events[1]["type"], events[1]["prevhash"], events[1]["hash"]) == (
        "b7/2",
        "til.evt.noted.v1",
        GENESIS,
        "h2",
    )


async def test_events_of_a_time_without_broker_are_delivered_later(broker: Broker, tmp_path: Path):
    broker.stop()
    core = Core(broker.url, cursor=tmp_path / "delivered.json")
    core.gateway.start()
    core.projector.attach("cell1", "b7", [record(1)])
    for seq in range(2, 51):
        core.projector.on_record("cell1", record(seq))
    await until(lambda: core.gateway.counts.failures >= 2)
    core.gateway.close()
    broker.start()
    async with listening(broker.url, TOPICS.events("cell1")) as heard:
        core.new_gateway().start()
        await until(lambda: len(heard.messages) == 50)
        core.projector.on_record("cell1", record(51))
        await until(lambda: len(heard.messages) == 51)
        await core.close()
        # another process: what was delivered is known, what was not follows
        later = Core(broker.url, cursor=tmp_path / "delivered.json")
        later.projector.attach("cell1", "b7", [record(seq) for seq in range(1, 61)])
        later.gateway.start()
        await until(lambda: len(heard.messages) == 60)
        await later.close()
    assert [e["seq"] for e in heard.of(TOPICS.events("cell1"))] == list(range(1, 61))


async def test_a_restarted_broker_gets_everything_kept_again(broker: Broker, core: Core):
    core.projector.refresh("cell1")
    connections = core.gateway.counts.connections
    broker.stop()
    await until(lambda: not core.gateway.connected)
    core.controller.state["state"] = "held"
    core.projector.refresh("cell1")
    broker.start()
    await until(lambda: core.gateway.connected)
    assert core.gateway.counts.connections == connections + 1
    async with listening(broker.url, f"{TOPICS.prefix}/#") as heard:
        await until(lambda: (heard.last(TOPICS.run("cell1")) or {}).get("state") == "held")
        await until(lambda: (heard.last(TOPICS.status) or {}).get("status") == "online")


async def test_a_request_outlasts_a_broker_restart(broker: Broker, core: Core):
    async with StationClient(broker.url, TOPICS, "desk") as desk:
        await desk.online()
        broker.stop()
        request = asyncio.create_task(desk.request("cell1", "pause", command_id="c-1", timeout_s=20))
        await until(lambda: not core.gateway.connected)
        broker.start()
        assert (await request)["status"] == "done"
    assert len(core.controller.executed) == 1


async def test_two_who_ask_with_one_id_get_one_execution_and_both_an_answer(broker: Broker, core: Core):
    async with StationClient(broker.url, TOPICS, "desk") as desk, StationClient(broker.url, TOPICS, "desk") as twin:
        await asyncio.gather(desk.online(), twin.online())
        answers = await asyncio.gather(
            *(each.request("cell1", "pause", command_id="c-1", timeout_s=10) for each in (desk, desk, twin))
        )
    assert [answer["status"] for answer in answers] == ["done"] * 3
    assert len(core.controller.executed) == 1


async def test_one_who_gives_up_takes_the_answer_from_nobody_else(broker: Broker, core: Core):
    released = asyncio.Event()
    core.controller.until = released
    async with StationClient(broker.url, TOPICS, "desk") as desk:
        await desk.online()
        patient = asyncio.create_task(desk.request("cell1", "pause", command_id="c-1", timeout_s=20))
        with pytest.raises(NoAnswerError, match="c-1 was not answered within 0 s"):
            await desk.request("cell1", "pause", command_id="c-1", timeout_s=0.3)
        released.set()
        assert (await patient)["status"] == "done"
    assert len(core.controller.executed) == 1


async def test_a_command_without_an_answer_is_sent_again_with_its_id_and_content(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
):
    """The controller's side is played by hand here: it takes the command twice and answers the third time."""
    monkeypatch.setattr("tilctl.gateway.client.REPEAT_S", 0.2)
    topic = TOPICS.command("desk", "cell1", "pause")
    async with listening(broker.url, topic) as heard, StationClient(broker.url, TOPICS, "desk") as desk:
        await heard.connection.send(TOPICS.status, b'{"status": "online"}', retain=True)
        asked = asyncio.create_task(desk.request("cell1", "pause", command_id="c-1", timeout_s=20))
        await until(lambda: len(heard.messages) >= 1)
        accepted = {"id": "c-1:accepted", "correlation": "c-1", "status": "accepted"}
        await heard.connection.send(TOPICS.reply("desk", "c-1"), json.dumps(accepted).encode())
        await until(lambda: len(heard.messages) >= 3)
        assert not asked.done(), "accepted is no answer, and to another command neither"
        await heard.connection.send(TOPICS.reply("desk", "c-2"), b'{"status": "done"}')
        await until(lambda: len(heard.messages) >= 4)
        assert not asked.done()
        await heard.connection.send(TOPICS.reply("desk", "c-1"), b'{"status": "done"}')
        assert (await asked)["status"] == "done"
        await heard.connection.send(TOPICS.status, b"", retain=True)
    said = [{**body, "time": "", "exp": ""} for body in heard.of(topic)]
    assert said == [said[0]] * len(said)
    assert said[0]["id"] == "c-1"
    assert all(not retained for _, _, retained in heard.messages)


async def test_telemetry_is_the_latest_value_however_often_is_scanned(broker: Broker, core: Core):
    topic = TOPICS.telemetry("cell1", "station.temperature")
    async with listening(broker.url, f"{TOPICS.prefix}/tm/#") as heard:
        for count in range(20_000):
            reading = Reading(37.0 + count, "degC", Quality.GOOD, core.clock.monotonic())
            core.projector.on_scan({"station.temperature": reading}, "cell1")
            if count % 1000 == 0:
                await asyncio.sleep(0)
        await until(lambda: (heard.last(topic) or {}).get("value") == 37.0 + 19_999)
    assert len(heard.messages) < 20
    value = heard.last(topic)
    assert value is not None
    assert (value["unit"], value["quality"]) == ("degC", "good")
    assert abs(datetime.fromisoformat(value["t"]) - datetime.now(UTC)) < timedelta(seconds=30)


async def test_telemetry_of_instruments_that_are_scanned_apart_comes_whole(broker: Broker, core: Core):
    names = [f"device{n}.value" for n in range(8)]
    async with listening(broker.url, f"{TOPICS.prefix}/tm/#") as heard:
        for n, name in enumerate(names):
            core.projector.on_scan({name: Reading(float(n), "", Quality.GOOD, core.clock.monotonic())})
        await until(lambda: all(heard.last(TOPICS.telemetry("plant", name)) for name in names))
        values = [(heard.last(TOPICS.telemetry("plant", name)) or {})["value"] for name in names]
    assert values == [float(n) for n in range(8)], "each its own"


async def test_the_operator_answers_prompts_with_their_time_of_effect(broker: Broker, core: Core):
    @dataclass
    class Given:
        inputs: dict[str, str | float]
        delay_s: float

    troubles: list[str] = []
    operator = OperatorRunner(
        broker.url, TOPICS, lambda p: Given({"lot": f"LOT-{p['id']}"}, 90.0), on_trouble=troubles.append
    )
    operator.start()
    started = await asyncio.wrap_future(operator.request("cell1", "start", {"recipe": "shakedown"}))
    core.controller.open_prompts = [
        {"id": f"p{n}", "batch": "b1", "unit": "cell1", "asked": "2026-01-05T08:00:00.000Z"} for n in (1, 2)
    ]
    core.projector.refresh("cell1")
    await until(lambda: operator.answered == 2)
    operator.close()
    answers = core.controller.executed[1:]
    assert started["status"] == "done"
    assert core.controller.executed[0].id == "operator-start-1"
    assert [(c.id, c.args["inputs"]["lot"], c.effective) for c in answers] == [
        ("operator-b1-p1", "LOT-p1", "2026-01-05T08:01:30.000Z"),
        ("operator-b1-p2", "LOT-p2", "2026-01-05T08:01:30.000Z"),
    ]
    assert troubles == []


async def test_an_operator_that_breaks_says_so(broker: Broker, core: Core):
    def broken(prompt: dict[str, Any]) -> Any:
        raise KeyError(prompt["id"])

    troubles: list[str] = []
    operator = OperatorRunner(broker.url, TOPICS, broken, on_trouble=troubles.append)
    operator.start()
    core.controller.open_prompts = [{"id": "p1", "batch": "b1", "unit": "cell1", "asked": "2026-01-05T08:00:00.000Z"}]
    core.projector.refresh("cell1")
    await until(lambda: troubles)
    operator.close()
    assert "KeyError" in troubles[0]


# --- no broker, or a bad one


async def test_without_a_broker_memory_is_bounded_and_nothing_raises():
    core = Core(f"mqtt://127.0.0.1:{free_port()}")
    core.gateway.start()
    core.projector.attach("cell1", "b7", [record(1)])
    for seq in range(2, 3 * MEMORY):
        core.projector.on_record("cell1", record(seq))
        core.outbox.answer(Post("t", b"{}", b"c", 300))
        core.controller.open_prompts = [{"id": f"p{seq}"}]
        core.projector.flush()
    await until(lambda: core.gateway.counts.failures >= 2)
    stream = core.outbox.next_stream()
    assert stream is not None
    assert len(stream.memory) == MEMORY
    assert len(core.outbox.take_answers(10 * MEMORY)) == MAX_ANSWERS
    assert core.outbox.counts.answers_dropped == 3 * MEMORY - 2 - MAX_ANSWERS
    core.outbox.connected()
    assert len(core.outbox.take_kept(10 * MEMORY)) == 3, "head, run, and the one open prompt"
    await core.close()


async def test_events_that_fell_out_of_memory_are_read_from_the_file():
    asked: list[tuple[str, str, int]] = []
    records = [record(seq) for seq in range(1, 3 * MEMORY)]

    def replay(unit: str, batch: str, after: int, limit: int) -> list[Record]:
        asked.append((unit, batch, after))
        return records[after : after + limit]

    outbox = Outbox(replay)
    for each in records:
        outbox.event("cell1", "b7", each)
    seen: list[int] = []
    while (stream := outbox.next_stream()) is not None:
        part = outbox.next_events(stream, 100)
        seen.extend(r.seq for r in part)
        outbox.confirm(stream, part[-1].seq)
    assert seen == list(range(1, 3 * MEMORY))
    assert asked[0] == ("cell1", "b7", 0)
    assert outbox.counts.events_dropped == 0
    assert outbox.cursor() == {("cell1", "b7"): 3 * MEMORY - 1}


async def test_the_batch_file_is_what_events_are_read_again_from(tmp_path: Path):
    clock = SystemClock()
    journal = await Journal.create(tmp_path / "b7.db", clock, Noted("", "first", exception=False))
    for number in range(2, 31):
        await journal.record(Noted("rep", str(number), exception=False))
    replay = replay_from(lambda _unit, batch: tmp_path / f"{batch}.db")
    assert [r.seq for r in replay("cell1", "b7", 10, 5)] == [11, 12, 13, 14, 15]
    assert [r.seq for r in replay("cell1", "b7", 28, 5)] == [29, 30]
    assert list(replay("cell1", "no such batch", 0, 5)) == []
    await journal.close()
    clock.close()


async def test_the_age_of_what_the_broker_lacks_begins_with_the_first_that_it_lacks():
    now = 0.0
    outbox = Outbox(monotonic=lambda: now)
    assert outbox.unacknowledged_s("head") == 0.0
    outbox.keep("head", b"1")
    now = 10.0
    outbox.keep("head", b"2")
    assert outbox.unacknowledged_s("head") == 10.0, "from the first, not from the last"
    now = 12.0
    outbox.acknowledged("head", b"1")
    now = 13.0
    assert outbox.unacknowledged_s("head") == 1.0, "the second is still on its way"
    outbox.acknowledged("head", b"2")
    now = 1000.0
    assert outbox.unacknowledged_s("head") == 0.0, "a record that is quiet has left"
    outbox.keep("head", b"2")
    outbox.connected()
    assert outbox.unacknowledged_s("head") == 0.0, "the broker has that value"
    outbox.keep("head", b"3")
    outbox.clear("head")
    now = 2000.0
    assert outbox.unacknowledged_s("head") == 0.0, "what is not kept any more is not lacked"


async def test_without_a_file_a_gap_is_counted_and_delivery_goes_on():
    outbox = Outbox()
    for seq in range(1, MEMORY + 11):
        outbox.event("cell1", "b7", record(seq))
    stream = outbox.next_stream()
    assert stream is not None
    assert outbox.next_events(stream, 5) == []
    assert [r.seq for r in outbox.next_events(stream, 2)] == [11, 12]
    assert outbox.counts.events_dropped == 10


async def test_a_broker_that_accepts_and_never_speaks_leaves_no_socket(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("devices.mqtt.connection.TIMEOUT", 0.2)
    async with frozen_broker() as (url, accepted):
        before = descriptors()
        core = Core(url)
        core.gateway.start()
        await until(lambda: accepted() >= 3)
        await core.close()
    assert len(descriptors() - before) == 0


def descriptors() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


@contextlib.asynccontextmanager
async def frozen_broker() -> AsyncIterator[tuple[str, Callable[[], int]]]:
    """A port whose connections are taken by the kernel's side only: accepted, never read, closed at the end."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        server.setblocking(False)
        count = 0

        def accept() -> int:
            nonlocal count
            with contextlib.suppress(BlockingIOError):
                taken.append(server.accept()[0])
                count += 1
            return count

        # the descriptors of this side are closed at once when the peer is gone; here they stay until the end
        yield f"mqtt://127.0.0.1:{server.getsockname()[1]}", accept
    for connection in taken:
        connection.close()


async def test_a_client_without_a_controller_says_what_is_missing(broker: Broker):
    async with StationClient(broker.url, TOPICS, "desk") as desk:
        with pytest.raises(NoAnswerError, match="the broker is there, the controller is not"):
            await desk.online(1.0)


@pytest.mark.debian("mosquitto")
async def test_a_broker_that_refuses_us_is_tried_again_and_harms_nothing(tmp_path: Path):
    broker = Mosquitto(tmp_path, "allow_anonymous false\n")
    broker.start()
    core = Core(broker.url)
    core.gateway.start()
    core.projector.refresh("cell1")
    await until(lambda: core.gateway.counts.failures >= 3)
    assert not core.gateway.connected
    await core.close()
    broker.stop()


@pytest.mark.debian("mosquitto")
async def test_an_access_list_without_events_stops_events_only(tmp_path: Path):
    access = tmp_path / "acl"
    allowed = ("status", "cmd/#", "rsp/#")
    access.write_text("".join(f"pattern readwrite {TOPICS.prefix}/{name}\n" for name in allowed))
    access.chmod(0o600)
    broker = Mosquitto(tmp_path, f"allow_anonymous true\nacl_file {access}\n")
    broker.start()
    core = Core(broker.url)
    core.projector.attach("cell1", "b7", [record(1), record(2)])
    core.gateway.start()
    async with StationClient(broker.url, TOPICS, "desk") as desk:
        assert (await desk.request("cell1", "pause"))["status"] == "done"
    await until(lambda: core.gateway.counts.publishes_refused >= 3)
    assert core.outbox.cursor() == {("cell1", "b7"): 0}, "what the broker refused is not delivered"
    assert core.gateway.connected
    assert core.gateway.counts.connections == 1
    core.gateway.close(flush_s=0.05)
    await core.close()
    broker.stop()


@pytest.mark.debian("mosquitto")
async def test_a_broker_that_freezes_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("devices.mqtt.connection.TIMEOUT", 0.2)
    broker = Mosquitto(tmp_path)
    broker.start()
    core = Core(broker.url)
    core.gateway.start()
    await core.connected()
    broker.signal(signal.SIGSTOP)
    core.projector.attach("cell1", "b7", [record(1)])
    await until(lambda: core.gateway.counts.failures >= 1)
    assert core.outbox.cursor() == {("cell1", "b7"): 0}
    broker.signal(signal.SIGCONT)
    await until(lambda: core.outbox.cursor() == {("cell1", "b7"): 1})
    broker.signal(signal.SIGSTOP)
    await core.close()  # bounded by the time-outs, or the test does not end
    broker.signal(signal.SIGCONT)
    broker.stop()


CHILD = """
import asyncio, os, sys
from datetime import UTC, datetime
from devices.clock import SystemClock
from tilctl.commands.door import Door
from tilctl.gateway import mqtt
from tilctl.gateway.outbox import Outbox
from tilctl.gateway.topics import Topics

class Nobody:
    def units(self):
        return ()

async def main():
    mqtt.WILL_DELAY = 1
    clock, outbox = SystemClock(), Outbox()
    door = Door(Nobody(), clock, lambda: datetime.now(UTC))
    mqtt.MqttGateway(sys.argv[1], Topics(sys.argv[2]), door, clock, outbox, identity={"boot": "child"}).start()
    await asyncio.sleep(30)

asyncio.run(main())
"""


async def test_a_killed_controller_is_reported_offline_by_the_broker(broker: Broker):
    async with listening(broker.url, TOPICS.status) as heard:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, broker.url, TOPICS.prefix)
        await until(lambda: heard.last(TOPICS.status) == {"status": "online", "boot": "child"})
        child.kill()
        await child.wait()
        await until(lambda: heard.last(TOPICS.status) == {"status": "offline", "boot": "child"})
        said = [body["status"] for body in heard.of(TOPICS.status)]
    assert said == ["online", "offline"], "once, and by nobody but the broker: the process is dead"
