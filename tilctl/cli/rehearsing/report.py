"""What a campaign came to: for a person, for a program (`--json`), for a build server (JUnit XML)."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # it is written here, never read
from pathlib import Path
from typing import Any, TextIO

from tilctl.cli.how_far import HowFar
from tilctl.cli.rehearsing.campaign import Tally

SHOWN = 20  # violations shown to a person


def as_data(recipe: str, tally: Tally, wall_s: float) -> dict[str, Any]:
    """Return a campaign as JSON-able values; one rehearsal alone brings its daily samples and its record's head."""
    data: dict[str, Any] = {
        "recipe": recipe,
        "seeds": tally.seeds,
        "faults_injected": sum(tally.faults.values()) + tally.kills,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "violations": tally.violations,
        "doses": {"commanded": tally.commanded, "doubled": tally.doubled, "in_doubt": tally.in_doubt},
        "simulated_days": round(tally.simulated_s / 86400.0, 3),
        "wall_seconds": round(wall_s, 2),
        "peak_rss_mb": tally.peak_rss_mb,
        "kills": tally.kills,
        "held_hours": round(tally.held_s / 3600.0, 3),
        "operator_touches": tally.touches,
        "over_sockets": tally.over_sockets,
        "faults": dict(sorted(tally.faults.items())),
        "not_applicable": tally.not_applicable,
        "records_reopened": tally.mended,
        "interrupted": tally.interrupted,
        "alarms": dict(tally.alarms.most_common()),
    }
    if tally.seeds == 1 and tally.last is not None:
        data["head"] = tally.last.head
        data["events"] = tally.last.events
        data["samples"] = [vars(sample) for sample in tally.last.samples]
    return data


def tell(recipe: str, tally: Tally, wall_s: float, out: Path, stream: TextIO) -> None:
    """Tell a person."""
    days = tally.simulated_s / 86400.0
    ends = ", ".join(f"{number} {state}" for state, number in sorted(tally.outcomes.items())) or "none ended"
    apart = f"; not applicable: {tally.not_applicable}" if tally.not_applicable else ""
    lines = [
        f"{recipe}: {tally.seeds} rehearsals, {days:.1f} simulated days in {wall_s:.0f} s",
        f"  ended       {ends}",
        f"  befell      {sum(tally.faults.values())} faults, {tally.kills} ends of the controller{apart}",
        f"  doses       {tally.commanded} commanded, {tally.doubled} doubled, {tally.in_doubt} in doubt",
        f"  people      {tally.touches} touches; {tally.held_s / 3600.0:.1f} h held",
        f"  alarms      {_alarms(tally)}",
        f"  memory      {tally.peak_rss_mb:.0f} MB at most in a process; {tally.over_sockets} seeds over real sockets",
        f"  violations  {len(tally.violations)} in {tally.violated} rehearsals",
    ]
    lines += [
        f"    seed {found['seed']}, event {found['event']}: {found['invariant']}: {found['text']}"
        for found in tally.violations[:SHOWN]
    ]
    if len(tally.violations) > SHOWN:
        lines.append(f"    and {len(tally.violations) - SHOWN} more")
    if tally.violations:
        lines.append(f"  record, log and faults of each lie in {out}/seed-N; --seed N repeats it to the same event")
    if tally.interrupted:
        lines.append("  interrupted: this is what there is so far")
    print("\n".join(lines), file=stream)


def _alarms(tally: Tally) -> str:
    """Return how many there were, and which came most often."""
    total = tally.alarms.total()
    if not total:
        return "none"
    most = ", ".join(f"{number} {name}" for name, number in tally.alarms.most_common(5))
    return f"{total}, {total / max(1, tally.seeds):.2f} for each rehearsal; most often {most}"


def write_junit(path: Path, recipe: str, tally: Tally, wall_s: float) -> None:
    """Write JUnit XML, a test case for each seed; raises OSError."""
    suite = ET.Element(
        "testsuite",
        name=f"tilctl rehearse {recipe}",
        tests=str(tally.seeds),
        failures=str(tally.violated),
        errors="0",
        time=f"{wall_s:.2f}",
    )
    for seed, seconds, texts in sorted(tally.times):
        case = ET.SubElement(
            suite, "testcase", classname=f"rehearse.{recipe}", name=f"seed {seed}", time=f"{seconds:.2f}"
        )
        if texts:
            failure = ET.SubElement(case, "failure", message=_printable(texts[0]), type="violation")
            failure.text = _printable("\n".join(texts))
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def _printable(text: str) -> str:
    """Return a text without the characters that XML cannot hold."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


class Progress(HowFar):
    """How far a campaign is, and what was found."""

    def __call__(self, tally: Tally, total: int) -> None:
        """Tell it."""
        text = (
            f"{tally.seeds}/{total} rehearsals, {tally.simulated_s / 86400.0:.0f} days, "
            f"{sum(tally.faults.values()) + tally.kills} faults, {len(tally.violations)} violations"
        )
        self.tell(tally.seeds, total, text)
