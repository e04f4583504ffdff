"""The recipe that supervises an activity matrix: people and the device do its steps, and nothing in it commands one."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from devices.quantity import parse_as
from recipes.matrix import KNOWN_SOURCES, MOVING, Activity, Matrix
from recipes.written import written

HARVEST_HOLD = "12 h"  # (engineering default, as are the delays of the guards)
_UNTIL = {"ended_early": "harvest_due"}
_HEAD = """\
# Made from an activity matrix by `tilctl recipe from-matrix`: change the matrix and make it anew. A closed device does
# the steps by its own program; this recipe watches it and keeps the record, and commands nothing. Not a clinical
# protocol, not validated, and nothing here is clinical advice.
"""
_WORDS = {
    "load": "the device loads {} of cells",
    "activate": "the device adds {} of activation reagent",
    "feed": "the device feeds {}",
    "exchange": "the device exchanges {} of medium",
    "wash": "the device washes with {}",
    "harvest": "the device harvests into {}",
    "sample": "draw a sample",
    "culture": "the device leaves the culture alone",
    "agitate": "the device changes the agitation",
}
_TOOK = {
    "exchange": ("volume drawn", "volume added"),
    "harvest": ("volume of the product", ""),
    "wash": ("buffer used", ""),
}


def recipe_text(matrix: Matrix, text: str) -> str:
    """Return the recipe of a matrix as YAML; `text` is that of the file, of which the hash stands in the recipe."""
    named = {tag.strip() for step in matrix.steps for tag in step.source.split(",")} | {"P", "GKU"}
    sources = {tag: matrix.sources.get(tag) or KNOWN_SOURCES[tag] for tag in sorted(named)}
    header = matrix.header
    data: dict[str, Any] = {
        "recipe": header.get("recipe", "from-matrix"),
        "version": header.get("version", "0.1.0"),
        "title": header.get("title", "A closed device, supervised"),
        "status": header.get("status", "draft"),
        "description": f"Supervision of a closed device by an activity matrix of {len(matrix.steps)} steps. Nothing in "
        "it commands the device: its status is read, what it and people do is asked for and kept on the record.",
        "sources": sources,
        "equipment": {"automaton": {"role": "automaton", "needs": ["program_state", "temperature"], "source": "P"}},
        "clocks": {"culture": _clock(matrix)},
        "guards": _guards(),
        "procedure": [
            _prepare(text),
            {"operation": "matrix", "title": "The steps of the matrix", "steps": _steps(matrix)},
        ],
    }
    return _HEAD + written(data)


def _clock(matrix: Matrix) -> dict[str, Any]:
    last = matrix.steps[-1]
    most = last.minutes + (2 * parse_as(last.window, "s") + parse_as(HARVEST_HOLD, "s")) / 60
    return {"from": "day0", "to": "harvested", "max": _span(round(most)), "source": f"{last.source}, P"}


def _guards() -> list[dict[str, Any]]:
    """Return what is watched of the device; none acts on it, for nothing here could."""
    said: dict[str, tuple[str, str, str, str, str, str, str]] = {
        "stopped": (
            "automaton.program_state == paused or automaton.program_state == idle or automaton.program_state == fault",
            "5 min", "high", "a person paused it, it lost its power, or it has a fault",
            "medium is not exchanged and cells are not agitated", "look at the device, go on there", "1 h",
        ),
        "ended_early": (
            "automaton.program_state == ended", "5 min", "high", "the program in the device is shorter than its matrix",
            "nobody feeds the cells any more", "look at the device; quality decides", "1 h",
        ),
        "attention": (
            "automaton.alarm == true", "60 s", "high", "the device itself has an alarm",
            "what the device tells", "look at the display of the device and do as its manual says", "30 min",
        ),
        "warm": (
            "automaton.temperature > 38.0 degC", "60 s", "high", "a fault of the heater, a warm room",
            "heat harms cells within minutes to hours", "look at the device; do as its maker's manual says", "30 min",
        ),
        "cold": (
            "automaton.temperature < 36.0 degC", "10 min", "medium", "an open door, a fault of the heater, a power cut",
            "cells grow more slowly; that is reversible", "find the cause", "hours",
        ),
        "silent": (
            "not known(automaton.program_state)", "10 min", "medium", "the gateway or the network is down",
            "nobody sees what the device does, and it goes on by itself", "look at the device; mend the gateway", "4 h",
        ),
    }  # fmt: skip
    keys = ("when", "for", "priority", "cause", "consequence", "action", "allowed")
    return [
        {
            "id": name,
            **dict(zip(keys, values, strict=True)),
            "while": f"mark day0 to {_UNTIL.get(name, 'harvested')}",
            "source": "P",
        }
        for name, values in said.items()
    ]


def _prepare(text: str) -> dict[str, Any]:
    digest = sha256(text.encode()).hexdigest()[:16]
    ready = {
        "id": "ready",
        "text": "Scan lot, tubing set and order; compare the activity matrix in the device with that of this recipe "
        f"(SHA-256 {digest}), step by step",
        "scan": ["lot", "set", "order"],
        "inputs": {"same": {"label": "the matrix in the device is that of this recipe", "choices": ["yes", "no"]}},
        "sign": ["operator", "verifier"],
    }
    no = {"as": "stopped", "reason": "the matrix in the device is another one: correct it, and start anew"}
    fit: dict[str, Any] = {"id": "fit", "cases": [{"when": "ready.same == yes", "steps": []}, {"else": [{"end": no}]}]}
    running = "automaton.program_state == running"
    wait = {"id": "begun", "until": running, "timeout": "1 h", "on_timeout": "hold", "source": "P"}
    steps: list[dict[str, Any]] = [
        {"ask": ready},
        {"choose": fit},
        {"ask": {"id": "start", "text": "Start the program at the device, by its own display", "sign": ["operator"]}},
        {"wait": wait},
        {"mark": {"id": "day0"}},
    ]
    return {"operation": "prepare", "title": "The device, its set and its matrix", "steps": steps}


def _steps(matrix: Matrix) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    at = 0
    for number, step in enumerate(matrix.steps, start=1):
        if step.minutes > at:
            at = step.minutes
            end = round(at + parse_as(step.window, "s") / 60)
            window = f"{_span(at)}..{_span(end)}"
            wait = {"id": f"until{number:02d}", "until": f"day >= {_span(at)}", "window": window, "source": step.source}
            found.append({"incubate": wait})
        if step.name != "start":
            found.append(_asked(number, step))
    found.insert(-1, {"mark": {"id": "harvest_due"}})
    return [*found, {"mark": {"id": "harvested"}}, {"end": {"as": "complete", "reason": "harvested; handed over"}}]


def _asked(number: int, step: Activity) -> dict[str, Any]:
    """Return a step as a question of what came of it; as a note, where nothing has to be entered."""
    place = f"s{number:02d}_{step.name}"
    shaken = f"agitation {step.agitation}" if step.agitation else ""
    told = "; ".join(filter(None, [_WORDS[step.name].format(step.volume), shaken, step.comment]))
    text = f"Step {number}: {told}".replace("{", "(").replace("}", ")")
    if step.name in ("culture", "agitate"):
        return {"note": {"id": place, "text": text, "source": step.source}}
    asked = {"id": place, "text": text, "inputs": _inputs(step), "due": step.window}
    if step.name == "harvest":  # nothing is complete without it
        asked |= {"on_overdue": "hold", "max_hold": HARVEST_HOLD, "sign": ["operator", "verifier"]}
    else:
        asked["on_overdue"] = "continue"
    return {"ask": {**asked, "source": ", ".join(dict.fromkeys([*step.source.split(", "), "P"]))}}


def _inputs(step: Activity) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if step.name in MOVING:
        most = f"0..{2 * parse_as(step.volume, 'mL'):g} mL"
        first, second = _TOOK.get(step.name, ("volume added", ""))
        for name, label in (("volume", first), ("added", second)):
            if label:
                found[name] = {"label": f"{label}, as the log of the device says", "unit": "mL", "range": most}
    if step.name in ("sample", "harvest"):
        found["tvc"] = {"label": "total viable cells", "unit": "cells", "range": "0..2e11 cells"}
        found["viability"] = {"label": "viability", "unit": "%", "range": "0..100 %"}
    if step.name == "sample":
        found["glucose"] = {"label": "glucose", "unit": "mmol/L", "range": "0..50 mmol/L", "optional": "true"}
    return found


def _span(minutes: int) -> str:
    """Return a time as short as it can be written exactly."""
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes and minutes % size == 0:
            return f"{minutes // size} {unit}"
    return f"{minutes} min"
