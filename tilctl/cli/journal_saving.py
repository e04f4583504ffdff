"""`tilctl journal backup` and `restore`: copies of a site's records, beside a running controller and back."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tilctl import __version__
from tilctl.cli.exits import CommandFailed, Exit
from tilctl.cli.plain import one_line
from tilctl.journal.backup import BackupError, Manifest, WrongFolderError, backup, check, restore

VERBS = ("backup", "restore")


def arguments(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the two verbs; `add` adds one."""
    saving = add("backup", help="copy all records of a site, verified, also while its controller runs")
    saving.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for this backup")
    text = "put a backup in place of a site's records; its controller must not run"
    restoring = add("restore", help=text, description=text)
    restoring.add_argument("folder", type=Path, metavar="DIR", help="the folder of the backup")
    restoring.add_argument("--verify", action="store_true", help="verify the backup and change nothing")
    restoring.add_argument(
        "--replace", action="store_true", help="where there are records already: keep them aside and take the backup's"
    )
    for sub in (saving, restoring):
        sub.add_argument("--site", type=Path, required=True, help="the site file")


def run(args: argparse.Namespace) -> int:
    """Back up or restore; raises CommandFailed."""
    from tilctl.cli.run import only_one  # noqa: PLC0415 - the service and all that hangs on it
    from tilctl.cli.station import read_site  # noqa: PLC0415

    site = read_site(args.site)
    now = datetime.now(UTC)
    try:
        if args.verb == "backup":
            _say(backup(site.data, args.out, now.isoformat(timespec="seconds"), __version__), f"saved in {args.out}")
        elif args.verify:
            _say(check(args.folder, site.name, site.node), f"{args.folder} is whole")
        else:
            check(args.folder, site.name, site.node)  # what is wrong with it is said whether a controller runs or not
            with only_one(site, "tilctl journal restore"):
                aside = f"replaced-{now:%Y%m%dT%H%M%SZ}"
                manifest = restore(args.folder, site.data, site.name, site.node, replace=args.replace, aside=aside)
            _say(manifest, f"restored to {site.data}")
            if (site.data / aside).exists():
                print(f"the records that were there are in {one_line(site.data / aside)}")
    except WrongFolderError as error:
        raise CommandFailed(Exit.BAD_INPUT, one_line(error)) from error
    except BackupError as error:
        raise CommandFailed(Exit.RECORD, one_line(error)) from error
    except OSError as error:
        raise CommandFailed(Exit.UNAVAILABLE, _refused(error, args)) from error
    return Exit.OK


def _refused(error: OSError, args: argparse.Namespace) -> str:
    """Say what the system refused, where, and what is left of it."""
    folder = args.out if args.verb == "backup" else args.folder
    where = one_line(error.filename or folder)
    left = "this is no backup" if args.verb == "backup" else "run it again when that is mended"
    return f"{where}: {error.strerror or error}; check that the place is there, writable and has room: {left}"


def _say(manifest: Manifest, what: str) -> None:
    records = [entry for entry in manifest.files if entry.head is not None]
    print(
        f"{one_line(what)}: site {manifest.site}, node {manifest.node}, taken {manifest.t}: {len(records)} records "
        f"with {manifest.events} events and {len(manifest.files) - len(records)} files of trends, all verified"
    )
