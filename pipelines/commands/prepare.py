"""`sequela prepare SOURCE PATH... --out COHORT`: reads a source into a cohort or corpus and says what was in it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.errors import UsageError
from models.record import to_plain
from pipelines.prepare import Source, prepare
from pipelines.prepare_report import line
from pipelines.text.prepare import DocumentSource, prepare_documents, report_lines

SOURCES = (*Source, *DocumentSource)

OPTIONS = {
    "observations": "observations file, where it is not in the folder (csv)",
    "stays": "stays file, where it is not in the folder (csv); number of stays (synthetic; default 2000)",
    "notes": "notes file, where it is not in the folder (csv)",
    "seed": "seed of all that is drawn (synthetic; default 0)",
    "language": "language of the notes: en, ja or both (synthetic; default en); of the documents: en or ja (documents)",
    "spans": "file of labelled spans, where it is not in the folder (documents)",
    "form": "what a document is: question or report (jmed; default question)",
    "mean_hours": "mean length of the stays (synthetic; default 48)",
    "hours": "one length for all stays (synthetic); hour at which stays are judged (icu-demo; default 24)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("source", choices=[str(s) for s in SOURCES], metavar="SOURCE", help=", ".join(SOURCES))
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="folders, tar archives or files")
    parser.add_argument("--out", type=Path, required=True, metavar="COHORT", help="folder to write")
    parser.add_argument("--outcomes", type=Path, metavar="FILE", help="outcomes file (challenge2012, csv)")
    parser.add_argument(
        "--mapping", type=Path, metavar="FILE", help="TOML file of a hospital's names and units (csv, documents)"
    )
    for name, meaning in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=meaning)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Prepares a cohort or corpus; returns its report."""
    options = {name: value for name in OPTIONS if (value := getattr(args, name)) is not None}
    if args.source in list(DocumentSource):
        return _documents(args, options, say)
    cohort = prepare(
        args.source,
        args.paths,
        out=args.out,
        outcomes=args.outcomes,
        mapping=args.mapping,
        options=options,
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


def _documents(args: argparse.Namespace, options: dict[str, str], say: Callable[[str], None]) -> dict[str, Any]:
    """Prepares a corpus; returns its report."""
    if args.outcomes is not None:
        raise UsageError(f"outcomes must be left out for the source {args.source}, got one; drop it")
    corpus = prepare_documents(args.source, args.paths, out=args.out, mapping=args.mapping, options=options)
    say(line("source", f"{corpus.source} ({corpus.licence})"))
    for fact in report_lines(corpus.report):
        say(fact)
    say(line("fingerprint", corpus.fingerprint))
    say(line("corpus", str(args.out)))
    return {
        "corpus": str(args.out),
        "source": corpus.source,
        "licence": corpus.licence,
        "fingerprint": corpus.fingerprint,
        **to_plain(corpus.report),
    }
