"""`tilctl rehearse`: whole batches of the real product on a simulated plant that misbehaves, judged at every step."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from devices.document import DocumentError
from devices.profile import load_profile
from recipes import shelf
from recipes.catalog import load
from recipes.model import Recipe, walk
from simulators.faults.model import Fault, check, load_faults, plain_path
from simulators.faults.schedule import profiles
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.rehearsing import campaign, report
from tilctl.cli.rehearsing.worker import Job
from tilctl.cli.simulated import add_site, site_for
from tilctl.cli.station import pairs, read_site
from tilctl.engine.binding import NotBindable, check_parameters, fitting

LARGEST_SEED = 2**32 - 1
MOST_SEEDS = 1_000_000
MOST_JOBS = 256
USUAL_SEEDS = 10
USUAL_SHARE = 0.02  # every fiftieth seed over real sockets
LIMIT_S = 900.0  # s of real time for one rehearsal
AIMED_AT = ("transfer", "freeze")  # verbs at whose steps faults are aimed


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl rehearse`."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe of the library, or the path of a file")
    parser.add_argument("--seeds", type=_count, metavar="N", help=f"how many rehearsals (default: {USUAL_SEEDS})")
    parser.add_argument(
        "--seed", type=_seed, metavar="K", help="the first seed (default: 1); without --seeds this one alone"
    )
    parser.add_argument(
        "--jobs", type=_jobs, metavar="J", default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    parser.add_argument(
        "--faults",
        metavar="PROFILE|FILE",
        default="rough",
        help=f"what befalls them: {', '.join(profiles())}, or a YAML file of faults (default: rough)",
    )
    parser.add_argument(
        "--sockets",
        type=_share,
        metavar="SHARE",
        default=USUAL_SHARE,
        help="share of the seeds over real sockets, 0 to 1 (default: 0.02); the others in memory",
    )
    add_site(parser)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the recipe")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where failing seeds are kept (default: out/rehearse-RECIPE)"
    )
    parser.add_argument("--limit", type=_seconds, metavar="SECONDS", default=LIMIT_S, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help="keep the folders of all seeds, with full logs")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML for a build server")
    parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Rehearse and say what it came to; raises CommandFailed."""
    began = time.monotonic()
    recipe, job = _job(args)
    seeds = _seeds(args)
    _make(job.out)
    if args.junit is not None:
        _probe(args.junit)
    progress = report.Progress()
    every = round(1.0 / args.sockets) if args.sockets else 0
    tally = _faultless(job, args.limit) if _needs_span(job) else campaign.Tally()
    if not tally.violations and not tally.interrupted:
        span = 0.0 if tally.last is None else tally.last.simulated_s
        order = campaign.Order(replace(job, horizon_s=span), seeds, min(args.jobs, len(seeds)), args.limit, every)
        try:
            tally = campaign.run(order, progress)
        finally:
            progress.close()
    elif not tally.interrupted:
        print("tilctl rehearse: even without faults this recipe breaks an invariant", file=sys.stderr)
    wall = time.monotonic() - began
    if args.json:
        print(json.dumps(report.as_data(recipe.recipe, tally, wall), allow_nan=False))
    else:
        report.tell(recipe.recipe, tally, wall, job.out, sys.stdout)
    if args.junit is not None:
        _junit(args.junit, recipe, tally, wall)
    if tally.interrupted:
        return Exit.INTERRUPTED
    return Exit.NOT_WELL if tally.violations else Exit.OK


def _faultless(job: Job, limit_s: float) -> campaign.Tally:
    """Rehearse once without faults: how long it takes is the span over which faults are strewn."""
    calm = replace(job, profile="none", faults=None, keep=False)
    return campaign.run(campaign.Order(calm, [0], 1, limit_s), lambda _tally, _total: None)


def _needs_span(job: Job) -> bool:
    return job.faults is None and job.profile != "none"


def _job(args: argparse.Namespace) -> tuple[Recipe, Job]:
    """Return the checked recipe and the job without its seed; raises CommandFailed with every finding."""
    try:
        recipe = load(args.recipe)
    except DocumentError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"the recipe cannot be used:\n{error}") from error
    parameters = dict(pairs(args.set, "--set"))
    try:
        check_parameters(recipe, parameters)
    except NotBindable as error:
        raise CommandFailed(Exit.BAD_INPUT, f"--set: {error}") from error
    _check_site(recipe, args.site)
    name, folders = _in_folder(args.recipe)
    profile, faults = _faults(args.faults, recipe)
    steps = [path for op in recipe.procedure for path, step in walk(op.steps, op.id) if step.verb in AIMED_AT]
    out: Path = args.out or Path("out") / f"rehearse-{recipe.recipe}"
    alone = args.seed is not None and args.seeds is None
    job = Job(
        name, out.resolve(), folders, parameters, profile, faults, tuple(steps),
        keep=args.keep, verbose=args.keep or alone, site=site_for(args.site),
    )  # fmt: skip
    return recipe, job


def _check_site(recipe: Recipe, name: str) -> None:
    """Raise CommandFailed where the suite lacks what the recipe needs: no start would be taken."""
    site = read_site(site_for(name))
    profiles = {**site.profiles, **site.equipment_profiles}
    try:
        fitting(recipe, site, next(iter(site.units.values())), profiles.__getitem__)
    except NotBindable as error:
        raise CommandFailed(Exit.BAD_INPUT, f"--site {name}: {error}") from error


def _in_folder(recipe: str) -> tuple[str, tuple[Path, ...]]:
    """Return a recipe's name and where it lies: the start command is on record, and paths of a machine stay out."""
    path = Path(recipe).absolute()
    if shelf.paths(shelf.RECIPES, (path.parent,)).get(path.stem) == path:
        return path.stem, (path.parent,)
    return recipe, ()


def _faults(given: str, recipe: Recipe) -> tuple[str, tuple[Fault, ...] | None]:
    """Return the name of a profile, or the faults of a file, checked against the site; raises CommandFailed."""
    if given in profiles():
        return given, None
    path = Path(given)
    if not path.exists():
        text = f"--faults: there is no profile and no file {given!r}; profiles are {', '.join(profiles())}"
        raise CommandFailed(Exit.BAD_INPUT, text)
    site = read_site(None)
    try:
        faults = load_faults(path)
        check(faults, {name: load_profile(device.profile) for name, device in site.devices.items()}, site.buses)
    except DocumentError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"the faults cannot be used:\n{error}") from error
    steps = {plain_path(step) for op in recipe.procedure for step, _ in walk(op.steps, op.id)}
    if missing := sorted({fault.step for fault in faults if fault.step and plain_path(fault.step) not in steps}):
        text = f"{path}: {recipe.recipe} has no step {', '.join(missing)}; its steps: {', '.join(sorted(steps))}"
        raise CommandFailed(Exit.BAD_INPUT, text)
    return str(path), faults


def _seeds(args: argparse.Namespace) -> range:
    first = 1 if args.seed is None else args.seed
    number = args.seeds if args.seeds is not None else (USUAL_SEEDS if args.seed is None else 1)
    return range(first, first + number)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        text = f"the folder {out} cannot be written: {error.strerror or error}; give another one with --out"
        raise CommandFailed(Exit.UNAVAILABLE, text) from error


def _probe(path: Path) -> None:
    """See before hours of work that the report can be written; what is there stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a", encoding="utf-8").close()
    except OSError as error:
        text = f"--junit: {path} cannot be written: {error.strerror or error}; give a file in a folder that can be"
        raise CommandFailed(Exit.UNAVAILABLE, text) from error


def _junit(path: Path, recipe: Recipe, tally: campaign.Tally, wall_s: float) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        report.write_junit(path, recipe.recipe, tally, wall_s)
    except OSError as error:
        raise CommandFailed(
            Exit.UNAVAILABLE, f"--junit: {path} cannot be written: {error.strerror or error}"
        ) from error


def _whole(text: str, low: int, high: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
    return number


def _seed(text: str) -> int:
    return _whole(text, 0, LARGEST_SEED)


def _count(text: str) -> int:
    return _whole(text, 1, MOST_SEEDS)


def _jobs(text: str) -> int:
    return _whole(text, 1, MOST_JOBS)


def _seconds(text: str) -> float:
    return float(_whole(text, 1, 86400))


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 1")
    return share
