"""The vocabulary of faults: which word may stand where, what it takes, how long it may last, what it does.

Ranges and defaults are engineering defaults.  `where` has kinds: the roles of instruments, a part of equipment (an
instrument of any other role), a bus, all `devices`, and what the harness of a rehearsal has in hand (controller,
broker, clock, disk, operator).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

ROLES = ("bioreactor", "pump", "valves", "scale", "freezer")
PART = "part"  # of equipment: an instrument that plays none of these roles by itself
INSTRUMENTS = (*ROLES, PART)
HARNESS = ("controller", "broker", "clock", "disk", "operator")
DEVICES = "devices"  # all instruments at once
BUS = "bus"
KINDS = (*INSTRUMENTS, BUS, DEVICES, *HARNESS)

POINT = "point"  # an argument that names a point of the instrument
OF_POINT = "unit of the point"  # an amount in the unit of the point that is named beside it
CHOICE = "choice"
SETPOINTS: Mapping[str, str] = {"temperature": "degC", "co2": "%"}  # what a hand at the panel may set, in its unit
SETTINGS = ("unit", "mode")  # and what it may switch
UNSEEN = ("idle_close", "second_client_refused", "watchdog_trip")
"""What leaves an instrument hearing, doing and showing all that it should: it excuses nothing."""

Lasts = Literal["moment", "while", "either"]
"""`moment`: no `for`; `while`: needs `for`; `either`: without `for` it stays for good."""


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument: an amount in `unit` (canonical), a point's name, or one of `choices`.

    Without a default it is needed; with the default "" there may be none, as the word says.
    """

    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    default: float | str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """What a word means at some kinds of `where`."""

    name: str
    kinds: tuple[str, ...]
    lasts: Lasts
    text: str
    args: Mapping[str, Arg] = field(default_factory=dict[str, Arg])


_WIRE = (*INSTRUMENTS, BUS)
_POINT = Arg(POINT)
_DELAY = Arg("s", 0.01, 600.0)

WORDS: tuple[Word, ...] = (
    # on the wire
    Word("silent", _WIRE, "either", "requests are swallowed: nothing is carried out, nothing answered"),
    Word("late", _WIRE, "either", "requests are carried out at once and answered after `delay`", {"delay": _DELAY}),
    Word(
        "busy",
        _WIRE,
        "either",
        "requests are refused with exception `code`, nothing is carried out; with `n` only the next so many of each"
        " instrument, 0 is all",
        {"code": Arg("", 1, 255, 6), "n": Arg("", 0, 1000, 0)},
    ),
    Word("gateway", _WIRE, "either", "the gateway answers that the instrument does not (exception 0x0B)"),
    Word("wrong_function", _WIRE, "either", "reads are answered with the function code of the other table"),
    Word("wrong_unit", _WIRE, "either", "replies carry another unit id"),
    Word("wrong_transaction", _WIRE, "either", "replies carry another transaction id"),
    Word("short_reply", _WIRE, "either", "reads are answered with one register too few, in a sound frame"),
    Word("truncated", _WIRE, "either", "frames end in the middle"),
    Word("bad_crc", _WIRE, "either", "replies carry a wrong checksum; a gateway to Modbus TCP drops such a reply"),
    Word(
        "garbage_before",
        _WIRE,
        "either",
        "the line makes so many `bytes` by itself before each reply",
        {"bytes": Arg("", 1, 64, 3)},
    ),
    Word("stale", _WIRE, "either", "reads are answered from the register image of the moment it began"),
    Word("swapped_words", _WIRE, "either", "reads are answered with the two words of each pair exchanged"),
    Word("cut", (BUS,), "moment", "every connection of the bus is cut"),
    Word("half_open", (BUS,), "either", "connections stay, and nothing comes over them any more"),
    Word("refuse_connect", (BUS,), "either", "connections are cut, and new ones refused"),
    Word(
        "idle_close",
        (BUS,),
        "either",
        "a connection on which nothing is asked for `idle` is closed",
        {"idle": Arg("s", 1.0, 3600.0, 60.0)},
    ),
    Word(
        "second_client_refused",
        (BUS,),
        "either",
        "no more than `clients` connections are served, a further one is closed as soon as it is there",
        {"clients": Arg("", 1, 16, 1)},
    ),
    # power
    Word(
        "reboot", INSTRUMENTS, "moment", "the instrument starts anew: what its profile says about a power loss, at once"
    ),
    Word(
        "power_cut",
        (*INSTRUMENTS, BUS, DEVICES),
        "while",
        "without power: silent, and at rest; then it starts anew as its profile says; physics goes on",
    ),
    # what instruments do wrong
    Word(
        "not_applied",
        ("bioreactor", "pump", "valves", "freezer", PART),
        "either",
        "writes are acknowledged and ignored",
    ),
    Word("stuck", INSTRUMENTS, "either", "`point` goes on reading what it read when it began", {"point": _POINT}),
    Word(
        "noise",
        INSTRUMENTS,
        "either",
        "`point` reads with noise of `sigma`, new each second",
        {"point": _POINT, "sigma": Arg(OF_POINT, 0.0, 1e6)},
    ),
    Word(
        "offset",
        INSTRUMENTS,
        "either",
        "`point` reads wrong `by` so much",
        {"point": _POINT, "by": Arg(OF_POINT, -1e6, 1e6)},
    ),
    Word(
        "drift",
        INSTRUMENTS,
        "either",
        "`point` reads more and more wrong: `by` so much within `over`, and on at that pace",
        {"point": _POINT, "by": Arg(OF_POINT, -1e6, 1e6), "over": Arg("s", 60.0, 60 * 86400.0, 86400.0)},
    ),
    Word("nan", INSTRUMENTS, "either", "`point` reads as no value", {"point": _POINT}),
    Word(
        "sensor_break",
        INSTRUMENTS,
        "either",
        "the sensor of `point` is broken: the instrument says so as its profile has it (a status, or no value), and the"
        " value means nothing",
        {"point": _POINT},
    ),
    Word(
        "eeprom_worn",
        INSTRUMENTS,
        "either",
        "memory that wears, by its profile, takes `left` writes more; what is written then is acknowledged and the old"
        " value stays",
        {"left": Arg("", 0, 1e6, 0)},
    ),
    Word(
        "watchdog_trip",
        INSTRUMENTS,
        "moment",
        "the instrument's own watchdog acts though it was fed: a pump stops, an I/O module opens its outputs",
    ),
    Word(
        "replaced", INSTRUMENTS, "moment", "another instrument of the model stands there: other serial number, as new"
    ),
    Word(
        "rollover",
        ("pump",),
        "moment",
        "the totaliser stands `before` its roll-over; a dispense under way is let end first",
        {"before": Arg("mL", 0.0, 10_000.0, 50.0)},
    ),
    Word("counter_reset", ("pump",), "moment", "the totaliser starts again from 0"),
    Word("slip", ("pump",), "either", "the pump moves less than it counts by `share`", {"share": Arg("%", 0.0, 100.0)}),
    Word(
        "slow_drip",
        ("pump",),
        "either",
        "liquid runs through the standing pump while both clamps are open, at `rate`",
        {"rate": Arg("mL/min", 0.01, 50.0, 1.0)},
    ),
    Word("occlusion", ("pump",), "either", "the pump counts and nothing moves; its status bit comes after 20 s"),
    Word(
        "bag_empty",
        ("pump",),
        "either",
        "what it draws from runs dry early: `left` of it do not come out, by default all of it",
        {"left": Arg("mL", 0.0, 10_000.0, 10_000.0)},
    ),
    Word(
        "bag_empty",
        ("scale",),
        "either",
        "what is hung next (on `port`, 0: any) holds less than told by `share`; without `for`: the next one only",
        {"share": Arg("%", 1.0, 100.0, 20.0), "port": Arg("", 0, 16, 0)},
    ),
    Word(
        "leak",
        ("scale",),
        "either",
        "what is on `port` loses liquid to the floor at `rate`",
        {"port": Arg("", 1, 16), "rate": Arg("mL/min", 0.001, 500.0, 2.0)},
    ),
    Word("clamp_stuck", ("valves",), "either", "commands are acknowledged, and the clamps stay where they are"),
    Word("heater_fault", ("bioreactor",), "either", "the heater is off and its status bit set; the chamber cools"),
    Word(
        "heater_runaway",
        ("bioreactor",),
        "either",
        "the heater is on whatever its target says and makes for `to`, until it is cut off",
        {"to": Arg("degC", 40.0, 79.0, 60.0)},
    ),
    Word(
        "motor_fault",
        ("bioreactor",),
        "either",
        "the tray of a rocker stands whatever its target says, and its status bit is set",
    ),
    Word(
        "local_change",
        INSTRUMENTS,
        "either",
        "a hand at the panel sets temperature or co2 (`target`) to `value`, in a moment; or it switches the `unit` or"
        " `mode` that the profile asserts to another one, until it is put back",
        {"target": Arg(CHOICE, choices=(*SETPOINTS, *SETTINGS)), "value": Arg("degC|%", 0.0, 60.0, "")},
    ),
    Word("profile_abort", ("freezer",), "moment", "the freezer ends the run under way, as after a fault of its own"),
    # what the harness has in hand
    Word(
        "power_cut",
        ("controller",),
        "while",
        "the controller dies at once and is started again after `for`; with both: 1 the devices lose power too",
        {"both": Arg("", 0, 1, 0)},
    ),
    Word("stop", ("broker",), "while", "the broker is gone"),
    Word("duplicate", ("broker",), "while", "messages come twice"),
    Word("late", ("broker",), "while", "messages come after `delay`", {"delay": _DELAY}),
    Word("step", ("clock",), "moment", "the wall clock steps `by` so much", {"by": Arg("s", -86400.0, 86400.0)}),
    Word("unsynchronised", ("clock",), "either", "the wall clock is not synchronised at the next boot"),
    Word("full", ("disk",), "while", "nothing can be written: no space"),
    Word("eio", ("disk",), "while", "nothing can be written: input/output error"),
    Word("read_only", ("disk",), "while", "nothing can be written: the file system is mounted read-only"),
    Word("hang", ("disk",), "while", "writes do not come back"),
    Word("late", ("operator",), "while", "answers take `factor` times as long", {"factor": Arg("", 1.0, 100.0, 5.0)}),
    Word("double", ("operator",), "while", "each answer is given twice, by the same and by another id"),
    Word("contradictory", ("operator",), "while", "each answer is followed by another one that contradicts it"),
    Word(
        "wrong_volume",
        ("operator",),
        "while",
        "volumes are typed wrong `by` so much",
        {"by": Arg("%", -50.0, 50.0, 10.0)},
    ),
)


def find(kind: str, name: str) -> Word | None:
    """Return what a word means at a kind of `where`; None when it means nothing there."""
    return next((word for word in WORDS if word.name == name and kind in word.kinds), None)


def of_a_moment(name: str) -> bool:
    """Whether a fault is over at once, at whatever it befalls; what it left may last."""
    return all(word.lasts == "moment" for word in named(name))


def named(name: str) -> tuple[Word, ...]:
    """Return all meanings of a word."""
    return tuple(word for word in WORDS if word.name == name)


def table() -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the vocabulary for people: word, where, arguments, how long, what it does."""
    lasts = {"moment": "a moment", "while": "for a time", "either": "for a time, or for good"}
    for word in WORDS:
        args = ", ".join(_shown(name, arg) for name, arg in word.args.items())
        yield word.name, ", ".join(word.kinds), args, lasts[word.lasts], word.text


def _shown(name: str, arg: Arg) -> str:
    if arg.unit == POINT:
        return f"{name}: name of a point"
    if arg.choices:
        return f"{name}: {' or '.join(arg.choices)}"
    text = f"{name}: {arg.low:g} to {arg.high:g} {arg.unit}".rstrip()
    return (
        text
        if arg.default is None
        else f"{text}, default {arg.default:g}"
        if isinstance(arg.default, float | int)
        else text
    )
