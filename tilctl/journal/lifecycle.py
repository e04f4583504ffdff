"""Events of the record itself (a site, a boot, a batch, an outage, a link to another record) and of commands.

Conventions as in `tilctl.journal.events`, which gathers these with the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class SiteOpened:
    """The first event of site.db."""

    site: str
    node: str
    version: str
    kind: Literal["site_opened"] = "site_opened"


@dataclass(frozen=True, slots=True)
class BootStarted:
    """The controller came up; `previous_beat` is the last sign of life of the boot before, None at the first."""

    boot: str
    version: str
    previous_beat: str | None
    kind: Literal["boot_started"] = "boot_started"


@dataclass(frozen=True, slots=True)
class BatchHead:
    """The head of a batch's chain, copied out at least hourly so that a truncated batch file is found."""

    batch: str
    seq: int
    hash: str
    kind: Literal["batch_head"] = "batch_head"


@dataclass(frozen=True, slots=True)
class ConfigLoaded:
    """The site file in force, by its SHA-256."""

    hash: str
    kind: Literal["config_loaded"] = "config_loaded"


@dataclass(frozen=True, slots=True)
class BatchCreated:
    """The first event of a batch: the control recipe frozen with everything that it depends on.

    `profiles` are the texts of the freezing profiles that it names.
    """

    batch: str
    unit: str
    recipe: str
    recipe_version: str
    recipe_sha256: str
    recipe_text: str
    parameters: dict[str, str]
    bindings: dict[str, str]
    software: str
    site_head: str
    profiles: dict[str, str] = field(default_factory=dict[str, str])
    kind: Literal["batch_created"] = "batch_created"


@dataclass(frozen=True, slots=True)
class BatchEnded:
    """The procedure is over; the environment goes on until the batch is closed."""

    result: Literal["complete", "stopped", "aborted"]
    reason: str
    kind: Literal["batch_ended"] = "batch_ended"


@dataclass(frozen=True, slots=True)
class BatchClosed:
    """The last event of a batch: the unit is free."""

    kind: Literal["batch_closed"] = "batch_closed"


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """A command that was turned away at the door: malformed, late, repeated with other content, not understood."""

    client: str
    unit: str
    verb: str
    command_id: str
    code: str
    text: str
    kind: Literal["command_refused"] = "command_refused"


@dataclass(frozen=True, slots=True)
class Outage:
    """The controller was away, as bounded by the last heartbeat and the boot."""

    from_t: str
    to_t: str
    seconds: float
    kind: Literal["outage"] = "outage"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What recovery found and did."""

    report: dict[str, Any]
    kind: Literal["recovered"] = "recovered"


@dataclass(frozen=True, slots=True)
class HistoryBlock:
    """The hash over `blocks` trend blocks from block number `first`, binding the history file to this record.

    `t0` and `t1` are the times of their first and last sample.
    """

    t0: str
    t1: str
    blocks: int
    sha256: str
    first: int
    kind: Literal["history_block"] = "history_block"


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A command that passed the door, before anything is done about it."""

    command_id: str
    client: str
    verb: str
    args: dict[str, Any]
    content_sha256: str
    actor: str
    signature: str = ""
    kind: Literal["command_received"] = "command_received"


@dataclass(frozen=True, slots=True)
class CommandAnswered:
    """What the sender of a command was told."""

    command_id: str
    status: str
    code: str
    text: str
    kind: Literal["command_answered"] = "command_answered"


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A transition of the batch (`path` "") or of an operation."""

    path: str
    from_state: str
    to_state: str
    command: str = ""
    reason: str = ""
    kind: Literal["state_changed"] = "state_changed"
