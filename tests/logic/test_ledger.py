"""The ledger: double entries, so that nothing comes from nowhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from tilctl.plant.ledger import CORRECTIONS, EVAPORATED, SAMPLES, Ledger, line_account

NAMES = ["media", "pool", *(f"pre[{i}]" for i in range(1, 12))]
MOVES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([*NAMES, SAMPLES]), st.floats(0.0, 5000.0)), max_size=40
)


def filled() -> Ledger:
    ledger = Ledger()
    for place, name in enumerate(NAMES):
        ledger.mounted(name, f"h{place}", "bag", 100.0 * place, 30.0, f"LOT-{place}")
    return ledger


@given(MOVES)
def test_volume_is_conserved_and_each_account_is_the_sum_of_its_entries(moves: list[tuple[str, str, float]]) -> None:
    ledger = filled()
    before = {container.name: container.volume_ml for container in ledger}
    for source, destination, volume in moves:
        ledger.moved(source, destination, volume)
    assert sum(c.volume_ml for c in ledger) == approx(sum(before.values()), abs=1e-6)
    for container in ledger:
        came = sum(v for _, to, v in moves if to == container.name)
        went = sum(v for from_, _, v in moves if from_ == container.name)
        assert container.volume_ml == approx(before.get(container.name, 0.0) + came - went, abs=1e-6)
        assert container.mounted_ml == before.get(container.name, 0.0), "what it held when it came is kept"


def test_samples_have_an_account_that_is_mounted_nowhere() -> None:
    ledger = filled()
    ledger.moved("pool", SAMPLES, 2.0)
    samples = ledger.get(SAMPLES)
    assert samples is not None
    assert (samples.volume_ml, samples.mounted) == (2.0, False)
    assert all(c.name != SAMPLES for c in ledger if c.mounted)


def test_a_family_is_in_the_order_of_its_numbers() -> None:
    assert [c.index for c in filled().family("pre")] == list(range(1, 12)), "2 comes before 10"
    assert [c.name for c in filled().family("pre[3]")] == ["pre[3]"]
    assert [c.name for c in filled().family("media")] == ["media"]
    assert filled().family("nothing") == []


def test_what_was_taken_away_is_known_and_is_nowhere() -> None:
    ledger = filled()
    ledger.unmounted("pre[2]")
    ledger.unmounted("never")
    assert ledger.at("h3") is None
    gone = ledger.get("pre[2]")
    assert gone is not None
    assert (gone.mounted, gone.volume_ml) == (False, 300.0)
    assert [c.index for c in ledger.family("pre")] == [1, *range(3, 12)]
    ledger.mounted("pre[2]", "h3", "bag", 50.0, None, "LOT-new")
    again = ledger.at("h3")
    assert again is not None
    assert (again.name, again.volume_ml, again.scan) == ("pre[2]", 50.0, "LOT-new")


def test_a_family_of_one_goes_by_its_bare_name() -> None:
    ledger = Ledger()
    ledger.mounted("grow[1]", "p1", "vessel", 5.0, None, "")
    found = ledger.get("grow")
    assert found is not None
    assert found.name == "grow[1]"
    assert ledger.get("other") is None


def test_an_entry_between_unknown_accounts_is_an_error() -> None:
    with pytest.raises(KeyError):
        filled().moved("nowhere", "media", 1.0)


ENTRIES = st.lists(
    st.one_of(
        st.tuples(st.just("mount"), st.sampled_from(NAMES), st.floats(0.0, 5000.0), st.floats(0.0, 50.0)),
        st.tuples(st.just("unmount"), st.sampled_from(NAMES)),
        st.tuples(
            st.just("move"), st.sampled_from(NAMES), st.sampled_from([*NAMES, SAMPLES]), st.floats(0.0, 5000.0),
            st.floats(-5.0, 5.0),
        ),
        st.tuples(st.just("correct"), st.sampled_from(NAMES), st.floats(-500.0, 500.0), st.booleans()),
        st.tuples(st.just("evaporate"), st.floats(0.0, 30 * 86400.0)),
    ),
    max_size=40,
)  # fmt: skip


@given(ENTRIES)
def test_the_sum_over_all_accounts_is_nothing_at_any_moment(entries: list[tuple[Any, ...]]) -> None:
    ledger = filled()
    for entry in entries:
        match entry:
            case ("mount", name, volume, lost):
                ledger.mounted(name, "h1", "bag", volume, None, "", lost)
            case ("unmount", name):
                ledger.unmounted(name)
            case ("move", source, destination, volume, kept):
                ledger.moved(source, destination, volume, "media", kept)
            case ("correct", name, change, from_mounting):
                ledger.corrected(name, change, from_mounting=from_mounting)
            case (_, moment):
                ledger.evaporate(moment)
        assert ledger.total() == approx(0.0, abs=1e-6)


def test_a_line_keeps_its_share_and_gives_it_back() -> None:
    ledger = filled()
    ledger.moved("media", "pool", 50.0, "media", 4.0)
    ledger.moved("media", "pool", 20.0, "media", -1.0)
    media, pool = ledger.get("media"), ledger.get("pool")
    assert media is not None
    assert pool is not None
    assert (media.volume_ml, pool.volume_ml) == (approx(-73.0), approx(170.0))
    assert ledger.kept_by("media") == approx(3.0)
    assert ledger.others[line_account("media")] == approx(3.0)


def test_what_evaporates_is_taken_off_by_the_days_while_it_hangs_and_never_below_nothing() -> None:
    ledger = Ledger()
    ledger.mounted("flask", "p1", "vessel", 100.0, 220.0, "", 2.0)
    ledger.mounted("bag", "h1", "bag", 100.0, 130.0, "")
    for day in range(3):
        ledger.evaporate(day * 86400.0)
    flask, bag = ledger.get("flask"), ledger.get("bag")
    assert flask is not None
    assert bag is not None
    assert (flask.volume_ml, bag.volume_ml, ledger.others[EVAPORATED]) == (approx(96.0), 100.0, approx(4.0))
    assert flask.expected_g(1.0) == approx(216.0)
    ledger.unmounted("flask")
    ledger.evaporate(10 * 86400.0)
    assert ledger.others[EVAPORATED] == approx(4.0)
    ledger.evaporate(5 * 86400.0)  # a clock that was set back takes nothing off
    ledger.mounted("flask", "p1", "vessel", 1.0, 121.0, "", 2.0)
    ledger.evaporate(20 * 86400.0)
    assert (ledger.get("flask") or flask).volume_ml == 0.0


def test_a_correction_changes_what_it_should_weigh_unless_the_label_was_wrong() -> None:
    ledger = filled()
    pool = ledger.get("pool")
    assert pool is not None
    ledger.corrected("pool", -30.0, from_mounting=False)
    ledger.corrected("nothing", -30.0, from_mounting=False)
    assert (ledger.get("pool") or pool).expected_g(1.0) == approx((pool.mass_g or 0.0) - 30.0)
    ledger.corrected("pool", -30.0, from_mounting=True)
    assert (ledger.get("pool") or pool).volume_ml == approx(pool.volume_ml - 60.0)
    assert (ledger.get("pool") or pool).expected_g(1.0) == approx((pool.mass_g or 0.0) - 30.0)
    assert ledger.others[CORRECTIONS] == approx(60.0)
