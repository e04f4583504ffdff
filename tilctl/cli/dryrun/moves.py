"""What a controller moves in a dry run: liquids, and the cold of a freezing run."""

from __future__ import annotations

from devices.quantity import parse
from recipes import steps as verbs
from recipes.catalog import load_freezing
from recipes.dosing import DoseError, dosed, stock_of
from recipes.freezing_model import longest, program
from recipes.model import FULL_SHARE
from tilctl.cli.dryrun.course import Dosed
from tilctl.cli.dryrun.liquids import PUMP
from tilctl.cli.dryrun.run import LOOK_S, Aliases, Run
from tilctl.cli.simulated import simulated_rows
from tilctl.engine.errors import StepError
from tilctl.engine.verbs.transfer import SMALLEST_ML


async def transfer(run: Run, step: verbs.Transfer, path: str, aliases: Aliases) -> None:
    """Move liquid, on the one pump of a dry run; raises StepError for what a controller would hold for."""
    needs = [run.container(path, text, aliases).name for text in (step.from_, step.to)]
    async with run.alone(path, *needs, PUMP):
        await _transfer(run, step, path, aliases)


async def _transfer(run: Run, step: verbs.Transfer, path: str, aliases: Aliases) -> None:
    source = run.container(path, step.from_, aliases)
    target = run.container(path, step.to, aliases)
    wanted = {
        "volume": lambda: run.number(path, step.volume or "", aliases),
        "leave": lambda: source.volume_ml - run.number(path, step.leave or "", aliases),
        "up_to": lambda: run.number(path, step.up_to or "", aliases) - target.volume_ml,
        "all": lambda: source.volume_ml,
        "dose": lambda: _dosed(run, step, path, source.name, target.volume_ml, aliases),
        "final": lambda: _dosed(run, step, path, source.name, target.volume_ml, aliases),
    }[step.amount]()
    given = parse(step.tolerance)
    tolerance = given.value if given.unit == "mL" else wanted * given.value / 100.0
    more = 0.0 if step.all else max(0.0, tolerance)
    if target.volume_ml + wanted + more > FULL_SHARE * run.known.limit_ml(target.name):
        raise StepError(f"{path}: {target.name} would be over-full", "correct the recipe")
    if wanted < -1.0 or wanted > source.volume_ml + max(3.0, 0.02 * source.volume_ml):
        raise StepError(f"{path}: {source.name} holds {source.volume_ml:.0f} mL, {wanted:.0f} are wanted", "")
    if step.settle is not None:
        await run.pass_s(run.number(path, step.settle, aliases))
    rate = run.number(path, step.rate, aliases)
    moved = 0.0
    async for share in run.liquids.doses(step, source.name, target.name, wanted, tolerance, rate, run.pass_s):
        run.known.moved(source.name, target.name, share)
        moved += share
    if wanted - moved > max(tolerance, 3.0, 0.05 * wanted):
        raise StepError(f"{path}: only {moved:.1f} of {wanted:.1f} mL came out of {source.name}", "see to it")
    if abs(moved - wanted) > max(tolerance, SMALLEST_ML, 3.0):
        run.course.exceptions.append(f"{path}: {moved:.1f} mL moved, {wanted:.1f} mL were ordered")
    run.course.dosed.append(Dosed(path, source.name, target.name, wanted, moved, 0.0 if step.all else tolerance))


def _dosed(run: Run, step: verbs.Transfer, path: str, source: str, held_ml: float, aliases: Aliases) -> float:
    try:
        stock = stock_of(step, run.recipe.containers, source)
        volume = dosed(step, stock, held_ml, lambda text, _unit: run.number(path, text, aliases)).volume
    except DoseError as error:
        raise StepError(f"{path}: {error.message}", error.hint) from error
    if 0.0 < volume < SMALLEST_ML:
        raise StepError(f"{path}: {volume:.2g} mL of {source} are too little to be dosed", "dilute the stock")
    return volume


async def freeze(run: Run, step: verbs.Freeze) -> None:
    """Run a profile on the simulated freezer, as the device does by itself."""
    profile, freezer = load_freezing(step.profile, run.folders), run.plant.freezer
    with run.plant.change() as t:
        freezer.rows = simulated_rows(program(profile))
        freezer.start(freezer.sequence + 1, t)
    if (mark := step.marks.get("started")) is not None:
        run.known.mark(mark)
    end = run.clock.monotonic() + longest(profile)
    while freezer.running and run.clock.monotonic() < end:
        await run.pass_s(LOOK_S)
    if (mark := step.marks.get("ended")) is not None:
        run.known.mark(mark)
