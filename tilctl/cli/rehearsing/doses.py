"""The oracle for doses and volumes: what the pumps really did, against what was ordered and what the ledger says.

A ledger starts from what a person said at the mounting; by how much that was wrong is taken off from then on, so that a
wrong word excuses no more than itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulators.fittings import HOST_LOST_S
from simulators.physics.fluid import Dispense
from simulators.plant import Plant
from tilctl.cli.rehearsing.suspicion import Suspicion
from tilctl.cli.rehearsing.violations import Book
from tilctl.engine.state import BatchState, Intent
from tilctl.journal import events as ev

CONSERVED = 1e-6  # share by which sums of floats may differ
CLOSES_ML, CLOSES_SHARE = 3.0, 0.02  # evidence of one dose closes within max(3 mL, 2 %)
LEDGER_ML, LEDGER_SHARE = 4.0, 0.03  # mL, share: what a ledger may be off before any dose (scales, misread marks)
SAME_ML = 0.01  # mL: a volume on its way through a text
ROUNDED = 0.002  # share by which steps of a motor and tenths of a rpm may miss what was ordered
ENDLESS_ML = 100_000.0  # of a drive that does not bound a dose: it is judged by what it moved
OVERRUN_ML = 20.0  # mL that a dose which empties its source may order beyond the ledger


@dataclass
class Doses:
    """What became of the doses of one batch."""

    commanded: int = 0
    doubled: int = 0
    in_doubt: int = 0


@dataclass
class DoseOracle:
    """Judges doses.

    `typed` returns the volumes (mL) that a person ever typed for a container, `port` the port of a place.
    """

    plant: Plant
    book: Book
    suspicion: Suspicion
    typed: Callable[[str], Collection[float]]
    port: Callable[[str], int]
    doses: Doses = field(default_factory=Doses)
    tied: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    """(pump, number of its run) -> intent, of pumps whose drives know no number of ours."""
    _seen: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    _ours: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    _doubled: set[str] = field(default_factory=set[str])
    _doubtful: set[int] = field(default_factory=set[int])
    _off: dict[str, float] = field(default_factory=dict[str, float])  # container -> mL more in truth than was said
    _deaths: list[float] = field(default_factory=list[float])  # s of the plant, when a controller was killed
    _uncertain: dict[str, float] = field(default_factory=dict[str, float])  # container -> sum of squares of mL

    def dies(self) -> None:
        """Take note that the controller is killed."""
        self._deaths.append(self.plant.time())

    def mounted(self, state: BatchState, event: ev.Mounted) -> None:
        """Judge an account that is opened: it holds what a person typed, or what the recipe asked for."""
        node = state.node(event.path)
        planned: list[dict[str, Any]] = [] if node is None else node.phases["planned"][1]["containers"]
        mine = (c["volume_ml"] for c in planned if c["name"] == event.container)
        given = {float(volume) for volume in mine if volume is not None}
        if not any(abs(event.volume_ml - said) < SAME_ML for said in (given or self.typed(event.container))):
            text = f"{event.container} is booked with {event.volume_ml:g} mL, which nobody said"
            self.book.note("ledger", text)
            return
        real = self.plant.place(self.port(event.place))
        if real is not None and real.name == event.container:
            self._off[event.container] = real.contents.volume - event.volume_ml

    def opened(self, state: BatchState, intent: Intent) -> None:
        """Judge an intent that was just opened: its number is new, and no other of its step is open."""
        if intent.action != "dispense":
            return
        self.doses.commanded += 1
        key = (intent.device, int(intent.args["sequence"]))
        if key in self._seen:
            self.book.note("sequence_once", f"{intent.path}: {key[0]} is given number {key[1]} twice")
        self._seen.add(key)
        self.suspicion.opens(intent, self._ends(state, intent))
        for other in state.intents_of(intent.path):
            if other.number != intent.number and other.outcome in ("", "in_doubt"):
                self.book.note(
                    "at_most_once",
                    f"{intent.path}: intent {intent.number} was opened while intent {other.number} is not closed",
                )

    def closed(self, intent: Intent) -> None:
        """Take note of how an intent was closed."""
        if intent.outcome == "in_doubt":
            self._doubtful.add(intent.number)
            self.doses.in_doubt = len(self._doubtful)
        self.suspicion.closes(intent, self._touched(intent))
        if intent.delivered_ml and "from" in intent.args:
            own = max(CLOSES_ML, CLOSES_SHARE * intent.delivered_ml)
            for name in (str(intent.args["from"]), str(intent.args["to"])):
                self._uncertain[name] = self._uncertain.get(name, 0.0) + own * own

    def _ends(self, state: BatchState, intent: Intent) -> dict[str, int]:
        names = [str(intent.args[end]) for end in ("from", "to") if end in intent.args]
        accounts = [account for name in names if (account := state.ledger.get(name)) is not None]
        return {account.name: self.port(account.place) for account in accounts}

    def _touched(self, intent: Intent) -> dict[str, int]:
        """Return what really stood at the clamps of its runs: those of another dose, where clamps were stuck."""
        pump = self.plant.pumps.get(intent.device)
        runs = [] if pump is None else [run for run in pump.log if self._number(intent.device, run) == intent.number]
        ports = {port for run in runs for port in (run.source, run.destination)}
        places = {port: self.plant.place(port) for port in ports if port}
        return {container.name: port for port, container in places.items() if container is not None}

    def _named(self, state: BatchState) -> None:
        """Tie the runs of pumps that take our numbers to the intents that have them."""
        for intent in state.intents.values():
            if intent.action == "dispense" and self.plant.pumps.get(intent.device) is not None:
                key = (intent.device, int(intent.args["sequence"]))
                if not any(device == intent.device for device, _ in self.tied):
                    self._ours[key] = intent.number

    def _number(self, pump: str, run: Dispense) -> int:
        """Return the number of the intent of a run; 0 where nobody meant it."""
        key = (pump, run.sequence)
        return self.tied.get(key, self._ours.get(key, 0))

    def run_of(self, state: BatchState, sequence: int) -> int:
        """Return the number by which a pump knows the last dose that we gave the number `sequence`.

        A pump that takes our numbers knows it by that; of others it is the run that was tied to it, 0 where none was.
        """
        doses = [intent for intent in state.intents.values() if intent.args.get("sequence") == sequence]
        if not doses or doses[-1].device not in {device for device, _ in self.tied}:
            return sequence
        runs = [run for (_, run), number in self.tied.items() if number == doses[-1].number]
        return runs[-1] if runs else 0

    def conserved(self) -> None:
        """Volume is neither made nor lost in the plant."""
        total, brought = self.plant.volume_total(), self.plant.aside.brought_ml
        if abs(total - brought) > max(1.0, brought) * CONSERVED:
            self.book.note("volume_conserved", f"{brought:.3f} mL were brought, {total:.3f} mL are there")

    def pumps(self, state: BatchState) -> None:
        """Compare the logs of the pumps with the intents: each run has one, no step got more than it ordered."""
        self._named(state)
        runs: dict[str, list[tuple[Intent, Dispense]]] = {}
        for name, pump in self.plant.pumps.items():
            for run in pump.log:
                intent = state.intents.get(self._number(name, run))
                if intent is None:
                    self.book.note("act_has_intent", f"{name} dispensed with number {run.sequence}, which nobody meant")
                    continue
                runs.setdefault(intent.path, []).append((intent, run))
                told, own = float(intent.args["volume"]), (name, run.sequence) in self.tied
                if abs(run.commanded_ml - told) > (ROUNDED * told if own else 0.011) and run.commanded_ml < ENDLESS_ML:
                    self.book.note(
                        "act_is_intent",
                        f"{name} was told {run.commanded_ml} mL, intent {intent.number}: {intent.args['volume']} mL",
                    )
        for path, done in runs.items():
            self._not_doubled(state, path, done)

    def _not_doubled(self, state: BatchState, path: str, done: list[tuple[Intent, Dispense]]) -> None:
        taken = [(intent.device, run.sequence) for intent, run in done]
        if len(set(taken)) != len(taken):
            self._double(path, f"{path}: a pump ran twice with one number: {taken}")
        node = state.node(path)
        ordered = None if node is None else node.phases.get("ordered")
        if ordered is None:
            return
        order: Mapping[str, Any] = ordered[1]
        wanted = float(order["volume"])
        over = OVERRUN_ML if order["empty"] else 0.0
        # in truth: a pump that slips counts more than it moves; but a person who said less is believed
        moved = sum(min(run.moved_ml, self._said(state, intent)) for intent, run in done)
        own = math.sqrt(sum(max(CLOSES_ML, CLOSES_SHARE * run.moved_ml) ** 2 for _, run in done))
        allowed = wanted * 1.03 + max(float(order["tolerance"]), CLOSES_ML) + over + 2.0 * own
        allowed += sum(self._orphaned(run) for _, run in done)
        if moved > allowed:
            self._double(path, f"{path}: {wanted:.1f} mL were ordered, the pumps moved {moved:.1f} mL")

    def _orphaned(self, run: Dispense) -> float:
        """Return what a drive that bounds no dose moves (mL) until its module misses a dead controller."""
        if run.commanded_ml < ENDLESS_ML:
            return 0.0
        ended = math.inf if run.ended is None else run.ended
        return run.rate / 60.0 * HOST_LOST_S if any(run.started <= died <= ended for died in self._deaths) else 0.0

    def _said(self, state: BatchState, intent: Intent) -> float:
        """Return what a person said (mL) that went over in a dose in doubt; infinity where nobody was asked."""
        if intent.number not in self._doubtful:
            return math.inf
        asked = [p for p in state.prompts.values() if p.kind == "reconcile" and p.spec.get("intent") == intent.number]
        said = [float(p.answer["delivered"]) for p in asked if p.answer is not None]
        return said[-1] if said else math.inf

    def _double(self, path: str, text: str) -> None:
        if path not in self._doubled:
            self._doubled.add(path)
            self.doses.doubled += 1
        self.book.note("not_doubled", text)

    def ledger(self, state: BatchState) -> None:
        """Compare the ledger with what is really there, where no dose is under way."""
        if state.open_intents():
            return
        for container in state.ledger:
            if not container.mounted:
                continue
            port = self.port(container.place)
            real = self.plant.place(port)
            if real is None or real.name != container.name:
                continue
            truth = real.contents.volume - self._off.get(container.name, 0.0)
            spread = math.sqrt(self._uncertain.get(container.name, 0.0))
            allowed = LEDGER_ML + LEDGER_SHARE * max(truth, container.volume_ml) + 2.0 * spread
            gap = truth - container.volume_ml
            if abs(gap) <= allowed:
                continue
            if self.suspicion.explains(container.name, port):
                self._off[container.name] = self._off.get(container.name, 0.0) + gap  # no more than this is explained
                continue
            silent = self.suspicion.suspected(container.name, port)
            self.book.note(
                "ledger",
                f"{container.name}: {container.volume_ml:.1f} mL by ledger, {truth:.1f} mL in truth"
                f" (allowed {allowed:.1f} mL){', and nothing was said' if silent else ''}",
            )
