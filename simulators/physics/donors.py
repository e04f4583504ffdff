"""Donors: what differs from patient to patient, and how it is drawn.

Uncalibrated.  [P] engineering default of this project, [GKU] general knowledge, unverified, [D] derived by arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from simulators.physics.kinetics import stated
from simulators.physics.noise import between, gauss, stream, uniform

NON_EXPANDERS = 0.2  # share of the population, 0.1..0.3 [P]: published lots fail in 3 to 41 of 100
FEEBLE = (0.02, 0.15)  # 1/d, REP growth of one that does not expand [P]: 14 days of REP then stay below four-fold [D]


@dataclass(frozen=True, slots=True)
class Donor:
    """What differs from patient to patient: growth rates (1/d), emigration (cells a fragment), lag (d)."""

    mu_rep: float = stated(0.80, "1/d", 0.65, 1.0, "[P]")
    mu_pre: float = stated(0.35, "1/d", 0.2, 0.5, "[P]")
    emigration: float = stated(1e5, "cells", 1e4, 1e6, "from a fragment [GKU]")
    lag: float = stated(1.5, "d", 1.0, 3.0, "[GKU]")
    nucleation: float = -9.0  # degC; of the bag rather than of the donor

    @property
    def expands(self) -> bool:
        """Tell whether a REP can come to more than a few-fold: every donor that `donor` draws does."""
        return self.mu_rep > FEEBLE[1]


TYPICAL = Donor()


def donor(seed: int) -> Donor:
    """Draw a donor that expands, for rehearsals and demonstrations.

    mu_max N(0.80, 0.08) /d in 0.65..1.0: published folds spread as 10 % of the mean rate do [D]; pre-REP 0.35 /d with
    the same relative spread, in 0.2..0.5 [P]; emigration log-normal, median 1e5 cells a fragment in 1e4..1e6 [GKU];
    lag 1..3 d [GKU].  Those that do not expand are drawn by `population_donor`.
    """
    key = stream(seed, "donor")
    vigour = gauss(key, 0)
    emigration = 1e5 * math.exp(between(key, 1, 0.0, 0.6, -2.3, 2.3))
    return Donor(
        mu_rep=min(1.0, max(0.65, 0.80 + 0.08 * vigour)),
        mu_pre=min(0.5, max(0.2, 0.35 + 0.035 * gauss(key, 2))),
        emigration=emigration,
        lag=between(key, 3, 1.5, 0.2, 1.0, 3.0),
    )


def population_donor(seed: int, non_expanders: float = NON_EXPANDERS) -> Donor:
    """Draw a donor of a population in which the share `non_expanders` (0..1) does not expand; for studies.

    Those that expand are `donor(seed)`, so that a study and a rehearsal meet the same ones.  One that does not has the
    emigration and lag of `donor(seed)`, but grows at a rate uniform in 0.02..0.15 /d in the REP, and before it at 0.44
    of that (0.35/0.80): its cells live, hardly answer to stimulation, and use glucose in proportion to their own full
    growth.  A model of a failed lot, not of its cause [P].  A larger share makes more seeds fail and takes none back.

    Raises ValueError for a share outside 0..1.
    """
    if not 0.0 <= non_expanders <= 1.0:
        raise ValueError(f"the share of donors that do not expand is {non_expanders}; it is within 0..1")
    drawn = donor(seed)
    key = stream(seed, "expands")
    if uniform(key, 0) >= non_expanders:
        return drawn
    feeble = uniform(key, 1, *FEEBLE)
    return replace(drawn, mu_rep=feeble, mu_pre=feeble * 0.35 / 0.80)
