"""What the parts of equipment hear, judged by what the equipment was ordered: a drive that starts needs a dose on disk.

A drive knows no numbers of doses.  So each of its starts is tied to the dose that is open for its pump at that moment,
and none may be tied to two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from devices.equipment.spec import ClimateSpec, ContactFreezerSpec, ProgrammerFreezerSpec, PumpSpec, parts_of
from tilctl.cli.rehearsing.doses import DoseOracle
from tilctl.cli.rehearsing.violations import Book
from tilctl.config import Site
from tilctl.engine.state import BatchState, Intent

STANDS, RUNS = ("stop", "valve_hold_closed", "program_hold", "program_reset"), ("start", "program_run")
Judge = Callable[[str, str, float], None]


class PartsOracle:
    """Judges commands that parts hear; `owned` judges whose the equipment is, `target` a standing target of it."""

    def __init__(
        self,
        site: Site,
        book: Book,
        doses: DoseOracle,
        state: Callable[[], BatchState],
        owned: Callable[[str, str], None],
        target: Judge,
        cuts: Callable[[], None],
    ) -> None:
        self._site = site
        self._book = book
        self._doses = doses
        self._state = state
        self._owned = owned
        self._target = target
        self._cuts = cuts
        self._started: dict[tuple[str, int], int] = {}  # (equipment, intent) -> starts heard
        self.whose = {part: name for name, spec in site.equipment.items() for part in parts_of(spec)}

    def hears(self, part: str, command: str, args: Mapping[str, Any]) -> None:
        """Judge a command in the moment in which a part takes it."""
        equipment = self.whose[part]
        spec = self._site.equipment[equipment]
        profile = self._site.profiles[part]
        if isinstance(spec, ClimateSpec) and command == profile.safe_command and part == spec.programmer:
            self._cuts()
            return
        if (
            command in profile.on_connect
        ):  # no effect on a product, and no batch's: whoever connects gives it back its own
            given = self._site.devices[part].given.settings.get(command)
            if given not in args.values():
                self._book.note("inside_limits", f"{part}.{command}({dict(args)}), the site gives {given}")
            return
        if command in STANDS or command == profile.safe_command or (command == "set_output" and not args["value"]):
            return
        if isinstance(spec, ClimateSpec) and part == spec.programmer and command == "set_temperature":
            self._target(equipment, "set_temperature", float(args["value"]))
        if isinstance(spec, PumpSpec) and command == "start":
            self._meant(equipment, "dispense")
        if isinstance(spec, ProgrammerFreezerSpec) and command == "program_run":
            self._meant(equipment, "start")
        if (
            isinstance(spec, ContactFreezerSpec)
            and command == "set_output"
            and args["channel"] in spec.contacts.starts.values()
        ):
            self._meant(equipment, "start")
        if command in ("set_output", "clear_safe"):
            return  # a module serves several; what its outputs move is judged where it moves
        self._owned(equipment, f"{part}.{command}")

    def _meant(self, equipment: str, action: str) -> None:
        """Judge a start: one dose or run is open on disk for it, and it has not been started before."""
        open_ = [
            intent
            for intent in self._state().intents.values()
            if intent.device == equipment and intent.action == action and intent.outcome == ""
        ]
        if len(open_) != 1:
            self._book.note("intent_before_act", f"{equipment} was started, and {len(open_)} open intents are on disk")
            return
        key = (equipment, open_[0].number)
        self._started[key] = self._started.get(key, 0) + 1
        if self._started[key] > 1:
            self._book.note("at_most_once", f"{equipment} was started {self._started[key]} times for one intent")
        if action == "dispense":
            self._tie(equipment, open_[0])

    def _tie(self, pump: str, intent: Intent) -> None:
        unit = self._doses.plant.pumps[pump]
        self._doses.tied[pump, unit.sequence % 65_535 + 1] = intent.number
