"""Doses under every misfortune: whatever happens, what is booked is what went over, once, or a person is asked."""

from __future__ import annotations

import asyncio

import pytest
from pytest import approx
from story import UNIT, Story

from simulators.faults.injector import Injector
from simulators.faults.model import Fault

WANTED = 60.0  # mL, of the first transfer of `small`


def strike(suite: Story, where: str, what: str, for_s: float | None = None, **args: float | str) -> Fault:
    """Let a fault happen now."""
    if not hasattr(suite, "injector"):
        suite.injector = Injector([suite.plant], suite.servers, suite.plant.clock)
    fault = Fault(where, what, for_s=for_s, args=args)
    suite.injector.apply(fault)
    return fault


async def dosing(suite: Story, moved: float = 20.0, **parameters: str) -> None:
    await suite.start("small", **parameters)
    await suite.until_flowed("pump_media", moved)


def moved(suite: Story, pump: str = "pump_media") -> float:
    """What went over in truth, of all runs (mL)."""
    return sum(run.moved_ml for run in suite.pump(pump).log)


def doubt(suite: Story) -> list[str]:
    return [i.outcome for i in suite.intents("fill/first") if i.outcome == "in_doubt"]


async def reconciled(suite: Story) -> None:
    """A person finds out what went over, and says so; the step goes on from there."""
    await asyncio.sleep(120)
    await suite.do("restart")
    await suite.when(lambda: suite.controller.prompts(UNIT), "a person is asked")
    real = suite.plant.place(1).contents.volume
    await suite.answer("first", delivered=f"{real:.1f} mL", why="weighed it", **{"sign.operator": "badge 7"})
    await suite.until("fill/first", "complete")
    (closed,) = suite.events("intent_closed", path="fill/first", by="person")
    assert closed.evidence == {"why": "weighed it", "who": "badge 7"}
    told = [e.text for e in suite.events("exception_raised", path="fill/first") if e.code == "reconciled"]
    assert len(told) == 1
    assert "badge 7: weighed it" in told[0]


# --- the counter ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "why"),
    [("counter_reset", "the totaliser was reset"), ("replaced", "the pump was replaced"), ("reboot", "restarted")],
)
async def test_a_count_that_is_lost_in_a_dose_is_made_good_by_the_scales(suite: Story, what: str, why: str) -> None:
    suite.announced = {"protective_write_failed"}
    suite.plant.pumps["pump_media"].counts = 123_456
    await dosing(suite)
    if what == "replaced":  # it is off the bus while it is exchanged, and its dose ends with it
        strike(suite, "pump_media", "power_cut", 20.0)
    strike(suite, "pump_media", what)
    await suite.when(lambda: suite.state.node("fill/first").status != "acting", "the dose has an end")
    if suite.runner.state != "running":
        await suite.until_state("held")
        await asyncio.sleep(120)
        await suite.do("restart")
    await suite.until("fill/first", "complete")
    intents = suite.intents("fill/first")
    assert sum(i.delivered_ml or 0.0 for i in intents) == approx(moved(suite), abs=2.0)
    assert suite.plant.place(1).contents.volume == approx(WANTED, abs=4.0)
    assert intents[0].counted_ml is None
    raised = [e for e in suite.events("exception_raised", path="fill/first") if e.code == "evidence"]
    assert len(raised) == 1
    assert why in raised[0].text
    assert len(intents) == (1 if what == "counter_reset" else 2), "what was missing is an intent of its own"
    assert not doubt(suite)


async def test_a_count_lost_and_a_scale_lost_is_for_a_person(suite: Story) -> None:
    suite.hands.mine = {"reconcile"}
    await dosing(suite)
    strike(suite, "pump_media", "reboot")
    strike(suite, "scales", "silent", 100.0)
    await suite.until_state("held")
    assert doubt(suite) == ["in_doubt"]
    assert suite.state.ledger.get("flask").volume_ml == 0.0, "nothing is booked that is not known"
    await reconciled(suite)
    assert suite.plant.place(1).contents.volume == approx(WANTED, abs=4.0)


async def test_a_totaliser_that_rolls_over_in_a_dose_closes_by_itself(suite: Story) -> None:
    suite.plant.pumps["pump_media"].counts = 2**32 - 3000  # 30 mL before its end
    await dosing(suite)
    await suite.until("fill/first", "complete")
    (intent,) = suite.intents("fill/first")
    assert (intent.outcome, intent.counted_ml) == ("done", approx(WANTED, abs=0.01))
    assert suite.events("exception_raised", path="fill/first") == []


# --- liquid that goes its own way -------------------------------------------------------------------------------------


async def test_drops_after_the_stop_are_weighed_with_the_dose(suite: Story) -> None:
    await dosing(suite, 5.0)
    strike(suite, "pump_media", "slow_drip", rate=20.0)
    await suite.do("hold")
    await suite.do("restart")
    await suite.until("fill/first", "complete")
    assert suite.state.ledger.get("flask").volume_ml == approx(suite.plant.place(1).contents.volume, abs=3.0)
    await suite.until_state("complete")


async def test_what_goes_on_flowing_closes_no_dose(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    suite.hands.mine = {"reconcile"}
    suite.check_ledger = False
    await dosing(suite, 30.0)
    stuck = strike(suite, "valves_media", "clamp_stuck")
    drip = strike(suite, "pump_media", "slow_drip", rate=50.0)
    await suite.until_state("held")
    assert suite.state.alarms["not-safe-valves_media"].priority == "critical"
    assert suite.runner.state == "held"
    suite.injector.end(stuck)
    suite.injector.end(drip)
    await suite.when(lambda: "not-safe-valves_media" not in suite.state.alarms, "it is closed as soon as it can be")
    assert (suite.pump("pump_media").suction, suite.pump("pump_media").delivery) == (0, 0)


async def test_a_clamp_that_does_not_close_holds_the_batch_and_the_dose_is_booked(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    await dosing(suite, 30.0)
    stuck = strike(suite, "valves_media", "clamp_stuck")
    await suite.until_state("held")
    assert [i.outcome for i in suite.intents("fill/first")] == ["done"]
    assert "valves_media could not be made safe" in suite.node("fill/first").reason
    suite.injector.end(stuck)
    await suite.when(lambda: "not-safe-valves_media" not in suite.state.alarms, "it is closed as soon as it can be")
    await suite.do("restart")
    await suite.until_state("complete")
    assert len(suite.intents("fill/first")) == 1, "a dose that is done is not done again"


async def test_a_clamp_that_does_not_open_moves_nothing(suite: Story) -> None:
    strike(suite, "valves_media", "clamp_stuck")
    await suite.start("small")
    await suite.until_state("held")
    assert suite.pump("pump_media").log == []
    assert [i.outcome for i in suite.intents("fill/first")] == ["nothing"]
    suite.injector.close()
    await asyncio.sleep(60)
    await suite.do("restart")
    await suite.until_state("complete")
    assert suite.state.ledger.get("flask").volume_ml == approx(suite.plant.place(1).contents.volume, abs=3.0)


@pytest.mark.parametrize("what", ["occlusion", "bag_empty"])
async def test_a_pump_that_moves_nothing_is_found_out_by_the_scales(suite: Story, what: str) -> None:
    suite.hands.mine = {"reconcile"}
    await dosing(suite, 20.0, first="400 mL")
    strike(suite, "pump_media", what)
    began = suite.loop.time()
    await suite.until_state("held")
    assert suite.loop.time() - began < 150.0, "within two looks of the mass watch"
    assert doubt(suite) == ["in_doubt"], "it counted what did not come"
    assert "look for" in suite.state.alarms["in-doubt-1"].text or suite.state.alarms["in-doubt-1"].priority == "high"
    suite.injector.close()
    await reconciled(suite)
    assert suite.plant.place(1).contents.volume == approx(400.0, abs=12.0)


@pytest.mark.parametrize(("volume", "asked"), [("40 mL", False), ("100 mL", True)])
async def test_a_tubing_that_slips_by_a_tenth_is_topped_up_or_asked_about(
    suite: Story, volume: str, asked: bool
) -> None:
    """Count and mass may differ by 5 mL or 5 %: within that the scales are right, beyond it somebody has to look."""
    suite.hands.mine = {"reconcile"}
    strike(suite, "pump_media", "slip", share=10.0)
    await suite.start("small", first=volume)
    if asked:
        await suite.until_state("held")
        assert doubt(suite) == ["in_doubt"]
        await reconciled(suite)
    await suite.until("fill/first", "complete")
    assert suite.plant.place(1).contents.volume == approx(float(volume.split(maxsplit=1)[0]), abs=3.0)
    assert [i.outcome for i in suite.intents("fill/first")] == ["partial", "done"]


# --- what is said and not done, done and not said ---------------------------------------------------------------------


async def test_a_dose_that_is_acknowledged_and_not_begun_is_nothing(suite: Story) -> None:
    await suite.start("small")
    await suite.until("fill/waste_in", "complete")
    fault = strike(suite, "pump_media", "not_applied")
    await suite.until_state("held")
    assert suite.pump("pump_media").log == []
    assert {i.outcome for i in suite.intents("fill/first")} <= {"nothing"}
    suite.injector.end(fault)
    await suite.do("restart")
    await suite.until_state("complete")
    assert moved(suite) == approx(100.0, abs=4.0)


@pytest.mark.parametrize(("what", "args"), [("silent", {}), ("late", {"delay": 3.0}), ("wrong_transaction", {})])
@pytest.mark.parametrize("when", ["intent", "second"])
async def test_a_reply_that_is_lost_or_late_doubles_nothing(
    suite: Story, what: str, args: dict[str, float], when: str
) -> None:
    """The wire fails for some seconds just as the intent is on disk, or a little later."""
    suite.announced = {"protective_write_failed"}
    suite.check_safe = False
    struck: list[float] = []

    def at_the_intent(unit: str, record: object) -> None:
        if not struck and getattr(record, "event").kind == "intent_opened":  # noqa: B009
            delay = 0.0 if when == "intent" else 1.0
            struck.append(delay)
            suite.loop.call_later(delay, lambda: strike(suite, "pump_media", what, 8.0, **args))

    suite.controller.on_record.append(at_the_intent)
    await suite.start("small")
    await suite.when(lambda: suite.state.state in ("held", "complete"), "held, or over")
    for _ in range(5):
        if suite.state.state == "complete":
            break
        await asyncio.sleep(120)
        await suite.do("restart")
        await suite.until_state("held", "complete")
    assert suite.state.state == "complete"
    sequences = [run.sequence for run in suite.pump("pump_media").log]
    assert len(set(sequences)) == len(sequences)
    assert moved(suite) == approx(100.0, abs=5.0)


async def test_a_stop_that_gets_lost_is_made_good_by_the_valves(suite: Story) -> None:
    await dosing(suite, 5.0, first="400 mL")
    strike(suite, "pump_media", "not_applied", 30.0)
    began = suite.loop.time()
    await suite.do("hold")
    (safe,) = suite.events("made_safe")
    took = {each["device"]: each["seconds"] for each in safe.outcomes}
    assert 1.0 < took["pump_media"] < 2.0, "the valves closed after a second, and then it stood"
    assert max(seconds for device, seconds in took.items() if "media" not in device) < 0.5, "no other line waited"
    assert suite.pump("pump_media").log[0].ended - began < 2.0


async def test_stop_and_close_both_lost_the_pumps_own_watchdog_ends_it(suite: Story) -> None:
    suite.announced = {"protective_write_failed"}
    suite.check_safe = False
    await dosing(suite, 5.0, first="400 mL")
    strike(suite, "pump_media", "not_applied", 60.0)
    strike(suite, "valves_media", "clamp_stuck", 60.0)
    began = suite.loop.time()
    await suite.do("hold")
    alarms = {alarm.id: alarm.priority for alarm in suite.state.alarms.values()}
    assert alarms["not-safe-pump_media"] == alarms["not-safe-valves_media"] == "critical"
    await suite.when(lambda: suite.pump("pump_media").run is None, "the pump stands", within=20.0)
    assert suite.pump("pump_media").log[0].ended - began < 20.0, "nobody could feed it"
    assert "watchdog-pump_media" in {e.alarm for e in suite.events("alarm_raised")}
    intent = suite.intents("fill/first")[0]
    assert intent.outcome == "in_doubt" or intent.delivered_ml == approx(moved(suite), abs=2.0)
    await suite.when(lambda: not {a for a in suite.state.alarms if "not-safe" in a}, "and that is known", within=90.0)


# --- small doses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("volume", "asked"), [("4 mL", True), ("60 mL", False)])
async def test_what_scales_cannot_tell_from_nothing_goes_to_a_person_after_a_crash(
    suite: Story, volume: str, asked: bool
) -> None:
    suite.hands.mine = {"reconcile"}
    suite.ledger_within = (4.0, 0.03)
    await dosing(suite, 2.0, first=volume)
    await suite.power_cut(60.0)
    found = suite.intents("fill/first")[0].outcome
    assert found == ("in_doubt" if asked else "partial")
    if asked:
        await reconciled(suite)


async def test_a_small_dose_that_the_pump_never_heard_of_is_nothing_also_after_a_crash(suite: Story) -> None:
    suite.kill_at(lambda record: record.event.kind == "intent_opened")
    await suite.start("small", first="4 mL")
    await suite.when(lambda: not suite.alive, "the power fails between intent and write")
    suite.kill_at(None)
    await suite.bury()
    await suite.boot()
    assert suite.intents("fill/first")[0].outcome == "nothing", "the pump proves it"
    assert suite.pump("pump_media").log == []


# --- cancelled at every await -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [round(0.15 * n, 2) for n in range(30)])
async def test_a_hold_at_any_moment_of_a_dose(suite: Story, after: float) -> None:
    """From the weighing before the intent, through the writes, the dose and the weighing after it, 0.45 s apart."""
    await suite.start("small", first="12 mL")
    await suite.until("fill/first", "acting")
    await asyncio.sleep(1.5 + after * 3)
    await suite.do("hold", expect=None)
    await suite.settle()
    assert suite.pump("pump_media").run is None
    assert all(i.outcome for i in suite.state.intents.values()), "closed by evidence, whatever was cancelled"
    if suite.runner.state == "held":
        await suite.do("restart")
    await suite.until_state("complete")
    assert moved(suite) == approx(52.0, abs=4.0)
