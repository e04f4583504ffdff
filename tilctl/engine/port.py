"""What the outside may ask of the controller, and what it answers: the port that the command door calls.

The controller implements `ControllerPort`; the door and the gateway know nothing else of the engine. All of
it is called on the core's loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

SITE = "site"
"""What stands where a unit is named, for alarms that are of no unit."""
OutcomeStatus = Literal["done", "failed", "refused", "already"]


@dataclass(frozen=True, slots=True)
class Command:
    """One command that passed the door: well formed, fresh, of a known verb, its arguments checked for shape.

    `batch` is "" when the sender named none. `expect_state` and `expect_version` are what the sender saw last;
    the door has compared them with `status()` in the same turn of the loop. `effective` (RFC 3339, UTC) is when
    an answer takes effect; "" is now, and it is never set where the site refuses scheduled commands.
    `content_sha256` belongs on the record beside `id`, so that a repetition is known after a restart.
    `user` and `role` are what the sender says of himself; `actor` is both as one text.
    """

    id: str
    client: str
    unit: str
    verb: str
    batch: str = ""
    expect_state: str | None = None
    expect_version: int | None = None
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reason: str = ""
    actor: str = ""
    user: str = ""
    role: str = ""
    effective: str = ""
    content_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended. `code` is "" for done and already, else a refusal code of `tilctl.commands`."""

    status: OutcomeStatus
    code: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the record holds of an earlier command: the hash of its content and the answer it was given.

    `reply` has `status`, `code` and `text`, and `journal_seq` and `hash` where known. The status of a command
    that is on record and not answered yet (the controller died in between) is `accepted`: when it is repeated, it is
    carried out.
    """

    content_sha256: str
    reply: Mapping[str, Any]


class ControllerPort(Protocol):
    """The controller as the door and the gateway see it."""

    def units(self) -> Sequence[str]:
        """Return the names of the units of this suite."""
        ...

    def status(self, unit: str) -> dict[str, Any]:
        """Return what is known of a unit now, as JSON-able values.

        Keys: `state` (one of the 12, lower case), `state_version` (int, grows with each transition), `batch`,
        `recipe`, `day` (float, d), `operation`, `path`, `waits` (list of dicts with `path` and `text`),
        `alarms` (list of dicts, see `alarms`), `targets`, `controls` (reading -> what keeps it), `readings`,
        `containers`, `ledger` (see `tilctl.engine.balancing.ledger_of`), `adjustable`
        (`tilctl.engine.adjusting.adjustables`), `procedure_mode` (`automatic`, `semi_automatic`, `manual`: how
        steps begin), `interlocks` (of the unit and of shared equipment; `tilctl.guard.judged`), `estimates`
        (`tilctl.engine.estimating`), `releases` (path -> how its lot stands), `lots` (of closed batches,
        results awaited).
        """
        ...

    def alarms(self, unit: str) -> list[dict[str, Any]]:
        """Return the alarms of a unit, or of `site`, that are not normal or set aside, oldest first.

        Each has `alarm`, `priority`, `text`, `since`, `state` (ISA-18.2), `active`, `waiting` (for a person), `aside`
        (how it is set aside: who, why, until when), `by` (who acknowledged it), `help`, `values`, `seq` (where on its
        record it was raised), `group` (first-out) and `escalated` (how often).
        """
        ...

    def prompts(self, unit: str) -> list[dict[str, Any]]:
        """Return the open prompts of a unit, oldest first; each has at least `id`."""
        ...

    def imported(self, unit: str) -> dict[str, list[str]]:
        """Return the rows of files of results that were taken, by their marks: batch -> marks, the newest."""
        ...

    def known_command(self, unit: str, command_id: str) -> StoredAnswer | None:
        """Return what is on record of a command id of this unit's present batch or of the site, None if nothing."""
        ...

    async def execute(self, command: Command, accepted: Callable[[int, str], None]) -> Outcome:
        """Put the command on record, call `accepted(seq, hash)` when it is on disk, carry it out, return the end.

        Invariant: hold, stop and abort act before the record is awaited, and when the record is dead.
        Legality in the present state is judged here and nowhere else: `illegal_state`, `already`, `busy`,
        `unknown_recipe`, `bad_recipe`, `bad_parameter`, `no_prompt`, `bad_answer`, `not_ready`, `journal_failed`
        come back as an `Outcome`. An exception is a fault of the program; the door answers it as `failed`.
        """
        ...
