"""`sequela evaluate MODEL COHORT --out FILE.json`: figures with intervals over every stay of a cohort."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.disclaimer import DISCLAIMER_EN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("model", help="models:/name@alias, models:/name/version or an artifact folder")
    parser.add_argument("cohort", type=Path, help="folder that `sequela prepare` wrote")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--html", type=Path, help="HTML report to write too, a page that holds everything in itself")
    parser.add_argument(
        "--against", action="append", default=[], metavar="MODEL", help="compare with this model too, repeatable"
    )
    parser.add_argument("--bootstrap", type=int, help="bootstrap draws (default: the model's own configuration)")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Evaluates and writes; returns what was written."""
    from models.artifact_folder import artifact_kind
    from pipelines.commands.out_file import check_out_file
    from pipelines.registry import resolve_model
    from pipelines.settings import Settings

    for path in (args.out, *([args.html] if args.html else [])):
        check_out_file(path)
    resolved = resolve_model(args.model, Settings.from_environment())
    kind = artifact_kind(resolved.folder)
    if kind == "tagging":
        from pipelines.commands.documents import evaluate_tagger

        return evaluate_tagger(args, resolved.folder, say)
    if kind == "documents":
        from pipelines.commands.classification import evaluate_classifier

        return evaluate_classifier(args, resolved.folder, say)
    return _evaluate_stays(args, say)


def _evaluate_stays(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    from dataclasses import replace

    from models.artifact import load_artifact
    from models.record import from_plain
    from models.scorer import resolve_device
    from pipelines.cohort import read_cohort
    from pipelines.commands.train import metric_lines
    from pipelines.evaluation_config import EvaluationConfig
    from pipelines.registry import resolve_model
    from pipelines.report.cohort_report import REGISTERED, model_label, report_on_cohort
    from pipelines.settings import Settings

    settings, device = Settings.from_environment(), resolve_device("auto")
    names = (args.model, *args.against)
    scorer, *rivals = (load_artifact(resolve_model(name, settings).folder, device=device) for name in names)
    bundle = scorer.bundle
    config = from_plain(EvaluationConfig, bundle.config["evaluation"], where="evaluation")
    if args.bootstrap is not None:
        config = replace(config, bootstrap=args.bootstrap)
    report = report_on_cohort(
        scorer,
        read_cohort(args.cohort),
        config,
        rivals={model_label(name, rival): rival for name, rival in zip(args.against, rivals, strict=True)},
        address=args.model if args.model.startswith(REGISTERED) else "",
        progress=sys.stderr.isatty(),
    )
    figures = {**report.figures, "model": {"name": bundle.name, "digest": scorer.digest}, "disclaimer": DISCLAIMER_EN}
    args.out.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    for line in metric_lines(figures, {}, of=report.facts["evaluated"]["part"]):
        say(line)
    say(f"wrote {args.out}")
    if args.html:
        _write_page(args.html, report.facts)
        say(f"wrote {args.html}")
    say(DISCLAIMER_EN)
    return figures


def _write_page(path: Path, facts: dict[str, Any]) -> None:
    from pipelines.report.html import report_html  # matplotlib is slow to import, and needed here alone

    path.write_text(report_html(facts), encoding="utf-8")
