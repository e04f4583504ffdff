"""The scalars of a profile file: how its texts become numbers, addresses, times and names."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from devices.quantity import QuantityError, parse_as

_MOST_SHOWN = 40  # characters of a wrong value


def _short(value: str) -> str:
    """Return a text for a message: one that goes on for pages hides what is wrong with it."""
    return repr(value) if len(value) <= _MOST_SHOWN else f"{value[:_MOST_SHOWN]!r}..."


def integer(value: Any) -> Any:
    """Read an integer as people write addresses: 20737 or 0x5101."""
    if isinstance(value, str):
        try:
            number = int(value, 0)
        except ValueError:
            raise ValueError(f"{_short(value)} is not a whole number (write 20737 or 0x5101)") from None
        if abs(number) >= 2**64:
            raise ValueError(f"{_short(value)} is more than the 64 bits that registers hold")
        return number
    return value


def number(value: Any) -> Any:
    """Read a finite number; one of a register may be written 0x8000."""
    if isinstance(value, str):
        try:
            number = float(int(value, 16)) if value.startswith("0x") else float(value)
        except ValueError:
            raise ValueError(f"{_short(value)} is not a number") from None
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueError(f"{_short(value)} is not a finite number")
        return number
    return value


def seconds(value: Any) -> Any:
    """Read an amount of time with its unit, as seconds."""
    if isinstance(value, str):
        try:
            return parse_as(value, "s")
        except QuantityError as error:
            raise ValueError(str(error)) from None
    return value


def flag(value: Any) -> Any:
    """Read true or false, and nothing that only looks like it."""
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise ValueError(f"{value!r} is neither true nor false")
        return value == "true"
    return value


Integer = Annotated[int, BeforeValidator(integer)]
Number = Annotated[float, BeforeValidator(number)]
Flag = Annotated[bool, BeforeValidator(flag)]
Address = Annotated[int, BeforeValidator(integer), Field(ge=0, le=0xFFFF)]
BitIndex = Annotated[int, BeforeValidator(integer), Field(ge=0, le=31)]
Milliseconds = Annotated[int, BeforeValidator(integer), Field(ge=1, le=3_600_000)]
Seconds = Annotated[float, BeforeValidator(seconds), Field(gt=0, le=3600)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
UnitId = Annotated[int, BeforeValidator(integer), Field(ge=1, le=247)]
Pause = Annotated[int, BeforeValidator(integer), Field(ge=0, le=10_000)]
Evidence = Literal["simulated", "driver", "manual", "manual+driver", "bench"]
"""How far a profile may be trusted: made for the simulator; after a public driver that runs on the hardware; after the
maker's manual; both; seen to hold on a unit on the bench."""
ReadCode = Annotated[Literal[1, 2, 3, 4], BeforeValidator(integer)]
WriteCode = Annotated[Literal[5, 6, 15, 16], BeforeValidator(integer)]
