"""`sequela prepare SOURCE PATH... --out COHORT`: reads a source into a cohort and says what was in it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.record import to_plain
from pipelines.prepare import Source, prepare
from pipelines.prepare_report import line

OPTIONS = {
    "observations": "observations file, where it is not in the folder (csv)",
    "stays": "stays file, where it is not in the folder (csv); number of stays (synthetic; default 2000)",
    "notes": "notes file, where it is not in the folder (csv)",
    "seed": "seed of all that is drawn (synthetic; default 0)",
    "language": "language of the notes: en, ja or both (synthetic; default en)",
    "mean_hours": "mean length of the stays (synthetic; default 48)",
    "hours": "one length for all stays (synthetic)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("source", choices=[str(source) for source in Source], metavar="SOURCE", help=", ".join(Source))
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="folders, tar archives or files")
    parser.add_argument("--out", type=Path, required=True, metavar="COHORT", help="folder to write")
    parser.add_argument("--outcomes", type=Path, metavar="FILE", help="outcomes file (challenge2012, csv)")
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="TOML file of a hospital's names and units (csv)")
    for name, meaning in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=meaning)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Prepares a cohort; returns its report."""
    cohort = prepare(
        args.source,
        args.paths,
        out=args.out,
        outcomes=args.outcomes,
        mapping=args.mapping,
        options={name: value for name in OPTIONS if (value := getattr(args, name)) is not None},
        progress=not args.quiet,
    )
    say(line("source", f"{cohort.source} ({cohort.licence})"))
    for fact in cohort.report.lines():
        say(fact)
    say(line("fingerprint", cohort.fingerprint))
    say(line("cohort", str(args.out)))
    return {
        "cohort": str(args.out),
        "source": cohort.source,
        "licence": cohort.licence,
        "fingerprint": cohort.fingerprint,
        **to_plain(cohort.report),
    }
