"""The ground: clock, quantity, reading, role; profiles, transports and drivers of instruments."""
