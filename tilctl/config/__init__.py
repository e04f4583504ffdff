"""The site file: what stands where. Read once at boot, checked whole, frozen; numbers in canonical units."""

from __future__ import annotations

from tilctl.config.loading import load_site
from tilctl.config.site import CONTROLLER, Bus, Device, Line, Place, PlaceClass, RoleBinding, Safe, Scan, Site, UnitSite

__all__ = [
    "CONTROLLER",
    "Bus",
    "Device",
    "Line",
    "Place",
    "PlaceClass",
    "RoleBinding",
    "Safe",
    "Scan",
    "Site",
    "UnitSite",
    "load_site",
]
