"""One suite to be tortured: the plant's process, the controller's, the page with the time, and the operator."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import time
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from simulators.operator import Operator
from simulators.page import Page
from simulators.remote import BenchClient
from tests.torture import controller, plant
from tests.torture.controller import ControllerOrder
from tests.torture.ties import moved, unnumbered
from tests.torture.witness import Witness
from tilctl.cli.operator_runner import OperatorRunner
from tilctl.cli.simulated import SITES, site_for
from tilctl.config import load_site
from tilctl.engine.state import fold
from tilctl.gateway.topics import Topics
from tilctl.journal.chain import Record
from tilctl.journal.verify import Verdict, read

UNIT = "cell1"
STARTS_WITHIN = 60.0  # real s


def forks() -> ForkServerContext:
    """Return a maker of processes that are forked from one that has imported the program, and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.torture.controller", "tests.torture.plant"])
    return context


class Rig:
    """The processes of one suite in a folder; what is left of them ends with the block."""

    def __init__(
        self, folder: Path, url: str, name: str, seed: int, context: ForkServerContext, wrong: str = "",
        site: str = SITES[0],
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True)
        self._model = site_for(site)
        self.site = load_site(self._model)
        self.pumps = unnumbered(self.site)
        self.folder = folder
        self.seed = seed
        self.topics = Topics(f"til/v1/demo/{name}")
        self.trouble: list[str] = []
        self.page = Page(folder / "page")
        self.boots = 0
        self._url, self._name, self._context = url, name, context
        self._ears = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ears.bind(("127.0.0.1", 0))
        told: int = self._ears.getsockname()[1]
        site, page, log = (str(folder / name) for name in ("site.yaml", "page", "controller.log"))
        self._order = ControllerOrder(site, page, "", told, log, wrong=wrong)
        self._controller: Any = None
        self._started = 0.0

    def __enter__(self) -> Self:
        ours, theirs = self._context.Pipe()
        order = plant.PlantOrder(self.folder / "page", self.seed, self._model)
        self._plant = self._context.Process(target=plant.serve, args=(order, theirs), daemon=True)
        self._plant.start()
        if not ours.poll(STARTS_WITHIN):
            raise TimeoutError("the plant did not start")
        ports, bench = ours.recv()
        self._site(ports)
        self._bench = BenchClient("127.0.0.1", bench)
        self._own_bench = BenchClient("127.0.0.1", bench)
        policy = Operator(self.seed, self._seen).answer
        self.witness = Witness(self._url, self.topics)
        self.witness.start()
        self.operator = OperatorRunner(self._url, self.topics, policy, on_trouble=self.trouble.append)
        self.operator.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.operator.close()
        self.witness.close()
        self._bench.close()
        self._own_bench.close()
        self._plant.kill()
        self._plant.join()
        self._ears.close()
        self.page.close()

    def _site(self, ports: dict[str, int]) -> None:
        text = self._model.read_text("utf-8")
        new = {str(self.site.buses[name].port): str(port) for name, port in ports.items()}
        # instruments over MQTT stay out: their broker would be a real one, and the time is not
        over = ["kind: mqtt", *(f"bus: {bus.name}," for bus in self.site.buses.values() if bus.kind == "mqtt")]
        text = "\n".join(line for line in text.splitlines() if not any(mark in line for mark in over))
        text = re.sub(r"(?<=\bport: )\d+", lambda port: new.get(port[0], port[0]), text)
        text = text.replace("mqtt://127.0.0.1:1883", self._url).replace("port: 9464", "port: 0")
        text = text.replace("node: suite1", f"node: {self._name}")
        text = text.replace("data: data", f"data: {self.folder / 'data'}", 1)
        often = "scan: {active: 1 s, quiet: 60 s, idle: 10 min, trend: 10 s}"  # kills fall between scans as at a site
        text = re.sub(r"^scan: .*$", often, text, flags=re.MULTILINE)
        (self.folder / "site.yaml").write_text(text)

    # --- the controller -------------------------------------------------------------------------------------------

    def start(self, *, fresh: bool = False, points: bool = False, sparing: bool = False) -> None:
        """Start the controller: forked, or `fresh` as a new interpreter."""
        self.boots += 1
        order = replace(
            self._order,
            boot=f"boot-{self.seed}-{self.boots}",
            points=str(self.folder / "points") if points else "",
            sparing=sparing,
        )
        self._heard = False
        self._started = time.monotonic()
        if fresh:
            self._controller = subprocess.Popen(controller.words(order), stdin=subprocess.DEVNULL)
        else:
            self._controller = self._context.Process(target=controller.control, args=(order,), daemon=True)
            self._controller.start()

    @property
    def age(self) -> float:
        """Real seconds since the controller was started."""
        return time.monotonic() - self._started

    def ready(self, within: float) -> bool:
        """Wait so long (real s) for the controller to say that it is in control; False too when it said so before."""
        if select.select([self._ears], [], [], within)[0]:
            return self._ears.recv(200).decode() == f"boot-{self.seed}-{self.boots}"
        return False

    @property
    def status(self) -> int | None:
        """How the controller ended (negative: the signal), None while it runs or when none was started."""
        process = self._controller
        if process is None:
            return None
        return process.poll() if isinstance(process, subprocess.Popen) else process.exitcode

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Send a signal, wait for the end, and return how it ended."""
        process, self._controller = self._controller, None
        if process is None:
            return None
        if isinstance(process, subprocess.Popen):
            process.send_signal(how)
            return process.wait(60)
        if process.exitcode is None and process.pid is not None:
            os.kill(process.pid, how)
        process.join(60)
        return process.exitcode

    def _seen(self, name: str, args: dict[str, Any]) -> Any:
        """Let the operator look or do something; a dose of a drive that knows no numbers is known by its time."""
        if name == "moved" and self.pumps and args.get("sequence") is not None:
            return moved(self._bench.call("truth", {}), fold(self.records()[0]), args, self.pumps)
        return self._bench.call(name, args)

    # --- what can be looked at ------------------------------------------------------------------------------------

    def bench(self, name: str, **args: Any) -> Any:
        """Have the bench do something, or tell the truth."""
        return self._own_bench.call(name, args)

    def batches(self) -> list[Path]:
        """Return the files of the batches, closed or not, without those whose start was cut off long ago."""
        folder = self.folder / "data" / "batches"
        files = sorted([*folder.glob("*.db"), *folder.glob("closed/*.db")], key=lambda path: path.name)
        return [file for file in files if any(r.event.kind == "state_changed" for r in read(file)[0])]

    def records(self) -> tuple[list[Record], Verdict]:
        """Return the record of the batch."""
        return read(self.batches()[0])

    def safe_mode(self) -> bool:
        """Tell whether the controller stays in safe mode until a person leaves it."""
        file = self.folder / "data" / "site.db"
        try:
            with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=1.0)) as site:
                rows = site.execute(
                    'SELECT event FROM events WHERE event LIKE \'%"kind":"safe_mode"%\' ORDER BY seq DESC LIMIT 1'
                )
                return any(json.loads(text)["on"] for (text,) in rows)
        except sqlite3.Error:
            return False

    def site_records(self) -> tuple[list[Record], Verdict]:
        """Return the record of the site."""
        return read(self.folder / "data" / "site.db")
