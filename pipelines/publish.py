"""From a training run on stays to MLflow: a tracked run with everything that made the model, and a version of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.ensemble import MemberKind
from pipelines import pyfunc_signature
from pipelines.config import RunConfig
from pipelines.model_card import card_markdown
from pipelines.registry import HOLDOUT_FILE
from pipelines.tracked_run import Package, TrackedRun, pinned
from pipelines.tracking import quiet, reached
from pipelines.train import TrainedRun

MODEL_CODE = "pyfunc_model.py"
REPORT_FILE = "report.html"
# What loads and scores the artifact; the versions are those of this process.
REQUIREMENTS = ("sequela", "mlflow", "numpy", "pandas", "safetensors", "tokenizers", "torch")


@dataclass
class Publication(TrackedRun):
    """One run on stays in MLflow; use it as a context manager around the training."""

    config: RunConfig

    def __post_init__(self) -> None:
        """Counts the networks, each of which logs its epochs."""
        self.networks = self.config.ensemble.members

    def register(self, trained: TrainedRun, *, tags: Mapping[str, str] | None = None) -> int:
        """Logs everything of a finished training and registers its artifact as the new challenger.

        Args:
            trained: what the training left.
            tags: further tags of the version.

        Returns:
            the version's number.

        Raises:
            TrackingError: if MLflow cannot be reached.
        """
        for row in trained.history:
            self.log_epoch(row)
        self._log_results(trained)
        version = self.register_package(_package(trained, tags or {}))
        self._log_report(trained, f"models:/{self.config.name}/{version}")
        return version

    def _log_results(self, trained: TrainedRun) -> None:
        bundle = trained.bundle
        self.tag({"sequela.fingerprint": str(bundle.cohort["fingerprint"]), "sequela.task": bundle.task.outcome})
        for name, figures in {"holdout": trained.metrics, **trained.baselines}.items():
            self.log_figures(dict(_figures(name, figures)))
        self.log_json("metrics.json", {"network": trained.metrics, **trained.baselines})
        self.log_json("history.json", {"epochs": trained.history})
        self.log_json("versions.json", bundle.versions)
        self.log_json("cohort.json", bundle.cohort)
        self.log_json(HOLDOUT_FILE, _holdout(self.cohorts, trained))
        with reached(), quiet():
            self.client.log_text(self.run_id, card_markdown(trained.report), "model_card.md")
            self.client.log_dict(self.run_id, trained.report, "model_card.json")
            for plot in trained.plots:
                self.client.log_artifact(self.run_id, str(plot), "plots")

    def _log_report(self, trained: TrainedRun, address: str) -> None:
        """Logs the page, which names version and digest: it can only be made when both are known."""
        from pipelines.report.html import report_html  # matplotlib is slow to import, and needed here alone

        page = report_html({**trained.report, "digest": trained.digest, "address": address})
        with reached(), quiet():
            self.client.log_text(self.run_id, page, REPORT_FILE)


def _holdout(cohorts: Sequence[Path], trained: TrainedRun) -> dict[str, Any]:
    """Where a later promotion finds the same stays; no identifier of a stay or patient is in it."""
    return {
        "cohorts": [str(path.resolve()) for path in cohorts],
        "fingerprint": trained.bundle.cohort["fingerprint"],
        "split": trained.bundle.config["split"],
        "part": "test",
        "stays": len(trained.scores),
    }


def requirements(bundle: Bundle) -> list[str]:
    """What loads and scores the model, in this process's versions."""
    trees = any(member.kind is MemberKind.TREES for member in bundle.members)
    names = (*REQUIREMENTS, "lightgbm") if trees else REQUIREMENTS
    return pinned(names)


def _package(trained: TrainedRun, tags: Mapping[str, str]) -> Package:
    return Package(
        artifact=trained.artifact,
        digest=trained.digest,
        code=MODEL_CODE,
        signature=pyfunc_signature.signature_of(trained.bundle),
        example=pyfunc_signature.input_example(trained.bundle),
        requirements=requirements(trained.bundle),
        tags={**_version_tags(trained), **tags},
        description=_description(trained),
    )


def _version_tags(trained: TrainedRun) -> dict[str, str]:
    bundle = trained.bundle
    return {
        "sequela.fingerprint": str(bundle.cohort["fingerprint"]),
        "sequela.task": bundle.task.outcome,
        "sequela.outputs": ",".join(bundle.task.output_names),
        "sequela.licence": str(bundle.cohort["licence"]),
        "sequela.created": bundle.created,
    }


def _description(trained: TrainedRun) -> str:
    task, metrics = trained.bundle.task, trained.metrics["metrics"]
    shown = [
        f"{name} {metrics[name]['value']:.3f} [{metrics[name]['low']:.3f}, {metrics[name]['high']:.3f}]"
        for name in ("auroc", "auprc", "calibration_slope", "rmse")
        if name in metrics
    ]
    figures = f"Hold-out of {trained.metrics['stays']:,} stays: {', '.join(shown)}."
    return f"{task.description or task.outcome}. {figures}\n\n{DISCLAIMER_EN}\n\n{DISCLAIMER_JA}"


def _figures(name: str, report: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    yield f"{name}/stays", report["stays"]
    yield f"{name}/events", report["events"]
    for metric, entry in report["metrics"].items():
        yield f"{name}/{metric}", entry["value"]
        yield f"{name}/{metric}_low", entry["low"]
        yield f"{name}/{metric}_high", entry["high"]
