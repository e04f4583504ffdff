"""The broker goes away, in every way and for every time: the run goes on, the controller obeys again, no event is lost.

The shipped controller with a batch that puts events on its record all the time, a real Mosquitto, and a consumer that
fills the gaps it finds by asking for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "process"))
from cell import Cell, until
from mosquitto import Mosquitto

from devices.mqtt.login import Login
from tilctl.gateway.connection import Connection
from tilctl.gateway.cursor import read_cursor

pytestmark = pytest.mark.debian("mosquitto")

SHORT = [(0.5, "stop"), (0.5, "kill"), (2.0, "stop"), (2.0, "kill")]
ALL = [(s, how) for s in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 7.0, 12.0, 20.0) for how in ("stop", "kill")]
OBEYS_WITHIN = 15.0  # s from the broker's return: back-off of the controller and of the station, 5 s each at most
EVENT_EVERY = 1.0  # s between two events of the recipe


def recipe(folder: Path, seconds: float) -> None:
    """Write a recipe that does nothing but go from one step to the next, for so long."""
    steps = "".join(
        f"  - incubate: {{id: s{n}, until: since(day0) >= {n * EVENT_EVERY:g} s, on_restart: resume, source: P}}\n"
        for n in range(1, int(seconds / EVENT_EVERY))
    )
    (folder / "steps.yaml").write_text(
        'recipe: steps\nversion: "1.0.0"\ntitle: One step after the other\nstatus: draft\n'
        "description: For tests of outages. Nothing here is a protocol.\nsources: {P: test default}\n"
        "equipment:\n  station: {role: bioreactor, needs: [temperature], positions: 1, source: P}\n"
        "procedure:\n- operation: go\n  steps:\n"
        "  - set: {id: climate, station.temperature: 30 degC, source: P}\n  - mark: {id: day0}\n" + steps
    )


class Broker(Mosquitto):
    """A Mosquitto that can also die, or stand still with its connections open."""

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=10)
        self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@dataclass
class Consumer:
    """Hears the events of a unit for as long as the block lasts, connecting again whenever the broker is there."""

    url: str
    heard: list[tuple[str, int, str]] = field(default_factory=list[tuple[str, int, str]])  # batch, seq, hash
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Consumer:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="consumer")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(aiomqtt.MqttError, OSError):
                async with Connection(self.url, "consumer", login=Login("consumer")) as connection:
                    await connection.listen(["til/v1/demo/suite1/evt/cell1"])
                    reading = asyncio.create_task(self._read(connection))
                    while not self._stop.is_set() and not reading.done():
                        await asyncio.wait([reading], timeout=0.1)
                    reading.cancel()
                    await asyncio.wait([reading])
            await asyncio.sleep(0.1)

    async def _read(self, connection: Connection) -> None:
        with contextlib.suppress(aiomqtt.MqttError):
            async for message in connection.messages:
                event = json.loads(bytes(message.payload))
                self.heard.append((event["subject"], event["seq"], event["hash"]))


class Scene:
    def __init__(self, cell: Cell, broker: Broker, consumer: Consumer) -> None:
        self.cell, self.broker, self.consumer = cell, broker, consumer
        self.answered: dict[str, float] = {}  # outage -> s from the broker's return to the answer
        self._held = False

    def outage(self, seconds: float, how: str) -> None:
        """Take the broker away, bring it back and command at once."""
        before = len(self.cell.records())
        {"stop": self.broker.stop, "kill": self.broker.kill}[how]()
        threading.Event().wait(seconds)
        if not self._held and seconds > 2 * EVENT_EVERY:
            assert len(self.cell.records()) > before, "the run goes on without a broker"
        self.broker.start()
        self.command(f"{how} {seconds:g} s")

    def command(self, what: str) -> None:
        began = time.monotonic()
        verb = "restart" if self._held else "hold"
        answer = self.cell.command(verb)
        self.answered[what] = time.monotonic() - began
        assert answer["status"] == "done", f"{what}: {answer}"
        assert self.answered[what] < OBEYS_WITHIN, f"{what}: obeyed after {self.answered[what]:.1f} s"
        self._held = not self._held
        state = "held" if self._held else "running"
        assert [e for e in self.cell.records() if e.event.kind == "state_changed"][-1].event.to_state == state

    def check(self) -> dict[str, int]:
        """Compare what was heard with the record; what the broker lost is asked for, as a consumer does."""
        if not self._held:
            self.command("at the end")
        records = self.cell.records()
        created = records[0].event
        until(
            lambda: (
                read_cursor(self.cell.folder / "data/mqtt-cursor.json").get(("cell1", created.batch), 0) >= len(records)
            ),
            "the controller has delivered everything",
            within=20,
        )
        first_heard = list(dict.fromkeys(seq for batch, seq, _ in self.consumer.heard if batch == created.batch))
        assert first_heard == sorted(first_heard), "in order"
        have = {seq: digest for batch, seq, digest in self.consumer.heard if batch == created.batch}
        lost = [record.seq for record in records if record.seq not in have]
        asked = 0
        while missing := [record.seq for record in records if record.seq not in have]:
            asked += 1
            answer = self.cell.command("events", **{"from": missing[0], "to": missing[-1]})
            assert answer["status"] == "done", answer
            for event in answer["data"]["events"]:
                have[event["seq"]] = event["hash"]
            assert missing[0] in have
        assert have == {record.seq: record.hash for record in records}
        return {"events": len(records), "lost_by_the_broker": len(lost), "requests": asked}


@pytest.fixture
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    recipe(tmp_path, getattr(request, "param", 60.0))
    with Broker(tmp_path) as broker, Cell(tmp_path, broker.url) as cell, Consumer(broker.url) as consumer:
        cell.controller = cell._spawn("run", "--site", str(cell.site), "--recipes", str(tmp_path))
        until(lambda: (ready := cell.ready()) and ready["mqtt_connected"], "the controller is there")
        assert cell.command("start", recipe="steps")["status"] == "done"
        yield Scene(cell, broker, consumer)


def test_short_outages(scene: Scene) -> None:
    for seconds, how in SHORT:
        scene.outage(seconds, how)
    figures = scene.check()
    print(json.dumps({"answered_s": scene.answered, **figures}))
    assert metric(scene.cell, 'tilctl_mqtt_selftests_total{result="passed"}') >= len(SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("scene", [400.0], indirect=True)
def test_the_whole_matrix_of_outages(scene: Scene) -> None:
    for seconds, how in ALL:
        scene.outage(seconds, how)
    assert len(scene.answered) == len(ALL) == 22
    figures = scene.check()
    print(json.dumps({"answered_s": {k: round(v, 2) for k, v in scene.answered.items()}, **figures}))


def test_a_broker_that_stands_still_with_its_connections_open(scene: Scene) -> None:
    scene.broker.freeze()
    until(lambda: (ready := scene.cell.ready()) and not ready["mqtt_connected"], "the controller notices", within=40)
    before = len(scene.cell.records())
    until(lambda: len(scene.cell.records()) > before, "the run goes on")
    scene.broker.thaw()
    scene.command("frozen")
    assert scene.check()["events"] > before, "all of them delivered or asked for, in order"


def metric(cell: Cell, name: str) -> float:
    lines: list[str] = cell.get("/metrics")[1].splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)
