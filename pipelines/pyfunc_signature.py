"""From a bundle to the pyfunc's signature and an input example: what `mlflow models serve` checks and shows."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from models.bundle import Bundle
from models.channels import StaticKind, StaticVariable
from pipelines.tracking import quiet

with quiet():
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

EXAMPLE_CHANNELS = 3


def signature_of(bundle: Bundle) -> ModelSignature:
    """Columns of the rows, of the answer, and the parameter `every_step`."""
    inputs = [
        ColSpec("string", "observations"),
        ColSpec("string", "notes", required=False),
        ColSpec("string", "static", required=False),
        ColSpec("double", "as_of_h", required=False),
        ColSpec("string", "stay_id", required=False),
    ]
    names = bundle.task.output_names
    kinds = ("risk", "spread") if len(bundle.members) > 1 else ("risk",)
    numbers = [name for kind in kinds for name in (kind, *(f"{kind}_{n}" for n in names if len(names) > 1))]
    outputs = [
        ColSpec("string", "stay_id"),
        ColSpec("double", "time_h"),
        *(ColSpec("double", name) for name in numbers),
        ColSpec("long", "left_out"),
        ColSpec("string", "disclaimer"),
    ]
    every_step = ParamSpec("every_step", "boolean", False)
    return ModelSignature(inputs=Schema([*inputs]), outputs=Schema([*outputs]), params=ParamSchema([every_step]))


def input_example(bundle: Bundle) -> pd.DataFrame:
    """One invented stay in the model's own channels, with values in the middle of their plausible range."""
    used = [c for c in bundle.channels if c.name in bundle.encoding.channels.names][:EXAMPLE_CHANNELS]
    observations = [
        {"channel": c.name, "time_h": 0.5 + i, "value": _middle(c.soft or c.hard), "unit": c.unit}
        for i, c in enumerate(used)
    ]
    static = {v.name: _example_static(v) for v in bundle.statics}
    row: dict[str, Any] = {"observations": json.dumps(observations), "static": json.dumps(static), "as_of_h": 12.0}
    if bundle.notes is not None:
        row["notes"] = json.dumps([{"time_h": 2.0, "kind": "progress", "text": "Resting comfortably."}])
    return pd.DataFrame([{**row, "stay_id": "example"}])


def _example_static(variable: StaticVariable) -> Any:
    if variable.kind is StaticKind.CATEGORICAL:
        return variable.categories[0]
    low, high = variable.hard
    return {"value": _middle((max(low, 0.0), min(high, 100.0))), "unit": variable.unit}


def _middle(limits: tuple[float, float]) -> float:
    return round((limits[0] + limits[1]) / 2.0, 2)
