"""What happens to an alarm, as a phrase."""

from __future__ import annotations

from tilctl.journal import alarms as ev

ASIDE = {"shelved": "shelved", "suppressed": "suppressed by design", "out_of_service": "out of service"}


def of_an_alarm(event: ev.AlarmEvent) -> str:
    """Return one event of an alarm as a phrase for a person."""
    alarm = f"alarm {event.unit}/{event.alarm}" if event.unit else f"alarm {event.alarm}"
    match event:
        case ev.AlarmRaised():
            return f"{alarm} ({event.priority}): {event.text}"
        case ev.AlarmCleared():
            return f"{alarm} is over"
        case ev.AlarmAcknowledged():
            return f"{alarm} acknowledged by {event.by}"
        case ev.AlarmReset():
            return f"{alarm} reset by {event.by}"
        case ev.AlarmAgain():
            return f"{alarm} announced again: " + ("to the next person" if event.why == "escalated" else "still there")
        case ev.AlarmSetAside():
            until = f" until {event.until}" if event.until else ""
            order = f", work order {event.work_order}" if event.work_order else ""
            by = "" if event.by == "design" else f" by {event.by}"
            return f"{alarm} {ASIDE[event.how]}{by}{until}: {event.reason}{order}"
        case ev.AlarmSetBack():
            return f"{alarm} no longer {ASIDE[event.how]}, by {event.by}" + (
                f": {event.reason}" if event.reason else ""
            )
