"""Who we are at a broker, and how we know that it is the right one: a real Mosquitto with passwords and with TLS."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import aiomqtt
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "process"))
from mosquitto import Mosquitto

from devices.clock import SystemClock
from devices.mqtt.broker import MqttBroker
from devices.mqtt.connection import BrokerRefusedError, Connection
from devices.mqtt.login import Login, LoginError
from tilctl.cli.main import main

pytestmark = pytest.mark.debian("mosquitto", "mosquitto_passwd", "openssl")

PHRASE = "horse battery staple"


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@dataclass
class Authority:
    """A CA of ours and what it has signed; made by openssl, as a site does."""

    folder: Path
    name: str

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.ca, self._key = self.folder / f"{self.name}.pem", self.folder / f"{self.name}.key"
        new = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30")
        openssl("req", *new, "-subj", f"/CN={self.name}", "-keyout", self._key, "-out", self.ca)

    def sign(self, name: str, *, names: str = "", days: int = 10) -> tuple[Path, Path]:
        """Return a certificate and its key; `names`: of the machine that it is for, `days`: how long it is good."""
        key, request, cert = (self.folder / f"{self.name}-{name}.{kind}" for kind in ("key", "csr", "pem"))
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl("req", *new, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        extensions = self.folder / "extensions"
        extensions.write_text(f"subjectAltName={names}\n" if names else "basicConstraints=CA:FALSE\n")
        by = ("-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-extfile", extensions)
        openssl("x509", "-req", "-in", request, *by, "-days", str(days), "-out", cert)
        return cert, key


@dataclass
class Guarded:
    """A broker, and the login that it takes."""

    broker: Mosquitto
    login: Login


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("theirs"), "theirs")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, ours: Authority) -> Iterator[Guarded]:
    """Give a broker that wants a certificate, and takes its common name for the user."""
    cert, key = ours.sign("broker", names="IP:127.0.0.1")
    settings = (
        f"cafile {ours.ca}\ncertfile {cert}\nkeyfile {key}\nrequire_certificate true\nuse_identity_as_username true\n"
        f"acl_file {Path(__file__).parents[2] / 'deploy' / 'mosquitto' / 'tilctl.acl'}\n"
    )
    with Mosquitto(tmp_path_factory.mktemp("tls"), settings, "mqtts") as broker:
        yield Guarded(broker, Login("tilctl", None, ours.ca, *ours.sign("tilctl")))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Give a broker that wants a password."""
    folder = tmp_path_factory.mktemp("words")
    hashed, plain = folder / "hashed", folder / "plain"
    subprocess.run(["mosquitto_passwd", "-b", "-c", hashed, "tilctl", PHRASE], check=True, capture_output=True)
    plain.write_text(PHRASE + "\n")
    plain.chmod(0o600)
    with Mosquitto(folder, f"allow_anonymous false\npassword_file {hashed}\n") as broker:
        yield Guarded(broker, Login("tilctl", plain))


async def refusal(url: str, login: Login) -> str:
    with pytest.raises(aiomqtt.MqttError) as caught:
        async with Connection(url, "somebody", login=login):
            pass
    return str(caught.value)


async def test_a_password_lets_us_in_and_a_wrong_one_says_what_to_compare(words: Guarded, tmp_path: Path):
    async with Connection(words.broker.url, "somebody", login=words.login) as connection:
        await connection.send("here", b"1")
    wrong = tmp_path / "wrong"
    wrong.write_text("guess\n")
    wrong.chmod(0o600)
    told = await refusal(words.broker.url, replace(words.login, password_file=wrong))
    assert "refuses user tilctl" in told
    assert f"compare `user` and {wrong}" in told
    assert "guess" not in told
    with pytest.raises(BrokerRefusedError, match="it may want a password: give `user` and `password_file`"):
        async with Connection(words.broker.url, "somebody"):
            pass


async def test_a_password_that_is_mended_counts_without_a_restart(words: Guarded, tmp_path: Path):
    file = tmp_path / "password"
    file.write_text("guess\n")
    file.chmod(0o600)
    clock = SystemClock()
    broker = MqttBroker("plugs", words.broker.url, clock, identifier="ctl", login=Login("tilctl", file))
    await broker.open()
    try:
        async with asyncio.timeout(20):
            while "refuses user tilctl" not in broker.down:
                await clock.sleep(0.01)
            file.write_text(PHRASE)
            while not broker.connected:
                await clock.sleep(0.01)
    finally:
        await broker.close()
        clock.close()


async def test_both_sides_prove_themselves_by_certificate(tls: Guarded):
    async with Connection(tls.broker.url, "somebody", login=tls.login) as connection:
        assert connection.certificate["subject"] == ((("commonName", "broker"),),)
        await connection.send("til/v1/demo/suite1/status", b"1")  # the access list knows the name in the certificate
        with pytest.raises(BrokerRefusedError):
            await connection.send("til/v1/demo/suite1/cmd/desk/cell1/hold", b"1")


async def test_what_is_wrong_with_tls_is_said_with_what_to_do(tls: Guarded, theirs: Authority, ours: Authority):
    url, login = tls.broker.url, tls.login
    told = await refusal(url, replace(login, ca=theirs.ca))
    assert "the certificate of the broker" in told
    assert f"it must come from the CA in {theirs.ca}" in told
    told = await refusal(url.replace("127.0.0.1", "localhost"), login)
    assert "it is not made for localhost" in told
    told = await refusal(url, replace(login, cert=None, key=None))
    assert "it wants a certificate of ours" in told
    strange = theirs.sign("tilctl")
    told = await refusal(url, replace(login, cert=strange[0], key=strange[1]))
    assert f"{strange[0]} must come from a CA that the broker trusts" in told
    over = ours.sign("tilctl-over", days=-1)
    told = await refusal(url, replace(login, cert=over[0], key=over[1]))
    assert "expired" in told
    assert f"renew {over[0]}" in told
    told = await refusal(url.replace("mqtts", "mqtt"), login)
    assert "is this its port for TLS (mqtts://)?" in told


async def test_a_broker_whose_certificate_is_over_is_not_trusted(ours: Authority, tls: Guarded, tmp_path: Path):
    cert, key = ours.sign("late", names="IP:127.0.0.1", days=-1)
    settings = f"cafile {ours.ca}\ncertfile {cert}\nkeyfile {key}\nallow_anonymous true\n"
    with Mosquitto(tmp_path, settings, "mqtts") as broker:
        told = await refusal(broker.url, Login("tilctl", ca=ours.ca))
    assert "certificate has expired" in told
    assert "is the clock of this machine wrong?" in told


async def test_a_port_that_speaks_no_tls_is_told_from_one_that_does(words: Guarded, tls: Guarded):
    told = await refusal(words.broker.url.replace("mqtt:", "mqtts:"), tls.login)
    assert "is this its port for TLS (else mqtt://)?" in told


@pytest.mark.parametrize(
    ("spoil", "key", "text"),
    [
        (lambda login: login.password_file.unlink(), "password_file", "there is no file"),
        (lambda login: login.password_file.write_text("one\ntwo\n"), "password_file", "has 2 lines"),
        (lambda login: login.password_file.write_text(""), "password_file", "has 0 lines"),
        (lambda login: login.password_file.write_text("tilctl:$7$101$abc\n"), "password_file", "hashed"),
        (lambda login: login.password_file.chmod(0o644), "password_file", "open to everyone"),
        (lambda login: login.password_file.write_bytes(b"\xff\xfe"), "password_file", "no text in UTF-8"),
        (lambda login: login.password_file.write_text("x" * 5000), "password_file", "more than 4096 bytes"),
        (lambda login: login.ca.write_text("nothing"), "ca", "holds no certificate"),
        (lambda login: login.key.chmod(0o604), "key", "open to everyone"),
        (lambda login: login.cert.write_text("nothing"), "cert", "cannot be used"),
        (lambda login: (login.cert.unlink(), login.cert.mkdir()), "cert", "is no file"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, tls: Guarded, spoil: Callable[[Login], object], key: str, text: str):
    def copy(path: Path) -> Path:
        made = tmp_path / path.name
        made.write_bytes(path.read_bytes())
        made.chmod(0o600)
        return made

    (tmp_path / "password").write_text(PHRASE)
    login = Login("tilctl", copy(tmp_path / "password"), copy(tls.login.ca), copy(tls.login.cert), copy(tls.login.key))
    assert list(login.problems("mqtts://there")) == []
    spoil(login)
    (found,) = login.problems("mqtts://there")
    assert isinstance(found, LoginError)
    assert (found.key, text in found.what) == (key, True), found.what
    assert found.todo
    assert PHRASE not in str(found)


def test_two_of_different_pairs_are_told(tmp_path: Path, tls: Guarded, ours: Authority):
    other = ours.sign("other")
    (found,) = replace(tls.login, key=other[1]).problems("mqtts://there")
    assert "is not the key of" in found.what


# --- a site


def site(folder: Path, mqtt: str, buses: str = "") -> Path:
    text = (files("tilctl.cli") / "demo-site.yaml").read_text()
    old = 'mqtt: {url: "mqtt://127.0.0.1:1883"}'
    assert old in text
    path = folder / "site.yaml"
    path.write_text(text.replace(old, mqtt).replace("buses:\n", f"buses:\n{buses}"))
    return path


def doctor(capsys: pytest.CaptureFixture[str], path: Path) -> dict[str, tuple[str, str]]:
    capsys.readouterr()
    main(["doctor", "--site", str(path), "--json"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    return {each["check"]: (each["status"], f"{each['text']} {each['todo']}") for each in checks}


def test_the_doctor_logs_in_as_the_controller_does(capsys: pytest.CaptureFixture[str], tmp_path: Path, tls: Guarded):
    login = tls.login
    entry = f"{{url: {tls.broker.url}, tls: {{ca: {login.ca}, cert: {login.cert}, key: {login.key}}}}}"
    found = doctor(capsys, site(tmp_path, f"mqtt: {entry}", f"  plugs: {{kind: mqtt, user: tilctl, {entry[1:]}\n"))
    assert found["broker"][0] == found["bus plugs"][0] == "ok"
    status, text = found["certificates"]
    assert (status, "good until" in text) == ("warn", True), "it is over before a batch would be"
    found = doctor(capsys, site(tmp_path, f"mqtt: {{url: {tls.broker.url}, tls: {{ca: {login.ca}}}}}"))
    assert found["broker"][0] == "fail"
    assert "wants a certificate of ours" in found["broker"][1]


@pytest.mark.parametrize(
    ("entry", "where", "text"),
    [
        ("{url: mqtt://b, tls: {ca: ca.pem}}", "site.yaml:", "there are files for TLS, and mqtt://b is without"),
        ("{url: mqtts://b, tls: {cert: c.pem}}", "site.yaml:", "a certificate and its key belong together"),
        ("{url: mqtts://b, tls: {ca: none.pem}}", "site.yaml:", "there is no file"),
        ("{url: mqtt://b, password_file: none}", "site.yaml:", "there is no file"),
        ("{url: mqtt://b, password: x}", "site.yaml:", "password"),
        ("{url: 'mqtt://tilctl:x@b'}", "site.yaml:", "a name or password does not belong into the address"),
        ("{url: mqtt://b, user: 'a/b'}", "site.yaml:", "a/b"),
    ],
)
def test_a_login_that_contradicts_itself_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, entry: str, where: str, text: str
):
    status, told = doctor(capsys, site(tmp_path, f"mqtt: {entry}"))["site file"]
    assert status == "fail"
    assert where in told
    assert text in told


def test_a_password_of_instruments_wants_a_name(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "secret").write_text(PHRASE)
    (tmp_path / "secret").chmod(0o600)
    path = site(tmp_path, "mqtt: {url: mqtt://b}", "  plugs: {kind: mqtt, url: mqtt://b, password_file: secret}\n")
    assert "a password without a name" in doctor(capsys, path)["site file"][1]
