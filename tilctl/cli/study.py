"""`tilctl study ...`: recipes and rules compared on the same simulated donors."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from devices.document import DocumentError
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.how_far import HowFar
from tilctl.cli.plain import lines
from tilctl.cli.studying import plots, report, tornado
from tilctl.cli.studying.lot import Lot
from tilctl.cli.studying.lots import lots_of
from tilctl.cli.studying.model import MOST_DONORS, Study, load_study, shipped

LARGEST_SEED = 2**32 - 1 - MOST_DONORS
MOST_JOBS = 256
LIMITS = (
    "Donors, vessels and people are simulated, and the model is not calibrated: it compares protocols under stated "
    "assumptions, and says nothing of patients. Each donor is in every arm. A lot is a dry run: the recipe walked on "
    "the simulated plant without the controller; `tilctl rehearse` shows what the controller does."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl study`."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="the studies that come along")
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    running = verbs.add_parser("run", help="run a study and print its figures", description=LIMITS)
    running.add_argument("study", metavar="NAME|FILE", help="a study that comes along, or the path of a .yaml file")
    running.add_argument("--donors", type=_donors, metavar="N", help="how many donors (default: what the study says)")
    running.add_argument("--seed", type=_seed, default=1, metavar="S", help="the first donor's seed (default: 1)")
    running.add_argument(
        "--jobs", type=_jobs, default=os.cpu_count() or 1, metavar="J", help="processes (default: all cores)"
    )
    running.add_argument("--out", type=Path, metavar="DIR", help="write lots.csv, study.json and a plot there")
    running.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """List or run; raises CommandFailed."""
    if args.verb == "list":
        return _list(as_json=args.json)
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    study, folder = _study(args.study), Path(args.study).parent
    if args.out is not None:
        _make(args.out)
    seeds = range(args.seed, args.seed + (args.donors or study.donors))
    began = time.monotonic()
    progress = _Progress(len(seeds) * len(study.compared))
    try:
        lots = _lots(study, folder, seeds, args.jobs, progress)
    finally:
        progress.close()
    arms = report.figures(study, lots, args.seed)
    wall = time.monotonic() - began
    data = report.as_data(study, arms, args.seed, wall)
    if args.json:
        print(json.dumps(data, allow_nan=False))
    else:
        (report if study.sensitivity is None else tornado).tell(study, arms, wall, sys.stdout)
    if args.out is not None:
        try:
            report.write_csv(args.out / "lots.csv", lots)
            (args.out / "study.json").write_text(json.dumps(data, allow_nan=False, indent=2) + "\n", "utf-8")
            if study.sensitivity is None:
                plots.cells(args.out / "cells.svg", study, arms, lots)
            else:
                tornado.draw(args.out / "tornado.svg", study, arms)
        except OSError as error:
            raise CommandFailed(Exit.UNAVAILABLE, f"--out: {error.filename or args.out}: {error.strerror}") from error
    return Exit.OK


def _lots(study: Study, folder: Path, seeds: range, jobs: int, progress: _Progress) -> dict[str, list[Lot]]:
    try:
        return lots_of(study, folder, seeds, jobs, progress)
    except BrokenProcessPool as error:
        text = "a process was killed, perhaps for want of memory: nothing was written; try again with fewer --jobs"
        raise CommandFailed(Exit.UNAVAILABLE, text) from error


class _Progress(HowFar):
    def __init__(self, total: int) -> None:
        super().__init__()
        self._done, self._total = 0, total

    def __call__(self, lots: int) -> None:
        self._done += lots
        self.tell(self._done, self._total, f"{self._done}/{self._total} lots")


def _list(*, as_json: bool) -> int:
    studies = [_study(str(path)) for path in shipped().values()]
    if as_json:
        rows = [
            {"study": s.study, "title": s.title, "question": s.question, "arms": [a.name for a in s.compared]}
            for s in studies
        ]
        print(json.dumps({"studies": rows}))
        return Exit.OK
    for study in studies:
        print(f"{study.study:<24} {study.title}")
        print(f"{'':<24} arms: {', '.join(arm.name for arm in study.compared[:6])}; {study.donors} donors")
    return Exit.OK


def _study(name_or_path: str) -> Study:
    try:
        return load_study(name_or_path)
    except DocumentError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"the study cannot be used:\n{lines(error)}") from error


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CommandFailed(Exit.UNAVAILABLE, f"--out: {error.filename or out}: {error.strerror}") from error


def _number(text: str, low: int, high: int, what: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r}: {what} is a whole number from {low} to {high}")
    return value


def _donors(text: str) -> int:
    return _number(text, 2, MOST_DONORS, "the number of donors")


def _seed(text: str) -> int:
    return _number(text, 0, LARGEST_SEED, "a seed")


def _jobs(text: str) -> int:
    return _number(text, 1, MOST_JOBS, "the number of processes")
