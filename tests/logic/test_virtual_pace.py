"""Virtual time at a pace that people can watch."""

from __future__ import annotations

import asyncio
import threading
import time

from simulators.virtual import VirtualClock, run


def test_a_paced_run_takes_its_real_time_and_gives_the_same_moments() -> None:
    async def main(clock: VirtualClock) -> list[float]:
        seen: list[float] = []
        for _ in range(5):
            await clock.sleep(60.1)
            seen.append(clock.monotonic())
        return seen

    started = time.monotonic()
    paced = run(main, pace=3005.0)
    took = time.monotonic() - started
    assert 0.095 < took < 1.0
    assert paced == run(main)


def test_what_is_entered_in_the_middle_of_a_paced_wait_comes_in_the_middle() -> None:
    async def main(clock: VirtualClock) -> list[float]:
        seen: list[float] = []
        thread = threading.Timer(0.05, clock.enter, (lambda: seen.append(clock.monotonic()),))
        thread.start()
        await clock.sleep(1000.0)
        thread.join()
        return [*seen, clock.monotonic()]

    entered, ended = run(main, pace=5000.0)
    assert 200.0 < entered < 1000.0
    assert ended == 1000.0


def test_a_person_does_not_make_a_paced_run_hurry_afterwards() -> None:
    async def main(clock: VirtualClock) -> float:
        answered = asyncio.Event()
        back = 0.0

        def answer() -> None:
            nonlocal back
            back = time.monotonic()  # from here the pace counts, however late this coroutine wakes
            answered.set()

        person = threading.Timer(0.3, clock.enter, (answer,))
        with clock.outside("prompt"):
            person.start()
            await answered.wait()
        person.join()
        await clock.sleep(100.0)
        return time.monotonic() - back

    assert run(main, pace=1000.0) > 0.095
