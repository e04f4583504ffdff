"""Faults as data: files say what is wrong with them and where; schedules repeat, and keep to their profile."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.document import DocumentError, parse
from devices.profile import load_profile
from simulators.faults import Fault, check, load_faults, profiles, schedule
from simulators.faults.__main__ import main
from simulators.faults.model import kind_of
from simulators.faults.schedule import BUSES, INSTRUMENTS, checked
from simulators.faults.vocabulary import HARNESS, KINDS, WORDS, table

DAY = 86400.0
STEPS = ["rep/medium", "split/flask/draw"]
SITE = {name: load_profile(f"sim-{name.partition('_')[0]}") for name in INSTRUMENTS}
GOOD = """\
faults:
  - {at: {time: 76 h}, for: 5 min, where: pump_media, what: silent}
  - {at: {step: rep/medium, after: 20 s}, where: pump_media, what: reboot}
  - {at: {step: rep/medium}, for: 2 min, where: "working:pump", what: occlusion}
  - {at: {time: 1 d}, for: 1 h, where: scales, what: noise, point: mass_7, sigma: 3 g}
  - {at: {time: 1 d}, where: "bus:fluidics", what: late, delay: 300 ms}
  - {at: {time: 2 d}, where: incubator, what: local_change, target: temperature, value: 30 degC}
  - {at: {time: 2 d}, for: 10 min, where: controller, what: power_cut, both: 1}
  - {at: {time: 2 d}, where: clock, what: step, by: -2 h}
  - {at: {time: 3 d}, for: 2 d, where: operator, what: wrong_volume, by: 10 %}
  - {at: {time: 3 d}, where: pump_cells, what: rollover}
  - {at: {time: 3 d}, for: 1 h, where: pump_cells, what: busy, n: 3}
  - {at: {time: 3 d}, for: 1 h, where: incubator, what: local_change, target: unit}
  - {at: {time: 3 d}, for: 1 h, where: "bus:fluidics", what: idle_close}
  - {at: {time: 3 d}, for: 1 h, where: "bus:fluidics", what: second_client_refused}
  - {at: {time: 3 d}, for: 1 h, where: scales, what: sensor_break, point: mass_2}
  - {at: {time: 3 d}, for: 1 h, where: incubator, what: eeprom_worn, left: 2}
  - {at: {time: 3 d}, where: pump_cells, what: watchdog_trip}
  - {at: {time: 3 d}, for: 1 h, where: freezer, what: garbage_before, bytes: 7}
  - {at: {time: 3 d}, for: 1 h, where: valves_cells, what: bad_crc}
"""


def read(folder: Path, text: str) -> tuple[Fault, ...]:
    """Return the faults of a file of this text."""
    file = folder / "f.yaml"
    file.write_text(text)
    return load_faults(file)


def test_a_file_becomes_faults(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(GOOD)
    faults = load_faults(file)
    check(faults, SITE, BUSES)
    assert faults[0] == Fault("pump_media", "silent", time_s=76 * 3600.0, for_s=300.0)
    assert faults[1] == Fault("pump_media", "reboot", step="rep/medium", after_s=20.0)
    assert (faults[3].args, faults[3].units["sigma"]) == ({"point": "mass_7", "sigma": 3.0}, "g")
    assert faults[4].number("delay") == pytest.approx(0.3)
    assert faults[7].number("by") == -7200.0
    assert faults[9].number("before") == 50.0, "its default"
    assert faults[9].place == (str(file), 11, 5)
    assert (faults[10].number("n"), faults[10].number("code")) == (3.0, 6.0)
    assert [faults[i].lasts_s for i in (0, 1, 4, 5, 11)] == [300.0, 0.0, math.inf, 0.0, 3600.0]
    assert (faults[12].number("idle"), faults[13].number("clients"), faults[15].number("left")) == (60.0, 1.0, 2.0)
    with pytest.raises(KeyError):
        faults[0].number("delay")


def test_a_step_is_met_in_any_round() -> None:
    fault = Fault("pump_media", "reboot", step="split/flask/draw")
    assert fault.meets("split/flask/2/draw")
    assert fault.meets("split/flask/draw")
    assert not fault.meets("split/flask/draw/3x")
    exact = Fault("pump_media", "reboot", step="split/flask/2/draw")
    assert exact.meets("split/flask/2/draw")
    assert not exact.meets("split/flask/3/draw")
    assert not Fault("pump_media", "reboot", time_s=1.0).meets("")


WRONG = {
    "what: silent}": ("what: asleep}", 2, "there is no fault 'asleep'"),
    "where: pump_media, what: silent": ("where: scales, what: occlusion", 2, "means nothing at scales"),
    "{time: 76 h}": ("{time: 76}", 2, "no unit"),
    "{step: rep/medium, after: 20 s}": ("{after: 20 s}", 3, "give either"),
    "for: 5 min": ("for: 0 s", 2, "greater than 0"),
    "what: reboot": ("what: reboot, for: 3 s", 3, "happens in a moment"),
    "for: 10 min, where: controller": ("where: controller", 8, "needs `for`"),
    "sigma: 3 g": ("sigma: 3 g, by: 2 g", 5, "takes no by"),
    ", sigma: 3 g": ("", 5, "needs sigma"),
    "delay: 300 ms": ("delay: 3 mL", 6, "measures volume"),
    "delay: 300": ("delay: 3000000", 6, "outside"),
    "target: temperature": ("target: pressure", 7, "not one of temperature, co2"),
    "value: 30 degC": ("value: 30 g", 7, "not in degC or %"),
    "by: 10 %": ("by: 90 %", 10, "outside"),
    "what: busy, n: 3": ("what: busy, n: 3000", 12, "outside 0 to 1000"),
    "target: temperature, value: 30 degC": ("target: temperature", 7, "needs value"),
    "where: incubator, what: local_change, target: temperature": (
        "for: 1 h, where: incubator, what: local_change, target: temperature",
        7,
        "in a moment",
    ),
    "target: unit": ("target: unit, value: 30 degC", 13, "leave `value` out"),
    'where: "bus:fluidics", what: idle_close': ("where: scales, what: idle_close", 14, "means nothing at scales"),
    "what: idle_close": ("what: idle_close, idle: 2 h", 14, "outside 1 to 3600 s"),
    "what: second_client_refused": ("what: second_client_refused, clients: 0", 15, "outside"),
    ", point: mass_2": ("", 16, "needs point"),
    "left: 2": ("left: -1", 17, "outside"),
    "for: 1 h, where: freezer, what: garbage_before, bytes: 7": (
        "for: 1 h, where: freezer, what: garbage_before, bytes: 65",
        19,
        "outside 1 to 64",
    ),
    "where: pump_cells, what: watchdog_trip": ("for: 1 h, where: pump_cells, what: watchdog_trip", 18, "in a moment"),
}


@pytest.mark.parametrize("written", WRONG, ids=[hint for _, _, hint in WRONG.values()])
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, written: str) -> None:
    instead, line, says = WRONG[written]
    assert GOOD.count(written) >= 1
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, GOOD.replace(written, instead, 1))
    finding = caught.value.diagnostics[0]
    assert (finding.line, finding.file) == (line, str(tmp_path / "f.yaml"))
    assert says in str(caught.value)


SITE_WRONG = {
    "where: pump_media, what: silent": ("where: pump_oil, what: silent", "there is no 'pump_oil' here"),
    "bus:fluidics": ("bus:hydraulics", "no bus 'hydraulics'"),
    "point: mass_7": ("point: mass_17", "no point 'mass_17'"),
    "sigma: 3 g": ("sigma: 3 mL", "mass_7 of scales is in g"),
    "value: 30 degC": ("value: 30 %", "the target temperature is in degC"),
    "where: incubator, what: local_change, target: t": (
        "where: pump_media, what: local_change, target: t",
        "pump_media has no set point of temperature",
    ),
    "point: mass_2": ("point: mass_22", "no point 'mass_22'"),
}


@pytest.mark.parametrize("written", SITE_WRONG)
def test_what_a_site_has_not_is_said_with_its_line(tmp_path: Path, written: str) -> None:
    instead, says = SITE_WRONG[written]
    faults = read(tmp_path, GOOD.replace(written, instead, 1))
    with pytest.raises(DocumentError) as caught:
        check(faults, SITE, BUSES)
    assert says in str(caught.value)
    assert "f.yaml" in str(caught.value)
    assert len(caught.value.diagnostics) == 1


def test_the_vocabulary_is_whole() -> None:
    rows = list(table())
    assert len(rows) == len(WORDS)
    assert all(text and "\n" not in text for *_, text in rows)
    assert {kind for word in WORDS for kind in word.kinds} == set(KINDS)
    wanted = """silent late busy gateway wrong_function wrong_unit wrong_transaction short_reply truncated cut half_open
        refuse_connect stale swapped_words reboot power_cut not_applied stuck noise offset nan rollover counter_reset
        bad_crc garbage_before idle_close second_client_refused sensor_break eeprom_worn watchdog_trip
        replaced slip slow_drip occlusion bag_empty clamp_stuck leak profile_abort local_change"""
    assert set(wanted.split()) <= {word.name for word in WORDS if not set(word.kinds) <= set(HARNESS)}
    pairs = [(word.name, kind) for word in WORDS for kind in word.kinds]
    assert len(pairs) == len(set(pairs)), "one meaning for each word and kind"


# --- schedules --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["mild", "rough", "cruel"]), st.integers(0, 2**32 - 1), st.floats(0.0, 40.0))
def test_a_schedule_is_sound_and_repeats(profile: str, seed: int, days: float) -> None:
    faults = schedule(profile, seed, STEPS, days * DAY)
    assert faults == schedule(profile, seed, STEPS, days * DAY)
    check(faults, SITE, BUSES)
    timed = [fault.time_s for fault in faults if fault.time_s is not None]
    assert timed == sorted(timed)
    assert all(0.0 <= t <= days * DAY + 0.1 for t in timed)
    for fault in faults:
        kind = kind_of(fault.where) or ""
        word = next(w for w in WORDS if w.name == fault.what and kind in w.kinds)
        assert (fault.for_s is None) or word.lasts != "moment"
        assert (fault.for_s is not None) or word.lasts != "while"
        assert (fault.time_s is None) == bool(fault.step)
        assert fault.step in ("", *STEPS)
        for name, arg in word.args.items():
            value = fault.args.get(name, arg.default)
            if not isinstance(value, str):
                assert value is not None
                assert not (arg.low < arg.high) or arg.low <= value <= arg.high


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1.0, 30.0))
def test_a_longer_horizon_only_adds(seed: int, days: float) -> None:
    short, long = (set(schedule("rough", seed, STEPS, x * DAY)) for x in (days, days + 5.0))
    assert short <= long


def test_seeds_differ_and_profiles_grow() -> None:
    assert len({schedule("rough", seed, STEPS, 5 * DAY) for seed in range(20)}) == 20
    mean = {p: sum(len(schedule(p, seed, STEPS, 22 * DAY)) for seed in range(20)) / 20 for p in profiles()}
    assert list(mean) == ["none", "mild", "rough", "cruel"]
    assert mean["none"] == 0.0
    assert 20 < mean["mild"] < mean["rough"] / 2 < mean["cruel"]


def test_a_share_is_aimed_at_the_given_steps() -> None:
    faults = [fault for seed in range(20) for fault in schedule("rough", seed, STEPS, 22 * DAY)]
    aimed = [fault for fault in faults if fault.time_s is None]
    assert 0.45 < len(aimed) / len(faults) < 0.55
    assert all(2.0 <= fault.after_s <= 300.0 for fault in aimed)
    assert {fault.where for fault in aimed if fault.what == "occlusion"} == {"working:pump"}
    assert all(fault.time_s is not None for fault in schedule("rough", 1, [], 22 * DAY))


def test_every_word_comes_up_in_time() -> None:
    seen = {f.what for seed in range(40) for f in schedule("cruel", seed, STEPS, 30 * DAY)}
    assert seen == {word.name for word in WORDS}


def test_another_process_draws_the_same() -> None:
    code = "from simulators.faults import schedule; print(*schedule('cruel', 7, ['a/b', 'c'], 2e6), sep='\\n')"
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.splitlines()
        for salt in ("1", "2")
    ]
    assert told[0] == told[1] == [str(fault) for fault in schedule("cruel", 7, ["a/b", "c"], 2e6)]


def test_another_site_has_its_own_places() -> None:
    here = {"incubator_2": "bioreactor", "pump_media_2": "pump"}
    faults = [f for seed in range(10) for f in schedule("cruel", seed, STEPS, 22 * DAY, instruments=here, buses=["b"])]
    places = {fault.where for fault in faults} - set(HARNESS)
    assert places == {"incubator_2", "pump_media_2", "bus:b", "devices", "working:pump"}


def test_an_unknown_profile_is_said() -> None:
    with pytest.raises(ValueError, match="there are none, mild, rough, cruel"):
        schedule("awful", 1, STEPS, DAY)


@pytest.mark.parametrize(
    "entry",
    [
        "{where: [pump], what: asleep, per_day: 1}",
        "{where: [scale], what: occlusion, per_day: 1, for: [1 s, 2 s]}",
        "{where: [pump], what: reboot, per_day: 1, for: [1 s, 2 s]}",
        "{where: [disk], what: full, per_day: 1}",
        "{where: [pump], what: late, per_day: 1, for: [1 s, 2 s]}",
        "{where: [pump], what: late, per_day: 1, for: [1 s, 2 s], delay: [2 s, 1 s]}",
        "{where: [pump], what: slip, per_day: 1, for: [1 s, 2 s], share: [1 %, 200 %]}",
        "{where: [pump], what: silent, per_day: 1, for: [1 s, 2 s], delay: 1 s}",
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(entry: str) -> None:
    text = f"profiles:\n  odd:\n    aimed: 0\n    after: [1 s, 2 s]\n    entries:\n      - {entry}\n"
    with pytest.raises(DocumentError) as caught:
        checked(parse(text, "odd.yaml"))
    assert caught.value.diagnostics[0].line == 6


def test_the_vocabulary_can_be_read_and_files_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{word.name}" in f"\n{shown}" and word.text.split()[0] in shown for word in WORDS)
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD)
    bad.write_text(GOOD.replace("silent", "asleep"))
    assert main([str(good)]) == 0
    assert main([str(good), str(bad)]) == 1
    assert f"{bad}:2:" in capsys.readouterr().err
