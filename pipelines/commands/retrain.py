"""`sequela retrain --config FILE`: one whole training job with its gate; see docs/retraining.md for its exit status."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.disclaimer import DISCLAIMER_EN
from models.errors import SequelaError

EXIT_CRASHED = 70  # sysexits' EX_SOFTWARE


class CrashedError(SequelaError):
    """Raised in place of an unforeseen error: its exit status must not look like a refusal."""

    exit_status = EXIT_CRASHED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--config", type=Path, required=True, help="TOML file with a [retrain] table")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, repeatable")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs the job; a version that the gate refuses ends with exit status 1."""
    from pipelines.config import load_config
    from pipelines.retrain import retrain
    from pipelines.settings import Settings

    config = load_config(args.config, args.set)
    try:
        result = retrain(config, Settings.from_environment(), progress=not args.quiet, say=say)
    except SequelaError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, Python's own exit status 1 would mean a refusal
        # Where it happened, without the error's own text: that may hold what a file held.
        sys.stderr.write("".join(traceback.format_tb(error.__traceback__)))
        raise CrashedError(f"job must end by itself, got {type(error).__name__}; see the traceback above") from None
    for check in result.verdict.checks:
        say(f"  {'holds' if check.passed else 'FAILS'}  {check.line()}")
    say(f"models:/{config.name}/{result.version}: {result.verdict.summary}")
    say(DISCLAIMER_EN)
    return {
        "run_id": result.run_id,
        "model": f"models:/{config.name}/{result.version}",
        "promoted": result.verdict.passed,
        "gate": result.verdict.to_plain(),
        "metrics": result.metrics.get("metrics", {}),
        "disclaimer": DISCLAIMER_EN,
        "exit_status": 0 if result.verdict.passed else 1,
    }
