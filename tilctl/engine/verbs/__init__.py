"""The verbs: one file each.  Adding a verb is adding a file here, and its model to `recipes.steps`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from recipes.steps import VERBS
from tilctl.engine.context import Context
from tilctl.engine.verbs import (
    ask,
    balance,
    choose,
    control,
    end,
    for_each,
    freeze,
    incubate,
    let,
    mark,
    mount,
    note,
    parallel,
    perfuse,
    release,
    repeat,
    sample,
    set_target,
    transfer,
    unmount,
    wait,
)


class Handler(Protocol):
    """What carries out one verb; what it returns is kept with the completed step."""

    def __call__(self, context: Context, step: Any, /) -> Awaitable[dict[str, Any] | None]:
        """Carry out one step."""
        ...


HANDLERS: dict[str, Handler] = {
    "ask": ask.run,
    "balance": balance.run,
    "choose": choose.run,
    "control": control.run,
    "end": end.run,
    "for_each": for_each.run,
    "freeze": freeze.run,
    "incubate": incubate.run,
    "let": let.run,
    "mark": mark.run,
    "mount": mount.run,
    "note": note.run,
    "parallel": parallel.run,
    "perfuse": perfuse.run,
    "release": release.run,
    "repeat": repeat.run,
    "sample": sample.run,
    "set": set_target.run,
    "transfer": transfer.run,
    "unmount": unmount.run,
    "wait": wait.run,
}

MISSING = set(VERBS) - set(HANDLERS)
"""Verbs of the language that nothing here carries out; a test keeps this empty."""
