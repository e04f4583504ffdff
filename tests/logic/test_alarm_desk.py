"""The desk of alarms, in virtual time: announced anew, escalated, set aside and back, first-out, handed over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from simulators.virtual import VirtualClock, run
from tilctl.guard.alarm import AlarmState
from tilctl.guard.board import Watch
from tilctl.guard.book import AlarmBook
from tilctl.guard.catalog import Details
from tilctl.guard.desk import BY_CLOCK, BY_DESIGN, ESCALATE_S, ESCALATIONS, RETRY_S, Desk
from tilctl.journal import alarms as ev
from tilctl.journal.alarms import FIRST_OUT, Priority

MIN, HOUR = 60.0, 3600.0


class Office:
    """A desk whose record is a list: what is noted is on it in the next turn of the loop, as after a commit."""

    def __init__(self, clock: VirtualClock, unit: str = "") -> None:
        self.clock = clock
        self.events: list[tuple[float, ev.AlarmEvent]] = []
        self.dead = False
        self.book = AlarmBook()
        self.desk = Desk(clock, self.note, self.book, unit)

    def note(self, event: ev.AlarmEvent) -> None:
        if not self.dead:
            asyncio.get_running_loop().call_soon(self._commit, event)

    def _commit(self, event: ev.AlarmEvent) -> None:
        self.events.append((self.clock.monotonic(), event))
        self.book.apply(event, self.clock.now(), len(self.events))
        self.desk.changed()

    def watch(self, name: str, priority: Priority = "high", **details: Any) -> None:
        watch = Watch(name, "text", priority, "alarm", 0.0, lambda: False, dict, details=Details(**details))
        self.desk.known([watch])

    async def raised(self, name: str, priority: Priority = "high") -> None:
        self.desk.raise_(name, priority, "text")
        await self.turn()

    async def cleared(self, name: str) -> None:
        self.desk.clear(name)
        await self.turn()

    async def does(self, event: ev.AlarmEvent) -> None:
        self.note(event)
        await self.turn()

    async def turn(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    def told(self, kind: type[Any]) -> list[tuple[float, str]]:
        return [(round(t, 3), event.alarm) for t, event in self.events if isinstance(event, kind)]

    def until(self, seconds: float) -> str:
        return (self.clock.now() + timedelta(seconds=seconds)).isoformat()

    def hidden(self) -> set[str]:
        return {a.id for a in self.book if any(flag.by == FIRST_OUT for flag in a.aside.values())}


def story(main: Callable[[Office], Awaitable[None]]) -> None:
    async def all_of_it(clock: VirtualClock) -> None:
        office = Office(clock)
        try:
            await main(office)
        finally:
            office.desk.close()

    run(all_of_it)


def test_it_is_raised_once_while_it_is_active() -> None:
    async def main(at: Office) -> None:
        await at.raised("a")
        await at.raised("a")
        assert len(at.told(ev.AlarmRaised)) == 1
        await at.cleared("a")
        await at.raised("a")
        assert len(at.told(ev.AlarmRaised)) == 2

    story(main)


def test_one_that_ends_and_comes_again_while_its_end_is_being_written_stands() -> None:
    async def main(office: Office) -> None:
        await office.raised("hot")
        office.desk.clear("hot")
        office.desk.raise_("hot", "high", "text")
        await office.turn()
        assert "hot" in office.book.active

    story(main)


def test_what_a_person_is_told_is_on_record_with_it() -> None:
    async def main(at: Office) -> None:
        at.watch("a", "high", latching=True, group="g", help={"cause": "a cable"})
        await at.raised("a")
        await at.raised("not-safe-pump")
        (first, second) = (event for _, event in at.events)
        assert isinstance(first, ev.AlarmRaised)
        assert isinstance(second, ev.AlarmRaised)
        assert (first.latching, first.group, first.help) == (True, "g", {"cause": "a cable"})
        assert second.help["action"], "what the program raises itself is told of too"

    story(main)


# --- announced anew, and to the next person ---------------------------------------------------------------------------


def test_the_re_alarm_time_counts_from_when_somebody_said_that_he_knows() -> None:
    async def main(at: Office) -> None:
        at.watch("a", "medium", re_alarm=30 * MIN)
        await at.raised("a", "medium")
        await at.clock.sleep(2 * HOUR)
        await at.does(ev.AlarmAcknowledged("a", "anna"))
        assert at.told(ev.AlarmAgain) == [], "nobody's word is undone at once because he came late"
        await at.clock.sleep(30 * MIN + 1)
        assert at.told(ev.AlarmAgain) == [(2.5 * HOUR, "a")]
        assert at.book.entries["a"].state is AlarmState.UNACKNOWLEDGED
        await at.clock.sleep(5 * HOUR)
        assert len(at.told(ev.AlarmAgain)) == 1, "it waits for a person now, and a medium one goes to nobody else"

    story(main)


def test_a_critical_one_comes_back_by_itself_and_one_that_is_over_does_not() -> None:
    async def main(at: Office) -> None:
        await at.raised("a", "critical")
        await at.does(ev.AlarmAcknowledged("a", "anna"))
        await at.clock.sleep(31 * MIN)
        assert at.told(ev.AlarmAgain) == [(1800.0, "a")]
        await at.does(ev.AlarmAcknowledged("a", "anna"))
        await at.cleared("a")
        await at.clock.sleep(9 * HOUR)
        assert len(at.told(ev.AlarmAgain)) == 1

    story(main)


@pytest.mark.parametrize(("priority", "times"), [("critical", 5), ("high", 5), ("medium", 0), ("low", 0)])
def test_one_that_nobody_acknowledges_goes_to_the_next_person_a_bounded_number_of_times(
    priority: Priority, times: int
) -> None:
    async def main(at: Office) -> None:
        await at.raised("a", priority)
        await at.clock.sleep(24 * HOUR)
        assert at.told(ev.AlarmAgain) == [(round(ESCALATE_S * (n + 1), 3), "a") for n in range(times)]
        assert all(event.why == "escalated" for _, event in at.events if isinstance(event, ev.AlarmAgain))

    assert ESCALATIONS == 5
    story(main)


def test_one_that_is_over_and_not_acknowledged_goes_to_the_next_person_too() -> None:
    async def main(at: Office) -> None:
        at.desk.escalate_s = 10 * MIN
        await at.raised("a")
        await at.clock.sleep(MIN)
        await at.cleared("a")
        await at.clock.sleep(10 * MIN)
        assert at.told(ev.AlarmAgain) == [(10 * MIN, "a")]

    story(main)


def test_one_that_comes_and_goes_and_nobody_acknowledges_goes_to_the_next_person_too() -> None:
    async def main(office: Office) -> None:
        for _ in range(12):
            await office.raised("hot")
            await asyncio.sleep(5 * MIN)
            await office.cleared("hot")
            await asyncio.sleep(MIN)
        assert [t for t, _ in office.told(ev.AlarmAgain)] == [ESCALATE_S, 2 * ESCALATE_S]
        alarm = office.book.get("hot")
        assert alarm is not None
        assert alarm.escalated == 2

    story(main)


def test_what_is_due_is_noted_when_the_record_takes_it_again() -> None:
    async def main(at: Office) -> None:
        flag = ev.AlarmSetAside("a", "shelved", "anna", "cable", at.until(10 * MIN))
        await at.raised("a")
        await at.does(flag)
        at.dead = True
        await at.clock.sleep(20 * MIN)
        assert "shelved" in at.book.entries["a"].aside
        at.dead = False
        await at.clock.sleep(RETRY_S)
        assert at.book.entries["a"].aside == {}

    story(main)


# --- set aside --------------------------------------------------------------------------------------------------------


def test_shelving_ends_by_the_clock_and_then_it_is_announced() -> None:
    async def main(at: Office) -> None:
        await at.raised("a")
        await at.does(ev.AlarmSetAside("a", "shelved", "anna", "cable", at.until(30 * MIN)))
        await at.clock.sleep(29 * MIN)
        assert at.told(ev.AlarmAgain) == []
        assert not at.book.entries["a"].announceable
        await at.clock.sleep(2 * MIN)
        back = next(event for _, event in at.events if isinstance(event, ev.AlarmSetBack))
        assert (back.how, back.by) == ("shelved", BY_CLOCK)
        assert at.book.entries["a"].waiting
        await at.clock.sleep(ESCALATE_S)
        assert at.told(ev.AlarmAgain) == [(60 * MIN, "a")], "the time of the next person counts from then on"

    story(main)


def test_shelved_once_ends_with_the_condition() -> None:
    async def main(at: Office) -> None:
        await at.raised("a")
        await at.does(ev.AlarmSetAside("a", "shelved", "anna", "cable", at.until(8 * HOUR), once=True))
        await at.clock.sleep(HOUR)
        await at.cleared("a")
        assert at.book.entries["a"].waiting
        await at.clock.sleep(ESCALATE_S - 1)
        assert at.told(ev.AlarmAgain) == [], "nobody is late for what he was not told of"
        await at.clock.sleep(8 * HOUR)
        assert at.told(ev.AlarmSetBack) == [], "it had ended before its time"

    story(main)


def test_out_of_service_has_no_end_of_its_own() -> None:
    async def main(at: Office) -> None:
        await at.does(ev.AlarmSetAside("a", "out_of_service", "ben", "probe", work_order="W1"))
        await at.raised("a", "critical")
        await at.clock.sleep(60 * 24 * HOUR)
        assert [type(event) for _, event in at.events] == [ev.AlarmSetAside, ev.AlarmRaised]
        await at.does(ev.AlarmSetBack("a", "out_of_service", "ben"))
        assert at.book.entries["a"].waiting

    story(main)


# --- first-out --------------------------------------------------------------------------------------------------------


def test_only_the_first_of_a_group_is_announced_and_never_hides_what_is_worse() -> None:
    async def main(at: Office) -> None:
        for name in ("first", "second", "third", "worse"):
            at.watch(name, group="g")
        at.desk.raise_("first", "medium", "text")
        at.desk.raise_("second", "medium", "text")
        at.desk.raise_("worse", "critical", "text")
        at.desk.raise_("third", "low", "text")
        at.desk.raise_("other", "low", "text")
        await at.turn()
        assert at.hidden() == {"second", "third"}
        assert {a.id for a in at.book if a.waiting} == {"first", "worse", "other"}
        await at.cleared("first")
        assert at.hidden() == {"third"}, "the next one is the first now"
        assert at.book.entries["second"].waiting
        assert at.book.entries["first"].waiting, "over, and still to be acknowledged"
        await at.cleared("second")
        assert at.hidden() == {"third"}, "the critical one comes before it"
        await at.cleared("worse")
        await at.cleared("third")
        assert at.hidden() == set()

    story(main)


def test_a_follower_that_came_and_went_behind_its_first_asks_for_nobody() -> None:
    async def main(at: Office) -> None:
        at.watch("first", group="g")
        at.watch("second", group="g")
        at.watch("latching", group="g", latching=True)
        for name in ("first", "second", "latching"):
            await at.raised(name)
        await at.cleared("second")
        assert at.book.get("second") is None
        assert at.told(ev.AlarmAcknowledged) == [(0.0, "second")]
        await at.cleared("latching")
        assert at.book.entries["latching"].waiting, "a latching one goes by nobody's hand but a person's"
        assert at.book.entries["first"].waiting

    story(main)


def test_a_follower_is_announced_when_its_first_is_shelved() -> None:
    """Else a shelved alarm would hide a whole group, and nobody would be told of anything."""

    async def main(at: Office) -> None:
        at.watch("first", group="g")
        at.watch("second", group="g")
        await at.raised("first")
        await at.raised("second")
        assert at.hidden() == {"second"}
        await at.does(ev.AlarmSetAside("first", "shelved", "anna", "cable", at.until(10 * MIN)))
        assert at.hidden() == set()
        assert at.book.entries["second"].waiting
        await at.clock.sleep(11 * MIN)
        assert at.hidden() == {"second"}, "the first is announced again"

    story(main)


def test_a_group_of_five_hundred_costs_one_look_a_turn() -> None:
    async def main(at: Office) -> None:
        for number in range(500):
            at.watch(f"a{number}", "medium", group="g")
        looks = 0
        whole = at.book.firsts

        def counted() -> Any:
            nonlocal looks
            looks += 1
            return whole()

        at.book.firsts = counted  # type: ignore[method-assign]
        for number in range(500):
            at.desk.raise_(f"a{number}", "medium", "text")
        await at.turn()
        assert len(at.hidden()) == 499
        assert looks <= 3

    story(main)


# --- by design, and from desk to desk ---------------------------------------------------------------------------------


def test_suppressed_by_design_and_back() -> None:
    async def main(at: Office) -> None:
        at.desk.by_design("a", suppressed=True)
        await at.raised("a")
        assert at.book.entries["a"].aside["suppressed"].by == BY_DESIGN
        assert not at.book.entries["a"].announceable
        at.desk.by_design("a", suppressed=False)
        await at.turn()
        assert at.book.entries["a"].waiting

    story(main)


async def pair(idle: Office) -> Office:
    """The desk of an idle unit knows `a` and `b`; that of its batch beside these what its recipe has, `warm`."""
    batch = Office(idle.clock)
    for name in ("a", "b"):
        idle.watch(name)
        batch.watch(name)
    batch.watch("warm")
    return batch


def test_what_is_set_aside_is_so_at_one_desk_only() -> None:
    async def main(idle: Office) -> None:
        batch = await pair(idle)
        await idle.does(ev.AlarmSetAside("a", "shelved", "anna", "cable", idle.until(HOUR), once=True))
        await idle.does(ev.AlarmSetAside("a", "out_of_service", "ben", "probe", work_order="W1"))
        idle.desk.by_design("b", suppressed=True)
        await idle.turn()
        batch.desk.take_over(idle.desk)
        await idle.turn()
        assert list(idle.book) == []
        shelved, out = batch.book.entries["a"].aside["shelved"], batch.book.entries["a"].aside["out_of_service"]
        assert (shelved.by, shelved.reason, shelved.once) == ("anna", "cable", True)
        assert shelved.until == idle.clock.now() + timedelta(hours=1)
        assert (out.by, out.work_order) == ("ben", "W1")
        assert batch.book.entries["b"].aside["suppressed"].by == BY_DESIGN, "the guard tells of its end only"
        batch.desk.take_over(idle.desk)
        await idle.turn()
        assert len(batch.events) == 3, "a second time there is nothing to take over"
        # Back in service while the batch runs: it is so in the idle unit afterwards.
        await batch.does(ev.AlarmSetBack("a", "out_of_service", "ben"))
        idle.desk.take_over(batch.desk)
        await idle.turn()
        assert set(idle.book.entries["a"].aside) == {"shelved"}
        assert list(batch.book) == []
        batch.desk.close()

    story(main)


def test_what_a_recipe_alone_knows_stays_with_its_batch() -> None:
    async def main(idle: Office) -> None:
        batch = await pair(idle)
        for name in ("warm", "a-invalid"):
            await batch.does(ev.AlarmSetAside(name, "out_of_service", "ben", "probe", work_order="W1"))
        idle.desk.take_over(batch.desk)
        await idle.turn()
        assert set(idle.book.entries) == {"a-invalid"}, "the next patient's batch has a `warm` of its own"
        assert set(batch.book.entries) == {"warm"}
        batch.desk.close()

    story(main)


@pytest.mark.parametrize("latching", [False, True])
@pytest.mark.parametrize("acknowledged", [False, True])
def test_one_that_is_handed_over_leaves_nothing_behind(*, latching: bool, acknowledged: bool) -> None:
    async def main(at: Office) -> None:
        at.watch("a", latching=latching)
        await at.raised("a")
        if acknowledged:
            await at.does(ev.AlarmAcknowledged("a", "anna"))
        at.desk.hand_over("a", "batch one")
        await at.turn()
        assert list(at.book) == []
        assert at.book.active == {}

    story(main)


def test_a_closed_desk_waits_for_nothing() -> None:
    async def main(at: Office) -> None:
        await at.raised("a")
        at.desk.close()
        at.desk.changed()
        await at.clock.sleep(24 * HOUR)
        assert at.told(ev.AlarmAgain) == []

    story(main)


def test_a_desk_of_the_site_says_on_whose_record_it_writes() -> None:
    async def main(clock: VirtualClock) -> None:
        at = Office(clock, "site")
        at.desk.raise_("a", "high", "text")
        at.desk.by_design("a", suppressed=True)
        at.desk.clear("a")
        await at.turn()
        assert {event.unit for _, event in at.events} == {"site"}
        at.desk.close()

    run(main)


def test_a_moment_is_written_in_utc() -> None:
    async def main(at: Office) -> None:
        other = Office(at.clock)
        at.watch("a")
        await other.does(ev.AlarmSetAside("a", "shelved", "anna", "cable", "2030-01-01T12:00:00+02:00"))
        at.desk.take_over(other.desk)
        await at.turn()
        event = at.events[-1][1]
        assert isinstance(event, ev.AlarmSetAside)
        assert event.until == "2030-01-01T10:00:00.000Z"
        assert datetime.fromisoformat(event.until) == at.book.entries["a"].aside["shelved"].until
        other.desk.close()

    story(main)
