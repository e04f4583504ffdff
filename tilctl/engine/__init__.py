"""The machine, the walker, the verbs, recovery."""
