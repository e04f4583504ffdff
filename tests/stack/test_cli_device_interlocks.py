"""A person's command to an instrument passes the interlocks and permissives too, while no controller runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from devices.clock import SystemClock
from tilctl.config import load_site
from tilctl.journal import events as ev
from tilctl.journal.store import Journal

sys.path.insert(0, str(Path(__file__).parent))

from commissioned import Plant, notes, running, target, tilctl

HOT = "station.temperature > 39 degC"
WRITE = ("write", "incubator", "set_temperature", "value=37", "--yes")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with running(tmp_path_factory.mktemp("plant")) as served:
        yield served


def record(path: Path, *events: ev.Event) -> None:
    async def make() -> None:
        clock = SystemClock()
        journal = await Journal.create(path, clock, events[0])
        for event in events[1:]:
            await journal.record(event)
        await journal.close()
        clock.close()

    path.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(make())


def site_record(site: Path, *events: ev.Event) -> None:
    record(site.parent / "data" / "site.db", ev.SiteOpened("demo", "suite1", "0"), *events)


def refused(
    capsys: pytest.CaptureFixture[str], plant: Plant, site: Path, *words: str, wanted: Sequence[str] = WRITE
) -> str:
    before = target(plant)
    code, _, err = tilctl(capsys, *wanted, "--site", site, *words)
    assert code == 1, err
    assert "was not sent" in err
    assert target(plant) == before
    assert notes(site)[-1].exception
    return err


def test_over_its_limit_nothing_heats_and_what_makes_safe_passes(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path, (HOT, "station.temperature > 20.5 degC"))
    err = refused(capsys, plant, site)
    assert "interlock too_hot is against it: station.temperature is 2" in err
    assert tilctl(capsys, "write", "incubator", "cut_heater", "--site", site, "--yes")[0] == 0
    assert tilctl(capsys, "write", "incubator", "set_co2", "value=5", "--site", site, "--yes")[0] == 0


def test_below_its_limit_it_passes(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    assert tilctl(capsys, *WRITE, "--site", plant.site(tmp_path))[0] == 0


def test_what_the_freezer_is_not_permitted_is_not_sent(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(tmp_path, ("ln2_level >= 40 %", "ln2_level >= 99 %"))
    err = refused(capsys, plant, site, wanted=("write", "freezer", "start", "sequence=1", "--yes"))
    assert "permissive ln2 needs freezer1.ln2_level >= 99 %: freezer1.ln2_level is 92 %" in err
    assert "change the cylinder" in err


def test_what_another_instrument_does_not_say_is_no_permission(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    changes = (
        (HOT, "pump_media.running and station.temperature > 39 degC"),
        ("bus: fluidics, unit: 1", "bus: fluidics, unit: 9"),
    )
    site = plant.site(tmp_path, *changes)
    before = target(plant)
    code, _, err = tilctl(capsys, *WRITE, "--site", site)
    assert code == 0, "it is not hot, whatever the pump does"
    site = plant.site(tmp_path, *[(old, new.replace(" and ", " or ")) for old, new in changes])
    code, _, err = tilctl(capsys, *WRITE, "--site", site)
    assert code == 3
    assert "cannot be judged, and what is not known is not permitted: pump_media.running is not known" in err
    assert target(plant) == before


TRIPPED = ev.InterlockTripped("too_hot", "it was 41 degC", {})


def test_what_is_latched_on_the_sites_record_waits_for_its_reset(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path
):
    site = plant.site(
        tmp_path,
        ("        deadband: 0.5 K\n        cause: the heater's", "        reset: manual\n        cause: the heater's"),
    )
    site_record(site, ev.InterlockTripped("too_hot", "it was 41 degC", {}, "cell1"))
    assert "tripped on record since" in refused(capsys, plant, site)
    (tmp_path / "data" / "site.db").unlink()
    site_record(
        site, ev.InterlockTripped("too_hot", "", {}, "cell1"), ev.InterlockReset("too_hot", "anna", "", "cell1")
    )
    assert tilctl(capsys, *WRITE, "--site", site)[0] == 0


@pytest.mark.parametrize(("until", "passes"), [("2999-01-01T00:00:00.000Z", True), ("2020-01-01T00:00:00.000Z", False)])
def test_a_bypass_on_record_lets_it_pass_until_its_end(
    capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path, until: str, passes: bool
):
    site = plant.site(tmp_path, (HOT, "station.temperature > 20.5 degC"))
    site_record(site, ev.InterlockBypassed("too_hot", "a", "quality", "b", "quality", "r", until, unit="cell1"))
    if passes:
        assert tilctl(capsys, *WRITE, "--site", site)[0] == 0
    else:
        assert "too_hot is against it" in refused(capsys, plant, site)


def test_an_open_batch_has_its_own(capsys: pytest.CaptureFixture[str], plant: Plant, tmp_path: Path):
    """What it has frozen counts, not what the file says now; and what it has latched stands."""
    frozen = load_site(plant.site(tmp_path, (HOT, "station.temperature > 20.5 degC")))
    rules = {"unit": frozen.units["cell1"].rules.written(), "site": frozen.rules.written()}
    site, path = plant.site(tmp_path), tmp_path / "data" / "batches" / "b1.db"
    created = ev.BatchCreated("b1", "cell1", "r", "1", "0", "", {}, {}, "0", "0", interlocks=rules)
    manual = ("--manual-mode", "--reason", "a look")
    record(path, created)
    assert "too_hot is against it" in refused(capsys, plant, site, *manual)
    path.unlink()
    record(path, ev.BatchCreated("b1", "cell1", "r", "1", "0", "", {}, {}, "0", "0"), TRIPPED)
    assert "tripped on record since" in refused(capsys, plant, site, *manual)
    path.write_bytes(b"not a record")
    assert "nobody knows what it has latched" in refused(capsys, plant, site, *manual)
