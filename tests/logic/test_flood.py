"""How many commands are looked at, and which of two connections has heard a hold first."""

from __future__ import annotations

from tilctl.gateway.flood import CLIENT_BURST, CLIENT_RATE, MAX_KNOWN, TOTAL_BURST, TOTAL_RATE, FloodGate
from tilctl.gateway.protective import MAX_PAIRS, PAIRED_S, PROTECTIVE, Pairs


class Gate(FloodGate):
    """One whose time the test sets."""

    def __init__(self) -> None:
        self.t = 0.0
        super().__init__(lambda: self.t)

    def let(self, count: int, client: str, verb: str = "resume", unit: str = "cell1") -> int:
        return sum(self.lets(client, unit, verb) for _ in range(count))


def test_one_client_has_so_many_at_once_and_so_many_a_second() -> None:
    gate = Gate()
    assert gate.let(1000, "flood") == CLIENT_BURST
    gate.t = 3.0
    assert gate.let(1000, "flood") == 3 * CLIENT_RATE
    gate.t = 1e6
    assert gate.let(1000, "flood") == CLIENT_BURST, "no more than that, however long it was silent"


def test_one_that_floods_takes_nothing_from_another() -> None:
    gate = Gate()
    gate.let(1000, "flood")
    assert gate.let(10, "desk") == 10


def test_many_names_together_are_bounded_and_forgotten() -> None:
    gate = Gate()
    assert sum(gate.let(1, f"c{n}") for n in range(5000)) == TOTAL_BURST
    assert len(gate._known) == MAX_KNOWN
    gate.t = 2.0
    assert sum(gate.let(1, f"d{n}") for n in range(5000)) == 2 * TOTAL_RATE


def test_hold_stop_and_abort_pass_whatever_else_is_sent() -> None:
    gate = Gate()
    for n in range(2000):
        gate.let(1, f"c{n}")
    gate.let(1000, "desk")
    assert [gate.let(1, "desk", verb) for verb in PROTECTIVE] == [1, 1, 1]
    gate.let(10_000, "flood", "hold")
    assert gate.let(1, "desk", "hold") == 1
    assert gate.let(1, "flood", "abort") == 1, "its holds do not use up its abort"
    assert gate.let(1, "flood", "hold", "cell2") == 1, "nor its holds of another unit"
    assert gate.let(1000, "flood", "hold") == 0


def test_what_both_connections_hear_is_handed_on_once() -> None:
    for first in (True, False):
        pairs = Pairs()
        heard = [pairs.first("t", b"p", 0.1 * n, line=line) for n, line in enumerate((first, not first) * 3)]
        assert heard == [True, False] * 3
    pairs = Pairs()
    heard = [pairs.first("t", b"p", 0.0, line=line) for line in (True, True, False, False, False)]
    assert heard == [True, True, False, False, True], "two sent in a row, and a third that the line missed"


def test_what_one_connection_misses_comes_by_the_other() -> None:
    pairs = Pairs()
    assert pairs.first("t", b"p", 0.0, line=False), "the line is away"
    assert not pairs.first("t", b"p", PAIRED_S, line=True)
    assert pairs.first("t", b"q", 0.0, line=False)
    assert pairs.first("t", b"q", PAIRED_S + 0.1, line=True), "the same bytes much later are another command"
    assert pairs.first("u", b"q", 0.0, line=True), "another topic is another command"
    for n in range(3 * MAX_PAIRS):
        assert pairs.first("t", str(n).encode(), 1.0, line=True)
    assert len(pairs._lead) <= MAX_PAIRS
