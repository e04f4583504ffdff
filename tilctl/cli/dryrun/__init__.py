"""A dry run: a recipe walked directly on the simulated plant, by the simulated people, without controller and record.

Some hundred times as fast as a rehearsal, for comparisons over many donors and for timelines.  It says nothing of how
the controller behaves; tests hold what it comes to against whole rehearsals.
"""
