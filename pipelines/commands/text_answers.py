"""What a command on documents found in, its table of figures, its file and the object that it prints out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.disclaimer import DISCLAIMER_EN

if TYPE_CHECKING:
    import pandas as pd

    from models.text.bundle import TextBundle
    from models.text.tagging_artifact import TaggingBundle

Say = Callable[[str], None]


def trained_answer(
    run_id: str, model: str, figures: Mapping[str, Any], lines: Sequence[str], say: Say
) -> dict[str, Any]:
    """What a training prints: run, version, and the figures of the model and of its baselines.

    Args:
        run_id: in MLflow.
        model: address of the registered version.
        figures: on the hold-out.
        lines: those figures for people.
        say: receives lines for people.
    """
    for line in (*lines, f"registered {model} (run {run_id}, alias challenger)", DISCLAIMER_EN):
        say(line)
    rivals = {name: found["metrics"] for name, found in figures.get("rivals", {}).items()}
    return {
        "run_id": run_id,
        "model": model,
        "metrics": figures["metrics"],
        "baselines": rivals,
        "disclaimer": DISCLAIMER_EN,
    }


def write_figures(figures: dict[str, Any], out: Path, lines: Sequence[str], say: Say) -> dict[str, Any]:
    """Writes what an evaluation found, and gives it as it was written."""
    out.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    for line in (*lines, f"wrote {out}", DISCLAIMER_EN):
        say(line)
    return figures


def write_rows(table: pd.DataFrame, out: Path, bundle: TextBundle | TaggingBundle, digest: str) -> None:
    """Writes rows as Parquet whose header names the model and holds the disclaimer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    words = {"disclaimer": DISCLAIMER_EN, "model": bundle.name, "digest": digest}
    pq.write_table(arrow.replace_schema_metadata((arrow.schema.metadata or {}) | words), out)


def named_model(bundle: TextBundle | TaggingBundle, digest: str) -> dict[str, Any]:
    """What every answer says of the model that made it."""
    return {"model": {"name": bundle.name, "digest": digest}, "disclaimer": DISCLAIMER_EN}


def figure_lines(head: str, name: str, figures: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
    """The hold-out's table: the model and every baseline, each figure with its interval.

    Args:
        head: what was judged.
        name: of the model in the table.
        figures: its own, with those of its rivals.
        shown: which figures.
    """
    table = {name: figures, **figures.get("rivals", {})}
    width = max(map(len, table))
    lines = [head]
    for label, own in table.items():
        told = [
            f"{metric} {entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
            for metric in shown
            if (entry := own["metrics"].get(metric)) is not None
        ]
        lines.append(f"  {label:<{width}}  " + "  ".join(told))
    return lines
