"""Events, the append-only store, the hash chain."""
