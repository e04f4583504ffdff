"""Exceptions of a recipe: steps that a person has walked in place of a step that failed.

The default stays: what failed is held, and walked again when the batch is restarted.  Only a restart that names an
exception takes it; from then on the step's path goes on with `except/NAME`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.model import EXCEPT, Operation, step_at
from recipes.steps import AnyVerb
from tilctl.engine.batch import Batch
from tilctl.engine.state import Node, StepStatus
from tilctl.journal import events as ev

if TYPE_CHECKING:
    from tilctl.engine.runner import Runner


def taken(node: Node | None) -> str:
    """Return the exception that is walked in place of a step, "" where it is walked itself."""
    return "" if node is None or EXCEPT not in node.phases else str(node.phases[EXCEPT][1]["name"])


def offered(batch: Batch) -> dict[str, str]:
    """Return the exceptions that a restart may name now, each with the path of what it takes the place of.

    Those of the steps that failed or are in doubt, and of what they stand in, the innermost first.
    """
    found: dict[str, str] = {}
    failed = (StepStatus.FAILED, StepStatus.IN_DOUBT)
    # a hold may have come before the step could say so itself: what its dose did is in doubt all the same
    doubtful = {intent.path for intent in batch.state.open_intents() if intent.outcome == "in_doubt"}
    for node in batch.state.nodes.values():
        if node.status is StepStatus.COMPLETE or (node.status not in failed and node.path not in doubtful):
            continue
        parts = node.path.split("/")
        for length in range(len(parts), 0, -1):
            path = "/".join(parts[:length])
            name = _on_failure(batch, path)
            if name and batch.state.node(path) is not None and not taken(batch.state.node(path)):
                found.setdefault(name, path)
    return found


def _on_failure(batch: Batch, path: str) -> str | None:
    if "/" not in path:
        step: Operation | AnyVerb | None = next((o for o in batch.recipe.procedure if o.id == path), None)
    elif path.rpartition("/")[2].isdigit() or path.rpartition("/")[2] == EXCEPT:
        return None
    else:
        step = step_at(batch.recipe, path)
    return None if step is None or step.on_failure not in batch.recipe.exceptions else step.on_failure


def against(batch: Batch, path: str) -> str:
    """Return why what stands at a path cannot be left for an exception now, "" where it can."""
    running = [i for i in batch.state.open_intents() if _under(i.path, path) and i.action != "dispense"]
    if running:
        devices = ", ".join(sorted({intent.device for intent in running}))
        return f"{devices} is at work for {running[0].path} and goes on by itself: wait for its end"
    return ""


def take(runner: Runner, name: str, by: str) -> None:
    """Put on record that an exception takes the place of what failed; nothing is waited for.

    Invariant: noted before the restart and in one transaction with it; a crash has both or neither.
    """
    batch = runner.batch
    path = offered(batch)[name]
    title = batch.recipe.exceptions[name].title
    for prompt in [p for p in batch.state.prompts.values() if _under(p.path, path) and not p.answered]:
        if prompt.kind not in ("result", "reconcile"):  # a result comes all the same, a dose in doubt is closed first
            runner.prompts.withdraw_one(prompt.id, f"the exception {name} takes the place of {path}")
    batch.note(ev.StepPhase(path, EXCEPT, {"name": name, "by": by}))
    batch.note(ev.ExceptionRaised("except", f"'{title}' ({name}) takes the place of what failed, by {by}", path))


def left(batch: Batch, path: str) -> list[Node]:
    """Return the steps inside one that are not complete and that nobody walks any more."""
    nodes = batch.state.nodes.values()
    inside = f"{path}/{EXCEPT}/"
    return [
        node
        for node in nodes
        if node.path.startswith(f"{path}/") and not node.path.startswith(inside)
        and node.status is not StepStatus.COMPLETE
    ]  # fmt: skip


def _under(path: str, above: str) -> bool:
    return path == above or path.startswith(f"{above}/")
