"""From a training run to MLflow: a tracked run with everything that made the model, and a registered version.

The model is logged as code (a pyfunc whose source is `pipelines/pyfunc_model.py`) around the artifact folder:
MLflow carries JSON and safetensors, and no object is ever pickled.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from models.bundle import Bundle
from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.ensemble import MemberKind
from models.errors import SequelaError
from models.record import to_plain
from pipelines import pyfunc_signature
from pipelines.config import RunConfig
from pipelines.lease import EXIT_INTERRUPTED
from pipelines.model_card import card_markdown
from pipelines.registry import BUNDLE_PATH, CHALLENGER, DIGEST_TAG, HOLDOUT_FILE, set_alias
from pipelines.settings import Settings
from pipelines.tracking import MlflowException, connect, mlflow, open_experiment, quiet, reached
from pipelines.train import TrainedRun

logger = logging.getLogger(__name__)

MODEL_CODE = "pyfunc_model.py"
CONFIG_FILE = "config.json"
REPORT_FILE = "report.html"
# What loads and scores the artifact; the versions are those of this process.
REQUIREMENTS = ("sequela", "mlflow", "numpy", "pandas", "safetensors", "tokenizers", "torch")
REASON_TAG = "sequela.reason"
# Every epoch has it.
EPOCH_METRIC = "validation_loss"
MAX_PARAM_CHARS = 500
PARAMS_A_CALL = 100


@dataclass
class Publication:
    """One run in MLflow; use it as a context manager around the training.

    Args:
        config: the run's configuration; logged as it is resolved.
        settings: where MLflow is.
        cohorts: folders of the cohorts; recorded, so that a later promotion finds the same hold-out.
        run_id: a run to continue; empty for a new one, whose identifier it then holds.
        tags: further tags of the run.
    """

    config: RunConfig
    settings: Settings
    cohorts: Sequence[Path] = ()
    run_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._logged_epochs: set[tuple[int, int]] = set()
        with reached(), quiet():
            self.client = connect(self.settings)
            if self.run_id:
                self._continue_run()
            else:
                experiment = open_experiment(self.client, self.settings)
                self.run_id = self.client.create_run(experiment, run_name=self.config.name).info.run_id
        self.tag({"sequela.model": self.config.name, "disclaimer": DISCLAIMER_EN, **self.tags})
        self._log_config()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the run; the reason of a failure that Sequela raised is in its tags."""
        status = "FINISHED"
        try:
            if error is not None:
                killed = not isinstance(error, Exception) or getattr(error, "exit_status", 1) == EXIT_INTERRUPTED
                status = "KILLED" if killed else "FAILED"
                reason = str(error) if isinstance(error, SequelaError) else type(error).__name__
                self.tag({REASON_TAG: reason})
            with reached(), quiet():
                self.client.set_terminated(self.run_id, status=status)
        except SequelaError:
            if error is None:
                raise
            logger.warning("the run's end could not be logged")  # the first error is the one to show

    def tag(self, tags: Mapping[str, str]) -> None:
        """Sets tags of the run."""
        with reached(), quiet():
            for name, value in tags.items():
                self.client.set_tag(self.run_id, name, value)

    def log_json(self, name: str, value: Any) -> None:
        """Stores plain values as a JSON file of the run."""
        with reached(), quiet():
            self.client.log_dict(self.run_id, value, name)

    def log_figures(self, figures: Mapping[str, float], *, step: int = 0) -> None:
        """Stores numbers as metrics; what is not finite is left out, because not every store takes it."""
        finite = {name: float(value) for name, value in figures.items() if math.isfinite(value)}
        with reached(), quiet():
            mlflow.log_metrics(finite, step=step, run_id=self.run_id)

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Stores an epoch's figures once; a server that does not answer does not end the training.

        Those of a model's further networks stand under `member_<number>/`.
        """
        member, epoch = int(row.get("member", 0)), int(row.get("epoch", len(self._logged_epochs)))
        if (member, epoch) in self._logged_epochs:
            return
        try:
            figures = {name: value for name, value in row.items() if name not in ("member", "epoch")}
            self.log_figures({_member_metric(member, name): value for name, value in figures.items()}, step=epoch)
            self._logged_epochs.add((member, epoch))
        except SequelaError as error:
            logger.warning("epoch %d could not be logged now (%s); it is logged at the end", epoch, error)

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
        with reached(), quiet():
            model_uri, model_id = self._log_model(trained)
            name = self.config.name
            try:
                self.client.create_registered_model(name, description=f"{DISCLAIMER_EN}\n\n{DISCLAIMER_JA}")
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            # Over HTTP a server takes the address of a logged model only beside the identifier of that model.
            created = self.client.create_model_version(
                name,
                model_uri,
                run_id=self.run_id,
                tags={**_version_tags(trained), **(tags or {})},
                description=_description(trained),
                model_id=model_id,
            )
            set_alias(self.client, name, CHALLENGER, int(created.version))
        self.tag({"sequela.version": str(created.version), DIGEST_TAG: trained.digest})
        self._log_report(trained, f"models:/{name}/{created.version}")
        return int(created.version)

    def _continue_run(self) -> None:
        """Opens the run again: why it ended before is no longer so, and its epochs are not logged twice."""
        self.client.update_run(self.run_id, status="RUNNING")
        if REASON_TAG in self.client.get_run(self.run_id).data.tags:
            self.client.delete_tag(self.run_id, REASON_TAG)
        self._logged_epochs = {
            (member, int(point.step))
            for member in range(self.config.ensemble.members)
            for point in self.client.get_metric_history(self.run_id, _member_metric(member, EPOCH_METRIC))
        }

    def _log_config(self) -> None:
        plain = to_plain(self.config)
        self.log_json(CONFIG_FILE, plain)
        params = list(_flat(plain))
        with reached(), quiet():
            for start in range(0, len(params), PARAMS_A_CALL):
                mlflow.log_params(dict(params[start : start + PARAMS_A_CALL]), run_id=self.run_id, synchronous=True)

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

    def _log_model(self, trained: TrainedRun) -> tuple[str, str]:
        """Logs the pyfunc as code and returns its address and identifier."""
        mlflow.start_run(run_id=self.run_id)
        try:
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name(MODEL_CODE)),
                artifacts={Path(BUNDLE_PATH).name: str(trained.artifact.resolve())},
                signature=pyfunc_signature.signature_of(trained.bundle),
                input_example=pyfunc_signature.input_example(trained.bundle),
                pip_requirements=requirements(trained.bundle),
                metadata={"sequela.digest": trained.digest, "disclaimer": DISCLAIMER_EN},
            )
        finally:
            mlflow.end_run(status="RUNNING")
        return str(info.model_uri), str(info.model_id)


def _member_metric(member: int, name: str) -> str:
    """The first network's figures stand under their own names, where runs of one network have them."""
    return f"member_{member}/{name}" if member else name


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
    return [f"{name}=={importlib.metadata.version(name)}" for name in names]


def _version_tags(trained: TrainedRun) -> dict[str, str]:
    bundle = trained.bundle
    return {
        DIGEST_TAG: trained.digest,
        "sequela.fingerprint": str(bundle.cohort["fingerprint"]),
        "sequela.task": bundle.task.outcome,
        "sequela.outputs": ",".join(bundle.task.output_names),
        "sequela.licence": str(bundle.cohort["licence"]),
        "sequela.created": bundle.created,
        "disclaimer": DISCLAIMER_EN,
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


def _flat(plain: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and their values as text, cut to what every store takes; the whole is in the JSON file."""
    if isinstance(plain, dict) and plain:
        for key, value in plain.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, str(plain)[:MAX_PARAM_CHARS]
