"""The simulated operator: answers within limits, the same whenever asked, and hands that act in their time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.clock import SystemClock
from simulators.bench import Bench, BenchError
from simulators.faults import Fault
from simulators.habits import GOOD_HABITS, Habits, habits_of
from simulators.operator import Operator
from simulators.plant import Plant
from simulators.remote import BenchClient, BenchServer, threaded

ASKED = "2026-01-05T08:00:00.000Z"


class HandClock:
    t = 0.0

    def monotonic(self) -> float:
        return self.t

    def utc(self, monotonic: float) -> datetime:
        return datetime(2026, 1, 5, 8, 0, tzinfo=UTC) + timedelta(seconds=monotonic)


class Room:
    def __init__(self, seed: int = 1, haste: float = 1.0) -> None:
        self.clock: Any = HandClock()
        self.plant = Plant(self.clock, seed)
        self.bench = Bench(self.plant)
        self.operator = Operator(seed, self.bench.call, haste)
        self.number = 0

    def ask(self, path: str, kind: str = "ask", **more: Any) -> Any:
        self.number += 1
        asked = self.clock.utc(self.clock.t).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        prompt = {"id": f"p{self.number}", "batch": "b1", "path": path, "kind": kind, "text": "", "asked": asked}
        return self.operator.answer(prompt | more)


def hang_item(name: str, port: int, holds: str = "", volume: float | None = None, kind: str = "bag") -> dict[str, Any]:
    return {
        "name": name,
        "port": port,
        "kind": kind,
        "class": kind,
        "holds": holds,
        "limit_ml": 5000.0,
        "volume_ml": volume,
    }


NUMBERS = st.tuples(st.floats(0.0, 1e12), st.floats(0.0, 1e12)).map(sorted)


@settings(max_examples=60)
@given(limits=NUMBERS, seed=st.integers(0, 1000), unit=st.sampled_from(["mL", "cells", "s", "", "%"]))
def test_numbers_stay_within_the_limits_of_the_prompt(limits, seed, unit):
    operator = Operator(seed, {}.get)
    low, high = limits
    spec = {"type": "number", "unit": unit, "canonical": unit, "min": low, "max": high}
    for path in ("x/anything", "reduce_count/feeder_count"):
        prompt = {"id": "p1", "path": path, "kind": "ask", "text": "", "asked": ASKED, "inputs": {"amount": spec}}
        text = operator.answer(prompt).inputs["amount"]
        value = float(str(text).split()[0])
        assert low - 1e-3 * abs(low) <= value <= high + 1e-3 * abs(high)
        assert str(text).partition(" ")[2] == unit


def test_the_same_prompt_gets_the_same_answer_and_another_seed_another_one():
    inputs = {"amount": {"type": "number", "unit": "mL", "min": 0, "max": 100}}
    first, again, other = (
        Room(1).ask("a/b", inputs=inputs),
        Room(1).ask("a/b", inputs=inputs),
        Room(2).ask("a/b", inputs=inputs),
    )
    assert first == again
    assert first != other


def test_choices_scans_and_signatures():
    answer = Room().ask(
        "receipt/arrive",
        inputs={
            "band_ok": {"type": "choice", "choices": ["no", "yes"]},
            "odd": {"type": "choice", "choices": ["left", "right"]},
            "since_surgery": {"type": "number", "unit": "h", "canonical": "s", "min": 0, "max": 172800},
            "scan.lot": {"type": "scan"},
            "sign.operator": {"type": "text"},
            "sign.verifier": {"type": "text"},
        },
    )
    assert answer.inputs["band_ok"] == "yes"
    assert answer.inputs["odd"] == "left"
    assert str(answer.inputs["since_surgery"]).endswith(" h")
    assert 12.0 <= float(str(answer.inputs["since_surgery"]).split()[0]) <= 30.0
    assert str(answer.inputs["scan.lot"]).startswith("LOT-")
    assert answer.inputs["sign.operator"] != answer.inputs["sign.verifier"]
    assert 600.0 <= answer.delay_s <= 1500.0


@pytest.mark.parametrize(
    ("path", "kind", "low", "high"),
    [
        ("x/count16", "sample", 3600.0, 7200.0),
        ("x/count16", "result", 13 * 86400.0, 14 * 86400.0),
        ("x/draw/1/resuspend", "ask", 60.0, 600.0),
        ("x/other", "ask", 60.0, 900.0),
    ],
)
def test_delays_are_those_of_people(path, kind, low, high):
    assert low <= Room().ask(path, kind).delay_s <= high


def test_people_keep_deadlines_and_can_be_hurried():
    due = "2026-01-05T08:01:00.000Z"
    assert Room().ask("x/count", "sample", due=due).delay_s <= 48.0
    assert Room(haste=0.01).ask("x/count", "sample").delay_s <= 72.0


def test_a_sterility_culture_is_pending_with_the_count_and_known_after_14_days():
    spec = {"sterility": {"type": "choice", "choices": ["pending", "no_growth", "growth"]}}
    assert Room().ask("x/count16", "sample", inputs=spec).inputs == {"sterility": "pending"}
    assert Room().ask("x/count16", "result", inputs=spec).inputs == {"sterility": "no_growth"}


def test_mounting_hangs_what_was_answered_shortly_before_the_answer():
    room = Room()
    inputs = {"volume.cm1": {"type": "number", "unit": "mL", "min": 0, "max": 5000}, "scan.cm1": {"type": "scan"}}
    answer = room.ask("a/cm1_in", "mount", containers=[hang_item("cm1", 7, "CM1: IL-2")], inputs=inputs)
    volume = float(str(answer.inputs["volume.cm1"]).split()[0])
    assert 4600.0 <= volume <= 4900.0
    room.clock.t = answer.delay_s - 11.0
    assert room.plant.place(7) is None
    room.clock.t = answer.delay_s - 1.0
    hung = room.plant.place(7)
    assert hung is not None
    assert hung.contents.volume == pytest.approx(volume, abs=0.1)
    assert hung.contents.concentration("glucose") == pytest.approx(11.0)
    assert hung.contents.concentration("il2") == pytest.approx(6000.0)


def test_feeders_are_hung_as_they_were_counted():
    room = Room()
    counted = room.ask("a/feeder_count", inputs={"cells": {"type": "number"}, "volume": {"type": "number"}}).inputs
    volume = float(str(counted["volume"]).split()[0])
    answer = room.ask("a/rep_in", "mount", containers=[hang_item("feeders", 8, "irradiated PBMC", volume)])
    room.clock.t = answer.delay_s
    hung = room.plant.place(8)
    assert hung is not None
    assert hung.contents.feeders == pytest.approx(float(str(counted["cells"]).split()[0]))
    assert hung.contents.feeders >= 5e9
    assert hung.contents.volume == volume


def test_feeders_are_as_many_as_the_question_wants_and_those_counted_last_are_hung():
    room = Room()
    for least, most_ml in ((5e8, 100.0), (2e9, 200.0)):
        spec = {"cells": {"type": "number", "min": 0, "max": 1e10}, "volume": {"type": "number", "max": most_ml}}
        said = room.ask("a/feeders", text=f"Thaw feeders, at least {least:g} cells, and count them", inputs=spec).inputs
        cells, volume = (float(str(said[name]).split()[0]) for name in ("cells", "volume"))
        assert 1.02 * least <= cells <= 1.3 * least
        assert 0.4 * most_ml <= volume <= 0.6 * most_ml
        room.clock.t += room.ask("a/in", "mount", containers=[hang_item("feeders", 8, "irradiated", volume)]).delay_s
        assert room.plant.place(8).contents.feeders == pytest.approx(cells)
        room.bench.take(8)


def test_til_of_a_pool_are_hung_as_they_were_counted():
    room = Room()
    spec = {"cells": {"type": "number", "min": 5e6, "max": 1e7}, "volume": {"type": "number", "min": 5, "max": 50}}
    spec["viability"] = {"type": "number", "canonical": "%", "min": 0, "max": 100}
    said = room.ask("a/seed", text="Take TIL of the pool and count them", inputs=spec).inputs
    cells, volume = (float(str(said[name]).split()[0]) for name in ("cells", "volume"))
    assert 5e6 <= cells <= 1e7
    assert float(str(said["viability"]).split()[0]) > 80.0
    room.clock.t = room.ask("a/in", "mount", containers=[hang_item("til", 8, "Tumour-infiltrating T")]).delay_s
    hung = room.plant.place(8).contents
    assert (hung.viable, hung.volume) == (pytest.approx(cells), volume)


def test_a_liquid_is_what_its_bag_says_it_holds():
    room = Room()
    said = "REP medium: RPMI-type and AIM-V 1:1, glucose 14 mmol/L, IL-2 1000 IU/mL, OKT3 30 ng/mL"
    room.clock.t = room.ask("a/in", "mount", containers=[hang_item("rep_medium", 8, said)]).delay_s
    hung = room.plant.place(8).contents
    assert [hung.concentration(name) for name in ("glucose", "il2", "okt3")] == pytest.approx([14.0, 1000.0, 30.0])


@pytest.mark.parametrize(
    ("said", "activator", "glucose"),
    [
        ("CD3/CD28 activation reagent", 1.0, 0.0),
        ("Activation reagent, lot A", 1.0, 0.0),
        ("AIM-V with CD3/CD28 reagent, glucose 17 mmol/L", 0.05, 17.0),
        ("AIM-V, glucose 17 mmol/L, IL-2 300 IU/mL", 0.0, 17.0),
    ],
)
def test_a_bag_of_cd3_cd28_reagent_is_known_by_its_words(said: str, activator: float, glucose: float):
    room = Room()
    room.clock.t = room.ask("a/in", "mount", containers=[hang_item("dose", 8, said)]).delay_s
    hung = room.plant.place(8).contents
    assert hung.concentration("activator") == pytest.approx(activator)
    assert hung.concentration("glucose") == pytest.approx(glucose)


def test_glucose_is_that_of_all_the_liquid_and_its_sample_stirs_no_cells_up():
    room = Room()
    for port, volume, glucose in ((1, 100.0, 6.0), (2, 300.0, 2.0)):
        content = {"liquid": "medium", "glucose": glucose, "cells": 1e8}
        room.bench.hang(port, "vessel", "gas-permeable-100cm2", volume, content, f"grow[{port}]")
    room.clock.t = 86400.0
    spec = {"glucose": {"type": "number", "unit": "mmol/L", "canonical": "mmol/L", "min": 0, "max": 50}}
    source = [{"container": f"grow[{port}]", "port": port} for port in (1, 2)]
    answer = room.ask("rep/daily/3/look", "sample", inputs=spec, **{"from": source}).inputs
    assert float(str(answer["glucose"]).split()[0]) == pytest.approx(3.0, rel=0.2)
    assert room.plant.place(1).disturbed < 86400.0
    left = room.plant.place(1).contents
    assert left.viable + left.dead == pytest.approx(1e8, rel=1e-3)


def test_fragments_are_shared_among_the_flasks_and_water_gets_none():
    for text, expected in (("Cut fragments", range(160, 201)), ("No cells, no fragments", range(1))):
        room = Room()
        spec = {"count": {"type": "number", "min": 0, "max": 200}, "flasks": {"type": "number", "min": 1, "max": 4}}
        told = room.ask("a/fragments", text=text, inputs=spec).inputs
        assert int(float(str(told["count"]))) in expected
        assert float(str(told["flasks"])) == 4.0
        flasks = [hang_item(f"pre[{i}]", i, "tumour fragments", 0.0, "vessel") for i in range(1, 5)]
        room.clock.t = room.ask("a/flasks_in", "mount", containers=flasks).delay_s
        loaded = [room.plant.place(i).fragments for i in range(1, 5)]
        assert sum(loaded) == float(str(told["count"]))
        assert max(loaded) - min(loaded) <= 1


def test_unmounting_takes_what_is_there_and_a_repeated_prompt_does_it_once():
    room = Room()
    room.bench.hang(7, volume_ml=10.0, name="cm1")
    prompt = {
        "id": "p9",
        "batch": "b1",
        "path": "a/out",
        "kind": "unmount",
        "text": "Take away",
        "asked": ASKED,
        "containers": [{"name": "cm1", "port": 7}, {"name": "gone", "port": 8}],
    }
    answer = room.operator.answer(prompt)
    assert room.operator.answer(prompt) == answer
    room.clock.t = answer.delay_s
    assert room.plant.place(7) is None
    assert room.bench.problems == []
    assert room.plant.volume_total() == 10.0


def test_a_count_is_near_the_truth_and_costs_a_sample():
    room = Room()
    room.bench.hang(7, volume_ml=200.0, content={"liquid": "cm1", "cells": 1e8, "dead": 1e7}, name="pool")
    inputs = {
        "tvc": {"type": "number", "canonical": "cells", "min": 0, "max": 2e11},
        "viability": {"type": "number", "canonical": "%", "min": 0, "max": 100},
    }
    source = [{"container": "pool", "place": "h1", "port": 7, "volume_ml": 200.0}]
    answer = room.ask("a/count11", "sample", inputs=inputs, **{"from": source}).inputs
    assert float(str(answer["tvc"]).split()[0]) == pytest.approx(1e8, rel=0.35)
    assert float(str(answer["viability"]).split()[0]) == pytest.approx(90.9, abs=4.0)
    assert room.plant.place(7).contents.volume == pytest.approx(198.0)
    assert room.plant.volume_total() == pytest.approx(200.0)


CHEMISTRY = {name: {"type": "number", "canonical": "mmol/L", "min": 0, "max": 100} for name in ("glucose", "lactate")}


def mm(answer: Any, name: str) -> float:
    value, unit = str(answer.inputs[name]).split()
    assert unit == "mmol/L"
    return float(value)


def test_glucose_and_lactate_of_a_sample_are_near_the_truth():
    room = Room()
    room.bench.hang(7, volume_ml=300.0, content={"liquid": "cm1", "lactate": 4.0, "cells": 1e6}, name="a")
    room.bench.hang(8, volume_ml=100.0, content={"liquid": "cm4", "lactate": 8.0}, name="b")
    source = [{"container": name, "place": "h", "port": port, "volume_ml": 1.0} for name, port in (("a", 7), ("b", 8))]
    one, both = (room.ask("x/chem", "sample", inputs=CHEMISTRY, **{"from": source[:n]}) for n in (1, 2))
    assert (mm(one, "glucose"), mm(one, "lactate")) == (
        pytest.approx(11.0, rel=0.2),
        pytest.approx(4.0, rel=0.2),
    )
    assert mm(both, "glucose") == pytest.approx(12.5, rel=0.15), "mixed by volume"
    assert mm(both, "lactate") == pytest.approx(5.0, rel=0.15)
    assert mm(one, "glucose") != 11.0


def test_a_question_for_glucose_is_answered_from_the_vessel_of_its_loop_and_takes_nothing():
    room = Room()
    for i, liquid in ((1, "cm1"), (2, "cm4")):
        room.bench.hang(i, "vessel", "gas-permeable-100cm2", 100.0, {"liquid": liquid}, f"pre[{i}]")
    for path, wanted in (("feed/flask/2/look", 17.0), ("feed/flask/1/look", 11.0), ("feed/look", 14.0)):
        answer = room.ask(path, inputs={"glucose": CHEMISTRY["glucose"]})
        assert mm(answer, "glucose") == pytest.approx(wanted, rel=0.15)
    named = room.ask("feed/flask/1/look", inputs=CHEMISTRY, containers=[{"name": "pre[2]"}, {"name": "gone"}])
    assert mm(named, "glucose") == pytest.approx(17.0, rel=0.2)
    assert mm(named, "lactate") == 0.0
    assert room.plant.volume_total() == 200.0


def test_glucose_in_another_unit_or_of_nothing_is_only_within_its_limits():
    room = Room()
    grams = {"glucose": {"type": "number", "canonical": "g/L", "min": 1, "max": 3}}
    assert 1.0 <= float(str(room.ask("feed/look", inputs=grams).inputs["glucose"]).split()[0]) <= 3.0
    assert 0.0 <= mm(room.ask("feed/look", inputs=CHEMISTRY), "glucose") <= 100.0


def test_resuspending_swirls_the_vessel_of_the_loop():
    room = Room()
    for i in (1, 2):
        room.bench.hang(i, "vessel", "gas-permeable-100cm2", 100.0, None, f"pre[{i}]")
    room.clock.t = 86400.0
    answer = room.ask("reduce_count/draw/2/resuspend")
    room.clock.t += answer.delay_s
    assert room.plant.place(1).disturbed == 0.0
    assert room.plant.place(2).disturbed > 86400.0
    room.clock.t += room.ask("bags/daily/3/each/1/full/1/resuspend", text="Knead pre[2] well").delay_s
    assert room.plant.place(1).disturbed == 0.0, "whatever the numbers of turns and branches"


def test_washing_formulating_freezing_and_storing():
    room = Room()
    room.bench.hang(7, volume_ml=1000.0, content={"liquid": "cm4", "cells": 1e10, "dead": 1e9}, name="gathered")
    washed = room.ask(
        "harvest/wash",
        text="Wash to 100 mL in the closed washer",
        inputs={"volume": {"type": "number"}, "tvc": {"type": "number", "canonical": "cells"}},
    ).inputs
    volume = float(str(washed["volume"]).split()[0])
    assert volume == pytest.approx(100.0, rel=0.03)
    assert float(str(washed["tvc"]).split()[0]) == pytest.approx(9e9, rel=0.25)
    items = [
        hang_item("conc", 8, "", volume),
        hang_item("product[1]", 9, "", 0.0),
        hang_item("cs10", 10, "CS10: 10 % DMSO"),
    ]
    room.clock.t += room.ask("cryopreserve/bags_in", "mount", containers=items).delay_s
    assert room.plant.place(8).contents.viable > 8e9
    assert room.plant.place(10).contents.concentration("dmso") == pytest.approx(0.1)
    room.bench.hang(9, volume_ml=100.0, content={"liquid": "cs10", "cells": 1e9}, name="product[1]")
    room.clock.t += room.ask("cryopreserve/load", text="Load the bags into the freezer").delay_s
    assert room.plant.place(9) is None
    assert room.plant.devices["freezer"].read(4, 15, 1) == [1]
    room.clock.t += room.ask("cryopreserve/store").delay_s
    assert room.plant.devices["freezer"].read(4, 15, 1) == [0]
    assert room.plant.volume_total() == pytest.approx(room.plant.aside.brought_ml)


def test_a_person_finds_out_what_was_moved():
    room = Room()
    room.bench.hang(7, volume_ml=500.0, name="cm1")
    room.bench.hang(1, "vessel", "gas-permeable-100cm2", name="pre[1]")
    with room.plant.change() as t:
        room.plant.fluidics.select("pump_media", 7, 1)
        room.plant.fluidics.start("pump_media", 1, 60.0, 100.0, t)
    room.clock.t = 30.0
    with room.plant.change() as t:
        room.plant.fluidics.stop("pump_media", t)
    spec = {"delivered": {"type": "number", "unit": "mL", "min": 0, "max": 120}, "why": {"type": "text"}}
    answer = room.ask(
        "a/fill", "reconcile", text="How many mL went from cm1 to pre[1]? 100 mL were commanded", inputs=spec
    )
    assert float(str(answer.inputs["delivered"]).split()[0]) == pytest.approx(
        30.0 * (1.0 - room.plant.pumps["pump_media"].slip), rel=1e-3
    )
    assert answer.inputs["why"]


@pytest.mark.parametrize(
    ("name", "args", "text"),
    [
        ("dance", {}, "no action"),
        ("take", {"port": 99}, "no port 99"),
        ("take", {"port": "nobody"}, "nobody"),
        ("take", {"port": 3}, "nothing hangs"),
        ("hang", {"port": 3, "shape": "round"}, "shape"),
        ("hang", {"port": 3, "content": {"liquid": "tea"}}, "tea"),
        ("hang", {"port": 3, "content": {"shelf": "x"}}, "not on the shelf"),
        ("moved", {"source": 1, "destination": 2}, "nothing was ever pumped"),
    ],
)
def test_what_the_bench_cannot_do_is_said(name, args, text):
    with pytest.raises(BenchError, match=text):
        Room().bench.call(name, args)


async def test_the_bench_over_tcp_and_from_another_thread():
    clock = SystemClock()
    bench = Bench(Plant(clock, 1))
    server = BenchServer(bench)
    port = await server.start()

    def visit() -> tuple[Any, str, Any]:
        client = BenchClient("127.0.0.1", port, 10.0)
        hung = client.call("hang", {"port": 7, "volume_ml": 5.0, "name": "bag"})
        with pytest.raises(BenchError) as refused:
            client.call("take", {"port": 8})
        client.close()
        return hung, str(refused.value), threaded(bench, clock, 10.0)("find", {"name": "bag"})

    hung, refused, found = await asyncio.to_thread(visit)
    idle = await asyncio.to_thread(BenchClient, "127.0.0.1", port, 10.0)
    await asyncio.to_thread(idle.call, "time", {})
    await server.close()
    with pytest.raises(ConnectionError):
        await asyncio.to_thread(idle.call, "time", {})
    idle.close()
    clock.close()
    assert hung["volume_ml"] == 5.0
    assert "nothing hangs" in refused
    assert found == {"name": "bag", "port": 7, "volume_ml": 5.0}


# --- bad habits -------------------------------------------------------------------------------------------------------

VOLUME = {"volume.cm1": {"type": "number", "unit": "mL", "canonical": "mL", "min": 0, "max": 5000}}
CHOICE = {
    "pass": {"type": "choice", "choices": ["yes", "no"]},
    "cells": {"type": "number", "unit": "cells", "min": 10, "max": 20},
}


def with_habits(**habits: float) -> Room:
    room = Room()
    room.operator.habits = Habits(**habits)
    return room


def test_by_default_people_have_good_habits() -> None:
    answer = Room().ask("a/b", inputs=CHOICE)
    assert answer.again == ()
    assert with_habits().ask("a/b", inputs=CHOICE) == answer


def test_late_people_are_late_with_their_hands_too() -> None:
    container = [hang_item("cm1", 7, "CM1 serum")]
    room = with_habits(late=1.0, late_by=6.0)
    usual = Room().ask("a/in", "mount", containers=container, inputs=VOLUME)
    late = room.ask("a/in", "mount", containers=container, inputs=VOLUME)
    assert late.delay_s == pytest.approx(6.0 * usual.delay_s, rel=1e-3)
    assert late.inputs == usual.inputs
    room.clock.t = usual.delay_s
    assert room.plant.place(7) is None
    room.clock.t = late.delay_s
    assert room.plant.place(7) is not None
    due = (datetime(2026, 1, 5, 8, 10, tzinfo=UTC)).isoformat()
    assert Room().ask("a/in", "mount", containers=container, inputs=VOLUME, due=due).delay_s < 600.0
    assert with_habits(late=1.0, late_by=6.0).ask("a/in", "mount", containers=container, due=due).delay_s > 600.0
    lab = {"inputs": CHOICE, "results": ["pass"]}
    assert room.ask("a/s", "result", **lab).delay_s == Room().ask("a/s", "result", **lab).delay_s


def test_a_double_click_is_the_same_answer_with_the_same_id_and_with_another() -> None:
    answer = with_habits(double=1.0).ask("a/b", inputs=CHOICE)
    assert [(again.inputs == answer.inputs, again.same_id) for again in answer.again] == [(True, True), (True, False)]
    assert 0.0 < answer.again[0].after_s < answer.again[1].after_s <= 30.0


def test_a_contradiction_is_another_answer_that_is_allowed() -> None:
    answer = with_habits(contradictory=1.0).ask("a/b", inputs=CHOICE)
    (again,) = answer.again
    assert not again.same_id
    assert (answer.inputs["pass"], again.inputs["pass"]) == ("yes", "no")
    first, second = (float(str(given["cells"]).split()[0]) for given in (answer.inputs, again.inputs))
    assert first != second
    assert 10 <= second <= 20


def test_a_mistyped_volume_is_not_what_hangs_there() -> None:
    container = [hang_item("cm1", 7, "CM1 serum")]
    room = with_habits(mistyped=1.0, mistyped_by=-0.1)
    answer = room.ask("a/in", "mount", containers=container, inputs=VOLUME)
    room.clock.t = answer.delay_s
    place = room.plant.place(7)
    assert place is not None
    assert float(str(answer.inputs["volume.cm1"]).split()[0]) == pytest.approx(0.9 * place.contents.volume, rel=1e-3)
    narrow = {"volume.cm1": {"type": "number", "unit": "mL", "min": 4800, "max": 5000}}
    answer = with_habits(mistyped=1.0, mistyped_by=0.5).ask("a/in", "mount", containers=container, inputs=narrow)
    assert answer.inputs["volume.cm1"] == "5000 mL"


def test_habits_strike_a_share_of_the_answers_the_same_ones_for_a_seed() -> None:
    def struck() -> list[bool]:
        room = with_habits(double=0.3)
        return [bool(room.ask(f"a/{i}", inputs=CHOICE).again) for i in range(300)]

    assert struck() == struck()
    assert 60 < sum(struck()) < 120


def test_faults_of_the_operator_are_habits() -> None:
    given = [
        Fault("operator", "late", time_s=0.0, for_s=1.0, args={"factor": 3.0}),
        Fault("operator", "wrong_volume", time_s=0.0, for_s=1.0, args={"by": -20.0}),
        Fault("broker", "late", time_s=0.0, for_s=1.0, args={"delay": 3.0}),
    ]
    assert habits_of(given) == Habits(late=1.0, late_by=3.0, mistyped=1.0, mistyped_by=-0.2)
    assert habits_of([]) == GOOD_HABITS
    assert habits_of([Fault("operator", "double", time_s=0.0, for_s=1.0)]).double == 1.0


def test_a_dispense_that_never_was_is_reconciled_as_nothing() -> None:
    room = with_habits(mistyped=1.0, mistyped_by=0.5, contradictory=1.0, double=1.0)
    room.bench.hang(7, volume_ml=500.0, name="cm1")
    room.bench.hang(1, "vessel", "gas-permeable-100cm2", name="pre[1]")
    with room.plant.change() as t:
        room.plant.fluidics.select("pump_media", 7, 1)
        room.plant.fluidics.start("pump_media", 4, 60.0, 30.0, t)
    room.clock.t = 100.0
    spec = {"delivered": {"type": "number", "unit": "mL", "min": 0, "max": 120}}
    text = "How many mL went from cm1 to pre[1]? 100 mL were commanded"
    for sequence, moved in ((5, 0.0), (4, 30.0 * (1.0 - room.plant.pumps["pump_media"].slip))):
        answer = room.ask("a/fill", "reconcile", text=text, inputs=spec, sequence=sequence)
        assert float(str(answer.inputs["delivered"]).split()[0]) == pytest.approx(moved, rel=1e-3)
        assert answer.again == (), "nobody jokes about a dose in doubt"
