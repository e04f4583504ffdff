"""`tilctl device write` and `check --watchdog`, told to end in the middle, or with a record that is lost meanwhile."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from commissioned import Plant, ask, notes, running, target, tilctl

COLD = "value=4"  # degC; no chamber of this suite comes near it while a test lasts


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with running(tmp_path_factory.mktemp("plant")) as served:
        yield served


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def told_to_end(name: signal.Signals, condition: Callable[[], object], *words: object) -> tuple[int, str, str]:
    """Run `tilctl device`, and send it a signal as soon as something is so."""
    command = [sys.executable, "-m", "tilctl.cli.main", "device", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(condition, "it does what it was asked")
            process.send_signal(name)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    return process.returncode, out, err


def armed_with(plant: Plant) -> int:
    """The seconds (0: disarmed) that the watchdog of the first pump is armed with, as any client reads them."""
    return struct.unpack(">11H", ask(plant.ports["fluidics"], 1, 4, 0, 0, 0, 11)[2:])[10]


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_watchdog_is_disarmed_when_its_test_is_told_to_end(plant: Plant, tmp_path: Path, name: signal.Signals):
    site = plant.site(tmp_path)
    words = ("check", "pump_media", "pump_cells", "--watchdog", "--yes", "--site", site)
    code, out, err = told_to_end(name, lambda: armed_with(plant), *words)
    assert armed_with(plant) == 0
    assert code == 130, err
    assert f"watchdog: FAILED: interrupted ({name.name}) before it acted; disarmed" in out
    assert f"interrupted ({name.name}): not looked at: pump_cells" in err
    before, after = notes(site)
    assert "are tried" in before.text
    assert f"pump_media: FAILED: interrupted ({name.name}) before it acted; disarmed" in after.text
    assert "not looked at: pump_cells" in after.text
    assert after.exception


def test_a_watchdog_that_may_still_be_armed_is_told(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    text = (files("devices") / "profiles" / "sim-pump.yaml").read_text()
    for old, new in (  # armed it does not act in time, and 0 seconds is not what disarms it
        ("timeout: 15 s, period: 5 s", "timeout: 2 s, period: 1 s"),
        ("unit: s, stale_ms: 5000}    #", "unit: s, scale: 0.1, offset: 1, stale_ms: 5000}    #"),
        ("unit: s, min: 0, max: 3600}", "unit: s, scale: 0.1, min: 0, max: 3600}"),
        ("{point: watchdog, arg: seconds}", "{point: watchdog, arg: seconds, tolerance: 0.5}"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (tmp_path / "pump.yaml").write_text(text)
    site = plant.site(
        tmp_path, ("pump_media: {profile: sim-pump, bus", f"pump_media: {{profile: {tmp_path}/pump.yaml, bus")
    )
    code, out, _ = tilctl(capsys, "check", "pump_media", "--site", site, "--watchdog", "--yes")
    assert code == 1
    assert "STILL BE ARMED with 2 s, disarming failed: pump_media: set_watchdog was written once" in out
    assert "STILL BE ARMED" in notes(site)[1].text


TARGET, HEATED = "{point: temperature_target, arg: value, tolerance: 0.01}", "{point: heater_cut, equals: false}"
PROVEN = f"{{within_ms: 2000, points: [{TARGET}, {HEATED}]}}"
NEVER = "{within_ms: %d, points: [{point: temperature, arg: value, tolerance: 0.01}]}"


@contextmanager
def slow(plant: Plant, folder: Path, verify: str) -> Iterator[Path]:
    """Give a site whose incubator proves a temperature in another way."""
    text = (files("devices") / "profiles" / "sim-incubator.yaml").read_text()
    assert text.count(PROVEN) == 1
    (folder / "incubator.yaml").write_text(text.replace(PROVEN, verify))
    ask(plant.ports["climate"], 1, 16, 0, 0, 0, 2, 4, *struct.pack(">f", 30.0))
    old = "incubator: {profile: sim-incubator, bus"
    try:
        yield plant.site(folder, (old, f"incubator: {{profile: {folder}/incubator.yaml, bus"))
    finally:
        ask(plant.ports["climate"], 1, 16, 0, 0, 0, 2, 4, *struct.pack(">f", 30.0))


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_write_that_is_told_to_end_has_an_outcome_on_record(plant: Plant, tmp_path: Path, name: signal.Signals):
    with slow(plant, tmp_path, NEVER % 30000) as site:
        words = ("write", "incubator", "set_temperature", COLD, "--yes", "--site", site)
        code, out, err = told_to_end(name, lambda: target(plant) == 4.0, *words)
    assert (code, out) == (130, "")
    text = f"incubator: set_temperature was interrupted ({name.name}), outcome unknown"
    assert text in err
    before, after = notes(site)
    assert "incubator is to set_temperature, value = 4 degC" in before.text
    assert text in after.text
    assert after.exception


@pytest.mark.parametrize(
    ("verify", "says"),
    [
        (NEVER % 1500, "set_temperature was written once; wanted temperature = 4.0"),
        (
            f"{PROVEN}\n    delay_ms: 1500",
            "incubator did set_temperature, value = 4 degC",
        ),
    ],
    ids=["not-applied", "done"],
)
def test_what_a_write_did_is_told_also_when_the_record_is_lost_meanwhile(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path, verify: str, says: str
):
    with slow(plant, tmp_path, verify) as site:
        record = tmp_path / "data" / "site.db"

        def lose() -> None:
            until(lambda: target(plant) == 4.0, "it is written")
            (tmp_path / "other").write_bytes(b"this is no record" * 100)
            (tmp_path / "other").replace(record)

        loser = threading.Thread(target=lose)
        loser.start()
        code, out, err = tilctl(capsys, "write", "incubator", "set_temperature", COLD, "--yes", "--site", site)
        loser.join()
    assert code == 4
    assert says in err
    assert "it cannot be put on the site's record" in err
    assert "the only record of what was done" in err
    assert ("set_temperature done: temperature_target = 4 degC (good)" in out) == ("did" in says)
