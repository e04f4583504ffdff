"""How the scalars of a profile file are typed: every one of them is text to YAML."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from devices.quantity import QuantityError, parse_as


def integer(value: Any) -> Any:
    """Read an integer as people write addresses: 20737 or 0x5101."""
    if isinstance(value, str):
        try:
            return int(value, 0)
        except ValueError:
            raise ValueError(f"{value!r} is not a whole number (write 20737 or 0x5101)") from None
    return value


def number(value: Any) -> Any:
    """Read a finite number; one of a register may be written 0x8000."""
    if isinstance(value, str):
        try:
            number = float(int(value, 16)) if value.startswith("0x") else float(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a number") from None
        if not math.isfinite(number):
            raise ValueError(f"{value!r} is not a finite number")
        return number
    return value


def _seconds(value: Any) -> Any:
    """Read an amount of time with its unit, as seconds."""
    if isinstance(value, str):
        try:
            return parse_as(value, "s")
        except QuantityError as error:
            raise ValueError(str(error)) from None
    return value


def _flag(value: Any) -> Any:
    """Read true or false, and nothing that only looks like it."""
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise ValueError(f"{value!r} is neither true nor false")
        return value == "true"
    return value


Integer = Annotated[int, BeforeValidator(integer)]
Number = Annotated[float, BeforeValidator(number)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Address = Annotated[int, BeforeValidator(integer), Field(ge=0, le=0xFFFF)]
BitIndex = Annotated[int, BeforeValidator(integer), Field(ge=0, le=31)]
Milliseconds = Annotated[int, BeforeValidator(integer), Field(ge=1, le=3_600_000)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=3600)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
UnitId = Annotated[int, BeforeValidator(integer), Field(ge=1, le=247)]
Pause = Annotated[int, BeforeValidator(integer), Field(ge=0, le=10_000)]
Evidence = Literal["simulated", "driver", "manual", "manual+driver", "bench"]
"""How far a profile may be trusted: made for the simulator; after a public driver that runs on the hardware; after the
maker's manual; both; seen to hold on a unit on the bench."""
ReadCode = Annotated[Literal[1, 2, 3, 4], BeforeValidator(integer)]
WriteCode = Annotated[Literal[5, 6, 15, 16], BeforeValidator(integer)]


class Strict(BaseModel):
    """A part of a file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
