"""Freezers of parts: one that a programmer runs, and one that is run by its contacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from devices.equipment.base import Source
from devices.equipment.spec import ContactFreezerSpec, ProgrammerFreezerSpec
from simulators.device import ModbusFault
from simulators.fittings.module import Modules
from simulators.fittings.programs import Header, course, segments
from simulators.fittings.workshop import Args, Draft, Place, Workshop
from simulators.instruments import BUSY, PROBE_NOISE, REFUSED
from simulators.physics.freezing import IDLE_CHAMBER, Row

LOOK_S = 1.0  # s between two looks at whether a programme has come to its end
_MODES = {"idle": "reset", "running": "run", "complete": "complete", "aborted": "hold"}


def programmer(shop: Workshop, spec: ProgrammerFreezerSpec) -> None:
    """Let the programmes of a temperature controller steer the chamber."""
    place, freezer, draft = shop.place, shop.place.freezer, shop.drafts[spec.programmer]
    programs, handlers = segments()
    chosen = {"program": 1.0}
    now = {"held_back": False}

    def choose(args: Args) -> None:
        chosen["program"] = float(args["program"])

    def run(args: Args) -> None:
        if "program" in args:
            choose(args)
        header = Header.of(draft, int(chosen["program"]))
        with place.change() as t:
            rows = course(programs.get(int(chosen["program"]), {}), freezer.chamber, header)
            if freezer.running:
                raise ModbusFault(BUSY)
            freezer.rows = rows
            if not rows or not freezer.start(freezer.sequence % 65_535 + 1, t):
                raise ModbusFault(REFUSED)
            now["held_back"] = header.holds_back
        if header.end_type != "dwell":
            place.announce(t + LOOK_S, partial(ended, freezer.sequence))

    def ended(sequence: int) -> None:
        """Leave the end of a programme at once, as its end type says: back to the set point of the loop."""
        if freezer.sequence != sequence or freezer.state in ("idle", "aborted"):
            return
        if freezer.running:
            place.announce(place.time() + LOOK_S, partial(ended, sequence))
            return
        with place.change() as t:
            freezer.state = "idle"
            freezer.rest(t)

    def hold(_args: Args) -> None:
        with place.change() as t:
            freezer.abort(t)

    def reset(_args: Args) -> None:
        with place.change() as t:
            freezer.abort(t)
            freezer.state = "idle"

    def set_temperature(args: Args) -> None:
        with place.change():
            if not freezer.running:
                freezer.setpoint = float(args["value"])

    shown = draft.profile.points["program_mode"].symbols.values()

    def mode() -> str:
        place.time()
        name = _MODES.get(freezer.state, "reset")
        name = "holdback" if name == "run" and now["held_back"] else name
        return name if name in shown else "reset"

    shop.reads(Source(spec.programmer, "temperature"), lambda: (place.time(), freezer.chamber)[1], PROBE_NOISE)
    _probes(shop, spec.sample, spec.ln2)
    draft.values |= {
        "target": lambda: (place.time(), freezer.setpoint)[1],
        "setpoint_now": lambda: (place.time(), freezer.setpoint)[1],
        "setpoint": lambda: IDLE_CHAMBER,
        "program": lambda: chosen["program"],
        "segment": lambda: (place.time(), freezer.segment)[1],
        "program_mode": mode,
    }
    draft.handlers |= {
        **handlers,
        "select_program": choose,
        "program_run": run,
        "program_hold": hold,
        "program_reset": reset,
        "set_temperature": set_temperature,
    }
    _power(place, draft)


def contacts(shop: Workshop, modules: Modules, spec: ContactFreezerSpec, stored: Mapping[str, Sequence[Row]]) -> None:
    """Let contacts start and hold a freezer in which programmes are stored, by their digests."""
    place, freezer, wired = shop.place, shop.place.freezer, spec.contacts
    module = modules.of(wired.part)

    def start(digest: str, on: bool) -> None:
        with place.change() as t:
            held = wired.hold is not None and module.outputs.get(wired.hold, False)
            if on and not held and not freezer.running and digest in stored:
                freezer.rows = list(stored[digest])
                freezer.start(freezer.sequence % 65_535 + 1, t)

    def hold(on: bool) -> None:
        with place.change() as t:
            if on:
                freezer.abort(t)

    for digest, channel in wired.starts.items():
        module.watch(channel, partial(start, digest))
    if wired.hold is not None:
        module.watch(wired.hold, hold)
    module.inputs[wired.running] = lambda: freezer.running
    module.inputs[wired.alarm] = lambda: not freezer.powered
    shop.reads(spec.probes.chamber, lambda: (place.time(), freezer.chamber)[1], PROBE_NOISE)
    _probes(shop, spec.probes.sample, spec.probes.ln2)


def _probes(shop: Workshop, sample: Source | None, ln2: Source | None) -> None:
    place, freezer = shop.place, shop.place.freezer

    def in_the_bag() -> float:
        """Return what the sample probe sees: the first bag, or the chamber where there is none."""
        place.time()
        seen = freezer.sample
        return freezer.chamber if seen is None else seen

    shop.reads(sample, in_the_bag, PROBE_NOISE)
    shop.reads(ln2, lambda: (place.time(), freezer.ln2)[1], 0.0)


def _power(place: Place, draft: Draft) -> None:
    """Let the freezer's power go and come with that of its controller; its programmes stay."""

    def power(*, on: bool) -> None:
        with place.change() as t:
            place.freezer.power(t, on=on)

    draft.off.append(partial(power, on=False))
    draft.on.append(partial(power, on=True))
