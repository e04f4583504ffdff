"""What both freezers of parts have in common: the number of the run under way, and probes that are our own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from devices.equipment.base import Act, Equipment, Parts, Source
from devices.instrument import Args, CommandRefused, DeviceError, DeviceState, DeviceStatus, OutcomeUnknown, Priority
from devices.kept import Kept
from devices.reading import Quality, Reading, bad
from devices.role import BOOL, SYMBOL

IDLE, RUNNING, COMPLETE, ABORTED, FAULT = "idle", "running", "complete", "aborted", "fault"


KINDS = ("end", "hold", "ramp")  # the codes of a row are places in these, as in the programme of a profile
_LOST = "the number of its last run is lost: look at the freezer, take its entry out of runs.json, start anew"
LISTENS = ("chamber", "sample")
ENDS = ("target", "time", "exotherm_or_time")


def named(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with names for its codes; raises ValueError for a code that is none."""
    found = dict(row)
    for key, names in (("kind", KINDS), ("listen", LISTENS), ("end", ENDS)):
        value = row.get(key)
        if isinstance(value, (int, float)) and value == int(value) and 0 <= value < len(names):
            found[key] = names[int(value)]
        elif value not in names:
            raise ValueError(f"{key} is {value!r}, expected one of {', '.join(names)}")
    return found


@dataclass(frozen=True, slots=True)
class Probes:
    """Where the temperatures come from, and the level of the LN2 supply (%) where somebody measures it."""

    chamber: Source | None
    sample: Source | None
    ln2: Source | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The instruments that they belong to."""
        return tuple(source.part for source in (self.chamber, self.sample, self.ln2) if source is not None)


@dataclass
class Run:
    """A run as it is kept: its number, the one before it, whether the start was sent, when (UTC s) and where it ended.

    `slot` is the programme number in the device, by which it is known again after a restart.
    """

    sequence: int = 0
    before: int = 0
    began: float = 0.0
    lasted: float = 0.0
    slot: int = 0
    ended_as: str = IDLE


class PartsFreezer(Equipment):
    """The role `freezer`; kinds say how a programme is loaded, started and seen to run.

    The parts know no number of a run, so it is kept in a file, written before the start is sent; what the parts show
    (a programme that runs, its slot) decides whether the start was heard.
    """

    role = "freezer"
    ends = "abort"
    idempotent = {"load_program": True, "start": False, "abort": True}  # noqa: RUF012 - a constant

    def __init__(self, name: str, parts: Parts, used: tuple[str, ...], probes: Probes, kept: Kept) -> None:
        """Build it; `kept` outlives this program."""
        self._probes = probes
        self._kept = kept
        restored = _restored(kept.data.get(name))
        self.run = restored or Run()
        # Invariant: unknown is not false: where the number of the last run is lost, none is said until one is written.
        self._lost = restored is None and (kept.lost or name in kept.data)
        self._begun = 0  # the run whose start this program sent; of one of an earlier life nobody knows what became
        self.ran = False  # that run was seen under way
        super().__init__(name, parts, (*used, *probes.parts))

    @property
    def status(self) -> DeviceStatus:
        """The worst of its parts; a fault of its own where the number of its last run is lost."""
        status = super().status
        return DeviceStatus(DeviceState.FAULT, _LOST) if self._lost and status.state is DeviceState.ONLINE else status

    def acts(self) -> Mapping[str, Act]:
        """Return what carries out each command."""
        return {"load_program": self._load, "start": self._start, "abort": self._abort}

    def derive(self) -> dict[str, Reading]:
        """Return the run as the parts show it."""
        state, at = self.program_state()
        now = self.clock.monotonic()
        if state in (COMPLETE, ABORTED, FAULT) and self.run.ended_as == RUNNING:
            self.run.ended_as = state
            self.run.lasted = max(0.0, self.clock.now().timestamp() - self.run.began)
        known = state is not None
        quality = Quality.GOOD if known else Quality.BAD
        lasted = self.run.lasted
        if state == RUNNING:
            lasted = max(0.0, self.clock.now().timestamp() - self.run.began)
        return {
            "chamber_temperature": self.seen(self._probes.chamber, "degC"),
            "sample_temperature": self.seen(self._probes.sample, "degC"),
            "ready": Reading(self.ready(state), BOOL, quality, at) if known else bad(BOOL, at),
            "ln2_level": self.seen(self._probes.ln2, "%"),
            "program_state": Reading(state, SYMBOL, quality, at) if known else bad(SYMBOL, at),
            "setpoint": self.setpoint(),
            "segment": self.segment(),
            "elapsed": Reading(lasted, "s", Quality.UNCERTAIN, now),
            "sequence": bad("", at) if self._lost or not known else Reading(self.sequence(state), "", quality, at),
            "nucleated": bad(BOOL, now),  # nobody here detects an exotherm
        }

    @abstractmethod
    def program_state(self) -> tuple[str | None, float]:
        """Return idle, running, complete, aborted or fault, None where it is not known; and when it was seen."""

    @abstractmethod
    def ready(self, state: str | None) -> bool:
        """Tell whether a run may be started."""

    def setpoint(self) -> Reading:
        """Return the set point of the chamber; bad where nobody shows it."""
        return bad("degC", self.clock.monotonic())

    def segment(self) -> Reading:
        """Return the row under way; bad where nobody shows it."""
        return bad("", self.clock.monotonic())

    def sequence(self, state: str | None) -> float:
        """Return the number of the last run that the device took."""
        if state == RUNNING:
            self.ran = True
        # Invariant: that a start was not heard can be said only by who sent it and has looked since.
        heard = self.ran or self._begun != self.run.sequence or self.run.ended_as != RUNNING
        return float(self.run.sequence if heard and self.fits(state) else self.run.before)

    def fits(self, state: str | None) -> bool:
        """Tell whether what the parts show can be the last run, and not another's."""
        return True

    @abstractmethod
    async def load(self, rows: list[Mapping[str, Any]], priority: Priority) -> None:
        """Bring the rows into the device, or refuse what it cannot do; raises DeviceError."""

    @abstractmethod
    async def begin(self, priority: Priority, ended: int) -> None:
        """Send the start, once; `not_aborted(ended)` is asked after all that is awaited before it."""

    @abstractmethod
    async def end(self, priority: Priority) -> None:
        """End a run where it is; the chamber stays as cold as it is."""

    async def _load(self, args: Args, priority: Priority) -> None:
        rows = args.get("rows")
        if not isinstance(rows, list) or not rows:
            raise CommandRefused(self.name, "load_program needs rows", "nothing was sent")
        try:
            table = [named(row) for row in cast("list[Mapping[str, Any]]", rows)]
        except ValueError as error:
            raise CommandRefused(self.name, f"load_program: {error}", "nothing was sent") from error
        await self.load([row for row in table if row["kind"] != "end"], priority)

    def not_aborted(self, ended: int) -> None:
        """Raise CommandRefused where an abort has come since there were `ended`."""
        if ended != self.ended:
            raise CommandRefused(self.name, "aborted meanwhile, nothing was started", "see why it was aborted")

    async def _start(self, args: Args, priority: Priority) -> None:
        ended = self.ended
        sequence = args.get("sequence")
        if not isinstance(sequence, (int, float)) or not 1 <= sequence <= 65_535:
            raise CommandRefused(self.name, f"start: sequence {sequence!r} is outside 1 to 65535", "nothing was sent")
        state, _ = self.program_state()
        if state is None or not self.ready(state):
            raise CommandRefused(self.name, "start was not sent: it is not ready", "nothing was sent")
        if int(sequence) == self.sequence(state):
            raise CommandRefused(
                self.name, f"start was not sent: run {sequence:g} was taken already", "use a new number"
            )
        slot = self.run.slot
        self.run = Run(
            int(sequence), int(self.sequence(state)), self.clock.now().timestamp(), slot=slot, ended_as=RUNNING
        )
        # Invariant: intent before act: the number is on disk before the device hears of the start.
        await self.keep()
        self._begun, self.ran = self.run.sequence, False
        self.not_aborted(ended)
        try:
            await self.begin(priority, ended)
        finally:
            if ended != self.ended:
                await self._end_again()
        if ended != self.ended:
            raise OutcomeUnknown(self.name, "start: aborted meanwhile, and ended again", "look at the freezer", {})

    async def _end_again(self) -> None:
        """End what may have started after its abort.

        Invariant: an abort outlasts a start that was under way when it came, whichever reached the device first.
        Raises OutcomeUnknown, also for an end that is refused: whether it runs is not known.
        """
        try:
            await self.end(Priority.STOP)
        except DeviceError as error:
            text = f"start: aborted meanwhile, and not ended: {error}"
            raise OutcomeUnknown(self.name, text, "look at the freezer, it may run", {}) from error

    async def _abort(self, _args: Args, priority: Priority) -> None:
        await self.end(priority)

    async def keep(self) -> None:
        """Write down the run; raises CommandRefused where it cannot be, and nothing was sent then."""
        self._kept.data[self.name] = vars(self.run).copy()
        try:
            await self._kept.save()
            self._lost = False
        except OSError as error:
            raise CommandRefused(self.name, f"its run cannot be written down: {error}", "see to the disk") from error


def _restored(data: object) -> Run | None:
    if not isinstance(data, dict):
        return None
    given = cast("dict[str, Any]", data)
    try:
        return Run(**{key: type(default)(given[key]) for key, default in vars(Run()).items()})
    except (KeyError, TypeError, ValueError):
        return None
