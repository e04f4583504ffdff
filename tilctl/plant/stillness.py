"""A rocked place stands still to be weighed: by a pause that its rocker bounds and ends by itself.

The pause is renewed while something is weighed or dosed there, and no longer than the cells may be without oxygen.

Invariant: whatever becomes of this program, the rocker goes on: nothing here has to be sent for that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass

import structlog

from devices.clock import Clock
from devices.instrument import DeviceError, NotApplied
from devices.role import PAUSE
from tilctl.plant.image import ProcessImage
from tilctl.plant.outputs import OutputGate, OutputRefused
from tilctl.plant.scanning import Scanner

# All engineering defaults of this project.
PAUSE_S = 120.0  # s for which the rocker is told to stand; nobody says more, and it goes on
RENEW_S = 40.0  # s from one renewal to the next
STANDS_WITHIN_S = 60.0
STILL_RPM = 0.5  # a tray that shows no more stands
AT_REST_S = 10.0  # s from there until liquid and load cell have come to rest
MOST_STILL_S = 600.0  # in one go; 1e7 cells in a mL have used up half of their oxygen within 14 min (by arithmetic)
LEAD_S = 150.0  # of that for coming to rest, weighing before and after, and dripping
REST_S = 600.0  # that it rocks again before it stands for the next part of the same dose
END_WITHIN_S = 5.0


@dataclass(slots=True)
class _Pause:
    began: float  # monotonic, s
    users: int = 0
    renewing: asyncio.Task[None] | None = None


class Stillness:
    """The pauses of the rockers of one unit; several that weigh at the same time share one."""

    def __init__(
        self, clock: Clock, image: ProcessImage, gate: OutputGate, scanner: Scanner, well: Callable[[], bool]
    ) -> None:
        """`well` says whether the controller is: only then a pause is renewed."""
        self._clock = clock
        self._image = image
        self._gate = gate
        self._scanner = scanner
        self._well = well
        self._pauses: dict[str, _Pause] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @contextlib.asynccontextmanager
    async def over(self, rockers: Iterable[str]) -> AsyncGenerator[None]:
        """Have these stand still inside the block; those that rest anyway are left alone.

        Raises DeviceError when one does not come to stand within a minute.
        """
        taken: list[str] = []
        try:
            for rocker in dict.fromkeys(rockers):
                async with self._turns[rocker]:
                    if await self._take(rocker):
                        taken.append(rocker)
            yield
        finally:
            for rocker in taken:
                await self._give_back(rocker)

    def ends(self, rockers: Iterable[str]) -> float | None:
        """Return until when (monotonic, s) what is done there has to be over; None where nothing has to go on."""
        began = [pause.began for rocker in rockers if (pause := self._pauses.get(rocker)) is not None]
        return min(began) + MOST_STILL_S - LEAD_S / 2 if began else None

    async def most_ml(self, rockers: Iterable[str], rate: float) -> float | None:
        """Return how much (mL) may be dosed in one go at a rate (mL/min); None where nothing has to go on.

        Raises DeviceError where a rocker does not answer.
        """
        for rocker in rockers:
            await self._scanner.fresh(rocker)
            if not self._rests(rocker):
                return (MOST_STILL_S - LEAD_S) / 60.0 * rate
        return None

    def _rests(self, rocker: str) -> bool:
        """Whether it stands, and is meant to; what is not known may rock."""
        shown = [self._image.number(f"{rocker}.{point}") for point in ("rocking", "rocking_target")]
        return all(rpm is not None and rpm <= STILL_RPM for rpm in shown)

    async def _take(self, rocker: str) -> bool:
        pause = self._pauses.get(rocker)
        if pause is None:
            await self._scanner.fresh(rocker)
            if self._rests(rocker):
                return False
            pause = self._pauses[rocker] = _Pause(self._clock.monotonic())
            try:
                await self._come_to_rest(rocker)
            except BaseException:
                await self._go_on(rocker, pause)
                raise
            pause.renewing = asyncio.create_task(self._renew(rocker, pause), name=f"still:{rocker}")
        pause.users += 1
        return True

    async def _come_to_rest(self, rocker: str) -> None:
        try:
            await self._gate.upkeep(rocker, PAUSE, {"seconds": PAUSE_S})
        except OutputRefused as error:
            raise DeviceError(rocker, str(error), "look at its profile") from error
        given_up = self._clock.monotonic() + STANDS_WITHIN_S
        while True:
            await self._scanner.fresh(rocker)
            rpm = self._image.number(f"{rocker}.rocking")
            if rpm is not None and rpm <= STILL_RPM:
                break
            if self._clock.monotonic() >= given_up:
                shown = "does not say how fast it rocks" if rpm is None else f"still rocks at {rpm:.1f} rpm"
                text = f"it was told to stand still to be weighed, and {shown}"
                raise NotApplied(rocker, text, "look at the rocker; what it carries cannot be weighed", {})
            await self._clock.sleep(1.0)
        await self._clock.sleep(AT_REST_S)

    async def _renew(self, rocker: str, pause: _Pause) -> None:
        """Invariant: never beyond the longest time that the cells may stand, and only by a controller that is well."""
        log = structlog.get_logger("stillness")
        while True:
            await self._clock.sleep(RENEW_S)
            left = pause.began + MOST_STILL_S - self._clock.monotonic()
            if left < RENEW_S or not self._well():
                return
            try:
                async with asyncio.timeout(RENEW_S):
                    await self._gate.upkeep(rocker, PAUSE, {"seconds": float(int(min(PAUSE_S, left)))})
            except (DeviceError, TimeoutError) as error:
                log.warning("pause_not_renewed", device=rocker, why=str(error) or "no answer")

    async def _give_back(self, rocker: str) -> None:
        async with self._turns[rocker]:
            pause = self._pauses[rocker]
            pause.users -= 1
            if pause.users == 0:
                await self._go_on(rocker, pause)

    async def _go_on(self, rocker: str, pause: _Pause) -> None:
        """Let it rock again, now instead of by itself; bounded, never raises but a cancel."""
        del self._pauses[rocker]  # whoever wants it to stand from now on says so anew
        if pause.renewing is not None:
            pause.renewing.cancel()
            await asyncio.wait((pause.renewing,))
        try:
            async with asyncio.timeout(END_WITHIN_S):
                await self._gate.upkeep(rocker, PAUSE, {"seconds": 0.0})
                await self._clock.sleep(2.0)  # until it moves, so that nobody takes it for standing
                await self._scanner.fresh(rocker)
        except (DeviceError, OutputRefused, TimeoutError) as error:  # it goes on by itself
            log = structlog.get_logger("stillness")
            log.warning("pause_not_ended", device=rocker, why=str(error) or "no answer")
