"""From a tagging run to MLflow: a tracked run with everything that made the tagger, and a registered version of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.text.tagging_artifact import GOLDEN_TEXTS
from pipelines.registry import HOLDOUT_FILE
from pipelines.text.metric_numbers import metric_numbers
from pipelines.text.tagging_config import TaggingRunConfig
from pipelines.text.tagging_train import TrainedTagger
from pipelines.tracked_run import Package, TrackedRun, pinned
from pipelines.tracking import quiet

with quiet():
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

MODEL_CODE = "text/pyfunc_tagging.py"
REQUIREMENTS = ("sequela", "mlflow", "numpy", "pandas", "safetensors", "tokenizers", "torch")


@dataclass
class TaggingPublication(TrackedRun):
    """One tagging run in MLflow; use it as a context manager around the training."""

    config: TaggingRunConfig

    def register(self, trained: TrainedTagger) -> int:
        """Logs everything of a finished training and registers its artifact as the new challenger.

        Returns:
            the version's number.

        Raises:
            TrackingError: if MLflow cannot be reached.
        """
        for row in trained.history:
            self.log_epoch(row)
        self.tag({"sequela.fingerprint": str(trained.bundle.corpus["fingerprint"]), "sequela.task": "tagging"})
        self.log_figures(metric_numbers("holdout", trained.figures))
        for name, figures in trained.figures.get("rivals", {}).items():
            self.log_figures(metric_numbers(name, figures))
        self.log_json("metrics.json", trained.figures)
        self.log_json("history.json", {"epochs": trained.history})
        self.log_json("versions.json", trained.bundle.versions)
        self.log_json("corpus.json", trained.bundle.corpus)
        self.log_json(HOLDOUT_FILE, self._holdout(trained))
        return self.register_package(_package(trained))

    def _holdout(self, trained: TrainedTagger) -> dict[str, Any]:
        """Where a later promotion finds the same documents; no identifier and no text is in it."""
        return {
            "corpora": [str(path.resolve()) for path in self.cohorts],
            "fingerprint": trained.bundle.corpus["fingerprint"],
            "split": trained.bundle.config["split"],
            "held_out": trained.bundle.config["held_out"],
            "documents": trained.figures["documents"],
        }


def tagging_signature() -> ModelSignature:
    """Texts in, a row a span out."""
    inputs = [ColSpec("string", "text"), ColSpec("string", "document_id", required=False)]
    outputs = [
        ColSpec("string", "document_id"),
        ColSpec("long", "start"),
        ColSpec("long", "end"),
        ColSpec("string", "label"),
        ColSpec("double", "probability"),
        ColSpec("string", "disclaimer"),
    ]
    return ModelSignature(inputs=Schema([*inputs]), outputs=Schema([*outputs]))


def _package(trained: TrainedTagger) -> Package:
    bundle = trained.bundle
    return Package(
        artifact=trained.artifact,
        digest=trained.digest,
        code=MODEL_CODE,
        signature=tagging_signature(),
        example=pd.DataFrame([{"text": GOLDEN_TEXTS[0], "document_id": "example"}]),
        requirements=pinned(REQUIREMENTS),
        tags={
            "sequela.fingerprint": str(bundle.corpus["fingerprint"]),
            "sequela.task": "tagging",
            "sequela.outputs": ",".join(bundle.labels),
            "sequela.licence": str(bundle.corpus["licence"]),
            "sequela.created": bundle.created,
        },
        description=_description(trained),
    )


def _description(trained: TrainedTagger) -> str:
    shown = ", ".join(
        f"{name} {entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
        for name, entry in trained.figures["metrics"].items()
        if name in ("f1", "precision", "recall")
    )
    what = trained.bundle.description or ", ".join(trained.bundle.labels)
    hold_out = f"Hold-out of {trained.figures['documents']:,} documents, exact spans: {shown}."
    return f"{what}. {hold_out}\n\n{DISCLAIMER_EN}\n\n{DISCLAIMER_JA}"
