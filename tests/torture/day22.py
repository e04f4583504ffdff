"""`python -m tests.torture.day22`: how long from a kill to control, with the journal of day 22.

A whole `til-22d` runs over real sockets until its last day; then the controller is killed and started again as a new
interpreter, and timed until it is in control: record verified and folded, devices read, targets as they must be.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.hands import Hands
from tests.torture.rig import Rig, forks
from tests.torture.watch import Watch
from tilctl.engine.machine import FINAL, State
from tilctl.engine.state import fold
from tilctl.gateway.broker import EmbeddedBroker

KILL_AT = "freeze_started"  # the mark with which the freezing run begins, on day 22
WITHIN_S = 2.0
MOST_S = 900.0  # real s


def main() -> int:
    """Measure, print one object; 1 when control was not back in time."""
    parser = argparse.ArgumentParser(prog="day22", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--starts", type=int, default=9, help="how often it is killed and started")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedBroker() as broker,
        Rig(Path(folder) / "day22", broker.url, "day22", args.seed, forks()) as rig,
    ):
        said = measure(rig, args.starts)
    print(json.dumps(said))
    return 1 if float(str(said["recovery_seconds_max"])) > WITHIN_S else 0


def measure(rig: Rig, starts: int) -> dict[str, object]:
    """Run to day 22, kill and start so often, and return what was measured (real s)."""
    _run(rig)
    rig.kill()
    day = rig.page.read() / 86400.0
    took: list[float] = []
    for _ in range(starts):
        rig.start(fresh=True)
        if not rig.ready(60.0):
            raise TimeoutError(f"not in control within 60 s; the controller ended with {rig.status}")
        took.append(rig.age)
        rig.kill()
    began = time.perf_counter()
    records, verdict = rig.records()
    verified = time.perf_counter() - began
    fold(records)
    folded = time.perf_counter() - began - verified
    return {
        "day": round(day, 2),
        "events": len(records),
        "verifies": verdict.ok,
        "recovery_seconds_p50": round(statistics.median(took), 3),
        "recovery_seconds_max": round(max(took), 3),
        "of_it_read_and_verify": round(verified, 3),
        "of_it_fold": round(folded, 3),
        "of_it_interpreter_and_imports": round(_imports(), 3),
    }


def _run(rig: Rig) -> None:
    """Run the batch until the freezing run has begun."""
    hands, watch = Hands(rig, "til-22d", random.Random(rig.seed)), Watch(rig.folder)
    rig.start()
    rig.ready(60.0)
    while not any(event["kind"] == "marked" and event["mark"] == KILL_AT for event in watch.look()):
        hands.see(watch.state, watch.kinds.get("step_completed", 0), time.monotonic())
        if rig.status is not None or State(watch.state) in FINAL or rig.age > MOST_S:
            raise RuntimeError(f"no freezing run after {rig.age:.0f} s; the batch is {watch.state}: {rig.trouble}")
        time.sleep(0.05)
    watch.close()


def _imports() -> float:
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import tests.torture.controller"], check=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
