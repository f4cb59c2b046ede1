"""A run in MLflow: opened, settings and figures stored, its artifact registered as code, closed with its reason.

The model is logged as code (a pyfunc whose source lies beside this module) around the artifact folder: MLflow carries
JSON and safetensors, and no object is ever pickled.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.errors import SequelaError
from models.record import to_plain
from pipelines.lease import EXIT_INTERRUPTED
from pipelines.registry import BUNDLE_PATH, CHALLENGER, DIGEST_TAG, set_alias
from pipelines.settings import Settings
from pipelines.tracking import MlflowException, connect, mlflow, open_experiment, quiet, reached

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
REASON_TAG = "sequela.reason"
# Every epoch has it.
EPOCH_METRIC = "validation_loss"
MAX_PARAM_CHARS = 500
PARAMS_A_CALL = 100


class NamedConfig(Protocol):
    """Whatever decides a run: a frozen dataclass that names its model."""

    @property
    def name(self) -> str:
        """Name of the registered model."""
        ...


@dataclass(frozen=True)
class Package:
    """A saved artifact with what MLflow asks of a model.

    Args:
        artifact: folder of the artifact.
        digest: its digest.
        code: file, from this module's folder, that loads and runs it.
        signature: columns that it takes and gives.
        example: rows that it takes.
        requirements: what loads and runs it, pinned.
        tags: of the version.
        description: of the version, for people.
    """

    artifact: Path
    digest: str
    code: str
    signature: Any
    example: Any
    requirements: Sequence[str]
    tags: Mapping[str, str]
    description: str


@dataclass
class TrackedRun:
    """One run in MLflow; use it as a context manager around the training.

    Args:
        config: the run's configuration; logged as it is resolved.
        settings: where MLflow is.
        cohorts: folders of the data; recorded, so that a later promotion finds the same hold-out.
        run_id: a run to continue; empty for a new one, whose identifier it then holds.
        tags: further tags of the run.
        networks: how many networks log their epochs.
    """

    config: NamedConfig
    settings: Settings
    cohorts: Sequence[Path] = ()
    run_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    networks: int = 1

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

    def register_package(self, package: Package) -> int:
        """Logs an artifact as a model of this run and registers it as the new challenger.

        Returns:
            the version's number.

        Raises:
            TrackingError: if MLflow cannot be reached.
        """
        name = self.config.name
        with reached(), quiet():
            model_uri, model_id = self._log_model(package)
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
                tags={DIGEST_TAG: package.digest, "disclaimer": DISCLAIMER_EN, **package.tags},
                description=package.description,
                model_id=model_id,
            )
            set_alias(self.client, name, CHALLENGER, int(created.version))
        self.tag({"sequela.version": str(created.version), DIGEST_TAG: package.digest})
        return int(created.version)

    def _log_model(self, package: Package) -> tuple[str, str]:
        """Logs the pyfunc as code and returns its address and identifier."""
        mlflow.start_run(run_id=self.run_id)
        try:
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).parent / package.code),
                artifacts={Path(BUNDLE_PATH).name: str(package.artifact.resolve())},
                signature=package.signature,
                input_example=package.example,
                pip_requirements=list(package.requirements),
                metadata={"sequela.digest": package.digest, "disclaimer": DISCLAIMER_EN},
            )
        finally:
            mlflow.end_run(status="RUNNING")
        return str(info.model_uri), str(info.model_id)

    def _continue_run(self) -> None:
        """Opens the run again: why it ended before is no longer so, and its epochs are not logged twice."""
        self.client.update_run(self.run_id, status="RUNNING")
        if REASON_TAG in self.client.get_run(self.run_id).data.tags:
            self.client.delete_tag(self.run_id, REASON_TAG)
        self._logged_epochs = {
            (member, int(point.step))
            for member in range(self.networks)
            for point in self.client.get_metric_history(self.run_id, _member_metric(member, EPOCH_METRIC))
        }

    def _log_config(self) -> None:
        plain = to_plain(self.config)
        self.log_json(CONFIG_FILE, plain)
        params = list(_flat(plain))
        with reached(), quiet():
            for start in range(0, len(params), PARAMS_A_CALL):
                mlflow.log_params(dict(params[start : start + PARAMS_A_CALL]), run_id=self.run_id, synchronous=True)


def pinned(names: Sequence[str]) -> list[str]:
    """Requirements on these distributions, in this process's versions."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in names]


def _member_metric(member: int, name: str) -> str:
    """The first network's figures stand under their own names, where runs of one network have them."""
    return f"member_{member}/{name}" if member else name


def _flat(plain: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and their values as text, cut to what every store takes; the whole is in the JSON file."""
    if isinstance(plain, dict) and plain:
        for key, value in plain.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, str(plain)[:MAX_PARAM_CHARS]
