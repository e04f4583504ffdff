"""Instruments reached over MQTT: one connection to a broker for all of them, described by the same kind of profile."""
