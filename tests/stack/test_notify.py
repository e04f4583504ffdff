"""People are told: real webhooks and a real mail server, ways that are dead, silent or refuse, and the site file."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

sys.path.insert(0, str(Path(__file__).parent))
from notify_servers import Hook, Post, mail_server, webhook

from devices.document import DocumentError
from devices.mqtt.login import Login
from tilctl.cli.exits import Exit
from tilctl.cli.main import main
from tilctl.config import Site, load_site
from tilctl.config.site import Mail
from tilctl.gateway import notify_send
from tilctl.gateway.notify_send import DeliveryError, EMail, Sender, Way, Webhook
from tilctl.gateway.notify_words import trial_body

DEPLOY = Path(__file__).parents[2] / "deploy" / "site.yaml"
DEMO = Path(str(resources.files("tilctl.cli").joinpath("demo-site.yaml")))
BODY = trial_body("shift", {"site": "demo", "node": "suite1"}, "boot-1", datetime(2026, 3, 1, tzinfo=UTC))
PHRASE = "horse battery staple"


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as served:
        yield served


def until(condition: Callable[[], Any], what: str, within: float = 10.0) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within:g} s: {what}"
        time.sleep(0.005)


def secret(folder: Path, text: str = PHRASE) -> Path:
    path = folder / "secret"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def refusal(way: Way) -> str:
    with pytest.raises(DeliveryError) as caught:
        way.deliver(BODY)
    text = str(caught.value)
    assert "SECRET" not in text
    assert PHRASE not in text
    return text


# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_a_webhook_gets_the_message_as_json_with_its_token(hook: Hook, tmp_path: Path) -> None:
    Webhook(hook.url, Login("", secret(tmp_path))).deliver(BODY)
    assert hook.bodies == [json.loads(json.dumps(BODY))]
    assert hook.paths == ["/alarms?key=SECRET"]
    assert hook.heads[0]["Content-Type"] == "application/json"
    assert hook.heads[0]["Authorization"] == f"Bearer {PHRASE}"
    Webhook(hook.url, Login()).deliver(BODY)
    assert "Authorization" not in hook.heads[1]


@pytest.mark.parametrize("status", [301, 307, 401, 404, 500])
def test_only_what_is_taken_is_taken(hook: Hook, status: int) -> None:
    hook.status = status
    assert refusal(Webhook(hook.url, Login())) == f"it answers HTTP {status}"
    assert hook.paths == ["/alarms?key=SECRET"], "nothing is followed elsewhere"


def test_a_webhook_that_is_not_there_or_says_nothing(hook: Hook, tmp_path: Path) -> None:
    assert "refused" in refusal(Webhook(f"http://127.0.0.1:{closed_port()}/x?SECRET", Login()))
    assert "no file" in refusal(Webhook(hook.url, Login("", tmp_path / "none")))
    hook.stall = threading.Event()
    assert refusal(Webhook(hook.url, Login(), timeout=0.1)) == "no answer in time"
    hook.stall.set()


@pytest.mark.debian("openssl")
def test_https_is_believed_only_with_a_certificate_that_can_be_trusted(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(["openssl", "req", *words, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    with webhook((cert, key)) as hook:
        Webhook(hook.url, Login(ca=cert)).deliver(BODY)
        assert "cannot be trusted" in refusal(Webhook(hook.url, Login()))
        other = hook.url.replace("localhost", "127.0.0.1")
        assert "cannot be trusted" in refusal(Webhook(other, Login(ca=cert))), "it is of another name"
        assert len(hook.bodies) == 1
    assert ssl.OPENSSL_VERSION


# --- e-mail -----------------------------------------------------------------------------------------------------------


def test_a_mail_server_gets_the_message_in_plain_text(tmp_path: Path) -> None:
    with mail_server(Post(PHRASE)) as post:
        mail = Mail("127.0.0.1", post.port, "none", "tilctl@lab.example", Login("robot", secret(tmp_path)))
        EMail(mail, "ops@lab.example").deliver(BODY)
    (sent,) = post.mails
    assert post.users == ["robot"]
    assert post.envelopes == [("FROM:<tilctl@lab.example>", "TO:<ops@lab.example>")]
    assert (sent["From"], sent["To"]) == ("tilctl@lab.example", "ops@lab.example")
    assert sent["Subject"] == "[demo/suite1] test: low: site test: " + BODY["first"]["text"][: 100 - 2].rstrip()
    assert "Nothing is wrong" in sent.get_content()
    assert sent["Auto-Submitted"] == "auto-generated"


def test_a_mail_server_that_refuses_says_nothing_of_what_it_was_given(tmp_path: Path) -> None:
    with mail_server(Post("another")) as post:
        mail = Mail("127.0.0.1", post.port, "none", "tilctl@lab.example", Login("robot", secret(tmp_path)))
        assert refusal(EMail(mail, "ops@lab.example")) == "it refuses our name or password (SMTP 535)"
        post.password, post.refuse_to = PHRASE, True
        assert refusal(EMail(mail, "ops@lab.example")) == "it refuses the address of the person"
        plain = Mail("127.0.0.1", post.port, "starttls", "tilctl@lab.example")
        assert "mail server" in refusal(EMail(plain, "ops@lab.example")), "without TLS nothing is handed over"
    assert post.mails == []
    gone = Mail("127.0.0.1", post.port, "tls", "tilctl@lab.example")
    assert "refused" in refusal(EMail(gone, "ops@lab.example"))


# --- the thread -------------------------------------------------------------------------------------------------------


class Told:
    """A sender, and how often it told of itself."""

    def __init__(self, way: Way, retry_s: float = 0.01) -> None:
        self.changes = 0
        self.sender = Sender("shift", way, self._changed, retry_s)

    def _changed(self) -> None:
        self.changes += 1

    def __enter__(self) -> Sender:
        self.sender.start()
        return self.sender

    def __exit__(self, *_: object) -> None:
        self.sender.close()


def body(number: int) -> dict[str, Any]:
    return {**BODY, "id": str(number)}


def test_what_could_not_be_delivered_is_tried_again_in_order(hook: Hook) -> None:
    hook.status = 503
    told = Told(Webhook(hook.url, Login()))
    with capture_logs() as logs, told as sender:
        for number in range(3):
            sender.put(body(number))
        until(lambda: len(hook.bodies) >= 3, "it is tried again")
        assert sender.failing_s > 0
        assert sender.why == "it answers HTTP 503"
        hook.status, hook.bodies[:] = 200, []
        until(lambda: sender.counts["delivered"] == 3, "all are delivered")
        assert [each["id"] for each in hook.bodies][-3:] == ["0", "1", "2"]
        assert (sender.failing_s, sender.why, sender.waiting) == (0.0, "", 0)
    assert told.changes >= 5
    assert "SECRET" not in str(logs)
    assert {entry["event"] for entry in logs} == {"not_delivered", "delivered"}


def test_a_dead_way_neither_blocks_nor_grows() -> None:
    told = Told(Webhook(f"http://127.0.0.1:{closed_port()}/x", Login()), retry_s=60.0)
    with told as sender:
        begun = time.perf_counter()
        for number in range(500):
            sender.put(body(number))
        assert time.perf_counter() - begun < 0.5
        until(lambda: sender.counts["retried"] == 1, "it was tried")
        assert sender.waiting <= notify_send.QUEUE
        assert sender.counts["dropped"] >= 500 - notify_send.QUEUE - 1


def test_one_that_is_never_taken_keeps_no_later_one_waiting(hook: Hook) -> None:
    hook.status = 413
    with Told(Webhook(hook.url, Login()), retry_s=60.0) as sender:
        sender.put(body(1))
        until(lambda: sender.counts["dropped"] == 1, "it is given up")
        assert (sender.waiting, sender.why) == (0, "it answers HTTP 413")
        assert sender.failing_s > 0, "the person was not told"
        hook.status = 200
        sender.put(body(2))
        until(lambda: sender.counts["delivered"] == 1, "the next one is delivered at once")
    assert [each["id"] for each in hook.bodies] == ["1", "2"]


def test_what_is_too_old_is_given_up_and_the_way_stays_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify_send, "EXPIRES_S", 0.0)
    with Told(Webhook(f"http://127.0.0.1:{closed_port()}/x", Login())) as sender:
        sender.put(body(1))
        until(lambda: sender.counts["expired"] == 1, "it is given up")
        assert sender.waiting == 0
        assert sender.failing_s > 0, "nobody knows that the person can be told again"


def test_whatever_a_way_comes_to_the_next_message_is_tried() -> None:
    class Odd:
        channel, host, tries = "webhook", "odd", 0

        def deliver(self, body: object) -> None:
            self.tries += 1
            if self.tries == 1:
                raise RuntimeError("SECRET")

    with capture_logs() as logs, Told(Odd()) as sender:
        sender.put(body(1))
        until(lambda: sender.counts["delivered"] == 1, "it is delivered after all")
    assert "SECRET" not in str(logs)


def test_closing_waits_for_nobody_who_says_nothing(hook: Hook) -> None:
    hook.stall = threading.Event()
    told = Told(Webhook(hook.url, Login(), timeout=0.3))
    told.sender.start()
    told.sender.put(body(1))
    begun = time.monotonic()
    told.sender.close()
    assert time.monotonic() - begun < notify_send.CLOSE_WITHIN_S + 1.0
    hook.stall.set()
    told.sender._thread.join(5.0)


# --- the site file ----------------------------------------------------------------------------------------------------

PEOPLE = """
notify:
  repeat: 5 min
  escalate: 10 min
  batch: yes
  ca: ca.pem
  people:
    - {name: shift, levels: [critical, high, medium], webhook: "https://hooks.lab.example/x", token_file: hook.token}
    - {name: on_call, email: ops@lab.example, escalation: 1}
  email: {host: mail.lab.example, from: tilctl@lab.example, user: tilctl, password_file: mail.password}
"""


def load(folder: Path, text: str, *, logins: bool = False) -> Site:
    path = folder / "site.yaml"
    path.write_text(DEMO.read_text() + text)
    return load_site(path, logins=logins)


def test_people_of_a_site_file(tmp_path: Path) -> None:
    notify = load(tmp_path, PEOPLE).notify
    assert (notify.repeat, notify.escalate, notify.batch) == (300.0, 600.0, True)
    shift, on_call = notify.people
    assert (shift.levels, shift.escalation, shift.token.password_file) == (
        ("critical", "high", "medium"), 0, tmp_path / "hook.token",
    )  # fmt: skip
    assert (on_call.levels, on_call.escalation, on_call.email) == (("critical", "high"), 1, "ops@lab.example")
    assert notify.mail is not None
    assert (notify.mail.port, notify.mail.tls, notify.mail.login.user) == (587, "starttls", "tilctl")
    assert {name: [way.channel for way in ways] for name, ways in notify_send.ways_of(notify).items()} == {
        "shift": ["webhook"], "on_call": ["email"],
    }  # fmt: skip
    assert load(tmp_path, "").notify.people == (), "nobody is told where nobody is named"


def test_the_example_of_the_shipped_site_file_is_one(tmp_path: Path) -> None:
    lines = DEPLOY.read_text().splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("#   notify:"))
    end = next(n for n in range(begin, len(lines)) if not lines[n].startswith("#"))
    notify = load(tmp_path, "\n" + "\n".join(line[4:] for line in lines[begin:end]) + "\n").notify
    assert [person.name for person in notify.people] == ["shift", "on_call"]


WRONG = (
    ("repeat: 5 min", "repeat: 5 s", "not between 1 min and 24 h"),
    ("escalate: 10 min", "escalate: 10 degC", "expected time in s"),
    ("https://hooks.lab.example/x", "http://hooks.lab.example/SECRET", "for everybody to read"),
    ("https://hooks.lab.example/x", "https://me:SECRET@hooks.lab.example/", "does not belong into the address"),
    ("https://hooks.lab.example/x", "ftp://hooks.lab.example/SECRET", "no address of a webhook"),
    ("https://hooks.lab.example/x", "https://hooks.lab.example:99999/SECRET", "no address of a webhook"),
    ("https://hooks.lab.example/x", "https:///SECRET", "no address of a webhook"),
    ("https://hooks.lab.example/x", "https://hooks.lab.example/a SECRET", "no address of a webhook"),
    ('webhook: "https://hooks.lab.example/x", ', "", "there is no way to tell shift"),
    ("email: ops@lab.example", "email: ops", "no address"),
    ("email: ops@lab.example", 'email: "a@b.c\\nBcc: x@y.z"', "no address"),
    ("from: tilctl@lab.example", "from: tilctl", "no address"),
    ("name: on_call", "name: shift", "is there twice"),
    ("escalation: 1", "escalation: 1, levels: [low]", "would never be told"),
    ("levels: [critical, high, medium]", "levels: [critical], escalation: 2", "nobody is told at once"),
    (", user: tilctl", "", "belong together"),
    ("from: tilctl@lab.example", "from: tilctl@lab.example, tls: none", "as it is"),
    ("  email: {host: mail.lab.example, from: tilctl@lab.example, user: tilctl, password_file: mail.password}\n", "",
     "there is no server for e-mail"),
    ("host: mail.lab.example", 'host: ""', "no name or address of a host"),
)  # fmt: skip


def test_what_is_wrong_is_said_with_its_place_and_without_what_may_be_secret(tmp_path: Path) -> None:
    for old, new, what in WRONG:
        assert old in PEOPLE
        with pytest.raises(DocumentError) as caught:
            load(tmp_path, PEOPLE.replace(old, new, 1))
        text = str(caught.value)
        assert what in text, (new, text)
        assert "SECRET" not in text, new
        assert all(each.line > 1 for each in caught.value.diagnostics), text
    load(tmp_path, PEOPLE.replace("https://hooks.lab.example/x", "http://127.0.0.1:8080/x"))


def test_files_that_prove_us_are_looked_at_by_who_needs_them(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, PEOPLE, logins=True)
    assert {"hook.token", "mail.password", "ca.pem"} <= {
        name for name in ("hook.token", "mail.password", "ca.pem") if name in str(caught.value)
    }
    (tmp_path / "hook.token").write_text("x\n")
    (tmp_path / "hook.token").chmod(0o644)
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, PEOPLE, logins=True)
    assert "is open to everyone" in str(caught.value)


# --- trying it --------------------------------------------------------------------------------------------------------


def test_a_test_message_to_each_person(tmp_path: Path, hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    with mail_server(Post()) as post:
        site = tmp_path / "site.yaml"
        dead = f"http://127.0.0.1:{closed_port()}/SECRET"
        people = f"""
notify:
  people:
    - {{name: shift, webhook: "{hook.url}"}}
    - {{name: on_call, email: ops@lab.example, escalation: 1}}
    - {{name: nobody, webhook: "{dead}"}}
  email: {{host: 127.0.0.1, port: {post.port}, tls: none, from: tilctl@lab.example}}
"""
        site.write_text(DEMO.read_text() + people)
        assert main(["alarm", "test-notify", "--site", str(site), "--json"]) == Exit.NOT_WELL
        sent = json.loads(capsys.readouterr().out)["sent"]
        assert [(each["to"], each["delivered"]) for each in sent] == [
            ("shift", True), ("on_call", True), ("nobody", False),
        ]  # fmt: skip
        assert main(["alarm", "test-notify", "--site", str(site), "--to", "shift"]) == Exit.OK
        out = capsys.readouterr().out
        assert "shift" in out
        assert "SECRET" not in out
    assert [each["kind"] for each in hook.bodies] == ["test", "test"]
    assert len(post.mails) == 1
    assert main(["alarm", "test-notify", "--site", str(site), "--to", "anna"]) == Exit.BAD_INPUT
    site.write_text(DEMO.read_text())
    assert main(["alarm", "test-notify", "--site", str(site)]) == Exit.BAD_INPUT
    assert "nobody is told of alarms" in capsys.readouterr().err
