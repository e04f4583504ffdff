"""Lots that were released while results were pending: late results complete a release, or re-open it.

It looks on in every state of the batch, also when that is over, and knows nothing that is not on the record: what a
crash left half done is done when it looks again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from recipes.expr import ExprError, compile, explain
from recipes.model import step_at
from recipes.release import PENDING, Release
from recipes.releasing import Verdict, outstanding, verdict
from tilctl.engine.batch import Batch
from tilctl.engine.prompts import Prompts
from tilctl.engine.scope import BatchScope
from tilctl.engine.state import Prompt
from tilctl.journal import events as ev
from tilctl.journal.chain import Record
from tilctl.journal.store import JournalError

ALARM = "release-reopened"
_RESULTS = ("sample", "result")


class Releases:
    """The conditionally released lots of one batch."""

    def __init__(
        self, batch: Batch, prompts: Prompts, alarm: Callable[..., None], clear: Callable[[str], None]
    ) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._batch = batch
        self._prompts = prompts
        self._alarm = alarm
        self._clear = clear
        self._said: dict[str, tuple[str, dict[str, str]]] = {}  # by path: what was noted last, on its way to disk
        self._asking: set[str] = set()
        batch.observers.append(self._observe)

    def _observe(self, record: Record) -> None:
        if isinstance(record.event, ev.ValuesSet | ev.PromptAnswered | ev.LotDecided):
            self.look()

    def look(self) -> None:
        """See what the results that are there now make of each lot, and that what is missing is asked for."""
        for path in list(self._batch.state.lots):
            outcome, _ = self._standing(path)
            if outcome == "conditional":
                self._judge(path)
            elif outcome == "reopened":
                self._signed(path)

    def kept(self) -> set[str]:
        """Return the questions that an end of the batch does not withdraw: results that are awaited, signatures."""
        state, found = self._batch.state, set[str]()
        for path, lot in state.lots.items():
            if lot.outcome in ("conditional", "reopened"):
                found |= {p.id for name in lot.pending if (p := asked_for(state.prompts.values(), name)) is not None}
                found |= {p.id for p in state.prompts.values() if p.path == path and p.kind == "release"}
        return found

    def unsigned(self) -> list[str]:
        """Return the lots that were re-opened and of which nobody has signed what becomes of them."""
        return [path for path in self._batch.state.lots if self._standing(path)[0] == "reopened"]

    def _standing(self, path: str) -> tuple[str, dict[str, str]]:
        lot = self._batch.state.lots[path]
        return self._said.get(path, (lot.outcome, lot.verdicts))

    def _judge(self, path: str) -> None:
        step = step_at(self._batch.recipe, path)
        if not isinstance(step, Release):
            return
        scope = BatchScope(self._batch, {})
        _, before = self._standing(path)
        verdicts = dict(before)
        for name, condition in step.conditions.items():
            if before.get(name) == "pending":
                try:
                    found: Verdict = verdict(condition, scope)
                except ExprError:
                    found = "unknown"
                verdicts[name] = "pending" if found == "unknown" else found  # Invariant: unknown completes nothing
        pending = outstanding(step.conditions, verdicts, scope)
        if verdicts == before:
            self._ask(f"{path} results", lambda: ask_for(self._batch, self._prompts, pending))
            return
        if failed := [name for name, found in verdicts.items() if found == "not met"]:
            text = f"released conditionally, and then {', '.join(failed)} was not met: see to where the lot is"
            self._alarm(ALARM, "critical", f"{path}: {text}", None, path)
            self._batch.note(ev.ExceptionRaised(ALARM, text, path))
            self._decide(path, "reopened", verdicts, pending, "results", text)
        elif pending:
            self._decide(path, "conditional", verdicts, pending, "results", f"awaited still: {', '.join(pending)}")
        else:
            self._decide(path, "released", verdicts, [], "results", "the last pending result agrees")

    def _decide(
        self, path: str, outcome: str, verdicts: dict[str, str], pending: list[str], by: str, text: str
    ) -> None:
        self._said[path] = (outcome, verdicts)
        self._batch.note(ev.LotDecided(path, outcome, verdicts, pending, by, text))
        self._batch.note(ev.ValuesSet(path, {"outcome": outcome}))

    def _signed(self, path: str) -> None:
        """See that somebody signs the rejection of a lot that was re-opened."""
        step = step_at(self._batch.recipe, path)
        if not isinstance(step, Release):
            return
        _, verdicts = self._standing(path)
        of_it = [p for p in self._batch.state.prompts.values() if p.path == path and p.kind == "release"]
        prompt = next((p for p in of_it if p.spec.get("reopened") and not p.withdrawn), None)
        if prompt is not None and prompt.answered:
            answer = prompt.answer or {}
            by = ", ".join(f"{role} {answer.get(f'sign.{role}')}" for role in step.sign)
            self._decide(path, "rejected", verdicts, [], by, str(answer.get("why") or "signed after it was re-opened"))
            if not [each for each in self.unsigned() if each != path]:
                self._clear(ALARM)
            return
        if prompt is None:
            self._alarm(ALARM, "critical", f"{path} was released conditionally and is re-opened", None, path)
            failed = ", ".join(name for name, found in verdicts.items() if found == "not met")
            text = f"The release of {path} is re-opened: {failed} was not met. Sign that the lot is rejected"
            attempt = 1 + max((int(p.spec.get("attempt") or 1) for p in of_it), default=0)
            spec = signature(step.sign) | {"reopened": True}
            self._ask(path, lambda: self._prompts.ask(path, "release", text, spec, None, attempt))

    def _ask(self, what: str, work: Callable[[], Any]) -> None:
        if what not in self._asking:
            self._asking.add(what)
            task = asyncio.create_task(self._asked(what, work), name=f"release:{self._batch.name}")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _asked(self, what: str, work: Callable[[], Any]) -> None:
        try:
            await work()
        except (JournalError, LookupError) as error:  # looked at again when something comes, and at the next start
            structlog.get_logger("releases").warning("not_asked", batch=self._batch.name, what=what, error=str(error))
        finally:
            self._asking.discard(what)


def signature(roles: Iterable[str]) -> dict[str, Any]:
    """Return what is asked of those who sign that a lot is rejected."""
    inputs: dict[str, Any] = {"why": {"type": "text", "label": "what is done with the lot", "optional": True}}
    inputs |= {f"sign.{role}": {"type": "text", "label": f"{role} (name or badge)"} for role in roles}
    return {"inputs": inputs, "sign": list(roles), "containers": []}


def asked_for(prompts: Iterable[Prompt], name: str) -> Prompt | None:
    """Return the newest question for a result, `count.sterility`; None where it was never asked for."""
    step, _, result = name.partition(".")
    found = [
        prompt
        for prompt in prompts
        if prompt.kind in _RESULTS and prompt.path.rpartition("/")[2] == step and result in prompt.spec["results"]
    ]
    return found[-1] if found else None


async def ask_for(batch: Batch, prompts: Prompts, pending: Iterable[str]) -> None:
    """See that each of these results is asked for: anew where the answer was that it is pending.

    Raises LookupError for one that no sample ever asked for, and JournalError.
    """
    again: dict[str, list[tuple[str, Prompt]]] = defaultdict(list)
    for name in pending:
        prompt = asked_for(batch.state.prompts.values(), name)
        if prompt is None:
            raise LookupError(f"'{name}' was never asked for: its sample was passed over")
        result = name.partition(".")[2]
        if prompt.withdrawn or (prompt.answered and (prompt.answer or {}).get(result) in (None, PENDING)):
            again[prompt.path].append((result, prompt))
    for path, results in again.items():
        last = results[-1][1]
        attempt = 1 + max(int(p.spec.get("attempt") or 1) for p in batch.state.prompts.values() if p.path == path)
        names = [result for result, _ in results]
        inputs = {result: prompt.spec["inputs"][result] for result, prompt in results}
        spec = {"inputs": inputs, "results": names, "containers": [], "from": last.spec.get("from", [])}
        await prompts.ask(path, "result", f"{', '.join(names)}, which was pending", spec, None, attempt)


def awaited(batch: Batch) -> list[ev.LotAwaited]:
    """Return what the site's record has to keep of the lots of a batch that is put away."""
    found: list[ev.LotAwaited] = []
    for path, lot in batch.state.lots.items():
        step = step_at(batch.recipe, path)
        if lot.outcome != "conditional" or not isinstance(step, Release):
            continue
        scope = BatchScope(batch, {})
        open_ones = {name: step.conditions[name] for name, word in lot.verdicts.items() if word == "pending"}
        values = {o.name: [o.value, o.unit] for each in open_ones.values() for o in explain(compile(each.when), scope)}
        asked = [asked_for(batch.state.prompts.values(), name) for name in lot.pending]
        prompts = {prompt.id: prompt.spec for prompt in asked if prompt is not None}
        conditions = {name: {"when": each.when, "pending": list(each.pending)} for name, each in open_ones.items()}
        found.append(
            ev.LotAwaited(
                batch.name, batch.plant.name, path, dict(lot.verdicts), list(lot.pending), conditions, values,
                [dict(spec) for spec in prompts.values()], list(step.sign),
            )
        )  # fmt: skip
    return found
