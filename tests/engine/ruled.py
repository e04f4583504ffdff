"""A suite whose unit has other interlocks than the shipped ones, and what is asked of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from story import DEMO_SITE, UNIT, Story, told

from tilctl.guard.judged import JudgedInterlock, Phase
from tilctl.journal.verify import read

RULE = (
    "too_hot: {{when: station.temperature > {limit:g} degC, then: {{station: cut}}, deadband: 0.5 K, reset: {reset}}}"
)


def site(folder: Path, *rules: str, name: str = "site", **changes: str) -> Path:
    """Write the demonstration's site with other interlocks of its unit."""
    text = re.sub(r"    interlocks:\n(?: {6,}.*\n)+", "", DEMO_SITE.read_text("utf-8"))
    listed = "".join(f"      {rule}\n" for rule in rules)
    text = text.replace("shared:\n", f"    interlocks:\n{listed}shared:\n" if rules else "shared:\n")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / f"{name}.yaml"
    path.write_text(text, "utf-8")
    return path


@contextlib.asynccontextmanager
async def suite_of(folder: Path, path: Path) -> AsyncIterator[Story]:
    story = Story(folder)
    story.overrides = {}
    story.site_file = path
    story.site_overrides |= {"scan.quiet": "1 s"}
    async with told(story):
        yield story


def one(suite: Story, name: str = "too_hot") -> JudgedInterlock:
    found = suite.controller.interlocking.rules.of(UNIT)[name]
    assert isinstance(found, JudgedInterlock)
    return found


def barred(suite: Story, device: str = "incubator", command: str = "set_temperature") -> str:
    return suite.plant_suite.gate.barred(device, command)


async def waiting(suite: Story, **more: str) -> None:
    await suite.start("still", wait="9 h", **more)
    await suite.until("stay/one", "acting")


def warm(suite: Story, degc: float) -> None:
    with suite.plant.change() as t:
        suite.plant.climate.temperature.jump(t, degc)


async def tripped(suite: Story, degc: float = 39.6) -> None:
    warm(suite, degc)
    await suite.when(lambda: one(suite).phase is Phase.TRIPPED, "it trips", within=5.0)


async def over(suite: Story) -> None:
    warm(suite, 37.0)
    await suite.when(lambda: one(suite).phase is not Phase.TRIPPED, "it is over", within=5.0)


def orders(suite: Story) -> list[str]:
    heard: list[str] = []
    suite.plant.devices["incubator"].heard.append(lambda command, _args: heard.append(command))
    return heard


def site_records(suite: Story) -> list[Any]:
    records, verdict = read(suite.folder / "data" / "site.db")
    assert verdict.ok
    return records


ANNA = {"user": "anna", "role": "process_engineer", "reason": "the probe drifts"}


def bypass(interlock: str = "too_hot", lasts: str = "30 min", user: str = "ben", role: str = "quality") -> Any:
    return {"interlock": interlock, "lasts": lasts, "second": {"user": user, "role": role}}
