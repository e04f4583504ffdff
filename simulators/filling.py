"""What the simulated operator fills a bag with, by what its `holds` says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from simulators.asked import family_of, holds_of

FILLED = (0.93, 0.97)  # of the limit of a bag that holds something
THAWED = (0.80, 0.92)  # share of the cells of a thawed bag that live (general knowledge, unverified)
FROZEN_CELLS = 1e10  # viable ones in a frozen bag that does not say how many (engineering default)
HOLDS = (  # words of `holds`, and the liquid they mean
    ("stock solution", "buffer"),
    ("cryopreserved", "frozen"),
    ("dmso", "cs10"),
    ("okt3", "cm2"),
    ("irradiated", "feeders"),
    ("tumour-infiltrating", "til"),
    ("aim-v", "cm4"),
    ("serum", "cm1"),
    ("medium", "medium"),
    ("cd3/cd28", "activator"),
    ("activation reagent", "activator"),
)
ACTIVATING = tuple(word for word, liquid in HOLDS if liquid == "activator")
IN_MEDIUM = 0.05  # mL of the reagent in a mL of a medium that names it (engineering default)
CELLS = re.compile(r"(\d+(?:\.\d+)?(?:e\+?\d+)?) (?:viable )?cells\b(?!/)")
STATED = {  # what `holds` may say of its liquid, and the property that it is
    "il2": re.compile(r"il-2 (\d+(?:\.\d+)?(?:e\+?\d+)?) iu/ml"),
    "okt3": re.compile(r"okt3 (\d+(?:\.\d+)?) (?:ng|(ug))/ml"),
    "glucose": re.compile(r"glucose (\d+(?:\.\d+)?) mmol/l"),
}
LEFT_OUT = {
    it: re.compile(rf"without [^:;.]*{word}")
    for it, word in (("il2", "il-2"), ("okt3", "okt3"), ("glucose", "glucose"))
}


def content_of(container: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a container as the bench hangs it: a liquid, and the properties that its `holds` states."""
    name, holds = family_of(str(container["name"])), holds_of(container)
    liquid = "buffer" if holds else "empty"
    if holds and name in ("cm1", "cm2", "cm4", "cs10", "feeders"):
        liquid = name
    elif holds:
        liquid = next((meant for word, meant in HOLDS if word in holds), liquid)
    content: dict[str, Any] = {"liquid": liquid}
    if liquid != "activator" and any(word in holds for word in ACTIVATING):
        content["activator"] = IN_MEDIUM
    if container.get("density") is not None:
        content["density"] = float(container["density"])
    content |= dict.fromkeys((it for it in STATED if LEFT_OUT[it].search(holds)), 0.0)
    return content | {it: _stated(said) for it, spoken in STATED.items() if (said := spoken.search(holds))}


def _stated(said: re.Match[str]) -> float:
    """Return what stands there, of OKT3 in ng/mL."""
    return float(said[1]) * (1000.0 if "ug" in said.groups() else 1.0)


def cells_of(container: Mapping[str, Any]) -> float:
    """Return how many viable cells a container is said to hold."""
    said = CELLS.search(holds_of(container))
    return FROZEN_CELLS if said is None else float(said[1])
