"""`sequela score MODEL COHORT --out FILE.parquet`: the risk at every time step of every stay."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.disclaimer import DISCLAIMER_EN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("model", help="models:/name@alias, models:/name/version or an artifact folder")
    parser.add_argument("cohort", type=Path, help="folder that `sequela prepare` wrote")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--uncertainty", action="store_true", help="columns of intervals and label sets too")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Scores and writes; returns what was written where, by which model."""
    from models.artifact_folder import artifact_kind
    from pipelines.commands.out_file import check_out_file
    from pipelines.registry import resolve_model
    from pipelines.settings import Settings

    check_out_file(args.out)
    resolved = resolve_model(args.model, Settings.from_environment())
    kind = artifact_kind(resolved.folder)
    if kind == "tagging":
        from pipelines.commands.documents import score_tagger

        return score_tagger(args, resolved.folder, say)
    if kind == "documents":
        from pipelines.commands.classification import score_classifier

        return score_classifier(args, resolved.folder, say)
    return _score_stays(args, resolved.folder, say)


def _score_stays(args: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from models.artifact import load_artifact
    from models.scorer import resolve_device
    from pipelines.cohort import read_cohort
    from pipelines.score_cohort import score_table

    scorer = load_artifact(folder, device=resolve_device("auto"))
    table = score_table(scorer, read_cohort(args.cohort), progress=sys.stderr.isatty(), uncertainty=args.uncertainty)
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    words = {"disclaimer": DISCLAIMER_EN, "model": scorer.bundle.name, "digest": scorer.digest}
    pq.write_table(arrow.replace_schema_metadata((arrow.schema.metadata or {}) | words), args.out)
    stays = int(table["stay_id"].nunique())
    say(f"wrote {len(table):,} time steps of {stays:,} stays to {args.out}")
    say(DISCLAIMER_EN)
    return {
        "stays": stays,
        "time_steps": len(table),
        "out": str(args.out),
        "model": {"name": scorer.bundle.name, "digest": scorer.digest},
        "disclaimer": DISCLAIMER_EN,
    }
