"""The `sim` section of a profile: what points read in the simulator before anybody writes; checked and typed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from devices import profile_model as model
from devices.codec import CodecError
from devices.frames import point_words
from devices.profile_bounds import scale_fits
from devices.profile_types import TEXT, Point, Sim
from devices.role import BOOL, SYMBOL

PLAIN = "registers"
_PHYSICS: Mapping[str, tuple[str, ...]] = {"bioreactor": ("incubator", "rocker"), "scale": ("scales",)}
"""Role -> its models, where they are not called as it is."""
_MOST_LATENCY_MS = 60_000.0
_Find = Callable[[tuple[str | int, ...], str, str], None]


def sim_value(point: Point, text: str) -> float | bool | str:
    """Return a text of `sim.values` as a value of the point, in its unit; raises ValueError with what was expected."""
    if point.bits:
        return _bits(point, text)
    if point.unit == BOOL:
        if text not in ("true", "false"):
            raise ValueError("expected true or false")
        return text == "true"
    if point.unit == SYMBOL and text not in point.symbols.values():
        raise ValueError(f"expected one of {', '.join(point.symbols.values())}")
    if point.unit in (SYMBOL, TEXT):
        return text
    expected = f"expected a number{f' of {point.unit}' if point.unit else ''}"
    low, high = point.range or (-math.inf, math.inf)
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{expected}, without its unit") from None
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{expected} from {low:g} to {high:g}" if point.range else f"{expected} that is finite")
    return value


def _bits(point: Point, text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text[:20])
    names = text.replace(",", " ").split()
    if not {*names} <= {*point.bits.values()}:
        raise ValueError(f"expected a whole number, or names of {', '.join(point.bits.values())}")
    return sum(1 << index for index, name in point.bits.items() if name in names)


def check_values(values: Mapping[str, str], points: Mapping[str, Point], find: _Find) -> None:
    """Report what the simulator could not serve: an unknown point, a text that is no value of it."""
    for name, text in values.items():
        path, point = ("sim", "values", name), points.get(name)
        if point is None:
            find(path, f"there is no point {name}", "name one of `points`; bits are given with their point")
            continue
        try:
            value = sim_value(point, text)
            if point.words and scale_fits(point.scale):
                point_words(point, value)
        except CodecError as error:
            find(path, f"{name} cannot read {text!r}: {error}", "write a value that its registers can hold")
        except (ValueError, OverflowError) as error:
            find(path, f"{name} cannot read {text!r}: {error}", "write what it shall read before anybody writes")


def sim_of(source: model.ProfileModel, points: Mapping[str, Point], find: _Find) -> Sim | None:
    """Return how the simulator plays it, None where the file does not say; what is wrong with it goes to `find`."""
    sim, role = source.sim, source.profile.role
    if sim is None:
        return None
    known = (PLAIN, *_PHYSICS.get(role, (role,)))
    if sim.model not in known:
        find(("sim", "model"), f"a {role} is not simulated by {sim.model}", f"one of {', '.join(known)}")
    check_values(sim.values, points, find)
    low, high = sim.latency_ms or (0.0, 0.0)
    if not 0 <= low <= high <= _MOST_LATENCY_MS:
        text = f"[{low:g}, {high:g}] ms is no latency; expected [least, most], from 0 to {_MOST_LATENCY_MS:g}"
        find(("sim", "latency_ms"), text, "write the shorter time first")
    return Sim(sim.model, sim.values, (low / 1000, high / 1000), sim.unlisted)
