"""What a profile wants of a site: settings on each connection, values known at commissioning; checked."""

from __future__ import annotations

from collections.abc import Mapping

from devices import profile_model as model
from devices.profile_failsafe import Find, Known
from devices.profile_types import Command


def on_connect_of(source: model.ProfileModel, commands: Mapping[str, Command], find: Find) -> tuple[str, ...]:
    """Return the commands that are sent on each new connection; what is wrong with them goes to `find`.

    Invariant: what is sent without a cause on the record wears nothing, does nothing twice, and is seen to stand.
    """
    for i, name in enumerate(source.on_connect):
        command, path = commands.get(name), ("on_connect", i)
        if command is None:
            find(path, f"there is no command {name}", "name one of `commands`")
            continue
        if command.storage is not None:
            find(path, f"{name} writes memory that wears", "only what is volatile is written on each connection")
        if not command.idempotent:
            find(path, f"{name} is not idempotent", "it would be done again on each connection")
        if not command.verify.checks or command.verify.reason:
            find(path, f"{name} is not read back by points", "what is set on connecting must be seen to stand")
        if len(command.args) != 1 or command.rows or command.index or command.requires:
            find(path, f"{name} does not take one value alone", "one argument; no rows, index or `requires`")
    return tuple(dict.fromkeys(source.on_connect))


def at_commissioning_of(source: model.ProfileModel, known: Known, find: Find) -> dict[str, str]:
    """Return the points whose right value only a site knows, and why; what is wrong with them goes to `find`."""
    for name, why in source.at_commissioning.items():
        if name not in known.points:
            find(("at_commissioning", name), f"there is no point {name}", "name one of `points`")
        if not why.strip():
            find(("at_commissioning", name), f"say why {name} has to be known", "")
    return dict(source.at_commissioning)
