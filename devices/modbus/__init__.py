"""Modbus TCP: one bus, one connection, one queue; every reply checked, every write read back."""
