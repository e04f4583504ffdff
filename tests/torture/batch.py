"""One batch, tortured: killed and started again until it has ended and its unit is free."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.torture.hands import PATIENCE, Hands
from tests.torture.oracles import Findings, Outage, cold, examine, times
from tests.torture.rig import Rig
from tests.torture.watch import Watch
from tilctl.engine.machine import FINAL, State

OUTAGES = (0.0, 5.0, 30.0, 120.0, 900.0)  # virtual s
LOOK_S = 0.003  # real s between looks at the record
LOOK_SAFE = 0.1  # share of looks that look for safe mode too
MOST_S = 600.0  # real s for a batch
LIFE_S = 0.3  # real s in control at most, where it is killed at random
FRESH = 0.05  # share of starts that are a new interpreter, not a fork
ARMED = ("intent_opened", "intent_opened", "answer_received", "step_phase", "target_set", "command_received")


@dataclass
class Plan:
    """How a batch is tortured. `kills`: at most so many; `points`: at every boundary instead of at random."""

    kills: int
    recipe: str = "shakedown"
    points: bool = False
    sparing: bool = False
    still: bool = False  # outage 0, and no button that nobody needs
    fresh: float = FRESH


@dataclass
class Result:
    """What a batch came to."""

    kills: int = 0
    findings: Findings = field(default_factory=Findings)
    recoveries: list[float] = field(default_factory=list[float])  # of new interpreters
    forked: list[float] = field(default_factory=list[float])
    killed_in: Counter[str] = field(default_factory=Counter[str])
    days: float = 0.0
    seconds: float = 0.0
    times: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])  # of each step


class Torture:
    """Tortures the batch of one rig."""

    def __init__(self, rig: Rig, plan: Plan, seed: int) -> None:
        self._rig = rig
        self._plan = plan
        self._random = random.Random(seed)
        patience = 10 * PATIENCE if plan.points else PATIENCE  # restarts themselves are killed there
        self._hands = Hands(rig, plan.recipe, self._random, patience)
        self._watch = Watch(rig.folder)
        self._outages: list[Outage] = []
        self._unready = 0  # lives in a row that were killed before they were in control
        self.result = Result()

    def run(self) -> Result:
        """Torture until the batch has ended; raises nothing for what is wrong, but says it in the findings."""
        began = time.monotonic()
        while not self._over():
            if time.monotonic() - began > MOST_S:
                self.result.findings.other.append(f"no end after {MOST_S:.0f} s; the batch is {self._watch.state}")
                break
            if not self._live():
                break
        self._watch.close()
        self._end()
        self.result.seconds = time.monotonic() - began
        return self.result

    def _over(self) -> bool:
        folder = self._rig.folder / "data" / "batches"
        return bool([*folder.glob("closed/*.db")]) and not [*folder.glob("*.db")]

    def _live(self) -> bool:
        """Live one life of the controller; False when it died by itself, other than at a crash point."""
        rig, left = self._rig, self._plan.kills - self.result.kills
        points = self._plan.points and left > 0
        fresh = self._random.random() < self._plan.fresh
        rig.start(fresh=fresh, points=points, sparing=self._plan.sparing)
        at, after, armed = self._instant(fresh=fresh) if left > 0 and not points else (None, None, "")
        ready, aim = False, None
        press = rig.age + self._random.uniform(0.05, 1.0)
        while True:
            if not ready and rig.ready(0.0 if ready else LOOK_S):
                ready = True
                at = at if after is None else rig.age + after
                (self.result.recoveries if fresh else self.result.forked).append(rig.age)
            elif ready:
                time.sleep(LOOK_S)
            final = State(self._watch.state) in FINAL
            new = [] if final else self._watch.look()
            if State(self._watch.state) in FINAL:
                self._watch.close()
                if self._over():
                    return True
            if rig.status is not None:
                return self._died(points=points)
            if armed and aim is None and any(event["kind"] == armed for event in new):
                aim = rig.age + self._random.uniform(0.0, 0.008)
            if (at is not None and rig.age >= at) or (aim is not None and rig.age >= aim):
                self._killed("recovery" if not ready else self._watch.last, ready=ready)
                return True
            if ready:
                state = (
                    "safe_mode" if self._random.random() < LOOK_SAFE and self._rig.safe_mode() else self._watch.state
                )
                self._hands.see(state, self._watch.kinds.get("step_completed", 0), time.monotonic())
            if not self._plan.still and ready and rig.age > press:
                press = rig.age + self._random.uniform(0.5, 3.0)
                self._hands.press(self._watch.state)
            if rig.age > MOST_S:
                self.result.findings.other.append(f"stands still in {self._watch.state}")
                return False

    def _instant(self, *, fresh: bool) -> tuple[float | None, float | None, str]:
        """Return when to kill: at an age (real s), so long after it is in control, at a kind of event before that."""
        kind = self._random.random()
        if kind < 0.25 and self._unready < 2:
            return (0.9 if fresh else 0.0) + self._random.uniform(0.0, 0.15), None, ""
        if kind < 0.6:
            return None, 0.6, self._random.choice(ARMED)
        return None, self._random.uniform(0.0, LIFE_S), ""

    def _killed(self, where: str, *, ready: bool) -> None:
        self._rig.kill()
        self._count(where, ready=ready)
        since = self._rig.page.read()
        if not self._plan.still:
            self._rig.page.write(since + self._random.choice(OUTAGES))
        now = self._rig.page.read()
        self._outages.append(Outage(since, now))
        if why := cold(self._watch.warm_since, now, self._rig.bench("truth")["chamber"]):
            self.result.findings.other.append(f"after the kill at {since:.3f} s: {why}")

    def _count(self, where: str, *, ready: bool) -> None:
        self._unready = 0 if ready else self._unready + 1
        self.result.kills += 1
        self.result.killed_in[where] += 1

    def _died(self, *, points: bool) -> bool:
        status = self._rig.end()
        if status == -9 and points:
            self._count("boundary", ready=True)
            return True
        self.result.findings.other.append(f"the controller ended by itself with {status}, see {self._rig.folder}")
        return False

    def _end(self) -> None:
        """End the controller in order, and judge."""
        status = self._rig.end()
        if status not in (0, None):
            self.result.findings.other.append(f"told to end, the controller ended with {status}")
        self.result.days = self._rig.page.read() / 86400.0
        batches = self._rig.batches()
        if not batches:
            self.result.findings.other.append("no batch was ever made")
            return
        truth: dict[str, Any] = self._rig.bench("truth")
        found = examine(
            batches[0],
            self._rig.folder / "data" / "site.db",
            self._rig.witness.heard,
            truth,
            self._outages,
            State.COMPLETE,
            self._rig.pumps,
        )
        found.other = [*self.result.findings.other, *found.other]
        found.other += [f"the operator: {text}" for text in self._rig.trouble]
        if len(batches) > 1:
            found.doubled.append(f"{len(batches)} batches were made by one start")
        self.result.findings = found
        self.result.times = times(self._rig.records()[0])
