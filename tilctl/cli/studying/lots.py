"""Every arm of a study on the same donors, in parallel processes: how many there are changes nothing."""

from __future__ import annotations

import multiprocessing as mp
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tilctl.cli.studying.lot import Lot, expand
from tilctl.cli.studying.model import Arm, Study, recipe_of, setting_of


class LotBroke(RuntimeError):
    """A lot that broke, with its donor and arm; of one text, so that it comes whole from another process."""


PORTION = 8  # donors that a process is given at once


@dataclass(frozen=True, slots=True)
class _Portion:
    study: Study
    arm: Arm
    folder: Path
    seeds: tuple[int, ...]


def lots_of(
    study: Study, folder: Path, seeds: Sequence[int], jobs: int, told: Callable[[int], None]
) -> dict[str, list[Lot]]:
    """Return the lots of each arm in the order of the seeds; `told(lots)` after each portion.

    `folder`: where recipes beside the library lie.  Raises what a process raises: a lot that breaks is a fault.
    """
    portions = [
        _Portion(study, arm, folder, tuple(seeds[i : i + PORTION]))
        for i in range(0, len(seeds), PORTION)
        for arm in study.compared
    ]
    found: dict[str, list[Lot]] = {arm.name: [] for arm in study.compared}
    for portion in portions if jobs == 1 else ():
        found[portion.arm.name] += _expand(portion)
        told(len(portion.seeds))
    if jobs > 1:
        _in_processes(portions, jobs, found, told)
    return {name: sorted(lots, key=lambda lot: lot.seed) for name, lots in found.items()}


def _in_processes(
    portions: Sequence[_Portion], jobs: int, found: dict[str, list[Lot]], told: Callable[[int], None]
) -> None:
    # Ctrl-C reaches every process of a terminal: a worker ends in silence, the one that asked tells of it.
    silent = (signal.SIGINT, signal.SIG_DFL)
    number = min(jobs, len(portions))
    with ProcessPoolExecutor(number, mp.get_context("spawn"), signal.signal, silent) as pool:
        work = {pool.submit(_expand, portion): portion for portion in portions}
        try:
            for done in as_completed(work):
                found[work[done].arm.name] += done.result()
                told(len(work[done].seeds))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _expand(portion: _Portion) -> list[Lot]:
    study, arm = portion.study, portion.arm
    recipe = recipe_of(arm.recipe, portion.folder)  # read once in each process
    lots: list[Lot] = []
    for seed in portion.seeds:
        try:
            lots.append(expand(recipe, seed, arm.set, study.floor_cells, setting_of(study, arm, seed)))
        except Exception as error:
            raise LotBroke(f"donor {seed} of the arm '{arm.name}': {type(error).__name__}: {error}") from error
    return lots
