"""What a batch keeps up in its instruments, whatever state it is in: standing targets, and that they are its own.

It is told of each read of an instrument, and puts right what it finds beside the walk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import structlog

from tilctl.engine import identity
from tilctl.engine.errors import StepError
from tilctl.engine.machine import FAULT, SAFE_STATES, State
from tilctl.engine.verbs.set_target import write_target
from tilctl.journal.store import JournalError
from tilctl.plant.watchdogs import tripped

if TYPE_CHECKING:
    from tilctl.engine.runner import Runner

TARGET_OFF = 0.05  # in the unit of the target: a device that reads back further from it has lost it
AGAIN_AFTER_S = 10.0
"""From one writing of a lost target to the next; doubled while it gets lost again, up to AGAIN_AFTER_MOST_S."""
AGAIN_AFTER_MOST_S = 900.0
"""96 a day: memory that takes 100 changes a day is not spent on an instrument that takes none."""
STANDS_S = 3600.0
"""A target that stood so long is written again at once when it is lost."""


class Standing:
    """Keeps up what stands for the batch of one runner; `tasks` are what is being written now."""

    def __init__(self, runner: Runner) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._runner = runner
        self._batch = runner.batch
        self._rewriting: set[str] = set()
        self._written: dict[tuple[str, float], tuple[float, float]] = {}
        """Tag and value -> when it was written last (monotonic s), and the pause (s) after that."""
        self._cut_off = {tag for tag in self._batch.state.targets if f"target-lost-{tag}" in self._batch.state.alarms}
        """Tags whose instruments were cut off, or were about to be written to when the controller died.

        Invariant: what these read back is no sign that it acts: a heater that is off keeps its target all the same.
        """
        self._log = structlog.get_logger("standing").bind(batch=runner.batch.name)

    def keep_targets(self, device: str) -> None:
        """Write a standing target again that its device has lost (a power cut, a hand at the panel)."""
        runner, state = self._runner, self._batch.state
        if runner.recovering or runner.state is State.RESTARTING:
            return  # which write what was lost themselves
        for tag, (standing, _unit) in state.targets.items():
            equipment, _, name = tag.partition(".")
            if self._batch.equipment.get(equipment) != device or tag in self._rewriting | runner.controls.moving:
                continue
            lost = tag in self._cut_off
            if tag not in state.confirmed and runner.state is not State.HELD and not lost:
                continue  # its step is writing it now; in a held batch nobody is, and the device may have come back
            safe = self.safe_value(tag)
            value = standing if safe is None else safe
            now = self._batch.image.number(f"{device}.{name}_target")
            if now is None or not isinstance(value, (int, float)):
                continue
            alarm = f"target-lost-{tag}"
            if abs(now - value) <= TARGET_OFF and not lost:
                if alarm in state.alarms and not runner.watch_only:
                    runner.clear(alarm)
                continue
            # Invariant: what an interlock has cut off is not switched on again; its reset lets the target be written.
            gate = self._batch.plant.gate
            if (gate.barred if safe is None else gate.cut_off)(device, f"set_{name}"):
                continue
            if safe is not None:
                if self._may_write(tag, float(value)):
                    self._begin(self._safe_again(tag, {(device, f"set_{name}")}), tag)
                continue
            how = f"{tag} {'was cut off' if lost else f'stands at {now:g}'}, its standing target is {value:g}"
            if runner.watch_only:
                runner.alarm(alarm, "critical", f"{how}; safe mode writes nothing")
            elif not self._may_write(tag, float(value)):
                runner.alarm(alarm, "high", f"{how}; it is written again soon")
            else:
                self._begin(self._rewrite(tag, float(value), how), tag)

    def write_again(self, devices: set[str]) -> None:
        """Write what instruments that were cut off and may work again ought to have, in every state that keeps it.

        What cannot be written now is written as soon as it can, as what is lost is.
        """
        for tag in self._batch.state.targets:
            if self._batch.equipment.get(tag.partition(".")[0]) in devices and self.safe_value(tag) is None:
                self._cut_off.add(tag)
        if self._runner.recovering:
            return  # which makes safe what is declared when it is over
        for output, device, name in self._declared():
            if device in devices:
                self._begin(self._safe_again(output, {(device, f"set_{name}")}), output)
        for device in devices:
            self.keep_targets(device)

    def restored(self) -> None:
        """Take note that a restart has written every target."""
        self._cut_off.clear()

    def _declared(self) -> list[tuple[str, str, str]]:
        """Return what has a declared value now: its name, the device and what of it."""
        if self._runner.state not in SAFE_STATES:
            return []
        site = self._batch.plant.site
        named = [
            (output, *output.partition(".")[::2])
            for output, safe in site.culture_safe.items()
            if safe.value is not None
        ]
        return [(output, site.roles[role].device, name) for output, role, name in named]

    def _may_write(self, tag: str, value: float) -> bool:
        """Tell whether a lost target may be written now; the pause before the next grows while none lasts."""
        now = self._batch.clock.monotonic()
        at, pause = self._written.get((tag, value), (float("-inf"), 0.0))
        if now - at < pause:
            return False
        lasted = now - at >= max(STANDS_S, pause)
        self._written[tag, value] = now, AGAIN_AFTER_S if lasted else min(2 * pause, AGAIN_AFTER_MOST_S)
        return True

    def safe_value(self, tag: str) -> float | None:
        """Return the value that `culture_safe` declares for a target, while the batch is in a state that has it."""
        if self._runner.state not in SAFE_STATES:
            return None
        equipment, _, name = tag.partition(".")
        site = self._batch.plant.site
        for output, safe in site.culture_safe.items():
            role, _, what = output.partition(".")
            if safe.value is not None and what == name and site.roles[role].device == self._batch.equipment[equipment]:
                return safe.value
        return None

    def see_watchdog(self, device: str) -> None:
        """Show while a device stands still because it was not fed."""
        if tripped(self._batch.plant, device):
            text = f"{device} was stopped by its own watchdog: the controller did not feed it"
            self._runner.alarm(f"watchdog-{device}", "high", text)
        elif self._batch.state.alarms and (alarm := f"watchdog-{device}") in self._batch.state.alarms:
            self._runner.clear(alarm)

    def see_identity(self, device: str) -> None:
        """Hold when an instrument was exchanged while the batch goes on; a restart accepts it, as after an outage."""
        known = self._batch.state.serials.get(device)
        if not known or self._runner.recovering or identity.REPLACED in self._batch.state.alarms:
            return
        serial = self._batch.plant.instruments[device].serial
        if serial and serial != known:
            text = f"{device} has serial number {serial}, the batch knows it as {known}"
            self._runner.fire(FAULT, f"{identity.REPLACED}: {text}")  # Actuate first, report second.
            self._runner.alarm(identity.REPLACED, "high", f"{text}: a restart accepts it")

    def _begin(self, work: Coroutine[Any, Any, None], tag: str) -> None:
        self._rewriting.add(tag)
        task = asyncio.create_task(work, name=f"target:{tag}")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        task.add_done_callback(self._runner.ended)

    async def _rewrite(self, tag: str, value: float, how: str) -> None:
        alarm = f"target-lost-{tag}"
        self._runner.alarm(alarm, "high", how)
        was_cut = tag in self._cut_off
        self._cut_off.discard(tag)  # before it is written: what is cut off meanwhile asks for it anew
        try:
            await write_target(self._batch, tag, value)
            self._runner.clear(alarm)
        except (StepError, JournalError) as error:
            if was_cut and isinstance(error, StepError):
                self._cut_off.add(tag)
            self._log.error("target_not_written", tag=tag, error=str(error))
        finally:
            self._rewriting.discard(tag)

    async def _safe_again(self, tag: str, output: set[tuple[str, str]]) -> None:
        try:
            await self._runner.make_safe_again(output)
        finally:
            self._rewriting.discard(tag)
