"""`sequela train COHORT... --config FILE`: trains, calibrates, evaluates, logs to MLflow and registers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.disclaimer import DISCLAIMER_EN
from pipelines.parent_tags import parent_tags

if TYPE_CHECKING:
    from pipelines.config import RunConfig
    from pipelines.settings import Settings
    from pipelines.train import TrainedRun
    from pipelines.warm_start import Parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("cohorts", nargs="+", type=Path, metavar="COHORT", help="cohorts or corpora")
    parser.add_argument("--config", type=Path, required=True, help="TOML file of the run, see configs/")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, repeatable")
    parser.add_argument("--folder", type=Path, help="working folder (default: work/<name>)")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in the folder")
    parser.add_argument(
        "--warm-start",
        metavar="MODEL",
        help="start from a version's encoding and weights: models:/name@alias, models:/name/version or a folder",
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="train in training.devices processes of a Ray cluster: host:port, auto, or (alone) one started here",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains and registers one model; returns the run's identity and its metrics."""
    from pipelines.cohort_files import is_corpus

    if any(is_corpus(path) for path in args.cohorts):
        from pipelines.commands.documents import train_documents

        return train_documents(args, say)
    return _train_stays(args, say)


def _train_stays(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    from pipelines.config import load_config

    config = load_config(args.config, args.set)  # a mistake in it is told before seconds of imports
    from pipelines.cohort import read_cohort
    from pipelines.publish import Publication
    from pipelines.ray_train import ray_launch
    from pipelines.report.champion import rivals_of
    from pipelines.settings import Settings
    from pipelines.train import train

    cohorts = [read_cohort(path) for path in args.cohorts]
    folder = args.folder or Path("work") / config.name
    settings = Settings.from_environment()
    config, parent = _inherited(config, args.warm_start, settings)
    tags = {} if parent is None else parent_tags(parent.address, parent.scorer.digest)
    with (
        ray_launch(args.ray, config.training) as launch,
        Publication(config, settings, cohorts=args.cohorts, tags=tags) as publication,
    ):
        trained = train(
            cohorts,
            config,
            folder=folder,
            resume=args.resume,
            progress=not args.quiet,
            say=say,
            on_epoch=publication.log_epoch,
            cache=settings.encoded,
            rivals=rivals_of(config, settings),
            launch=launch,
            parent=parent,
        )
        version = publication.register(trained, tags=tags)
    model = f"models:/{config.name}/{version}"
    for line in metric_lines(trained.metrics, trained.baselines, of="hold-out"):
        say(line)
    say(f"registered {model} (run {publication.run_id}, alias challenger)")
    say(DISCLAIMER_EN)
    return {"run_id": publication.run_id, "model": model, **_figures(trained), "disclaimer": DISCLAIMER_EN}


def _figures(trained: TrainedRun) -> dict[str, Any]:
    """The metrics of the model and of its baselines on the hold-out."""
    baselines = {name: figures["metrics"] for name, figures in trained.baselines.items()}
    return {"metrics": trained.metrics["metrics"], "baselines": baselines}


def _inherited(config: RunConfig, model: str | None, settings: Settings) -> tuple[RunConfig, Parent | None]:
    """The version to start from, verified, and the configuration that goes with it; as it is without one."""
    from models.artifact import load_artifact
    from pipelines.registry import resolve_model
    from pipelines.warm_start import Parent, inherited_config

    if model is None:
        return config, None
    resolved = resolve_model(model, settings)
    scorer = load_artifact(resolved.folder, expected_digest=resolved.digest)
    parent = Parent(scorer, resolved.version.address if resolved.version else "artifact folder")
    return inherited_config(config, parent), parent


def metric_lines(network: dict[str, Any], baselines: dict[str, dict[str, Any]], *, of: str) -> list[str]:
    """A table of the network and every baseline, each figure with its interval, and the cautions that go with them.

    Args:
        network: figures as of `pipelines.evaluate`.
        baselines: likewise, by name.
        of: which stays they are of, in words.
    """
    table = {"network": network, **baselines}
    width = max(len(name) for name in table)
    lines = [f"{of}: {network['stays']:,} stays, {network['events']:,} events"]
    for name, figures in table.items():
        shown = [
            f"{metric} {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]"
            for metric in ("auroc", "auprc", "brier", "calibration_slope", "utility", "rmse")
            if (m := figures["metrics"].get(metric)) is not None
        ]
        lines.append(f"  {name:<{width}}  " + "  ".join(shown))
    return lines + caution_lines(network.get("cautions", ()))


def caution_lines(cautions: Iterable[str]) -> list[str]:
    """A line for every caution."""
    return [f"caution: {caution}" for caution in cautions]
