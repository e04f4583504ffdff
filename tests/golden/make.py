"""Make the golden records of this version: `python tests/golden/make.py`, once before a release, never again after it.

They are small batches of the real engine in virtual time (fixed seeds), written to `tests/golden/VERSION/`, with the
state that this version folds from them beside each.  `tests/logic/test_golden.py` folds them with every later version:
a batch is finished by the version that comes after an update, or is refused before anything is touched.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "engine"))
sys.path.insert(0, str(HERE.parents[1]))

from story import Story  # noqa: E402

from simulators.virtual import VirtualLoop  # noqa: E402
from tilctl import __version__  # noqa: E402
from tilctl.engine.state import BatchState, fold, format_time  # noqa: E402
from tilctl.journal.verify import read  # noqa: E402


async def complete(suite: Story) -> None:
    await suite.start("shakedown")
    await suite.until_state("complete")


async def killed_in_a_dose(suite: Story) -> None:
    await suite.start("small")
    await suite.until_flowed("pump_media", 20.0)


async def held_with_a_prompt(suite: Story) -> None:
    suite.hands.mine = {"count"}
    await suite.start("shakedown")
    await suite.until("collect/count", "acting")
    await suite.settle()
    await suite.do("hold")


async def in_doubt(suite: Story) -> None:
    suite.hands.mine = {"reconcile"}
    await suite.start("small")
    await suite.until_flowed("pump_media", 40.0)
    suite.faults("scales").silent = True
    await suite.until_state("held")


async def freezing(suite: Story) -> None:
    await suite.start("shakedown")
    await suite.when(lambda: suite.plant.freezer.running, "the run is on")
    await suite.pass_time(60.0)


STORIES: dict[str, Callable[[Story], Awaitable[None]]] = {
    "complete": complete,
    "killed-in-a-dose": killed_in_a_dose,
    "held-with-a-prompt": held_with_a_prompt,
    "in-doubt": in_doubt,
    "freezing": freezing,
}


async def _tell(name: str, into: Path) -> None:
    """Live one story, kill its controller, keep its record; that of the site is kept of the first one."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Story(Path(folder))
        await suite.open()
        await STORIES[name](suite)
        await suite.settle()
        suite.kill()
        await suite.bury()  # closes the record's file, and so takes its log in
        shutil.copyfile(suite.file(), into / f"{name}.db")
        if name == next(iter(STORIES)):
            shutil.copyfile(Path(folder) / "data" / "site.db", into / "site.db")
        await suite.close()


def plain(value: Any) -> Any:
    """Return a folded state, or a part of it, as JSON says it."""
    if isinstance(value, BatchState):
        return plain({**vars(value), "ledger": {account.name: account for account in value.ledger}})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def folded(path: Path) -> Any:
    """Return what the record of a batch folds to, as JSON says it; raises ValueError when it is not whole."""
    records, verdict = read(path)
    if not verdict.ok:
        raise ValueError(f"{path}: {verdict.reason}")
    return json.loads(json.dumps(plain(fold(records))))


def main() -> None:
    into = HERE / __version__
    if into.exists():
        sys.exit(f"{into} is there already: the records of a version are made once")
    into.mkdir()
    for name in STORIES:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(_tell(name, into))
        text = json.dumps(folded(into / f"{name}.db"), indent=1, sort_keys=True)
        (into / f"{name}.json").write_text(text + "\n", "utf-8")
        print(f"{name}: {(into / f'{name}.db').stat().st_size} bytes")


if __name__ == "__main__":
    main()
