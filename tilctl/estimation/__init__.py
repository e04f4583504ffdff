"""Soft sensors: viable cells by what counts, glucose, oxygen and capacitance tell.  Pure: no I/O, no clock."""
