"""`./run torture --kills N`: the shipped controller, killed by SIGKILL and started again until its batches end.

Exit code 1 when anything acknowledged was lost, anything was done twice, or anything else is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from devices.document import DocumentError
from recipes.catalog import load
from tests.torture.batch import FRESH
from tests.torture.workers import Order, Total, torture
from tilctl.cli.exits import CommandFailed
from tilctl.cli.simulated import add_site, site_for

MOST_POINTS = 100_000  # boundaries of one batch; there are some hundreds


def main() -> int:
    """Read the command line, torture, tell."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--kills", type=_positive, default=100, help="SIGKILLs to be made, over all batches")
    parser.add_argument("--seed", type=int, default=1, help="of plants, operators and instants")
    parser.add_argument("--recipe", default="shakedown", help="a recipe of the library")
    add_site(parser)
    parser.add_argument("--jobs", type=_positive, default=os.cpu_count() or 1, help="suites side by side")
    parser.add_argument("--out", type=Path, help="where batches with findings are left")
    parser.add_argument("--keep", action="store_true", help="leave every batch there")
    parser.add_argument("--starve", action="store_true", help="burn CPU beside it")
    parser.add_argument("--points", action="store_true", help="one kill at every boundary of one batch, no outage")
    parser.add_argument(
        "--wrong", choices=("repeats", "early"), default="", help="a controller that is wrong on purpose"
    )
    parser.add_argument("--json", action="store_true", help="print one object")
    args = parser.parse_args()
    out = args.out or Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        load(args.recipe)
        site_for(args.site)
        out.mkdir(parents=True, exist_ok=True)
        (out / ".probe").touch()
        (out / ".probe").unlink()
    except (CommandFailed, DocumentError, OSError) as error:
        print(f"torture: {error}", file=sys.stderr)
        return 2
    order = Order(
        MOST_POINTS if args.points else args.kills,
        args.seed,
        out.resolve(),
        1 if args.points else args.jobs,
        args.recipe,
        args.site,
        starve=args.starve,
        wrong=args.wrong,
        points=args.points,
        still=args.points,
        keep=args.keep,
        fresh=0.0 if args.points else FRESH,
    )
    total = torture(order)
    print(file=sys.stderr)
    summary = total.summary()
    if args.json:
        print(json.dumps(summary))
    else:
        tell(total)
    return 1 if summary["lost"] or summary["doubled"] or summary["other"] else 0


def tell(total: Total) -> None:
    """Print it for a person."""
    summary = total.summary()
    for name, value in summary.items():
        if name != "findings":
            print(f"{name:24s} {value}")
    for finding in summary["findings"]:
        print(f"seed {finding['seed']}: {finding['text']} ({finding['folder']})")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return number


if __name__ == "__main__":
    sys.exit(main())
