"""From settings to MLflow: the only module that imports it, with its switches set and its own warnings kept quiet."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from models.errors import SequelaError
from pipelines.database import EXIT_UNAVAILABLE
from pipelines.settings import Settings, switch_mlflow

switch_mlflow()


@contextmanager
def quiet() -> Iterator[None]:
    """Silences warnings that MLflow's own code causes and that its caller can do nothing about."""
    with warnings.catch_warnings():
        # Its SQL store uses an SQLAlchemy 2.1 loader that is deprecated, and a pandas comparison that is.
        warnings.filterwarnings("ignore", module=r"mlflow\..*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r"The ``noload`` loader strategy", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r"Operation with range is deprecated")
        # A model logged as code states its signature itself: hints on `predict` would add nothing.
        warnings.filterwarnings("ignore", message=r".*[Tt]ype hint", category=UserWarning)
        yield


with quiet():
    import mlflow
    import mlflow.artifacts
    import mlflow.pyfunc
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

__all__ = [
    "MlflowClient",
    "MlflowException",
    "TrackingError",
    "connect",
    "mlflow",
    "open_experiment",
    "quiet",
    "reached",
]

# Without it the dashboard takes an experiment that has no runs yet for one of language models, and shows traces.
DASHBOARD_TAGS = {"mlflow.experimentKind": "custom_model_development"}


class TrackingError(SequelaError):
    """Raised when MLflow cannot be reached or refuses what it is asked."""

    exit_status = EXIT_UNAVAILABLE


@contextmanager
def reached() -> Iterator[None]:
    """Turns MLflow's errors into one that says what to look at; their text may hold what was logged and is left out.

    Raises:
        TrackingError: if MLflow cannot be reached or refuses.
    """
    try:
        yield
    except MlflowException as error:
        raise TrackingError(
            f"MLflow must be reachable and take what is logged, got error {error.error_code}; "
            "check MLFLOW_TRACKING_URI, the server and its log"
        ) from error


def connect(settings: Settings) -> MlflowClient:
    """A client, and MLflow's process-wide addresses set to the same, which logging a model needs.

    Raises:
        TrackingError: if MLflow does not take the addresses.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with reached(), quiet():
        mlflow.set_tracking_uri(settings.tracking_uri)
        mlflow.set_registry_uri(settings.registry_uri)
        return MlflowClient(settings.tracking_uri, settings.registry_uri)


def open_experiment(client: MlflowClient, settings: Settings) -> str:
    """Identifier of the settings' experiment, which is created where it is missing.

    With a local SQLite file the artifacts lie beside it, wherever the process was started.
    """
    with quiet():
        found = client.get_experiment_by_name(settings.experiment)
        if found is not None:
            return str(found.experiment_id)
        try:
            root = _artifact_root(settings)
            return str(client.create_experiment(settings.experiment, artifact_location=root, tags=DASHBOARD_TAGS))
        except MlflowException:
            # Another process may have created it since.
            found = client.get_experiment_by_name(settings.experiment)
            if found is None:
                raise
            return str(found.experiment_id)


def _artifact_root(settings: Settings) -> str | None:
    if not settings.tracking_uri.startswith("sqlite:"):
        return None
    database = make_url(settings.tracking_uri).database
    folder = Path(database or ".").resolve().parent
    return (folder / "mlruns" / settings.experiment).as_uri()
