"""Rehearsals: whole batches of the real controller against a simulated plant that misbehaves, judged at every step."""
