"""Physics behind the simulated instruments: functions and classes of time, without input or output."""
