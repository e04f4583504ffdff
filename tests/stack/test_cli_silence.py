"""`tilctl device check` at a module whose host watchdog and recovery were set up at the module itself."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest

from devices.profile import load_profile
from simulators.parts import simulated

sys.path.insert(0, str(Path(__file__).parent))

from commissioned import notes, serial_line, tilctl

MODULE = """
profile: {id: module, version: 1, role: digital_io, maker: nobody, model: none, evidence: simulated, sources: [a test]}
transport: {kinds: [rtu]}
at_commissioning: {recovery: what it does after a power cut}
blocks:
  outputs: {fc: 1, addr: 0, count: 1, scan: fast}
  safe: {fc: 1, addr: 32, count: 1, scan: fast}
  recovery: {fc: 3, addr: 40, count: 1, scan: demand}
points:
  do_0: {block: outputs, addr: 0, type: bool, stale_ms: 5000}
  safe_0: {block: safe, addr: 32, type: bool, stale_ms: 5000}
  recovery: {block: recovery, addr: 40, type: uint16, stale_ms: 5000}
commands:
  set_output:
    write: {fc: 5, addr: 0, index: [{arg: channel, first: 0, last: 0}], fields: [{arg: value, type: bool}]}
    idempotent: true
    verify: {echo: outputs}
failsafe: {on_comm_loss: stops, silence: {within: 0.4 s, safe: [safe_0], opened: [do_0]}}
sim: {model: registers, values: {recovery: "2"}}
"""


@contextmanager
def module(folder: Path) -> Iterator[Path]:
    """Serve a module whose one output is closed; give the site file that reaches it."""
    (folder / "module.yaml").write_text(MODULE)
    heard = [float("inf"), 0.0]
    lost = [False]

    def asked() -> None:
        now = time.monotonic()
        lost[0] = lost[0] or now > heard[0] + 0.4
        heard[0] = now

    values = {"do_0": lambda: not lost[0], "safe_0": lambda: lost[0]}
    device = simulated(load_profile(folder / "module.yaml"), values)
    device.asked.append(asked)
    with serial_line(device) as path:
        text = (files("tilctl.cli") / "demo-site.yaml").read_text()
        line = f"  line: {{kind: modbus-rtu, path: {path}, baud: 115200, format: 8N1}}\n"
        text = text.replace("buses:\n", f"buses:\n{line}").replace("site: demo\n", "site: demo\nprofiles: .\n")
        text = text.replace("devices:\n", "devices:\n  io: {profile: module, bus: line, unit: 2}\n")
        (folder / "site.yaml").write_text(text)
        yield folder / "site.yaml"


def test_a_host_watchdog_is_tried_by_silence_after_yes(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    with module(tmp_path) as site:
        code, out, err = tilctl(capsys, "check", "io", "--site", site, "--watchdog")
        assert (code, out) == (2, "")
        assert "io: watchdog asked nothing for 0.4 s; all its outputs should then be open" in err
        code, out, _ = tilctl(capsys, "check", "io", "--site", site, "--watchdog", "--yes", "--json")
        told = json.loads(out)
        assert (code, told["well"]) == (0, True), told
        assert "noticed it: do_0 opened; its safe status stands until it is cleared" in told["watchdog"]
        assert "do_0 opened" in notes(site)[1].text


def test_what_the_site_file_has_to_say_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    with module(tmp_path) as site:
        code, out, _ = tilctl(capsys, "check", "io", "--site", site)
        assert code == 0
        assert "warning: recovery is not expected to be anything: what it does after a power cut (it reads 2 now" in out
        text, unit = site.read_text(), "bus: line, unit: 2"
        site.write_text(text.replace(unit, f"{unit}, expect: {{recovery: 1}}"))
        code, out, _ = tilctl(capsys, "check", "io", "--site", site)
        assert code == 1
        assert "recovery reads 2.0, the site expects 1.0 (what it does after a power cut)" in out
