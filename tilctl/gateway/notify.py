"""People are told of alarms: by MQTT, and by the webhooks and e-mails of the site file, until somebody acknowledges.

On the core's loop; it looks at what stands, never at the record, so that it tells of what could not be noted too.  What
leaves goes through threads of their own (`notify_send`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from devices.clock import Clock
from tilctl.config import Site
from tilctl.engine.port import SITE
from tilctl.gateway.notify_plan import GROUP_S, Message, Plan, Recipient, Standing
from tilctl.gateway.notify_send import Body, Sender, Way
from tilctl.gateway.notify_words import body_of
from tilctl.guard.desk import Desk

SETTLE_S = 1.0  # until what comes together is looked at: a storm, and which of it came first
BEGIN_WITHIN_S = 120.0  # people are told of what stands when recovery is over, or after this time
FAILED_S = 600.0  # s for which a person could not be told before that is an alarm itself
FAILED_LOOK_S = 60.0
FAILED = "notify-failed"
LEVELS: frozenset[str] = frozenset({"critical", "high", "medium", "low"})


class Notifier:
    """One for a controller.  All methods are for the core's loop; none waits for the outside."""

    def __init__(
        self,
        site: Site,
        clock: Clock,
        boot: str,
        shown: Callable[[], Sequence[Standing]],
        publish: Callable[[str, Body], None],
        ways: Mapping[str, Sequence[Way]],
    ) -> None:
        """`shown` returns what stands, `publish` takes a message of a unit, `ways` are those to each person."""
        self._site = site
        self._clock = clock
        self._boot = boot
        self._shown = shown
        self._publish = publish
        repeat = site.notify.repeat
        self._topics = [Plan(Recipient("mqtt", LEVELS, 0, unit), repeat) for unit in (*site.units, SITE)]
        self._people = [Plan(Recipient(p.name, frozenset(p.levels), p.escalation), repeat) for p in site.notify.people]
        self._senders = [Sender(to, way, self._delivered) for to, each in ways.items() for way in each]
        self._desk: Desk | None = None
        self._said = False  # that a person cannot be told
        self._timer: asyncio.Task[None] | None = None
        self._due: float | None = None
        self._begun = False
        self._count = self._published = 0
        self._log = structlog.get_logger("notify")

    def start(self, desk: Desk) -> None:
        """Begin; `desk` takes the alarm that a person cannot be told."""
        self._desk = desk
        for sender in self._senders:
            sender.start()
        self._wake_in(BEGIN_WITHIN_S)

    def begin(self) -> None:
        """Recovery is over: tell people what stands, in one message for each."""
        self._wake_in(SETTLE_S)

    def refresh(self) -> None:
        """See before long whether there is something to say."""
        if self._begun:
            self._wake_in(SETTLE_S)

    async def close(self) -> None:
        """End; what waits is delivered for a short while yet."""
        self._begun = False  # what changes from now on is the affair of the next life
        timer, self._timer, self._due = self._timer, None, None
        if timer is not None:
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)
        await asyncio.gather(*(asyncio.to_thread(sender.close) for sender in self._senders))

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many messages came to what, by channel and result."""
        found: dict[tuple[str, str], int] = {("mqtt", "published"): self._published}
        for sender in self._senders:
            for result in ("delivered", "retried", "dropped", "expired"):
                key = (sender.way.channel, result)
                found[key] = found.get(key, 0) + sender.counts[result]
        return found

    @property
    def waiting(self) -> int:
        """How many messages wait to be delivered."""
        return sum(sender.waiting for sender in self._senders)

    def _wake_in(self, seconds: float) -> None:
        due = self._clock.monotonic() + seconds
        if self._timer is not None and self._due is not None and self._due <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.create_task(self._wait(due), name="notify")

    async def _wait(self, due: float) -> None:
        await self._clock.sleep_until(due)
        self._timer = self._due = None
        try:
            self._look()
        except Exception:  # noqa: BLE001 - Invariant: one look that breaks keeps no later one from coming
            self._log.exception("notify_fault")
            self._wake_in(GROUP_S)

    def _look(self) -> None:
        self._begun = True
        now, stands = self._clock.monotonic(), self._shown()
        for plan in self._topics:
            if (message := plan.look(now, stands)) is not None:
                self._published += 1
                self._publish(plan.to.unit, self._body(message))
        for plan in self._people:
            if (message := plan.look(now, stands)) is not None:
                self._send(message)
        self._judge()
        dues = [plan.due for plan in (*self._topics, *self._people) if plan.due is not None]
        wait = [max(0.0, min(dues) - now)] if dues else []
        if any(sender.failing_s > 0 for sender in self._senders):
            wait.append(FAILED_LOOK_S)
        if wait:
            self._wake_in(min(wait))

    def _body(self, message: Message) -> Body:
        self._count += 1
        identity = {"site": self._site.name, "node": self._site.node}
        number = f"{self._boot}-{self._count}"
        return body_of(message, identity, number, self._clock.now(), batch=self._site.notify.batch)

    def _send(self, message: Message) -> None:
        body = self._body(message)
        self._log.info("told", to=message.to.name, kind=message.kind, alarms=len(message.alarms))
        for sender in self._senders:
            if sender.to == message.to.name:
                sender.put(body)

    def _delivered(self) -> None:
        """See what came of a message; called in the thread of whoever sent it."""
        self._clock.enter(self._judge)

    def _judge(self) -> None:
        """Raise an alarm where a person could not be told for long, and end it when he can be."""
        desk = self._desk
        if desk is None:
            return
        late = [sender for sender in self._senders if sender.failing_s >= FAILED_S]
        if late and not self._said:
            self._said = True
            desk.raise_(FAILED, "medium", "; ".join(_failing(late)))
        delivered = not self._senders or any(sender.counts["delivered"] for sender in self._senders)
        if not late and delivered and (self._said or FAILED in desk.book.active):  # it may be of an earlier life
            self._said = False
            desk.clear(FAILED)


def _failing(late: Iterable[Sender]) -> list[str]:
    return [
        f"{sender.to} cannot be told by {sender.way.channel} ({sender.way.host}): {sender.why or 'no answer'}"
        for sender in late
    ]
