"""What the culture model assumes of cells, feeders and medium: each number with its unit, range and standing.

Uncalibrated: engineering choices and unverified general knowledge, fitted to no run.  No figure that comes out of it
says anything about a patient.

Standing of each number: [P] engineering default of this project, [GKU] general knowledge, unverified, [D] derived by
arithmetic from other values here, [L] read in the literature for other cells.  "range [P]" marks a range that no source
states.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def stated(default: float, unit: str, low: float, high: float, standing: str) -> Any:
    """Return a field of a frozen dataclass: its default, and as metadata `unit`, `low`, `high` and `standing`."""
    return field(default=default, metadata={"unit": unit, "low": low, "high": high, "standing": standing})


@dataclass(frozen=True, slots=True)
class Kinetics:
    """The constants of growth, death and metabolism that do not differ from donor to donor; immutable.

    Nothing checks the ranges here: `parameters.Setting.given` does, and a proof may step outside them on purpose.
    """

    decay: float = stated(0.03, "1/d", 0.02, 0.5, "activation, with feeders and high IL-2 [P]; upper [D] from V1 [L]")
    decay_alone: float = stated(
        0.12,
        "1/d",
        0.03,
        0.5,
        "without feeders [P]: 80-fold in 12 d [D], T cells 30- to 150-fold [L]; upper [D] from V1 [L]",
    )
    lag_again: float = stated(0.5, "d", 0.0, 1.5, "lag of cells that were stimulated before [P], range [P]")
    death: float = stated(0.03, "1/d", 0.02, 0.05, "basal [P]")
    starved: float = stated(0.3, "1/d", 0.1, 2.0, "extra death without glucose [P]; upper: a T-cell model [L]")
    k_glucose: float = stated(0.5, "mmol/L", 0.2, 1.0, "[P]")
    k_lactate: float = stated(25.0, "mmol/L", 20.0, 43.0, "[P]; upper: CHO cells [L]")
    n_lactate: float = stated(2.0, "1", 1.0, 3.0, "[P], range [P]")
    k_ammonia: float = stated(6.5, "mmol/L", 2.0, 8.0, "CHO cells [L]")
    k_il2: float = stated(20.0, "IU/mL", 10.0, 40.0, "[P], range [P]")
    use_glucose: float = stated(2.0, "pmol/cell/d", 0.8, 7.0, "at full growth [GKU]; upper: a T-cell model [L]")
    resting: float = stated(0.3, "1", 0.1, 0.5, "share of the glucose use that stays without growth [P], range [P]")
    lactate_yield: float = stated(1.6, "mol/mol", 1.2, 1.9, "[GKU]; 1.53 in resting lymphocytes [L]")
    glutamine_ratio: float = stated(6.7, "mol/mol", 4.0, 10.0, "glucose a glutamine, rat lymphocytes [L]; range [P]")
    ammonia_yield: float = stated(0.67, "mol/mol", 0.6, 0.8, "a glutamine, CHO cells [L]")
    feeder_loss: float = stated(0.45, "1/d", 0.35, 0.5, "[GKU]")
    feeder_lysis: float = stated(0.7, "1/d", 0.5, 1.0, "dead feeders fall apart; from a computed series [D]; range [P]")
    feeder_glucose: float = stated(0.15, "pmol/cell/d", 0.1, 0.3, "resting lymphocytes [D]; range [P]")
    il2_loss: float = stated(0.15, "1/d", 0.1, 0.2, "at 37 degC [GKU]")
    il2_uptake: float = stated(
        1.4e-4, "IU/cell/d", 0.8e-4, 2.75e-4, "0.3 to 1 of 1.1 nM (275 IU/mL) a day at 1e6 cells/mL; default 0.5 [D]"
    )
    use_oxygen: float = stated(1.0, "pmol/cell/d", 0.28, 2.0, "[GKU]; lower: resting lymphocytes [D]")
    k_oxygen: float = stated(
        0.004, "mmol/L", 0.001, 0.01, "2 % of air saturation [P], range [P]; 20..80 % change nothing in hybridoma [L]"
    )
    emigrant_viability: float = stated(0.85, "1", 0.7, 0.95, "[P], range [P]")


DEFAULTS = Kinetics()
