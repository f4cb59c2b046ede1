"""`sequela train COHORT... --config FILE`: trains, calibrates, evaluates, logs to MLflow and registers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.disclaimer import DISCLAIMER_EN

if TYPE_CHECKING:
    from pipelines.config import RunConfig
    from pipelines.settings import Settings
    from pipelines.train import TrainedRun
    from pipelines.warm_start import Parent

# Tags of a version that was made of another one.
PARENT_TAG, PARENT_DIGEST_TAG = "sequela.parent", "sequela.parent_digest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("cohorts", nargs="+", type=Path, metavar="COHORT", help="folders that `sequela prepare` wrote")
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
    from pipelines.cohort import read_cohort
    from pipelines.config import load_config
    from pipelines.publish import Publication
    from pipelines.ray_train import ray_launch
    from pipelines.report.champion import rivals_of
    from pipelines.settings import Settings
    from pipelines.train import train

    config = load_config(args.config, args.set)
    cohorts = [read_cohort(path) for path in args.cohorts]
    folder = args.folder or Path("work") / config.name
    settings = Settings.from_environment()
    config, parent = _inherited(config, args.warm_start, settings)
    tags = {} if parent is None else {PARENT_TAG: parent.address, PARENT_DIGEST_TAG: parent.scorer.digest}
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
    for line in metric_lines(trained.metrics, trained.baselines):
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


def metric_lines(network: dict[str, Any], baselines: dict[str, dict[str, Any]]) -> list[str]:
    """The hold-out's table: the network and every baseline, each figure with its interval."""
    table = {"network": network, **baselines}
    width = max(len(name) for name in table)
    lines = [f"hold-out: {network['stays']:,} stays, {network['events']:,} events"]
    for name, figures in table.items():
        shown = [
            f"{metric} {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]"
            for metric in ("auroc", "auprc", "brier", "calibration_slope", "utility", "rmse")
            if (m := figures["metrics"].get(metric)) is not None
        ]
        lines.append(f"  {name:<{width}}  " + "  ".join(shown))
    return lines
