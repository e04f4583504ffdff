"""What a laboratory needs to know before it starts a batch, from a dry run: when people come, and what they need."""
