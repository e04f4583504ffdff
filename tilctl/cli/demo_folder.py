"""The folder that a demonstration writes into: taken by one at a time, and emptied only of what a demonstration made.

A folder of a demonstration carries a marker file, which is also its lock.  Without the marker nothing is replaced;
with it, only files whose names are those that a demonstration gives, and none if there is any other beside them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

from simulators.virtual import EPOCH
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.rehearsal import UNIT

MARKER = ".tilctl-demo"
LOG, CULTURE, FREEZING = "log.jsonl", "culture.svg", "freezing.svg"
DATA = "data"
_FILES = (LOG, CULTURE, FREEZING)
_MADE_BY = {"made_by": "tilctl demo"}
_FOLDERS = {"batches", "batches/closed", "history"}
_DATABASE = r"\.db(?:\.new)?(?:-wal|-shm|-journal)?"
_BATCH = rf"{UNIT}-{EPOCH:%Y%m%d}T\d{{6}}x*"  # simulated time has a fixed beginning, and so have the names
_OURS = re.compile(
    rf"site{_DATABASE}|unit\.\w+\.mark|mqtt-cursor\.(?:json|new)|(?:batches|batches/closed|history)/{_BATCH}{_DATABASE}"
)


@contextlib.contextmanager
def taken(out: Path) -> Generator[None]:
    """Hold `out` as an empty folder for a demonstration; what an earlier one left there is removed.

    Raises CommandFailed, with nothing changed, where the folder cannot be used, another demonstration runs in it, or
    it holds anything of another origin under a name that is needed.
    """
    with contextlib.ExitStack() as stack:
        try:
            _take(out, stack)
        except OSError as error:
            why = "there is a file" if isinstance(error, FileExistsError) else error.strerror or str(error)
            text = f"the folder {out} cannot be written: {why}; give another one with --out"
            raise CommandFailed(Exit.UNAVAILABLE, text) from error
        yield


def _take(out: Path, stack: contextlib.ExitStack) -> None:
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out / MARKER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    stack.callback(os.close, handle)
    _lock(out, handle)
    try:
        _make_room(out, ours=_is_marker(handle))
    except CommandFailed:
        if os.fstat(handle).st_size == 0:
            (out / MARKER).unlink()
        raise
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(_MADE_BY).encode() + b"\n", 0)
    (out / LOG).touch()


def _lock(out: Path, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        same = os.path.samestat(os.fstat(handle), os.lstat(out / MARKER))
    except (BlockingIOError, FileNotFoundError):
        same = False
    if not same:
        text = f"another demo is running in {out}; let it end, or give another folder with --out"
        raise CommandFailed(Exit.UNAVAILABLE, text)


def _is_marker(handle: int) -> bool:
    try:
        content: Any = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return False
    return isinstance(content, dict) and cast("dict[str, Any]", content).items() >= _MADE_BY.items()


def _make_room(out: Path, *, ours: bool) -> None:
    """Remove what an earlier demonstration left.  Invariant: all is looked at before anything is removed."""
    data = out / DATA
    files = [out / name for name in _FILES if os.path.lexists(out / name)]
    if not ours and (out / MARKER).stat().st_size:
        raise _foreign(out, MARKER)
    if not ours and files:
        raise _foreign(out, files[0].name)
    if data.is_symlink() or (os.path.lexists(data) and not data.is_dir()):
        raise _foreign(out, DATA)
    inside, folders = _inside(data)
    for path in inside:
        name = path.relative_to(data).as_posix()
        if not ours or not path.is_file() or path.is_symlink() or _OURS.fullmatch(name) is None:
            raise _foreign(out, f"{DATA}/{name}")
    for folder in folders:
        name = folder.relative_to(data).as_posix()
        if not ours or name not in _FOLDERS:
            raise _foreign(out, f"{DATA}/{name}")
    for path in files:
        if path.is_dir() and not path.is_symlink():
            raise _foreign(out, path.name)
    for path in (*inside, *files):
        path.unlink()
    for folder in reversed(folders):
        folder.rmdir()


def _inside(data: Path) -> tuple[list[Path], list[Path]]:
    """Return what lies in the data folder: what is no folder, and the folders, outer ones first."""
    files: list[Path] = []
    folders: list[Path] = []
    for place, below, names in os.walk(data):
        links = [name for name in below if (Path(place) / name).is_symlink()]
        files += [Path(place) / name for name in (*names, *links)]
        folders += [Path(place) / name for name in below if name not in links]
    return files, folders


def _foreign(out: Path, name: str) -> CommandFailed:
    text = (
        f"{out} holds {name}, which no demo made; nothing was touched. Give another folder with --out, or move it away"
    )
    return CommandFailed(Exit.UNAVAILABLE, text)
