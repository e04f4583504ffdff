"""What fails for days is on the log, and does not fill it."""

from __future__ import annotations

from itertools import pairwise

from tilctl.plant.complaints import FIRST_AGAIN, LONGEST, TEXTS, Complaints

DAY = 86400


def told(complaints: Complaints, seconds: range, text: str = "no answer") -> list[int]:
    return [t for t in seconds if complaints.failed("pump", "stop", t, text)]


def test_the_first_is_told_and_then_at_doubling_intervals_up_to_one_an_hour() -> None:
    moments = told(Complaints(), range(0, DAY, 5))
    gaps = [b - a for a, b in pairwise(moments)]
    assert moments[0] == 0
    assert gaps[:6] == [FIRST_AGAIN * 2**n for n in range(6)]
    assert set(gaps[6:]) == {LONGEST}
    assert 24 <= len(moments) <= 32


def test_a_new_text_is_told_at_once_and_a_known_one_is_not() -> None:
    complaints = Complaints()
    assert told(complaints, range(0, 10, 5)) == [0]
    assert told(complaints, range(10, 20, 5), "connection refused") == [10]
    for t in range(20, 50, 10):
        assert told(complaints, range(t, t + 5, 5)) == []
        assert told(complaints, range(t + 5, t + 10, 5), "connection refused") == []


def test_a_text_that_is_always_another_cannot_fill_the_log() -> None:
    complaints = Complaints()
    heard = [t for t in range(0, 3600, 5) if complaints.failed("pump", "stop", t, f"reply {t} was late")]
    assert TEXTS <= len(heard) <= TEXTS + 6


def test_its_end_says_how_often_it_was_tried_and_the_next_failure_is_a_first_one() -> None:
    complaints = Complaints()
    told(complaints, range(0, 500, 5))
    assert complaints.worked("pump", "close") is None, "another command of it"
    over = complaints.worked("pump", "stop")
    assert over is not None
    assert (over.tries, over.since) == (100, 0)
    assert complaints.worked("pump", "stop") is None
    assert told(complaints, range(500, 510, 5)) == [500]
