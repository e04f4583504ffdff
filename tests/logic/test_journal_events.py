"""Events as text: what is written reads back the same; what could not be read again is not written."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilctl.journal import events as ev

UNKNOWN_PRIORITY: Any = "urgent"


def test_every_event_reads_back_as_it_was_written() -> None:
    samples: dict[str, Any] = {
        "str": "ä \u0000 \"quoted\" \n 'line'", "str | None": None, "int": 7, "int | None": 2, "bool | None": None,
        "list[list[float | None]]": [[10.0, None, -2.5], []], "float": 0.1, "float | None": 1e-300,
        "bool": True, "Json": {"a": [1, 2.5, None, {"b": "c"}], "": {}}, "dict[str, Any]": {"x": 1},
        "dict[str, str]": {"volume": "5 L"}, "list[Json]": [{"a": 1.5}, {}],
            "dict[str, Json]": {"clean": {"when": "a.b == no"}}, "list[str]": ["a", ""],
            "dict[str, list[Any]]": {"a.b": [1.5, "mL"], "c.d": [None, ""]},
        "dict[str, Scalar]": {"n": 3.0, "go": True, "choice": "yes", "unknown": None}, "Scalar": 37.0,
        "Outcome": "in_doubt", "Priority": "critical",
        "Literal['complete', 'stopped', 'aborted']": "aborted", "Literal['device', 'person']": "person",
        "Literal['run', 'boot', 'adopted']": "adopted", "dict[str, Any] | None": {"unit": {"interlocks": {}}},
        "Literal['re_alarm', 'escalated']": "escalated", "Aside": "shelved", "Mode": "manual", "Release": "skip",
    }  # fmt: skip
    kinds: set[str] = set()
    for group in get_args(ev.Event):
        values = {f.name: samples[str(f.type).replace(chr(34), chr(39))] for f in fields(group) if f.name != "kind"}
        event = group(**values)
        kinds.add(event.kind)
        text = ev.to_json(event)
        assert ev.from_json(text) == event
        assert ev.to_json(ev.from_json(text)) == text
        assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False) == text
    assert len(kinds) == len(get_args(ev.Event)) == 70


@given(
    st.dictionaries(
        st.text(), st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.text(), st.booleans(), st.none())
    )
)
def test_any_values_survive_or_are_refused(values: dict[str, Any]) -> None:
    try:
        text, sealed = ev.seal(ev.ValuesSet("p", values))
    except ev.EventError:
        assert any("\ud800" <= c <= "\udfff" for k, v in values.items() for c in k + (v if isinstance(v, str) else ""))
        return
    assert isinstance(sealed, ev.ValuesSet)
    assert sealed.values == values
    assert ev.seal(sealed)[0] == text


def test_what_runs_on_is_what_a_restart_finds() -> None:
    written = ev.IntentClosed(1, "rep/medium", "done", 5, None, {"ports": (1, 2)})
    text, sealed = ev.seal(written)
    assert '"delivered_ml":5.0' in text
    assert isinstance(sealed, ev.IntentClosed)
    assert sealed.evidence == {"ports": [1, 2]}
    assert ev.from_json(text) == sealed


wrong_text: Any = 5


@pytest.mark.parametrize(
    "event",
    [
        ev.Outage("a", "b", math.nan),
        ev.Outage("a", "b", math.inf),
        ev.Recovered({"deep": [{"down": math.nan}]}),
        ev.Marked("day0", wrong_text),
        ev.StepStarted("p", "set", {"x": object()}),
        ev.StepStarted("p", "\ud800"),
        ev.AlarmRaised("a", UNKNOWN_PRIORITY, "text"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(event: ev.Event) -> None:
    with pytest.raises(ev.EventError):
        ev.to_json(event)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"kind":"teleported"}', "knows no event of kind 'teleported'"),
        ('{"kind":"batch_closed","extra":1}', "extra"),
        ('{"kind":"marked","mark":"day0"}', "marked.t"),
        ('{"kind":"marked","mark":"day0","t":5}', "marked.t"),
        ("[1,2]", "object"),
        ("{", "JSON"),
        ("", "JSON"),
    ],
)
def test_a_text_that_is_no_event_says_why(text: str, says: str) -> None:
    with pytest.raises(ev.EventError, match=says.replace("'", ".")):
        ev.from_json(text)
