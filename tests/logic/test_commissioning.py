"""What a person types as arguments of a command, and what is shown before it is sent, for profiles of every kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from devices.profile import load_profile
from tilctl.cli.commissioning.search import units_of
from tilctl.cli.commissioning.single import arguments_of, blocks_of, command_of, in_words, planned, seconds_of
from tilctl.cli.exits import CommandFailed, Exit

IO = load_profile("moxa-e1214")
LONGER = load_profile("longer-l100")
WORN = load_profile("eurotherm-epc3016")


def test_an_output_is_chosen_by_its_index():
    command = command_of(IO, "set_output")
    args = arguments_of(command, {"channel": "3", "value": "true"})
    assert args == {"channel": 3.0, "value": 1.0}
    assert arguments_of(command, {"channel": "0", "value": "false"}) == {"channel": 0.0, "value": 0.0}
    told = planned("io", IO, command, args, "unit 1 on line")
    assert "function code 5, address 3 (0x0003): 0xFF00" in told[1]
    assert "block outputs echoes it, within 2 s" in told[2]
    for given, says in (
        ({"channel": "6", "value": "true"}, "channel 6 is outside 0 to 5"),
        ({"channel": "1.5", "value": "true"}, "channel must be a whole number"),
    ):
        with pytest.raises(CommandFailed, match=says) as failed:
            planned("io", IO, command, arguments_of(command, given), "unit 1 on line")
        assert failed.value.code is Exit.BAD_INPUT
    for given, says in (
        ({"channel": "1", "value": "on"}, "neither true nor false"),
        ({"channel": "1"}, "needs value: channel=0..5, value=true|false"),
        ({"channel": "one", "value": "true"}, "channel"),
    ):
        with pytest.raises(CommandFailed) as failed:
            arguments_of(command, given)
        assert says in str(failed.value)


def test_what_is_kept_worn_or_repeated_is_said_before():
    start = planned("pump", LONGER, command_of(LONGER, "start"), {}, "unit 1 on line")
    assert any("with bits of control as they then read" in line for line in start)
    assert any("it does it again" in line for line in start)
    worn = planned("t", WORN, command_of(WORN, "set_temperature"), {"value": 37.0}, "unit 1 on line")
    assert any("100 writes a day" in line for line in worn)


def test_a_time_is_written_with_or_without_a_space():
    assert [seconds_of(text, "--every") for text in ("1 s", "1s", "0.5s", "250 ms", "250ms", "2min")] == [
        1.0, 1.0, 0.5, 0.25, 0.25, 120.0,
    ]  # fmt: skip
    for text in ("", "1", "s", "-1 s", "1 h 2", "2 h", "1e9 s", "0 s", "nan s"):
        with pytest.raises(CommandFailed, match="--every"):
            seconds_of(text, "--every")


def test_units_are_taken_in_order_and_once():
    assert units_of("3,1-2,2", 3) == [3, 1, 2]
    assert units_of("247", 1) == [247]
    for text in ("", "1-", "-1", "1-2-3", "248", "0", "1,,2", "a"):
        with pytest.raises(CommandFailed, match="--units"):
            units_of(text, 247)


def test_the_blocks_that_decide_come_first():
    template = load_profile(Path(__file__).parents[2] / "devices" / "template.yaml")
    assert blocks_of(template, "flow") == ["state", "values"]
    assert blocks_of(template, "setpoint") == ["target"]
    with pytest.raises(CommandFailed, match="no point 'pressure'"):
        blocks_of(WORN, "pressure")


def test_over_mqtt_no_registers_are_shown():
    command = command_of(WORN, "set_temperature")
    told = planned("t", replace(WORN, kinds=("mqtt",)), command, {"value": 37.0}, "shelly-1 on plugs")
    assert (
        told[0] == "t (eurotherm-epc3016, evidence manual+driver, shelly-1 on plugs): set_temperature, value = 37 degC"
    )
    assert told[1] == "  sends     one message"
    assert in_words(command, {"value": 37.0}) == "set_temperature, value = 37 degC"
