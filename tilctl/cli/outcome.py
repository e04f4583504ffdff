"""What a demonstration came to, as one JSON object for machines and as a page for people."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from simulators.physics.fluid import Pump
from tilctl.record.summary import Dose, Summary

DISCLAIMER = (
    "Simulated, with an uncalibrated simulator. The recipes are illustrative, their values are not verified, "
    "and nothing here is a clinical protocol or clinical advice."
)
WIDEST = 110  # characters of a page for people, where the terminal does not say


@dataclass(frozen=True, slots=True)
class Outcome:
    """A demonstration that has ended; `counted` is what the simulated pumps know they were made to move (mL)."""

    summary: Summary
    seed: int
    wall_s: float
    journal: Path
    events: int
    head: str
    plots: tuple[Path, ...]
    counted: Mapping[tuple[str, int], float]
    trouble: str = ""

    @property
    def reason(self) -> str:
        """Return why it ended as it did, "" where that needs no words."""
        return self.trouble or self.summary.reason


def counted_by(pumps: Mapping[str, Pump]) -> dict[tuple[str, int], float]:
    """Return what each pump of the simulator counted (mL), by pump and sequence number; what still runs is not in."""
    return {
        (name, dispense.sequence): dispense.counted_ml
        for name, pump in pumps.items()
        for dispense in pump.log
        if dispense.ended is not None
    }


def as_json(outcome: Outcome) -> str:
    """Return the outcome for machines: one JSON object on one line."""
    summary = outcome.summary
    content: dict[str, Any] = {
        "recipe": summary.recipe,
        "seed": outcome.seed,
        "state": summary.state,
        "reason": outcome.reason,
        "simulated_days": round(summary.days, 4),
        "wall_seconds": round(outcome.wall_s, 2),
        "viable_cells": summary.viable_cells,
        "viability": summary.viability,
        "doses": [
            {
                "path": dose.path,
                "device": dose.device,
                "commanded_ml": dose.commanded_ml,
                "delivered_ml": dose.delivered_ml,
                "counted_ml": _counted(outcome, dose),
            }
            for dose in summary.doses
        ],
        "prompts_answered": summary.prompts_answered,
        "alarms": [asdict(alarm) for alarm in summary.alarms],
        "exceptions": [asdict(remark) for remark in summary.exceptions],
        "releases": [asdict(lot) for lot in summary.releases],
        "journal": str(outcome.journal.resolve()),
        "journal_events": outcome.events,
        "journal_head": outcome.head,
        "plots": [str(plot.resolve()) for plot in outcome.plots],
    }
    return json.dumps(content, allow_nan=False)


def _counted(outcome: Outcome, dose: Dose) -> float | None:
    counted = outcome.counted.get((dose.device, dose.sequence))
    return None if counted is None else round(counted, 2)  # a count of the pump is 0.01 mL


def tell(outcome: Outcome, stream: TextIO) -> None:
    """Write the outcome for people."""
    console = Console(file=stream, highlight=False, width=None if stream.isatty() else WIDEST)
    summary = outcome.summary
    ended = f"{summary.recipe} {summary.recipe_version}, seed {outcome.seed}: {summary.state}"
    console.print(Text(ended + (f" ({outcome.reason})" if outcome.reason else ""), style="bold"))
    console.print(_facts(outcome))
    if summary.doses:
        console.print(_transfers(outcome))
    console.print(_list("Alarms", [f"{a.raised[:16]}  {a.priority}: {a.text}" for a in summary.alarms]))
    exceptions = [f"{e.t[:16]}  {e.path}: {e.text}" for e in summary.exceptions]
    console.print(_list("Exceptions, for review", exceptions))
    console.print(_places(outcome), soft_wrap=True)
    console.print(Text(DISCLAIMER, style="italic"))


def _facts(outcome: Outcome) -> Table:
    summary = outcome.summary
    cells = "none counted" if summary.viable_cells is None else f"{summary.viable_cells:.3g}"
    if summary.viability is not None:
        cells += f", viability {summary.viability:.1f} %"
    rate = summary.days / outcome.wall_s if outcome.wall_s else 0.0
    table = Table.grid(padding=(0, 2))
    table.add_row("viable cells", f"{cells} (last laboratory results on record)")
    table.add_row("simulated", f"{summary.days:.2f} days in {outcome.wall_s:.1f} s ({rate:.2f} days a second)")
    table.add_row("prompts", f"{summary.prompts_asked} asked, {summary.prompts_answered} answered, by MQTT")
    for lot in summary.releases:
        awaited = f"; awaited: {', '.join(lot.pending)}" if lot.pending else ""
        table.add_row("release", f"{lot.path}: {lot.outcome}, by {lot.by}{awaited}")
    for run in summary.freezing:
        bad = [str(finding["criterion"]) for finding in run.findings if not finding["ok"]]
        judged = f"not met or not judged: {', '.join(bad)}" if bad else f"{len(run.findings)} criteria met"
        table.add_row("freezing", f"profile {run.profile}, {run.ended_as}, {judged}")
    return table


def _transfers(outcome: Outcome) -> Table:
    table = Table(title="Transfers, mL", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("path", no_wrap=True)
    table.add_column("from, to")
    table.add_column("pump", no_wrap=True)
    for name in ("commanded", "delivered", "counted"):
        table.add_column(name, justify="right", no_wrap=True)
    for dose in outcome.summary.doses:
        volumes = (dose.commanded_ml, dose.delivered_ml, _counted(outcome, dose))
        table.add_row(
            dose.path,
            Text(f"{dose.source}, {dose.destination}"),
            dose.device,
            *("-" if volume is None else f"{volume:.1f}" for volume in volumes),
        )
    table.caption = "delivered: by the masses, on record; counted: by the simulated pump itself, which slips"
    table.caption_justify = "left"
    return table


def _list(title: str, lines: list[str]) -> Text:
    text = Text(f"{title}: {len(lines) or 'none'}", style="bold")
    for line in lines:
        text.append(f"\n  {line}", style="not bold")
    return text


def _places(outcome: Outcome) -> Text:
    program = "tilctl" if shutil.which("tilctl") else sys.argv[0]
    lines = [
        f"journal   {outcome.journal} ({outcome.events} events, head {outcome.head[:16]}...)",
        f"verify    {program} journal verify {shlex.quote(str(outcome.journal))}",
        *(f"plot      {plot}" for plot in outcome.plots),
    ]
    return Text("\n".join(lines))
