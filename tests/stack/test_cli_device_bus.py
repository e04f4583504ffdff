"""`tilctl device scan`, serial lines, and a profile of one's own that is simulated and commissioned."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devices.clock import SystemClock
from devices.modbus.bus import ModbusBus
from devices.modbus.pdu import BadReplyError
from devices.mqtt.types import MqttProfile
from devices.profile import load_profile
from simulators.mqtt_models import simulated as mqtt_simulated
from simulators.parts import simulated
from tilctl.cli.main import main
from tilctl.cli.run import only_one
from tilctl.config import load_site

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "process"))

from commissioned import TEMPLATE, Plant, ask, batch, notes, running, serial_line, tilctl
from mosquitto import Mosquitto


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with running(tmp_path_factory.mktemp("plant")) as served:
        yield served


# --- scan

ALONE = "--no-other-master"


def test_a_scan_finds_who_answers_and_what_fits(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    site = plant.site(tmp_path)
    code, out, err = tilctl(capsys, "scan", "--site", site, "--bus", "fluidics", "--units", "1-8", "--json")
    found = {each["unit"]: each for each in map(json.loads, out.splitlines())}
    assert code == 0
    assert list(found) == [1, 2, 3, 4, 5, 6]
    assert found[1]["fits"] == ["sim-pump"]
    assert found[4]["fits"] == ["sim-valves"]
    assert found[4]["name"] == "valves_media"
    assert all(each["serial"] for each in found.values())
    assert "6 of 8 units answer" in err
    code, out, _ = tilctl(capsys, "scan", "--bus", f"127.0.0.1:{plant.ports['climate']}", "--units", "1,7-8", ALONE)
    assert code == 0
    assert out.startswith("unit 1: fits sim-incubator, serial number ")
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_bus_of_the_site_is_that_bus_however_it_is_named(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path, host: str
):
    """Beside a running controller, or with a batch on its instruments, its address is no way round."""
    site = plant.site(tmp_path)
    words = ("scan", "--site", site, "--bus", f"{host}:{plant.ports['climate']}", "--units", "1", ALONE)
    code, _, err = tilctl(capsys, "scan", "--site", site, "--bus", f"{host}:1", "--units", "1", ALONE)
    assert (code, f"the site has climate (127.0.0.1:{plant.ports['climate']})" in err) == (2, True)
    with only_one(load_site(site)):
        code, out, err = tilctl(capsys, *words)
        assert (code, out) == (3, "")
        assert "another controller runs" in err
    batch(site)
    code, out, err = tilctl(capsys, *words)
    assert (code, out) == (1, "")
    assert "in use by a batch: incubator: batch b1 on cell1" in err
    code, out, _ = tilctl(capsys, *words, "--manual-mode", "--reason", "exchanged")
    assert code == 0
    assert "incubator in the site file" in out
    assert notes(site)[0].text.startswith("manual mode, scan of bus climate, ")


def test_an_address_is_scanned_only_once_somebody_says_that_it_is_free(
    capsys: pytest.CaptureFixture[str], plant: Plant
):
    with socket.create_server(("127.0.0.1", 0)) as there:
        code, out, err = tilctl(capsys, "scan", "--bus", f"127.0.0.1:{there.getsockname()[1]}", "--units", "1")
        assert (code, out) == (2, "")
        assert "as one more master" in err
        assert "Nothing was sent" in err
        there.setblocking(False)
        with pytest.raises(BlockingIOError):
            there.accept()


def test_a_peer_that_only_babbles_is_no_unit_that_answers(
    capsys: pytest.CaptureFixture[str], plant: Plant, monkeypatch: pytest.MonkeyPatch
):
    """A terminal server that pours out text: something comes, and none of it is a reply."""

    async def babble(*_: object, **__: object) -> list[int]:
        raise BadReplyError("protocol identifier 6769 instead of 0000: not Modbus TCP")

    monkeypatch.setattr(ModbusBus, "read", babble)
    words = ("--bus", f"127.0.0.1:{plant.ports['climate']}", "--units", "1", ALONE, "--json")
    code, out, err = tilctl(capsys, "scan", *words)
    assert code == 1, out
    assert "0 of 1 units answer; 1 with what is no answer" in err
    told = json.loads(out)
    assert (told["understood"], "not Modbus TCP" in told["strange"]) == (False, True)


def test_units_that_keep_silent_cost_two_requests_each(capsys: pytest.CaptureFixture[str]):
    with socket.socket() as deaf:  # takes connections and never answers
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(64)
        where = f"127.0.0.1:{deaf.getsockname()[1]}"
        code, out, err = tilctl(capsys, "scan", "--bus", where, "--units", "1-3", "--timeout", "50ms", ALONE)
        assert (code, out) == (1, "")
        assert "0 of 3 units answer" in err
        deaf.setblocking(False)
        asked = 0
        while True:
            try:
                wire, _ = deaf.accept()
            except BlockingIOError:
                break
            with wire:
                wire.setblocking(False)
                asked += len(wire.recv(1000)) // 12
        assert asked == 6


def test_a_serial_line_is_scanned_and_its_instruments_tried(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    device = simulated(load_profile(TEMPLATE), serial=4711)
    with serial_line(device) as path:
        words = ("--bus", path, "--baud", "115200", "--units", "1-2", "--timeout", "0.3 s", "--json")
        code, out, _ = tilctl(capsys, "scan", *words)
        (found,) = map(json.loads, out.splitlines())
        assert (code, found["unit"], found["fits"]) == (0, 2, []), "the template is none of ours"
        site = plant.site(
            tmp_path,
            ("buses:\n", f"buses:\n  gas: {{kind: modbus-rtu, path: {path}, baud: 115200, format: 8N1}}\n"),
            ("devices:\n", f"devices:\n  mfc: {{profile: {TEMPLATE}, bus: gas, unit: 2}}\n"),
        )
        code, out, _ = tilctl(capsys, "scan", "--site", site, "--bus", "gas", "--units", "2", "--json")
        (found,) = map(json.loads, out.splitlines())
        assert (code, found["fits"], found["serial"], found["name"]) == (0, ["template"], "4711", "mfc")
        code, out, _ = tilctl(capsys, "check", "mfc", "--site", site)
        assert code == 0, out
        assert "serial number 4711, 1 settings stand" in out
        code, out, err = tilctl(capsys, "write", "mfc", "set_flow", "value=60", "--site", site, "--yes")
        assert code == 0, err
        assert device.reads("setpoint") == 60.0
        out = tilctl(capsys, "probe", "mfc", "--count", "1", "--json", "--site", site)[1]
        told = {point["point"]: point for point in json.loads(out)["points"]}
        assert told["setpoint"]["raw"] == ["4270", "0000"]
        assert told["setpoint"]["latency_ms"] > 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--bus", "127.0.0.1:1", "--units", "1-40"), 2, "40 units are more than 32"),
        (("--bus", "127.0.0.1:1", "--units", "0-3"), 2, "units are 1 to 247"),
        (("--bus", "127.0.0.1:1", "--units", "9-3"), 2, "the lower one first"),
        (("--bus", "127.0.0.1:1", "--units", "all"), 2, "no range of units"),
        (("--bus", "nowhere", "--units", "1"), 2, "no HOST:PORT"),
        (("--bus", "127.0.0.1:1", "--units", "1", "--max", "999"), 2, "--max"),
        (("--bus", "127.0.0.1:1", "--units", "1", "--timeout", "soon"), 2, "--timeout"),
        (("--bus", "127.0.0.1:1", "--units", "1"), 2, "then --no-other-master"),
        (("--bus", "127.0.0.1:1", "--units", "1", ALONE), 3, "127.0.0.1:1"),
        (("--bus", "127.0.0.1:123456", "--units", "1", ALONE), 2, "no HOST:PORT"),
        (("--bus", "/dev/ttyUSB987", "--units", "1"), 3, "/dev/ttyUSB987"),
        (("--bus", "/dev/ttyUSB987", "--units", "1", "--baud", "12345"), 2, "12345 baud"),
        (("--bus", "/dev/ttyUSB987", "--units", "1", "--format", "8X1"), 2, "8X1"),
    ],
)
def test_a_scan_has_bounds(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, says: str):
    got, out, err = tilctl(capsys, "scan", *words)
    assert (got, out) == (code, "")
    assert says in err


def test_a_unit_is_left_alone_between_requests_as_its_profile_asks(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    mine = tmp_path / "mine.yaml"
    mine.write_text(TEMPLATE.read_text().replace("gap_ms: 20 ", "gap_ms: 300 "))
    with serial_line(simulated(load_profile(mine))) as path:
        site = plant.site(
            tmp_path,
            ("buses:\n", f"buses:\n  gas: {{kind: modbus-rtu, path: {path}, baud: 115200, format: 8N1}}\n"),
            ("devices:\n", f"devices:\n  mfc: {{profile: {mine}, bus: gas, unit: 2}}\n"),
        )
        began = time.monotonic()
        code, out, _ = tilctl(capsys, "check", "mfc", "--site", site)
        assert code == 0, out
        assert "most of 5 requests" in out
        assert time.monotonic() - began >= 4 * 0.3


# --- a profile of one's own


def test_a_new_profile_is_simulated_and_commissioned(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    """What an engineer does in an afternoon: a file of their own, served, checked, read and written."""
    words = ["profile", "simulate", str(TEMPLATE), "--unit", "7"]
    with subprocess.Popen(
        [sys.executable, "-m", "tilctl.cli.main", *words], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            ready = json.loads(server.stdout.readline())
            assert ready == {
                "ready": True,
                "profile": "template",
                "host": "127.0.0.1",
                "port": ready["port"],
                "unit": 7,
            }
            assert struct.unpack(">f", ask(ready["port"], 7, 4, 0, 100, 0, 4)[2:6]) == (12.5,)
            site = plant.site(
                tmp_path,
                ("buses:\n", f"buses:\n  gas: {{kind: modbus-tcp, host: 127.0.0.1, port: {ready['port']}}}\n"),
                ("devices:\n", f"devices:\n  mfc: {{profile: {TEMPLATE}, bus: gas, unit: 7}}\n"),
            )
            code, out, err = tilctl(capsys, "check", "mfc", "--site", site)
            assert (code, err) == (0, ""), out
            assert "1 settings stand" in out
            assert tilctl(capsys, "read", "mfc", "flow", "--site", site)[1] == "mfc.flow = 12.5 mL/min (good)\n"
            code, out, err = tilctl(capsys, "write", "mfc", "set_flow", "value=200 mL/min", "--site", site, "--yes")
            assert code == 0, err
            assert struct.unpack(">f", ask(ready["port"], 7, 3, 0, 200, 0, 2)[2:]) == (200.0,)
            assert tilctl(capsys, "write", "mfc", "set_flow", "value=501", "--site", site, "--yes")[0] == 2
            code, out, _ = tilctl(capsys, "scan", "--site", site, "--bus", "gas", "--units", "5-8")
            assert out.startswith("unit 7: fits template, serial number 0, mfc in the site file")
        finally:
            server.terminate()
        assert server.wait(10) == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--unit", "0"), 2, "--unit"),
        (("--port", "70000"), 2, "--port"),
        (("--host", "192.0.2.1"), 3, "cannot listen on 192.0.2.1"),
        (("--serial", "/dev/ttyUSB987"), 3, "cannot listen on /dev/ttyUSB987"),
        (("--serial", "/dev/ttyUSB987", "--baud", "12345"), 2, "12345 baud"),
        (("--serial", "/dev/ttyUSB987", "--host", "127.0.0.1"), 2, "--host would do nothing: a serial port is named"),
        (("--pty", "--baud", "1"), 2, "--baud would do nothing: a pseudo-terminal has"),
        (("--pty", "--format", "9X9"), 2, "--format would do nothing: a pseudo-terminal has"),
        (("--port", "1502", "--baud", "9600"), 2, "--baud would do nothing: it is served on a port"),
        (("--url", "mqtt://127.0.0.1"), 2, "--url would do nothing: sim-pump speaks Modbus"),
    ],
)
def test_a_simulation_that_cannot_be_served_says_why(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, says: str
):
    assert main(["profile", "simulate", "sim-pump", *words]) == code
    assert says in capsys.readouterr().err


@pytest.mark.debian("mosquitto")
def test_a_profile_is_simulated_behind_a_broker_too(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["profile", "simulate", "shelly-gen2-plug"]) == 2
    assert "name a broker" in capsys.readouterr().err
    assert main(["profile", "simulate", "shelly-gen2-plug", "--url", "mqtt://127.0.0.1:1", "--port", "1502"]) == 2
    assert "--port would do nothing: shelly-gen2-plug speaks MQTT" in capsys.readouterr().err
    with Mosquitto(tmp_path) as broker:
        words = ["profile", "simulate", "shelly-gen2-plug", "--url", broker.url, "--prefix", "shelly-7"]
        command = [sys.executable, "-m", "tilctl.cli.main", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                assert json.loads(server.stdout.readline())["prefix"] == "shelly-7"
                where = ("-h", "127.0.0.1", "-p", str(broker.port), "-W", "10", "-C", "1")
                heard = subprocess.run(
                    ["mosquitto_sub", *where, "-t", "shelly-7/online"], capture_output=True, text=True, check=False
                )
                assert heard.stdout == "true\n"
            finally:
                server.terminate()
            assert server.wait(10) == 0


@pytest.mark.parametrize("line", ["--pty", "--rtu"])
def test_a_profile_is_simulated_on_a_line_too(capsys: pytest.CaptureFixture[str], line: str):
    words = ["profile", "simulate", "sim-pump", "--unit", "3", line]
    with subprocess.Popen(
        [sys.executable, "-m", "tilctl.cli.main", *words], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            ready = json.loads(server.stdout.readline())
            where = [ready["serial"]] if line == "--pty" else [f"127.0.0.1:{ready['port']}", "--rtu", ALONE]
            code, out, _ = tilctl(capsys, "scan", "--bus", *where, "--units", "2-3", "--timeout", "0.5 s", "--json")
            (found,) = map(json.loads, out.splitlines())
            assert (code, found["unit"], found["fits"]) == (0, 3, ["sim-pump"])
        finally:
            server.terminate()
        assert server.wait(10) == 0


# --- behind a broker


@contextmanager
def shelly(url: str) -> Iterator[None]:
    """Have a simulated plug at a broker, in a thread of its own."""
    profile = load_profile("shelly-gen2-plug")
    assert isinstance(profile, MqttProfile)
    ready, ending = threading.Event(), threading.Event()

    async def play() -> None:
        clock = SystemClock()
        plug = mqtt_simulated(profile, url, clock, "shelly-1")
        await plug.start()
        ready.set()
        await asyncio.to_thread(ending.wait)
        await plug.close()
        clock.close()

    thread = threading.Thread(target=lambda: asyncio.run(play()))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        ending.set()
        thread.join()


@pytest.mark.debian("mosquitto")
def test_an_instrument_behind_a_broker_is_tried_by_the_same_commands(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    with Mosquitto(tmp_path) as broker:
        site = plant.site(
            tmp_path,
            ("buses:\n", f'buses:\n  plugs: {{kind: mqtt, url: "{broker.url}"}}\n'),
            ("devices:\n", "devices:\n  rocker: {profile: shelly-gen2-plug, bus: plugs, prefix: shelly-1}\n"),
        )
        code, out, _ = tilctl(capsys, "check", "rocker", "--site", site)
        assert code == 1, "nobody is there yet"
        assert "nothing was heard of it yet at shelly-1" in out
        with shelly(broker.url):
            code, out, _ = tilctl(capsys, "check", "rocker", "--site", site, "--json")
            told = json.loads(out)
            assert (code, told["well"]) == (0, True), told
            assert told["serial"]
            words = ("value=true", "seconds=60")
            code, _, err = tilctl(capsys, "write", "rocker", "set", *words, "--site", site, "--yes")
            assert code == 0, err
            assert "shelly-1 on plugs" in err
            assert tilctl(capsys, "read", "rocker", "on", "--site", site)[1] == "rocker.on = true (good)\n"
            out = tilctl(capsys, "probe", "rocker", "--count", "1", "--json", "--site", site)[1]
            points = {point["point"]: point for point in json.loads(out)["points"]}
            assert points["on"]["value"] is True
            assert points["on"]["raw"] == []
        code, _, err = tilctl(capsys, "scan", "--bus", "plugs", "--units", "1", "--site", site)
        assert code == 2
        assert "plugs is a broker" in err
