"""One process of a campaign: rehearses what it is told, one seed after the other."""

from __future__ import annotations

import gc
import json
import logging
import resource
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

import structlog

from simulators.faults.model import Fault
from simulators.faults.schedule import schedule
from simulators.virtual import VirtualClock
from simulators.virtual import run as run_virtually
from tilctl.cli.logs import configure
from tilctl.cli.rehearsing.cuts import Cut, plan
from tilctl.cli.rehearsing.life import mute_the_dead
from tilctl.cli.rehearsing.result import Result
from tilctl.cli.rehearsing.world import SITE, Plan, World

GC_THRESHOLDS = (100_000, 50, 100)  # readings hardly make cycles; looking for them was a tenth of a rehearsal
STANDS_S = 60.0  # s of real time without progress of virtual time: the process ends with status 9
DENSE_S = 10 * 86400.0  # s; a shorter recipe meets the faults of as long a time, pressed together
LOG, FAULTS, VIOLATIONS = "log.jsonl", "faults.yaml", "violations.json"


@dataclass(frozen=True)
class Job:
    """One rehearsal.  `faults` is a profile, or the faults of a file; `horizon_s` is how long a faultless one takes."""

    recipe: str
    out: Path
    folders: tuple[Path, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    profile: str = "none"
    faults: tuple[Fault, ...] | None = None
    steps: Sequence[str] = ()
    horizon_s: float = 0.0
    seed: int = 0
    sockets: bool = False
    keep: bool = False
    verbose: bool = False
    site: Path = SITE

    def of(self, seed: int, *, sockets: bool) -> Job:
        """Return the job of one seed."""
        return replace(self, seed=seed, sockets=sockets)

    @property
    def folder(self) -> Path:
        """Where the rehearsal keeps its files."""
        return self.out / f"seed-{self.seed}"

    def befalls(self) -> tuple[tuple[Fault, ...], tuple[Cut, ...]]:
        """Return the faults and power cuts of this seed."""
        if self.faults is not None:
            return self.faults, ()
        if self.profile == "none":
            return (), ()
        span = max(self.horizon_s, DENSE_S)
        found = schedule(self.profile, self.seed, self.steps, span)
        pressed = min(1.0, self.horizon_s / span)
        faults = tuple(f if f.time_s is None else replace(f, time_s=round(f.time_s * pressed, 3)) for f in found)
        return faults, plan(self.profile, self.seed)


def serve(pipe: Connection) -> None:
    """Take jobs from a pipe and send results, until None comes or the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the campaign, which ends its workers
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    while True:
        try:
            job: Job | None = pipe.recv()
        except EOFError:
            return
        if job is None:
            return
        result = rehearse(job)
        gc.collect()
        pipe.send(result)


def rehearse(job: Job) -> Result:
    """Rehearse one seed; its folder is kept where an invariant was broken, and removed else."""
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    faults, cuts = job.befalls()
    _write_faults(job.folder / FAULTS, faults, cuts)
    order = Plan(
        job.recipe, job.seed, job.folder, job.folders, job.parameters, faults, cuts, sockets=job.sockets, site=job.site
    )

    async def main(clock: VirtualClock) -> Result:
        return await World(order, clock).run()

    with (job.folder / LOG).open("w", encoding="utf-8") as stream:
        _log_to(stream, verbose=job.verbose)
        try:
            result = run_virtually(main, seed=job.seed, watchdog_s=STANDS_S)
        finally:
            logging.getLogger().handlers.clear()
            structlog.reset_defaults()
    result.peak_rss_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0, 1)
    if result.violations:
        (job.folder / VIOLATIONS).write_text(json.dumps(result.violations, indent=1) + "\n", "utf-8")
    elif not job.keep:
        shutil.rmtree(job.folder, ignore_errors=True)
    return result


def _log_to(stream: TextIO, *, verbose: bool) -> None:
    configure(json=True, level="info" if verbose else "warning", stream=stream)
    processors: list[Any] = list(structlog.get_config()["processors"])
    # events below the level are dropped before they are made: they would cost more than the rehearsal
    wrapper = structlog.make_filtering_bound_logger(logging.INFO if verbose else logging.WARNING)
    structlog.configure(processors=[mute_the_dead, *processors], wrapper_class=wrapper)


def _write_faults(path: Path, faults: Sequence[Fault], cuts: Sequence[Cut]) -> None:
    """Write down what befalls a rehearsal; power cuts at events are notes, they come with the seed."""
    lines = [f"# {cut}" for cut in cuts]
    lines.append("faults:" if faults else "faults: []")
    for fault in faults:
        shown = fault.as_dict()
        at = ", ".join(f"{name}: {value}" for name, value in shown.pop("at").items())
        rest = ", ".join(f'{name}: "{value}"' for name, value in shown.items())
        lines.append(f"  - {{at: {{{at}}}, {rest}}}")
    path.write_text("\n".join(lines) + "\n", "utf-8")
