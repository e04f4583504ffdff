"""The simulated operator: a seeded policy from a prompt to an answer, and what the hands do meanwhile.

Rules come from the prompt: its kind, the type and the name of each input; what a step needs beyond that is known by
the last element of its path.  Every number is a function of seed and path, not of what was asked before, so that a
repeated or late prompt gets the same answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from simulators.asked import (
    Prompt,
    chemistry_of,
    containers_of,
    family_of,
    holds_of,
    inputs_of,
    key_of,
    moment_of,
    sources_of,
    step_of,
    together,
)
from simulators.filling import FILLED, THAWED, cells_of, content_of
from simulators.habits import GOOD_HABITS, Again, Habits
from simulators.physics.noise import between, stream, uniform

BenchCall = Callable[[str, dict[str, Any]], Any]

# How long people take, s, by the last element of the path, else by the kind of prompt (engineering defaults).
DELAYS: dict[str, tuple[float, float]] = {
    "arrive": (600.0, 1500.0),
    "fragments": (3600.0, 9000.0),
    "digested": (120.0, 300.0),
    "feeder_count": (3600.0, 7200.0),
    "resuspend": (120.0, 300.0),
    "retain": (1200.0, 2400.0),
    "replan": (6 * 3600.0, 18 * 3600.0),
    "qa": (3600.0, 3 * 3600.0),
    "accept_viability": (3600.0, 3 * 3600.0),
    "wash": (3600.0, 7200.0),
    "ready": (120.0, 600.0),
    "load": (240.0, 540.0),
    "store": (60.0, 110.0),
    "@ask": (180.0, 600.0),
    "@release": (3600.0, 3 * 3600.0),
    "@mount": (180.0, 420.0),
    "@unmount": (120.0, 300.0),
    "@sample": (3600.0, 7200.0),
    "@result": (13.5 * 86400.0, 13.9 * 86400.0),  # sterility cultures take 14 days
    "@reconcile": (300.0, 900.0),
    "@freeze-failed": (300.0, 900.0),
}
FOR_EACH_CONTAINER = 90.0  # s
SETTLE_BEFORE = 10.0  # s between the last touch and the answer, so that scales have come to rest
OF_DUE = {"@result": 0.995, "@mount": 0.8, "@sample": 0.8}  # share of the time to the deadline that is used at most
GOOD = ("yes", "ok", "pass", "passed", "no_growth", "go", "continue", "accept", "true")
NAMED = re.compile(r"\b[a-z][a-z0-9_]*\[\d+\]")  # a container of a family
AT_LEAST = re.compile(r"at least (\d+(?:\.\d+)?(?:e\+?\d+)?) cells")
USUAL_FEEDERS = 5e9  # cells, where the question names no least number
FEEDERS = (1.12, 0.05, 1.02, 1.3)  # of the least number that is wanted: mean, sigma, least, most
SUSPENSION = (0.4, 0.6)  # of the most that the answer may be, mL
USUAL_SUSPENSION = 300.0  # mL, where the question names no most
TIL_VIABILITY = (84.0, 96.0)  # % (engineering default)
FULL_FLASK = (0.8, 50)  # share of the most fragments that a flask may have, and how many that are where nobody says


@dataclass(frozen=True, slots=True)
class Answer:
    """Values for the inputs of a prompt, after how many seconds they are given, and what was done.

    `again` is what the person then gives as well, out of a bad habit.
    """

    inputs: dict[str, str | float]
    delay_s: float
    text: str
    again: tuple[Again, ...] = ()


class Operator:
    """Answers prompts (`id, path, kind, text, asked, due, inputs, containers, from, results`) and works at the bench.

    `bench_call(name, args)` is `Bench.call` or a client of it.  `haste` below 1 shortens all delays (for real pace).
    `habits` may be exchanged while it works.
    """

    def __init__(self, seed: int, bench_call: BenchCall, haste: float = 1.0, habits: Habits = GOOD_HABITS) -> None:
        self.seed = seed
        self.haste = haste
        self.habits = habits
        self._bench = bench_call
        self._fragments: dict[str, int] = {}  # batch -> tissue on hand, told when it was cut
        self._counted: dict[tuple[str, str], tuple[float, float]] = {}  # batch, feeders or til -> cells and mL on hand

    def answer(self, prompt: Prompt) -> Answer:
        """Return the answer to a prompt; what is done with hands is announced to the bench for the right moment."""
        delay = self._delay(prompt)
        kind, step = str(prompt["kind"]), step_of(prompt)
        known: dict[str, Any] = {}
        if kind == "mount":
            known, text = self._mount(prompt, delay)
        elif kind == "unmount":
            text = self._unmount(prompt, delay)
        elif kind in ("sample", "result"):
            known, text = self._sample(prompt, drawn=kind == "result" and step != "bioburden")
        elif kind == "reconcile":
            known, text = self._reconcile(prompt), "looked at pump, scale and bag"
        elif kind == "freeze-failed":
            known, text = self._freeze_failed(prompt)
        else:
            known, text = self._ask(prompt, step, delay)
        inputs = {name: self._value(prompt, name, spec, known) for name, spec in inputs_of(prompt).items()}
        again = self.habits.again(self.seed, prompt, inputs, self.haste) if kind != "reconcile" else ()
        return Answer(inputs, delay, text, again)

    # what hands do -----------------------------------------------------------------------------------------------

    def _mount(self, prompt: Prompt, delay: float) -> tuple[dict[str, Any], str]:
        known: dict[str, Any] = {}
        vessels = [str(c["name"]) for c in containers_of(prompt) if "fragments" in holds_of(c)]
        for container in containers_of(prompt):
            name = str(container["name"])
            content = self._content(container)
            if "shelf" in content:
                volume = float(self._bench("find", {"name": content["shelf"]})["volume_ml"])
            elif container.get("volume_ml") is not None:
                volume = float(container["volume_ml"])
            elif content["liquid"] == "empty":
                volume = 0.0
            elif content["liquid"] in ("feeders", "til"):
                volume = self._on_hand(prompt, content["liquid"])[1]
            else:
                volume = float(round(self._draw(prompt, name, *FILLED) * float(container["limit_ml"])))
            if content.get("liquid") == "feeders" and volume > 0.0:
                content["feeders"] = self._on_hand(prompt, "feeders")[0]
            elif content.get("liquid") == "frozen":
                cells = cells_of(container)
                content |= {"cells": cells, "dead": cells * (1.0 / self._draw(prompt, f"alive {name}", *THAWED) - 1.0)}
            elif content.get("liquid") == "til":
                content |= {"liquid": "medium", "cells": self._on_hand(prompt, "til")[0] if volume > 0.0 else 0.0}
            if name in vessels:
                tissue = self._fragments.get(str(prompt.get("batch")), 45 * len(vessels))
                index = vessels.index(name)
                content["fragments"] = tissue // len(vessels) + (1 if index < tissue % len(vessels) else 0)
            known[f"volume.{name}"] = f"{round(volume, 1):g} mL"
            args = {
                "port": container["port"],
                "kind": container["kind"],
                "vessel_class": container.get("class", ""),
                "volume_ml": volume,
                "content": content,
                "name": name,
                "limit_ml": container.get("limit_ml"),
            }
            self._do(prompt, "hang", args, delay)
        return known, f"hung {len(containers_of(prompt))} containers"

    def _content(self, container: Mapping[str, Any]) -> dict[str, Any]:
        if family_of(str(container["name"])) == "conc" and self._bench("find", {"name": "washed"}) is not None:
            return {"shelf": "washed"}
        return content_of(container)

    def _unmount(self, prompt: Prompt, delay: float) -> str:
        if "freezer" in str(prompt.get("text", "")).lower():
            names = [str(c["name"]) for c in containers_of(prompt)]
            self._do(prompt, "load_freezer", {"ports": names}, delay)
            return "loaded the freezer"
        gone = 0
        for container in containers_of(prompt):
            found = self._bench("find", {"name": container["name"]})
            if found is not None and found["port"] is not None:
                self._do(prompt, "take", {"port": str(container["name"])}, delay)
                gone += 1
        return f"took {gone} containers away"

    def _sample(self, prompt: Prompt, *, drawn: bool) -> tuple[dict[str, Any], str]:
        """Draw (unless the sample was drawn before) and analyse: every container that was sampled, put together.

        Cells add up, viability is that of all cells, concentrations are those of all the liquid.  A sample without
        cells among its results is drawn from above them, and stirs nothing up.
        """
        sources = sources_of(prompt)
        if drawn or not sources:
            return {}, "the laboratory reports"
        counted = [name for name in inputs_of(prompt) if name in ("tvc", "viability")]
        dissolved = chemistry_of(prompt)
        seen: list[Mapping[str, Any]] = []
        for i, source in enumerate(sources if counted or dissolved else sources[:1]):
            args = {"port": source["port"], "volume_ml": 2.0 if i == 0 else 0.0}
            args |= {"mix": False} if dissolved and not counted else {}
            seen.append(cast("Mapping[str, Any]", self._bench("sample", args | {"key": key_of(prompt, i)})))
        return together(seen), f"sampled {len(seen)} containers"

    def _look(self, prompt: Prompt) -> dict[str, float]:
        """Read glucose and lactate from a drop of what the prompt is about, else of the loop's vessel, else of all."""
        seen: list[Mapping[str, Any]] = []
        for name in [str(each["name"]) for each in containers_of(prompt)] or self._vessels(prompt):
            found = self._bench("find", {"name": name})
            if found is not None and found["port"] is not None:
                args = {"port": name, "volume_ml": 0.0, "mix": False, "key": key_of(prompt, name)}
                seen.append(cast("Mapping[str, Any]", self._bench("sample", args)))
        return together(seen)

    def _vessels(self, prompt: Prompt) -> list[str]:
        """Return the vessels that the text names, else the one with the index of the loop, else all in the station."""
        named = NAMED.findall(str(prompt.get("text", "")))
        if named:
            return [str(name) for name in named]
        index = next((part for part in reversed(str(prompt["path"]).split("/")) if part.isdigit()), None)
        standing = cast("list[str]", self._bench("standing", {}))
        return [n for n in standing if index is None or n.endswith(f"[{index}]")] or standing

    def _reconcile(self, prompt: Prompt) -> dict[str, Any]:
        """Say what really went over, as a person finds out with scale and bag."""
        match = re.search(r"from (\S+) to (\S+?)[?,. ]", str(prompt.get("text", "")))
        known: dict[str, Any] = {"why": "weighed source and destination by hand"}
        if match:
            args = {"source": match[1], "destination": match[2]}
            if prompt.get("sequence") is not None:
                args |= {"sequence": prompt["sequence"]}
            known["delivered"] = float(self._bench("moved", args)["moved_ml"])
        return known

    def _freeze_failed(self, prompt: Prompt) -> tuple[dict[str, Any], str]:
        """Freeze anew what never froze, from the start temperature; else save the bags."""
        choices = [str(c) for c in inputs_of(prompt).get("decision", {}).get("choices", [])]
        if "refreeze" in choices:
            self._do(prompt, "rest_freezer", {}, 0.0)  # at once: the chamber takes a minute
            return {"decision": "refreeze", "why": "never nucleated, and warm"}, "set the chamber to its start"
        return {"decision": choices[0] if choices else "", "why": "it may have frozen"}, "moved the bags to vapour"

    def _ask(self, prompt: Prompt, step: str, delay: float) -> tuple[dict[str, Any], str]:
        text = str(prompt.get("text", ""))
        if step == "arrive":
            return {"since_surgery": f"{self._draw(prompt, 'since', 12.0, 30.0):.1f} h"}, "took the tumour in"
        if step == "fragments":
            return self._cut(prompt, text), "cut fragments"
        if {"cells", "volume"} <= inputs_of(prompt).keys():
            return self._count_suspension(prompt, text)
        if step == "resuspend":
            return {}, self._resuspend(prompt, delay)
        if step == "digested":
            self._do(prompt, "digest", {}, delay)
            return {}, "found no pieces left"
        if step == "wash":
            return self._wash(prompt, text)
        if step == "load" or ("load" in text.lower() and "freezer" in text.lower()):
            names = [str(c["name"]) for c in containers_of(prompt)] or ["product"]
            self._do(prompt, "load_freezer", {"ports": names}, delay)
            return {}, "loaded the freezer"
        if step == "store":
            self._do(prompt, "unload_freezer", {}, delay)
            return {}, "moved the bags to vapour"
        if chemistry_of(prompt):
            return self._look(prompt), "read glucose and lactate from a drop"
        return {}, "looked, and it is so"

    def _count_suspension(self, prompt: Prompt, text: str) -> tuple[dict[str, Any], str]:
        """Prepare cells in a bag, and count them: feeders as many as are wanted and some more, TIL as may be given."""
        inputs = inputs_of(prompt)
        most_ml = float(inputs["volume"].get("max") or USUAL_SUSPENSION)
        what = "feeders" if "feeder" in f"{prompt.get('path')} {text}".lower() else "til"
        if what == "feeders":
            said = AT_LEAST.search(text)
            found = self._feeders(USUAL_FEEDERS if said is None else float(said[1]), most_ml)
        else:
            low, high = float(inputs["cells"].get("min") or 0.0), float(inputs["cells"].get("max") or USUAL_FEEDERS)
            cells = float(f"{self._draw(prompt, 'cells', 0.9 * low + 0.1 * high, 0.1 * low + 0.9 * high):.3e}")
            found = cells, float(round(most_ml * self._draw(prompt, "volume", *SUSPENSION)))
        self._counted[(str(prompt.get("batch")), what)] = found
        known: dict[str, Any] = {"cells": f"{found[0]:.3e} cells", "volume": f"{found[1]:g} mL"}
        known["viability"] = self._draw(prompt, "viability", *TIL_VIABILITY)
        return known, f"prepared and counted {what}"

    def _cut(self, prompt: Prompt, text: str) -> dict[str, Any]:
        flasks = int(inputs_of(prompt).get("flasks", {}).get("max", 4))
        share, usual = FULL_FLASK
        most = int(inputs_of(prompt).get("count", {}).get("max", usual * flasks)) // flasks
        count = sum(int(self._draw(prompt, f"flask {i}", math.ceil(share * most), most + 1)) for i in range(flasks))
        if "no cells" in text.lower():
            count = 0
        self._fragments[str(prompt.get("batch"))] = count
        return {"count": float(count), "flasks": float(flasks)}

    def _resuspend(self, prompt: Prompt, delay: float) -> str:
        """Swirl the containers of the prompt, else the vessel with the index of the loop, else all vessels."""
        names = [str(c["name"]) for c in containers_of(prompt)] or self._vessels(prompt)
        if names:
            self._do(prompt, "resuspend", {"port": names}, delay)
        return f"resuspended {', '.join(names) or 'nothing'}"

    def _wash(self, prompt: Prompt, text: str) -> tuple[dict[str, Any], str]:
        match = re.search(r"[Ww]ash to (\d+(?:\.\d+)?) *(mL|L)\b", text)
        volume = float(match[1]) * (1000.0 if match[2] == "L" else 1.0) if match else 100.0
        source = "gathered" if self._bench("find", {"name": "gathered"}) is not None else "pool"
        args = {"source": source, "volume_ml": volume, "key": key_of(prompt, 0)}
        washed = cast("Mapping[str, float]", self._bench("wash", args))
        known = {"volume": f"{washed['volume_ml']:.1f} mL", "tvc": washed["tvc"], "viability": washed["viability"]}
        return known, f"washed {source} to {washed['volume_ml']:.0f} mL"

    # what is written into the answer -----------------------------------------------------------------------------

    def _value(self, prompt: Prompt, name: str, spec: Mapping[str, Any], known: Mapping[str, Any]) -> str | float:
        kind = str(spec.get("type", "text"))
        if kind == "choice":
            choices = [str(c) for c in spec.get("choices", [])]
            return str(known[name]) if known.get(name) in choices else _choice(prompt, choices)
        if kind == "scan" or name.startswith("scan."):
            return f"{name.rpartition('.')[2].upper()}-{int(self._draw(prompt, name, 1e5, 1e6))}"
        if name.startswith("sign."):
            role = name.partition(".")[2]
            return f"{role} badge {int(uniform(stream(self.seed, role), 0, 1000, 9999))}"
        if kind != "number":
            return str(known.get(name, "seen and checked"))
        value = known.get(name)
        if isinstance(value, str):
            return self.habits.typed(self.seed, prompt, name, value) if prompt["kind"] != "reconcile" else value
        unit = str(spec.get("canonical", spec.get("unit", "")))
        low, high = spec.get("min"), spec.get("max")
        if value is None:
            share = self._draw(prompt, name, 0.4, 0.6)
            value = float(low or 0.0) + share * (float(1.0 if high is None else high) - float(low or 0.0))
        value = min(float(value) if high is None else float(high), max(float(low or 0.0), float(value)))
        return f"{value:.4g} {unit}".strip()

    # when and how much -------------------------------------------------------------------------------------------

    def _delay(self, prompt: Prompt) -> float:
        kind = f"@{prompt['kind']}"
        low, high = DELAYS.get(step_of(prompt)) or DELAYS.get(kind) or DELAYS["@ask"]
        delay = self._draw(prompt, "delay", low, high)
        if kind in ("@mount", "@unmount"):
            delay += FOR_EACH_CONTAINER * len(containers_of(prompt))
        if prompt.get("due") and prompt.get("asked"):
            left = (moment_of(prompt["due"]) - moment_of(prompt["asked"])).total_seconds()
            delay = min(delay, OF_DUE.get(kind, 0.8) * left)
        return round(max(1.0, delay) * self.habits.slowness(self.seed, prompt) * self.haste, 1)

    def _on_hand(self, prompt: Prompt, what: str) -> tuple[float, float]:
        """Return the cells and the volume (mL) of what was counted last, feeders or `til`."""
        known = self._counted.get((str(prompt.get("batch")), what))
        return known or (self._feeders(USUAL_FEEDERS, USUAL_SUSPENSION) if what == "feeders" else (0.0, 0.0))

    def _feeders(self, wanted: float, most_ml: float) -> tuple[float, float]:
        key = stream(self.seed, "feeders")
        mean, sigma, least, most = FEEDERS
        cells = wanted * between(key, 0, mean, sigma, least, most)
        return float(f"{cells:.3e}"), float(round(most_ml * uniform(key, 1, *SUSPENSION)))

    def _draw(self, prompt: Prompt, what: str, low: float, high: float) -> float:
        return uniform(stream(self.seed, f"{prompt.get('path')} {what}"), int(prompt.get("attempt") or 1), low, high)

    def _do(self, prompt: Prompt, name: str, args: dict[str, Any], delay: float) -> None:
        """Announce an action for shortly before the answer takes effect; a repeated prompt does it once."""
        if prompt.get("asked"):
            before = min(SETTLE_BEFORE, 0.5 * delay)
            moment = moment_of(prompt["asked"]) + timedelta(seconds=delay - before)
            args = args | {"at": moment.isoformat().replace("+00:00", "Z")}
        what = args.get("name") or args.get("port") or ""
        self._bench(name, args | {"key": key_of(prompt, f"{name} {what}")})


def _choice(prompt: Prompt, choices: list[str]) -> str:
    """Return the good news where there is some; a culture that was only just started is pending."""
    if prompt["kind"] == "sample" and "pending" in choices:
        return "pending"
    return next((c for c in GOOD if c in choices), choices[0] if choices else "")
