"""SIGKILL at any moment: no acknowledged record is lost, the chain is whole, and the next process goes on."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

from tilctl.journal.verify import read

ROUNDS = 5

# Appends from several tasks as fast as it goes; tells each record on stdout only after it was acknowledged.
WRITER = """
import asyncio, os, sys
from pathlib import Path
from devices.clock import SystemClock
from tilctl.journal.events import Noted, SiteOpened
from tilctl.journal.store import Journal

async def main(path):
    clock = SystemClock()
    if path.exists():
        journal = await Journal.open(path, clock)
    else:
        journal = await Journal.create(path, clock, SiteOpened("demo", "suite1", "0"))
    os.write(1, b'["open", "%d"]\\n' % journal.head[0])
    async def appender(name):
        while True:
            record = await journal.record(Noted(name, "x" * (len(name) * 40), exception=False))
            os.write(1, b'[%d, "%s"]\\n' % (record.seq, record.hash.encode()))
    async def beater():
        while True:
            await journal.beat("2026-01-05T08:00:00.000Z")
            await asyncio.sleep(0.001)
    await asyncio.gather(*[appender("a" * n) for n in range(1, 9)], beater())

asyncio.run(main(Path(sys.argv[1])))
"""

# Makes one journal after the other, and tells of each when it exists.
CREATOR = """
import asyncio, os, sys
from pathlib import Path
from devices.clock import SystemClock
from tilctl.journal.events import SiteOpened
from tilctl.journal.store import Journal

async def main(folder):
    clock = SystemClock()
    for number in range(100000):
        journal = await Journal.create(folder / f"{number}.db", clock, SiteOpened("demo", "suite1", "0"))
        os.write(1, b'[%d, "%s"]\\n' % (number, journal.head[1].encode()))
        await journal.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def killed(script: str, argument: Path, after: int) -> list[list[object]]:
    """Run a script, kill it when it has told `after` lines, and return all whole lines that it told."""
    with subprocess.Popen([sys.executable, "-c", script, str(argument)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait(timeout=10)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def test_no_acknowledged_record_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "batch.db"
    randomness = random.Random(1)
    acknowledged: dict[int, str] = {}
    for _ in range(ROUNDS):
        told = killed(WRITER, path, randomness.randrange(2, 1200))
        assert told[0][0] == "open"
        acknowledged |= {int(str(seq)): str(own) for seq, own in told[1:]}
        records, verdict = read(path)
        assert verdict.ok, verdict
        on_disk = {record.seq: record.hash for record in records}
        assert acknowledged.items() <= on_disk.items()
    assert len(acknowledged) > ROUNDS


def test_a_journal_in_the_making_is_whole_or_absent(tmp_path: Path) -> None:
    randomness = random.Random(2)
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        told = killed(CREATOR, folder, randomness.randrange(1, 60))
        for path in folder.glob("*.db"):
            assert read(path)[1].ok, path
        for name, own in told:
            assert read(folder / f"{name}.db")[1].head == own
