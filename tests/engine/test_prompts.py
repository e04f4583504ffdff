"""Questions to people: wrong, late, double and missing answers."""

from __future__ import annotations

import asyncio

import pytest
from pytest import approx
from story import UNIT, Story

from tilctl.engine.state import parse_time


async def asked(suite: Story, step: str) -> None:
    await suite.when(lambda: any(p["path"].endswith(step) for p in suite.controller.prompts(UNIT)), f"{step} is asked")


async def test_a_wrong_answer_is_refused_and_names_each_wrong_input(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("questions")
    await asked(suite, "form")
    good = {"grade": "good", "volume": "250 mL", "note": "seen", "scan.lot": "LOT-1", "sign.operator": "operator 7"}
    wrong = {
        "grade": ("superb", "one of good, bad"),
        "volume": ("37 degC", "10"),
        "note": (7, "text"),
        "scan.lot": ("", "missing"),
    }
    everything = await suite.answer(
        "form", "refused", **{name: value for name, (value, _) in wrong.items()}, colour="blue"
    )
    assert everything.code == "bad_answer"
    for name in (*wrong, "sign.operator", "colour"):
        assert name in everything.text, everything.text
    for name, (value, words) in wrong.items():
        outcome = await suite.answer("form", "refused", **(good | {name: value}))
        assert outcome.code == "bad_answer"
        assert name in outcome.text
        assert words in outcome.text
        assert all(other not in outcome.text for other in wrong if other != name), outcome.text
    for value in ("501 mL", "9 mL", "nan mL", "inf", True, [250], {"v": 250}, "1e400 mL", "volume"):
        outcome = await suite.answer("form", "refused", **(good | {"volume": value}))
        assert outcome.code == "bad_answer", value
    for value in ("x" * 501, "a\nb", "\x1b[31m"):
        assert (await suite.answer("form", "refused", **(good | {"note": value}))).code == "bad_answer"
    assert suite.events("answer_received") == []
    assert suite.prompt("form").open
    await suite.answer("form", **(good | {"volume": 0.25}), expect="refused")
    await suite.answer("form", **(good | {"volume": "0.25 L"}))
    await suite.until("talk/form", "complete")
    assert suite.state.values["form.volume"] == (250.0, "mL"), "canonical, whatever unit was typed"
    assert suite.state.values["form.grade"] == ("good", "")
    assert suite.state.values["form.remark"] == (None, ""), "what was optional and not given is known to be unknown"


async def test_a_bare_number_is_in_the_unit_that_was_shown(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("questions")
    await asked(suite, "form")
    spec = suite.controller.prompts(UNIT)[0]["inputs"]["volume"]
    assert (spec["unit"], spec["canonical"], spec["min"], spec["max"]) == ("mL", "mL", 10.0, 500.0)
    await suite.answer("form", grade="bad", volume=120, note="n", **{"scan.lot": "L", "sign.operator": "o"})
    await suite.until("talk/form", "complete")
    assert suite.state.values["form.volume"] == (120.0, "mL")


async def test_answers_to_what_is_not_asked(suite: Story) -> None:
    nobody = await suite.do("prompt-answer", {"prompt": "p1", "inputs": {}}, expect="refused")
    assert nobody.code == "no_prompt"
    suite.hands.mine = {"everything"}
    await suite.start("questions")
    await asked(suite, "form")
    for number in ("p99", "", None, 7, "form"):
        outcome = await suite.do("prompt-answer", {"prompt": number, "inputs": {}}, expect="refused")
        assert outcome.code == "no_prompt", outcome
    outcome = await suite.do("prompt-answer", {"prompt": "p1", "inputs": ["x"]}, expect="refused")
    assert outcome.code == "bad_answer"


async def test_the_second_answer_to_a_question_is_refused(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("questions")
    await asked(suite, "form")
    first = {"grade": "good", "volume": "100 mL", "note": "a", "scan.lot": "L", "sign.operator": "o"}
    both = await asyncio.gather(
        *(
            suite.do("prompt-answer", {"prompt": "p1", "inputs": first | {"volume": volume}}, expect=None)
            for volume in ("100 mL", "200 mL")
        )
    )
    assert sorted(outcome.status for outcome in both) == ["done", "refused"], "answered by two people at once"
    assert next(o for o in both if o.status == "refused").code == "no_prompt"
    later = await suite.do("prompt-answer", {"prompt": "p1", "inputs": first}, expect="refused")
    assert later.code == "no_prompt"
    await suite.until("talk/form", "complete")
    assert len(suite.events("answer_received")) == len(suite.events("prompt_answered")) == 1
    assert suite.state.values["form.volume"] == (100.0, "mL")


async def test_an_answer_with_a_time_of_effect(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("questions")
    await asked(suite, "form")
    moment = suite.moment(suite.now(), 90.0)
    inputs = {"grade": "good", "volume": "100 mL", "note": "a", "scan.lot": "L", "sign.operator": "o"}
    await suite.do("prompt-answer", {"prompt": "p1", "inputs": inputs}, effective=moment)
    assert suite.controller.prompts(UNIT) == [], "it is answered, and nobody is asked any more"
    assert suite.node("talk/form").status == "acting"
    await suite.until("talk/form", "complete")
    assert suite.clock.now() == parse_time(moment)


async def test_overdue_and_hold(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("questions")
    await reach(suite, "strict")
    await suite.until_state("held")
    alarm = next(iter(suite.state.alarms.values()))
    assert alarm.id.startswith("overdue-")
    assert "Strict" in alarm.text
    assert [e.code for e in suite.events("exception_raised")] == ["overdue"]
    assert "answer, then restart" in suite.state.alarms["step-failed"].text
    assert [p["path"] for p in suite.controller.prompts(UNIT)] == ["talk/strict"], "the question stays"
    await suite.do("restart")
    await asyncio.sleep(3600)
    assert suite.runner.state == "running", "restarted by a person it waits as long as it takes"
    await suite.answer("strict")
    await suite.until("talk/strict", "complete")
    await suite.settle()
    assert suite.state.alarms == {}, suite.state.alarms


async def test_overdue_and_continue(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("questions")
    await reach(suite, "strict")
    await suite.answer("strict")
    await asked(suite, "lenient")
    began = suite.clock.now()
    await suite.until("talk/lenient", "complete")
    assert (suite.clock.now() - began).total_seconds() == approx(120.0, abs=1.0)
    assert suite.runner.state == "running"
    late = suite.prompt("lenient")
    assert f"overdue-{late.id}" in suite.state.alarms
    assert late.open, "a late answer is still wanted"
    await suite.until("talk/after", "complete")
    await suite.answer("lenient", ok="yes")
    await suite.when(lambda: "lenient.ok" in suite.state.values, "the late answer is in force")
    assert suite.state.values["lenient.ok"] == ("yes", "")
    await suite.settle()
    assert suite.state.alarms == {}, "an overdue alarm goes when the answer comes"


async def test_a_check_that_does_not_hold_asks_again(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("questions")
    await reach(suite, "checked")
    await suite.answer("checked", level="3")
    await suite.until_state("held")
    assert "does not hold" in suite.node("talk/checked").reason
    await suite.do("restart")
    await asked(suite, "checked")
    assert suite.prompt("checked").spec["attempt"] == 2
    await suite.answer("checked", level="8")
    await suite.until("talk/checked", "complete")
    assert suite.state.values["checked.level"] == (8.0, "")


async def test_deferred_results_come_later(suite: Story) -> None:
    await suite.start("shakedown")
    await suite.until("collect/count", "complete")
    deferred = suite.prompt("collect/count")
    assert [p.kind for p in suite.state.prompts.values() if p.path == "collect/count"] == ["result", "sample"]
    assert "count.sterility" not in suite.state.values
    await suite.until_state("complete")
    assert "count.sterility" not in suite.state.values
    await suite.when(lambda: "count.sterility" in suite.state.values, "the culture is read", within=30 * 86400.0)
    assert suite.state.values["count.sterility"] == ("no_growth", "")
    assert suite.runner.state == "complete"
    assert deferred is not None


async def test_reset_withdraws_what_nobody_answered(suite: Story) -> None:
    suite.hands.mine = {"result"}
    await suite.start("shakedown")
    await suite.until_state("complete")
    assert [p["kind"] for p in suite.controller.prompts(UNIT)] == ["result"]
    path = suite.file()
    await suite.do("reset")
    from tilctl.journal.verify import read  # noqa: PLC0415

    kinds = [record.event.kind for record in read(path.parent / "closed" / path.name)[0]]
    assert "prompt_withdrawn" in kinds, "whoever shows questions is told that it is gone"
    assert kinds[-1] == "batch_closed"


async def reach(suite: Story, step: str) -> None:
    """Answer the form, and what is before `step`."""
    await asked(suite, "form")
    await suite.answer("form", grade="good", volume="100 mL", note="a", **{"scan.lot": "L", "sign.operator": "o"})
    if step == "checked":
        await asked(suite, "strict")
        await suite.answer("strict")
        await asked(suite, "lenient")
        await suite.answer("lenient", ok="yes")
    await asked(suite, step)


@pytest.mark.parametrize("verb", ["stop", "abort"])
async def test_an_answer_under_way_when_the_batch_ends(suite: Story, verb: str) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("questions")
    await asked(suite, "form")
    inputs = {"grade": "good", "volume": "100 mL", "note": "a", "scan.lot": "L", "sign.operator": "o"}
    await suite.do("prompt-answer", {"prompt": "p1", "inputs": inputs}, effective=suite.moment(suite.now(), 600.0))
    await suite.do(verb)
    await asyncio.sleep(1200)
    assert suite.state.node("talk/strict") is None
    await suite.do("reset")


async def test_of_a_family_with_a_fixed_number_all_are_mounted(suite: Story) -> None:
    await suite.start("three")
    await suite.until_state("complete")
    assert [each.name for each in suite.state.ledger.family("flask")] == ["flask[1]", "flask[2]", "flask[3]"]


async def test_a_bag_that_is_due_is_an_alarm_and_is_waited_for(suite: Story) -> None:
    suite.hands.mine = {"everything"}
    await suite.start("due")
    for step, minutes, answer in (("media_in", 20, {"volume.media": "1 L"}), ("media_out", 10, {})):
        await asked(suite, step)
        began = suite.clock.now()
        await suite.when(lambda: [a for a in suite.state.alarms if a.startswith("overdue")], "it is overdue")
        assert (suite.clock.now() - began).total_seconds() == approx(60.0 * minutes, abs=2.0)
        await asyncio.sleep(3600)
        assert (suite.runner.state, suite.node(f"hang/{step}").status) == ("running", "acting")
        await suite.answer(step, **answer)
        await suite.until(f"hang/{step}", "complete")
    await suite.until("hang/last", "complete")
    assert suite.state.alarms == {}, "an overdue alarm goes when the answer comes"
    assert [e.code for e in suite.events("exception_raised")] == ["overdue", "overdue"]
