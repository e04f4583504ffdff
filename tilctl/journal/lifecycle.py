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
    """The controller came up; `previous_beat` is the last sign of life of the boot before, None at the first.

    `machine` names the boot of the machine and `zero` is the record's time at its beginning, where that is known: a
    controller that is started again on the same machine goes on in the record's time whatever the clock says.
    """

    boot: str
    version: str
    previous_beat: str | None
    machine: str = ""
    zero: str = ""
    kind: Literal["boot_started"] = "boot_started"


@dataclass(frozen=True, slots=True)
class BootReady:
    """Recovery is complete; a boot without this died before it was in control."""

    boot: str
    kind: Literal["boot_ready"] = "boot_ready"


@dataclass(frozen=True, slots=True)
class SafeMode:
    """Nothing but watching and making safe from now on (`on`), or work again; `by` is the client that left it."""

    on: bool
    reason: str
    by: str = ""
    kind: Literal["safe_mode"] = "safe_mode"


@dataclass(frozen=True, slots=True)
class ClockStepped:
    """The wall clock jumped by `by_s`; from now on it stands `offset_s` before the record's time, which never jumps.

    `cause`: `run` (seen while running), `boot` (found at boot), `adopted` (the record took over the wall clock's time).
    """

    by_s: float
    offset_s: float
    cause: Literal["run", "boot", "adopted"] = "run"
    kind: Literal["clock_stepped"] = "clock_stepped"


@dataclass(frozen=True, slots=True)
class DeviceSeen:
    """Which instrument stands behind a name: at the start of a batch, and when it was exchanged."""

    device: str
    profile: str
    serial: str
    kind: Literal["device_seen"] = "device_seen"


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """On the site's record: a device has been of another class of NE 107 (`devices.diagnosis`), with these reasons."""

    device: str
    status: str
    reasons: list[str]
    kind: Literal["device_status"] = "device_status"


@dataclass(frozen=True, slots=True)
class Weighed:
    """A person went on with a container that weighed otherwise (g) than the ledger expected: it counts from here."""

    container: str
    place: str
    expected_g: float
    found_g: float
    kind: Literal["weighed"] = "weighed"


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

    `profiles` are the texts of the freezing profiles that it names, `command` is the start that made it.
    `interlocks` are those of its unit with its permissives, as they were in force; None where an earlier version made
    the record.
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
    command: str = ""
    interlocks: dict[str, Any] | None = None
    kind: Literal["batch_created"] = "batch_created"


@dataclass(frozen=True, slots=True)
class BatchEnded:
    """The procedure is over; the environment goes on until the batch is closed."""

    result: Literal["complete", "stopped", "aborted"]
    reason: str
    kind: Literal["batch_ended"] = "batch_ended"


@dataclass(frozen=True, slots=True)
class BatchTaken:
    """On the site's record: a unit has a batch from now on, made by the start `command` ("" where not known)."""

    batch: str
    unit: str
    command: str = ""
    kind: Literal["batch_taken"] = "batch_taken"


@dataclass(frozen=True, slots=True)
class BatchPutAway:
    """On the site's record: the unit is free; `result` as the batch ended, or `lost` where its record is gone."""

    batch: str
    result: str
    kind: Literal["batch_put_away"] = "batch_put_away"


@dataclass(frozen=True, slots=True)
class BatchReopened:
    """A life of the controller began with this batch on record; nobody has been in control of it since `since`.

    The first event of each such life; what follows is no sign of control before `Recovered`.
    """

    since: str
    uncertain: str
    software: str
    kind: Literal["batch_reopened"] = "batch_reopened"


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
    """The controller was away, as bounded by the last heartbeat and the boot; `uncertain` says why that is no fact."""

    from_t: str
    to_t: str
    seconds: float
    uncertain: str = ""
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


@dataclass(frozen=True, slots=True)
class FreezeSampled:
    """What was seen of a freezing run since the last such event, so that a crash takes none of it.

    Rows are (s of the run, chamber, sample, set point in degC); `segment` and `nucleated` are the device's own words,
    None where they are not known.
    """

    path: str
    intent: int
    rows: list[list[float | None]]
    segment: int | None
    nucleated: bool | None
    kind: Literal["freeze_sampled"] = "freeze_sampled"
