"""Process image, standing targets, containers and ledger, the output gate, scanning."""
