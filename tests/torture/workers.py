"""Several suites side by side: each worker tortures one batch after the other until its share of kills is made."""

from __future__ import annotations

import multiprocessing
import os
import queue
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from tests.torture.batch import FRESH, Plan, Result, Torture
from tests.torture.orphan import die_with_parent
from tests.torture.rig import Rig, forks
from tilctl.cli.simulated import SITES
from tilctl.gateway.broker import EmbeddedBroker


@dataclass(frozen=True)
class Order:
    """What is to be done by all workers together."""

    kills: int
    seed: int
    out: Path
    jobs: int
    recipe: str = "shakedown"
    site: str = SITES[0]
    starve: bool = False
    wrong: str = ""
    points: bool = False
    still: bool = False
    fresh: float = FRESH
    keep: bool = False


@dataclass
class Total:
    """What all batches came to."""

    order: Order
    batches: list[tuple[int, str, Result]] = field(default_factory=list[tuple[int, str, Result]])
    broken: list[str] = field(default_factory=list[str])
    wall_s: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Return it as one object."""
        results = [result for *_, result in self.batches]
        found = [result.findings for result in results]
        fresh = [seconds for result in results for seconds in result.recoveries]
        forked = [seconds for result in results for seconds in result.forked]
        where: Counter[str] = Counter()
        for result in results:
            where.update(result.killed_in)
        return {
            "kills": sum(result.kills for result in results),
            "acknowledged": sum(each.acknowledged for each in found),
            "lost": sum(len(each.lost) for each in found),
            "doubled": sum(len(each.doubled) for each in found),
            "in_doubt": sum(each.in_doubt for each in found),
            "final_state": dict(Counter(each.state for each in found)),
            "recovery_seconds": _spread(fresh or forked),
            "recovery_seconds_forked": _spread(forked),
            "starts": {"fresh": len(fresh), "forked": len(forked)},
            "other": len(self.broken) + sum(len(each.other) for each in found),
            "batches": len(results),
            "doses": sum(each.doses for each in found),
            "simulated_days": round(sum(result.days for result in results), 2),
            "wall_seconds": round(self.wall_s, 1),
            "killed_in": dict(where.most_common()),
            "seed": self.order.seed,
            "site": self.order.site,
            "findings": [
                *(
                    {"seed": seed, "folder": folder, "text": text}
                    for seed, folder, result in self.batches
                    for text in result.findings.bad
                ),
                *({"seed": self.order.seed, "folder": "", "text": text} for text in self.broken),
            ],
        }  # fmt: skip


def _spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {"p50": 0.0, "max": 0.0}
    return {"p50": round(statistics.median(seconds), 3), "max": round(max(seconds), 3)}


def torture(order: Order) -> Total:
    """Do it; progress goes to standard error."""
    total = Total(order)
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    shares = [order.kills // order.jobs + (1 if i < order.kills % order.jobs else 0) for i in range(order.jobs)]
    began = time.monotonic()
    workers = [
        context.Process(target=work, args=(order, number, share, results))
        for number, share in enumerate(shares)
        if share
    ]
    busy = [
        subprocess.Popen(["nice", sys.executable, "-c", "while True: pass"]) for _ in range(2 * _cores() * order.starve)
    ]
    for worker in workers:
        worker.start()
    try:
        left = len(workers)
        while left:
            try:
                said = results.get(timeout=1.0)
            except queue.Empty:
                if any(worker.exitcode not in (0, None) for worker in workers):
                    total.broken.append("a worker ended by itself")
                    break
                continue
            if said is None:
                left -= 1
            elif isinstance(said, str):
                total.broken.append(said)
            else:
                total.batches.append(said)
                _progress(total, began)
    finally:
        for process in busy:
            process.kill()
            process.wait()
        for worker in workers:
            worker.join(30)
            if worker.exitcode is None:
                worker.kill()
    total.wall_s = time.monotonic() - began
    return total


def _cores() -> int:
    return os.cpu_count() or 1


def _progress(total: Total, began: float) -> None:
    kills = sum(result.kills for *_, result in total.batches)
    bad = sum(len(result.findings.bad) for *_, result in total.batches)
    seconds = time.monotonic() - began
    print(
        f"\r{kills}/{total.order.kills} kills, {len(total.batches)} batches, {bad} findings, {seconds:.0f} s "
        f"({kills / seconds:.1f} kills/s)",
        end="", file=sys.stderr, flush=True,
    )  # fmt: skip


def _batch(
    order: Order, context: ForkServerContext, url: str, name: str, seed: int, plan: Plan, results: Any,
    like: Mapping[str, tuple[str, str]] | None = None,
) -> Result:  # fmt: skip
    """Torture one batch; `like`: the times that its steps must have."""
    folder = order.out / f"{name}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    with Rig(folder, url, name, seed, context, order.wrong, order.site) as rig:
        result = Torture(rig, plan, seed).run()
    if like is not None:
        different = [path for path in like | result.times if like.get(path) != result.times.get(path)]
        shown = [f"{path}: {result.times.get(path)} instead of {like.get(path)}" for path in different[:3]]
        if shown:
            text = f"{len(different)} of {len(like)} steps at other times than without a kill: {'; '.join(shown)}"
            result.findings.other.append(text)
    if not result.findings.bad and not order.keep:
        shutil.rmtree(folder)
    results.put((seed, str(folder), result))
    return result


def _points(order: Order, context: ForkServerContext, url: str, results: Any) -> None:
    """One batch without a kill, one killed at every boundary that may cost no time, one at every boundary there is."""
    seed, most = order.seed, order.kills
    unkilled = _batch(order, context, url, "unkilled", seed, Plan(0, order.recipe, still=True, fresh=0.0), results)
    sparing = Plan(most, order.recipe, points=True, sparing=True, still=True, fresh=0.0)
    _batch(order, context, url, "sparing", seed, sparing, results, unkilled.times)
    every = Plan(most, order.recipe, points=True, still=True, fresh=0.0)
    _batch(order, context, url, "every", seed, every, results)


def work(order: Order, number: int, kills: int, results: Any) -> None:
    """Be one worker: a broker of its own, one suite after the other."""
    die_with_parent()
    context = forks()
    batch = 0
    try:
        with EmbeddedBroker() as broker:
            if order.points:
                _points(order, context, broker.url, results)
            while kills > 0 and not order.points:
                seed = order.seed + 1000 * number + batch
                batch += 1
                plan = Plan(kills, order.recipe, still=order.still, fresh=order.fresh)
                result = _batch(order, context, broker.url, f"w{number}b{batch}", seed, plan, results)
                kills -= result.kills
                if result.findings.bad and (order.wrong or result.kills == 0):
                    break  # a wrong controller is caught; one that does not even start would not be killed either
    except Exception:  # noqa: BLE001 - a worker that breaks is a finding, not silence
        results.put(f"worker {number}, batch {batch}: {traceback.format_exc()}")
    results.put(None)
