"""A real Prometheus with the shipped configuration and rules, in a hurry, beside a controller of a test."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

sys.path.insert(0, str(Path(__file__).parent))
from cell import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus-rules.yml"
CLOCK = "TilctlClockNotSynchronised"


class Prometheus:
    """Only paces, waits, places and ports are those of the test."""

    def __init__(self, folder: Path, target: int) -> None:
        self._folder = folder
        self._url = f"127.0.0.1:{free_port()}"
        shipped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
        shipped["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s")
        shipped["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{target}"]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(shipped))
        text = re.sub(r"^( +for:) \S+$", r"\1 2s", RULES.read_text(), flags=re.MULTILINE)
        (folder / RULES.name).write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        words = [
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/tsdb",
            f"--web.listen-address={self._url}",
        ]
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen([shutil.which("prometheus") or "prometheus", *words], stderr=log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)

    def scrapes(self) -> int:
        """Return how often the controller answered in the last minute."""
        found = self._ask("query?query=sum_over_time(up[1m])")
        return int(found["result"][0]["value"][1]) if found and found["result"] else 0

    def states(self) -> dict[str, str]:
        """Return what each alert is: inactive, pending or firing; empty before Prometheus is there."""
        found = [rule for group in (self._ask("rules") or {"groups": []})["groups"] for rule in group["rules"]]
        broken = [rule for rule in found if rule["health"] == "err"]
        assert not broken
        return {rule["name"]: rule["state"] for rule in found}

    def firing(self) -> set[str]:
        """Return what fires, but for what only this machine's own clock is the cause of."""
        return {name for name, state in self.states().items() if state == "firing"} - {CLOCK}

    def summaries(self) -> str:
        """Return what is said of all that is active."""
        return "\n".join(alert["annotations"]["summary"] for alert in self._ask("alerts")["alerts"])

    def _ask(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://{self._url}/api/v1/{path}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.URLError as error:
            starting = isinstance(error, urllib.error.HTTPError) and error.code == HTTPStatus.SERVICE_UNAVAILABLE
            if starting or isinstance(error.reason, ConnectionError):
                return None
            raise
