"""The simulated operator at work: a thread that sees prompts over MQTT and answers them as a policy says.

The policy (`answer`) is called once for each prompt, in a thread of its own pool, so that it may wait for the bench.
In a rehearsal an answer carries its time of effect, the prompt's start and the operator's delay: when it really
arrives makes no difference, and one prompt is answered after the other. At real pace the delay is waited for, for
each prompt on its own: a result that takes days keeps nobody from hanging up a bag. Ids follow from name, batch and
prompt, so that the record is the same in every run, and an operator that was started again repeats its answers.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any, Protocol

from devices.clock import SystemClock
from devices.mqtt.login import Login
from simulators.operator import Answer as Habitual
from tilctl.commands.envelope import rfc3339
from tilctl.commands.verbs import Code
from tilctl.gateway.client import StationClient
from tilctl.gateway.topics import Topics


class Answer(Protocol):
    """What the policy decides: values for the inputs, and after how long (s) the person would have answered."""

    @property
    def inputs(self) -> Mapping[str, str | float]:
        """Return a value for each input, text with its unit or a plain number."""
        ...

    @property
    def delay_s(self) -> float:
        """Return the time that the person takes, s."""
        ...


ANSWER_S = 120.0
"""How long an answer is repeated: longer than a controller takes to come back, s."""

SAFE_MODE_S = 2.0
"""After how long an answer is given again that a controller in safe mode refused, s."""

Policy = Callable[[dict[str, Any]], Answer]


class OperatorRunner:
    """The thread. `start`, then `request` what a person starts unasked; prompts are answered by themselves."""

    def __init__(
        self,
        url: str,
        topics: Topics,
        answer: Policy,
        *,
        name: str = "operator",
        login: Login | None = None,
        scheduled: bool = True,
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare. `scheduled`: answers carry their time of effect; else the delay since asking passes in real time.

        `on_trouble` is called in the thread when a prompt cannot be answered or an answer is refused: nobody else will
        answer that prompt.
        """
        self.answered = 0
        self._url = url
        self._topics = topics
        self._policy = answer
        self._name = name
        self._login = login
        self._scheduled = scheduled
        self._on_trouble = on_trouble
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._station: StationClient | None = None
        self._requests = 0

    def start(self) -> None:
        """Start the thread; returns when it takes requests, whether the broker is there or not."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name=self._name, daemon=True)
        self._thread.start()
        self._ready.wait()

    def request(
        self,
        unit: str,
        verb: str,
        args: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 30.0,
        command_id: str = "",
    ) -> Future[dict[str, Any]]:
        """Send a command as the operator; the future gives its final answer or NoAnswerError. From any thread.

        `command_id` is for one that is repeated; without it each command has a new one.
        """
        if self._station is None or self._loop is None:
            raise RuntimeError("the operator was not started")
        if not command_id:
            self._requests += 1
            command_id = f"{self._name}-{verb}-{self._requests}"
        work = self._station.request(unit, verb, args, command_id=command_id, timeout_s=timeout_s)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """End the thread; may be called twice."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        client = StationClient(self._url, self._topics, self._name, login=self._login, watch_prompts=True)
        async with client as station:
            self._station = station
            self._ready.set()
            work = asyncio.create_task(self._answer_prompts(station))
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
            if work.done() and (fault := work.exception()) is not None:
                self._tell(f"the operator broke: {type(fault).__name__}: {fault}")
                await stopped  # requests are still served until the close
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _answer_prompts(self, station: StationClient) -> None:
        done: set[tuple[str, str]] = set()
        tasks: dict[asyncio.Task[None], tuple[str, str]] = {}
        hands = asyncio.Lock()  # one person: the policy is asked for one prompt at a time

        def ended(task: asyncio.Task[None]) -> None:
            key = tasks.pop(task)
            fault = None if task.cancelled() else task.exception()
            if fault is not None:
                done.discard(key)  # when the prompt comes again, so does another attempt
                self._tell(f"prompt {key[1]} of {key[0]} was not answered: {type(fault).__name__}: {fault}")

        try:
            while True:
                prompt = await station.next_prompt()
                key = (str(prompt.get("batch")), str(prompt["id"]))
                if key in done:
                    continue
                done.add(key)
                if self._scheduled:
                    await self._answer(station, prompt, hands)
                else:
                    task = asyncio.create_task(self._answer(station, prompt, hands), name=f"answer {key[1]}")
                    tasks[task] = key
                    task.add_done_callback(ended)
        finally:
            left = list(tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _answer(self, station: StationClient, prompt: dict[str, Any], hands: asyncio.Lock) -> None:
        async with hands:
            answer = await asyncio.to_thread(self._policy, prompt)
        command_id = first = f"{self._name}-{prompt.get('batch', '')}-{prompt['id']}"
        again = 0
        while True:
            reply = await self._give(station, prompt, answer.inputs, answer.delay_s, command_id)
            if reply["code"] == Code.INTERRUPTED:
                again += 1  # it did not take effect, and its id has its answer for good
                command_id = f"{first}-again-{again}"
            elif reply["code"] == Code.SAFE_MODE:
                await asyncio.sleep(SAFE_MODE_S)  # somebody has to leave it; the answer is given again then
            else:
                break
        for number, more in enumerate(answer.again if isinstance(answer, Habitual) else ()):
            other = command_id if more.same_id else f"{command_id}-{number}"
            await self._give(station, prompt, more.inputs, answer.delay_s + more.after_s, other)
        if reply["status"] in ("done", "already"):
            self.answered += 1
        else:
            text = f"{reply['code']}: {reply['text']}"
            self._tell(f"the answer to prompt {prompt['id']} ({prompt.get('path')}) was {reply['status']}, {text}")

    async def _give(
        self,
        station: StationClient,
        prompt: dict[str, Any],
        inputs: Mapping[str, str | float],
        after_s: float,
        command_id: str,
    ) -> dict[str, Any]:
        """Give an answer so many seconds after the prompt was asked, and return the reply; raises NoAnswerError."""
        data: dict[str, Any] = {}
        if self._scheduled:
            data["effective"] = rfc3339(_asked(prompt) + timedelta(seconds=after_s))
        else:
            passed = (SystemClock().now() - _asked(prompt)).total_seconds()
            await asyncio.sleep(after_s - min(after_s, max(0.0, passed)))
        roles = prompt.get("sign") or ["operator"]
        return await station.request(
            str(prompt["unit"]),
            "prompt-answer",
            {"prompt": prompt["id"], "inputs": dict(inputs)},
            command_id=re.sub(r"[^A-Za-z0-9._-]", "_", command_id)[-80:],
            data=data,
            actor={"user": self._name, "role": str(roles[0])},
            timeout_s=ANSWER_S,
        )

    def _tell(self, text: str) -> None:
        if self._on_trouble is not None:
            self._on_trouble(text)


def _asked(prompt: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(str(prompt["asked"]))
