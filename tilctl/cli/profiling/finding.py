"""Which profile is meant: the path of a file, or the id of one that comes along; loaded as the controller does it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from devices.document import Diagnostic, DocumentError, Severity, load
from devices.profile import Profile, load_profile, profile_ids
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import lines

TEMPLATE = "template"
"""The profile to copy: its id, and the name of its file without the ending."""


def found(asked: str) -> Profile:
    """Return the profile of an id or a path; raises DocumentError with every finding.

    A file of the same name in the present folder does not hide a profile that comes along: an id has no dot and slash.
    """
    return load_profile(asked if asked in profile_ids() else Path(asked))


def doubts(asked: str, profile: Profile) -> tuple[Diagnostic, ...]:
    """Return warnings about the id of a file that is otherwise sound: a site finds a profile only by both its names."""
    if asked in profile_ids():
        return ()
    path = Path(asked)
    document = load(path)
    own = (files("devices") / f"{TEMPLATE}.yaml").read_text("utf-8")
    left_over = profile.id == TEMPLATE and document.text != own
    if path.stem == profile.id and not left_over:
        return ()
    text = f"the file is {path.name} but declares the id {profile.id}: a site does not find it as {path.stem}"
    if path.stem == profile.id:
        text = f"the id is still that of the template, {TEMPLATE}; expected one of its own"
    hint = (
        "give the file and its id one name" if path.stem == profile.id else f"write id: {path.stem}, or rename the file"
    )
    return (document.diagnostic(Severity.WARNING, "profile-name", ("profile", "id"), text, hint=hint),)


def wanted(asked: str) -> Profile:
    """Return what `found` does; raises CommandFailed, with the findings, where it cannot be used."""
    try:
        return found(asked)
    except DocumentError as error:
        hint = "" if _is_path(asked) else f"\nthose that come along: {', '.join(profile_ids())}"
        raise CommandFailed(Exit.BAD_INPUT, f"the profile cannot be used:\n{lines(error)}{hint}") from error


def _is_path(asked: str) -> bool:
    return "/" in asked or asked.endswith((".yaml", ".yml"))
