"""Values that no sensor gives: frozen to the last digit, or leapt; and the noise that is neither."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.document import DocumentError
from devices.plausible import LEAPT_S, Plausible
from devices.profile import load_profile
from devices.reading import Quality, Reading, bad

PROFILE = load_profile("sim-incubator")
FROZEN_S, SLOPE = 600.0, 30.0  # as that profile has them


class Probe:
    """One temperature as it is read, by its block."""

    def __init__(self) -> None:
        self.judge = Plausible(PROFILE)

    def read(self, value: float | None, at: float) -> Quality:
        reading = bad("degC", at) if value is None else Reading(value, "degC", Quality.GOOD, at)
        others = {"co2": Reading(5.0 + at * 1e-6, "%", Quality.GOOD, at)}
        return self.judge.judged("pv", {"temperature": reading, **others})["temperature"].quality

    def reads(self, values: Sequence[float], every: float, begin: float = 0.0) -> list[Quality]:
        return [self.read(value, begin + every * index) for index, value in enumerate(values)]


def test_a_value_that_stands_still_to_its_last_digit_is_stale_after_its_time_and_good_when_it_moves() -> None:
    probe = Probe()
    assert set(probe.reads([37.0] * 600, 1.0)) == {Quality.GOOD}
    assert probe.read(37.0, FROZEN_S) is Quality.STALE
    assert probe.read(37.0, 3 * FROZEN_S) is Quality.STALE
    assert probe.read(37.001, 3 * FROZEN_S + 1) is Quality.GOOD


@given(st.lists(st.floats(36.9, 37.1), min_size=2, max_size=50), st.floats(1.0, 300.0))
def test_noise_is_neither_frozen_nor_a_leap(values: list[float], every: float) -> None:
    noise = [value + index * 1e-9 for index, value in enumerate(values)]  # no two alike
    assert set(Probe().reads(noise, every)) == {Quality.GOOD}


def test_a_leap_is_doubted_for_a_while_and_what_comes_slowly_is_not() -> None:
    probe = Probe()
    probe.read(37.0, 0.0)
    assert probe.read(37.0 + SLOPE / 60 + 0.01, 1.0) is Quality.UNCERTAIN
    assert probe.read(37.6, LEAPT_S) is Quality.UNCERTAIN, "also when it stays there"
    assert probe.read(37.7, LEAPT_S + 1.0) is Quality.GOOD
    slow = Probe()
    assert set(slow.reads([37.0 + SLOPE / 60 * step for step in range(60)], 1.0)) == {Quality.GOOD}


def test_what_is_bad_stays_bad_and_freezes_nothing() -> None:
    probe = Probe()
    probe.read(37.0, 0.0)
    assert probe.read(None, 300.0) is Quality.BAD
    assert probe.read(37.0, 599.0) is Quality.GOOD
    assert probe.read(37.0, 600.0) is Quality.STALE, "a gap is no movement"


@pytest.mark.parametrize("key", ["frozen", "slope"])
def test_a_profile_says_it_of_measured_numbers_only(key: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "devices" / "profiles" / "sim-incubator.yaml").read_text()
    value = "10 min" if key == "frozen" else "5"
    old = "bits: {0: heater_fault"
    assert old in text
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace(old, f"{key}: {value}, {old}"))
    with pytest.raises(DocumentError, match="measured numbers"):
        load_profile(path)
