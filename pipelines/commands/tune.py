"""`sequela tune COHORT... --config FILE --out BEST.toml`: searches the configuration that does best."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("cohorts", nargs="+", type=Path, metavar="COHORT", help="folders that `sequela prepare` wrote")
    parser.add_argument("--config", type=Path, required=True, help="TOML file of the run; [tune] says what is searched")
    parser.add_argument("--out", type=Path, required=True, help="where the best configuration is written, as TOML")
    parser.add_argument("--trials", type=int, help="trials of the study in all (default: tune.trials)")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="no trial begins later than this")
    parser.add_argument("--study", help="name of the study (default: the model's name)")
    parser.add_argument("--storage", help="its database (default: SEQUELA_DATABASE_URL if PostgreSQL, else a file)")
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine (default: 1)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, repeatable")
    parser.add_argument("--folder", type=Path, help="working folder (default: work/<name>-tune)")
    parser.add_argument("--force", action="store_true", help="write over --out")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Searches, writes the best configuration and says how the trials ended."""
    from models.errors import ConfigError

    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("optuna must be installed for a search, got none; pip install 'sequela[tune]'")
    from pipelines.commands.out_file import check_out_file
    from pipelines.config import load_config, read_plain
    from pipelines.settings import Settings
    from pipelines.tune import check_counts, check_new, tune, write_config
    from pipelines.tune_worker import Search

    check_counts(trials=args.trials, workers=args.workers, timeout_s=args.timeout)
    overrides = [*args.set, *([] if args.trials is None else [f"tune.trials={args.trials}"])]
    config = load_config(args.config, overrides)
    check_new(args.out, force=args.force)
    check_out_file(args.out)
    folder = args.folder or Path("work") / f"{config.name}-tune"
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings.from_environment()
    search = Search(
        plain=read_plain(args.config, overrides),
        cohorts=args.cohorts,
        folder=folder,
        study=args.study or config.name,
        storage=args.storage or settings.study_url or f"sqlite:///{(folder / 'study.db').resolve()}",
        settings=settings,
        inputs={},
        timeout_s=args.timeout,
        processes=args.workers,
    )
    found = tune(search, progress=not args.quiet, say=say)
    write_config(found.text, args.out)
    tally = found.tally
    say(f"{tally.complete} complete, {tally.pruned} pruned, {tally.failed} failed trials of study {found.study}")
    say(f"best: trial {found.trial}, {config.tune.metric} {found.value:.4f}")
    for key, value in found.params.items():
        say(f"  {key} = {value}")
    say(f"wrote {args.out}; sequela train --config {args.out} trains it")
    return {
        "study": found.study,
        "trials": tally.done + tally.failed,
        "complete": tally.complete,
        "pruned": tally.pruned,
        "failed": tally.failed,
        "best": {"value": found.value, "params": found.params},
        "config": str(args.out),
        "run_id": found.run_id,
    }
