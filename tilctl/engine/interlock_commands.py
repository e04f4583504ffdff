"""What people may do with interlocks and permissives: reset one, set one aside for a time, end that.

Identities do not exist yet: who gives a command, who is the second person and which roles they have is what the
command claims.  It is judged as if it were true, and put on record as a claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from devices.clock import Clock
from devices.quantity import QuantityError, parse_as
from tilctl.config.interlock import SITE
from tilctl.engine.interlocking import Interlocking
from tilctl.engine.port import Command, Outcome
from tilctl.engine.state import format_time, parse_time
from tilctl.guard.judged import LONGEST_BYPASS_S, Either, JudgedInterlock, Phase
from tilctl.guard.kept_rules import Bypass
from tilctl.journal import events as ev

VERBS = ("interlock-reset", "bypass", "unbypass")
MAY_BYPASS = ("process_engineer", "quality")
"""Roles that may set an interlock aside, both persons each (engineering default)."""
LONGEST = timedelta(seconds=LONGEST_BYPASS_S)


class InterlockCommands:
    """Carries them out."""

    def __init__(self, interlocking: Interlocking, clock: Clock) -> None:
        self._interlocking = interlocking
        self._clock = clock

    async def carry_out(self, command: Command) -> Outcome:
        """Carry out one of VERBS; raises JournalError where a bypass cannot be put on record: nothing is done then."""
        name = str(command.args.get("interlock", ""))
        rules = {**self._interlocking.rules.of(SITE), **self._interlocking.rules.of(command.unit)}
        judged = rules.get(name)
        if judged is None:
            text = f"{command.unit} has no interlock or permissive {name!r}; it has {', '.join(rules) or 'none'}"
            return Outcome("refused", "unknown_interlock", text)
        if command.verb == "bypass":
            return await self._bypass(judged, command)
        return self._reset(judged, command) if command.verb == "interlock-reset" else self._unbypass(judged, command)

    def _reset(self, judged: Either, command: Command) -> Outcome:
        name = judged.rule.name
        if not isinstance(judged, JudgedInterlock):
            text = f"{name} is a permissive: it permits again by itself when {judged.rule.condition}"
            return Outcome("refused", "unknown_interlock", text)
        if judged.phase is Phase.NORMAL:
            return Outcome("already", "", f"{name} is not tripped")
        if not self._interlocking.rules.over(judged):
            text = f"{name} is not over, or cannot be judged: {judged.condition.told()}"
            return Outcome("refused", "not_over", f"{text}; see to the cause first")
        self._interlocking.rules.let_go(judged, _who(command), command.reason or "reset by a person")
        return Outcome("done", "", f"{name} is reset")

    async def _bypass(self, judged: Either, command: Command) -> Outcome:
        name = judged.rule.name
        second: Mapping[str, Any] = command.args.get("second") or {}
        if (refused := self._refused(judged, command, second)) is not None:
            return refused
        try:
            lasts = timedelta(seconds=parse_as(str(command.args.get("lasts", "")), "s"))
        except (QuantityError, OverflowError) as error:
            return Outcome("refused", "bad_duration", f"for: {error}; such as 30 min")
        if not timedelta(0) < lasts <= LONGEST:
            text = f"for: {command.args.get('lasts')} is not more than 0 and at most {LONGEST.seconds // 3600} h"
            return Outcome("refused", "bad_duration", text)
        now = self._clock.now()
        renewed = judged.bypassed(now)
        if renewed and judged.bypass is not None and judged.bypass.renewed:
            text = f"{name} is bypassed until {format_time(judged.bypass.until)} and was renewed once: mend the cause"
            return Outcome("refused", "renewed_already", text)
        until = parse_time(format_time(now + lasts))  # as the record has it
        bypass = Bypass(
            command.user, command.role, str(second["user"]), str(second["role"]), command.reason, until, renewed
        )
        event = ev.InterlockBypassed(
            name, bypass.by, bypass.role, bypass.second, bypass.second_role, bypass.reason, format_time(until), renewed
        )
        # Invariant: what takes a protection away is on disk before it does.
        await self._interlocking.records.record(judged, event)
        judged.bypass = bypass
        text = f"{name} is bypassed until {format_time(until)}"
        both = f"{bypass.by} ({bypass.role}) and {bypass.second} ({bypass.second_role})"
        self._interlocking.records.note(
            judged.unit, ev.ExceptionRaised("bypass", f"{text} by {both}: {bypass.reason}", "")
        )
        self._interlocking.tell_bypass(judged)
        return Outcome("done", "", text)

    def _refused(self, judged: Either, command: Command, second: Mapping[str, Any]) -> Outcome | None:
        """Refuse a bypass for what it is about, or for who asks."""
        if not judged.rule.may_bypass:
            return Outcome("refused", "bypass_never", f"{judged.rule.name} may not be bypassed, by the site file")
        if not command.user or not command.role:
            return Outcome("refused", "no_actor", "a bypass needs to know who asks: actor {user, role}")
        if not command.reason.strip():
            return Outcome("refused", "no_reason", "a bypass needs a reason: it goes on the record")
        for user, role in ((command.user, command.role), (str(second.get("user")), str(second.get("role")))):
            if role not in MAY_BYPASS:
                text = f"{user} is {role}: only {' and '.join(MAY_BYPASS)} may bypass, both persons"
                return Outcome("refused", "role_not_allowed", text)
        if _plain(command.user) == _plain(str(second.get("user"))):
            return Outcome("refused", "second_person", f"{command.user} cannot be the second person too")
        return None

    def _unbypass(self, judged: Either, command: Command) -> Outcome:
        if judged.bypass is None:
            return Outcome("already", "", f"{judged.rule.name} is not bypassed")
        judged.bypass = None
        self._interlocking.bypass_ended(judged, _who(command), command.reason or "ended by a person")
        self._interlocking.rules.in_force_again(judged)
        return Outcome("done", "", f"{judged.rule.name} is in force")


def _who(command: Command) -> str:
    return command.actor or command.client


def _plain(user: str) -> str:
    return "".join(user.casefold().split())
