"""`sequela audit`: runs the service's own verification or recomputation of its audit in place of this process."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "action",
        choices=["verify", "recompute"],
        help="follow the chain from its first record to its last; compute the answers of retained stays again",
    )
    parser.add_argument("--folder", action="append", default=[], help="a chain; default that of SEQUELA_AUDIT")
    parser.add_argument("--expect", metavar="HASH", help="verify: a record's hash that was noted before")
    parser.add_argument(
        "--model", action="append", default=[], metavar="FOLDER", help="recompute: a model that the cache does not hold"
    )


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Becomes `python -m service audit`, whose answer and exit status are the command's."""
    del say
    folders = [word for folder in args.folder for word in ("--folder", folder)]
    models = [word for folder in args.model for word in ("--model", folder)]
    expected = ["--expect", args.expect] if args.expect else []
    given = [*(["--json"] if args.json else []), *expected, *folders, *models]
    command = [sys.executable, "-m", "service", "audit", args.action, *given]
    os.execv(sys.executable, command)  # noqa: S606 - this interpreter, own arguments
