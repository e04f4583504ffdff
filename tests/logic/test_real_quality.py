"""When a value of a real instrument may be trusted: its status registers decide, as the maker describes them."""

from __future__ import annotations

import struct

import pytest

from devices.elsewhere import ElsewhereRules
from devices.frames import BlockDecoder
from devices.profile import load_profile
from devices.reading import Quality


def low_first(value: float) -> tuple[int, int]:
    """Return a float32 as two words, CDAB."""
    high, low = struct.unpack(">2H", struct.pack(">f", value))
    return low, high


def measurement(unit: int, value: float, status: int) -> list[int]:
    """Return the ten registers of a Hamilton measurement."""
    words = [unit & 0xFFFF, unit >> 16, *low_first(value), status & 0xFFFF, status >> 16]
    return [*words, *low_first(0.0), *low_first(100.0)]


@pytest.mark.parametrize(
    ("profile", "name", "right", "value", "others"),
    [
        ("hamilton-visiferm-do", "oxygen", 0x20, 95.5, (0x10, 0x40, 0x80, 0x800000, 0x1000)),
        ("hamilton-ph-arc", "ph", 0x1000, 7.25, (0x200000, 0x20, 0x1)),
    ],
)
def test_a_hamilton_value_is_good_only_in_its_unit(
    profile: str, name: str, right: int, value: float, others: tuple[int, ...]
):
    loaded = load_profile(profile)
    decoder = BlockDecoder(loaded.blocks[name])
    assert (loaded.blocks[name].atomic, loaded.blocks[name].count) == (True, 10)

    def judged(unit: int, status: int) -> tuple[object, Quality]:
        reading = decoder.decode(measurement(unit, value, status), 0.0)[name]
        return reading.value, reading.quality

    assert judged(right, 0) == (value, Quality.GOOD)
    for doubt in range(4):
        assert judged(right, 1 << doubt) == (value, Quality.UNCERTAIN), doubt
    assert judged(right, 1 << 4)[1] is Quality.BAD
    for other in others:
        assert judged(other, 0)[1] is Quality.BAD, hex(other)


@pytest.mark.parametrize("profile", ["hamilton-visiferm-do", "hamilton-ph-arc"])
def test_a_hamilton_temperature_is_good_only_in_degrees_celsius(profile: str):
    decoder = BlockDecoder(load_profile(profile).blocks["temperature"])
    for unit, quality in ((0x4, Quality.GOOD), (0x2, Quality.BAD), (0x8, Quality.BAD)):
        assert decoder.decode(measurement(unit, 37.0, 0), 0.0)["temperature"].quality is quality


@pytest.mark.parametrize(
    ("profile", "point", "block", "words", "status", "healthy", "ill", "quality"),
    [
        ("eurotherm-epc3016", "temperature", "loop", [0x4214, 0] * 5, "sensor", [0, 0], [0, 1], Quality.BAD),
        ("eurotherm-epc3016", "temperature", "loop", [0x4214, 0] * 5, "sensor", [0, 0], [1, 0], Quality.BAD),
        ("eurotherm-epc3016", "temperature", "loop", [0x4214, 0] * 5, "loop_break", [0], [1], Quality.BAD),
        ("eurotherm-epc3016", "target", "loop", [0x4214, 0] * 5, "loop_mode", [0], [1], Quality.BAD),
        ("eurotherm-3216p", "temperature", "loop", [370] * 5, "status", [0], [1 << 5], Quality.BAD),
        ("eurotherm-3216p", "temperature", "loop", [370] * 5, "status", [0], [1 << 6], Quality.BAD),
        ("vaisala-gmp251", "co2", "gas", [0x5000, 0x4743], "status", [0, 0], [0, 2], Quality.UNCERTAIN),
        ("vaisala-gmp251", "co2", "gas", [0x5000, 0x4743], "status", [0, 0], [0, 256], Quality.UNCERTAIN),
        ("voegtlin-redy", "flow", "flow", [0] * 12, "alarms", [0, 0, 1], [0, 4, 1], Quality.BAD),
    ],
)  # fmt: skip
def test_a_status_register_decides_over_a_value_of_another_block(
    profile: str, point: str, block: str, words: list[int], status: str, healthy: list[int], ill: list[int],
    quality: Quality,
):  # fmt: skip
    loaded = load_profile(profile)

    def judged(registers: list[int]) -> Quality:
        rules = ElsewhereRules(loaded)
        for name, found in loaded.blocks.items():
            if name not in (status, block):
                rules.judged(BlockDecoder(found).decode([0] * found.count, 0.0), 0.0)
        rules.judged(BlockDecoder(loaded.blocks[status]).decode(registers, 0.0), 0.0)
        readings = BlockDecoder(loaded.blocks[block]).decode(words, 0.0)
        return rules.judged(readings, 0.0)[point].quality

    assert judged(healthy) is Quality.GOOD
    assert judged(ill) is quality
    order = list(loaded.blocks)
    assert order.index(status) < order.index(block), "the status is read before what it judges"
