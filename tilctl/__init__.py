"""tilctl: a controller for cell-expansion suites (closed bioreactors, pumps, controlled-rate freezers)."""

__version__ = "0.1.0"
