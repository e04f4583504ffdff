"""Interlocks beside batches and records: who is held and told, what is frozen into a batch and restored from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from devices.clock import Clock
from devices.equipment.spec import parts_of
from tilctl.config import Site
from tilctl.config.interlock import SITE, Interlock, Rules, differences, read_rules
from tilctl.engine.interlock_records import InterlockRecords
from tilctl.engine.machine import FAULT
from tilctl.engine.runner import Runner
from tilctl.engine.state import parse_time
from tilctl.guard.catalog import blinded_by
from tilctl.guard.interlocks import Interlocks
from tilctl.guard.judged import Either, JudgedInterlock
from tilctl.guard.kept_rules import Kept, kept_of
from tilctl.journal import interlock_events as ev
from tilctl.journal.chain import Record
from tilctl.journal.mark import Mark
from tilctl.journal.store import Journal
from tilctl.plant.suite import Suite

EDITED = "interlocks-edited"
"""Alarm: the site file says otherwise than the batch has frozen."""
IMPOSSIBLE = "interlocks-impossible"
"""Alarm: what a batch has frozen cannot be carried out (an instrument is gone), or cannot be read."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An alarm of an interlock or permissive that stands; `unit` may be `site`."""

    unit: str
    rule: str
    alarm: str
    priority: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    help: Mapping[str, str] = field(default_factory=dict[str, str])
    group: str = ""


class Interlocking:
    """All interlocks of a site, with what they cause; `tilctl.guard.interlocks.Reactions`."""

    def __init__(
        self,
        site: Site,
        suite: Suite,
        clock: Clock,
        runners: Callable[[], Mapping[str, Runner]],
        journal: Callable[[], Journal | None],
        shown: Callable[[str], None],
    ) -> None:
        """Take what runs on each unit, the site's record, and who is told that a unit is shown differently."""
        self._site = site
        self._suite = suite
        self._runners = runners
        self._shown = shown
        self._clock = clock
        self._kept: dict[str, dict[str, Kept]] = {}
        self._marked: list[tuple[str, str]] = []  # unit and rule that only a mark says is tripped
        self.records = InterlockRecords(runners, journal, clock)
        self._standing: dict[tuple[str, str], Standing] = {}
        self.on_idle_alarm: Callable[[Standing, bool], None] = lambda _alarm, _raised: None
        """The one hook for alarms of units without a batch: the alarm, and whether it is raised (else it is over)."""
        self.on_given: Callable[[str, Runner | None], None] = lambda _alarm, _runner: None
        """Told where an alarm of shared equipment stands now, a batch or the site: elsewhere it is handed over."""
        self._log = structlog.get_logger("interlocks")
        owners = {part: name for name, spec in site.equipment.items() for part in parts_of(spec)}
        self.rules = Interlocks(suite.image, suite.gate, clock, self, owners)
        for name, unit in site.units.items():
            self.rules.enforce(name, unit.rules)
        self.rules.enforce(SITE, site.rules)

    # --- batches --------------------------------------------------------------------------------------------------

    def in_force(self, unit: str) -> dict[str, Any]:
        """Return what a batch that starts on a unit has to freeze: the rules of the unit and of shared equipment."""
        return {"unit": self._present(unit).written(), SITE: self._present(SITE).written()}

    def _present(self, unit: str) -> Rules:
        found = [judged.rule for judged in self.rules.of(unit).values()]
        return Rules(
            {rule.name: rule for rule in found if isinstance(rule, Interlock)},
            {rule.name: rule for rule in found if not isinstance(rule, Interlock)},
        )

    def restore(
        self, site: Iterable[Record], batches: Mapping[str, Iterable[Record]], marks: Mapping[str, Mark]
    ) -> None:
        """Take over what stands by the records: those of the site, and of every batch found, by its unit.

        `marks` are those of batches whose records were dead: what was latched then is on no record.
        """
        known = list(site)
        for unit in (*self._site.units, SITE):
            self.records.found(unit, kept_of(unit, known))
            self._kept[unit] = kept_of(unit, known, batches.get(unit, ()))
            mark = marks.get(unit)
            for name in () if mark is None else mark.latched:
                old = self._kept[unit].get(name, Kept())
                if mark is not None and old.since is None:
                    since = parse_time(mark.t)
                    self._kept[unit][name] = replace(old, since=since, text="it tripped while the record was dead")
                    self._marked.append((unit, name))
            self.rules.restore(unit, self._kept[unit])

    def tell(self, stands: Callable[[str, str], bool], uncertain: str = "") -> None:
        """Alarm of what was restored; `uncertain` says why nobody knows how long the outage was, "" where it is known.

        `stands` tells whether an alarm of a unit without a batch, or of the site, stands on record.

        Invariant: unknown is no permission: then no bypass is known to last still.
        """
        for judged in self.rules if uncertain else ():
            if judged.bypass is not None:
                judged.bypass = None
                self.bypass_ended(judged, "", f"whether its time is over is not known: {uncertain}")
        for unit, kept in self._kept.items():
            if unit not in self._runners():
                self._gone(unit, kept.keys() - self.rules.of(unit).keys())
        for judged in self.rules:
            self._goes_on(judged, partial(stands, judged.unit))
            self._tell_what_stands(judged)

    def rows(self, unit: str) -> list[dict[str, Any]]:
        """Return the rules of a unit and of shared equipment as people and machines are shown them."""
        now = self._clock.now()
        return [*self.rules.rows(unit, now), *self.rules.rows(SITE, now)]

    def _goes_on(self, judged: Either, stands: Callable[[str], bool]) -> None:
        """Take over alarms of before a start, by `stands`: they go where it goes, and end by what is judged now."""
        if stands(_invalid(judged)):
            judged.unknown_told = True
            self.unknown(judged, told=True)
        if stands(f"internal-error-{judged.rule.name}"):
            judged.mend = True
            self._raise(judged, f"internal-error-{judged.rule.name}", "critical", "it did not work before a start")

    def _tell_what_stands(self, judged: Either) -> None:
        if isinstance(judged, JudgedInterlock) and judged.since is not None:
            self._raise(judged, f"interlock-{judged.rule.name}", judged.rule.priority, judged.text)
        if judged.bypass is not None:
            self.tell_bypass(judged)

    def reopened(self, runner: Runner) -> None:
        """Put what a batch has frozen in force, and say where the site file differs or it cannot be carried out.

        Invariant: interlocks are not edited while a batch runs.
        """
        unit, state = runner.batch.plant.name, runner.batch.state
        frozen = state.created.interlocks if state.created is not None else None
        told: list[str] = []
        for name in (unit, SITE) if frozen is not None else ():
            present = self._site.rules if name == SITE else self._site.units[name].rules
            try:
                rules = read_rules((frozen or {})["unit" if name == unit else SITE])
                self.rules.enforce(name, rules)
            except (KeyError, ValueError) as error:  # of an older or newer version
                runner.unsound.append(f"its frozen interlocks cannot be read, those of the site file act: {error}")
                continue
            self.rules.restore(name, self._kept.get(name, {}))  # the site file may not know it any more
            told += differences(rules, present)
            runner.unsound += self._impossible(rules)
        for alarm in list(state.alarms.values()):  # a version that kept no interlocks on record raised the alarm only
            judged = self.rules.of(unit).get(alarm.id.removeprefix("interlock-"))
            if isinstance(judged, JudgedInterlock) and judged.since is None and alarm.id.startswith("interlock-"):
                judged.take(Kept(alarm.since, alarm.text, judged.bypass))
        self.installed(runner)
        for _, name in [each for each in self._marked if each[0] == unit]:
            self.records.note(unit, ev.InterlockTripped(name, self._kept[unit][name].text))
        for alarm, texts, priority, more in (
            (EDITED, told, "high", "what the batch has frozen is in force until its unit is freed"),
            (IMPOSSIBLE, runner.unsound, "critical", "mend the site file or the instruments, then restart"),
        ):
            if texts:
                runner.alarm(alarm, priority, f"{'; '.join(texts)}: {more}")
            elif alarm in state.alarms:
                runner.clear(alarm)

    def _impossible(self, rules: Rules) -> list[str]:
        told: list[str] = []
        instruments, devices = self._suite.instruments, {**self._suite.devices, **self._suite.instruments}
        for rule in rules:
            for at in rule.reads.values():
                device, _, point = at.partition(".")
                profile = devices[device].profile if device in devices else None
                if profile is None or (point not in profile.points and point not in profile.bits):
                    told.append(f"{rule.name} reads {at}, which is not there any more")
            for output in rule.outputs if isinstance(rule, Interlock) else ():
                known = instruments.get(output.device)
                if known is None or output.command not in known.profile.commands:
                    told.append(f"{rule.name} cannot {output.command} {output.device}: it is not there any more")
        return told

    def installed(self, runner: Runner) -> None:
        """Let a batch know of the interlocks that concern it."""
        unit, alarms = runner.batch.plant.name, runner.batch.state.alarms
        read = self.rules.devices(unit) | self.rules.devices(SITE)
        runner.judged_by = tuple(sorted(read & self._suite.instruments.keys()))
        runner.keeps = lambda alarm: (unit, alarm) in self._standing or (SITE, alarm) in self._standing
        for judged in self.rules:
            if judged.unit in (unit, SITE):  # after a start a batch gets its shared equipment back only later
                self._goes_on(judged, alarms.__contains__)
            if self._runner_of(judged) is runner:
                self._tell_what_stands(judged)
        for standing in list(self._standing.values()):
            if standing.unit == unit:
                self._alarm(runner, standing)

    def passed_on(self) -> None:
        """Note what stands of the rules of shared equipment where it belongs now: with the batch that has it, or not.

        Invariant: announced there first, and then handed over elsewhere: what stands is told by somebody at any time.
        """
        for standing in list(self._standing.values()):
            judged = self.rules.of(SITE).get(standing.rule)
            if standing.unit != SITE or judged is None:
                continue
            if (runner := self._runner_of(judged)) is not None:
                self._alarm(runner, standing)
            else:
                self.on_idle_alarm(standing, True)
            self.on_given(standing.alarm, runner)

    def left(self, unit: str) -> list[ev.InterlockEvent]:
        """Return what the site's record has to say of a unit whose batch is put away.

        Invariant: also what it says of a time before the batch and is over: the batch's record is not read any more.
        """
        kept = {name: judged.kept() for name, judged in self.rules.of(unit).items()}
        return self.records.left(unit, kept)

    def freed(self, unit: str) -> None:
        """Put the site file's rules in force again for a unit without a batch."""
        for name in (unit, SITE) if not self._runners() else (unit,):
            before = self.rules.of(name).keys()
            self.rules.enforce(name, self._site.rules if name == SITE else self._site.units[name].rules)
            self._gone(name, before - self.rules.of(name).keys())
            for judged in self.rules.of(name).values():  # an alarm that stands ends by what is judged now
                judged.unknown_told = (name, _invalid(judged)) in self._standing
                judged.broken = (name, f"internal-error-{judged.rule.name}") in self._standing
        self.rules.look()
        for standing in list(self._standing.values()):
            if standing.unit == unit:
                self.on_idle_alarm(standing, True)
        self.passed_on()  # of shared equipment that it had to the end
        self._shown(unit)

    def _gone(self, unit: str, names: Iterable[str]) -> None:
        """End what stands of rules that the site file does not have any more; nobody could end it otherwise."""
        for name in sorted(names):
            why = "the site file has it no more"
            self.records.put_on_site(unit, ev.InterlockReset(name, "", why))
            self.records.put_on_site(unit, ev.BypassEnded(name, "", why))
            known = {key for key, standing in self._standing.items() if key[0] == unit and standing.rule == name}
            for _, alarm in known | {(unit, f"{kind}-{name}") for kind in ("interlock", "not-cut-off", "bypass")}:
                standing = self._standing.pop((unit, alarm), None) or Standing(unit, name, alarm, "low", "")
                self.on_idle_alarm(standing, False)

    def restarted(self, runner: Runner, by: str) -> None:
        """Reset what the restart of a batch by a person resets."""
        self.rules.restarted([judged for judged in self.rules if self._runner_of(judged) is runner], by)

    def all_rows(self) -> list[dict[str, Any]]:
        """Return every rule of the site, each once."""
        now = self._clock.now()
        return [row for unit in (*self._site.units, SITE) for row in self.rules.rows(unit, now)]

    # --- reactions ------------------------------------------------------------------------------------------------

    def tripped(self, judged: JudgedInterlock, *, first: bool) -> None:
        """Hold the batch whose equipment was made safe, and alarm: at each scan, so that it stays so."""
        outputs = ", ".join(f"{output.device} ({output.command})" for output in judged.rule.outputs)
        text = f"{judged.condition.told()}: made safe: {outputs}"
        runner = self._runner_of(judged)
        if runner is not None:
            runner.fire(FAULT, text)
        if first:
            self.records.note(judged.unit, ev.InterlockTripped(judged.rule.name, text, judged.condition.operands()))
        self._raise(judged, f"interlock-{judged.rule.name}", judged.rule.priority, text, judged.condition.operands())
        if first:
            self._show(judged)

    def acted(self, judged: JudgedInterlock) -> None:
        """Alarm while an instrument does not take its being made safe; it is tried again at each scan."""
        alarm = f"not-cut-off-{judged.rule.name}"
        if judged.failing:
            told = "; ".join(f"{device}: {error}" for device, error in judged.failing.items())
            self._raise(judged, alarm, "critical", f"it could not be made safe: {told}; switch it off by hand")
        else:
            self._over(judged, alarm)

    def changed(self, judged: Either) -> None:
        """Show it as it is now."""
        self._show(judged)

    def was_reset(self, judged: JudgedInterlock, by: str, why: str, *, restarting: bool) -> None:
        """Put it on record, and end its alarms; the cells get their targets back, which a restart does itself."""
        if not restarting and (runner := self._runner_of(judged)) is not None:
            runner.standing.write_again({output.device for output in judged.rule.outputs})
        self.records.note(judged.unit, ev.InterlockReset(judged.rule.name, by, why))
        for alarm in (f"interlock-{judged.rule.name}", f"not-cut-off-{judged.rule.name}"):
            self._over(judged, alarm)
        self._show(judged)

    def bypass_over(self, judged: Either) -> None:
        """Put the end of a bypass on record: from now on the rule is in force."""
        self.bypass_ended(judged, "", "its time is over")

    def bypass_ended(self, judged: Either, by: str, why: str) -> None:
        """Put it on record that a rule is in force again, and end the alarm."""
        self.records.note(judged.unit, ev.BypassEnded(judged.rule.name, by, why))
        self._over(judged, f"bypass-{judged.rule.name}")
        self._show(judged)

    def tell_bypass(self, judged: Either) -> None:
        """Alarm for as long as a rule is bypassed."""
        if (bypass := judged.bypass) is not None:
            who = f"{bypass.by} ({bypass.role}) and {bypass.second} ({bypass.second_role})"
            text = f"{judged.rule.name} is bypassed by {who}: {bypass.reason}"
            self._raise(judged, f"bypass-{judged.rule.name}", "medium", text)
            self._show(judged)

    def unknown(self, judged: Either, *, told: bool) -> None:
        """Alarm while something that protects cannot be judged."""
        if told:
            text = f"{judged.rule.name} cannot be judged: {judged.condition.told()}"
            self._raise(judged, _invalid(judged), "medium", text, judged.condition.operands())
        else:
            self._over(judged, _invalid(judged))
        self._show(judged)

    def broke(self, judged: Either, error: Exception) -> None:
        """Hold: what protects no more is for a person."""
        text = f"{judged.rule.name} does not work: {error!r:.200}"
        if (runner := self._runner_of(judged)) is not None:
            runner.fire(FAULT, text)
        self._raise(judged, f"internal-error-{judged.rule.name}", "critical", text)

    def mended(self, judged: Either) -> None:
        """End the alarm of one that works again; a held batch waits for a person."""
        self._over(judged, f"internal-error-{judged.rule.name}")

    def has_batch(self, judged: JudgedInterlock) -> bool:
        """Tell whether a batch stands where it acts."""
        return self._runner_of(judged) is not None

    # --- alarms and records ---------------------------------------------------------------------------------------

    def _runner_of(self, judged: Either) -> Runner | None:
        """Return what runs where a rule acts: of shared equipment the batch that has it."""
        runners = self._runners()
        if judged.unit != SITE:
            return runners.get(judged.unit)
        if isinstance(judged, JudgedInterlock):
            devices = {output.device for output in judged.rule.outputs}
        else:
            devices = {device for device, _ in judged.rule.forbids}
        owners = {self._suite.gate.owner(device) for device in devices}
        return next((runner for runner in runners.values() if runner.batch.name in owners), None)

    def _raise(
        self, judged: Either, alarm: str, priority: str, text: str, values: Mapping[str, Any] | None = None
    ) -> None:
        key = (judged.unit, alarm)
        known = self._standing.get(key)
        rule = judged.rule
        group = blinded_by(min(judged.condition.devices)) if alarm == _invalid(judged) else ""
        standing = known or Standing(judged.unit, rule.name, alarm, priority, text, values or {}, rule.help, group)
        self._standing[key] = standing
        if (runner := self._runner_of(judged)) is not None:
            self._alarm(runner, standing)
        elif known is None and not any(each.desk.stands(alarm) for each in self._concerned(judged)):
            # After a start the batch has it on record, and its equipment back in a moment: nothing is announced anew.
            self._log.warning("alarm", unit=judged.unit, alarm=alarm, priority=priority, text=text)
            self.on_idle_alarm(standing, True)

    def _alarm(self, runner: Runner, standing: Standing) -> None:
        runner.desk.explain(standing.alarm, standing.help, standing.group)
        runner.alarm(standing.alarm, standing.priority, standing.text, dict(standing.values))

    def _over(self, judged: Either, alarm: str) -> None:
        standing = self._standing.pop((judged.unit, alarm), None)
        for runner in self._concerned(judged):
            if runner.desk.stands(alarm):
                runner.clear(alarm)
        # Whoever has the equipment now, and whoever raised it: it may stand there from before, or from before a start.
        self.on_idle_alarm(standing or Standing(judged.unit, judged.rule.name, alarm, "low", ""), False)

    def _concerned(self, judged: Either) -> Iterator[Runner]:
        """Yield the batches that may have been told: of shared equipment also one that has given it back."""
        for unit, runner in self._runners().items():
            if judged.unit in (unit, SITE):
                yield runner

    def _show(self, judged: Either) -> None:
        for unit in self._site.units if judged.unit == SITE else (judged.unit,):
            self._shown(unit)


def _invalid(judged: Either) -> str:
    kind = "interlock" if isinstance(judged, JudgedInterlock) else "permissive"
    return f"{kind}-{judged.rule.name}-invalid"
