"""A file that a command writes because it was told to: never over what it reads, over another one only when told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.recipe_reading import shown


@dataclass(frozen=True, slots=True)
class Output:
    """A file to be written, and the option that names it."""

    option: str
    path: Path

    def __str__(self) -> str:
        return f"{self.option}: {shown(self.path)}"


def check(output: Output, read: Mapping[str, Path], *, force: bool) -> None:
    """Raise CommandFailed where a file must not be written: it is one of those `read`, or there without `force`."""
    try:
        if not output.path.exists():
            return
        same = next((name for name, path in read.items() if path.exists() and output.path.samefile(path)), None)
        if same is not None:
            raise CommandFailed(Exit.BAD_INPUT, f"{output} is the {same} itself: give another file")
        if not force:
            raise _there(output)
    except (OSError, ValueError) as error:
        raise _unwritable(output, error) from error


def write(output: Output, text: str, read: Mapping[str, Path], *, force: bool) -> None:
    """Write a text; raises CommandFailed as `check` does, and where the file cannot be written."""
    check(output, read, force=force)
    try:
        with output.path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise _there(output) from error
    except (OSError, ValueError) as error:
        raise _unwritable(output, error) from error


def _there(output: Output) -> CommandFailed:
    text = f"{output} is there already, nothing was written: give another file, or --force to replace it"
    return CommandFailed(Exit.BAD_INPUT, text)


def _unwritable(output: Output, error: OSError | ValueError) -> CommandFailed:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = f"{output} cannot be written: {reason}: give a file in a folder that is there and takes it"
    return CommandFailed(Exit.UNAVAILABLE, text)
