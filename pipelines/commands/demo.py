"""`sequela demo`: a synthetic cohort in; a registered, promoted model and a risk score over HTTP out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where everything is kept (default: demo)")
    parser.add_argument("--stays", type=int, default=2400, help="synthetic stays (default: 2400)")
    parser.add_argument("--config", type=Path, default=Path("configs/demo.toml"), help="TOML file of the run")
    parser.add_argument("--no-dashboard", action="store_true", help="do not leave the MLflow dashboard running")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs the whole line once."""
    from pipelines.demo import run_demo

    return run_demo(args.folder, args.config, stays=args.stays, dashboard=not args.no_dashboard, say=say)
