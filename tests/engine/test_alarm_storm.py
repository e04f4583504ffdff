"""Five hundred alarms at once, on the real controller: all on record, commands answered, few messages to people."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from story import UNIT, Story, told

from tilctl.config.site import Notify, Person
from tilctl.engine.port import SITE, Command
from tilctl.gateway import notify
from tilctl.gateway.notify import Notifier
from tilctl.gateway.notify_plan import GROUP_S, Standing, standing
from tilctl.gateway.notify_send import DeliveryError, Way
from tilctl.gateway.notify_words import LISTED
from tilctl.gateway.outbox import Outbox
from tilctl.gateway.projector import Projector
from tilctl.gateway.topics import Topics
from tilctl.journal.verify import read

MANY = 500
TOPICS = Topics("til/v1/demo/suite1")
PEOPLE = (
    Person("shift", ("critical", "high", "medium", "low")),
    Person("on_call", escalation=1),
    Person("dead", ("critical", "high", "medium", "low")),
)


class Ear:
    """A way to a person that takes everything."""

    channel, host = "webhook", "hooks.lab.example"

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def deliver(self, body: Any) -> None:
        json.dumps(body)
        self.heard.append(body)


class Dead(Ear):
    """A way on which nothing arrives, until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.mended = threading.Event()

    def deliver(self, body: Any) -> None:
        if not self.mended.is_set():
            raise DeliveryError("no answer in time")
        super().deliver(body)


class Told:
    """A controller with those who tell people of its alarms."""

    def __init__(self, suite: Story) -> None:
        self.suite = suite
        self.ears: dict[str, Ear] = {"shift": Ear(), "on_call": Ear(), "dead": Dead()}
        self.posts: list[tuple[float, Any]] = []
        self.open()

    def open(self) -> None:
        suite, controller = self.suite, self.suite.controller
        self.outbox = Outbox(None, None, suite.clock.monotonic)
        self.projector = Projector(controller, suite.clock, self.outbox, TOPICS)
        ways: dict[str, Sequence[Way]] = {name: (ear,) for name, ear in self.ears.items()}
        self.notifier = Notifier(controller.site, suite.clock, "boot", self.standing, self.publish, ways)
        for sender in self.notifier._senders:
            sender._retry_s = 0.01
        self.projector.on_alarms.append(self.notifier.refresh)
        controller.on_batch.append(self.projector.attach)
        controller.on_record.append(self.projector.on_record)
        self.projector.attach(SITE, SITE, controller.journal.records())
        for unit in controller.units():
            self.projector.refresh(unit)
        self.notifier.start(controller.desks(SITE)[0])
        self.notifier.begin()

    def publish(self, unit: str, body: Any) -> None:
        self.posts.append((self.suite.loop.time(), body))
        self.projector.announce(unit, body)

    def standing(self) -> list[Standing]:
        return [standing(unit, row) for unit, rows in self.projector.standing().items() for row in rows]

    def heard(self, name: str) -> list[Any]:
        return self.ears[name].heard

    def kept(self) -> dict[str, Any]:
        return {
            t.rsplit("/", 2)[1] + "/" + t.rsplit("/")[-1]: json.loads(b)
            for t, b in self.outbox._kept.items()
            if "/alm/" in t
        }


@asynccontextmanager
async def telling(folder: Path, alarms: dict[str, str]) -> AsyncIterator[Told]:
    story = Story(folder)
    story.site_overrides = {**alarms, "scan.idle": "30 s", "scan.quiet": "30 s"}
    async with told(story) as suite:
        site = suite.controller.site
        object.__setattr__(site, "notify", Notify(people=PEOPLE))
        people = Told(suite)
        try:
            yield people
        finally:
            for ear in people.ears.values():
                if isinstance(ear, Dead):
                    ear.mended.set()
            await people.notifier.close()


async def soon(condition: Callable[[], Any], what: str) -> Any:
    """Wait for what a thread does: in real time."""
    for _ in range(2000):
        if found := condition():
            return found
        await asyncio.to_thread(threading.Event().wait, 0.002)
        await asyncio.sleep(0)
    raise AssertionError(what)


def aim(suite: Story, goal: float) -> None:
    with suite.plant.change() as t:
        suite.plant.climate.temperature.aim(t, goal)


def storm() -> dict[str, str]:
    found: dict[str, str] = {}
    for number in range(MANY):
        name = f"alarms.a{number:03}"
        found |= {
            f"{name}.when": "incubator.temperature > 38.0 degC",
            f"{name}.deadband": "1 K",
            f"{name}.priority": "high",
            f"{name}.action": "look",
        }
        if number >= MANY // 2:
            found[f"{name}.group"] = "second"
    return found


async def test_a_storm_is_on_record_whole_and_people_get_few_messages(tmp_path: Path) -> None:
    async with telling(tmp_path, storm()) as people:
        suite = people.suite
        await suite.start("still", wait="9 h")
        await suite.until("stay/one", "acting")
        aim(suite, 41.0)
        await suite.when(lambda: len(suite.controller.alarms(SITE)) >= MANY, "the storm")
        begun = suite.loop.time()
        answers = [await suite.do(verb) for verb in ("hold", "restart")]
        assert [answer.status for answer in answers] == ["done", "done"]
        assert suite.loop.time() - begun < 60.0, "commands are answered meanwhile"
        await suite.pass_time(2 * GROUP_S)
        records, verdict = read(tmp_path / "data" / "site.db")
        assert verdict.ok
        raised = [record.event.alarm for record in records if record.event.kind == "alarm_raised"]
        assert len(raised) == len(set(raised)) == MANY, "nothing is lost, nothing is there twice"
        shown = [name for name in people.kept() if name.startswith("site/site-a")]
        assert len(shown) == MANY
        # People: first-out hides the followers of a group; one message has all the rest, bounded.
        heard = await soon(lambda: people.heard("shift"), "shift is told")
        assert len(heard) == 1, [(body["kind"], body["first"], body["t"]) for body in heard]
        (body,) = heard
        assert (body["kind"], body["waiting"]) == ("raised", {"high": MANY // 2 + 1})
        assert (body["first"]["alarm"], len(body["others"])) == ("site-a000", LISTED)
        assert body["more"] == MANY // 2 - LISTED
        assert [post["kind"] for _, post in people.posts if post["first"]["unit"] == SITE] == ["raised"]
        transitions = [json.loads(post.payload) for post in people.outbox._notices if "/almevt/site" in post.topic]
        up = [each for each in transitions if each["transition"] == "alarm_raised"]
        assert {(each["from"], each["to"]) for each in up} == {("normal", "unacknowledged")}
        assert {each["seq"] for each in up} == {r.seq for r in records if r.event.kind == "alarm_raised"}
        assert people.outbox.counts.answers_dropped == people.outbox.counts.notices_dropped == 0
        # All at once: one event for each, one message, and no more of it afterwards.
        acked = await suite.controller.execute(
            Command("c1", "desk", SITE, "ack", args={"alarm": "*"}, actor="anna"), lambda seq, digest: None
        )
        assert acked.status == "done"
        await suite.pass_time(2 * GROUP_S)
        await soon(lambda: len(people.heard("shift")) > 1, "shift hears that somebody knows")
        told_of = [body["kind"] for body in people.heard("shift") if body["first"]["alarm"].startswith("site-a")]
        assert told_of[:2] == ["raised", "over"]
        assert "anna" not in str(people.heard("shift"))


ONE = {
    "alarms.room.when": "incubator.temperature > 38.0 degC",
    "alarms.room.deadband": "1 K",
    "alarms.room.priority": "high",
}


async def test_it_is_repeated_goes_to_the_next_person_and_is_told_once_when_it_is_known(tmp_path: Path) -> None:
    async with telling(tmp_path, ONE) as people:
        suite = people.suite
        aim(suite, 41.0)
        await suite.when(lambda: suite.controller.alarms(SITE), "it is warm")
        await suite.pass_time(29 * 60)
        await soon(
            lambda: len(people.heard("shift")) == 2,
            "told and repeated " + str([(b["kind"], b["t"]) for b in people.heard("shift")]),
        )
        assert people.heard("on_call") == []
        await suite.pass_time(3 * 60)
        await soon(lambda: people.heard("on_call"), "the next person is told")
        assert people.heard("on_call")[0]["kind"] == "escalated"
        assert [body["kind"] for body in people.heard("shift")][:3] == ["raised", "repeated", "escalated"]
        await suite.pass_time(2 * 60)
        given = {"alarm": "site-room"}
        await suite.controller.execute(
            Command("c1", "desk", SITE, "ack", args=given, actor="anna"), lambda seq, digest: None
        )
        await suite.pass_time(2 * 60)
        await soon(lambda: people.heard("on_call")[-1]["kind"] == "over", "somebody knows")
        assert people.heard("on_call")[-1]["first"]["why"] == "acknowledged"
        count = len(people.heard("shift"))
        await suite.pass_time(20 * 60)
        assert len(people.heard("shift")) == count
        times = [t for t, body in people.posts if body["first"]["unit"] == SITE]
        assert all(later - earlier >= GROUP_S for earlier, later in itertools.pairwise(times))


async def test_a_person_who_cannot_be_told_is_an_alarm_until_he_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "FAILED_S", 1e9)
    async with telling(tmp_path, ONE) as people:
        suite, dead = people.suite, people.ears["dead"]
        aim(suite, 41.0)
        await suite.when(lambda: suite.controller.alarms(SITE), "it is warm")

        def failed() -> dict[str, Any]:
            return {row["alarm"]: row for row in suite.controller.alarms(SITE)}.get("notify-failed", {})

        await suite.pass_time(5.0)
        (sender,) = (each for each in people.notifier._senders if each.to == "dead")
        await soon(lambda: people.heard("shift") and sender.why, "one is told, the other is tried: by threads")
        monkeypatch.setattr(notify, "FAILED_S", 0.001)
        await suite.when(failed, "it is an alarm", within=3600.0)
        assert failed()["priority"] == "medium"
        assert "dead cannot be told by webhook (hooks.lab.example): no answer" in failed()["text"]
        assert "test-notify" in failed()["help"]["action"]
        assert isinstance(dead, Dead)
        dead.mended.set()
        monkeypatch.setattr(notify, "FAILED_S", 1e9)  # a message on its way in a thread is none that failed
        await soon(lambda: dead.heard and not sender.why, "he can be told again")
        await suite.when(lambda: failed()["state"] == "returned", "over, still to be acknowledged", within=120.0)


async def test_after_a_restart_there_is_one_message_of_all_that_stands_and_topics_are_whole(tmp_path: Path) -> None:
    alarms = {f"units.cell1.alarms.a{n}.{key}": text for n in range(5) for key, text in (
        ("when", "station.temperature > 38.0 degC"), ("priority", "high"))}  # fmt: skip
    async with telling(tmp_path, {**alarms, **ONE}) as people:
        suite = people.suite
        aim(suite, 41.0)
        await suite.when(lambda: len(suite.controller.alarms(UNIT)) == 5, "it is warm")
        await suite.pass_time(60.0)
        await people.notifier.close()
        for ear in people.ears.values():
            ear.heard.clear()
        people.posts.clear()
        await suite.power_cut(30.0)
        people.open()
        await suite.pass_time(10 * 60)
        (body,) = await soon(lambda: people.heard("shift"), "one message")
        assert (body["kind"], body["waiting"], len(body["others"])) == ("restarted", {"high": 6}, 5)
        kept = people.kept()
        assert {name for name in kept if name.startswith("cell1/")} == {f"cell1/site-a{n}" for n in range(5)}, (
            "an idle unit's alarms are kept, or the sweep would take them for those of an earlier process"
        )
        assert kept["site/site-room"]["state"] == "unacknowledged"
        aim(suite, 20.0)
        rows = suite.controller.alarms
        await suite.when(lambda: not any(row["active"] for unit in (UNIT, SITE) for row in rows(unit)), "it is cool")
        for unit in (UNIT, SITE):
            await suite.controller.execute(
                Command(f"c-{unit}", "desk", unit, "ack", args={"alarm": "*"}, actor="anna"), lambda seq, digest: None
            )
        await suite.settle()
        await suite.pass_time(1.0)
        assert people.kept() == {}, "normal again: nothing is retained"


async def test_one_look_that_breaks_keeps_no_later_one_from_coming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with telling(tmp_path, ONE) as people:
        suite, broken = people.suite, True
        suite.announced.add("notify_fault")
        shown = people.standing

        def breaking() -> list[Standing]:
            if broken:
                raise KeyError("state")
            return shown()

        monkeypatch.setattr(people.notifier, "_shown", breaking)
        aim(suite, 41.0)
        await suite.when(lambda: suite.controller.alarms(SITE), "it is warm")
        await suite.pass_time(10.0)
        assert people.heard("shift") == []
        broken = False
        await suite.pass_time(2 * GROUP_S)
        await soon(lambda: people.heard("shift"), "shift is told")
