"""The summary of a batch says what its record says, and nothing that is not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tilctl.journal import events as ev
from tilctl.journal.chain import GENESIS, Record, link
from tilctl.record.summary import AlarmEntry, Count, Dose, summarize

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
CREATED = ev.BatchCreated("b1", "cell1", "til-22d", "1.0.0", "", "", {}, {}, "0.1", "")


def record_of(*events: ev.Event, every: timedelta = timedelta(hours=6)) -> list[Record]:
    """Return a record with one event after the other, each `every` later than the one before."""
    head, records = (0, GENESIS), list[Record]()
    for number, event in enumerate(events):
        record, _ = link(event, START + number * every, head)
        head = (record.seq, record.hash)
        records.append(record)
    return records


def opened(intent: int, volume: float = 100.0, sequence: int = 1) -> ev.IntentOpened:
    args = {"from": "cm2", "to": "rep", "volume": volume, "rate": 80.0, "sequence": sequence, "way": "media"}
    return ev.IntentOpened(intent, "rep/medium", "pump_media", "dispense", args, {})


def moved(target: str, reason: str = "", path: str = "") -> ev.StateChanged:
    return ev.StateChanged(path, "running", target, "", reason)


def test_nothing_is_known_without_a_record():
    summary = summarize([])
    assert (summary.state, summary.days, summary.viable_cells, summary.doses) == ("idle", 0.0, None, ())


def test_batch_recipe_state_and_span_come_from_the_record():
    summary = summarize(record_of(CREATED, moved("running"), moved("running", path="rep"), moved("complete")))
    assert (summary.batch, summary.unit, summary.recipe, summary.state) == ("b1", "cell1", "til-22d", "complete")
    assert summary.days == pytest.approx(0.75)
    assert summary.started == "2026-01-05T08:00:00.000Z"


def test_an_operation_that_completes_is_not_the_batch():
    assert summarize(record_of(CREATED, moved("running"), moved("complete", path="rep"))).state == "running"


def test_every_intent_of_a_pump_is_a_dose_and_a_freezing_run_is_none():
    freeze = ev.IntentOpened(3, "cryo/run", "freezer", "start", {"sequence": 1, "load": "product"}, {})
    closed = ev.IntentClosed(1, "rep/medium", "partial", 90.5, 100.0, {})
    remainder = ev.IntentClosed(2, "rep/medium", "done", 9.6, 9.5, {})
    doses = summarize(record_of(CREATED, opened(1), closed, opened(2, 9.5, 2), remainder, freeze)).doses
    assert doses == (
        Dose("rep/medium", "pump_media", 1, "cm2", "rep", 100.0, 90.5, 100.0, "partial"),
        Dose("rep/medium", "pump_media", 2, "cm2", "rep", 9.5, 9.6, 9.5, "done"),
    )


def test_an_open_dose_has_no_volume_and_a_doubtful_one_is_as_a_person_closes_it():
    assert summarize(record_of(CREATED, opened(1))).doses[0].delivered_ml is None
    doubt = ev.IntentClosed(1, "rep/medium", "in_doubt", None, None, {})
    person = ev.IntentClosed(1, "rep/medium", "done", 99.0, None, {}, by="person")
    dose = summarize(record_of(CREATED, opened(1), doubt, person)).doses[0]
    assert (dose.outcome, dose.delivered_ml) == ("done", 99.0)


def test_cells_and_viability_are_the_last_of_each_wherever_they_come_from():
    first = ev.ValuesSet("reduce_count/count11", {"tvc": 1e8, "viability": 89.0}, {})
    last = ev.ValuesSet("harvest/count22", {"tvc": 7e9, "viability": 92.0}, {})
    wash = ev.ValuesSet("harvest/wash", {"tvc": 6e9, "volume": 50.0}, {})
    unknown = ev.ValuesSet("harvest/again", {"tvc": None, "viability": None}, {})
    summary = summarize(record_of(CREATED, first, last, wash, unknown))
    assert (summary.viable_cells, summary.viability) == (6e9, 92.0)
    assert [count.path for count in summary.counts] == ["reduce_count/count11", "harvest/count22", "harvest/wash"]
    assert summary.counts[2] == Count("2026-01-06T02:00:00.000Z", "harvest/wash", 6e9, None)


def test_words_and_truth_values_are_no_counts():
    assert summarize(record_of(CREATED, ev.ValuesSet("a/b", {"tvc": "many", "viability": True}, {}))).counts == ()


def test_an_alarm_is_listed_each_time_it_is_raised_with_when_it_was_cleared():
    raised = ev.AlarmRaised("warm", "high", "too warm", "", {})
    alarms = summarize(record_of(CREATED, raised, ev.AlarmCleared("warm"), raised)).alarms
    first, second = "2026-01-05T14:00:00.000Z", "2026-01-05T20:00:00.000Z"
    assert alarms[0] == AlarmEntry("warm", "high", "too warm", "", first, second)
    assert [alarm.cleared for alarm in alarms] == [second, None]


def test_what_the_review_must_look_at_is_gathered_and_plain_notes_are_not():
    events = [
        ev.ExceptionRaised("volume", "8 mL off", "rep/medium"),
        ev.Noted("harvest/low", "recovery is low", exception=True),
        ev.Noted("harvest/ok", "all is well", exception=False),
        ev.StepFailed("rep/medium", "the pump is offline", "see to it"),
        ev.StepInDoubt("rep/medium", 1, "no evidence"),
        ev.Outage("a", "b", 90.0),
    ]
    exceptions = summarize(record_of(CREATED, *events)).exceptions
    assert [remark.code for remark in exceptions] == ["volume", "noted", "failed", "in_doubt", "outage"]
    assert "see to it" in exceptions[2].text


def test_prompts_are_counted_when_asked_and_when_an_answer_took_effect():
    asked = [ev.PromptOpened(f"p{n}", "a/b", "ask", "?", {}, None) for n in (1, 2, 3)]
    received = ev.AnswerReceived("p2", "c", "operator", {}, "2026-01-05T09:00:00Z")
    answered = ev.PromptAnswered("p1", "a/b", {})
    summary = summarize(record_of(CREATED, *asked, answered, received))
    assert (summary.prompts_asked, summary.prompts_answered) == (3, 1)


def test_a_held_batch_says_why_and_one_that_went_on_says_nothing():
    held = [moved("holding", "too warm"), moved("held", "too warm")]
    assert summarize(record_of(CREATED, moved("running"), *held)).reason == "too warm"
    assert summarize(record_of(CREATED, *held, moved("restarting"), moved("running"))).reason == ""
    ended = ev.BatchEnded("stopped", "too few cells")
    assert summarize(record_of(CREATED, ended, moved("stopped"))).reason == "too few cells"


def test_a_freezing_run_comes_with_its_rows_also_from_a_record_without_set_points():
    data = {
        "profile": "F3",
        "ended_as": "complete",
        "series": [[0.0, 4.0, None], [30.0, 3.5, 4.0, 3.0]],
        "findings": [{"criterion": "end", "ok": True}],
    }
    run = summarize(record_of(CREATED, ev.FreezeReported("cryo/run", data))).freezing[0]
    assert run.series == ((0.0, 4.0, None, None), (30.0, 3.5, 4.0, 3.0))
    assert run.findings[0]["criterion"] == "end"


def test_marks_keep_the_moment_they_name_not_that_of_the_record():
    summary = summarize(record_of(CREATED, ev.Marked("day0", "2026-01-05T08:01:00.000Z")))
    assert summary.marks == {"day0": "2026-01-05T08:01:00.000Z"}
