"""`sequela tune COHORT... --config FILE --out BEST.toml`: searches the configuration that does best."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.config import RunConfig
    from pipelines.tune import Found
    from pipelines.tune_worker import Search


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
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="run --workers trials at once on a Ray cluster: host:port, auto, or (alone) one started here",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, repeatable")
    parser.add_argument("--folder", type=Path, help="working folder (default: work/<name>-tune)")
    parser.add_argument("--force", action="store_true", help="write over --out")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Searches, writes the best configuration and says how the trials ended."""
    from models.errors import ConfigError
    from pipelines.commands.out_file import check_out_file
    from pipelines.config import load_config

    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("optuna must be installed for a search, got none; pip install 'sequela[tune]'")
    _check(args)
    config = load_config(args.config, _overrides(args))  # a mistake in it is told before seconds of imports
    from pipelines.tune import tune, write_config

    search = _search(args, config)
    check_out_file(args.out)
    if args.ray is None:
        found = tune(search, progress=not args.quiet, say=say)
    else:
        from pipelines.ray_tune import tune_on_ray

        found = tune_on_ray(search, args.ray, progress=not args.quiet, say=say)
    write_config(found.text, args.out)
    for line in _lines(found):
        say(line)
    say(f"wrote {args.out}; sequela train --config {args.out} trains it")
    return {
        "study": found.study,
        "trials": found.tally.done + found.tally.failed,
        "complete": found.tally.complete,
        "pruned": found.tally.pruned,
        "failed": found.tally.failed,
        "best": {"value": found.value, "params": found.params},
        "config": str(args.out),
        "run_id": found.run_id,
    }


def _check(args: argparse.Namespace) -> None:
    """Refuses arguments that mean nothing, together or alone, and to write over a file unless that is asked for."""
    from models.errors import ConfigError, DataError, UsageError

    if args.ray is not None and args.storage:
        raise UsageError("--storage must be left out with --ray, got both; a search on Ray is in no database")
    for name, value in (("--trials", args.trials), ("--workers", args.workers)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}; raise the number")
    if args.timeout is not None and not args.timeout > 0:
        raise ConfigError(f"--timeout must be above 0, got {args.timeout}; give seconds")
    if args.out.exists() and not args.force:
        raise DataError(f"out must be a new file, got {args.out}, which is there; name another or give --force")


def _overrides(args: argparse.Namespace) -> list[str]:
    return [*args.set, *([] if args.trials is None else [f"tune.trials={args.trials}"])]


def _search(args: argparse.Namespace, config: RunConfig) -> Search:
    """What the arguments ask for, in a folder that is there."""
    from pipelines.config import read_plain
    from pipelines.settings import Settings
    from pipelines.tune_worker import Search

    folder = args.folder or Path("work") / f"{config.name}-tune"
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings.from_environment()
    return Search(
        plain=read_plain(args.config, _overrides(args)),
        cohorts=args.cohorts,
        folder=folder,
        study=args.study or config.name,
        storage=args.storage or settings.study_url or f"sqlite:///{(folder / 'study.db').resolve()}",
        settings=settings,
        inputs={},
        timeout_s=args.timeout,
        processes=args.workers,
    )


def _lines(found: Found) -> list[str]:
    """The search's end for people."""
    tally = found.tally
    return [
        f"{tally.complete} complete, {tally.pruned} pruned, {tally.failed} failed trials of study {found.study}",
        f"best: trial {found.trial}, {found.metric} {found.value:.4f}",
        *(f"  {key} = {value}" for key, value in found.params.items()),
    ]
