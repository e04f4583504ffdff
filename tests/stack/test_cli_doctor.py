"""`tilctl doctor` as it is typed: real ports, a real broker, real files; each thing that may be wrong is found."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from devices.clock import SystemClock
from devices.mqtt.login import Login
from tilctl import __version__
from tilctl.cli.examining import machine, reachable
from tilctl.cli.main import main
from tilctl.cli.run import only_one
from tilctl.config import Bus, load_site
from tilctl.gateway.broker import EmbeddedBroker
from tilctl.journal.events import SiteOpened
from tilctl.journal.site import SiteJournal

BUSES = {"climate": 5020, "fluidics": 5021, "weighing": 5022, "freezing": 5023}
Checks = dict[str, list[dict[str, str]]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def listening() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield int(server.getsockname()[1])


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    with ExitStack() as stack:
        yield {bus: stack.enter_context(listening()) for bus in BUSES}


@pytest.fixture
def text(ports: dict[str, int], broker: EmbeddedBroker) -> str:
    """A site whose buses and broker are there."""
    text = (files("tilctl.cli") / "demo-site.yaml").read_text()
    for bus, port in BUSES.items():
        text = text.replace(f"port: {port}", f"port: {ports[bus]}")
    return text.replace("mqtt://127.0.0.1:1883", broker.url).replace("port: 9464", f"port: {free_port()}")


def write(folder: Path, text: str, *changes: tuple[str, str]) -> Path:
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "site.yaml").write_text(text)
    return folder / "site.yaml"


def doctor(capsys: pytest.CaptureFixture[str], site: Path, *words: str) -> tuple[int, Checks]:
    capsys.readouterr()
    code = main(["doctor", "--site", str(site), "--json", *words])
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is (code == 0)
    found: Checks = {}
    for each in told["checks"]:
        found.setdefault(each["check"], []).append(each)
    return code, found


def failed(found: Checks) -> set[str]:
    return {name for name, each in found.items() for one in each if one["status"] == "fail"}


def test_a_site_that_has_all_it_needs(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str):
    code, found = doctor(capsys, write(tmp_path, text))
    assert failed(found) == set()
    assert code == 0
    assert set(found) == {
        "site file", "lock", "data", "disk", "record", "clock", "broker", "certificates", "http",
        "bus climate", "bus fluidics", "bus weighing", "bus freezing",
        "profile sim-incubator", "profile sim-pump", "profile sim-valves", "profile sim-scales", "profile sim-freezer",
    }  # fmt: skip
    assert "takes connections" in found["bus climate"][0]["text"]
    assert found["broker"][0]["status"] == "ok"
    assert not (tmp_path / "data").exists(), "looking makes nothing"


def test_every_line_says_how_it_is_and_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, ports: dict[str, int]
):
    site = write(tmp_path, text, (f"port: {ports['climate']}", f"port: {free_port()}"))
    assert main(["doctor", "--site", str(site)]) == 1
    lines = capsys.readouterr().out.splitlines()
    bad = next(line for line in lines if "bus climate" in line)
    assert bad.startswith("fail  bus climate: 127.0.0.1:")
    assert "Connection refused" in bad
    assert "-> check power, cable, address and port" in bad
    assert all(line[:6] in ("ok    ", "warn  ", "fail  ") for line in lines[:-1])
    assert lines[-1].startswith(f"{len(lines) - 1} checks: 1 failed, ")


def test_a_site_file_that_does_not_load(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str):
    site = write(tmp_path, text, ("time_zone: Etc/UTC", "time_zone: Atlantis"), ("node: suite1", "nod: suite1"))
    code, found = doctor(capsys, site)
    assert (code, set(found)) == (1, {"site file"})
    assert any("site.yaml:" in each["text"] and "nod" in each["text"] for each in found["site file"])
    assert main(["doctor", "--site", str(tmp_path / "none.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_evidence_is_judged_more_strictly_for_gmp(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str):
    mine = (files("devices") / "profiles" / "sim-incubator.yaml").read_text()

    def judged(evidence: str, checks: str, *words: str) -> dict[str, str]:
        changed = mine.replace("evidence: simulated", f"evidence: {evidence}\n  open_checks: [{checks}]")
        (tmp_path / "mine.yaml").write_text(changed)
        site = write(tmp_path, text, ("profile: sim-incubator", f"profile: {tmp_path / 'mine.yaml'}"))
        return doctor(capsys, site, *words)[1]["profile sim-incubator"][0]

    for evidence, plain, gmp in (
        ("simulated", "warn", "fail"),
        ("driver", "warn", "fail"),
        ("manual", "warn", "fail"),
        ("manual+driver", "ok", "fail"),
        ("bench", "ok", "ok"),
    ):
        assert (judged(evidence, "")["status"], judged(evidence, "", "--gmp")["status"]) == (plain, gmp), evidence
    open_one = judged("manual+driver", "the word order of co2")
    assert open_one["status"] == "warn"
    assert "open: the word order of co2" in open_one["text"]
    assert "(incubator)" in open_one["text"]


def test_beside_a_running_controller_no_instrument_is_disturbed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
):
    site = write(tmp_path, text)
    with only_one(load_site(site)):
        code, found = doctor(capsys, site)
    assert code == 0
    assert found["lock"][0]["text"] == "a controller runs on this data"
    assert found["bus climate"][0]["status"] == "warn"
    assert "was not tried" in found["bus climate"][0]["text"]
    assert found["http"][0]["status"] == "warn", "nobody is at its port"
    code, found = doctor(capsys, site)
    assert found["lock"][0]["text"] == "no controller runs on this data"
    assert found["bus climate"][0]["status"] == "ok"


def test_a_port_that_another_has_is_found(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str):
    with listening() as port:
        taken = text.replace("http: {host: 127.0.0.1, port: ", f"http: {{host: 127.0.0.1, port: {port}}} # ")
        assert taken != text
        code, found = doctor(capsys, write(tmp_path, taken))
        assert (code, failed(found)) == (1, {"http"})
        with only_one(load_site(tmp_path / "site.yaml")):
            assert doctor(capsys, tmp_path / "site.yaml")[1]["http"][0]["status"] == "ok"


def test_a_data_folder_that_takes_no_file_is_found(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str):
    (tmp_path / "data").write_text("somebody's file")
    code, found = doctor(capsys, write(tmp_path, text))
    assert code == 1
    assert {"data", "lock"} & failed(found)
    proc = text.replace("data: data", "data: /proc/tilctl")  # takes nothing, whoever asks
    code, found = doctor(capsys, write(tmp_path, proc))
    assert "data" in failed(found)
    assert "/proc" in found["data"][0]["text"]


def test_a_record_that_is_broken_or_of_another_site_is_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
):
    path = tmp_path / "data" / "site.db"

    async def make(site: str) -> None:
        clock = SystemClock()
        journal = await SiteJournal.create(path, clock, SiteOpened(site, "suite1", __version__))
        await journal.close()
        clock.close()

    site = write(tmp_path, text)
    asyncio.run(make("demo"))
    code, found = doctor(capsys, site)
    assert (code, found["record"][0]["text"]) == (0, "intact, 1 events")
    path.write_bytes(path.read_bytes()[:700])
    assert failed(doctor(capsys, site)[1]) == {"record"}
    path.unlink()
    asyncio.run(make("elsewhere"))
    code, found = doctor(capsys, site)
    assert failed(found) == {"record"}
    assert "not of site demo" in found["record"][0]["text"]


# --- brokers


def test_a_broker_that_is_not_there_or_is_none_is_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, broker: EmbeddedBroker
):
    code, found = doctor(capsys, write(tmp_path, text, (broker.url, f"mqtt://127.0.0.1:{free_port()}")))
    assert (code, failed(found)) == (1, {"broker"})
    assert "efused" in found["broker"][0]["text"]
    with listening() as port:  # it listens, and does not speak MQTT
        code, found = doctor(capsys, write(tmp_path, text, (broker.url, f"mqtt://127.0.0.1:{port}")))
    assert (code, failed(found)) == (1, {"broker"})


@pytest.mark.debian("mosquitto")
def test_mosquitto_takes_us_in_or_says_why_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, broker: EmbeddedBroker
):
    port = free_port()
    (tmp_path / "password").write_text("")
    rules = {
        "open": "allow_anonymous true\n",
        "closed": f"allow_anonymous false\npassword_file {tmp_path / 'password'}\n",
    }
    for name, rule in rules.items():
        (tmp_path / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nuser root\n{rule}")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        process = subprocess.Popen([program, "-c", str(tmp_path / "mosquitto.conf")], stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 10
            while time.monotonic() < end:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            code, found = doctor(capsys, write(tmp_path, text, (broker.url, f"mqtt://127.0.0.1:{port}")))
        finally:
            process.terminate()
            process.wait(10)
        if name == "open":
            assert (code, found["broker"][0]["status"]) == (0, "ok")
        else:
            assert (code, failed(found)) == (1, {"broker"})
            assert "uthori" in found["broker"][0]["text"]


def test_the_way_to_a_broker_is_judged():
    now, named = datetime(2026, 1, 5, tzinfo=UTC), Login("tilctl")

    def judged(url: str, login: Login, ends: str = "") -> tuple[str, str]:
        found = reachable.security(url, login, {"notAfter": ends}, now)
        assert found.check == "certificates"
        return found.status, found.text

    assert judged("mqtt://127.0.0.1:1883", named)[0] == judged("mqtt://localhost", named)[0] == "ok"
    status, text = judged("mqtt://broker.lab:1883", named)
    assert (status, "not encrypted: nobody is authenticated" in text) == ("warn", True)
    status, text = judged("mqtt://broker.lab:1883", Login("tilctl", Path("secret")))
    assert (status, "a password crosses it in the clear" in text) == ("warn", True)
    assert judged("mqtts://broker.lab", named, "Feb 17 00:00:00 2026 GMT")[0] == "ok"
    status, text = judged("mqtts://broker.lab", named, "Feb 15 00:00:00 2026 GMT")
    assert (status, "good until 2026-02-15" in text) == ("warn", True), "a batch would outlive it"


# --- this machine


def test_a_clock_that_is_not_synchronised_fails_for_gmp_only():
    assert machine.clock(True, gmp=True).status == "ok"
    assert [machine.clock(False, gmp=gmp).status for gmp in (False, True)] == ["warn", "fail"]
    assert machine.clock(None, gmp=True).status == "warn"


def serial(path: Path | str, adapters: Path) -> list[tuple[str, str, str]]:
    bus = Bus("line1", "modbus-rtu", path=str(path), baud=9600, format="8N1")
    return [(each.status, each.text, each.todo) for each in machine.serial_port(bus, adapters)]


def test_a_serial_port_is_looked_at(tmp_path: Path):
    master, slave = os.openpty()
    try:
        path = Path(os.ttyname(slave))
        assert [found[0] for found in serial(path, tmp_path)] == ["ok"]
        link = tmp_path / "by-id"
        link.symlink_to(path)
        adapter = tmp_path / path.name
        adapter.mkdir()
        (adapter / "latency_timer").write_text("16\n")
        (ok, (status, text, todo)) = serial(link, tmp_path)
        assert (ok[0], status) == ("ok", "warn")
        assert "latency timer is 16 ms" in text
        assert "udev" in todo
        (adapter / "latency_timer").write_text("1\n")
        assert [found[0] for found in serial(path, tmp_path)] == ["ok", "ok"]
        (adapter / "latency_timer").write_text("fast\n")
        assert [found[0] for found in serial(path, tmp_path)] == ["ok", "warn"]
    finally:
        os.close(master)
        os.close(slave)


def test_a_serial_port_that_is_not_there_or_is_none_fails(tmp_path: Path):
    ((status, text, todo),) = serial("/dev/ttyUSB987", tmp_path)
    assert status == "fail"
    assert "No such file" in text
    assert "by-id" in todo
    (tmp_path / "file").write_text("")
    ((status, text, _),) = serial(tmp_path / "file", tmp_path)
    assert status == "fail"
    assert "no serial port" in text


def test_a_site_with_a_serial_line_is_checked_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str):
    mine = (
        (files("devices") / "profiles" / "sim-incubator.yaml").read_text().replace("kinds: [tcp]", "kinds: [tcp, rtu]")
    )
    (tmp_path / "mine.yaml").write_text(mine)
    changes = [
        ("buses:\n", "buses:\n  line1: {kind: modbus-rtu, path: /dev/ttyUSB987, baud: 9600, format: 8N1}\n"),
        ("devices:\n", f"devices:\n  other: {{profile: {tmp_path / 'mine.yaml'}, bus: line1, unit: 3}}\n"),
    ]
    code, found = doctor(capsys, write(tmp_path, text, *changes))
    assert (code, failed(found)) == (1, {"serial line1"})


def test_calibrations_are_told_of_before_they_end(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str):
    today = datetime.now(UTC).date()

    def judged(made: date, expires: date) -> str:
        entry = f"{{what: tubing, points: [[10 rpm, 5 mL/min]], made: {made}, by: anna, expires: {expires}}}"
        site = write(tmp_path, text, ("buses:\n", f"calibrations:\n  tube: [{entry}]\nbuses:\n"))
        return doctor(capsys, site)[1]["calibration tube"][0]["status"]

    day = timedelta(days=1)
    assert judged(today - 30 * day, today + 90 * day) == "ok"
    assert judged(today - 30 * day, today + 5 * day) == "warn"
    assert judged(today - 30 * day, today - 2 * day) == "fail"
    assert judged(today + 2 * day, today + 90 * day) == "fail"
