"""Which profile is meant: the path of a file, or the id of one that comes along; loaded as the controller does it."""

from __future__ import annotations

from pathlib import Path

from devices.document import DocumentError
from devices.profile import Profile, load_profile, profile_ids
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import lines


def found(asked: str) -> Profile:
    """Return the profile of an id or a path; raises DocumentError with every finding.

    A file of the same name in the present folder does not hide a profile that comes along: an id has no dot and slash.
    """
    return load_profile(asked if asked in profile_ids() else Path(asked))


def wanted(asked: str) -> Profile:
    """Return what `found` does; raises CommandFailed, with the findings, where it cannot be used."""
    try:
        return found(asked)
    except DocumentError as error:
        hint = "" if _is_path(asked) else f"\nthose that come along: {', '.join(profile_ids())}"
        raise CommandFailed(Exit.BAD_INPUT, f"the profile cannot be used:\n{lines(error)}{hint}") from error


def _is_path(asked: str) -> bool:
    return "/" in asked or asked.endswith((".yaml", ".yml"))
