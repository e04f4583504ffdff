"""The one door for every command: schema, identity, legality, idempotency, answer."""
