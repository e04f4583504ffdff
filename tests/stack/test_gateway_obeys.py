"""The gateway tests itself that it still obeys, tells what the record cannot, and reads the record for others."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_gateway_mqtt import TOPICS, Core, Mosquitto, SmallController, envelope, listening, until
from wire import Wire

from devices.clock import SystemClock
from simulators.virtual import VirtualClock, run
from tilctl.cli.main import main
from tilctl.commands.door import Door
from tilctl.gateway import selftest
from tilctl.gateway.client import StationClient
from tilctl.gateway.connection import Connection
from tilctl.gateway.cursor import CursorFile, read_cursor
from tilctl.gateway.mqtt import MqttGateway
from tilctl.gateway.outbox import MEMORY, Outbox, replay_from
from tilctl.gateway.projector import Projector
from tilctl.gateway.replay import MAX_WAITING, EventReader
from tilctl.journal import alarms as al
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.store import Journal

pytestmark = pytest.mark.debian("mosquitto")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "EVERY", 0.2)
    monkeypatch.setattr(selftest, "FIRST_AGAIN", 0.1)
    monkeypatch.setattr(selftest, "WITHIN", 1.0)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


async def obeys(url: str) -> None:
    async with StationClient(url, TOPICS, "desk") as desk:
        assert (await desk.request("cell1", "pause"))["status"] == "done"


# --- the test itself


async def test_it_passes_again_and_again_and_touches_nothing(quick: None, broker: Mosquitto):
    core = Core(broker.url)
    async with listening(broker.url, TOPICS.reply("desk", "#"), TOPICS.events("cell1")) as heard:
        core.gateway.start()
        await until(lambda: core.gateway.self_test.counts.passed >= 4)
    assert core.gateway.counts.connections == 1
    assert core.gateway.counts.commands == core.door.counts.received == 0, "the core does not see it"
    assert heard.messages == []
    assert core.gateway.self_test.counts.failed == 0
    assert 0.0 < core.gateway.self_test.counts.last_s < 1.0
    await core.close()


async def test_a_subscription_that_is_gone_is_noticed_and_mended(
    quick: None, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
):
    """The connection stands, keep-alives pass, publishing works: only the test finds that nothing is heard."""
    made: list[Connection] = []
    usual = Connection.listen

    async def listen(self: Connection, topics: Any, **how: bool) -> None:
        if TOPICS.commands in topics:
            made.append(self)
        await usual(self, topics, **how)

    monkeypatch.setattr(Connection, "listen", listen)
    core = Core(broker.url)
    core.gateway.start()
    await until(lambda: core.gateway.self_test.counts.passed >= 2)
    asyncio.run_coroutine_threadsafe(made[0].unsubscribe(TOPICS.commands), made[0]._loop).result(5)
    await until(lambda: core.gateway.self_test.counts.failed >= 1)
    await until(lambda: core.gateway.counts.connections == 2)
    assert made[1] is not made[0], "a new client object"
    await obeys(broker.url)
    await core.close()


async def test_a_link_that_is_dead_but_open_is_noticed_and_mended(quick: None, broker: Mosquitto):
    with Wire(broker.port) as wire:
        wire.open()
        core = Core(wire.url)
        core.gateway.start()
        await core.connected()
        wire.go_dead()
        await until(lambda: core.gateway.counts.connections == 2, 20)
        assert core.gateway.counts.failures >= 1, "the first connection ended as a failure, not by somebody's wish"
        await obeys(broker.url)
        assert [command.verb for command in core.controller.executed] == ["pause"]
        await core.close()


async def test_nobody_is_told_online_before_commands_are_heard(
    quick: None, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
):
    async def deaf(self: Connection, topics: Any, **how: bool) -> None:
        return

    usual = Connection.listen
    monkeypatch.setattr(Connection, "listen", deaf)
    core = Core(broker.url)
    core.gateway.start()
    await until(lambda: core.gateway.self_test.counts.failed >= 1)
    assert not core.gateway.connected
    monkeypatch.setattr(Connection, "listen", usual)
    async with listening(broker.url, TOPICS.status) as heard:
        await until(lambda: (heard.last(TOPICS.status) or {}).get("status") == "online")
    await core.close()


async def test_an_access_list_that_forbids_the_test_stops_the_test_only(quick: None, tmp_path: Path):
    access = tmp_path / "acl"
    access.write_text(
        f"user tilctl\ntopic write {TOPICS.prefix}/status\ntopic write {TOPICS.prefix}/rsp/#\n"
        f"topic read {TOPICS.prefix}/cmd/#\npattern write {TOPICS.prefix}/cmd/desk/+/+\n"
        f"pattern read {TOPICS.prefix}/rsp/desk/+\npattern read {TOPICS.prefix}/status\n"
    )
    access.chmod(0o600)
    broker = Mosquitto(tmp_path, f"allow_anonymous true\nacl_file {access}\n")
    broker.start()
    core = Core(broker.url)
    core.gateway.start()
    await core.connected()
    await obeys(broker.url)
    assert core.gateway.self_test.counts.not_allowed >= 1
    await core.close()
    broker.stop()


async def test_what_somebody_else_sends_to_the_test_is_nothing(broker: Mosquitto):
    core = Core(broker.url)
    core.gateway.start()
    await core.connected()
    async with listening(broker.url, TOPICS.reply("tilctl", "#")) as heard:
        await heard.connection.send(TOPICS.command("tilctl", "self", "ping"), b'{"id": "made up"}')
        await heard.connection.send(TOPICS.command("tilctl", "self", "ping"), b"\xff")
        await obeys(broker.url)
    assert heard.messages == []
    assert core.door.counts.received == 1
    await core.close()


# --- what needs no record


def alarm_record(seq: int, event: ev.Event) -> Record:
    return Record(seq, f"2026-03-01T00:00:{seq:02}.000Z", event, "0" * 64, "1" * 64)


async def test_alarms_of_the_site_are_kept_told_of_and_swept(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch):
    """Retained while not normal; each transition with the state that it left; of an earlier process nothing stays."""
    old, topic, kept = TOPICS.alarm("site", "old"), TOPICS.alarm("site", "warm"), f"{TOPICS.prefix}/alm/#"
    async with Connection(broker.url, "earlier") as earlier:
        await earlier.send(old, b'{"alarm": "old"}', retain=True)
    core = Core(broker.url)
    rows: dict[str, list[dict[str, Any]]] = {"site": [{"alarm": "stands", "priority": "low", "state": "acknowledged"}]}
    monkeypatch.setattr(core.controller, "alarms", lambda unit: rows.get(unit, []), raising=False)
    before = [alarm_record(1, al.AlarmRaised("warm", "high", "too warm", "", {"t": 39.0}, "cell1"))]
    core.projector.attach("site", "site", before)
    async with listening(broker.url, TOPICS.alarm_events("+"), kept, TOPICS.notify("+")) as heard:
        core.gateway.start()
        await core.connected()
        rows["site"] = [{"alarm": "warm", "priority": "high", "state": "unacknowledged", "active": True}]
        for record in (
            alarm_record(2, al.AlarmRaised("warm", "high", "too warm", "a/b", {"t": 39.0}, "site", group="heat")),
            alarm_record(3, al.AlarmSetAside("warm", "shelved", "anna", "door", unit="site")),
            alarm_record(4, al.AlarmCleared("warm", "cell1")),
            alarm_record(5, al.AlarmAcknowledged("warm", "ben", "site")),
        ):
            core.projector.on_record("site", record)
        core.projector.announce("site", {"kind": "raised"})
        await until(lambda: len(heard.of(TOPICS.alarm_events("site"))) == 3 and heard.last(topic))
        await until(lambda: heard.of(TOPICS.notify("site")) and heard.of(TOPICS.alarm_events("cell1")))
        rows["site"] = []
        core.projector.refresh("site")
        await until(lambda: not heard.last(topic))
    raised, shelved, acknowledged = heard.of(TOPICS.alarm_events("site"))
    assert (raised["from"], raised["to"], raised["seq"], raised["t"]) == (
        "normal", "unacknowledged", 2, "2026-03-01T00:00:02.000Z",
    )  # fmt: skip
    assert (raised["values"], raised["path"], raised["group"], raised["unit"]) == ({"t": 39.0}, "a/b", "heat", "site")
    assert (shelved["how"], shelved["by"], shelved["reason"], shelved["aside"]) == (
        "shelved", "anna", "door", ["shelved"],
    )  # fmt: skip
    assert (shelved["from"], shelved["to"]) == ("unacknowledged", "unacknowledged")
    assert (acknowledged["to"], acknowledged["by"], acknowledged["priority"]) == ("acknowledged", "ben", "high")
    (cleared,) = heard.of(TOPICS.alarm_events("cell1"))
    assert (cleared["from"], cleared["to"], cleared["text"]) == ("unacknowledged", "returned", "too warm"), (
        "what was raised before this process began is known from its record"
    )
    async with listening(broker.url, kept) as later:
        await obeys(broker.url)
    assert later.messages == [], "nothing is left retained"
    await core.close()


async def test_an_alarm_without_a_record_is_kept_and_its_transitions_are_sent(broker: Mosquitto):
    core = Core(broker.url)
    core.gateway.start()
    await core.connected()
    topic = TOPICS.alarm("cell1", "record-failed")
    async with listening(broker.url, topic, TOPICS.alarm_events("cell1"), TOPICS.run("cell1"), TOPICS.status) as heard:
        assert core.projector.alarm_beside("cell1", "record-failed", "the disk is full")
        assert not core.projector.alarm_beside("cell1", "record-failed", "the disk is full")
        core.outbox.say({"record_failed": ["cell1"]})
        await until(lambda: (heard.last(TOPICS.run("cell1")) or {}).get("alarms") == ["record-failed"])
        await until(lambda: (heard.last(TOPICS.status) or {}).get("record_failed") == ["cell1"])
        await until(lambda: heard.last(topic))
        core.projector.clear_beside("cell1", "record-failed")
        core.projector.clear_beside("cell1", "record-failed")
        await until(lambda: len(heard.of(TOPICS.alarm_events("cell1"))) == 2 and not heard.last(topic))
    assert [told["transition"] for told in heard.of(TOPICS.alarm_events("cell1"))] == ["raised", "cleared"]
    assert (heard.of(topic)[0]["priority"], heard.of(topic)[0]["on_record"]) == ("critical", False)
    async with listening(broker.url, topic) as later:
        await obeys(broker.url)
    assert later.messages == [], "nothing is left retained"
    await core.close()


# --- events by range


def created(batch: str, unit: str = "cell1", text: str = "") -> ev.BatchCreated:
    return ev.BatchCreated(batch, unit, "small", "1", "0" * 64, text, {}, {}, "0.1.0", "0" * 64)


async def write(path: Path, count: int, first: ev.Event) -> list[str]:
    """Make a record of so many events; returns their hashes."""
    clock = SystemClock()
    journal = await Journal.create(path, clock, first)
    rest = [journal.append(ev.Noted("rep", f"{n} " + "x" * 150, exception=False)) for n in range(2, count + 1)]
    hashes = [journal.records()[0].hash, *[record.hash for record in await asyncio.gather(*rest)]]
    await journal.close()
    clock.close()
    return hashes


class Reading(Core):
    """A core whose gateway can read records."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        super().__init__(url)

    def file_of(self, unit: str, batch: str) -> Path:
        return self.folder / f"{batch}.db"

    def new_gateway(self) -> MqttGateway:
        reader = EventReader(TOPICS, ("cell1", "cell2"), self.file_of, self.outbox.latest, lambda: datetime.now(UTC))
        self.gateway = MqttGateway(
            self.url, TOPICS, self.door, self.clock, self.outbox, identity={"boot": "b"}, reader=reader
        )
        return self.gateway


@pytest.fixture
async def reading(broker: Mosquitto, tmp_path: Path) -> AsyncIterator[Reading]:
    core = Reading(broker.url, tmp_path)
    core.gateway.start()
    await core.connected()
    yield core
    await core.close()


async def test_a_record_is_read_page_by_page(reading: Reading, tmp_path: Path):
    hashes = await write(tmp_path / "b1.db", 700, created("b1", text="r" * 70_000))
    got: dict[int, str] = {}
    at: int | None = 1
    pages = 0
    async with StationClient(reading.url, TOPICS, "desk") as desk:
        while at is not None:
            answer = await desk.request("cell1", "events", {"batch": "b1", "from": at})
            got |= {event["seq"]: event["hash"] for event in answer["data"]["events"]}
            at, pages = answer["data"]["next"], pages + 1
            assert answer["data"]["head"] == {"seq": 700, "hash": hashes[-1]}
        part = await desk.request("cell1", "events", {"batch": "b1", "from": 10, "to": 12})
        few = await desk.request("cell1", "events", {"batch": "b1", "from": 698, "limit": 2})
        none = await desk.request("cell1", "events", {"batch": "b1", "from": 701})
    assert [got[seq] for seq in range(1, 701)] == hashes
    assert 3 < pages < 40
    assert [event["seq"] for event in part["data"]["events"]] == [10, 11, 12]
    assert part["data"]["next"] is None
    assert ([event["seq"] for event in few["data"]["events"]], few["data"]["next"]) == ([698, 699], 700)
    assert (none["status"], none["data"]["events"], none["data"]["next"]) == ("done", [], None)
    assert reading.door.counts.received == 0, "the core does not notice"


@pytest.mark.parametrize(
    ("unit", "args", "code"),
    [
        ("cell1", {"batch": "b9"}, "no_record"),
        ("cell1", {}, "no_record"),
        ("cell2", {"batch": "b1"}, "no_record"),
        ("cell9", {"batch": "b1"}, "unknown_unit"),
        ("cell1", {"batch": "../b1"}, "malformed"),
        ("cell1", {"batch": "b1", "from": 0}, "malformed"),
        ("cell1", {"batch": "b1", "limit": 501}, "malformed"),
        ("cell1", {"batch": "b1", "until": 3}, "malformed"),
    ],
)
async def test_what_cannot_be_read_is_refused_with_a_code(
    reading: Reading, tmp_path: Path, unit: str, args: dict[str, Any], code: str
):
    await write(tmp_path / "b1.db", 3, created("b1"))
    async with StationClient(reading.url, TOPICS, "desk") as desk:
        answer = await desk.request(unit, "events", args)
    assert (answer["status"], answer["code"]) == ("refused", code)
    assert answer["text"]


async def test_without_a_name_it_is_the_batch_that_the_unit_had_last(reading: Reading, tmp_path: Path):
    for name in ("b1", "b2"):
        await write(tmp_path / f"{name}.db", 3, created(name))
    await write(tmp_path / "site.db", 2, ev.SiteOpened("test", "suite1", "0"))
    clock = SystemClock()
    for name in ("b1", "b2"):
        journal = await Journal.open(tmp_path / f"{name}.db", clock)
        reading.projector.attach("cell1", name, journal.records())
        await journal.close()
    clock.close()
    async with StationClient(reading.url, TOPICS, "desk") as desk:
        assert (await desk.request("cell1", "events"))["data"]["batch"] == "b2"
        site = await desk.request("site", "events")
    assert [event["data"]["kind"] for event in site["data"]["events"]] == ["site_opened", "noted"]


async def test_a_damaged_record_is_told_with_its_good_events(reading: Reading, tmp_path: Path):
    await write(tmp_path / "b1.db", 9, created("b1"))
    content = (tmp_path / "b1.db").read_bytes()
    (tmp_path / "b1.db").write_bytes(content.replace(b"7 xxx", b"7 yyy"))
    async with StationClient(reading.url, TOPICS, "desk") as desk:
        answer = await desk.request("cell1", "events", {"batch": "b1"})
    assert [event["seq"] for event in answer["data"]["events"]] == [1, 2, 3, 4, 5, 6]
    assert "event 7 was altered" in answer["data"]["trouble"]


async def test_the_command_line_prints_a_record_page_by_page(
    reading: Reading, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    hashes = await write(tmp_path / "b1.db", 600, created("b1"))
    words = ["batch", "events", "--url", reading.url, "--node", "test/suite1", "--unit", "cell1"]
    assert await asyncio.to_thread(main, [*words, "--batch", "b1", "--json"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["hash"] for line in out] == hashes
    assert await asyncio.to_thread(main, [*words, "--batch", "b1", "--from", "5", "--to", "6"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["5", "6"]
    assert await asyncio.to_thread(main, [*words, "--batch", "b7"]) == 1
    assert "no_record" in capsys.readouterr().err


async def test_a_flood_of_requests_is_answered_as_busy(reading: Reading, tmp_path: Path):
    await write(tmp_path / "b1.db", 200, created("b1"))
    count = 6 * MAX_WAITING
    async with listening(reading.url, TOPICS.reply("desk", "#")) as heard:
        topic = TOPICS.command("desk", "cell1", "events")
        for number in range(count):
            await heard.connection.send(topic, envelope("events", f"e{number}", args={"batch": "b1"}), 0)
        await until(lambda: len(heard.messages) == count, 30)
    codes = [json.loads(payload)["code"] for _, payload, _ in heard.messages]
    assert set(codes) == {"", "busy"}
    assert codes.count("") >= MAX_WAITING


# --- batches of an earlier process


async def test_the_undelivered_end_of_an_earlier_batch_comes_first(broker: Mosquitto, tmp_path: Path):
    await write(tmp_path / "b1.db", 50, created("b1"))
    CursorFile(tmp_path / "cursor.json").write({("cell1", "b1"): 20, ("cell1", "gone"): 7})
    core = Core(broker.url, cursor=tmp_path / "cursor.json")
    core.outbox.replay = replay_from(lambda _unit, batch: tmp_path / f"{batch}.db")
    core.outbox.look_again()
    await write(tmp_path / "b2.db", 5, created("b2"))
    clock = SystemClock()
    journal = await Journal.open(tmp_path / "b2.db", clock)
    core.projector.attach("cell1", "b2", journal.records())
    await journal.close()
    clock.close()
    async with listening(broker.url, TOPICS.events("cell1")) as heard:
        core.gateway.start()
        await until(lambda: len(heard.messages) >= 35)
    told = [(event["subject"], event["seq"]) for event in heard.of(TOPICS.events("cell1"))]
    assert told == [("b1", seq) for seq in range(21, 51)] + [("b2", seq) for seq in range(1, 6)]
    await core.close()
    noted = read_cursor(tmp_path / "cursor.json")
    assert noted[("cell1", "b2")] == 5
    assert noted.get(("cell1", "b1"), 50) == 50
    assert core.outbox.counts.events_dropped == 0


async def test_a_batch_is_in_the_cursor_before_anything_of_it_is_delivered(tmp_path: Path):
    core = Core("mqtt://127.0.0.1:1", cursor=tmp_path / "cursor.json")
    core.gateway.start()
    core.projector.attach("cell1", "b1", [])
    await write(tmp_path / "b1.db", 3, created("b1"))
    clock = SystemClock()
    journal = await Journal.open(tmp_path / "b1.db", clock)
    core.projector.attach("cell1", "b1", journal.records())
    await until(lambda: read_cursor(tmp_path / "cursor.json") == {("cell1", "b1"): 0})
    assert core.gateway.counts.connections == 0, "nothing was delivered: there is no broker"
    assert core.outbox.waiting >= 3
    await journal.close()
    await core.close()
    clock.close()


def test_a_cursor_of_an_earlier_version_is_understood(tmp_path: Path):
    path = tmp_path / "cursor.json"
    path.write_text('{"cell1": ["b7", 12], "site": ["site", 3]}')
    assert read_cursor(path) == {("cell1", "b7"): 12, ("site", "site"): 3}
    for wrong in ("", "[]", '{"cell1": 5}', '{"streams": [["a", "b"]]}', '{"streams": 3}'):
        path.write_text(wrong)
        assert read_cursor(path) == {}


# --- a week

EVENTS = 2 * MEMORY  # the first half is delivered from the record, the second from memory


async def week(clock: VirtualClock, wire: Wire, folder: Path, wait: Callable[[Outbox, int], None]) -> int:
    journal = await Journal.create(folder / "b1.db", clock, created("b1"))
    outbox = Outbox(replay_from(lambda _unit, batch: folder / f"{batch}.db"))
    small = SmallController()
    projector = Projector(small, clock, outbox, TOPICS)
    door = Door(small, clock, lambda: datetime.now(UTC))
    gateway = MqttGateway(wire.url, TOPICS, door, clock, outbox, identity={"boot": "b"})
    projector.attach("cell1", "b1", journal.records())
    journal.on_commit.append(lambda record: projector.on_record("cell1", record))
    gateway.start()
    for number in range(EVENTS):
        await clock.sleep(7 * 86_400.0 / EVENTS)
        await journal.record(ev.Noted("rep", str(number), exception=False))
    stream = outbox.next_stream()
    assert stream is not None
    assert len(stream.memory) == MEMORY, "what waits is bounded"
    assert outbox.waiting >= journal.head[0]
    wait(outbox, journal.head[0])
    gateway.close()
    await door.close()
    await journal.close()
    return journal.head[0]


async def test_seven_days_without_a_broker(broker: Mosquitto, tmp_path: Path):
    """Virtual days: every event of them is delivered afterwards, in order, from a memory that is bounded."""
    with Wire(broker.port) as wire:
        async with listening(broker.url, TOPICS.events("cell1")) as heard:

            def wait(outbox: Outbox, head: int) -> None:
                wire.open()
                look = threading.Event()  # virtual time stands; the gateway works in a thread of its own
                for _ in range(6000):
                    if outbox.cursor()[("cell1", "b1")] == head:
                        return
                    look.wait(0.01)

            rehearsal = asyncio.to_thread(lambda: run(lambda clock: week(clock, wire, tmp_path, wait)))
            head = await asyncio.wait_for(rehearsal, 120)
            await until(lambda: len(heard.messages) >= head, 30)
    assert [event["seq"] for event in heard.of(TOPICS.events("cell1"))] == list(range(1, head + 1))
    assert head == EVENTS + 1


async def test_a_command_that_was_kept_too_long_on_its_way_is_not_carried_out(broker: Mosquitto):
    """A broker may hold a command back for a controller that is away; it must not act when it is long forgotten."""
    core = Core(broker.url)
    core.gateway.start()
    await core.connected()
    made = datetime.now(UTC) - timedelta(minutes=10)
    late = json.loads(envelope("pause", "late")) | {
        "time": made.isoformat(),
        "exp": (made + timedelta(seconds=30)).isoformat(),
    }
    async with listening(broker.url, TOPICS.reply("desk", "#")) as heard:
        await heard.connection.send(TOPICS.command("desk", "cell1", "pause"), json.dumps(late).encode())
        await until(lambda: heard.last(TOPICS.reply("desk", "late")))
    answer = heard.last(TOPICS.reply("desk", "late")) or {}
    assert (answer["status"], answer["code"]) == ("refused", "expired")
    assert "expired 5" in answer["text"]
    assert core.controller.executed == []
    await core.close()
