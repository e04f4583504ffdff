"""Simulated instruments: physics behind the register maps of the profiles, an operator, virtual time."""
