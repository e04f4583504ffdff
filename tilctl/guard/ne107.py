"""The class of a device in the words of NE 107: a pure judgement of what is known of it, with reasons.

A reason is a predicate of the device ("is offline (...)"), so that it reads well behind its name.  Unknown is not good:
what nobody has looked at is said, and what was looked at and is well is the only thing that is good.

What a class does to readings: out of specification and function check make good ones uncertain, of the points that the
reason is about.  Failure leaves them as the driver says (bad or stale where they are; a heater that is broken makes
no thermometer lie), maintenance leaves them good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from devices.calibration import Calibration
from devices.diagnosis import Ne107, Sign
from devices.instrument import DeviceState, DeviceStatus
from devices.reading import Quality

SOON = timedelta(days=14)
"""So long before it expires a calibration is due; with a batch of 35 days ahead, one looks before the start anyway."""
WORN = 0.9  # of the writes that a memory lasts: time to order another instrument (engineering default)
MOST_REASONS = 8
EVERYTHING: frozenset[str] | None = None  # a reason that is about all that the device measures
NOTHING: frozenset[str] = frozenset()

_DOUBTFUL = (Ne107.OUT_OF_SPECIFICATION, Ne107.FUNCTION_CHECK)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a device is of a class, what a person can do, and which of its points it is about (None: all measured).

    `alarmed`: there is an alarm of its own for it already, and one cause is one alarm.
    """

    status: Ne107
    text: str
    todo: str = ""
    points: frozenset[str] | None = NOTHING
    alarmed: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that is to be said of a device, the worst first; `unknown` is what could not be looked at."""

    reasons: tuple[Reason, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def status(self) -> Ne107:
        """The class: that of the worst reason; unknown where there is none, and something could not be looked at."""
        if self.reasons:
            return self.reasons[0].status
        return Ne107.UNKNOWN if self.unknown else Ne107.GOOD

    @property
    def texts(self) -> list[str]:
        """The reasons of its class in words, and what is not known; bounded."""
        found = [reason.text for reason in self.reasons if reason.status is self.status] or [*self.unknown]
        more = len(found) - MOST_REASONS
        return [*found[:MOST_REASONS], f"and {more} more"] if more > 0 else found

    def of(self, status: Ne107) -> tuple[Reason, ...]:
        """Return the reasons for one class; there may be some for several."""
        return tuple(reason for reason in self.reasons if reason.status is status)

    def about(self, seen: Iterable[str]) -> Verdict:
        """Return what is left of it for somebody who uses these points only; what is about no point concerns all."""
        mine = frozenset(seen)
        kept = tuple(r for r in self.reasons if not r.points or not r.points.isdisjoint(mine))
        return Verdict(kept, self.unknown)

    def doubts(self, measured: frozenset[str]) -> frozenset[str]:
        """Return the points, of those that the device measures, whose good readings are uncertain by this."""
        found: frozenset[str] = NOTHING
        for reason in self.reasons:
            if reason.status in _DOUBTFUL:
                found |= measured if reason.points is None else reason.points
        return found


@dataclass(frozen=True, slots=True)
class Written:
    """How often a command was written to memory that wears, and how often it may be (None: not known)."""

    command: str
    today: int
    total: int
    per_day: int | None
    life: int | None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a device.

    `tried`: somebody has asked it.  `qualities` are those of what it measures, as its driver says, None where it was
    never read.  `signs` are what it shows of itself, with whether each stands (None: never seen).  `calibrations` are
    those in force, with the points that they correct (None: all); on the points and bits `alarmed` its profile has
    alarms of its own.
    """

    status: DeviceStatus
    today: date
    tried: bool = True
    qualities: Mapping[str, Quality | None] = field(default_factory=dict[str, Quality | None])
    signs: Mapping[Sign, bool | None] = field(default_factory=dict[Sign, bool | None])
    calibrations: Mapping[str, tuple[Calibration, frozenset[str] | None]] = field(
        default_factory=dict[str, tuple[Calibration, frozenset[str] | None]]
    )
    written: tuple[Written, ...] = ()
    tripped: bool = False
    disagree: bool = False
    alarmed: frozenset[str] = NOTHING
    parts: Mapping[str, Verdict] = field(default_factory=dict[str, Verdict])


def judge(known: Known) -> Verdict:
    """Return what is to be said of a device."""
    unknown: list[str] = []
    found = [*_answering(known, unknown), *_measuring(known, unknown), *_showing(known, unknown)]
    for name, (calibration, points) in known.calibrations.items():
        if (said := of_calibration(name, calibration, known.today)) is not None:
            status, text, todo = said
            well = status is Ne107.MAINTENANCE
            found.append(Reason(status, f"is {'to be' if well else 'not'} calibrated: {text}", todo, points))
    found += [reason for written in known.written if (reason := _of_wear(written)) is not None]
    for part, verdict in known.parts.items():
        # What is doubtful of a part is doubtful of what is made of it; which points those are, the keeper knows.
        found += [Reason(r.status, f"has {part}, which {r.text}", r.todo, alarmed=r.alarmed) for r in verdict.reasons]
        unknown += [f"has {part}, which {text}" for text in verdict.unknown]
    return Verdict(tuple(sorted(found, key=lambda reason: -reason.status.rank)), tuple(unknown))


def of_calibration(name: str, calibration: Calibration, today: date) -> tuple[Ne107, str, str] | None:
    """Return what the newest calibration makes of what depends on it, why, and what to do; None where it is well."""
    if calibration.made > today:
        text = f"calibration {name} was made on {calibration.made}, which is to come"
        return Ne107.OUT_OF_SPECIFICATION, text, "mend its date, or the clock"
    if calibration.expired(today):
        text = f"calibration {name} expired on {calibration.expires}"
        return Ne107.OUT_OF_SPECIFICATION, text, "calibrate anew, and add it to the site file"
    if calibration.expires - today < SOON:
        return Ne107.MAINTENANCE, f"calibration {name} expires on {calibration.expires}", "calibrate soon"
    return None


def _answering(known: Known, unknown: list[str]) -> list[Reason]:
    status = known.status
    found: list[Reason] = []
    if not known.tried:
        unknown.append("was not asked yet")
    elif status.state is DeviceState.CHECKING and not status.text:
        unknown.append("is being checked")
    elif known.parts and status.state is not DeviceState.FAULT:
        pass  # equipment answers by its parts, which are judged themselves
    elif status.state is not DeviceState.ONLINE and not any(v.of(Ne107.FAILURE) for v in known.parts.values()):
        todo = {
            DeviceState.FAULT: "compare it with its profile and the site file: is it the right one, set up as it was?"
        }.get(status.state, "check power, cable and address")
        text = f"is {status.state.value}" + (f" ({status.text})" if status.text else "")
        found.append(Reason(Ne107.FAILURE, text, todo, EVERYTHING))
    return found


def _measuring(known: Known, unknown: list[str]) -> list[Reason]:
    state, text = known.status.state, known.status.text
    if not known.tried or not (state is DeviceState.ONLINE or (state is DeviceState.CHECKING and not text)):
        return []  # that it does not answer is said already, and makes all of them bad
    found: list[Reason] = []
    for point, quality in known.qualities.items():
        about = frozenset((point,))
        if quality is None:
            unknown.append(f"has not said {point} yet")
        elif quality is Quality.BAD:
            found.append(Reason(Ne107.FAILURE, f"gives no value for {point}", "see to its sensor", about))
        elif quality is Quality.STALE:
            text = f"gives an old value for {point}: it stands still, or was not read in time"
            found.append(Reason(Ne107.FAILURE, text, "is the instrument frozen, or the bus overloaded?", about))
        elif quality is Quality.UNCERTAIN:
            found.append(Reason(Ne107.OUT_OF_SPECIFICATION, f"is not sure of {point}", "see what it shows", about))
    return found


def _showing(known: Known, unknown: list[str]) -> list[Reason]:
    found = [
        Reason(sign.status, f"shows {sign}", "see its manual", EVERYTHING, alarmed=sign.name in known.alarmed)
        for sign, on in known.signs.items()
        if on
    ]
    if known.tried:
        unknown += [f"has not said {sign.name} yet" for sign, on in known.signs.items() if on is None]
    if known.tripped:
        todo = "see why the controller did not feed it; the next dose arms it again"
        found.append(Reason(Ne107.MAINTENANCE, "was stopped by its own watchdog", todo, alarmed=True))
    if known.disagree:
        todo = "compare both with a reference"
        found.append(Reason(Ne107.FAILURE, "has two probes that disagree", todo, EVERYTHING))
    return found


def _of_wear(written: Written) -> Reason | None:
    name = written.command
    if written.life is not None and written.total >= written.life:
        text = f"has used up the memory behind {name}: {written.total} writes, it lasts {written.life}"
        return Reason(Ne107.FAILURE, text, "replace the instrument: nothing is written there any more")
    if written.life is not None and written.total >= WORN * written.life:
        text = f"has a memory behind {name} that lasts {written.life} writes, {written.total} are done"
        return Reason(Ne107.MAINTENANCE, text, "order another instrument")
    if written.per_day is not None and written.today >= written.per_day:
        text = f"was written {name} {written.today} times today, its budget is {written.per_day} a day"
        return Reason(Ne107.MAINTENANCE, text, "see who writes so often")
    return None
