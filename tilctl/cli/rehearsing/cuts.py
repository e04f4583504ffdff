"""Power cuts of the controller, and commands out of turn, at the boundaries of its record: where they find most.

Faults come at times and steps (`simulators.faults`); these come at the n-th event of a kind: in the moment in which it
is on disk and nobody has acted on it, between the commit and the news of it, or some seconds later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simulators.physics.noise import stream, uniform

KINDS = (
    "intent_opened",
    "intent_closed",
    "step_started",
    "step_phase",
    "step_completed",
    "prompt_opened",
    "answer_received",
    "prompt_answered",
    "mounted",
    "target_set",
    "state_changed",
    "command_received",
    "outage",
    "recovered",
)
OUTAGES = (0.0, 2.0, 20.0, 120.0, 900.0, 7200.0)  # s
RESTS, ENDS = ("hold", "hold", "pause"), ("stop", "abort")  # a person's, out of turn
VERBS = (*RESTS, *ENDS)
ENDED = 0.08  # share of rehearsals that a person ends out of turn: what comes after the end is not rehearsed
ORDERS = {"none": (0, 0), "mild": (0, 2), "rough": (0, 3), "cruel": (0, 5)}  # of these, least and most + 1
MOMENTS = (
    "intent_opened",
    "intent_closed",
    "step_started",
    "step_phase",
    "state_changed",
    "prompt_opened",
    "recovered",
)
HOW_MANY = {"none": (0, 0), "mild": (0, 2), "rough": (2, 6), "cruel": (4, 13)}  # of a whole batch, least and most + 1
FARTHEST = {"outage": 3, "recovered": 3, "command_received": 3, "state_changed": 8, "target_set": 2}
USUAL = 14  # the n-th event of a kind is at most this one; a batch has as many


@dataclass(frozen=True, slots=True)
class Cut:
    """Something at the `nth` event of a `kind` (counted over all lives): a power cut, for `outage` s, or a command.

    `how`: `event`, `commit` or `later` (by `after` s) for a power cut; the verb of a command, `after` s later.
    """

    kind: str
    nth: int
    how: str
    after: float = 0.0
    outage: float = 0.0

    @property
    def is_command(self) -> bool:
        """Whether a person gives a command."""
        return self.how in VERBS

    def __str__(self) -> str:
        if self.is_command:
            return f"{self.how} by a person {self.after:g} s after {self.kind} {self.nth}"
        when = {"event": "as soon as it is on disk", "commit": "before anybody knows of it"}.get(self.how)
        return f"power cut at {self.kind} {self.nth}, {when or f'{self.after:g} s later'}: down for {self.outage:g} s"


def plan(profile: str, seed: int) -> tuple[Cut, ...]:
    """Return what befalls one rehearsal at events; a file of faults (an unknown profile) brings its own."""
    return (*_power(profile, seed), *_orders(profile, seed))


def _power(profile: str, seed: int) -> Iterator[Cut]:
    low, high = HOW_MANY.get(profile, (0, 0))
    key = stream(seed, "cuts")
    for i in range(int(uniform(key, 0, low, high))):
        at = 10 * (i + 1)
        kind = KINDS[int(uniform(key, at, 0, len(KINDS)))]
        nth = int(uniform(key, at + 1, 1, FARTHEST.get(kind, USUAL) + 1))
        how = ("event", "commit", "later")[int(uniform(key, at + 2, 0, 3))]
        after = round(uniform(key, at + 3, 0.0, 40.0), 3)
        yield Cut(kind, nth, how, after, OUTAGES[int(uniform(key, at + 4, 0, len(OUTAGES)))])


def _orders(profile: str, seed: int) -> Iterator[Cut]:
    low, high = ORDERS.get(profile, (0, 0))
    key = stream(seed, "orders")
    for i in range(int(uniform(key, 0, low, high))):
        at = 10 * (i + 1)
        kind = MOMENTS[int(uniform(key, at, 0, len(MOMENTS)))]
        nth = int(uniform(key, at + 1, 1, FARTHEST.get(kind, USUAL) + 1))
        verbs = ENDS if i == 0 and uniform(key, 1) < ENDED else RESTS
        verb = verbs[int(uniform(key, at + 2, 0, len(verbs)))]
        yield Cut(kind, nth, verb, round(uniform(key, at + 3, 0.0, 40.0), 3))
