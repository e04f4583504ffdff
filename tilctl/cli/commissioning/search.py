"""`tilctl device scan`: which units of a bus answer, within the bounds that a person gives, and what they may be.

Nothing is written, and each unit is asked for what the known profiles say of their identities and for one register;
one that keeps silent is asked twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from devices import codec
from devices.modbus.bus import ModbusBus
from devices.modbus.pdu import BadReplyError, ExceptionReplyError, NoReplyError, NotSentError
from devices.profile_types import Identity, Profile
from tilctl.cli.exits import CommandFailed, Exit

MOST = 247
SILENT_AFTER = 2  # requests without any answer
_ABSENT = frozenset({10, 11})  # a gateway answers for a unit that does not


@dataclass
class Found:
    """One unit from which something comes; `understood` once it was a reply, `strange` says what came wrong.

    `fits` are ids of profiles, `serial` by the first of them.
    """

    unit: int
    fits: list[str] = field(default_factory=list[str])
    serial: str = ""
    strange: str = ""
    understood: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "unit": self.unit, "fits": self.fits, "serial": self.serial, "strange": self.strange,
            "understood": self.understood,
        }  # fmt: skip


def units_of(text: str, most: int) -> list[int]:
    """Return the units of `1-20`, `3`, or `1-4,9`; raises CommandFailed for what is none, or more than `most`."""
    units: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            raise CommandFailed(Exit.BAD_INPUT, f"--units: {part!r} is no range of units: expected 1-20 or 3") from None
        if not 1 <= low <= high <= MOST:
            raise CommandFailed(Exit.BAD_INPUT, f"--units: {part!r}: units are 1 to {MOST}, the lower one first")
        units.update(dict.fromkeys(range(low, high + 1)))
    if len(units) > most:
        text = f"--units: {len(units)} units are more than {most}; ask for fewer, or raise the bound with --max"
        raise CommandFailed(Exit.BAD_INPUT, text)
    return list(units)


async def search(bus: ModbusBus, units: Iterable[int], profiles: Sequence[Profile]) -> list[Found]:
    """Ask each unit who it is; raises NotSentError when the bus itself cannot be reached."""
    found: list[Found] = []
    for unit in units:
        there = await _asked(bus, unit, profiles)
        if there is not None:
            found.append(there)
    return found


async def _asked(bus: ModbusBus, unit: int, profiles: Sequence[Profile]) -> Found | None:
    there, silent = Found(unit), 0
    places = {(p.identity.fc, p.identity.addr, p.identity.count): None for p in profiles if p.identity}
    for fc, addr, count in [*places, (3, 0, 1)]:
        if silent >= SILENT_AFTER:
            break
        try:
            words = await bus.read(unit, fc, addr, count)
        except ExceptionReplyError as error:
            if error.code in _ABSENT:
                return None
            there.understood, silent = True, 0
        except NoReplyError:
            silent += 1
        except BadReplyError as error:
            there.strange = str(error)
            break
        except NotSentError:
            if not there.understood and not silent:
                raise
            silent += 1
        else:
            there.understood, silent = True, 0
            _compare(there, profiles, (fc, addr, count), words)
    return there if there.understood or there.strange else None


def _compare(there: Found, profiles: Sequence[Profile], asked: tuple[int, int, int], words: list[int]) -> None:
    for profile in profiles:
        identity = profile.identity
        if identity is None or (identity.fc, identity.addr, identity.count) != asked or not identity.setting.expected:
            continue
        if _fits(identity, words):
            there.fits.append(profile.id)
            if identity.serial is not None and not there.serial:
                start = identity.serial.addr - identity.addr
                raw = words[start : start + identity.serial.words]
                with contextlib.suppress(codec.CodecError):
                    there.serial = str(codec.decode(identity.serial.type, raw, profile.order))


def _fits(identity: Identity, words: list[int]) -> bool:
    setting = identity.setting
    start = setting.addr - identity.addr
    try:
        return setting.holds(codec.decode(setting.type, words[start : start + setting.words], setting.order))
    except codec.CodecError:
        return False
