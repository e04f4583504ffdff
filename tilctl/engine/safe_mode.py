"""Safe mode: a controller that died three times before it was in control watches and alarms, and starts nothing.

What is decided here is decided from the site's record alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tilctl.engine.state import parse_time
from tilctl.journal import events as ev
from tilctl.journal.chain import Record

DEATHS = 3
WITHIN = timedelta(minutes=10)


@dataclass
class _Boot:
    name: str
    t: datetime
    ready: bool = False


def wanted(records: Sequence[Record], now: datetime) -> tuple[str, bool]:
    """Return why the boot that begins now stays in safe mode ("" where it does not), and whether that is on record.

    `records` are those before this boot.  Safe mode, once entered, lasts over restarts until a person leaves it; a
    boot counts as dead when neither its readiness nor a sign of life of it is on record.
    """
    entered = ""
    boots: list[_Boot] = []
    for record in records:
        match record.event:
            case ev.BootStarted() as event:
                if boots and event.previous_beat is not None and parse_time(event.previous_beat) > boots[-1].t:
                    boots[-1].ready = True  # it beat, so it was in control
                boots.append(_Boot(event.boot, parse_time(record.t)))
            case ev.BootReady():
                for boot in boots[-1:]:
                    boot.ready = True
            case ev.SafeMode() as event:
                entered = event.reason if event.on else ""
                if not event.on:  # whoever left it has seen to the cause; its boot counts, those before do not
                    boots = boots[-1:]
            case _:
                pass
    if entered:
        return entered, True
    dead = boots[-DEATHS:]
    if len(dead) < DEATHS or any(boot.ready for boot in dead) or now - dead[0].t > WITHIN:
        return "", False
    minutes = WITHIN.total_seconds() / 60
    return f"{DEATHS} starts within {minutes:.0f} min died before recovery was complete", False
