"""`sequela promote NAME VERSION [--alias champion]`: moves an alias to a version, after the gate."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.disclaimer import DISCLAIMER_EN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("name", help="name of the registered model")
    parser.add_argument("version", type=int, help="number of the version")
    parser.add_argument("--alias", default="champion", help="alias to move (default: champion)")
    parser.add_argument(
        "--cohort",
        type=Path,
        action="append",
        default=[],
        metavar="COHORT",
        help="folder of the version's cohort, repeatable (default: where its run found it)",
    )


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Judges and moves; refused promotions end with exit status 1."""
    from pipelines.gate import GateRefusedError
    from pipelines.promote import Evidence, promote
    from pipelines.settings import Settings

    settings = Settings.from_environment()
    address = f"models:/{args.name}/{args.version}"
    status = 0
    try:
        verdict = promote(
            args.name, args.version, settings=settings, alias=args.alias, evidence=Evidence(folders=args.cohort)
        )
    except GateRefusedError as refusal:
        verdict, status = refusal.verdict, 1
    for check in verdict.checks:
        say(f"  {'holds' if check.passed else 'FAILS'}  {check.line()}")
    say(f"{address} is now {args.alias}" if verdict.passed else f"{address} is not promoted: {verdict.summary}")
    say(DISCLAIMER_EN)
    return {
        "model": address,
        "alias": args.alias if verdict.passed else None,
        "gate": verdict.to_plain(),
        "disclaimer": DISCLAIMER_EN,
        "exit_status": status,
    }
