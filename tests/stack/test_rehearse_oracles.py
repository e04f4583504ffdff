"""The oracles of a rehearsal: each finds the wrong controller that it is there for, and no right one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simulators.faults.model import Fault
from simulators.physics.thermal import Climate
from tests.stack.told import found, told
from tilctl.cli.rehearsing import harness, person, world
from tilctl.cli.rehearsing.suspicion import Suspicion
from tilctl.cli.rehearsing.violations import Book
from tilctl.cli.rehearsing.warmth import WarmOracle, recovers_s
from tilctl.engine import controller as controlling
from tilctl.engine import intents
from tilctl.engine.standing import Standing
from tilctl.engine.state import BatchState, Intent, parse_time
from tilctl.engine.verbs import mount, transfer
from tilctl.journal import events as ev
from tilctl.plant.control import dispense as dispensing

LONG = 1e6
Step = tuple[float, Callable[[Suspicion], Any]]
UNRELATED = (  # a fault that falsifies evidence and one that raises alarms, neither of a container that is mounted
    Fault("scales", "offset", time_s=1.0, for_s=LONG, args={"point": "mass_15", "by": 200.0}),
    Fault("freezer", "silent", time_s=1.0, for_s=900.0),
)


def books_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the controller book 30 mL less than the evidence says."""
    right: Callable[..., Any] = intents._judge  # pyright: ignore[reportPrivateUsage] - a fault is put into it

    def wrong(*args: Any) -> Any:
        closure = right(*args)
        return closure if closure.delivered_ml is None else replace(closure, delivered_ml=closure.delivered_ml - 30.0)

    monkeypatch.setattr(intents, "_judge", wrong)


# --- the ledger -------------------------------------------------------------------------------------------------------


def test_a_wrong_ledger_is_not_excused_by_faults_of_other_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books_less(monkeypatch)
    assert "ledger" in found(told(tmp_path, *UNRELATED))


def test_a_start_that_was_refused_says_why(tmp_path: Path) -> None:
    """A recipe may be changed while its rehearsals run, and then `bad_recipe` alone helps nobody."""
    recipe = tmp_path / "changed.yaml"
    recipe.write_text("recipe: changed\ntitel: A wrong one\n")
    (violation,) = told(tmp_path / "seed", recipe=str(recipe)).violations
    assert violation["invariant"] == "starts"
    assert "bad_recipe" in violation["text"]
    assert "unknown key 'titel'" in violation["text"]


def test_what_a_person_typed_wrong_is_the_persons(tmp_path: Path) -> None:
    result = told(tmp_path, Fault("operator", "wrong_volume", time_s=1.0, for_s=LONG, args={"by": -15.0}))
    assert result.violations == []
    assert result.faults["operator wrong_volume"] == 1


def test_what_a_person_typed_wrong_excuses_no_more_than_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    books_less(monkeypatch)
    result = told(tmp_path, Fault("operator", "wrong_volume", time_s=1.0, for_s=LONG, args={"by": -15.0}))
    assert "ledger" in found(result)


def test_a_bag_that_holds_less_than_told_is_the_worlds(tmp_path: Path) -> None:
    short = Fault("scales", "bag_empty", time_s=1.0, for_s=LONG, args={"share": 10.0, "port": 0.0})
    assert "ledger" not in found(told(tmp_path, short))


def test_a_controller_that_books_a_bag_with_what_nobody_said_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(path: str, name: str, place: str, kind: str, volume: float, *rest: Any) -> ev.Mounted:
        return ev.Mounted(path, name, place, kind, volume * 0.99, *rest)

    monkeypatch.setattr(mount, "ev", SimpleNamespace(Mounted=wrong, StepPhase=ev.StepPhase))
    assert "ledger" in found(told(tmp_path))


def dose(number: int = 1, pump: str = "pump_media", outcome: str = "") -> Intent:
    opened = parse_time("2026-01-05T08:00:00Z")
    return Intent(number, f"fill/{number}", pump, "dispense", {"sequence": number}, {}, opened, outcome=outcome)


def through(*steps: Step) -> Suspicion:
    """Return a suspicion that has seen things at their times (s)."""
    now = [0.0]
    suspicion = Suspicion(lambda: now[0])
    for t, step in steps:
        now[0] = t
        step(suspicion)
    return suspicion


ENDS = {"bag": 7, "pre": 1}
OPENS: Step = (100.0, lambda s: s.opens(dose(), dict(ENDS)))
CLOSES: Step = (200.0, lambda s: s.closes(dose(outcome="done"), {}))
DOUBTED: Step = (200.0, lambda s: s.closes(dose(outcome="in_doubt"), {}))


def fault(t: float, where: str, what: str, lasts: float, **args: Any) -> Step:
    given = Fault(where, what, time_s=t, for_s=lasts, args=args)
    return t, lambda s: s.befalls(given, [where])


def says(t: float, text: str) -> Step:
    return t, lambda s: s.says("", text)


NOT_SAFE = "not-safe-valves_media valves_media could not be made safe"


def clears(t: float) -> Step:
    return t, lambda s: s.clears("not-safe-valves_media")


CASES: list[tuple[list[Step], bool]] = [
    ([OPENS, DOUBTED], False),  # it was said, and nothing had happened
    ([OPENS, fault(150, "scales", "offset", 20, point="mass_1", by=9.0), CLOSES], False),  # nothing was said
    ([OPENS, fault(150, "scales", "offset", 20, point="mass_1", by=9.0), DOUBTED], True),
    ([OPENS, fault(150, "scales", "offset", 20, point="mass_2", by=9.0), DOUBTED], False),  # another's scale
    ([OPENS, fault(150, "scales", "stale", 20), DOUBTED], True),
    ([OPENS, fault(150, "valves_media", "clamp_stuck", 20), DOUBTED], True),
    ([OPENS, fault(150, "pump_waste", "slip", 20, share=9.0), DOUBTED], False),  # another's pump
    ([OPENS, fault(150, "pump_media", "silent", 20), DOUBTED], False),  # it falsifies nothing
    ([fault(20, "pump_media", "slip", 30, share=9.0), OPENS, DOUBTED], False),  # it was over before
    ([OPENS, DOUBTED, fault(300, "pump_media", "slip", 30, share=9.0)], False),  # it came after
    ([OPENS, DOUBTED, fault(300, "pump_media", "slow_drip", 30, rate=1.0)], False),  # and nothing was said since
    (
        [
            OPENS,
            DOUBTED,
            fault(300, "pump_media", "slow_drip", 30, rate=1.0),
            says(400, NOT_SAFE),
        ],
        True,
    ),
    # an alarm that stands says so all the time, and no longer
    ([OPENS, CLOSES, says(250, NOT_SAFE), fault(300, "pump_media", "slow_drip", 30, rate=1.0)], True),
    ([OPENS, CLOSES, says(250, NOT_SAFE), fault(300, "pump_media", "slow_drip", 30, rate=1.0), clears(400)], True),
    ([OPENS, CLOSES, says(250, NOT_SAFE), clears(280), fault(300, "pump_media", "slow_drip", 30, rate=1.0)], False),
    ([OPENS, CLOSES, says(250, NOT_SAFE)], False),
    ([OPENS, CLOSES, fault(300, "scales", "leak", 30, port=1.0, rate=9.0)], False),
    (
        [
            OPENS,
            CLOSES,
            fault(300, "scales", "leak", 30, port=1.0, rate=9.0),
            says(400, "pre at p1 weighs less than expected"),
        ],
        True,
    ),
]


@pytest.mark.parametrize(("steps", "excused"), CASES)
def test_a_container_is_excused_by_what_concerns_it(steps: list[Step], excused: bool) -> None:
    assert through(*steps).explains("pre", 1) is excused


def test_what_was_explained_once_explains_nothing_further() -> None:
    suspicion = through(OPENS, fault(150, "scales", "stale", 20), DOUBTED)
    assert suspicion.explains("pre", 1)
    assert not suspicion.explains("pre", 1)
    assert suspicion.explains("bag", 7)  # the other end was not explained yet


# --- paths ------------------------------------------------------------------------------------------------------------


def test_a_controller_that_opens_a_path_before_the_intent_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right: Callable[..., Any] = transfer._open  # pyright: ignore[reportPrivateUsage] - a fault is put into it

    async def hasty(context: Any, order: Any, way: Any, *rest: Any, **options: Any) -> int:
        args = {"suction": way.suction, "delivery": way.delivery}
        await context.batch.plant.instruments[way.valves].command("select", args)
        return await right(context, order, way, *rest, **options)

    monkeypatch.setattr(transfer, "_open", hasty)
    assert "intent_before_act" in found(told(tmp_path))


def test_a_controller_that_opens_the_path_of_another_dose_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right: Callable[..., Any] = dispensing._select_and_start  # pyright: ignore[reportPrivateUsage]

    async def astray(plant: Any, owner: str, way: Any, *rest: Any) -> None:
        delivery = way.delivery % 6 + 1 if way.delivery <= 6 else way.delivery
        await right(plant, owner, replace(way, delivery=delivery), *rest)

    monkeypatch.setattr(dispensing, "_select_and_start", astray)
    result = told(tmp_path)
    assert {"intent_before_act", "act_is_intent"} <= found(result)


# --- warm cells -------------------------------------------------------------------------------------------------------


HAND = Fault("incubator", "local_change", time_s=9500.0, args={"target": "temperature", "value": 25.0})


def test_a_controller_that_leaves_a_cold_incubator_to_itself_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaves(_standing: Standing, _device: str) -> None:
        pass

    monkeypatch.setattr(Standing, "keep_targets", leaves)
    assert "cells_warm" in found(told(tmp_path, HAND))


def test_a_controller_that_mends_it_is_not(tmp_path: Path) -> None:
    assert told(tmp_path, HAND).violations == []


def test_a_heater_that_is_cut_off_without_cause_is_found_out() -> None:
    book = Book(1, lambda: 7)
    climate = Climate()
    oracle = WarmOracle(climate, book, lambda: 9000.0, lambda: 9000.0, lambda: False)
    climate.set_temperature(0.0, 37.0)
    oracle.cuts()
    assert [violation.invariant for violation in book.kept] == ["cells_warm"]


@pytest.mark.parametrize(
    ("where", "what", "judged"),
    [("pump_media", "silent", True), ("scales", "stuck", True), ("incubator", "reboot", False)],
)
def test_only_what_can_cool_cells_excuses_cold_ones(where: str, what: str, judged: bool) -> None:
    now, safe = [0.0], [False]
    book, climate, state = Book(1, lambda: 7), Climate(), BatchState()
    oracle = WarmOracle(climate, book, lambda: now[0], lambda: now[0], lambda: safe[0])
    climate.set_temperature(0.0, 37.0)
    state.targets["station.temperature"] = (37.0, "degC")
    while now[0] < 8000.0:
        oracle.look(state)
        now[0] += 60.0
    oracle.befalls(Fault(where, what, time_s=0.0), [where])
    climate.set_temperature(now[0], 20.0)  # nobody puts it right
    for _ in range(30):
        oracle.look(state)
        now[0] += 60.0
    assert bool(book.kept) is judged
    safe[0] = True  # nobody mends anything, and that is said
    for _ in range(120):
        oracle.look(state)
        now[0] += 60.0
    assert bool(book.kept) is judged
    safe[0] = False
    until = now[0] + recovers_s(climate)
    while now[0] < until:
        oracle.look(state)
        now[0] += 60.0
    assert book.kept, "at last it has to be warm again, whatever befell it"


# --- disk and broker --------------------------------------------------------------------------------------------------

FULL = Fault("disk", "full", step="culture/fill/first", after_s=20.0, for_s=300.0)


def test_a_record_is_opened_again_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "IN_PLACE", 1.0)
    result = told(tmp_path, FULL)
    assert (result.outcome, result.violations, result.kills, result.mended) == ("complete", [], 0, 1)


def test_or_the_service_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "IN_PLACE", 0.0)
    result = told(tmp_path, FULL)
    assert (result.outcome, result.violations, result.kills, result.mended) == ("complete", [], 1, 0)


def test_a_controller_that_does_not_open_its_record_again_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_site: Any, runner: Any) -> str:
        return "no" if runner is not None else ""

    monkeypatch.setattr(harness, "IN_PLACE", 1.0)
    monkeypatch.setattr(person, "MENDS", 2)
    monkeypatch.setattr(world, "STANDS_STILL", 86400.0)
    monkeypatch.setattr(controlling, "reopen_records", never)
    assert "reopens" in found(told(tmp_path, FULL))


def test_faults_of_a_broker_are_counted_apart(tmp_path: Path) -> None:
    result = told(tmp_path, Fault("broker", "stop", time_s=60.0, for_s=60.0))
    assert (result.not_applicable, dict(result.faults)) == (1, {})
