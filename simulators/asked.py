"""What a prompt says, as the simulated operator reads it, and what several samples come to together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

Prompt = Mapping[str, Any]
CHEMISTRY, MM = ("glucose", "lactate"), "mmol/L"


def step_of(prompt: Prompt) -> str:
    """Return the last element of the path."""
    return str(prompt.get("path", "")).rpartition("/")[2]


def family_of(name: str) -> str:
    """Return the name of a container without its index."""
    return name.partition("[")[0]


def holds_of(container: Mapping[str, Any]) -> str:
    """Return what a container is to hold, in lower case."""
    return str(container.get("holds") or "").lower()


def inputs_of(prompt: Prompt) -> dict[str, Mapping[str, Any]]:
    """Return what is to be filled in, by name."""
    return dict(prompt.get("inputs") or {})


def containers_of(prompt: Prompt) -> list[Mapping[str, Any]]:
    """Return the containers that it is about."""
    return list(prompt.get("containers") or [])


def sources_of(prompt: Prompt) -> list[Mapping[str, Any]]:
    """Return the containers that are to be sampled, one or several."""
    given: Any = prompt.get("from") or []
    return [cast("Mapping[str, Any]", given)] if isinstance(given, Mapping) else list(given)


def key_of(prompt: Prompt, what: object) -> str:
    """Return a key by which the bench does a thing once, however often the prompt comes."""
    return f"{prompt.get('batch')} {prompt.get('id')} {what}"


def moment_of(text: object) -> datetime:
    """Return an RFC 3339 moment; raises ValueError."""
    return datetime.fromisoformat(str(text))


def chemistry_of(prompt: Prompt) -> list[str]:
    """Return the inputs that ask for glucose or lactate in the unit in which the laboratory reports them."""
    asked = inputs_of(prompt)
    return [name for name in CHEMISTRY if asked.get(name, {}).get("canonical", asked.get(name, {}).get("unit")) == MM]


def together(seen: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what samples come to together: cells added up, viability by cells, concentrations by volume."""
    cells = sum(float(s["tvc"]) for s in seen)
    volume = sum(float(s["volume_ml"]) for s in seen)
    known = {
        "tvc": cells,
        "viability": sum(float(s["tvc"]) * float(s["viability"]) for s in seen) / cells if cells > 0.0 else 0.0,
    }
    for name in CHEMISTRY if volume > 0.0 else ():
        known[name] = sum(float(s[name]) * float(s["volume_ml"]) for s in seen) / volume
    return known
