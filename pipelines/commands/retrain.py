"""`sequela retrain --config FILE`: one whole training job with its gate; see docs/retraining.md for its exit status."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.disclaimer import DISCLAIMER_EN
from models.errors import SequelaError
from pipelines.crash import crashed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--config", type=Path, required=True, help="TOML file with a [retrain] table")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, repeatable")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs the job; a version that the gate refuses ends with exit status 1."""
    from pipelines.config import load_config

    config = load_config(args.config, args.set)  # a mistake in it is told before seconds of imports
    from pipelines.retrain import retrain
    from pipelines.settings import Settings

    try:
        result = retrain(config, Settings.from_environment(), progress=not args.quiet, say=say)
    except SequelaError:
        raise
    except Exception as error:  # noqa: BLE001 - a full disk too is no refusal of a job: it may run again
        raise crashed(error) from None
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
