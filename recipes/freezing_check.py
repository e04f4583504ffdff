"""Checking a freezing profile before a freezer sees it: schema, units, sources, and rows that can end."""

from __future__ import annotations

from typing import Any

from devices.diagnostic import Diagnostic, DocumentError, Severity
from devices.document import DataPath, Document, validate
from devices.quantity import QuantityError, parse_as
from recipes.fields import Frozen
from recipes.freezing_model import Acceptance, FreezeProfile, Row
from recipes.ranges import parse_range

COLDEST, WARMEST = -180.0, 50.0
"""degC: what a controlled-rate freezer can be told (engineering)."""
FASTEST = 50.0
"""K/min: steepest ramp (engineering)."""
LONGEST_ROW = 65535.0
"""s: the device counts a row's time in 16 bits."""

_UNITS = {
    "hold": "s", "share": "%", "rise": "K", "lost_at": "degC", "until": "degC", "longest": "s", "sample": "degC",
    "chamber": "degC", "within": "K",
}  # fmt: skip
_SPANS = {"band": "degC", "between": "degC", "rate": "K/min"}


def check_profile(document: Document) -> tuple[FreezeProfile | None, list[Diagnostic]]:
    """Return the profile (None where the schema refuses it) and every finding."""
    try:
        profile = validate(document, FreezeProfile, "schema")
    except DocumentError as error:
        return None, list(error.diagnostics)
    found: list[Diagnostic] = []

    def report(code: str, path: DataPath, message: str, hint: str = "") -> None:
        found.append(document.diagnostic(Severity.ERROR, code, path, message, hint=hint))

    seen: set[str] = set()
    for index, row in enumerate(profile.rows):
        path: DataPath = ("rows", index)
        if row.id in seen:
            report("id-duplicate", (*path, "id"), f"a second row '{row.id}'")
        seen.add(row.id)
        for field, message, hint in _row_faults(row):
            report("row", (*path, field), f"row {row.id}: {message}", hint)
        _sources(row.source, (*path, "source"), profile, report)
    for field, unit in (("lasts", "s"),):
        _quantity(getattr(profile, field), unit, (field,), report)
    _criteria(profile.acceptance, profile, report)
    return profile, found


def _row_faults(row: Row) -> list[tuple[str, str, str]]:
    """Return what is wrong with a row: the field, the message, the hint."""
    try:
        told = row.encoded()
    except QuantityError as error:
        field = next((name for name in ("rate", "target", "timeout") if _is(error, getattr(row, name))), "target")
        return [(field, error.message, error.hint)]
    found: list[tuple[str, str, str]] = []
    if not COLDEST <= told["target"] <= WARMEST:
        found.append(("target", f"{row.target} is outside {COLDEST:g}..{WARMEST:g} degC", ""))
    if row.kind == "ramp" and not 0 < abs(told["rate"]) <= FASTEST:
        found.append(("rate", f"a ramp needs a rate of up to {FASTEST:g} K/min either way", "rate: -1 K/min"))
    if row.kind == "hold" and told["rate"]:
        found.append(("rate", "a hold has no rate", "leave it out, or make it a ramp"))
    if not 0 < told["timeout"] <= LONGEST_ROW:
        found.append(("timeout", f"every row ends in time: 1 s to {LONGEST_ROW:g} s", ""))
    return found


def _is(error: QuantityError, text: str) -> bool:
    return repr(text) in error.what


def _criteria(acceptance: Acceptance, profile: FreezeProfile, report: Any) -> None:
    for name in Acceptance.model_fields:
        criterion: Frozen | None = getattr(acceptance, name)
        if criterion is None:
            continue
        for field in type(criterion).model_fields:
            text: str | None = getattr(criterion, field)
            path: DataPath = ("acceptance", name, field)
            if text is None:
                continue
            if field == "source":
                _sources(text, path, profile, report)
            elif field in _SPANS:
                try:
                    if (unit := parse_range(text).unit) != _SPANS[field]:
                        report("dimension", path, f"'{text}' is in {unit or 'nothing'}, wanted {_SPANS[field]}")
                except QuantityError as error:
                    report("quantity", path, error.message, error.hint)
            else:
                _quantity(text, _UNITS[field], path, report)


def _quantity(text: str, unit: str, path: DataPath, report: Any) -> None:
    try:
        parse_as(text, unit)
    except QuantityError as error:
        report("quantity", path, error.message, error.hint)


def _sources(text: str, path: DataPath, profile: FreezeProfile, report: Any) -> None:
    for tag in (part.strip() for part in text.split(",")):
        if tag not in profile.sources:
            report("source-unknown", path, f"no source '{tag}'", f"declared: {', '.join(profile.sources)}")
