"""Shared equipment by itself: order, ties, clocks that were set back, devices that run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from structlog.testing import capture_logs

from simulators.virtual import VirtualClock, VirtualLoop
from tilctl.plant.outputs import OutputGate
from tilctl.plant.sharing import Sharing

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)


def made(rests: Callable[[str], bool] = lambda _device: True) -> tuple[Sharing, OutputGate]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    gate = OutputGate({}, lambda _device, _readings: None)
    return Sharing(gate, VirtualClock(loop), rests), gate


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


async def test_it_is_granted_in_the_order_of_asking() -> None:
    sharing, gate = made()
    order: list[str] = []

    async def want(owner: str) -> None:
        await sharing.acquire("freezer", owner)
        order.append(owner)

    for number, owner in enumerate(("b1", "b2", "b3", "b4")):
        sharing.ask(["freezer"], owner, after(number))
    waiting = [asyncio.create_task(want(owner)) for owner in ("b4", "b3", "b2", "b1")]  # who awaits first has no say
    await asyncio.sleep(1)
    assert order == ["b1"]
    assert sharing.ask(["freezer"], "b1", after(9)) == after(9)  # has it: takes no second place
    assert sharing.queue("freezer") == ("b2", "b3", "b4")
    sharing.release("freezer", "nobody")
    assert sharing.owner("freezer") == gate.owner("freezer") == "b1", "not another's to give"
    for owner in ("b1", "b2", "b3", "b4"):
        sharing.release("freezer", owner)
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order == ["b1", "b2", "b3", "b4"]
    assert (sharing.owner("freezer"), gate.owner("freezer")) == (None, None)


async def test_a_cancelled_wait_keeps_its_place_and_a_release_gives_it_up() -> None:
    sharing, _ = made()
    for number, owner in enumerate(("b1", "b2", "b3")):
        sharing.ask(["freezer"], owner, after(number))
    waiting = asyncio.create_task(sharing.acquire("freezer", "b2"))
    await asyncio.sleep(0)
    waiting.cancel()  # a hold
    await asyncio.gather(waiting, return_exceptions=True)
    assert sharing.ask(["freezer"], "b2", after(100)) == after(1), "asked again it stands where it stood"
    sharing.release("freezer", "b1")
    assert sharing.owner("freezer") == "b2"
    await asyncio.wait_for(sharing.acquire("freezer", "b2"), 1.0)
    sharing.release("freezer", "b3")  # leaves the queue
    sharing.release("freezer", "b2")
    assert sharing.owner("freezer") is None
    with pytest.raises(RuntimeError, match="has not asked"):
        await sharing.acquire("freezer", "b3")


async def test_a_place_is_never_before_those_that_wait_also_when_the_clock_was_set_back() -> None:
    sharing, _ = made()
    sharing.ask(["freezer"], "b1", after(0))
    assert sharing.ask(["freezer"], "b2", after(3600)) == after(3600)
    third = sharing.ask(["freezer"], "b3", after(60))
    assert third > after(3600)
    same = sharing.ask(["freezer"], "b0", third)
    assert same > third
    assert sharing.queue("freezer") == ("b2", "b3", "b0")


async def test_the_order_after_a_restart_does_not_depend_on_the_order_of_reading() -> None:
    places = [(after(2), "cell2-a"), (after(1), "cell3-a"), (after(2), "cell1-a")]
    for order in permutations(places):
        sharing, _ = made()
        assert sharing.restore("freezer", "cell4-a", after(0))
        for since, owner in order:
            sharing.wait_again("freezer", owner, since)
        assert sharing.queue("freezer") == ("cell3-a", "cell1-a", "cell2-a"), "by time, then by unit"


async def test_what_runs_is_granted_to_nobody_until_it_is_known_to_rest() -> None:
    rests = {"freezer": False}
    sharing, gate = made(lambda device: rests[device])
    told: list[int] = []
    sharing.changed.append(lambda: told.append(1))
    sharing.ask(["freezer"], "b1", after(0))
    assert sharing.owner("freezer") is None, "it runs, nobody knows for whom"
    sharing.scanned("freezer")
    assert sharing.owner("freezer") is None
    rests["freezer"] = True
    told.clear()
    sharing.scanned("freezer")
    assert sharing.owner("freezer") == gate.owner("freezer") == "b1"
    assert told == [1]
    rests["freezer"] = False
    sharing.ask(["freezer"], "b2", after(1))
    sharing.release("freezer", "b1")
    holder = sharing.holder("freezer")
    assert holder is not None
    assert (holder.owner, holder.leaving) == ("b1", True), "kept until its run has ended"
    sharing.ask(["freezer"], "b1", after(2))
    assert sharing.queue("freezer") == ("b2", "b1"), "who wants it back stands behind"
    rests["freezer"] = True
    sharing.scanned("freezer")
    assert sharing.owner("freezer") == "b2"


async def test_two_who_need_the_same_two_never_wait_for_each_other() -> None:
    sharing, _ = made()
    done: list[str] = []

    async def work(owner: str, devices: list[str]) -> None:
        sharing.ask(devices, owner, after(0))
        for device in devices:
            await sharing.acquire(device, owner)
            await asyncio.sleep(1)
        done.append(owner)
        for device in devices:
            sharing.release(device, owner)

    async with asyncio.timeout(60):
        await asyncio.gather(work("b1", ["freezer", "washer"]), work("b2", ["washer", "freezer"]))
    assert done == ["b1", "b2"]


async def test_a_device_that_another_has_is_not_restored_to_a_second() -> None:
    sharing, gate = made()
    assert sharing.restore("freezer", "b1", after(0))
    with capture_logs() as logs:
        assert not sharing.restore("freezer", "b2", after(1))
    assert [entry["event"] for entry in logs] == ["shared_device_has_an_owner"]
    assert sharing.owner("freezer") == gate.owner("freezer") == "b1"
