"""Events of releases: how a lot stands, and what the site's record keeps of it once the batch's own is closed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LotDecided:
    """How a lot stands from now on; `verdicts` by condition, `pending` the results that are awaited.

    `outcome`: released, conditional, rejected or reopened; `by` is who signed, or `results` where a late one decided.
    """

    path: str
    outcome: str
    verdicts: dict[str, str]
    pending: list[str]
    by: str
    text: str
    kind: Literal["lot_decided"] = "lot_decided"


@dataclass(frozen=True, slots=True)
class LotAwaited:
    """On the site's record: a conditionally released lot whose batch is put away; its results are taken here.

    `conditions` are the pending ones (`when`, `pending`), `values` what they read as (value, unit), `prompts` the
    questions that are open, `sign` the roles that sign a rejection.
    """

    batch: str
    unit: str
    path: str
    verdicts: dict[str, str]
    pending: list[str]
    conditions: dict[str, Json]
    values: dict[str, list[Any]]
    prompts: list[Json]
    sign: list[str]
    kind: Literal["lot_awaited"] = "lot_awaited"


@dataclass(frozen=True, slots=True)
class LotAnswered:
    """On the site's record: an answer to a question of such a lot, and how the lot stands from then on."""

    batch: str
    path: str
    prompt: str
    command_id: str
    by: str
    inputs: Json
    outcome: str
    verdicts: dict[str, str] = field(default_factory=dict[str, str])
    pending: list[str] = field(default_factory=list[str])
    kind: Literal["lot_answered"] = "lot_answered"
