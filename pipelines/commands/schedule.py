"""`sequela schedule --config FILE --cron "..."`: the training job by the clock, until SIGTERM."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--config", type=Path, required=True, help="TOML file with a [retrain] table")
    parser.add_argument("--cron", required=True, help="five fields as in crontab(5), for example '30 2 * * 0'")
    parser.add_argument("--timezone", default="UTC", help="IANA name of the time zone (default: UTC)")
    parser.add_argument("--time-limit-h", type=float, default=6.0, help="hours after which a run is stopped")
    parser.add_argument("--grace-s", type=float, default=120.0, help="seconds for a stopped run to leave a checkpoint")
    parser.add_argument("--retries", type=int, default=2, help="further attempts after a crash or an interruption")
    parser.add_argument("--backoff-s", type=float, default=60.0, help="seconds before the first retry; then doubled")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Serves the schedule."""
    from models.errors import ConfigError
    from pipelines.child import Limits
    from pipelines.config import load_config

    config = load_config(args.config)  # a mistake in it is told before seconds of imports
    if config.retrain is None:
        raise ConfigError("config must hold a [retrain] table, got none; see docs/retraining.md")
    from pipelines.schedule import Schedule, serve_schedule
    from pipelines.settings import Settings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    limits = Limits(args.time_limit_h * 3600.0, args.grace_s, args.retries, args.backoff_s)
    schedule = Schedule(config.name, args.config.resolve(), args.cron, args.timezone, limits)
    say(f"retraining {config.name} at '{args.cron}' ({args.timezone}) until SIGTERM")
    serve_schedule(schedule, Settings.from_environment())
    say("stopped")
    return {"model": config.name, "cron": args.cron, "stopped": True}
