"""What goes wrong: a vocabulary of faults as data, seeded schedules of them, and who carries them out."""

from simulators.faults.injector import Injected, Injector, of_devices
from simulators.faults.model import Fault, check, load_faults
from simulators.faults.schedule import profiles, schedule

__all__ = ["Fault", "Injected", "Injector", "check", "load_faults", "of_devices", "profiles", "schedule"]
