"""`release`: conditions, signatures, results that come late, before and after the unit is reset, and deaths between."""

from __future__ import annotations

from typing import Any

import pytest
from story import UNIT, Story

from tilctl.engine.port import SITE
from tilctl.journal.verify import read
from tilctl.record.summary import summarize

LOT = "end/lot"
SIGNED = {"sign.quality": "quality 7"}


async def asked(suite: Story, step: str) -> None:
    await suite.when(lambda: any(p["path"].endswith(step) for p in suite.controller.prompts(UNIT)), f"{step} is asked")


async def counted(suite: Story, tvc: str = "1e9 cells", **parameters: str) -> None:
    """Begin, count, and come to where the release is asked for."""
    suite.hands.mine = {"sample", "result", "release"}
    await suite.start("lots", **parameters)
    await asked(suite, "count")
    await suite.when(lambda: len(suite.controller.prompts(UNIT)) == 2, "both are asked")
    await answer(suite, "sample", tvc=tvc)
    await asked(suite, "lot")


async def answer(suite: Story, kind: str, expect: str = "done", **inputs: Any) -> str:
    number = next(p["id"] for p in suite.controller.prompts(UNIT) if p["kind"] == kind)
    given = {name.replace("__", "."): value for name, value in inputs.items()}
    return (await suite.do("prompt-answer", {"prompt": number, "inputs": given}, expect=expect)).text


async def conditional(suite: Story) -> None:
    """Come to a batch that is complete, its lot released conditionally."""
    await counted(suite)
    prompt = suite.prompt("lot")
    assert prompt.spec["inputs"]["decision"]["choices"] == ["conditional", "rejected"]
    assert "awaited: count.sterility, count.mycoplasma" in prompt.text
    await answer(suite, "release", decision="conditional", **SIGNED)
    await suite.until_state("complete")
    assert lot(suite)["outcome"] == "conditional"


def lot(suite: Story) -> dict[str, Any]:
    return suite.controller.status(UNIT)["releases"][LOT]


def closed(suite: Story) -> list[dict[str, Any]]:
    return suite.controller.status(UNIT)["lots"]


async def late(suite: Story, batch: str, prompt: str, expect: str = "done", **inputs: Any) -> str:
    args = {"batch": batch, "prompt": prompt, "inputs": inputs}
    return (await suite.do("prompt-answer", args, expect=expect)).text


async def test_late_results_that_agree_complete_a_conditional_release(suite: Story) -> None:
    await conditional(suite)
    await answer(suite, "result", sterility="pending", mycoplasma="negative")
    await suite.when(lambda: lot(suite)["pending"] == ["count.sterility"], "one is awaited")
    assert lot(suite)["verdicts"] == {"many": "met", "sterile": "pending", "clean": "met"}
    await suite.when(lambda: len(suite.controller.prompts(UNIT)) == 1, "what is pending stays asked for")
    assert [*suite.controller.prompts(UNIT)[0]["inputs"]] == ["sterility"]
    await answer(suite, "result", sterility="no_growth")
    await suite.when(lambda: lot(suite)["outcome"] == "released", "the last one agrees")
    assert suite.state.values["lot.outcome"] == ("released", "")
    (entry,) = summarize(suite.records()).releases
    assert (entry.outcome, entry.pending, entry.by) == ("released", (), "results")
    assert [event.outcome for event in suite.events("lot_decided")] == ["conditional", "conditional", "released"]
    assert suite.controller.prompts(UNIT) == []


async def test_a_late_result_that_contradicts_reopens_it_until_that_is_signed(suite: Story) -> None:
    await conditional(suite)
    await answer(suite, "result", sterility="growth", mycoplasma="pending")
    await suite.when(lambda: lot(suite)["outcome"] == "reopened", "it is re-opened")
    assert suite.events("alarm_raised", alarm="release-reopened")[0].priority == "critical"
    assert [e.code for e in suite.events("exception_raised")] == ["release-reopened"]
    assert summarize(suite.records()).releases[0].outcome == "reopened"
    refused = await suite.do("reset", expect="refused")
    assert "sign its rejection first" in refused.text
    await suite.when(lambda: any(p["kind"] == "release" for p in suite.controller.prompts(UNIT)), "it asks for that")
    await answer(suite, "release", **SIGNED)
    await suite.when(lambda: lot(suite)["outcome"] == "rejected", "it is signed")
    assert "release-reopened" not in suite.state.alarms
    assert suite.events("lot_decided")[-1].by == "quality quality 7"
    await suite.do("reset")
    assert closed(suite) == []


async def test_conditions_that_fail_reject_and_nobody_can_release_then(suite: Story) -> None:
    await counted(suite, tvc="10 cells")
    assert suite.prompt("lot").spec["inputs"]["decision"]["choices"] == ["rejected"]
    text = await answer(suite, "release", "refused", decision="released", **SIGNED)
    assert "rejected" in text
    await answer(suite, "release", decision="rejected", why="too few", **SIGNED)
    await suite.until_state("complete")
    assert lot(suite)["outcome"] == "rejected"
    (exception,) = suite.events("exception_raised")
    assert exception.text == "rejected: not met many; pending sterile, clean (too few)"
    await answer(suite, "result", sterility="growth", mycoplasma="positive")
    await suite.settle()
    assert lot(suite)["outcome"] == "rejected"


async def test_what_is_signed_is_what_was_shown(suite: Story) -> None:
    await counted(suite)
    first = suite.prompt("lot").id
    await answer(suite, "result", sterility="growth", mycoplasma="negative")
    await suite.settle()
    await answer(suite, "release", decision="conditional", **SIGNED)
    await suite.when(lambda: suite.prompt("lot").id != first, "it is asked anew")
    assert suite.prompt("lot").spec["inputs"]["decision"]["choices"] == ["rejected"]
    assert LOT not in suite.state.lots


async def test_results_are_taken_after_the_unit_is_reset_and_over_a_restart(suite: Story) -> None:
    await conditional(suite)
    batch, number = suite.runner.batch.name, next(p["id"] for p in suite.controller.prompts(UNIT))
    said = await suite.do("reset")
    assert "2 results are awaited" in said.text
    assert [(row["batch"], row["outcome"]) for row in closed(suite)] == [(batch, "conditional")]
    await suite.start("still", wait="2 h")  # the unit is free, and works on something else
    await suite.power_cut(5.0)
    assert "one of pending, no_growth, growth" in await late(suite, batch, number, "refused", sterility="none")
    await late(suite, batch, "p99", "refused", sterility="growth")
    await late(suite, batch, number, sterility="pending", mycoplasma="negative")
    (row,) = closed(suite)
    assert row["pending"] == ["count.sterility"]
    assert [*row["prompts"][0]["inputs"]] == ["sterility"]
    await late(suite, batch, number, sterility="no_growth")
    assert closed(suite) == []
    records, verdict = read(suite.folder / "data" / "site.db")
    assert verdict.ok
    assert [r.event.outcome for r in records if r.event.kind == "lot_answered"] == ["conditional", "released"]
    await suite.do("abort")


async def test_a_result_after_the_reset_that_contradicts_is_a_critical_alarm_of_the_site(suite: Story) -> None:
    await conditional(suite)
    batch, number = suite.runner.batch.name, next(p["id"] for p in suite.controller.prompts(UNIT))
    await suite.do("reset")
    await late(suite, batch, number, sterility="growth", mycoplasma="negative")
    await suite.power_cut(5.0)
    alarm = f"release-reopened-{batch}"
    await suite.settle()
    (found,) = [row for row in suite.controller.alarms(SITE) if row["alarm"] == alarm]
    assert (found["priority"], found["active"]) == ("critical", True)
    assert found["help"]["action"].startswith("stop the use")
    assert "sign" in [prompt["id"] for prompt in closed(suite)[0]["prompts"]]
    await late(suite, batch, "sign", **SIGNED)
    await suite.settle()
    assert closed(suite) == []
    assert not any(row["alarm"] == alarm and row["active"] for row in suite.controller.alarms(SITE))


@pytest.mark.parametrize("outcome", ["released", "reopened"])
@pytest.mark.parametrize("number", range(1, 7))
async def test_a_death_beside_a_late_result_changes_nothing_of_what_it_comes_to(
    suite: Story, number: int, outcome: str
) -> None:
    await conditional(suite)
    seen = 0

    def reached(_: object) -> bool:
        nonlocal seen
        seen += 1
        return seen == number

    suite.kill_at(reached)
    sterility = "no_growth" if outcome == "released" else "growth"
    given = {"prompt": suite.prompt("count").id, "inputs": {"sterility": sterility, "mycoplasma": "negative"}}
    await suite.do("prompt-answer", given, expect=None)
    await suite.settle()
    suite.kill_at(None)
    await suite.power_cut(5.0)
    if suite.prompt("count").open:
        await suite.do("prompt-answer", given)
    await suite.when(lambda: lot(suite)["outcome"] == outcome, outcome)
    await suite.settle()
    assert [event.outcome for event in suite.events("lot_decided")] == ["conditional", outcome]
    assert ("release-reopened" in suite.state.alarms) == (outcome == "reopened")
    assert len([p for p in suite.controller.prompts(UNIT) if p["kind"] == "release"]) == (outcome == "reopened")


async def test_rows_of_files_are_known_by_their_marks_over_a_restart(suite: Story) -> None:
    await conditional(suite)
    batch, number = suite.runner.batch.name, next(p["id"] for p in suite.controller.prompts(UNIT))

    async def reported(mark: str, expect: str = "done", **more: str) -> None:
        found = {"sterility": {"time": "2026-01-19T08:30:00Z", "analyst": "Anna", "row": mark}}
        inputs = {"sterility": "pending", "mycoplasma": "pending"}
        args = {"prompt": number, "inputs": inputs, "reported": found, **more}
        await suite.do("prompt-answer", args, expect=expect)

    await reported("one")
    await reported("two", expect="refused")
    await suite.power_cut(5.0)
    assert suite.controller.imported(UNIT) == {batch: ["one"]}
    await suite.when(lambda: suite.controller.prompts(UNIT), "it is asked for again")
    number = suite.controller.prompts(UNIT)[0]["id"]
    await suite.do("reset")
    await reported("three", batch=batch)
    await suite.power_cut(5.0)
    assert suite.controller.imported(UNIT) == {batch: ["three"]}
