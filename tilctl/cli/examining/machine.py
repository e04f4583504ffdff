"""The box itself: clock, disk, the lock of the data, its record, serial ports, the port for metrics."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tilctl.cli.examining.finding import Finding
from tilctl.config import Bus, Site
from tilctl.journal.disk import space
from tilctl.journal.events import SiteOpened
from tilctl.journal.verify import read

USB_SERIAL = Path("/sys/bus/usb-serial/devices")
LATENCY_MS = 1  # an FTDI adapter holds what came back for so long unless told otherwise; its default is 16


def clock(synchronised: bool | None, *, gmp: bool) -> Finding:
    """Judge what the kernel says of its clock."""
    if synchronised:
        return Finding("ok", "clock", "synchronised")
    todo = "run chrony or systemd-timesyncd against the time server of the site; timedatectl shows it"
    if synchronised is None:
        return Finding("warn", "clock", "this system does not tell whether it is synchronised", todo)
    text = "not synchronised: the times of the record are only as good as this machine's own clock"
    return Finding("fail" if gmp else "warn", "clock", text, todo)


def controller_runs(site: Site) -> bool:
    """Return whether a controller holds the lock of the data; raises OSError where that cannot be told."""
    path = site.data / "lock"
    if not path.exists():
        return False
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go at once: a controller may be about to start
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def lock(site: Site) -> tuple[Finding, bool]:
    """Tell whether a controller runs on the data; where that is not known, one is taken to run."""
    try:
        runs = controller_runs(site)
    except OSError as error:
        text = f"{site.data / 'lock'}: {error.strerror}"
        return Finding("fail", "lock", text, "give the service's user the data folder, or ask as that user"), True
    return Finding("ok", "lock", "a controller runs on this data" if runs else "no controller runs on this data"), runs


def disk(site: Site) -> Iterator[Finding]:
    """Look at the room of the data folder, and whether it takes a file."""
    there = site.data
    while not there.exists() and there != there.parent:
        there = there.parent
    made = "" if there == site.data else f"{site.data} is not there yet; "
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".doctor-") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        yield Finding("ok", "data", f"{made}{there} takes files")
    except OSError as error:
        todo = f"make {site.data} and give it to the user of the service"
        yield Finding("fail", "data", f"{made}{there} cannot be written: {error.strerror}", todo)
    try:
        room = space(there)
    except OSError as error:
        yield Finding("fail", "disk", f"{there}: its room cannot be told: {error.strerror}", "look at the disk")
        return
    if room.low:
        yield Finding("fail", "disk", f"{room}: no batch is started with so little", "make room")
    else:
        yield Finding("ok", "disk", str(room))


def record(site: Site, *, runs: bool) -> Finding:
    """Verify the site's record, and that it is of this site."""
    path = site.data / "site.db"
    if not path.exists():
        return Finding("ok", "record", f"{path} is made at the first start")
    records, verdict = read(path)
    if not verdict.ok:
        todo = "tilctl journal verify says more; restore a backup (tilctl journal restore)"
        return Finding("fail", "record", f"{path}: {verdict.reason}", todo)
    first = records[0].event
    if not isinstance(first, SiteOpened) or (first.site, first.node) != (site.name, site.node):
        todo = "give this site a data folder of its own, or put its names right"
        return Finding("fail", "record", f"{path} is not of site {site.name}, node {site.node}", todo)
    beside = ", read beside the controller" if runs else ""
    return Finding("ok", "record", f"intact, {verdict.events} events{beside}")


def metrics_port(site: Site, *, runs: bool) -> Finding:
    """See that the port for metrics and health is free, or taken by the controller that runs."""
    where = f"{site.http_host}:{site.http_port}"
    family = socket.AF_INET6 if ":" in site.http_host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((site.http_host, site.http_port))
    except OSError as error:
        if runs:
            return Finding("ok", "http", f"{where} is in use, and a controller runs")
        return Finding("fail", "http", f"{where} cannot be had: {error.strerror}", "choose another port under http:")
    if runs and site.http_port:
        return Finding("warn", "http", f"{where} is free although a controller runs", "did it start with this file?")
    return Finding("ok", "http", f"{where} is free")


def serial_port(bus: Bus, adapters: Path = USB_SERIAL) -> Iterator[Finding]:
    """Look at a serial port: it is there, we may use it, and its adapter answers without waiting."""
    check, path = f"serial {bus.name}", Path(bus.path)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        todo = "plug the adapter in; name it by /dev/serial/by-id/, which stays when others are plugged in"
        yield Finding("fail", check, f"{path}: {error.strerror}", todo)
        return
    if not stat.S_ISCHR(mode):
        yield Finding("fail", check, f"{path} is no serial port", "name it by /dev/serial/by-id/...")
        return
    if not os.access(path, os.R_OK | os.W_OK):
        todo = "put the user of the service into the group of the port (on Debian dialout)"
        yield Finding("fail", check, f"{path} may not be used by this user", todo)
        return
    yield Finding("ok", check, f"{path} is there and may be used")
    yield from _latency(check, path, adapters)


def _latency(check: str, path: Path, adapters: Path) -> Iterator[Finding]:
    name = path.resolve().name
    timer = adapters / name / "latency_timer"
    try:
        waits = int(timer.read_text("ascii"))
    except FileNotFoundError:
        return  # no adapter of this kind
    except (OSError, ValueError) as error:
        yield Finding("warn", check, f"{timer}: {error}", "look at the adapter's latency timer")
        return
    if waits <= LATENCY_MS:
        yield Finding("ok", check, f"its adapter's latency timer is {waits} ms")
        return
    rule = f'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{{latency_timer}}="{LATENCY_MS}"'
    text = f"its adapter's latency timer is {waits} ms, which each request waits for"
    yield Finding("warn", check, text, f"echo {LATENCY_MS} > {timer}, and for good a udev rule: {rule}")
