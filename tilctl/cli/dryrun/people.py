"""What people do in a dry run: they answer, draw samples, put containers up and take them away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from devices.quantity import Quantity, parse_as
from recipes import steps as verbs
from recipes.releasing import Verdict, outcome_of, verdict
from recipes.template import render
from tilctl.cli.dryrun.asking import Answered, inputs_of_ask, inputs_of_sample, item_of, shown
from tilctl.cli.dryrun.course import Counted, Mounted, Sampled
from tilctl.cli.dryrun.run import Aliases, Run
from tilctl.engine.errors import StepError
from tilctl.engine.verbs.mount import MINUTES_A_DAY
from tilctl.plant.ledger import Container


async def _put(
    run: Run,
    path: str,
    kind: str,
    text: str,
    inputs: Mapping[str, Mapping[str, Any]],
    due: str | None = None,
    containers: Sequence[Mapping[str, Any]] = (),
    sources: Sequence[Mapping[str, Any]] = (),
) -> Answered:
    asked = run.clock.utc(run.clock.monotonic())
    latest = None if due is None else asked + timedelta(seconds=parse_as(due, "s"))
    answer = run.asking.ask(path, kind, text, inputs, asked, latest, containers, sources)
    await run.pass_s(answer.delay_s)
    return answer


async def ask(run: Run, step: verbs.Ask, path: str, aliases: Aliases) -> None:
    """Ask, and take the answer; raises StepError where it is not as it must be."""
    text = run.course.asked[path] = render(step.text, run.scope(aliases))
    answer = await _put(run, path, "ask", text, inputs_of_ask(step), step.due)
    run.known.set(path, {name: answer.values.get(name) for name in step.inputs})
    if step.check is not None and not run.truth(path, step.check, aliases):
        raise StepError(f"{path}: '{step.check}' does not hold", "see to it, and answer again")


async def sample(run: Run, step: verbs.Sample, path: str, aliases: Aliases) -> None:
    """Draw a sample; what is awaited is given after a while."""
    sources = run.known.ledger.family(step.from_) or [run.container(path, step.from_, aliases)]
    async with run.alone(path, *(each.name for each in sources)):
        await _sample(run, step, path, aliases, sources)


async def _sample(run: Run, step: verbs.Sample, path: str, aliases: Aliases, sources: Sequence[Container]) -> None:
    volume = run.number(path, step.volume, aliases)
    if volume > 0:
        run.known.sampled(sources[0].name, volume)
    run.course.sampled.append(Sampled(path, run.clock.monotonic(), sources[0].name, volume, step.results))
    run.known.set(path, dict.fromkeys(step.deferred))
    if not step.awaited:
        run.bench.sample(sources[0].name, volume)
        return
    true = sum(c.contents.viable for each in sources if (c := run.plant.place(run.liquids.port(each.name))))
    drawn, began = [shown(each.name, run.liquids.port(each.name)) for each in sources], run.clock.monotonic()
    inputs = inputs_of_sample(step, run.recipe)
    answer = await _put(run, path, "sample", f"Sample {step.from_}", inputs, step.due, sources=drawn)
    run.known.set(path, {name: answer.values.get(name) for name in step.awaited})
    seen = answer.values.get("tvc")
    if isinstance(seen, Quantity):
        run.course.counts.append(Counted(path, began, seen.value, true))


async def release(run: Run, step: verbs.Release, path: str, aliases: Aliases) -> None:
    """Have what the conditions come to signed; raises StepError where one cannot be judged."""
    scope = run.scope(aliases)
    verdicts: dict[str, Verdict] = {name: verdict(condition, scope) for name, condition in step.conditions.items()}
    if unknown := [name for name, found in verdicts.items() if found == "unknown"]:
        raise StepError(f"{path}: {', '.join(unknown)} cannot be judged", "see to what is missing")
    outcome = outcome_of(verdicts.values())
    text = run.course.asked[path] = f"{step.text or f'Release of {path}'}: {outcome}"
    inputs: dict[str, Mapping[str, Any]] = {"decision": {"type": "choice", "choices": [outcome, "rejected"]}}
    inputs |= {f"sign.{role}": {"type": "text"} for role in step.sign}
    answer = await _put(run, path, "release", text, inputs, step.due)
    decided = str(answer.values["decision"])
    if decided == "rejected":
        run.course.exceptions.append(f"{path}: the lot is rejected")
    run.known.set(path, {"outcome": decided})


async def mount(run: Run, step: verbs.Mount, path: str, aliases: Aliases) -> None:
    """Have containers put into free places; raises NoPlace and StepError."""
    items: list[dict[str, Any]] = []
    for family in step.containers:
        declared = run.recipe.containers[family]
        volume = step.volume_of(family)
        number = int(run.number(path, step.count_of(family) or declared.count or "1", aliases))
        held = None if volume == "ask" else run.number(path, volume, aliases)
        for name in [family] if declared.count is None else [f"{family}[{i}]" for i in range(1, number + 1)]:
            if run.known.ledger.family(name):
                raise StepError(f"{path}: {name} is mounted already", "unmount it first")
            place = step.at or declared.place_class
            port = run.liquids.place(name, place)
            items.append(item_of(name, declared, place, port, run.known.limit_ml(name), held))
    limits = {"type": "number", "min": 0.0, "unit": "mL", "canonical": "mL"}
    inputs = {f"volume.{i['name']}": limits | {"max": i["limit_ml"]} for i in items if i["volume_ml"] is None}
    answer = await _put(run, path, "mount", step.text or "Mount", inputs, step.due, items)
    for item in items:
        name = item["name"]
        given = answer.values.get(f"volume.{name}")
        held = given.value if isinstance(given, Quantity) else float(item["volume_ml"] or 0.0)
        lost = parse_as(run.recipe.containers[name.partition("[")[0]].evaporation, "mL/min") * MINUTES_A_DAY
        run.known.mounted(name, item["place"] + str(item["port"]), item["class"], held, lost)
        run.course.mounted.append(Mounted(path, name, item["volume_ml"], held))


async def unmount(run: Run, step: verbs.Unmount, path: str) -> None:
    """Have containers taken away."""
    leaving = [each for name in step.containers for each in run.known.ledger.family(name)]
    if not leaving:
        return
    items = [shown(each.name, run.liquids.port(each.name)) for each in leaving]
    await _put(run, path, "unmount", step.text or "Take away", {}, step.due, items)
    for each in leaving:
        run.known.unmounted(each.name)
        run.liquids.free(each.name)
