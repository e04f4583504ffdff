"""NE 107: what is known of a device becomes one class, with reasons; and what profiles may say of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.calibration import Calibration
from devices.diagnosis import Ne107, Sign
from devices.document import DocumentError, parse
from devices.instrument import DeviceState, DeviceStatus
from devices.profile import compile_profile, load_profile
from devices.reading import Quality
from tilctl.guard.ne107 import MOST_REASONS, SOON, Known, Reason, Verdict, Written, judge

TODAY = date(2026, 3, 1)
ONLINE = DeviceStatus(DeviceState.ONLINE)
WELL = Known(ONLINE, TODAY, qualities={"flow": Quality.GOOD, "temperature": Quality.GOOD})
TEMPLATE = (Path(__file__).parents[2] / "devices" / "template.yaml").read_text("utf-8")


def held(expires: date, made: date = date(2026, 1, 1)) -> Calibration:
    return Calibration("probe", ((37.0, 37.5),), made, "ab", expires)


def calibrated(expires: date, made: date = date(2026, 1, 1)) -> Known:
    return replace(WELL, calibrations={"probe_1": (held(expires, made), frozenset({"flow"}))})


def showing(status: Ne107, *, on: bool | None = True) -> Known:
    return replace(WELL, signs={Sign(status, "bit"): on})


def having(quality: Quality | None) -> Known:
    return replace(WELL, qualities={"flow": quality})


def wearing(today: int, total: int) -> Known:
    return replace(WELL, written=(Written("set", today, total, 100, 1000),))


CASES: dict[str, tuple[Known, Ne107, str]] = {
    "well": (WELL, Ne107.GOOD, ""),
    "nobody asked": (replace(WELL, tried=False), Ne107.UNKNOWN, "not asked yet"),
    "being checked": (replace(WELL, status=DeviceStatus(DeviceState.CHECKING)), Ne107.UNKNOWN, "is being checked"),
    "a reply is lost": (
        replace(WELL, status=DeviceStatus(DeviceState.CHECKING, "no reply")), Ne107.FAILURE, "is checking (no reply)",
    ),
    "silent": (replace(WELL, status=DeviceStatus(DeviceState.OFFLINE, "x")), Ne107.FAILURE, "is offline (x)"),
    "another one": (replace(WELL, status=DeviceStatus(DeviceState.FAULT, "x")), Ne107.FAILURE, "is fault (x)"),
    "bad": (having(Quality.BAD), Ne107.FAILURE, "no value for flow"),
    "stands still": (having(Quality.STALE), Ne107.FAILURE, "old value for flow"),
    "not sure": (having(Quality.UNCERTAIN), Ne107.OUT_OF_SPECIFICATION, "not sure of flow"),
    "never read": (having(None), Ne107.UNKNOWN, "has not said flow yet"),
    "shows failure": (showing(Ne107.FAILURE), Ne107.FAILURE, "shows bit"),
    "shows check": (showing(Ne107.FUNCTION_CHECK), Ne107.FUNCTION_CHECK, "shows bit"),
    "shows limits": (showing(Ne107.OUT_OF_SPECIFICATION), Ne107.OUT_OF_SPECIFICATION, "shows bit"),
    "shows wear": (showing(Ne107.MAINTENANCE), Ne107.MAINTENANCE, "shows bit"),
    "shows nothing": (showing(Ne107.FAILURE, on=False), Ne107.GOOD, ""),
    "bit never seen": (showing(Ne107.FAILURE, on=None), Ne107.UNKNOWN, "has not said bit yet"),
    "last day": (calibrated(TODAY), Ne107.MAINTENANCE, "is to be calibrated: calibration probe_1 expires on"),
    "due": (calibrated(TODAY + SOON - timedelta(days=1)), Ne107.MAINTENANCE, "expires on"),
    "not due": (calibrated(TODAY + SOON), Ne107.GOOD, ""),
    "expired": (calibrated(TODAY - timedelta(days=1)), Ne107.OUT_OF_SPECIFICATION, "probe_1 expired on"),
    "of days to come": (
        calibrated(date(2099, 1, 1), TODAY + timedelta(days=1)), Ne107.OUT_OF_SPECIFICATION, "is to come",
    ),
    "writes left": (wearing(99, 899), Ne107.GOOD, ""),
    "day is spent": (wearing(100, 100), Ne107.MAINTENANCE, "100 times today"),
    "worn": (wearing(0, 900), Ne107.MAINTENANCE, "lasts 1000 writes"),
    "worn out": (wearing(0, 1000), Ne107.FAILURE, "used up the memory"),
    "tripped": (replace(WELL, tripped=True), Ne107.MAINTENANCE, "own watchdog"),
    "disagree": (replace(WELL, disagree=True), Ne107.FAILURE, "two probes that disagree"),
    "a part failed": (
        replace(WELL, parts={"heater": judge(having(Quality.BAD))}), Ne107.FAILURE, "has heater, which gives no value",
    ),
    "a part unknown": (replace(WELL, parts={"heater": judge(having(None))}), Ne107.UNKNOWN, "has heater, which"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_known_becomes_a_class_with_a_reason(case: str) -> None:
    known, status, text = CASES[case]
    verdict = judge(known)
    assert verdict.status is status, verdict
    assert text in "; ".join(verdict.texts)
    assert bool(verdict.texts) is (status is not Ne107.GOOD), "what is not good says why"


def test_the_order_is_failure_check_specification_maintenance() -> None:
    ranked = sorted(Ne107, key=lambda each: each.rank)
    assert [each.letter for each in ranked] == ["", "", "M", "S", "C", "F"]
    assert ranked[:2] == [Ne107.GOOD, Ne107.UNKNOWN]


_REASON = st.builds(Reason, st.sampled_from([s for s in Ne107 if s.letter]), st.text(max_size=3))
_KNOWN = st.sampled_from([known for known, _, _ in CASES.values() if known.tried and not known.parts])


def _both(a: Known, b: Known) -> Known:
    """All that is known of two devices, as if of one; the worse state of communication."""
    worst = max(a.status, b.status, key=lambda s: (judge(replace(WELL, status=s)).status.rank, s.text))
    return Known(
        status=worst,
        today=TODAY,
        qualities={**a.qualities, **{f"other_{k}": q for k, q in b.qualities.items()}},
        signs={**a.signs, **{Sign(s.status, "other"): on for s, on in b.signs.items()}},
        calibrations={**a.calibrations, **{f"other_{k}": c for k, c in b.calibrations.items()}},
        written=(*a.written, *b.written),
        tripped=a.tripped or b.tripped,
        disagree=a.disagree or b.disagree,
    )


@given(_KNOWN, _KNOWN)
def test_one_trouble_more_makes_nothing_better(a: Known, b: Known) -> None:
    both = judge(_both(a, b)).status.rank
    graver = [judge(each).status.rank for each in (a, b) if judge(each).status is not Ne107.UNKNOWN]
    assert both >= max(graver, default=0)
    if Ne107.UNKNOWN in (judge(a).status, judge(b).status):
        assert judge(_both(a, b)).status is not Ne107.GOOD


@given(st.lists(_REASON, max_size=30), st.lists(st.text(max_size=3), max_size=3))
def test_a_verdict_says_the_worst_and_not_too_much(reasons: list[Reason], unknown: list[str]) -> None:
    ranked = tuple(sorted(reasons, key=lambda reason: -reason.status.rank))
    verdict = Verdict(ranked, tuple(unknown))
    assert verdict.status.rank >= max((r.status.rank for r in reasons), default=0)
    assert (verdict.status is Ne107.GOOD) is (not reasons and not unknown), "unknown is not good"
    assert len(verdict.texts) <= MOST_REASONS + 1


def test_what_is_doubtful_is_what_the_reason_is_about() -> None:
    measured = frozenset({"flow", "temperature"})
    assert judge(calibrated(TODAY - timedelta(days=1))).doubts(measured) == {"flow"}
    assert judge(showing(Ne107.OUT_OF_SPECIFICATION)).doubts(measured) == measured
    assert judge(showing(Ne107.FUNCTION_CHECK)).doubts(measured) == measured
    assert judge(showing(Ne107.FAILURE)).doubts(measured) == frozenset(), "a failure is what the driver says"
    assert judge(calibrated(TODAY)).doubts(measured) == frozenset(), "what is due soon is good"


def test_a_unit_is_concerned_by_its_own_points_only() -> None:
    verdict = judge(replace(WELL, qualities={"mass_1": Quality.BAD, "mass_2": Quality.GOOD}))
    assert verdict.about(["mass_1"]).status is Ne107.FAILURE
    assert verdict.about(["mass_2"]).status is Ne107.GOOD
    silent = judge(replace(WELL, status=DeviceStatus(DeviceState.OFFLINE, "x")))
    assert silent.about(["mass_2"]).status is Ne107.FAILURE, "what is about the whole device concerns all"


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("failure: [sensor_fault]", "failure: [sensor_fautl]", "there is no bit or point sensor_fautl"),
        ("failure: [sensor_fault]", "failure: [flow]", "flow is a value, not a sign"),
        ("failure: [sensor_fault]", "failure: [mode]", "mode is a symbol: say which"),
        ("failure: [sensor_fault]", "failure: [sensor_fault=on]", "sensor_fault has no symbols"),
        ("failure: [sensor_fault]", "failure: [sensor_fault, warming_up]", "warming_up has a class already: failure"),
        ("[mode=local]", "[mode=manual]", "mode has no symbol manual"),
        ("state: {fc: 3, addr: 10, count: 1, scan: fast", "state: {fc: 3, addr: 10, count: 1, scan: demand", "demand"),
        ("maintenance_required: []", "maintenance: []", "maintenance"),
    ],
)
def test_a_profile_says_only_what_can_be_seen(old: str, new: str, finding: str) -> None:
    assert old in TEMPLATE
    with pytest.raises(DocumentError, match=finding):
        compile_profile(parse(TEMPLATE.replace(old, new), "template.yaml"))


def test_a_sign_stands_while_it_reads_so() -> None:
    signs = {str(sign): sign for sign in compile_profile(parse(TEMPLATE, "template.yaml")).ne107}
    assert [str(sign) for sign in signs.values()] == ["sensor_fault", "mode=local", "warming_up"]
    assert signs["mode=local"].stands("local")
    assert not signs["mode=local"].stands("remote")
    (error,) = load_profile("voegtlin-redy").ne107
    assert (error.stands(0.0), error.stands(4.0)) == (False, True)


def test_over_mqtt_it_is_the_same() -> None:
    text = (Path(__file__).parents[2] / "devices" / "profiles" / "pioreactor.yaml").read_text("utf-8")
    said = compile_profile(parse(text.replace("\nfailsafe:", "\nne107: {failure: [state=lost]}\nfailsafe:"), "x")).ne107
    assert said == (Sign(Ne107.FAILURE, "state", "lost"),)
    with pytest.raises(DocumentError, match="state has no symbol gone"):
        compile_profile(parse(text.replace("\nfailsafe:", "\nne107: {failure: [state=gone]}\nfailsafe:"), "x"))
