"""The command door before a small in-memory controller: one id, one execution, and an answer for every command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devices.clock import SystemClock
from tilctl.commands.door import MAX_UNDER_WAY, MAX_WAITERS, Door, Refusal, Reply
from tilctl.commands.envelope import RawCommand
from tilctl.engine.port import Command, Outcome, StoredAnswer

NOW = datetime(2026, 1, 5, 8, 0, 10, tzinfo=UTC)


@dataclass
class SmallController:
    """Records what it is asked; a command is finished by `release`, or at once."""

    at_once: bool = True
    state: str = "running"
    version: int = 3
    outcome: Outcome = field(default_factory=lambda: Outcome("done"))
    executed: list[Command] = field(default_factory=list[Command])
    record: dict[str, StoredAnswer] = field(default_factory=dict[str, StoredAnswer])
    released: asyncio.Event = field(default_factory=asyncio.Event)
    fault: Exception | None = None

    def units(self) -> list[str]:
        return ["cell1"]

    def status(self, unit: str) -> dict[str, Any]:
        assert unit == "cell1"
        return {"state": self.state, "state_version": self.version, "batch": "b1"}

    def imported(self, unit: str) -> dict[str, list[str]]:
        return {}

    def prompts(self, unit: str) -> list[dict[str, Any]]:
        return []

    def known_command(self, unit: str, command_id: str) -> StoredAnswer | None:
        return self.record.get(command_id)

    async def execute(self, command: Command, accepted: Callable[[int, str], None]) -> Outcome:
        self.executed.append(command)
        if self.fault is not None:
            raise self.fault
        accepted(len(self.executed), "digest")
        if not self.at_once:
            await self.released.wait()
        answer = {"status": self.outcome.status, "code": self.outcome.code, "text": self.outcome.text, "journal_seq": 1}
        self.record[command.id] = StoredAnswer(command.content_sha256, answer)
        return self.outcome


class Desk:
    """One station: sends commands through the door and keeps the answers."""

    def __init__(self, controller: SmallController, *, scheduled: bool = False) -> None:
        self.refusals: list[Refusal] = []
        self.now = NOW
        self.clock = SystemClock()
        self.door = Door(
            controller,
            self.clock,
            lambda: self.now,
            scheduled=scheduled,
            on_refusal=self.refusals.append,
        )

    def send(
        self,
        verb: str = "pause",
        command_id: str = "c-1",
        *,
        answer: Callable[[Reply], None] | None = None,
        **data: Any,
    ) -> list[Reply]:
        replies: list[Reply] = []
        self.door.submit(message(verb, command_id, **data), answer or replies.append)
        return replies

    async def idle(self) -> None:
        await until(lambda: not self.door.under_way)


def message(
    verb: str, command_id: str, *, unit: str = "cell1", args: dict[str, Any] | None = None, **data: Any
) -> RawCommand:
    content = {
        "specversion": "1.0",
        "id": command_id,
        "source": "desk",
        "type": f"til.cmd.{verb}.v1",
        "subject": unit,
        "time": "2026-01-05T08:00:00Z",
        "exp": "2026-01-05T08:00:30Z",
        "data": {"args": args or {}, **data},
    }
    return RawCommand("desk", unit, verb, json.dumps(content).encode())


@pytest.fixture
async def controller() -> SmallController:
    return SmallController()


@pytest.fixture
async def desk(controller: SmallController) -> AsyncIterator[Desk]:
    desk = Desk(controller)
    yield desk
    await desk.door.close()
    desk.clock.close()


async def test_a_command_is_accepted_and_then_done(desk: Desk, controller: SmallController):
    replies = desk.send()
    await desk.idle()
    assert [r.status for r in replies] == ["accepted", "done"]
    assert {r.correlation for r in replies} == {"c-1"}
    assert [r.journal_seq for r in replies] == [1, 1]
    assert replies[1].state_version == 3
    assert len({r.body()["id"] for r in replies}) == 2
    assert len(controller.executed) == 1


async def test_a_repetition_after_the_end_gets_the_stored_answer_and_runs_nothing(
    desk: Desk, controller: SmallController
):
    controller.outcome = Outcome("refused", "illegal_state", "not while held")
    first = desk.send()
    await desk.idle()
    again = desk.send()
    assert [(r.status, r.code, r.text) for r in again] == [("refused", "illegal_state", "not while held")]
    assert (again[0].status, again[0].code) == (first[-1].status, first[-1].code)
    assert len(controller.executed) == 1


async def test_a_repetition_meanwhile_waits_for_the_same_end(desk: Desk, controller: SmallController):
    controller.at_once = False
    first = desk.send()
    await until(lambda: bool(first))
    again = desk.send()
    assert [r.status for r in again] == ["accepted"]
    controller.released.set()
    await desk.idle()
    assert [r.status for r in again] == [r.status for r in first] == ["accepted", "done"]
    assert len(controller.executed) == 1


async def test_many_repetitions_of_one_command_do_not_pile_up(desk: Desk, controller: SmallController):
    controller.at_once = False
    piles = [desk.send() for _ in range(100)]
    await until(lambda: bool(piles[0]))
    controller.released.set()
    await desk.idle()
    assert sum(1 for pile in piles if pile and pile[-1].status == "done") == MAX_WAITERS
    assert len(controller.executed) == 1


async def test_a_repetition_is_answered_even_when_it_is_stale_by_now(desk: Desk):
    desk.send()
    await desk.idle()
    desk.now = datetime(2026, 1, 6, tzinfo=UTC)
    assert [r.status for r in desk.send()] == ["done"]
    assert [r.code for r in desk.send(command_id="c-2")] == ["expired"]


@pytest.mark.parametrize("hours", [-2, 2])
async def test_a_hold_is_heard_whatever_the_clocks_say(desk: Desk, controller: SmallController, hours: int):
    desk.now += timedelta(hours=hours)
    replies = desk.send("hold")
    await desk.idle()
    assert [r.status for r in replies] == ["accepted", "done"]
    for verb in ("stop", "abort"):
        (refused,) = desk.send(verb, command_id=f"c-{verb}")
        assert refused.code == ("expired" if hours > 0 else "not_yet_valid")
        assert "a hold is heard whatever the clocks say" in refused.text
    assert [c.verb for c in controller.executed] == ["hold"]


async def test_an_id_is_never_used_for_two_commands(desk: Desk, controller: SmallController):
    controller.at_once = False
    first = desk.send("pause")
    meanwhile = desk.send("hold")
    controller.released.set()
    await desk.idle()
    afterwards = desk.send("hold")
    assert [r.code for r in (*meanwhile, *afterwards)] == ["repeated_other_content"] * 2
    assert first[-1].status == "done"
    assert [c.verb for c in controller.executed] == ["pause"]


async def test_a_command_that_a_dead_process_only_accepted_is_carried_out_when_it_comes_again(
    desk: Desk, controller: SmallController
):
    desk.send()
    await desk.idle()
    controller.record["c-1"] = StoredAnswer(
        controller.record["c-1"].content_sha256, {"status": "accepted", "journal_seq": 9}
    )
    replies = desk.send()
    await desk.idle()
    assert [r.status for r in replies] == ["accepted", "done"]
    assert len(controller.executed) == 2, "nobody would ever carry it out otherwise"
    again = desk.send()
    await desk.idle()
    assert [r.status for r in again] == ["done"]
    assert len(controller.executed) == 2


@pytest.mark.parametrize("verb", ["pause", "resume", "restart", "stop", "reset", "prompt-answer"])
@pytest.mark.parametrize("expect", [{"state": "held"}, {"state_version": 2}])
async def test_a_command_from_an_old_screen_is_refused(
    desk: Desk, controller: SmallController, verb: str, expect: dict[str, Any]
):
    replies = desk.send(verb, expect=expect, args={"prompt": "p1"} if verb == "prompt-answer" else None)
    await desk.idle()
    assert [r.code for r in replies] == ["version_mismatch"]
    assert controller.executed == []
    assert [r.code for r in desk.refusals] == ["version_mismatch"]


@pytest.mark.parametrize("verb", ["hold", "abort"])
async def test_hold_and_abort_are_right_on_any_screen(desk: Desk, controller: SmallController, verb: str):
    replies = desk.send(verb, expect={"state": "idle", "state_version": 1})
    await desk.idle()
    assert replies[-1].status == "done"


async def test_a_command_for_another_batch_is_refused_and_hold_is_not(desk: Desk, controller: SmallController):
    aborted = desk.send("abort", "c-1", batch="old")
    held = desk.send("hold", "c-2", batch="old")
    await desk.idle()
    assert [r.code for r in aborted] == ["version_mismatch"]
    assert held[-1].status == "done"


async def test_protective_commands_find_room_where_others_are_refused(desk: Desk, controller: SmallController):
    controller.at_once = False
    for index in range(MAX_UNDER_WAY):
        desk.send("pause", f"p-{index}")
    refused = desk.send("pause", "p-last")
    heard = {verb: desk.send(verb, f"{verb}-1") for verb in ("hold", "stop", "abort")}
    await until(lambda: all(heard.values()))
    assert [r.code for r in refused] == ["busy"]
    assert all(replies[0].status == "accepted" for replies in heard.values())
    controller.released.set()
    await desk.idle()
    assert desk.send("pause", "p-last2") == []
    await desk.idle()


async def test_an_unknown_unit_is_refused_with_the_known_ones(desk: Desk, controller: SmallController):
    replies: list[Reply] = []
    desk.door.submit(message("hold", "c-1", unit="cell9"), replies.append)
    assert (replies[0].code, replies[0].state) == ("unknown_unit", None)
    assert "cell1" in replies[0].text
    assert controller.executed == []


@pytest.mark.parametrize(
    ("scheduled", "verb", "code"),
    [
        (False, "prompt-answer", "scheduled_not_allowed"),
        (True, "hold", "scheduled_not_allowed"),
        (True, "prompt-answer", ""),
    ],
)
async def test_only_answers_in_rehearsals_carry_their_time_of_effect(
    controller: SmallController, scheduled: bool, verb: str, code: str
):
    desk = Desk(controller, scheduled=scheduled)
    args = {"prompt": "p1", "inputs": {}} if verb == "prompt-answer" else {}
    replies = desk.send(verb, args=args, effective="2026-01-09T08:00:00Z")
    await desk.idle()
    assert replies[-1].code == code
    assert [c.effective for c in controller.executed] == ([] if code else ["2026-01-09T08:00:00.000Z"])
    await desk.door.close()
    desk.clock.close()


async def test_status_is_answered_at_once_and_is_no_command_for_the_record(desk: Desk, controller: SmallController):
    replies = desk.send("status")
    assert replies[0].status == "done"
    assert replies[0].body()["data"]["state"] == "running"
    assert controller.executed == []


async def test_a_fault_in_the_controller_is_answered_and_reported(desk: Desk, controller: SmallController):
    controller.fault = ZeroDivisionError("a mistake")
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    replies = desk.send()
    await desk.idle()
    await asyncio.sleep(0)
    assert [(r.status, r.code) for r in replies] == [("failed", "internal")]
    assert isinstance(reported[0]["exception"], ZeroDivisionError)
    assert desk.door.under_way == 0


async def test_every_refusal_is_answered_counted_and_told(desk: Desk):
    replies = [desk.send(command_id="bad id")[0], desk.send("dance")[0], desk.send(unit="cell9")[0]]
    codes = ["malformed", "unknown_verb", "unknown_unit"]
    assert [r.code for r in replies] == codes
    assert all(r.text for r in replies)
    assert dict(desk.door.counts.refused) == dict.fromkeys(codes, 1)
    assert [(r.client, r.code) for r in desk.refusals] == [("desk", code) for code in codes]
    assert desk.door.counts.answered["refused"] == 3
    assert desk.door.counts.received == 3


async def test_closing_gives_up_what_is_under_way(desk: Desk, controller: SmallController):
    controller.at_once = False
    replies = desk.send()
    await until(lambda: bool(replies))
    await desk.door.close()
    assert desk.door.under_way == 0
    assert [r.status for r in replies] == ["accepted"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while True:
            if condition():
                return
            await asyncio.sleep(0)
