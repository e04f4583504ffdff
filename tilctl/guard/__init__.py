"""Alarms and conditions: always on, beside the engine, not inside it."""
