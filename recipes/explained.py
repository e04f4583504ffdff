"""What each code of a finding means, with an example: the sections of `DIAGNOSTICS.md`, which comes along."""

from __future__ import annotations

import re
from importlib.resources import files

_SECTION = re.compile(r"^## `([a-z-]+)`")


def page() -> str:
    """Return the whole page."""
    return (files("recipes") / "DIAGNOSTICS.md").read_text("utf-8")


def sections() -> dict[str, str]:
    """Return the section of each code, as Markdown, in the order of the page."""
    found: dict[str, str] = {}
    for part in re.split(r"(?m)^(?=## )", page()):
        if (match := _SECTION.match(part)) is not None:
            found[match[1]] = part.strip() + "\n"
    return found
