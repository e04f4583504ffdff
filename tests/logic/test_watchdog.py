"""The watchdog: whatever is stuck ends with status 9 and says where; whoever only waits is left alone."""

from __future__ import annotations

import subprocess
import sys
import textwrap

STUCK = {
    "a blocking call": "time.sleep(60)",
    "a spin": "while True: await asyncio.sleep(0)",
    "a lost wake-up": "await asyncio.get_running_loop().create_future()",
    "a sleep in a hold": "with clock.hold('plant'): await clock.sleep(1)",
    "a thread that wakes the loop for nothing": """
        def chatter():
            while True:
                time.sleep(0.02)
                clock.enter(lambda: None)
        threading.Thread(target=chatter, daemon=True).start()
        await asyncio.get_running_loop().create_future()""",
}


def script(body: str) -> list[str]:
    lines = [
        "import asyncio, threading, time",
        "from simulators.virtual import run",
        "async def main(clock):",
        "    await clock.sleep(1.5)",
        textwrap.indent(textwrap.dedent(body), "    "),
        "run(main, watchdog_s=0.4)",
    ]
    return [sys.executable, "-c", "\n".join(lines)]


def test_the_watchdog_ends_whatever_is_stuck_and_says_where() -> None:
    processes = {
        name: subprocess.Popen(script(body), stderr=subprocess.PIPE, text=True) for name, body in STUCK.items()
    }
    for name, process in processes.items():
        place = f"<string>:{process.args[-1].count(chr(10))} main"  # the line before the last one
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 9, (name, errors)
        assert "virtual time has stood at 1.5 s" in errors, (name, errors)
        assert place in errors, (name, place, errors)
        assert ("open holds: ['plant']" in errors) == (name == "a sleep in a hold")


def test_the_watchdog_leaves_progress_people_and_pace_alone() -> None:
    body = """
        answered = asyncio.Event()
        with clock.outside("prompt"):
            threading.Timer(0.8, clock.enter, (answered.set,)).start()
            await answered.wait()
        clock.loop.pace = 1.0
        await clock.sleep(0.8)
        clock.loop.pace = None
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            await clock.sleep(1.0)"""
    done = subprocess.run(script(body), capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
