"""The commands that a person types; puts the parts together, and alone knows the simulators."""
