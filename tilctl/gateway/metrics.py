"""The figures for Prometheus: taken from one immutable snapshot at each scrape, so that nothing stale is exported.

Base units (degC, L, s, ratio) and the naming of that ecosystem; no label names a person, a patient or a batch. A
reading that is stale or bad is left out, and its age is exported beside: a dead gauge would keep its last value.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from devices.diagnosis import Ne107
from devices.modbus.statistics import LATENCY_BOUNDS_S
from devices.reading import Quality, Reading
from tilctl.gateway.alarm_metrics import AlarmNumbers, families

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bucket limits for times, s: from a flush to a fast disk up to a stuck bus."""

PARTS = ("loop", "scan", "journal", "batch")
"""The parts of the controller that are looked after (`tilctl.cli.wellness`)."""

_BASE: dict[str, tuple[str, float]] = {
    "degC": ("celsius", 1.0),
    "K": ("kelvin", 1.0),
    "mL": ("litres", 1e-3),
    "g": ("grams", 1.0),
    "s": ("seconds", 1.0),
    "mL/min": ("litres_per_second", 1e-3 / 60),
    "mbar": ("pascals", 100.0),
    "%": ("ratio", 0.01),
    "mmol/L": ("moles_per_cubic_metre", 1.0),
    "cells": ("cells", 1.0),
    "": ("value", 1.0),
    "bool": ("value", 1.0),
}
"""Canonical unit -> suffix and factor to the base unit."""


@dataclass(slots=True)
class Timing:
    """A histogram of times, filled by one thread: counts per bucket of `BOUNDS_S`, the last for all longer ones."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one time."""
        self.counts[bisect.bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    def frozen(self) -> tuple[tuple[int, ...], float]:
        """Return the counts and the sum as they are now."""
        return tuple(self.counts), self.total_s


@dataclass(frozen=True, slots=True)
class UnitFigures:
    """What is exported of one unit; `day` is None where no batch runs."""

    state_number: int
    state_version: int
    day: float | None
    prompts: int
    estimates: Sequence[Mapping[str, Any]] = ()
    """As `ControllerPort.status` shows them."""


Frozen = tuple[tuple[int, ...], float]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a scrape needs, made by the core, never changed.

    `readings` by tag with `now` (monotonic, s) to tell their age. `timings`, `depths` and `drops` by a short name
    (`scan_lateness`, `commit`, `loop_lag`; `mqtt`, `journal`; `telemetry`), `counters` by name and one label.
    """

    units: Mapping[str, UnitFigures]
    readings: Mapping[str, Reading]
    now: float
    timings: Mapping[str, Frozen] = field(default_factory=dict[str, Frozen])
    depths: Mapping[str, int] = field(default_factory=dict[str, int])
    drops: Mapping[str, int] = field(default_factory=dict[str, int])
    commands: Mapping[str, int] = field(default_factory=dict[str, int])
    refusals: Mapping[str, int] = field(default_factory=dict[str, int])
    bus_requests: Mapping[str, int] = field(default_factory=dict[str, int])
    bus_timeouts: Mapping[str, int] = field(default_factory=dict[str, int])
    device_latency: Mapping[str, Frozen] = field(default_factory=dict[str, Frozen])
    """Of each instrument on a Modbus bus: replies by `LATENCY_BOUNDS_S`, the last for all longer, and their sum, s."""
    scans: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Of each instrument: how long ago its scan came round, whether it could be read or not, and its period, s."""
    heartbeat: tuple[float, float] | None = None
    """How long ago the last sign of life reached the disk, and how often one is due, s."""
    head_unexported: float = 0.0
    """For how long the broker has lacked the latest heads of the records, s."""
    started: float = 0.0
    """When this process began, Unix time, s."""
    synchronised: bool | None = None
    """Whether the wall clock follows a time server; None where the system does not tell."""
    mqtt_connected: bool = False
    mode: str = "normal"
    """What the controller does: opening, recovering, normal, safe (mode), closing."""
    clock_offset: float = 0.0
    """Seconds that the wall clock stands before the record's time."""
    unwell: Mapping[str, str] = field(default_factory=dict[str, str])
    """Which part of the controller is not well (loop, scan, journal, batch), and why."""
    records: Mapping[str, tuple[bool, float]] = field(default_factory=dict[str, tuple[bool, float]])
    """Of each unit (and `site`): whether its record has failed, and how long its oldest event awaits the disk, s."""
    devices: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of each device the class of NE 107 (`devices.diagnosis`)."""
    disk: tuple[int, int] | None = None
    """Free and total bytes of the data folder's file system."""
    interlocks: Sequence[Mapping[str, Any]] = ()
    """Interlocks and permissives as `ControllerPort.status` shows them."""
    alarms: AlarmNumbers = field(default_factory=AlarmNumbers)
    self_test: Mapping[str, float] = field(default_factory=dict[str, float])
    """Loop-back commands `passed`, `failed`, `not_allowed`, and how long the last was under way (`last_s`)."""


class Figures(Collector):
    """Turns the latest snapshot into metrics."""

    def __init__(self, snapshot: Callable[[], Snapshot | None], build: Mapping[str, str]) -> None:
        """Take what returns the snapshot of now, or None where there is none, and what this build is (`version`).

        `snapshot` is called in threads of the HTTP server.
        """
        self._snapshot = snapshot
        self._build = dict(build)

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of a snapshot of now; where there is none, the build and that the loop does not answer."""
        build = InfoMetricFamily("tilctl_build", "This program")
        build.add_metric((), self._build)
        yield build
        snapshot = self._snapshot()
        text = "1 while the controller's loop answers a scrape; 0 leaves nothing else to tell"
        yield GaugeMetricFamily("tilctl_loop_answers", text, value=float(snapshot is not None))
        if snapshot is None:
            return
        yield from _units(snapshot)
        yield from _estimates(snapshot)
        yield from _interlocks(snapshot)
        yield from _readings(snapshot)
        yield from _works(snapshot)
        yield from _record(snapshot)
        yield from _wellness(snapshot)
        yield from _time(snapshot)
        yield from _devices(snapshot)
        yield from families(snapshot.alarms)

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: names depend on what the site has."""
        return ()


def registry(snapshot: Callable[[], Snapshot | None], build: Mapping[str, str]) -> CollectorRegistry:
    """Return a registry of its own with these figures."""
    own = CollectorRegistry()
    own.register(Figures(snapshot, build))
    return own


def _units(snapshot: Snapshot) -> Iterable[Metric]:
    state = GaugeMetricFamily(
        "tilctl_unit_state", "State of the unit as a number (Running 50, Held 60)", labels=["unit"]
    )
    version = CounterMetricFamily("tilctl_unit_transitions", "Transitions of the unit's state", labels=["unit"])
    day = GaugeMetricFamily("tilctl_batch_biological_seconds", "Biological time of the batch", labels=["unit"])
    prompts = GaugeMetricFamily("tilctl_prompts_open", "Questions that wait for a person", labels=["unit"])
    for name, unit in snapshot.units.items():
        state.add_metric([name], unit.state_number)
        version.add_metric([name], unit.state_version)
        if unit.day is not None:
            day.add_metric([name], unit.day * 86400)
        prompts.add_metric([name], unit.prompts)
    return state, version, day, prompts


def _estimates(snapshot: Snapshot) -> Iterable[Metric]:
    """Yield what is estimated; what is not known has no value, and says so beside."""
    names = ["unit", "estimate"]
    known = GaugeMetricFamily("tilctl_estimate_known", "1 while an estimate is known, else 0", labels=names)
    short = GaugeMetricFamily("tilctl_estimate_short", "1 where the forecast lies below its floor", labels=names)
    text = "Estimated viable cells, uncalibrated: median and 95 % interval, now and at the forecast's moment"
    cells = GaugeMetricFamily("tilctl_estimate_cells", text, labels=[*names, "when", "bound"])
    for unit, figures in snapshot.units.items():
        for row in figures.estimates:
            labels: list[str] = [unit, str(row["name"])]
            end: Mapping[str, Any] = row["forecast"] or {}
            known.add_metric(labels, float(row["now"] is not None))
            if end.get("short") is not None:
                short.add_metric(labels, float(end["short"]))
            for when, values in (("now", row), ("end", end)):
                for bound, key in (("median", "now"), ("low", "low"), ("high", "high")):
                    if values.get(key) is not None:
                        cells.add_metric([*labels, when, bound], values[key])
    return known, short, cells


def _interlocks(snapshot: Snapshot) -> Iterable[Metric]:
    for kind, state, text in (
        ("interlock", "tripped", "Whether an interlock is tripped or latched"),
        ("permissive", "forbids", "Whether a permissive forbids"),
    ):
        names = ["unit", kind]
        acts = GaugeMetricFamily(f"tilctl_{kind}_{state}", text, labels=names)
        bypassed = GaugeMetricFamily(f"tilctl_{kind}_bypassed", "Whether it is bypassed", labels=names)
        unknown = GaugeMetricFamily(f"tilctl_{kind}_unknown", "Whether it cannot be judged", labels=names)
        for row in snapshot.interlocks:
            if row["kind"] != kind:
                continue
            labels = [str(row["unit"]), str(row["name"])]
            acts.add_metric(labels, float(row["state"] in ("tripped", "latched", "forbids")))
            bypassed.add_metric(labels, float(row["bypass"] is not None))
            unknown.add_metric(labels, float(bool(row["unknown"])))
        yield from (acts, bypassed, unknown)


def _readings(snapshot: Snapshot) -> Iterable[Metric]:
    families: dict[str, GaugeMetricFamily] = {}
    age = GaugeMetricFamily("tilctl_reading_age_seconds", "Age of the latest reading", labels=["tag"])
    good = GaugeMetricFamily("tilctl_reading_good", "1 if the reading is good, else 0", labels=["tag"])
    oldest = 0.0
    for tag, reading in snapshot.readings.items():
        seconds = max(0.0, snapshot.now - reading.at)
        oldest = max(oldest, seconds)
        age.add_metric([tag], seconds)
        good.add_metric([tag], float(reading.quality is Quality.GOOD))
        usable = reading.quality in (Quality.GOOD, Quality.UNCERTAIN) and isinstance(reading.value, int | float)
        if usable and reading.unit in _BASE:
            suffix, factor = _BASE[reading.unit]
            name = f"tilctl_reading_{suffix}"
            family = families.setdefault(name, GaugeMetricFamily(name, "A usable reading", labels=["tag"]))
            family.add_metric([tag], float(reading.value or 0.0) * factor)
    yield from families.values()
    yield from (
        age,
        good,
        GaugeMetricFamily("tilctl_reading_oldest_seconds", "Age of the oldest reading", value=oldest),
    )


def _buckets(bounds: Sequence[float], frozen: Frozen) -> tuple[list[tuple[str, float]], float]:
    """Return what a histogram is made of: cumulated buckets and their sum."""
    counts, total = frozen
    limits = [*(str(bound) for bound in bounds), "+Inf"]
    return [(limit, float(sum(counts[: index + 1]))) for index, limit in enumerate(limits)], total


def _works(snapshot: Snapshot) -> Iterable[Metric]:
    for name, (counts, total) in snapshot.timings.items():
        family = HistogramMetricFamily(f"tilctl_{name}_seconds", f"Times of {name.replace('_', ' ')}")
        family.add_metric([], *_buckets(BOUNDS_S, (counts, total)))
        yield family
    latency = HistogramMetricFamily("tilctl_device_latency_seconds", "From a request to its reply", labels=["device"])
    for device, frozen in snapshot.device_latency.items():
        latency.add_metric([device], *_buckets(LATENCY_BOUNDS_S, frozen))
    yield latency
    depth = GaugeMetricFamily("tilctl_queue_depth", "What waits", labels=["queue"])
    for name, value in snapshot.depths.items():
        depth.add_metric([name], value)
    yield depth
    yield _counter("tilctl_dropped", "What was dropped because a queue was full", "queue", snapshot.drops)
    yield _counter("tilctl_commands_answered", "Commands by final answer", "status", snapshot.commands)
    yield _counter("tilctl_commands_refused", "Refused commands by code", "code", snapshot.refusals)
    yield _counter("tilctl_modbus_requests", "Requests on a bus", "bus", snapshot.bus_requests)
    yield _counter("tilctl_modbus_timeouts", "Requests without an answer in time", "bus", snapshot.bus_timeouts)
    connected = float(snapshot.mqtt_connected)
    yield GaugeMetricFamily("tilctl_mqtt_connected", "1 while the broker has us", value=connected)
    safe = float(snapshot.mode == "safe")
    yield GaugeMetricFamily("tilctl_safe_mode", "1 in safe mode: watched, nothing goes on by itself", value=safe)
    ready = float(snapshot.mode == "normal")
    yield GaugeMetricFamily("tilctl_recovered", "1 once recovery is complete and every command is taken", value=ready)


def _wellness(snapshot: Snapshot) -> Iterable[Metric]:
    well = GaugeMetricFamily("tilctl_well", "1 while a part of the controller is well, else 0", labels=["part"])
    for part in PARTS:
        well.add_metric([part], float(part not in snapshot.unwell))
    age = GaugeMetricFamily("tilctl_scan_age_seconds", "Since the scan of a device came round", labels=["device"])
    period = GaugeMetricFamily("tilctl_scan_period_seconds", "Pace of the scan of a device", labels=["device"])
    for device, (seconds, every) in snapshot.scans.items():
        age.add_metric([device], seconds)
        period.add_metric([device], every)
    return well, age, period


def _time(snapshot: Snapshot) -> Iterable[Metric]:
    name, text = "tilctl_clock_offset_seconds", "How far the wall clock stands before the record's time"
    yield GaugeMetricFamily(name, text, value=snapshot.clock_offset)
    if snapshot.synchronised is not None:
        name, text = "tilctl_clock_synchronised", "1 while the wall clock follows a time server; absent where unknown"
        yield GaugeMetricFamily(name, text, value=float(snapshot.synchronised))
    yield GaugeMetricFamily("tilctl_start_time_seconds", "Unix time at which the process began", value=snapshot.started)


def _devices(snapshot: Snapshot) -> Iterable[Metric]:
    text = "1 for the class of NE 107 that the device is of, 0 for the others"
    family = GaugeMetricFamily("tilctl_device_status", text, labels=["device", "status"])
    for device, status in snapshot.devices.items():
        for each in Ne107:
            family.add_metric([device, each.value], float(each.value == status))
    yield family


def _record(snapshot: Snapshot) -> Iterable[Metric]:
    failed = GaugeMetricFamily("tilctl_journal_failed", "1 while the record cannot be written", labels=["unit"])
    oldest = GaugeMetricFamily("tilctl_journal_oldest_pending_seconds", "Age of the oldest event", labels=["unit"])
    for unit, (is_failed, seconds) in snapshot.records.items():
        failed.add_metric([unit], float(is_failed))
        oldest.add_metric([unit], seconds)
    yield from (failed, oldest)
    if snapshot.heartbeat is not None:
        age, every = snapshot.heartbeat
        yield GaugeMetricFamily("tilctl_heartbeat_age_seconds", "Since a sign of life reached the disk", value=age)
        yield GaugeMetricFamily("tilctl_heartbeat_period_seconds", "How often one is due", value=every)
    text = "For how long the broker has lacked the latest heads of the records; 0 where it has them"
    yield GaugeMetricFamily("tilctl_head_unexported_seconds", text, value=snapshot.head_unexported)
    if snapshot.disk is not None:
        free, total = snapshot.disk
        yield GaugeMetricFamily("tilctl_data_free_bytes", "Free room for the records", value=free)
        yield GaugeMetricFamily("tilctl_data_total_bytes", "Size of the file system of the records", value=total)
    tests = {name: int(value) for name, value in snapshot.self_test.items() if name != "last_s"}
    yield _counter("tilctl_mqtt_selftests", "Commands to ourselves by what came of them", "result", tests)
    if "last_s" in snapshot.self_test:
        text = "How long the last command to ourselves was under way"
        yield GaugeMetricFamily("tilctl_mqtt_selftest_seconds", text, value=snapshot.self_test["last_s"])


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([str(key)], value)
    return family
