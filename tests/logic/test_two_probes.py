"""Two probes for one value, on a bad night: one that comes and goes must not hide that they differ."""

from __future__ import annotations

import pytest

from devices.equipment.probes import Disagreement, TwoProbes
from devices.reading import Quality, Reading, bad

RULE = Disagreement(within=0.8, lasts=300.0)
NOTHING = bad("degC", 0.0)


def reads(value: float, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(value, "degC", quality, 0.0)


def test_probes_that_agree_give_the_first_and_one_alone_is_uncertain():
    probes = TwoProbes(RULE)
    assert probes.judged(reads(37.0), reads(37.7), 0.0) == reads(37.0)
    assert probes.disagree is False
    alone = reads(37.7, Quality.UNCERTAIN)
    assert probes.judged(NOTHING, reads(37.7), 1.0) == alone
    assert probes.disagree is None, "unknown is not false"
    assert probes.judged(NOTHING, NOTHING, 2.0).value is None


def test_a_disagreement_is_believed_after_its_time_and_ends_when_they_are_seen_to_agree():
    probes = TwoProbes(RULE)
    assert probes.judged(reads(37.0), reads(60.0), 0.0).value == 37.0
    assert probes.judged(reads(37.0), reads(60.0), 299.0).value == 37.0
    assert probes.judged(reads(37.0), reads(60.0), 300.0).quality is Quality.BAD
    assert probes.disagree is True
    for first, second in ((reads(37.0), NOTHING), (NOTHING, reads(60.0)), (NOTHING, NOTHING)):
        assert probes.judged(first, second, 301.0).value is None, "a reading that is missing ends nothing"
        assert probes.disagree is True
    assert probes.judged(reads(37.0), reads(37.1), 302.0) == reads(37.0)
    assert probes.disagree is False


def test_a_probe_that_comes_and_goes_does_not_begin_the_time_anew():
    probes = TwoProbes(RULE)
    given = [
        probes.judged(reads(37.0), NOTHING if second % 290 == 0 else reads(60.0), float(second)).quality
        for second in range(1, 3600)
    ]
    assert given[289] is Quality.UNCERTAIN
    assert set(given[300:]) == {Quality.BAD}


@pytest.mark.parametrize("quality", [Quality.STALE, Quality.BAD])
def test_what_is_stale_confirms_nothing(quality: Quality):
    probes = TwoProbes(RULE)
    assert probes.judged(reads(37.0), reads(37.0, quality), 0.0).quality is Quality.UNCERTAIN
