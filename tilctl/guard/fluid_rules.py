"""The rules for liquids, with their figures and with what a person has to know when one of them acts.

Where a number comes from: P is an engineering default of this project, S41 a gravimetric pump test (QB Systems, read),
S43 the UK transfusion guidelines 9.5 (read), GKU general knowledge, unverified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tilctl.guard.board import Action, Priority

GAINED_ML = 3.0  # mL; what is fuller than when it was mounted by less than this was not filled here (P)
SWAP_ML = 50.0  # mL in one step with all pumps standing: a person has put up another bag (P)
STILL_G = 0.5  # g that a source may move in STILL_S and stands still by that (P, GKU)
STILL_S = 20.0  # s (P, GKU)
STILL_SHARE = 0.1  # of what the pump counted: a source that falls by less stands still too (P)
VISIBLE_ML = 10.0  # mL; a flow that a scale can tell from nothing for certain: 20 times what it resolves (P)
DRY_ML = 2.0  # mL; a source that holds no more is at its reserve (P)
LEFT_ML, LEFT_SHARE = 10.0, 0.05  # mL and share of the order by which an empty container may seem to hold something (P)
OFF_ML, OFF_SHARE, OFF_S = 5.0, 0.05, 60.0  # mass against count: more than max(5 mL, 5 %) in 60 s (P, S41)
FLOOR_ML = 5.0  # mL that a container may be below what was to be left in it (P)
LEAK_ML, LEAK_S = 20.0, 600.0  # mL that all containers together may lose in so many s without a transfer (P)
SEEP_ML, SEEP_S = 60.0, 4 * 3600.0  # mL in so many s: a leak too slow for the rule above; more than scales creep (P)
PRIMED_S = 10.0  # s of flow in which the named source has to fall (P; the check itself: S43)
HAND_G = 10.0  # g in one step, or a place that is emptier than its container: a hand, no leak (P)
RIPPLE_SHARE = 0.02  # of the load, by which a mass may be wrong while it is rocked (GKU: 1 to 2 % of ripple)
STILL_RPM = 0.5  # a rocker that shows no more stands (P)
INVALID_S = 30.0  # s that an instrument may say nothing before that is an alarm (P)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: how urgent, what it causes, after how long (s), and the four things that its alarm has to tell."""

    name: str
    priority: Priority
    then: Action
    debounce_s: float
    cause: str
    consequence: str
    action: str
    allowed: str
    all_lines: bool = False  # whether it stops every pump of the unit, not its own line's alone

    @property
    def help(self) -> Mapping[str, str]:
        """What a person is told of its alarm."""
        told = {"cause": self.cause, "consequence": self.consequence, "action": self.action}
        return told | {"allowed": self.allowed}


_RULES = (
    Rule(
        "overfill", "critical", "hold", 1.0,
        "more went in than was meant, or a container of another size hangs there",
        "the vessel overflows or its vent gets wet: contamination, lost cells",
        "drain it by hand below its limit, look at pump and clamps, then restart; a restart takes its level as it is",
        "seconds to minutes", all_lines=True,
    ),
    Rule(
        "under-draw", "high", "hold", 10.0,
        "more was drawn off than was to be left: a wrong ledger, or a pump that delivers too much",
        "cells fall dry",
        "feed the vessel, correct the ledger, then restart",
        "30 min",
    ),
    Rule(
        "dry-run", "medium", "hold", 5.0,
        "the source is empty: it held less than its label or the ledger says",
        "the pump moves air; nothing is lost while it stands",
        "hang a full bag or correct the ledger, purge the line, then restart",
        "none while it stands",
    ),
    Rule(
        "occlusion", "high", "hold", 2.0,
        "the pump turns and the source does not get lighter: a closed clamp, a kinked line, a blocked filter, an empty "
        "bag",
        "pressure rises until the line bursts",
        "open the clamp or clear the line by hand, then restart",
        "seconds",
    ),
    Rule(
        "delivery", "high", "hold", 10.0,  # so that the rule that knows the cause speaks first (P)
        "mass and pump disagree: slipping or worn tubing, a clamp half closed, a leak in the line, a wrong calibration",
        "too much or too little is given",
        "look at tubing, clamps and line, check the pump's calibration, then restart",
        "minutes: nothing more is given while it stands",
    ),
    Rule(
        "leak", "critical", "hold", 120.0,
        "the containers of the unit together lose weight though nothing is transferred",
        "sterility deviation: what leaks out lets germs in; cells fall dry",
        "look for liquid, clamp and isolate, treat it as a sterility deviation; then restart",
        "none", all_lines=True,
    ),
    Rule(
        "wrong-source", "critical", "hold", 0.0,
        "another container changes its weight in place of the one that was ordered: transposed lines, a stuck clamp",
        "the wrong liquid reaches the cells, or the cells go where they should not",
        "clamp the lines by hand, find out what went where, correct the ledger with a second person; then restart",
        "none", all_lines=True,
    ),
)  # fmt: skip

RULES: Mapping[str, Rule] = MappingProxyType({rule.name: rule for rule in _RULES})
"""The rules by their names; an alarm is called `<rule>-<container or line>`, that of a leak `leak`."""


def rule_of(alarm: str) -> Rule | None:
    """Return the rule that an alarm is of, None where it is of none."""
    if alarm.endswith("-invalid"):
        return None
    return next((rule for name, rule in RULES.items() if alarm == name or alarm.startswith(f"{name}-")), None)
