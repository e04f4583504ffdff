"""The ledger: double entries, so that nothing comes from nowhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from tilctl.plant.ledger import SAMPLES, Ledger

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
