"""`sequela prepare SOURCE PATH... --out COHORT`: reads a source into a cohort and says what was in it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.errors import ConfigError
from models.record import to_plain
from pipelines.prepare import Source, prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("source", choices=[str(source) for source in Source], metavar="SOURCE", help=", ".join(Source))
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="folders, tar archives or files")
    parser.add_argument("--out", type=Path, required=True, metavar="COHORT", help="folder to write")
    parser.add_argument("--outcomes", type=Path, metavar="FILE", help="outcomes file (challenge2012, csv)")
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="TOML file of a hospital's names and units (csv)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the source, repeatable: observations, stays or notes file (csv); "
        "stays, seed, language, mean_hours or hours (synthetic)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Prepares a cohort; returns its report."""
    cohort = prepare(
        args.source,
        args.paths,
        out=args.out,
        outcomes=args.outcomes,
        mapping=args.mapping,
        options=_options(args.set),
        progress=not args.quiet,
    )
    say(f"source                     {cohort.source} ({cohort.licence})")
    for line in cohort.report.lines():
        say(line)
    say(f"fingerprint                {cohort.fingerprint}")
    say(f"cohort                     {args.out}")
    return {
        "cohort": str(args.out),
        "source": cohort.source,
        "licence": cohort.licence,
        "fingerprint": cohort.fingerprint,
        **to_plain(cohort.report),
    }


def _options(pairs: list[str]) -> dict[str, str]:
    options = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise ConfigError("--set must be KEY=VALUE, got another form; write for example --set seed=1")
        options[key] = value
    return options
