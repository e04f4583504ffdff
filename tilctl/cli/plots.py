"""The plots of a rehearsal as SVG: the culture over the days, the freezing run over the minutes.

Same data, same bytes: no date, fixed ids.  What is drawn is the simulator's truth, except where it says laboratory.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from simulators.trace import CultureRow
from tilctl.record.summary import DAY_S, Count, FreezeRun, Summary, seconds_between

Axes = Any  # matplotlib leaves its keyword arguments without types, so that nothing of it can be checked
Figure = Any
WARNING = "simulated, uncalibrated"
# Okabe and Ito's colours, which people with any colour vision can tell apart
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
STYLES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
LEAST_CELLS = 1e5  # below it a logarithmic axis shows noise
LEAST_ML = 1.0  # a vessel with less is as good as empty: no concentration, no temperature
CULTURE_S = 12 * 3600.0  # what holds cells for less is on their way, and only in the sum
_LOOK: dict[str, Any] = {
    "svg.hashsalt": "tilctl",
    "font.size": 9.0,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.4,
}


def culture(path: Path, rows: Sequence[CultureRow], summary: Summary, title: str) -> bool:
    """Draw cells, glucose, temperature and volumes over the days since day 0; False where nothing ever lived.

    Vessels that held cells for less than 12 hours are only in the sum, unless there are no others.  Row times count
    from the first event on record.  Raises OSError when the file cannot be written.
    """
    if not rows:
        return False
    begin = summary.marks.get("day0", summary.started)
    offset = seconds_between(summary.started, begin) if summary.started else 0.0
    vessels = _cultures(_by_name(rows))
    looks = _looks(vessels)
    with drawing(path, 10.0) as figure:
        axes = figure.subplots(4, 1, sharex=True, height_ratios=(3, 2, 1.4, 2))
        figure.suptitle(f"{literal(title)}\n{WARNING}")
        _cells(axes[0], rows, vessels, looks, offset)
        _laboratory(axes[0], summary.counts, begin)
        for name, own in vessels.items():
            days = [(row.t - offset) / DAY_S for row in own]
            filled = [(row.t - offset) / DAY_S for row in own if row.volume >= LEAST_ML]
            axes[1].plot(filled, [row.glucose for row in own if row.volume >= LEAST_ML], **looks[name])
            axes[2].plot(filled, [row.temperature for row in own if row.volume >= LEAST_ML], **looks[name])
            axes[3].plot(days, [row.volume / 1000.0 for row in own], **looks[name])
        axes[1].set_ylabel("glucose (mmol/L)")
        axes[1].set_ylim(bottom=0.0)
        axes[2].set_ylabel("temperature (°C)")
        axes[3].set_ylabel("volume (L)")
        axes[3].set_ylim(bottom=0.0)
        axes[3].set_xlabel("days since day 0" if "day0" in summary.marks else "days since the start")
        for index, axis in enumerate(axes):
            _marks(axis, summary.marks, begin, named=index == 0)
        handles, labels = axes[3].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=7)
    return True


def freezing(path: Path, run: FreezeRun, title: str) -> bool:
    """Draw chamber and sample over the minutes of a freezing run; False where there are no readings.

    Raises OSError when the file cannot be written.
    """
    if not run.series:
        return False
    with drawing(path, 5.5) as figure:
        axis = figure.subplots()
        figure.suptitle(f"{literal(title)}: freezing run, profile {run.profile}, ended as {run.ended_as}\n{WARNING}")
        minutes = [row[0] / 60.0 for row in run.series]
        wanted = {"color": COLOURS[7], "linewidth": 1.0, "linestyle": "--", "label": "set point of the chamber"}
        axis.plot(minutes, [_gap(setpoint) for *_, setpoint in run.series], **wanted)
        axis.plot(minutes, [_gap(chamber) for _, chamber, *_ in run.series], color=COLOURS[0], label="chamber")
        axis.plot(minutes, [_gap(sample) for *_, sample, _ in run.series], color=COLOURS[1], label="sample (bag)")
        axis.set_xlabel("time since the start of the run (min)")
        axis.set_ylabel("temperature (°C)")
        axis.set_xlim(left=0.0)
        axis.legend(loc="upper right")
        notes = [f"{finding['criterion']}: {finding['value']}, {_mark(finding)}" for finding in run.findings]
        if notes:
            axis.text(0.02, 0.03, "\n".join(notes), transform=axis.transAxes, va="bottom", fontsize=8.0)
    return True


def _mark(finding: Mapping[str, Any]) -> str:
    if not finding.get("judged", True):
        return "NOT JUDGED"
    return "met" if finding["ok"] else "NOT MET"


def _gap(value: float | None) -> float:
    return float("nan") if value is None else value


def literal(text: str) -> str:
    """Return a text that is drawn as it is: between two dollar signs matplotlib would read a formula."""
    return text.replace("$", r"\$")


@contextmanager
def drawing(path: Path | BinaryIO, height: float) -> Generator[Figure]:
    """Give a figure (9 inches wide) to draw on, and write it to `path` at the end."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second, which only the end of a rehearsal has to pay
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415

    library: Any = mpl
    with library.rc_context(_LOOK):
        figure: Any = Canvas(figsize=(9.0, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": "tilctl"})


def _by_name(rows: Iterable[CultureRow]) -> dict[str, list[CultureRow]]:
    vessels: dict[str, list[CultureRow]] = {}
    for row in rows:
        vessels.setdefault(row.name, []).append(row)
    return vessels


def _cultures(vessels: dict[str, list[CultureRow]]) -> dict[str, list[CultureRow]]:
    stayed = {name: own for name, own in vessels.items() if own[-1].t - own[0].t >= CULTURE_S}
    return stayed or vessels


def _looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return colour, dashes and label of each vessel: a family has one colour, its members differ in dashes."""
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(name.partition("[")[0], []).append(name)
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[k % len(STYLES)], "label": name}
        for i, members in enumerate(families.values())
        for k, name in enumerate(members)
    }


def _cells(
    axis: Axes,
    rows: Sequence[CultureRow],
    vessels: Mapping[str, list[CultureRow]],
    looks: Mapping[str, dict[str, Any]],
    offset: float,
) -> None:
    """Draw the viable cells of each vessel, and of all together while there is a culture."""
    total: dict[float, float] = {}
    last = max(own[-1].t for own in vessels.values())
    for row in rows:
        if row.t <= last:
            total[row.t] = total.get(row.t, 0.0) + row.viable
    for name, own in vessels.items():
        shown = [row for row in own if row.viable >= LEAST_CELLS]
        axis.plot([(row.t - offset) / DAY_S for row in shown], [row.viable for row in shown], **looks[name])
    seen = [(t, cells) for t, cells in total.items() if cells >= LEAST_CELLS]
    days = [(t - offset) / DAY_S for t, _ in seen]
    axis.plot(days, [cells for _, cells in seen], color="#bbbbbb", linewidth=5.0, zorder=1, label="all vessels")
    axis.set_yscale("log")
    axis.set_ylabel("viable cells")


def _laboratory(axis: Axes, counts: Sequence[Count], begin: str) -> None:
    known = [(seconds_between(begin, count.t) / DAY_S, count.cells) for count in counts if count.cells]
    if known:
        days, cells = zip(*known, strict=True)
        style: dict[str, Any] = {"marker": "o", "linestyle": "none", "color": "black", "markerfacecolor": "white"}
        axis.plot(days, cells, label="laboratory count", zorder=5, **style)
    handles, labels = axis.get_legend_handles_labels()
    chosen = [pair for pair in zip(handles, labels, strict=True) if pair[1] in ("all vessels", "laboratory count")]
    axis.legend([handle for handle, _ in chosen], [label for _, label in chosen], loc="upper left")


def _marks(axis: Axes, marks: Mapping[str, str], begin: str, *, named: bool) -> None:
    """Draw the marks of biological time; those that fall together share a line and a label."""
    at: dict[float, list[str]] = {}
    for name, moment in marks.items():
        at.setdefault(round(seconds_between(begin, moment) / DAY_S, 0), []).append(name)
    for moment in marks.values():
        axis.axvline(seconds_between(begin, moment) / DAY_S, color="#666666", linewidth=0.8, linestyle=":")
    if named:
        for day, names in at.items():
            place = {"xycoords": axis.get_xaxis_transform(), "textcoords": "offset points"}
            style = {"fontsize": 8.0, "color": "#444444", "rotation": 90, "ha": "right", "va": "bottom"}
            axis.annotate(", ".join(names), (day, 0.02), xytext=(-2, 0), **place, **style)
