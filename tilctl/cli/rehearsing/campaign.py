"""Many rehearsals in parallel processes: one seed each, watched from outside, in bounded memory.

Each worker is a process of its own that rehearses one seed after the other and is replaced after some, so that what a
rehearsal leaves behind does not add up.  A seed that takes too long is a violation and its worker is killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import signal
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from tilctl.cli.rehearsing.result import Result
from tilctl.cli.rehearsing.worker import Job, serve

SEEDS_A_WORKER = 40
LOOK_EVERY = 1.0  # s between looks at workers that say nothing
ENDS_WITHIN = 5.0  # s for a worker to end when nothing is left to do
MOST_VIOLATIONS = 1000


@dataclass
class Order:
    """What is to be rehearsed: `job` for each of `seeds`, in `jobs` processes, each within `limit_s` of real time."""

    job: Job
    seeds: Sequence[int]
    jobs: int
    limit_s: float
    sockets_every: int = 0  # each so many seeds over real sockets; 0: none


@dataclass
class Tally:
    """What a campaign came to so far."""

    seeds: int = 0
    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    faults: dict[str, int] = field(default_factory=dict[str, int])
    not_applicable: int = 0  # faults of a broker, or of what an instrument has not; not among `faults`
    mended: int = 0  # records opened again in place
    violations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    violated: int = 0  # seeds with one violation or more
    commanded: int = 0
    doubled: int = 0
    in_doubt: int = 0
    kills: int = 0
    held_s: float = 0.0
    touches: int = 0
    simulated_s: float = 0.0
    over_sockets: int = 0
    peak_rss_mb: float = 0.0
    slowest_s: float = 0.0
    interrupted: bool = False
    alarms: Counter[str] = field(default_factory=Counter[str])  # `priority alarm`
    times: list[tuple[int, float, list[str]]] = field(default_factory=list[tuple[int, float, list[str]]])
    last: Result | None = None

    def add(self, result: Result) -> None:
        """Count one rehearsal in."""
        self.seeds += 1
        self.outcomes[result.outcome] = self.outcomes.get(result.outcome, 0) + 1
        for name, number in result.faults.items():
            self.faults[name] = self.faults.get(name, 0) + number
        self.alarms.update(result.alarms)
        self.not_applicable += result.not_applicable
        self.mended += result.mended
        self.violations += result.violations[: max(0, MOST_VIOLATIONS - len(self.violations))]
        self.violated += bool(result.violations)
        self.commanded += result.commanded
        self.doubled += result.doubled
        self.in_doubt += result.in_doubt
        self.kills += result.kills
        self.held_s += result.held_s
        self.touches += result.touches
        self.simulated_s += result.simulated_s
        self.over_sockets += result.sockets
        self.peak_rss_mb = max(self.peak_rss_mb, result.peak_rss_mb)
        self.slowest_s = max(self.slowest_s, result.wall_s)
        self.times.append((result.seed, result.wall_s, [f"{v['invariant']}: {v['text']}" for v in result.violations]))
        self.last = result


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    seed: int | None = None
    since: float = 0.0
    left: int = SEEDS_A_WORKER


def run(order: Order, told: Callable[[Tally, int], None]) -> Tally:
    """Rehearse all seeds; `told(tally, total)` after each.  Ctrl-C ends it early with what there is."""
    tally = Tally()
    waiting = list(reversed(order.seeds))
    workers: list[_Worker] = []
    with _uninterrupted() as interrupted:
        try:
            while (waiting or any(w.seed is not None for w in workers)) and not interrupted():
                _hand_out(order, waiting, workers)
                for worker in _spoken(workers):
                    for result in _heard(order, worker):
                        tally.add(result)
                        told(tally, len(order.seeds))
                _drop_ended(workers)
        finally:
            for worker in workers:
                _end(worker, at_once=bool(interrupted()) or worker.seed is not None)
        tally.interrupted = bool(interrupted())
    return tally


@contextlib.contextmanager
def _uninterrupted() -> Generator[Callable[[], int]]:
    """Count Ctrl-C instead of raising in the middle of something; the function tells how often it came."""
    count = [0]

    def come(_number: int, _frame: Any) -> None:
        count[0] += 1
        if count[0] > 1:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, come)
    try:
        yield lambda: count[0]
    finally:
        signal.signal(signal.SIGINT, before)


def _hand_out(order: Order, waiting: list[int], workers: list[_Worker]) -> None:
    while waiting:
        idle = next((w for w in workers if w.seed is None and w.left > 0), None)
        if idle is None:
            if len(workers) >= order.jobs:
                return
            idle = _begin()
            workers.append(idle)
        seed = waiting.pop()
        sockets = order.sockets_every > 0 and seed % order.sockets_every == 0
        with contextlib.suppress(OSError):  # it died: that is found when nothing comes
            idle.pipe.send(order.job.of(seed, sockets=sockets))
        idle.seed, idle.since, idle.left = seed, time.monotonic(), idle.left - 1


def _begin() -> _Worker:
    context = mp.get_context("spawn")  # a fork would carry our threads' locks along
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _spoken(workers: list[_Worker]) -> list[_Worker]:
    """Return the workers that have something to say, or of which nothing is heard any more."""
    ready = wait([w.pipe for w in workers if w.seed is not None], timeout=LOOK_EVERY)
    late = [] if ready else [w for w in workers if w.seed is not None]
    return [w for w in workers if w.pipe in ready] or late


def _heard(order: Order, worker: _Worker) -> list[Result]:
    """Return the result of a worker, if it has one; one that is stuck or dead gets the violation that it is."""
    seed = worker.seed
    if seed is None:
        return []
    try:
        if worker.pipe.poll():
            result: Result = worker.pipe.recv()
            worker.seed = None
            return [result]
    except (EOFError, OSError):
        pass
    spent = time.monotonic() - worker.since
    if worker.process.is_alive() and spent < order.limit_s:
        return []
    if worker.process.is_alive():
        worker.process.kill()
        text = f"not done after {spent:.0f} s of real time; its log is in the folder of the seed"
    else:
        worker.process.join(ENDS_WITHIN)
        text = (
            f"its process ended with code {worker.process.exitcode}: it stood still, or was killed; see standard error"
        )
    worker.seed, worker.left = None, 0
    lost = {"seed": seed, "invariant": "stuck", "event": 0, "text": text}
    return [Result(seed, "stuck", [lost], {}, 0, 0.0, 0, 0, 0, 0, 0.0, spent, 0, "", sockets=False)]


def _drop_ended(workers: list[_Worker]) -> None:
    for worker in [w for w in workers if w.seed is None and (w.left <= 0 or not w.process.is_alive())]:
        _end(worker, at_once=False)
        workers.remove(worker)


def _end(worker: _Worker, *, at_once: bool) -> None:
    if at_once:
        worker.process.kill()
    else:
        with contextlib.suppress(OSError):
            worker.pipe.send(None)
    worker.process.join(ENDS_WITHIN)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.pipe.close()
