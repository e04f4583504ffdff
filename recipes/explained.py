"""What each code of a finding means, with an example: the sections of `DIAGNOSTICS.md`, which comes along."""

from __future__ import annotations

import re
from importlib.resources import files

_SECTION = re.compile(r"^## `([a-z-]+)`")
_CODE = re.compile(r"`((?:[a-z]+-[a-z-]+|row|limit))`")


def page() -> str:
    """Return the whole page."""
    return (files("recipes") / "DIAGNOSTICS.md").read_text("utf-8")


def sections() -> dict[str, str]:
    """Return the section of each code, as Markdown; of those without an example the paragraph that tells of them."""
    found: dict[str, str] = {}
    head, *parts = re.split(r"(?m)^(?=## )", page())
    for paragraph in head.split("\n\n"):
        found |= dict.fromkeys(_CODE.findall(paragraph), paragraph.strip() + "\n")
    for part in parts:
        if (match := _SECTION.match(part)) is not None:
            found[match[1]] = part.strip() + "\n"
    return found
