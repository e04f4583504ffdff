"""What `deploy/` ships works as shipped: broker, access list, scrape configuration, service unit, site file."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import aiomqtt
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from cell import TILCTL, Cell, free_port, tilctl, until

from devices.mqtt.connection import BrokerRefusedError
from devices.mqtt.login import Login
from tilctl.cli import run
from tilctl.cli.exits import Exit
from tilctl.commands.verbs import VERBS
from tilctl.config import CONTROLLER, load_site
from tilctl.gateway.connection import Connection
from tilctl.gateway.topics import Topics
from tilctl.journal.verify import read

USER = CONTROLLER.user
ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TOPICS = Topics("til/v1/demo/suite1")
SECURITY_LIMIT = 20  # exposure of the service times ten, as systemd-analyze counts it
PEOPLE = "anna", "bert"

# --- the broker -------------------------------------------------------------------------------------------------------


class Shipped:
    """Mosquitto with the shipped configuration; only ports, places and the account are those of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        (folder / "kept").mkdir()
        self.text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text()
        self.replace("/etc/mosquitto/tilctl.acl", str(DEPLOY / "mosquitto" / "tilctl.acl"))
        self.replace("/var/lib/mosquitto/", f"{folder}/kept/")
        self.replace("/run/mosquitto/mosquitto.pid", f"{folder}/mosquitto.pid")
        self.replace("log_dest syslog", f"log_dest file {folder}/mosquitto.log")
        self.replace("listener 1883 127.0.0.1", f"listener {self.port} 127.0.0.1")
        self._process: subprocess.Popen[bytes] | None = None

    def replace(self, what: str, by: str) -> None:
        assert self.text.count(what) == 1, what
        self.text = self.text.replace(what, by)

    def start(self) -> None:
        path = self.folder / "mosquitto.conf"
        path.write_text(f"user root\n{self.text}")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self._process = subprocess.Popen([program, "-c", str(path)], stderr=subprocess.DEVNULL)
        until(self._listens, f"mosquitto with {path}", within=5.0)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Shipped]:
    shipped = Shipped(tmp_path)
    shipped.start()
    yield shipped
    shipped.stop()


async def may_write(broker: Shipped, user: str | None, topic: str) -> bool:
    async with Connection(broker.url, f"writer-{user}", login=Login(user or "")) as connection:
        try:
            await connection.send(topic, b"{}")
        except BrokerRefusedError:
            return False
    return True


async def heard_by(broker: Shipped, user: str | None, said: list[tuple[str, str]]) -> set[str]:
    """Return which topics reach a user that asks for everything; `said` has who publishes where."""
    heard: set[str] = set()
    async with Connection(broker.url, "listener", login=Login(user or "")) as listener:
        await listener.listen(["til/v1/#"])
        for speaker, topic in [
            *said,
            (USER, TOPICS.status),
        ]:  # the last one is for everyone: all before it was heard
            assert await may_write(broker, speaker, topic), (speaker, topic)
        async for message in listener.messages:
            if str(message.topic) == TOPICS.status:
                return heard
            heard.add(str(message.topic))
    return heard


@pytest.mark.debian("mosquitto")
async def test_a_client_commands_under_its_own_name_only(broker: Shipped) -> None:
    for user in PEOPLE:
        for name in (*PEOPLE, USER):
            for verb in VERBS:
                topic = TOPICS.command(name, "cell1", verb)
                assert await may_write(broker, user, topic) is (user == name), f"{user} at {topic}"
    assert not await may_write(broker, None, TOPICS.command("anna", "cell1", "hold"))
    assert not await may_write(broker, USER, TOPICS.command("anna", "cell1", "hold")), "the controller commands nobody"


def said_by_the_controller() -> list[str]:
    return [
        TOPICS.head, TOPICS.run("cell1"), TOPICS.phase("cell1", "rep/medium"), TOPICS.events("cell1"),
        TOPICS.telemetry("plant", "scales.mass_1"), TOPICS.alarm("cell1", "warm"), TOPICS.prompt("cell1", "p7"),
        TOPICS.alarm_events("site"), TOPICS.notify("site"),
    ]  # fmt: skip


@pytest.mark.debian("mosquitto")
async def test_only_the_controller_says_how_things_are(broker: Shipped) -> None:
    for topic in (*said_by_the_controller(), TOPICS.status, TOPICS.reply("anna", "1")):
        assert await may_write(broker, USER, topic), topic
        for user in (*PEOPLE, None):
            assert not await may_write(broker, user, topic), f"{user} at {topic}"


@pytest.mark.debian("mosquitto")
async def test_everyone_may_look_and_answers_are_for_those_who_asked(broker: Shipped) -> None:
    public = said_by_the_controller()
    said = [(USER, topic) for topic in public]
    said += [(USER, TOPICS.reply(name, "1")) for name in PEOPLE]
    said += [(name, TOPICS.command(name, "cell1", "status")) for name in PEOPLE]
    assert await heard_by(broker, None, said) == set(public)
    assert await heard_by(broker, "anna", said) == {*public, TOPICS.reply("anna", "1")}
    commands = {TOPICS.command(name, "cell1", "status") for name in PEOPLE}
    assert await heard_by(broker, USER, said) == commands | set(public), "and commands are for the controller"


@pytest.mark.debian("mosquitto")
async def test_what_is_retained_outlives_the_broker(broker: Shipped) -> None:
    async with Connection(broker.url, "writer", login=CONTROLLER) as connection:
        await connection.send(TOPICS.status, b'{"status":"online"}', retain=True)
    broker.stop()
    broker.start()
    async with Connection(broker.url, "reader") as connection:
        await connection.listen([TOPICS.status])
        message: aiomqtt.Message = await anext(aiter(connection.messages))
    assert message.payload == b'{"status":"online"}'
    assert message.retain


def envelope(client: str, verb: str, command_id: str, args: dict[str, str]) -> str:
    now = datetime.now(UTC)
    body = {"specversion": "1.0", "id": command_id, "source": client, "type": f"til.cmd.{verb}.v1", "subject": "cell1"}
    times = {"time": now.isoformat(), "exp": (now + timedelta(seconds=60)).isoformat()}
    return json.dumps({**body, **times, "data": {"args": args}})


def ask(broker: Shipped, user: str, client: str, verb: str, command_id: str, **args: str) -> dict[str, str]:
    """Send a command as a person would by hand; {} where no answer comes."""
    where, back = TOPICS.command(client, "cell1", verb), TOPICS.reply(client, command_id)
    words = ["mosquitto_rr", "-p", str(broker.port), "-u", user, "-q", "1", "-W", "3", "-t", where, "-e", back]
    words += ["-m", envelope(client, verb, command_id, args)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    return json.loads(done.stdout) if done.stdout else {}


def answered(folder: Path) -> set[str]:
    """Return the ids of the commands that the site's record knows, refused ones too."""
    records, verdict = read(folder / "data" / "site.db")
    assert verdict.ok
    kinds = ("command_answered", "command_refused")
    return {getattr(record.event, "command_id", "") for record in records if record.event.kind in kinds}


@pytest.mark.debian("mosquitto", "mosquitto_rr")
def test_a_batch_is_started_by_hand_and_not_under_a_strange_name(broker: Shipped, tmp_path: Path) -> None:
    with Cell(tmp_path, broker.url) as cell:
        cell.start_controller()
        until(lambda: ask(broker, "bert", "bert", "status", "look").get("status") == "done", "the controller answers")
        assert ask(broker, "bert", "anna", "start", "strange", recipe="quick") == {}
        assert cell.records() == [], "the strange command came nowhere"
        first = ask(broker, "anna", "anna", "start", "by-hand", recipe="quick")
        assert (first["status"], first["correlation"]) == ("accepted", "by-hand")
        until(lambda: "by-hand" in answered(tmp_path), "the start is answered")
        assert ask(broker, "anna", "anna", "start", "by-hand", recipe="quick")["status"] == "done", "not a second start"
        until(lambda: cell.has("prompt_answered"), "the operator answers its first prompt by MQTT, through the list")
        assert cell.command("hold")["status"] == "done"
        held = [r.event for r in cell.records() if r.event.kind == "command_received" and r.event.verb == "hold"]
        assert [command.client for command in held] == ["operator"]
        assert "strange" not in answered(tmp_path)


def certificate(folder: Path, name: str, *, authority: bool = False) -> tuple[Path, Path]:
    """Make a key and a certificate for a common name, signed by `ca` of the folder, or by itself."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(cert)]
    if not authority:
        words += ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key")]
        words += ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(words, check=True, capture_output=True, timeout=20)
    return key, cert


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """Give the port of the shipped TLS listener, its comment signs taken off."""
    certificate(tmp_path, "ca", authority=True)
    broker_key, broker_cert = certificate(tmp_path, "localhost")
    broker, port = Shipped(tmp_path), free_port()
    head, tls, tail = broker.text.partition("# listener 8883")
    broker.text = head + re.sub(r"^# ", "", tls + tail, flags=re.MULTILINE)
    broker.replace("listener 8883", f"listener {port} 127.0.0.1")
    broker.replace("/etc/mosquitto/ca_certificates/stations.pem", str(tmp_path / "ca.pem"))
    broker.replace("/etc/mosquitto/certs/broker.pem", str(broker_cert))
    broker.replace("/etc/mosquitto/certs/broker.key", str(broker_key))
    broker.start()
    yield port
    broker.stop()


@pytest.mark.debian("mosquitto", "mosquitto_pub", "openssl")
def test_the_tls_listener_knows_people_by_their_certificates(tmp_path: Path, tls_port: int) -> None:
    words = ["mosquitto_pub", "-V", "5", "-q", "1", "-h", "localhost", "-p", str(tls_port), "-m", "{}"]
    words += ["--cafile", str(tmp_path / "ca.pem"), "-t", TOPICS.command("anna", "cell1", "hold")]

    def publish(*more: str) -> str:
        done = subprocess.run([*words, *more], capture_output=True, text=True, timeout=20, check=False)
        return done.stdout + done.stderr

    papers = {name: certificate(tmp_path, name) for name in PEOPLE}
    anna, bert = (("--key", str(papers[name][0]), "--cert", str(papers[name][1])) for name in PEOPLE)
    assert publish(*anna) == ""
    assert "Not authorized" in publish(*bert)
    assert "Not authorized" in publish(*bert, "-u", "anna"), "a name that is only claimed counts nothing here"
    assert publish() != "", "nobody comes in without a certificate"


@pytest.mark.debian("mosquitto", "openssl")
def test_controller_and_stations_prove_themselves_by_certificate(tmp_path: Path, tls_port: int) -> None:
    for name in (USER, *PEOPLE):
        certificate(tmp_path, name)
    text, port = (DEPLOY / "site.yaml").read_text(), free_port()
    plain = 'mqtt: {url: "mqtt://127.0.0.1:1883"}'
    assert plain in text
    entry = (
        f"mqtt:\n  url: mqtts://localhost:{tls_port}\n  tls: {{ca: ca.pem, cert: tilctl.pem, key: tilctl.key}}\n"
        "  stations: {anna: {cert: anna.pem, key: anna.key}, bert: {cert: anna.pem, key: anna.key}}"
    )
    site = tmp_path / "site.yaml"
    site.write_text(text.replace(plain, entry).replace("port: 9464", f"port: {port}"))
    with (tmp_path / "run.log").open("w") as log:
        controller = subprocess.Popen([*TILCTL, "run", "--site", str(site)], stdout=log, stderr=log)
    try:
        done = tilctl("batch", "status", "--site", site, "--client", "anna", "--timeout", "30")
        assert done.returncode == Exit.OK, done.stderr + (tmp_path / "run.log").read_text()
        done = tilctl("batch", "status", "--site", site, "--client", "bert", "--timeout", "3")
        assert done.returncode == Exit.UNAVAILABLE, "with the certificate of another nobody is heard"
        done = tilctl("batch", "status", "--site", site, "--client", "carl", "--timeout", "3")
        assert done.returncode == Exit.UNAVAILABLE
        assert "it wants a certificate of ours" in done.stderr
    finally:
        controller.terminate()
        assert controller.wait(timeout=30) == 0


# --- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.debian("promtool")
def test_prometheus_takes_the_scrape_configuration() -> None:
    path = DEPLOY / "prometheus.yml"
    words = ["promtool", "check", "config", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = load_site(DEPLOY / "site.yaml")
    static = yaml.safe_load(path.read_text())["scrape_configs"][0]["static_configs"][0]
    assert static["targets"] == [f"{site.http_host}:{site.http_port}"]
    assert static["labels"] == {"site": site.name, "node": site.node}


# --- service and site -------------------------------------------------------------------------------------------------


def unit_file() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "tilctl.service").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_the_service_starts_what_there_is() -> None:
    (command,) = unit_file()["ExecStart"]
    program, verb, *options = shlex.split(command)
    assert (Path(program).name, verb) == ("tilctl", "run")
    parser = argparse.ArgumentParser(exit_on_error=False)
    run.arguments(parser)
    given = parser.parse_args(options)
    assert given.site == Path("/etc/tilctl/site.yaml")
    assert given.recipes == [Path("/etc/tilctl/recipes")]
    assert unit_file()["ConfigurationDirectory"] == ["tilctl tilctl/recipes"]
    (never,) = unit_file()["RestartPreventExitStatus"]
    assert [int(code) for code in never.split()] == [Exit.BAD_INPUT, Exit.RECORD]


@pytest.mark.debian("systemd-analyze")
def test_systemd_takes_the_service_and_finds_little_to_expose(tmp_path: Path) -> None:
    program = shutil.which("tilctl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program is not None
    text = (DEPLOY / "tilctl.service").read_text()
    assert text.count("/opt/tilctl/bin/tilctl") == 1
    path = tmp_path / "tilctl.service"
    path.write_text(text.replace("/opt/tilctl/bin/tilctl", program))
    limit = f"--threshold={SECURITY_LIMIT}"
    for words in (["verify"], ["security", "--offline=yes", "--no-pager", limit]):
        done = subprocess.run(
            ["systemd-analyze", *words, str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        if words == ["verify"]:
            assert done.stdout + done.stderr == "", "an option that systemd does not know is only a warning"


def test_the_service_may_ask_whether_the_clock_is_synchronised() -> None:
    """A filter that refuses the question leaves the answer unknown, and what hangs on it does nothing."""
    filters = unit_file()["SystemCallFilter"]
    assert "ProtectClock" not in unit_file(), "it refuses the question too"
    assert filters.index("~@privileged @resources") < filters.index("adjtimex clock_adjtime"), "the last one counts"
    assert unit_file()["CapabilityBoundingSet"] == [""], "nobody sets the clock by it"


def test_the_site_file_is_that_of_the_demonstration_without_its_short_cuts() -> None:
    site = load_site(DEPLOY / "site.yaml")
    demo = load_site(Path(str(files("tilctl.cli") / "demo-site.yaml")))
    for part in ("name", "node", "buses", "devices", "units", "shared"):
        assert getattr(site, part) == getattr(demo, part), part
    assert not site.scheduled_commands, "an answer may carry its own time in a rehearsal only"
    assert demo.scheduled_commands
    assert site.data == DEPLOY / "data"
