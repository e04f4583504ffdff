"""What happens to an interlock, as a phrase."""

from __future__ import annotations

from tilctl.journal import interlock_events as ev


def of_an_interlock(event: ev.InterlockEvent) -> str:
    """Return one event of an interlock or a permissive as a phrase for a person."""
    name = f"{event.unit}/{event.interlock}" if event.unit else event.interlock
    match event:
        case ev.InterlockTripped():
            return f"interlock {name} tripped: {event.text}"
        case ev.InterlockReset():
            return f"interlock {name} reset{_by(event.by)}: {event.why}"
        case ev.InterlockBypassed():
            both = f"{event.by} ({event.role}) and {event.second} ({event.second_role})"
            again = "bypassed on" if event.renewed else "bypassed"
            return f"{name} {again} until {event.until} by {both}: {event.reason}"
        case ev.BypassEnded():
            return f"the bypass of {name} was ended{_by(event.by)}: {event.why}"


def _by(name: str) -> str:
    return f" by {name}" if name else ""
