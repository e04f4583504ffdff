"""Is the whole loop well?  Only then the service manager's watchdog and those of the devices are fed.

Well means: the loop turns in time, every instrument is scanned on schedule, the disk takes what is to be recorded, and
each batch is in a state that something works on.  What is not well is logged, shown by `/healthz` and in the metrics.
"""

from __future__ import annotations

import structlog

from devices.clock import Clock
from tilctl.cli.notify import Notify
from tilctl.engine.controller import Controller
from tilctl.plant.scanning import READ_WITHIN
from tilctl.plant.suite import Suite

TICK_S = 1.0
LAG_S = 2.0  # s by which a tick may come late: a loop that stood still for longer did not control
SCAN_SPARE_S = 10.0  # s that a scan may come late beside its period and the bound of its reads
COMMIT_S = 5.0  # s that an event may await the disk; a healthy one takes milliseconds


class Wellness:
    """What is wrong with the controller now; `run` keeps looking and feeds."""

    def __init__(self, controller: Controller, suite: Suite, clock: Clock) -> None:
        self.unwell: dict[str, str] = {}  # part -> what is wrong with it, as of the last look
        self._controller = controller
        self._suite = suite
        self._clock = clock
        self._since = clock.monotonic()
        self._log = structlog.get_logger("wellness")

    @property
    def well(self) -> bool:
        """Whether nothing was wrong at the last look."""
        return not self.unwell

    def look(self, lag: float = 0.0) -> dict[str, str]:
        """Look at every part, of which the loop came `lag` s late; returns what is wrong.

        A batch that is in a state that cannot be is held by this.
        """
        found = {"scan": self._scan(), "journal": self._journal(), "batch": self._batches()}
        if lag > LAG_S:
            found["loop"] = f"the loop stood still for {lag:.1f} s"
        found = {part: text for part, text in found.items() if text}
        if found.keys() != self.unwell.keys():
            for part, text in found.items():
                self._log.error("not_well", part=part, what=text)
            if not found:
                self._log.info("well_again")
        self.unwell = found
        return found

    async def run(self, notify: Notify) -> None:
        """Look each second; tell the service manager that we are alive while all is well, and what is wrong else."""
        every = None if notify.watchdog_s is None else notify.watchdog_s / 3
        tick = TICK_S if every is None else min(TICK_S, every / 2)
        self._since = fed = self._clock.monotonic()
        told = ""
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep(tick)
            now = self._clock.monotonic()
            wrong = self.look(now - before - tick)
            # Invariant: whoever is not well is not kept alive; instruments keep their targets without us.
            if not wrong and every is not None and now - fed >= every - tick:
                notify.send("WATCHDOG=1")
                fed = now
            status = self._status(wrong)
            if status != told:
                notify.send(f"STATUS={status}")
                told = status

    def _status(self, wrong: dict[str, str]) -> str:
        if wrong:
            return "NOT WELL: " + "; ".join(wrong.values())
        units = self._controller.units()
        runners = ((unit, self._controller.runner(unit)) for unit in units)
        return ", ".join(f"{unit} {'idle' if runner is None else runner.state.value}" for unit, runner in runners)

    def _scan(self) -> str:
        """Return which instruments are not scanned any more: an absent one is, and fails; that is its own affair."""
        late = set(self._suite.scanner.dead())
        now = self._clock.monotonic()
        for name, stats in self._suite.scanner.stats.items():
            blocks = len(self._suite.instruments[name].profile.blocks)
            bound = stats.period + blocks * READ_WITHIN + SCAN_SPARE_S
            if now - max(stats.turned, self._since) > bound:
                late.add(name)
        return f"not scanned: {', '.join(sorted(late))}" if late else ""

    def _journal(self) -> str:
        """Return which records wait for the disk; one that failed is said elsewhere: no restart mends it."""
        runners = [runner for unit in self._controller.units() if (runner := self._controller.runner(unit)) is not None]
        journals = [runner.batch.journal for runner in runners]
        if self._controller.mode != "opening":
            journals.append(self._controller.journal)
        stuck = [f"{each.path.name} for {each.waiting_s:.0f} s" for each in journals if each.waiting_s > COMMIT_S]
        return f"the disk keeps waiting: {', '.join(stuck)}" if stuck else ""

    def _batches(self) -> str:
        if not self._controller.ready:
            return ""  # what is being recovered, or is left alone in safe mode, has nothing that walks
        wrong: list[str] = []
        for unit in self._controller.units():
            runner = self._controller.runner(unit)
            if runner is not None and (text := runner.look()):
                wrong.append(f"{unit}: {text}")
        return "; ".join(wrong)
