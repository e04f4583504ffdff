"""The page of excursions says what is so: whatever it names is configured, and no hazard is left out."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import yaml

from devices.profile import load_profile
from recipes.catalog import find
from recipes.check import check
from tilctl.config import load_site
from tilctl.guard.catalog import BUILT_IN
from tilctl.guard.fluid_rules import RULES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "deploy" / "EXCURSIONS.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if re.match(r"\| \d+ ", line)
]
PROFILES = ("sim-incubator", "sim-freezer", "sim-rocker")
BESIDE = ("record-failed", "interlocks-edited", "device-")
"""Raised by the program with texts of their own: by the watch over records, by interlocks, by the class of a device."""


def names() -> set[tuple[str, str]]:
    return {(kind, name) for kind, name in re.findall(r"`(\w+):([^`]+)`", PAGE)}


def test_all_32_are_there_each_watched_or_said_to_be_not_simulated() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, 33))
    for row in ROWS:
        watched = re.findall(r"`\w+:[^`]+`", row[2])
        assert bool(watched) is ("*not simulated*" not in row[2]), row
        assert len(row) == 7
        assert not watched or (row[6] and row[4]), row


def test_what_is_named_is_configured() -> None:
    site = load_site(Path(str(resources.files("tilctl.cli") / "demo-site.yaml")))
    rocking = load_site(Path(str(resources.files("tilctl.cli") / "lab-rocking.yaml")))
    recipe, found = check(find("til-22d"))
    assert recipe is not None
    assert not found
    unit = site.units["cell1"]
    alerts = yaml.safe_load((ROOT / "deploy" / "prometheus-rules.yml").read_text())
    known = {
        "guard": {guard.id for guard in recipe.guards},
        "clock": set(recipe.clocks),
        "site": {*unit.alarms, *site.alarms, *rocking.units["cell1"].alarms},
        "interlock": set(unit.rules.interlocks),
        "permissive": set(site.rules.permissives),
        "rule": set(RULES),
        "program": {*BUILT_IN, *BESIDE},
        "alert": {rule["alert"] for group in alerts["groups"] for rule in group["rules"]},
        "check": {"claim-range"},
        "profile": {f"{name}.{alarm}" for name in PROFILES for alarm in load_profile(name).alarms},
    }  # fmt: skip
    missing = {(kind, name) for kind, name in names() if name not in known[kind]}
    assert not missing


def test_each_tells_a_person_cause_consequence_action_and_time() -> None:
    recipe, _ = check(find("til-22d"))
    assert recipe is not None
    site = load_site(Path(str(resources.files("tilctl.cli") / "demo-site.yaml")))
    declared = [*recipe.guards, *(alarm.declared for alarm in site.alarms.values())]
    declared += [alarm.declared for unit in site.units.values() for alarm in unit.alarms.values()]
    declared += [alarm for profile in site.profiles.values() for alarm in profile.alarms.values()]
    texts = [each.help for each in declared] + [dict(rule.help) for rule in RULES.values()] + list(BUILT_IN.values())
    texts += [dict(rule.help) for unit in site.units.values() for rule in unit.rules.interlocks.values()]
    for told in texts:
        assert {"cause", "consequence", "action", "allowed"} <= told.keys(), told
