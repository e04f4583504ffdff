"""Simulated instruments over real sockets and lines, and `tilctl device` as a person types it at them."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

from devices.clock import SystemClock
from simulators.device import ModbusFault, SimDevice
from simulators.server import execute
from tilctl.cli.main import main
from tilctl.journal.events import BatchClosed, BatchCreated, Noted
from tilctl.journal.store import Journal
from tilctl.journal.verify import read

TEMPLATE = Path(__file__).parents[2] / "devices" / "template.yaml"
BUSES = {"climate": 5020, "fluidics": 5021, "weighing": 5022, "freezing": 5023}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Plant:
    """Simulated instruments that listen; `text` is the site file that reaches them."""

    text: str
    ports: dict[str, int]

    def site(self, folder: Path, *changes: tuple[str, str]) -> Path:
        text = self.text
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (folder / "site.yaml").write_text(text)
        return folder / "site.yaml"


@contextmanager
def running(folder: Path) -> Iterator[Plant]:
    """Serve the simulated suite in a process of its own."""
    text = (files("tilctl.cli") / "demo-site.yaml").read_text()
    ports = {bus: free_port() for bus in BUSES}
    for bus, port in BUSES.items():
        text = text.replace(f"port: {port}", f"port: {ports[bus]}")
    path = folder / "site.yaml"
    path.write_text(text)
    with subprocess.Popen(
        [sys.executable, "-m", "tilctl.cli.main", "simulate", "--site", str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["ports"] == ports
            yield Plant(text, ports)
        finally:
            process.terminate()


def tilctl(capsys: pytest.CaptureFixture[str], verb: str, *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["device", verb, *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def ask(port: int, unit: int, *pdu: int) -> bytes:
    """Send one request to a simulator, by hand; return the PDU of its reply."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
        wire.sendall(struct.pack(">HHHB", 1, 0, len(pdu) + 1, unit) + bytes(pdu))
        reply = b""
        while len(reply) < 9 or len(reply) < 6 + int.from_bytes(reply[4:6], "big"):
            reply += wire.recv(300)
    return reply[7:]


def target(plant: Plant) -> float:
    """The target of the incubator, as any client reads it."""
    return struct.unpack(">f", ask(plant.ports["climate"], 1, 3, 0, 0, 0, 4)[2:6])[0]


def notes(site: Path) -> list[Noted]:
    records, verdict = read(site.parent / "data" / "site.db")
    assert verdict.ok, verdict
    return [record.event for record in records if isinstance(record.event, Noted)]


def batch(site: Path, *, closed: bool = False, bindings: dict[str, str] | None = None) -> Path:
    """Put the record of a batch of cell1 where the controller leaves it."""
    path = site.parent / "data" / "batches" / "b1.db"

    async def make() -> None:
        clock = SystemClock()
        created = BatchCreated("b1", "cell1", "r", "1", "0", "", {}, bindings or {}, "0", "0")
        journal = await Journal.create(path, clock, created)
        if closed:
            await journal.record(BatchClosed())
            await journal.record(Noted("", "afterwards", exception=False))
        await journal.close()
        clock.close()

    asyncio.run(make())
    return path


def crc(data: bytes) -> bytes:
    """CRC-16 of Modbus, bit by bit."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


def answer(line: int, device: SimDevice, ending: threading.Event) -> None:
    """Let an instrument be unit 2 of a serial line."""
    while not ending.is_set():
        if not select.select([line], [], [], 0.05)[0]:
            continue
        request = os.read(line, 8)
        while len(request) < 8 or (request[1] == 16 and len(request) < 9 + request[6]):
            request += os.read(line, 1)
        if request[0] != 2 or crc(request[:-2]) != request[-2:]:
            continue
        try:
            reply = request[:1] + execute(device, request[1:-2])
        except ModbusFault as fault:
            reply = bytes((request[0], request[1] | 0x80, fault.code))
        os.write(line, reply + crc(reply))


@contextmanager
def serial_line(device: SimDevice) -> Iterator[str]:
    """Give the path of a serial port behind which an instrument is."""
    line, port = os.openpty()
    tty.setraw(port)
    ending = threading.Event()
    unit = threading.Thread(target=answer, args=(line, device, ending))
    unit.start()
    try:
        yield os.ttyname(port)
    finally:
        ending.set()
        unit.join()
        os.close(line)
        os.close(port)
