"""The names of units that may be written, and what people write instead.

The vocabulary is closed on purpose: `C`, `M`, `U` or `ML` mean something else to a units library than to the person
who types them, so they are refused with a hint.
"""

from __future__ import annotations

import re

# The longest text of a quantity, and of a unit, that is looked at.
LONGEST = 80

BASES = ("mL", "g", "s", "degC", "K", "cells", "IU", "mmol", "mbar", "rpm", "%", "W", "pH")

DERIVED = (
    "L = 1000 * mL",
    "uL = 0.001 * mL",
    "kg = 1000 * g",
    "mg = 0.001 * g",
    "ug = 0.001 * mg",
    "ng = 0.001 * ug",
    "ms = 0.001 * s",
    "min = 60 * s",
    "h = 60 * min",
    "d = 24 * h",
    "mol = 1000 * mmol",
    "umol = 0.001 * mmol",
    "bar = 1000 * mbar",
    "kPa = 10 * mbar",
    "kW = 1000 * W",
)
NAMES = frozenset(BASES) | {line.split(" = ", 1)[0] for line in DERIVED}

# What people type instead, and what they mean.
_MEANT = {
    **dict.fromkeys(("C", "°C", "℃", "°", "celsius", "Celsius", "deg", "degc", "DegC"), "degC"),
    **dict.fromkeys(("°K", "kelvin", "Kelvin", "delta_degC"), "K"),
    **dict.fromkeys(("l", "lt", "litre", "litres", "liter", "liters"), "L"),
    **dict.fromkeys(("ml", "cc", "cm3", "millilitre", "millilitres"), "mL"),
    **dict.fromkeys(("ul", "µL", "μL", "µl", "μl"), "uL"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("mins", "minute", "minutes", "m"), "min"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("cell", "Cells", "c"), "cells"),
    **dict.fromkeys(("percent", "pct", "per cent"), "%"),
    **dict.fromkeys(("iu", "IE", "ie", "U"), "IU"),
    **dict.fromkeys(("RPM", "U/min"), "rpm"),
    **dict.fromkeys(("gram", "grams", "gr"), "g"),
    "M": "mol/L",
    "mM": "mmol/L",
    "µg": "ug",
    "μg": "ug",
    "µM": "umol/L",
    "ph": "pH",
}


def suggest(unit: str) -> str:
    """Return what a mistyped unit most likely means, or ""."""
    if unit in _MEANT:
        return _MEANT[unit]
    folded = {name.casefold(): name for name in NAMES}
    parts = re.split(r"\s*([*/])\s*", unit)
    for index in range(0, len(parts), 2):
        part = parts[index]
        if part not in NAMES and not (index == 0 and part == "1"):
            parts[index] = _MEANT.get(part, folded.get(part.casefold(), ""))
    return "".join(parts) if all(parts) and "".join(parts) != unit else ""


def quoted(text: str) -> str:
    """Return what was written, in quotes and short enough for a message."""
    short = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    return repr(short)
