"""What a person is told of an alarm beside its text, and how it behaves: the alarms that the program itself raises.

Those of a site, a profile or a recipe bring their own (`devices.alarm`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from devices.alarm import AlarmFields
from devices.quantity import parse_as

RE_ALARM_S: Mapping[str, float] = {"critical": 1800.0}
"""s after which an alarm that was acknowledged and is still there is announced anew, by priority (engineering default);
an alarm may bring its own."""


@dataclass(frozen=True, slots=True)
class Details:
    """How an alarm behaves (`devices.alarm.AlarmFields`); `re_alarm` in s, None for that of its priority."""

    latching: bool = False
    re_alarm: float | None = None
    group: str = ""
    help: Mapping[str, str] = field(default_factory=dict[str, str])


def details_of(declared: AlarmFields) -> Details:
    """Return the behaviour of a declared alarm, whose amounts were checked."""
    return Details(
        declared.latch == "yes",
        None if declared.re_alarm is None else parse_as(declared.re_alarm, "s"),
        declared.group or "",
        declared.help,
    )


def _told(cause: str, consequence: str, action: str, allowed: str) -> Mapping[str, str]:
    return {"cause": cause, "consequence": consequence, "action": action, "allowed": allowed}


BUILT_IN: Mapping[str, Mapping[str, str]] = {
    "not-safe-": _told(
        "a pump, valve or heater did not take its safe state, or did not confirm it",
        "liquid may go on flowing, or the cells may leave their temperature",
        "look at the instrument and put it into its safe state by hand; it is tried again every 5 s",
        "at once",
    ),
    "in-doubt-": _told(
        "a dose was commanded, and its evidence (scales, totaliser) does not say what became of it",
        "the batch stands held; nothing is dosed again by itself",
        "weigh or measure, answer the question with what was delivered, then restart",
        "1 h",
    ),
    "target-lost-": _told(
        "an instrument no longer holds its set point: a power cut, a hand at the panel",
        "the cells drift from their conditions; it is written again",
        "look at the instrument; if it comes again, find who or what changes it",
        "30 min",
    ),
    "control-": _told(
        "a reading that a control keeps is not known, or too low with all that it may move at its top, or an instrument"
        " does not take what it is told",
        "nothing is moved any more; cells without oxygen are harmed within hours (general knowledge, unverified)",
        "look at the probe, the rocker and the gas; rock by hand, give more oxygen, or take cells away",
        "30 min",
    ),
    "interlock-": _told(
        "a limit of the site was passed, and the interlock has acted",
        "its outputs stay safe until it is reset",
        "find the cause, see that the value is back, then restart or reset as the interlock says",
        "30 min",
    ),
    "not-cut-off-": _told(
        "an interlock acted, and its instrument did not take it",
        "the heater may still be on: cells die above 41 degC within minutes",
        "switch the instrument off by hand",
        "5 min",
    ),
    "overdue-": _told(
        "a question was not answered in time",
        "the step waits; the cells are kept at their targets",
        "answer it, or record why it is late",
        "as the recipe says",
    ),
    "max-hold-": _told(
        "the batch is held for longer than this step allows",
        "the cells may suffer from what does not happen",
        "restart, or decide with quality what becomes of the batch",
        "at once",
    ),
    "freezer-silent-": _told(
        "a freezer does not answer in a run",
        "the device goes on by itself; nobody sees how",
        "go to the freezer, read its display, see to its connection",
        "15 min",
    ),
    "freeze-failed-": _told(
        "a freezing run did not come to its end",
        "bags may stand between 4 and -80 degC",
        "look at the bags, decide what becomes of them, answer the question",
        "15 min",
    ),
    "restarted": _told(
        "the controller was started anew in a batch (power, update, a crash)",
        "the batch is held until a person has looked",
        "compare what stands there with the record, then restart",
        "as the step under way allows",
    ),
    "release-reopened": _told(
        "a lot was released while results were pending, and one of them contradicts the release",
        "product that may not be given is out of the hands of this site",
        "stop the use of the lot, find where it is, sign its rejection",
        "at once",
    ),
    "safe-mode": _told(
        "the controller died three times before it was in control",
        "it watches, alarms and makes safe; nothing goes on by itself",
        "find the cause in the log, then leave safe mode",
        "as the step under way allows",
    ),
    "disk-low": _told(
        "the disk of the records is nearly full",
        "no batch is started; if it fills, the running one is held",
        "make room, or add a disk",
        "hours",
    ),
    "short-": _told(
        "a bag holds less than the rest of the recipe takes from it, by the ledger",
        "a later step cannot be carried out whole",
        "bring another bag, or correct the ledger, before that step",
        "as the text says",
    ),
    "below-floor-": _told(
        "cells grow more slowly than the recipe needs, or a measurement was wrong; estimates are uncalibrated",
        "the batch will probably not reach its minimum",
        "count again; tell those who decide: more time within the window, or no further step on these cells",
        "as the text says",
    ),
    "no-forecast-": _told(
        "too few measurements, or old ones",
        "nobody is warned if the batch will not reach its minimum",
        "count the cells, or look at them by other means",
        "next visit",
    ),
    "implausible-": _told(
        "a counting error, a wrong unit or dilution, a swapped sample; or cells that do what nobody expected",
        "the estimate does not use it; what the recipe does with it, it does",
        "measure again, and compare",
        "4 h",
    ),
    "estimate-broken-": _told(
        "a fault of this program",
        "nothing is estimated; the batch goes on as without",
        "report it with the journal",
        "next visit",
    ),
    "clock-stepped": _told(
        "the wall clock was set, or lost its source",
        "waits and due moments are not touched; times on other systems may differ",
        "see to the time service of this machine",
        "next visit",
    ),
    "device-replaced": _told(
        "another instrument answers than the one the batch began with",
        "its calibration and its settings may be others; the batch is held",
        "check it, then restart: a restart accepts it",
        "as the step under way allows",
    ),
    "mass-mismatch": _told(
        "a container does not weigh what the ledger expects",
        "a bag was changed, or liquid went where it should not; the batch is held",
        "look for a leak or an exchanged bag, correct the ledger, then restart",
        "30 min",
    ),
    "watchdog-": _told(
        "an instrument's own watchdog has stopped it: the controller did not feed it",
        "a dose stands still and is not complete",
        "see why the controller stood still; the rest is dosed after a restart",
        "1 h",
    ),
    "step-failed": _told(
        "a step could not do what it should",
        "the batch is held, the cells are kept at their targets",
        "do what the text says, then restart",
        "as the step under way allows",
    ),
    "restart-failed": _told(
        "what must hold before going on could not be re-established",
        "the batch stays held",
        "see to the instrument that is named, then restart",
        "30 min",
    ),
    "perfusion-rate-": _told(
        "a value that the rate of a perfusion follows is missing",
        "the last rate stands; cells that grow on get too little medium",
        "give the missing result, or look at the instrument that is named",
        "12 h",
    ),
    "recovery-failed": _told(
        "coming back after an outage broke off",
        "the batch is held",
        "look at the plant and at the log, then restart",
        "30 min",
    ),
    "not-on-record": _told(
        "the disk failed while the batch was made safe",
        "the record does not say what the batch came to",
        "see to the disk, compare with what stands there, then restart",
        "1 h",
    ),
    "internal-error": _told(
        "a fault of this program",
        "the batch is held, the cells are kept at their targets",
        "look at the plant, report it with the journal, then restart",
        "30 min",
    ),
    "notify-failed": _told(
        "a webhook or the mail server did not take what a person was to be told, for 10 min",
        "that person hears of no alarm; those on MQTT and on the screens do",
        "see to the network and to the server, try it with `tilctl alarm test-notify`, tell the person by phone",
        "30 min",
    ),
    "invariant-": _told(
        "something was found that must never be",
        "the batch is held, the cells are kept at their targets",
        "look at the plant, report it with the journal, then restart",
        "30 min",
    ),
}
"""Cause, consequence, action and time allowed of what the program raises itself, by the beginning of the id.

The times allowed are engineering defaults, after the project's table of excursions."""

_UNKNOWN = _told(
    "a value that the condition needs is stale, bad or missing",
    "the condition protects nothing until the value is back",
    "see to the instrument that is named; watch the cells by other means meanwhile",
    "30 min",
)


def built_in(alarm: str) -> Mapping[str, str]:
    """Return what is told of an alarm that the program raises itself, nothing where it is not known."""
    if alarm.endswith("-invalid"):
        return _UNKNOWN
    for start, told in BUILT_IN.items():
        if alarm.startswith(start):
            return told
    return {}


def blinded_by(device: str) -> str:
    """Return the first-out group of all that is not known because an instrument is silent, its failure first."""
    return f"unknown-{device}"
