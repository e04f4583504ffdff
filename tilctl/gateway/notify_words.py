"""What people are told of alarms, as JSON and as the text of an e-mail.

No name of a person is in it, and that of a batch only where the site wants it: it leaves the house.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.message import EmailMessage
from typing import Any, cast

from tilctl.commands.envelope import rfc3339
from tilctl.gateway.notify_plan import Message, Standing, Why

LISTED = 20
"""Alarms that are named in one message beside the first; the rest is counted."""
_LONGEST = 500
_TOLD = ("cause", "consequence", "action", "allowed")
_WHY: Mapping[str, str] = {
    "stands": "stands", "raised": "new", "escalated": "nobody has acknowledged it", "repeated": "still waits",
    "acknowledged": "acknowledged", "over": "over", "set_aside": "set aside",
}  # fmt: skip
_KIND: Mapping[str, str] = {
    "restarted": "after a start of the controller", "escalated": "nobody has acknowledged", "raised": "alarm",
    "repeated": "still waits", "over": "over", "test": "test",
}  # fmt: skip

Body = dict[str, Any]


def body_of(message: Message, identity: Mapping[str, str], number: str, now: datetime, *, batch: bool) -> Body:
    """Return a message as JSON-able values; `identity` has site and node, `number` is unique, `batch`: name it."""
    alarms = [_alarm(why, alarm, batch=batch) for why, alarm in message.alarms]
    return {
        "id": number, "kind": message.kind, **identity, "t": rfc3339(now), "to": message.to.name,
        "waiting": dict(message.count), "first": alarms[0], "others": alarms[1 : LISTED + 1],
        "more": max(0, len(alarms) - LISTED - 1),
    }  # fmt: skip


def trial_body(to: str, identity: Mapping[str, str], number: str, now: datetime) -> Body:
    """Return a message that says that there is nothing to do."""
    first = {
        "unit": "site", "alarm": "test", "why": "raised", "priority": "low", "since": rfc3339(now), "state": "normal",
        "text": "This is a test of the notification. Nothing is wrong, and nothing is to be done.",
    }  # fmt: skip
    return {
        "id": number, "kind": "test", **identity, "t": rfc3339(now), "to": to, "waiting": {}, "first": first,
        "others": [], "more": 0,
    }  # fmt: skip


def _alarm(why: Why, alarm: Standing, *, batch: bool) -> Body:
    told: Body = {
        "unit": alarm.unit, "alarm": alarm.alarm, "why": why, "priority": alarm.priority,
        "text": _line(alarm.text)[:_LONGEST], "since": alarm.since, "state": alarm.state.value,
    }  # fmt: skip
    told |= {key: _line(alarm.help[key])[:_LONGEST] for key in _TOLD if key in alarm.help}
    if batch and alarm.batch:
        told["batch"] = alarm.batch
    return told


def mail_of(body: Mapping[str, Any], sender: str, to: str) -> EmailMessage:
    """Return a message as an e-mail in plain text."""
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, to
    mail["Subject"] = _subject(body)
    mail["Message-ID"] = f"<{body['id']}@{body['node']}.{body['site']}.tilctl>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no machine answers it
    mail.set_content("\n".join(_text(body)))
    return mail


def _subject(body: Mapping[str, Any]) -> str:
    first = cast("Mapping[str, Any]", body["first"])
    many = len(body["others"]) + int(body["more"])
    more = f" and {many} more" if many else ""
    what = f"{first['priority']}: {first['unit']} {first['alarm']}: {first['text']}"
    return _line(f"[{body['site']}/{body['node']}] {_KIND[str(body['kind'])]}: {what[:120]}{more}")


def _text(body: Mapping[str, Any]) -> list[str]:
    waiting = cast("Mapping[str, int]", body["waiting"])
    counts = ", ".join(f"{count} {priority}" for priority, count in waiting.items())
    lines = [f"{body['site']}/{body['node']} at {body['t']}: {_KIND[str(body['kind'])]}"]
    lines += [f"waiting for a person: {counts or 'nothing'}", ""]
    for alarm in (body["first"], *body["others"]):
        lines += [_line(f"{alarm['unit']} {alarm['alarm']} ({alarm['priority']}), {_WHY[str(alarm['why'])]}")]
        lines += [f"  {_line(alarm['text'])}", f"  {str(alarm['state']).replace('_', ' ')}, since {alarm['since']}"]
        lines += [f"  {key}: {_line(alarm[key])}" for key in ("batch", *_TOLD) if key in alarm]
    if body["more"]:
        lines.append(f"and {body['more']} more: see `tilctl alarm list`")
    return lines


def _line(text: object) -> str:
    """Return a text as one printable line: it stands in the head of an e-mail, and comes from files."""
    return "".join(c if c.isprintable() else " " for c in str(text))
