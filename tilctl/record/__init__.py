"""What is made from the journal: summary, verification, exports."""
