"""`tilctl demo`: a whole batch of the real product on simulated instruments, shown, summed up and plotted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import structlog

from devices.document import DocumentError
from recipes import shelf
from recipes.catalog import load
from recipes.model import Recipe
from simulators.plant import Plant
from simulators.virtual import VirtualClock
from simulators.virtual import run as run_virtually
from tilctl.cli import plots
from tilctl.cli.demo_broker import require_free
from tilctl.cli.demo_folder import CULTURE, DATA, FREEZING, LOG, taken
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.logs import configure
from tilctl.cli.outcome import Outcome, as_json, counted_by, tell
from tilctl.cli.progress import Progress
from tilctl.cli.rehearsal import UNIT, Order, RehearsalFailed, rehearse
from tilctl.cli.service import Service
from tilctl.cli.simulated import add_site, site_for
from tilctl.gateway.broker import EmbeddedBroker
from tilctl.journal.store import JournalError
from tilctl.journal.verify import read
from tilctl.record.summary import Summary, summarize

WATCHDOG_S = 20.0  # of real time without any progress
BROKER_GONE_S = 15.0  # of real time without the broker; prompts come and go by it, so nothing would ever happen again
LARGEST_SEED = 2**32 - 1


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tilctl demo`."""
    parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object")
    parser.add_argument("--seed", type=_seed, default=1, help="the donor, the operator and all noise (default: 1)")
    parser.add_argument(
        "--recipe", default="til-22d", help="a recipe of the library, or the path of a file (default: til-22d)"
    )
    parser.add_argument(
        "--out", type=_folder, help="the folder for journal, log and plots (default: out/demo-RECIPE-SEED)"
    )
    add_site(parser)
    parser.add_argument("--mqtt-url", help="a broker that is running, mqtt://HOST:PORT (default: one of its own)")
    parser.add_argument(
        "--speed", type=_speed, help="simulated seconds a second, 60 for watching (default: as fast as it goes)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demonstration and say what it came to; raises CommandFailed."""
    began = time.monotonic()
    recipe, order = _ordered(args)
    with ExitStack() as stack:
        if args.mqtt_url:
            require_free(args.mqtt_url)
        stack.enter_context(taken(order.out))
        stack.enter_context(_logging(order.out / LOG))
        demo = _Demo(replace(order, mqtt_url=_broker(stack, args.mqtt_url)))
        try:
            demo.run(recipe, args.speed)
        except KeyboardInterrupt:
            print(f"tilctl demo: interrupted; what there is lies in {order.out}", file=sys.stderr)
            raise
        outcome = demo.outcome(recipe, began)
    if args.json:
        print(as_json(outcome))
    else:
        tell(outcome, sys.stdout)
    if outcome.summary.state == "complete" and not outcome.trouble:
        return Exit.OK
    print(f"tilctl demo: the batch is {outcome.summary.state}: {outcome.reason or 'it has not ended'}", file=sys.stderr)
    return Exit.NOT_WELL


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {LARGEST_SEED}")
    return seed


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("a folder is expected; '.' is the present one")
    return Path(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and speed > 0.0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0; leave --speed out for as fast as it goes")
    return speed


def _ordered(args: argparse.Namespace) -> tuple[Recipe, Order]:
    """Return the checked recipe and what is to be rehearsed; raises CommandFailed with every finding."""
    try:
        recipe = load(args.recipe)
    except DocumentError as error:
        raise CommandFailed(Exit.BAD_INPUT, f"the recipe cannot be used:\n{error}") from error
    name, folders = _in_folder(args.recipe)
    out: Path = args.out or Path("out") / f"demo-{recipe.recipe}-{args.seed}"
    return recipe, Order(name, args.seed, out, "", folders=folders, site=site_for(args.site))


def _in_folder(recipe: str) -> tuple[str, tuple[Path, ...]]:
    """Return a recipe's name and where it lies: the start command is on record, and paths of a machine stay out."""
    path = Path(recipe)
    if shelf.paths(shelf.RECIPES, (path.parent,)).get(path.stem) == path:
        return path.stem, (path.parent,)
    return recipe, ()


def _broker(stack: ExitStack, given: str | None) -> str:
    """Return the address of the broker: the given one, or one of our own that a Ctrl-C at the terminal does not reach.

    Raises CommandFailed.
    """
    if given:
        return given
    broker = EmbeddedBroker()
    stack.callback(broker.stop)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a child inherits what is blocked
    try:
        return broker.start().url
    except (OSError, RuntimeError) as error:
        raise CommandFailed(Exit.UNAVAILABLE, f"the MQTT broker does not start: {error}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _logging(path: Path) -> Generator[None]:
    """Send all logs to a file; raises CommandFailed when it cannot be written."""
    try:
        stream = path.open("w", encoding="utf-8", buffering=1)
    except OSError as error:
        raise CommandFailed(Exit.UNAVAILABLE, f"the log cannot be written: {error}") from error
    with stream:
        configure(json=True, stream=stream)
        try:
            yield
        finally:
            logging.getLogger().handlers.clear()
            structlog.reset_defaults()


class _Demo:
    """One demonstration: runs the rehearsal, then reads back what is on record of it."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._plant: Plant | None = None
        self._trouble = ""
        self._ended = threading.Event()

    def run(self, recipe: Recipe, pace: float | None) -> None:
        """Rehearse; how it failed is kept for the outcome.  Raises CommandFailed where the suite cannot be built."""
        progress = Progress(recipe, UNIT, sys.stderr)

        async def main(clock: VirtualClock) -> None:
            with self._guarded(clock) as watch:

                def standing(service: Service, plant: Plant) -> None:
                    self._plant = plant
                    progress.attach(service)
                    watch(service)

                await rehearse(self._order, clock, standing, lambda _rehearsal: None)

        try:
            run_virtually(main, seed=self._order.seed, pace=pace, watchdog_s=WATCHDOG_S)
        except RehearsalFailed as error:
            self._trouble = str(error)
        except JournalError as error:
            raise CommandFailed(Exit.RECORD, str(error)) from error
        except OSError as error:
            raise CommandFailed(Exit.UNAVAILABLE, str(error)) from error
        finally:
            progress.close()

    @contextlib.contextmanager
    def _guarded(self, clock: VirtualClock) -> Generator[Callable[[Service], None]]:
        """Give a function that watches the service's broker in real time, and end the block when that stays away."""
        task = asyncio.current_task()
        threads: list[threading.Thread] = []

        def cancel() -> None:
            if task is not None:
                task.cancel()

        def look(service: Service) -> None:
            gone = 0.0
            while gone < BROKER_GONE_S:
                if self._ended.wait(1.0):
                    return
                gone = 0.0 if service.mqtt.connected else gone + 1.0
            self._trouble = f"the broker at {self._order.mqtt_url} has been away for {BROKER_GONE_S:.0f} s"
            clock.enter(cancel)

        def watch(service: Service) -> None:
            threads.append(threading.Thread(target=look, args=(service,), name="broker watch", daemon=True))
            threads[0].start()

        try:
            yield watch
        except asyncio.CancelledError:
            if not self._trouble:
                raise
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def outcome(self, recipe: Recipe, began: float) -> Outcome:
        """Return what is on record, and draw it; raises CommandFailed when there is no record."""
        out = self._order.out
        journal = next(iter(sorted((out / DATA / "batches").glob("*.db"))), None)
        if journal is None or self._plant is None:
            raise CommandFailed(Exit.NOT_WELL, self._trouble or "no batch was started")
        records, verdict = read(journal)
        if not verdict.ok:
            raise CommandFailed(Exit.RECORD, f"{journal}: {verdict.reason}")
        summary = summarize(records)
        title = f"{summary.recipe}, seed {self._order.seed}: {recipe.title}"
        drawn = tuple(_draw(out, self._plant, summary, title))
        return Outcome(
            summary=summary,
            seed=self._order.seed,
            wall_s=time.monotonic() - began,
            journal=journal,
            events=verdict.events,
            head=verdict.head,
            plots=drawn,
            counted=counted_by(self._plant.pumps),
            trouble=self._trouble,
        )


def _draw(out: Path, plant: Plant, summary: Summary, title: str) -> Iterator[Path]:
    """Draw what there is; yield the files.  Raises CommandFailed when one cannot be written."""
    try:
        if plots.culture(out / CULTURE, list(plant.trace.rows), summary, title):
            yield out / CULTURE
        if summary.freezing and plots.freezing(out / FREEZING, summary.freezing[-1], title):
            yield out / FREEZING
    except OSError as error:
        raise CommandFailed(Exit.UNAVAILABLE, f"the plots cannot be written: {error}") from error
