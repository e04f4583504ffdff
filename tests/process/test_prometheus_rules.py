"""What only an outsider sees is alarmed by Prometheus: the shipped rules, tried by promtool and beside a controller."""

from __future__ import annotations

import asyncio
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from cell import Cell, until
from prometheus import CLOCK, DEPLOY, RULES, Prometheus

from devices.clock import SystemClock
from tilctl.gateway.broker import EmbeddedBroker

CASES = DEPLOY / "prometheus-rules.test.yml"


def rules() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def promtool(*words: str) -> None:
    program = shutil.which("promtool") or "promtool"
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_says_what_it_means_and_what_to_do_and_is_tried_both_ways() -> None:
    found = rules()
    fires: set[str] = set()
    silent: set[str] = set()
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for question in case["promql_expr_test"]:
            names = re.findall(r'alertname="(\w+)"', question["expr"])
            (fires if question["exp_samples"] else silent).update(names)
    assert fires == silent == set(found)
    for name, rule in found.items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert set(rule["annotations"]) == {"summary", "meaning", "action"}, name


@pytest.mark.debian("promtool")
def test_promtool_finds_the_rules_right_and_every_case_as_expected() -> None:
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", str(CASES))


def quiet(prometheus: Prometheus) -> bool:
    """Return whether no alert fires or is about to."""
    states = prometheus.states()
    return prometheus.scrapes() >= 3 and {states[name] for name in states.keys() - {CLOCK}} == {"inactive"}


async def clock_is_synchronised() -> bool:
    return SystemClock().synchronised() is True


@pytest.mark.debian("prometheus", "promtool")
def test_a_controller_that_is_well_is_left_alone_and_what_befalls_it_is_seen(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker, Cell(tmp_path, broker.url) as cell:
        cell.start_controller()
        controller = cell.controller
        assert controller is not None
        until(cell.ready, "the controller is ready")
        with Prometheus(tmp_path, cell.http_port) as prometheus:
            until(lambda: quiet(prometheus), "an idle controller is left alone")
            wanted = set(re.findall(r"tilctl_\w+", " ".join(rule["expr"] for rule in rules().values())))
            exported = set(re.findall(r"^(tilctl_\w+)", cell.get("/metrics")[1], flags=re.MULTILINE))
            assert wanted <= exported, "what the rules ask for is there"
            clock = "inactive" if asyncio.run(clock_is_synchronised()) else "firing"
            until(lambda: prometheus.states()[CLOCK] == clock, f"the alert of the clock is {clock}")

            controller.send_signal(signal.SIGSTOP)
            until(lambda: prometheus.firing() == {"TilctlSilent"}, "it stands still")
            assert "demo/suite1: the controller does not answer" in prometheus.summaries()
            controller.send_signal(signal.SIGCONT)
            until(lambda: quiet(prometheus), "it goes on")

            assert cell.command("start", recipe="brief")["status"] == "done"
            until(lambda: cell.has("intent_opened", path="fill/dose"), "the dose begins")
            assert not prometheus.firing(), "a batch that runs is left alone"
            broker.stop()
            until(lambda: prometheus.firing() == {"TilctlBrokerLost", "TilctlHeadNotExported"}, "nobody hears of it")
            with EmbeddedBroker(broker.port):
                until(lambda: quiet(prometheus), "the broker is back, and has the head")

                # From now on no file grows: what the process writes fails as on a disk that takes nothing.
                hard = resource.prlimit(controller.pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(controller.pid, resource.RLIMIT_FSIZE, (0, hard))
                until(lambda: prometheus.firing() == {"TilctlRecordNotWritten"}, "the disk takes nothing")
                assert "the record of site is not written" in prometheus.summaries()

                cell.kill_controller()
                until(lambda: prometheus.firing() == {"TilctlSilent"}, "it is gone")
