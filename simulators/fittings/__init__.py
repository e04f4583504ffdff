"""The parts of a site's equipment as simulated instruments: registers of profiles, with the suite's physics behind."""

from simulators.fittings.fitted import Fittings
from simulators.fittings.module import HOST_LOST_S

__all__ = ["HOST_LOST_S", "Fittings"]
