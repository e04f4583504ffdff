"""The figures of alarms for Prometheus: how they stand, and how well they serve whoever watches all units together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tilctl.guard.alarm import AlarmState
from tilctl.record.alarm_figures import STALE_AFTER, AlarmFigures

PRIORITIES = ("critical", "high", "medium", "low")
ASIDE = ("out_of_service", "shelved", "suppressed")
STATES = (*(state.value for state in AlarmState if state is not AlarmState.NORMAL), *ASIDE)


@dataclass(frozen=True, slots=True)
class AlarmNumbers:
    """What is exported of alarms, made by the core, never changed; times in s.

    `standing` by unit, priority and state (or how it is set aside), `active` by unit and priority, `announced` likewise
    since this process began, `notifications` by channel and what came of them.
    """

    units: Sequence[str] = ()
    standing: Mapping[tuple[str, str, str], int] = field(default_factory=dict[tuple[str, str, str], int])
    active: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    announced: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    flood: bool = False
    flood_s: float = 0.0
    chattering: int = 0
    stale: int = 0
    oldest_unacknowledged_s: float = 0.0
    top: Sequence[tuple[str, int]] = ()
    notifications: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])


def numbers(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    figures: AlarmFigures,
    now: datetime,
    notifications: Mapping[tuple[str, str], int],
) -> AlarmNumbers:
    """Return the figures of now, from the alarms of each unit as they are shown and what was counted."""
    figures.at(now)
    standing, active = Counter[tuple[str, str, str]](), Counter[tuple[str, str]]()
    stale, oldest = 0, 0.0
    for unit, alarms in rows.items():
        for row in alarms:
            priority = str(row["priority"])
            aside: Mapping[str, Any] = row.get("aside") or {}
            state = next((how for how in ASIDE if how in aside), str(row["state"]))
            standing[unit, priority, state] += 1
            age = now - datetime.fromisoformat(str(row["since"]))
            if row["active"]:
                active[unit, priority] += 1
                stale += age > STALE_AFTER
            if row["waiting"]:
                oldest = max(oldest, age.total_seconds())
    return AlarmNumbers(
        tuple(rows), dict(standing), dict(active), dict(figures.by_unit), figures.in_flood, figures.flood_s,
        len(figures.chatters(now)), stale, oldest, tuple(figures.top()), dict(notifications),
    )  # fmt: skip


def families(alarms: AlarmNumbers) -> Iterable[Metric]:
    """Yield the metrics of alarms; every unit, priority and state is there, with 0 where there is none."""
    labels = ["unit", "priority"]
    active = GaugeMetricFamily("tilctl_alarms_active", "Active alarms", labels=labels)
    standing = GaugeMetricFamily(
        "tilctl_alarms", "Alarms that are not normal, by state or how they are set aside", labels=[*labels, "state"]
    )
    announced = CounterMetricFamily("tilctl_alarm_announcements", "Alarms that people were told of", labels=labels)
    for unit in alarms.units:
        for priority in PRIORITIES:
            active.add_metric([unit, priority], alarms.active.get((unit, priority), 0))
            announced.add_metric([unit, priority], alarms.announced.get((unit, priority), 0))
            for state in STATES:
                standing.add_metric([unit, priority, state], alarms.standing.get((unit, priority, state), 0))
    yield from (active, standing, announced)
    text = "1 while more alarms come than a person can answer: 10 in 10 min, until fewer than 5"
    yield GaugeMetricFamily("tilctl_alarm_flood", text, value=float(alarms.flood))
    yield CounterMetricFamily("tilctl_alarm_flood_seconds", "How long that was so", value=alarms.flood_s)
    text = "Alarms that came three times within a minute, in the last hour"
    yield GaugeMetricFamily("tilctl_alarms_chattering", text, value=alarms.chattering)
    yield GaugeMetricFamily("tilctl_alarms_stale", "Alarms that have been active for over a day", value=alarms.stale)
    text = "For how long an alarm has waited for a person, of those that wait longest"
    yield GaugeMetricFamily("tilctl_alarm_oldest_unacknowledged_seconds", text, value=alarms.oldest_unacknowledged_s)
    top = GaugeMetricFamily(
        "tilctl_alarm_top", "The ten alarms that came most often, and how often", labels=["unit", "alarm"]
    )
    for name, count in alarms.top:
        unit, _, alarm = name.partition("/")
        top.add_metric([unit, alarm], count)
    yield top
    text = "Messages to people by channel and what came of them; retried counts failed tries"
    told = CounterMetricFamily("tilctl_notifications", text, labels=["channel", "result"])
    for labels_of, count in sorted(alarms.notifications.items()):
        told.add_metric(labels_of, count)
    yield told
