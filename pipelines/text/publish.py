"""From a run on documents to MLflow: a tracked run with everything that made the model, and a registered version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.text.artifact import GOLDEN_TEXTS
from models.text.bundle import TextBundle
from pipelines.parent_tags import PARENT_DIGEST_TAG
from pipelines.registry import HOLDOUT_FILE
from pipelines.text.config import TextRunConfig
from pipelines.text.metric_numbers import metric_numbers
from pipelines.text.train import TrainedDocuments
from pipelines.tracked_run import Package, TrackedRun, pinned
from pipelines.tracking import quiet

with quiet():
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

MODEL_CODE = "text/pyfunc_documents.py"
REQUIREMENTS = ("sequela", "mlflow", "numpy", "pandas", "safetensors", "tokenizers", "torch")
_SHOWN = ("macro_f1", "accuracy", "micro_f1", "ece")


@dataclass
class DocumentsPublication(TrackedRun):
    """One run on documents in MLflow; use it as a context manager around the training."""

    config: TextRunConfig

    def register(self, trained: TrainedDocuments) -> int:
        """Logs everything of a finished training and registers its artifact as the new challenger.

        Returns:
            the version's number.

        Raises:
            TrackingError: if MLflow cannot be reached.
        """
        bundle = trained.bundle
        for row in trained.history:
            self.log_epoch(row)
        self.tag({"sequela.fingerprint": str(bundle.corpus["fingerprint"]), "sequela.task": str(bundle.task.kind)})
        self.log_figures(metric_numbers("holdout", trained.figures))
        for name, figures in trained.figures.get("rivals", {}).items():
            self.log_figures(metric_numbers(name, figures))
        before = trained.members.pretrained
        if before is not None and before.course is not None:
            self.log_json("pretraining.json", {"epochs": before.course.history})
        self.log_json("metrics.json", trained.figures)
        self.log_json("history.json", {"epochs": trained.history})
        self.log_json("versions.json", bundle.versions)
        self.log_json("corpus.json", bundle.corpus)
        self.log_json(HOLDOUT_FILE, self._holdout(trained))
        return self.register_package(_package(trained))

    def _holdout(self, trained: TrainedDocuments) -> dict[str, Any]:
        """Where a later promotion finds the same documents; no identifier and no text is in it."""
        return {
            "corpora": [str(path.resolve()) for path in self.cohorts],
            "fingerprint": trained.bundle.corpus["fingerprint"],
            "split": trained.bundle.config["split"],
            "part": "test",
            "documents": trained.figures["documents"],
        }


def documents_signature(bundle: TextBundle) -> ModelSignature:
    """Texts in, a row a document out."""
    inputs = [ColSpec("string", "text"), ColSpec("string", "document_id", required=False)]
    outputs = [
        ColSpec("string", "document_id"),
        ColSpec("string", "label"),
        *(ColSpec("double", f"risk_{label}") for label in bundle.task.labels),
        ColSpec("string", "disclaimer"),
    ]
    return ModelSignature(inputs=Schema([*inputs]), outputs=Schema([*outputs]))


def _package(trained: TrainedDocuments) -> Package:
    bundle = trained.bundle
    return Package(
        artifact=trained.artifact,
        digest=trained.digest,
        code=MODEL_CODE,
        signature=documents_signature(bundle),
        example=pd.DataFrame([{"text": GOLDEN_TEXTS[0], "document_id": "example"}]),
        requirements=pinned(REQUIREMENTS),
        tags={
            "sequela.fingerprint": str(bundle.corpus["fingerprint"]),
            "sequela.task": str(bundle.task.kind),
            "sequela.outputs": ",".join(bundle.task.labels),
            "sequela.licence": str(bundle.corpus["licence"]),
            "sequela.created": bundle.created,
            **_lineage(bundle),
        },
        description=_description(trained),
    )


def _lineage(bundle: TextBundle) -> dict[str, str]:
    """Which version the weights began from; nothing where they began by chance."""
    started = bundle.corpus.get("warm_started_from")
    return {} if started is None else {PARENT_DIGEST_TAG: str(started["digest"])}


def _description(trained: TrainedDocuments) -> str:
    shown = ", ".join(
        f"{name} {entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
        for name in _SHOWN
        if (entry := trained.figures["metrics"].get(name)) is not None
    )
    what = trained.bundle.task.description or f"{len(trained.bundle.task.labels)} labels of documents"
    hold_out = f"Hold-out of {trained.figures['documents']:,} documents: {shown}."
    return f"{what}. {hold_out}\n\n{DISCLAIMER_EN}\n\n{DISCLAIMER_JA}"
