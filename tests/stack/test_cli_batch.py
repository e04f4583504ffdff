"""`tilctl batch` as it is typed, against a real broker, the real gateway and a small controller."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from devices.clock import SystemClock
from devices.mqtt.login import Login
from tilctl.cli import alarm, asking, batch, station
from tilctl.cli import interlock as interlock_command
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.main import main
from tilctl.commands.door import Door
from tilctl.commands.verbs import VERBS
from tilctl.engine.port import Command, Outcome, StoredAnswer
from tilctl.gateway.broker import EmbeddedBroker
from tilctl.gateway.connection import Connection
from tilctl.gateway.mqtt import MqttGateway
from tilctl.gateway.outbox import Outbox
from tilctl.gateway.topics import Topics

TOPICS = Topics("til/v1/here/suite7")
STATUS: dict[str, Any] = {
    "state": "running",
    "state_version": 3,
    "batch": "b1",
    "recipe": "til-22d",
    "day": 3.25,
    "operation": "rep",
    "path": "rep/static",
    "waits": [
        {
            "path": "rep/static",
            "text": "incubate until day >= 16 d and station.temperature > 36 degC",
            "operands": [
                {"name": "day", "value": 280800.0, "unit": "s", "quality": "good", "age_s": 0.0},
                {"name": "station.temperature", "value": None, "unit": "degC", "quality": "stale", "age_s": 75.0},
            ],
        }
    ],
    "alarms": [{"alarm": "warm", "priority": "high", "text": "38.1 degC", "since": "2026-01-05T08:00:00.000Z"}],
    "legal": ["pause", "hold", "stop", "abort"],
    "reason": "",
    "record": "ok",
}
PROMPT: dict[str, Any] = {
    "id": "p7",
    "kind": "sample",
    "unit": "cell7",
    "path": "rep/count",
    "text": "Sample rep: tvc, note",
    "due": "2026-01-05T12:00:00.000Z",
    "containers": [
        {"name": "cm2", "class": "bag", "place": "h1", "holds": "CM2", "limit_ml": 6000.0, "volume_ml": 4870.0}
    ],
    "from": [{"container": "rep", "place": "p1", "volume_ml": 5000.0}],
    "inputs": {
        "tvc": {
            "type": "number",
            "unit": "cells",
            "canonical": "cells",
            "min": 0.0,
            "max": 2e11,
            "label": "viable",
        },
        "clots": {"type": "choice", "choices": ["no", "few"], "label": "clots"},
        "note": {"type": "text", "optional": True, "label": ""},
    },
}


@dataclass
class SmallController:
    """What the gateway needs of a controller; answers as it is told to, once it is `free`."""

    state: dict[str, Any] = field(default_factory=lambda: dict(STATUS))
    opened: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    outcome: Outcome = field(default_factory=lambda: Outcome("done", "", "cell7 is running"))
    free: asyncio.Event = field(default_factory=asyncio.Event)
    executed: list[Command] = field(default_factory=list[Command])
    record: dict[str, StoredAnswer] = field(default_factory=dict[str, StoredAnswer])
    marks: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def units(self) -> list[str]:
        return ["cell7"]

    def status(self, unit: str) -> dict[str, Any]:
        return dict(self.state)

    def imported(self, unit: str) -> dict[str, list[str]]:
        return dict(self.marks)

    def prompts(self, unit: str) -> list[dict[str, Any]]:
        return list(self.opened)

    def known_command(self, unit: str, command_id: str) -> StoredAnswer | None:
        return self.record.get(command_id)

    async def execute(self, command: Command, accepted: Callable[[int, str], None]) -> Outcome:
        self.executed.append(command)
        accepted(len(self.executed), "digest")
        await self.free.wait()
        reply = {"status": self.outcome.status, "code": self.outcome.code, "text": self.outcome.text}
        self.record[command.id] = StoredAnswer(command.content_sha256, reply)
        return self.outcome


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  what is waited for happens in other threads
            await asyncio.sleep(0.005)


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def site(tmp_path: Path, broker: EmbeddedBroker) -> Path:
    """A site file that names the broker, other topics than the demonstration's, and the unit cell7."""
    text = (files("tilctl.cli") / "demo-site.yaml").read_text()
    for old, new in (
        ("mqtt://127.0.0.1:1883", broker.url), ("site: demo", "site: here"), ("node: suite1", "node: suite7"),
        ("  cell1:", "  cell7:"),
    ):  # fmt: skip
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return path


@pytest.fixture
async def controller(broker: EmbeddedBroker) -> AsyncIterator[SmallController]:
    """A controller that is online under TOPICS."""
    small, clock = SmallController(), SystemClock()
    small.free.set()
    door = Door(small, clock, lambda: datetime.now(UTC))
    gateway = MqttGateway(broker.url, TOPICS, door, clock, Outbox(), identity={"boot": "boot-1", "version": "0"})
    gateway.start()
    await until(lambda: gateway.connected)
    yield small
    gateway.close()
    await door.close()
    clock.close()


Said = tuple[int, str, str]


@pytest.fixture
def tilctl(capsys: pytest.CaptureFixture[str], site: Path) -> Callable[..., Any]:
    """Run `tilctl batch ... --site SITE` in a thread, for it brings a loop of its own."""

    async def typed(*words: str, command: str = "batch") -> Said:
        code = await asyncio.to_thread(main, [command, *words, "--site", str(site)])
        out, err = capsys.readouterr()
        return code, out, err

    return typed


# --- looking


async def test_status_tells_what_it_does_and_why_it_waits(tilctl: Any, controller: SmallController):
    controller.opened = [PROMPT]
    code, out, err = await tilctl("status")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "cell7 is running: batch b1, recipe til-22d, day 3.25",
        "  step     rep/static",
        "  waits    rep/static: incubate until day >= 16 d and station.temperature > 36 degC",
        "             day = 3.25 d (good)",
        "             station.temperature = unknown (stale, 75 s old)",
        "  alarms   high warm: 38.1 degC (since 2026-01-05T08:00:00.000Z)",
        "  prompts  p7 sample rep/count: Sample rep: tvc, note",
        "  next     pause, hold, stop, abort",
    ]
    assert controller.executed == []


async def test_status_of_an_idle_unit(tilctl: Any, controller: SmallController):
    controller.state = {"state": "idle", "state_version": 0, "batch": "", "day": None, "legal": ["start"]}
    assert await tilctl("status") == (0, "cell7 is idle\n  next     start\n", "")


async def test_status_in_json_is_all_that_is_known(tilctl: Any, controller: SmallController):
    controller.opened = [PROMPT]
    code, out, _ = await tilctl("status", "--json")
    assert code == 0
    assert json.loads(out) == {"unit": "cell7", **STATUS, "prompts": [PROMPT], "imported": {}}


async def test_a_record_that_failed_is_shouted(tilctl: Any, controller: SmallController):
    controller.state |= {"record": "failed"}
    assert "record   FAILED" in (await tilctl("status"))[1]


async def test_prompts_say_what_they_want_to_know(tilctl: Any, controller: SmallController):
    assert await tilctl("prompts") == (0, "cell7 asks nothing\n", "")
    controller.opened = [PROMPT]
    code, out, _ = await tilctl("prompts")
    assert code == 0
    assert out.splitlines() == [
        "p7 sample rep/count (due 2026-01-05T12:00:00.000Z)",
        "    Sample rep: tvc, note",
        "    cm2 (bag) at h1, holds CM2, 4870 mL, at most 6000 mL",
        "    from rep at p1, 5000 mL",
        "      tvc    0 cells to 2e11 cells  (viable)",
        "      clots  one of no, few",
        "      note   a text, may be left out",
        "    answer: tilctl batch answer p7 'tvc=...' 'clots=...'",
    ]
    assert json.loads((await tilctl("prompts", "--json"))[1]) == {"unit": "cell7", "batch": "b1", "prompts": [PROMPT]}


async def test_what_a_controller_says_cannot_write_to_the_terminal(tilctl: Any, controller: SmallController):
    controller.state |= {"path": "rep\x1b[2J", "reason": "a\nb\x07"}
    controller.opened = [PROMPT | {"text": "sign\x1b]0;here\nnow"}]
    controller.outcome = Outcome("refused", "not_ready", "one\ntwo\x1b[31m")
    for words in (["status"], ["prompts"], ["pause"]):
        _, out, err = await tilctl(*words)
        assert not any(ord(c) < 32 and c != "\n" for c in out + err)


# --- telling


async def test_start_carries_recipe_parameters_reason_and_name(tilctl: Any, controller: SmallController):
    words = [
        "--set",
        "tvc_floor=5e6 cells",
        "--set",
        "style = slow=er",
        "--reason",
        "now is right",
        "--client",
        "desk",
    ]
    code, out, err = await tilctl("start", "til-22d", *words)
    assert (code, out, err) == (0, "cell7: start done: cell7 is running\n", "")
    (command,) = controller.executed
    assert (command.verb, command.unit, command.client) == ("start", "cell7", "desk")
    assert command.args == {"recipe": "til-22d", "parameters": {"tvc_floor": "5e6 cells", "style": "slow=er"}}
    assert command.reason == "operator: now is right"


@pytest.mark.parametrize("verb", ["pause", "resume", "hold", "restart", "stop", "abort", "reset"])
async def test_every_command_reaches_the_controller(tilctl: Any, controller: SmallController, verb: str):
    assert (await tilctl(verb))[0] == 0
    assert [(c.verb, c.args, c.batch) for c in controller.executed] == [(verb, {}, "")]


async def test_answer_carries_the_inputs(tilctl: Any, controller: SmallController):
    code, _, _ = await tilctl("answer", "p7", "tvc=1.2e9 cells", "clots=no", "volume.pre[1]=5", "--batch", "b1")
    (command,) = controller.executed
    assert (code, command.verb, command.batch) == (0, "prompt-answer", "b1")
    assert command.args["prompt"] == "p7"
    assert command.args["inputs"] == {"tvc": "1.2e9 cells", "clots": "no", "volume.pre[1]": "5"}


async def test_json_is_the_answer_itself(tilctl: Any, controller: SmallController):
    code, out, err = await tilctl("pause", "--json", "--id", "c-1")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert (told["unit"], told["verb"], told["status"], told["correlation"]) == ("cell7", "pause", "done", "c-1")
    assert (told["journal_seq"], told["state"], told["state_version"]) == (1, "running", 3)


async def test_a_refusal_has_code_text_and_exit_code(tilctl: Any, controller: SmallController):
    controller.outcome = Outcome("refused", "illegal_state", "pause is not legal in state held")
    refused = "tilctl batch: pause was refused: illegal_state: pause is not legal in state held\n"
    assert await tilctl("pause") == (1, "", refused)
    code, out, err = await tilctl("pause", "--json")
    assert (code, err) == (1, "")
    assert json.loads(out)["code"] == "illegal_state"
    controller.outcome = Outcome("failed", "journal_failed", "nothing was done")
    assert (await tilctl("pause"))[0] == 1


async def test_what_holds_already_is_well(tilctl: Any, controller: SmallController):
    controller.outcome = Outcome("already", "", "cell7 is held already")
    assert await tilctl("hold") == (0, "cell7: hold already: cell7 is held already\n", "")


async def test_the_door_refuses_what_is_meant_for_another(tilctl: Any, controller: SmallController):
    for words, code in (
        (["pause", "--batch", "b2"], "version_mismatch"),
        (["status", "--unit", "cell8"], "unknown_unit"),
        (["start", ""], "bad_parameter"),
        (["start", "x", "--set", f"name={'x' * 2000}"], "bad_parameter"),
        (["start", "x", "--set", f"name={'x' * 70_000}"], "too_large"),
        (["start", "x", "--set", "name=\udc80"], "malformed"),
        (["pause", "--reason", "x" * 3000], "malformed"),
        (["answer", "p7", *(f"i{n}=1" for n in range(300))], "bad_answer"),
    ):
        exit_code, out, err = await tilctl(*words)
        assert (exit_code, out) == (1, ""), words[:2]
        assert f"was refused: {code}: " in err
    assert controller.executed == []


async def test_the_same_id_is_carried_out_once(tilctl: Any, controller: SmallController):
    assert [(await tilctl("pause", "--id", "c-1"))[0] for _ in range(2)] == [0, 0]
    assert len(controller.executed) == 1
    code, _, err = await tilctl("stop", "--id", "c-1")
    assert code == 1
    assert "repeated_other_content" in err


async def test_two_terminals_of_one_name_do_not_cut_each_other_off(
    tilctl: Any, controller: SmallController, site: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []

    class Counted(Connection):
        def __init__(self, url: str, identifier: str, **given: Any) -> None:
            made.append(identifier)
            super().__init__(url, identifier, **given)

    monkeypatch.setattr("tilctl.gateway.client.Connection", Counted)
    controller.free.clear()
    waiting = asyncio.create_task(asyncio.to_thread(main, ["batch", "hold", "--site", str(site)]))
    await until(lambda: controller.executed)
    assert [(await tilctl("status"))[0] for _ in range(3)] == [0, 0, 0]
    controller.free.set()
    assert await waiting == 0
    assert len(made) == len(set(made)) == 4


# --- nobody there


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_without_a_broker_it_ends_in_time_and_says_what_to_look_at(tilctl: Any):
    loop = asyncio.get_running_loop()
    url, began = f"mqtt://127.0.0.1:{free_port()}", loop.time()
    code, out, err = await tilctl("hold", "--url", url, "--timeout", "0.5")
    assert (code, out) == (3, "")
    assert loop.time() - began < 5
    assert "refused" in err
    assert url in err
    assert "is it running" in err


async def test_without_a_controller_it_says_so(tilctl: Any):
    code, _, err = await tilctl("status", "--node", "here/suite8", "--timeout", "0.5")
    assert code == 3
    assert "the broker is there, the controller is not" in err
    assert "til/v1/here/suite8" in err


async def test_a_controller_that_does_not_answer_leaves_the_id_to_repeat(tilctl: Any, controller: SmallController):
    controller.free.clear()
    code, _, err = await tilctl("hold", "--id", "c-9", "--timeout", "1")
    assert code == 3
    assert "hold c-9 was not answered" in err
    assert "once begun it goes on by itself" in err
    assert "--id c-9" in err
    assert "is not known" in err


async def test_what_makes_safe_is_given_the_time_that_silent_instruments_take(
    tilctl: Any, controller: SmallController, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(asking, "TIMEOUT_S", 0.4)
    controller.free.clear()
    assert (await tilctl("pause"))[0] == 3
    asyncio.get_running_loop().call_later(0.8, controller.free.set)
    code, _, err = await tilctl("hold")
    assert code == 0, err


# --- alarms


async def test_alarms_are_listed_with_what_a_person_needs(tilctl: Any, controller: SmallController):
    shelved = {"by": "anna", "reason": "door open\x1b[2J", "until": "2026-01-05T09:00:00.000Z"}
    alarms = [
        {"alarm": "warm", "priority": "high", "text": "38.1 degC", "since": "2026-01-05T08:00:00.000Z",
         "state": "latched_acknowledged", "by": "ben", "help": {"action": "look at the door"}, "aside": {}},
        {"alarm": "room", "priority": "low", "text": "cold", "since": "2026-01-05T08:00:00.000Z",
         "state": "unacknowledged", "aside": {"shelved": shelved}},
    ]  # fmt: skip
    controller.state |= {"alarms": alarms}
    code, out, err = await tilctl("list", "--unit", "cell7", command="alarm")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "cell7  high     warm: 38.1 degC",
        "    latched acknowledged by ben, since 2026-01-05T08:00:00.000Z",
        "    action       look at the door",
    ]
    code, out, _ = await tilctl("list", "--all", "--json", command="alarm")
    assert {unit: len(found) for unit, found in json.loads(out)["units"].items()} == {"cell7": 2, "site": 2}
    _, out, _ = await tilctl("list", "--all", "--unit", "site", command="alarm")
    assert "shelved by anna until 2026-01-05T09:00:00.000Z: door open" in out
    assert "\x1b" not in out
    controller.state |= {"alarms": []}
    assert (await tilctl("list", command="alarm"))[1] == "no alarms\n"


async def test_what_people_do_to_alarms_reaches_the_controller_as_it_was_meant(
    tilctl: Any, controller: SmallController
):
    who = ("--reason", "probe out", "--as", "ben:technician")
    assert (await tilctl("ack", "*", "--unit", "site", command="alarm"))[0] == 0
    assert (await tilctl("shelve", "warm", "--for", "20 min", "--once", *who, command="alarm"))[0] == 0
    assert (await tilctl("oos", "warm", "--work-order", "W17", *who, command="alarm"))[0] == 0
    assert (await tilctl("return", "warm", *who, command="alarm"))[0] == 0
    assert (await tilctl("reset", "warm", command="alarm"))[0] == 0
    assert [(each.verb, each.unit, dict(each.args)) for each in controller.executed] == [
        ("ack", "site", {"alarm": "*"}),
        ("shelve", "cell7", {"alarm": "warm", "for_": "20 min", "once": True}),
        ("out-of-service", "cell7", {"alarm": "warm", "work_order": "W17"}),
        ("in-service", "cell7", {"alarm": "warm"}),
        ("alarm-reset", "cell7", {"alarm": "warm"}),
    ]
    assert "ben" in controller.executed[2].actor
    assert controller.executed[1].reason == "operator: probe out"
    controller.outcome = Outcome("refused", "not_shelvable", "warm is critical")
    code, _, err = await tilctl("shelve", "warm", "--for", "1 h", "--reason", "x", command="alarm")
    assert (code, "not_shelvable" in err) == (1, True)


# --- bad input, before anything is sent


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["start", "x", "--set", "tvc_floor"], "expected name=value"),
        (["start", "x", "--set", "=5"], "expected name=value"),
        (["start", "x", "--set", "a=1", "--set", "a=2"], "a is given twice"),
        (["answer", "p1", "tvc"], "expected name=value"),
        (["pause", "--client", "a/b"], "--client"),
        (["pause", "--client", "#"], "--client"),
        (["pause", "--client", "desk\n"], "--client"),
        (["pause", "--unit", "+"], "--unit"),
        (["pause", "--unit", ""], "--unit"),
        (["pause", "--node", "here"], "SITE/NODE"),
        (["pause", "--node", "here/#"], "SITE/NODE"),
        (["pause", "--url", "http://127.0.0.1"], "mqtt://host:1883"),
        (["pause", "--url", "mqtt://127.0.0.1:99999"], "--url"),
        (["pause", "--id", "a b"], "--id"),
        (["pause", "--id", ""], "--id"),
    ],
)
async def test_bad_input_is_2_and_names_the_option(tilctl: Any, words: list[str], says: str):
    code, out, err = await tilctl(*words)
    assert (code, out) == (2, "")
    assert says in err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dance"],
        ["start"],
        ["answer"],
        ["status", "--timeout", "0"],
        ["status", "--timeout", "nan"],
        ["status", "x"],
    ],
)
def test_wrong_usage_is_2(words: list[str]):
    with pytest.raises(SystemExit) as ended:
        main(["batch", *words])
    assert ended.value.code == 2


def test_a_site_file_that_is_wrong_is_2(capsys: pytest.CaptureFixture[str], site: Path):
    site.write_text(site.read_text() + "nonsense: 1\n")
    for path in (site, site.with_name("none.yaml"), site.parent):
        assert main(["batch", "status", "--site", str(path)]) == 2
        assert f"{path}:" in capsys.readouterr().err


def test_a_site_of_two_units_wants_to_know_which():
    target = station.Target("mqtt://127.0.0.1:1883", TOPICS, "desk", ("cell7", "cell8"), Login("desk"))
    assert station.unit_of(target, "cell8") == "cell8"
    with pytest.raises(CommandFailed, match="--unit; the site file has cell7, cell8") as failed:
        station.unit_of(target, None)
    assert failed.value.code is Exit.BAD_INPUT


def test_every_verb_of_the_command_line_is_one_of_the_door():
    told = {"prompt-answer" if verb == "answer" else verb for verb in batch.COMMANDS} | {"status", "events"}
    told |= {"interlock-reset" if verb == "reset" else verb for verb in interlock_command.COMMANDS}
    told |= {alarm._VERB.get(verb, verb) for verb in alarm.VERBS} | {"correct"}
    assert told == set(VERBS)


# --- interlocks

INTERLOCK: dict[str, Any] = {
    "unit": "cell7", "name": "too_hot", "kind": "interlock", "state": "latched", "unknown": False, "latched": True,
    "since": "2026-01-05T08:00:00.000Z", "condition": "station.temperature > 39 degC",
    "operands": [{
        "name": "station.temperature", "value": 37.04, "unit": "degC", "quality": "good", "age_s": 2, "limit": ""
    }],
    "outputs": ["incubator: cut_heater"], "help": {"action": "look\nat it"}, "text": "", "priority": "critical",
    "may_bypass": True, "reset": "manual",
    "bypass": {
        "by": "anna", "role": "quality", "second": "ben", "second_role": "quality", "reason": "probe", "until": "soon"
    },
}  # fmt: skip


@pytest.fixture
def interlock(capsys: pytest.CaptureFixture[str], site: Path) -> Callable[..., Any]:
    async def typed(*words: str) -> Said:
        code = await asyncio.to_thread(main, ["interlock", *words, "--site", str(site)])
        out, err = capsys.readouterr()
        return code, out, err

    return typed


async def test_interlocks_are_listed_with_what_they_see(interlock: Any, controller: SmallController):
    controller.state["interlocks"] = [INTERLOCK]
    code, out, err = await interlock("list")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "cell7/too_hot: interlock, latched since 2026-01-05T08:00:00.000Z",
        "  when      station.temperature > 39 degC",
        "  sees      station.temperature = 37.04 degC (good, 2 s old)",
        "  acts on   incubator: cut_heater",
        "  bypassed  until soon by anna (quality) and ben (quality): probe",
        "  action    look at it",
    ]
    code, out, _ = await interlock("list", "--json")
    assert json.loads(out) == {"unit": "cell7", "interlocks": [INTERLOCK]}


async def test_a_bypass_names_both_persons_its_reason_and_its_end(interlock: Any, controller: SmallController):
    words = (
        "too_hot",
        "--as",
        "anna:process_engineer",
        "--second",
        "b:x:quality",
        "--for",
        "30 min",
        "--reason",
        "drift",
    )
    assert (await interlock("bypass", *words))[0] == 0
    (command,) = controller.executed
    assert (command.verb, command.user, command.role, command.reason) == (
        "bypass", "anna", "process_engineer", "operator: drift"
    )  # fmt: skip
    assert command.args == {"interlock": "too_hot", "lasts": "30 min", "second": {"user": "b:x", "role": "quality"}}


async def test_reset_and_unbypass_reach_the_controller_and_a_no_is_told(interlock: Any, controller: SmallController):
    assert (await interlock("reset", "too_hot", "--as", "anna:operator"))[0] == 0
    controller.outcome = Outcome("refused", "unknown_interlock", "there is none")
    code, _, err = await interlock("unbypass", "too_cold")
    assert (code, err) == (1, "tilctl interlock: unbypass was refused: unknown_interlock: there is none\n")
    assert [(c.verb, c.args, c.user) for c in controller.executed] == [
        ("interlock-reset", {"interlock": "too_hot"}, "anna"), ("unbypass", {"interlock": "too_cold"}, "")
    ]  # fmt: skip
    assert (await interlock("reset", "too_hot", "--as", "anna"))[0] == 2


# --- the ledger


async def test_the_ledger_is_shown_beside_what_the_scales_say(tilctl: Any, controller: SmallController):
    row = {"name": "cm4[2]", "place": "h2", "volume_ml": 4100.0, "limit_ml": 6000.0, "expected_g": 4150.5}
    controller.state["ledger"] = {
        "containers": [
            {**row, "weighed_g": 4148.0, "off_g": -2.5},
            {**row, "name": "x", "weighed_g": None, "off_g": None},
        ],
        "accounts": {"line media": 4.0},
        "forecast": ["cm4[2] holds 4.1 L, the rest of the recipe takes 4.6 L from it"],
    }
    code, out, err = await tilctl("show", command="ledger")
    assert (code, err) == (0, "")
    first, second = out.splitlines()[1:3]
    assert first.split() == ["cm4[2]", "h2", "4100", "mL", "6000", "mL", "4150.5", "g", "4148", "g", "-2.5", "g"]
    assert second.split()[-2:] == ["-", "-"]
    assert "line media" in out
    assert "rest of the recipe: cm4[2] holds 4.1 L" in out
    code, out, _ = await tilctl("show", "--json", command="ledger")
    assert json.loads(out)["accounts"] == {"line media": 4.0}
    controller.state["ledger"] = {}
    assert "no ledger" in (await tilctl("show", command="ledger"))[1]


async def test_a_correction_carries_two_people_and_a_reason(tilctl: Any, controller: SmallController):
    words = ["correct", "pre[2]", "--change=-12 mL", "--reason", "spilled", "--as", "anna:operator"]
    code, out, _ = await tilctl(*words, "--second", "ben:verifier", command="ledger")
    assert (code, out) == (0, "cell7: correct done: cell7 is running\n")
    (command,) = controller.executed
    assert (command.actor, command.reason) == ("anna (operator)", "operator: spilled")
    second = {"user": "ben", "role": "verifier"}
    assert command.args == {"container": "pre[2]", "volume": "", "change": "-12 mL", "second": second}
    code, _, err = await tilctl(*words, "--second", "ben", command="ledger")
    assert code == 2
    assert "expected USER:ROLE" in err


# --- results

AWAITED = PROMPT | {"results": ["tvc"], "inputs": {"tvc": PROMPT["inputs"]["tvc"]}, "asked": "2026-01-05T08:00:00.000Z"}
LOT = {
    "batch": "b0",
    "path": "end/lot",
    "outcome": "conditional",
    "pending": ["count.sterility"],
    "prompts": [
        {
            "id": "p4",
            "path": "end/count",
            "asked": "2026-01-01T08:00:00.000Z",
            "results": ["sterility"],
            "inputs": {"sterility": {"type": "choice", "choices": ["pending", "growth", "no_growth"]}},
        }
    ],
}
ROWS = """step,result,value,unit,time,analyst
rep/count,tvc,4.5e9,cells,2026-01-05T09:00:00Z,Anna
end/count,sterility,no_growth,,2026-01-05T09:00:00Z,Anna
"""


async def test_results_that_are_awaited_are_listed(tilctl: Any, controller: SmallController):
    assert await tilctl("list", command="results") == (0, "no results are awaited\n", "")
    controller.opened, controller.state["lots"] = [AWAITED], [LOT]
    code, out, _ = await tilctl("list", command="results")
    assert code == 0
    assert out.splitlines() == [
        "cell7  b1  p7 rep/count: tvc; since 2026-01-05T08:00:00.000Z, due 2026-01-05T12:00:00.000Z",
        "cell7  b0 (closed)  p4 end/count: sterility; since 2026-01-01T08:00:00.000Z",
    ]
    code, out, _ = await tilctl("list", "--batch", "b0", "--json", command="results")
    assert [row["prompt"]["id"] for row in json.loads(out)["awaited"]] == ["p4"]


async def test_a_file_of_results_is_imported_once(tilctl: Any, controller: SmallController, tmp_path: Path):
    controller.opened, controller.state["lots"] = [AWAITED], [LOT]
    path = tmp_path / "lab.csv"
    path.write_text(ROWS.replace("4.5e9,cells", "4.5e9,mL"))
    code, out, err = await tilctl("import", str(path), command="results")
    assert (code, out) == (2, "")
    assert f"{path}:2: value: tvc:" in err
    assert f"{path}: nothing was sent" in err
    assert controller.executed == [], "all of it, or nothing"
    path.write_text(ROWS)
    code, out, _ = await tilctl("import", str(path), "--dry-run", command="results")
    assert (code, "nothing was sent" in out, controller.executed) == (0, True, [])
    code, out, _ = await tilctl("import", str(path), "--as", "anna:analyst", command="results")
    assert (code, out.splitlines()[-1]) == (0, "2 rows answered 2 questions")
    first, second = controller.executed
    assert (first.verb, first.batch, first.args["inputs"]) == ("prompt-answer", "b1", {"tvc": "4.5e9 cells"})
    assert (second.batch, second.args["batch"], second.args["prompt"]) == ("", "b0", "p4")
    assert second.args["reported"]["sterility"]["analyst"] == "Anna"
    assert second.actor == "anna (analyst)"
    controller.opened = []
    marks = [each["row"] for c in controller.executed for each in c.args["reported"].values()]
    controller.marks = {"b1": marks[:1], "b0": marks[1:]}
    code, out, _ = await tilctl("import", str(path), command="results")
    assert (code, out) == (0, "all 2 rows were imported before: nothing was sent\n")
    assert len(controller.executed) == 2


async def test_a_lot_of_a_closed_batch_is_answered_by_name(tilctl: Any, controller: SmallController):
    controller.outcome = Outcome("refused", "no_prompt", "no open prompt 'p9' of b0")
    code, _, err = await tilctl("answer", "b0", "p9", "sterility=growth", command="results")
    assert (code, err) == (1, "tilctl results: answer was refused: no_prompt: no open prompt 'p9' of b0\n")
    assert controller.executed[0].args["batch"] == "b0"


async def test_a_file_that_is_not_there(tilctl: Any, controller: SmallController):
    code, _, err = await tilctl("import", "/nowhere.csv", command="results")
    assert (code, err) == (2, "tilctl results: /nowhere.csv: No such file or directory\n")
