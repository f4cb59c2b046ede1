"""`sequela recalibrate MODEL COHORT`: fits a registered model's risks to a site's own patients, and registers it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.disclaimer import DISCLAIMER_EN
from pipelines.cautions import recalibration_cautions
from pipelines.commands.train import caution_lines, metric_lines
from pipelines.parent_tags import parent_tags

if TYPE_CHECKING:
    from pipelines.recalibrate import Recalibrated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("model", help="models:/name@alias, models:/name/version or an artifact folder")
    parser.add_argument("cohort", type=Path, metavar="COHORT", help="folder that `sequela prepare` wrote, of the site")
    parser.add_argument(
        "--name", help="name of the new registered model (default: the model's and the cohort folder's)"
    )
    parser.add_argument(
        "--config", type=Path, help="TOML file with the tables [calibration] and [evaluation] to change"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, repeatable")
    parser.add_argument("--holdout", type=float, default=0.5, help="share of the patients to judge on (default: 0.5)")
    parser.add_argument(
        "--min-events", type=int, default=30, help="patients of every class that each part must hold (default: 30)"
    )
    parser.add_argument("--folder", type=Path, help="working folder (default: work/<name>)")
    parser.add_argument("--html", type=Path, help="HTML report to write too, with before and after")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Recalibrates and registers; returns the figures before and after and their differences."""
    from models.artifact import load_artifact
    from models.scorer import resolve_device
    from pipelines.cohort import read_cohort
    from pipelines.commands.out_file import check_out_file
    from pipelines.publish import Publication
    from pipelines.recalibrate import recalibrate, recalibration_config
    from pipelines.registry import resolve_model
    from pipelines.settings import Settings

    if args.html:
        check_out_file(args.html)
    settings = Settings.from_environment()
    resolved = resolve_model(args.model, settings)
    scorer = load_artifact(resolved.folder, device=resolve_device("auto"))
    name = args.name or f"{scorer.bundle.name}-{args.cohort.resolve().name}"
    config = recalibration_config(scorer.bundle, name, _given(args), holdout=args.holdout)
    parent = resolved.version.address if resolved.version else "artifact folder"
    tags = parent_tags(parent, resolved.digest)
    cohort = read_cohort(args.cohort)
    with Publication(config, settings, cohorts=[args.cohort], tags=tags) as publication:
        folder = args.folder or Path("work") / name
        found = recalibrate(scorer, cohort, config, folder=folder, min_events=args.min_events, say=say)
        publication.log_json("recalibration.json", found.evidence)
        version = publication.register(found.run, tags=tags)
    address = f"models:/{name}/{version}"
    _tell(found, say)
    if args.html:
        _write_page(args.html, found, address, say)
    say(f"registered {address} (run {publication.run_id}, alias challenger)")
    say(DISCLAIMER_EN)
    return {
        "run_id": publication.run_id,
        "model": address,
        "parent": {"model": parent, "digest": resolved.digest},
        "before": found.before["metrics"],
        "after": found.after["metrics"],
        "paired": found.paired,
        "cautions": [*found.after.get("cautions", ()), *recalibration_cautions(found.paired)],
        "disclaimer": DISCLAIMER_EN,
    }


def _write_page(path: Path, found: Recalibrated, address: str, say: Callable[[str], None]) -> None:
    from pipelines.report.html import report_html  # matplotlib is slow to import, and needed here alone

    page = report_html({**found.run.report, "digest": found.run.digest, "address": address})
    path.write_text(page, encoding="utf-8")
    say(f"wrote {path}")


def _given(args: argparse.Namespace) -> dict[str, Any]:
    from pipelines.config import read_plain, with_overrides

    return read_plain(args.config, args.set) if args.config else with_overrides({}, args.set)


def _tell(found: Recalibrated, say: Callable[[str], None]) -> None:

    for line in metric_lines(found.after, {"before": found.before}, of="the site's hold-out"):
        say(line)
    say("after less before, below 0 is better, of auroc and auprc above:")
    for name, entry in found.paired.items():
        say(f"  {name:<30}  {entry['value']:+.4f} [{entry['low']:+.4f}, {entry['high']:+.4f}]")
    for line in caution_lines(recalibration_cautions(found.paired)):
        say(line)
