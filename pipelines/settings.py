"""From environment variables to frozen settings; nothing else in `pipelines` reads the environment.

| variable | meaning | default |
|---|---|---|
| `MLFLOW_TRACKING_URI` | where runs are tracked | `sqlite:///mlflow.db` in the working directory |
| `MLFLOW_REGISTRY_URI` | where versions are registered | the tracking address |
| `MLFLOW_EXPERIMENT_NAME` | experiment of the runs | `sequela` |
| `SEQUELA_DATABASE_URL` | lease and job store | the tracking address if it is a database, else `sqlite:///sequela.db` |
| `SEQUELA_CACHE` | downloaded models, interrupted jobs and encoded cohorts | `.sequela` in the working directory |

Where `SEQUELA_DATABASE_URL` is a PostgreSQL database, the studies of `sequela tune` are there too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import ConfigError

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
DEFAULT_DATABASE_URL = "sqlite:///sequela.db"
DEFAULT_EXPERIMENT = "sequela"
DEFAULT_CACHE = ".sequela"
DATABASE_SCHEMES = ("sqlite:", "postgresql:", "postgresql+psycopg2:")

# MLflow must never unpickle, and neither it nor what it imports may report home; its
# progress bars are one a file, and standard output is the command's own.
MLFLOW_SWITCHES = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

# A server that is down is said to be down within a minute or so, unless the operator wants to wait longer.
MLFLOW_DEFAULTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


# Ray must not report home either, hides no GPU from a process that asked for none, and logs trials to MLflow alone.
RAY_SWITCHES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class Settings:
    """Where runs, versions, leases and files live.

    Args:
        tracking_uri: MLflow's tracking address.
        registry_uri: MLflow's registry address.
        experiment: name of the experiment.
        database_url: SQLAlchemy address of the database of the lease and the job store; it may hold a
            password, so it is left out of the printed form.
        cache: folder of downloaded models, interrupted jobs and encoded cohorts.
        study_url: the database of `sequela tune` where a PostgreSQL database was given by its variable; else empty,
            and each study has a file of its own.
    """

    tracking_uri: str = field(default=DEFAULT_TRACKING_URI, repr=False)
    registry_uri: str = field(default=DEFAULT_TRACKING_URI, repr=False)
    experiment: str = DEFAULT_EXPERIMENT
    database_url: str = field(default=DEFAULT_DATABASE_URL, repr=False)
    cache: Path = Path(DEFAULT_CACHE)
    study_url: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Refuses a database that has no lease."""
        if not self.database_url.startswith(DATABASE_SCHEMES):
            raise ConfigError(
                f"SEQUELA_DATABASE_URL must begin with sqlite: or postgresql:, got "
                f"{self.database_url.partition(':')[0]!r}; give an SQLAlchemy address of one of them"
            )

    @property
    def encoded(self) -> Path:
        """Folder of the encoded stays that trainings keep; patient data."""
        return self.cache / "encoded"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings of this process.

        Args:
            environ: the variables; the process's own where left out. An empty value counts as not set.

        Raises:
            ConfigError: if the database is neither SQLite nor PostgreSQL.
        """
        given = {k: v for k, v in (os.environ if environ is None else environ).items() if v}
        tracking = given.get("MLFLOW_TRACKING_URI", DEFAULT_TRACKING_URI)
        database = tracking if tracking.startswith(DATABASE_SCHEMES) else DEFAULT_DATABASE_URL
        shared = given.get("SEQUELA_DATABASE_URL", "")
        return cls(
            tracking_uri=with_driver(tracking),
            registry_uri=with_driver(given.get("MLFLOW_REGISTRY_URI", tracking)),
            experiment=given.get("MLFLOW_EXPERIMENT_NAME", DEFAULT_EXPERIMENT),
            database_url=with_driver(given.get("SEQUELA_DATABASE_URL", database)),
            cache=Path(given.get("SEQUELA_CACHE", DEFAULT_CACHE)),
            study_url=with_driver(shared) if shared.startswith("postgresql") else "",
        )

    def environment(self) -> dict[str, str]:
        """This process's environment with these settings in it, for a child process."""
        return {
            **os.environ,
            **MLFLOW_SWITCHES,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_REGISTRY_URI": self.registry_uri,
            "MLFLOW_EXPERIMENT_NAME": self.experiment,
            "SEQUELA_DATABASE_URL": self.database_url,
            "SEQUELA_CACHE": str(self.cache),
        }


def with_driver(url: str) -> str:
    """The address with psycopg2 named: SQLAlchemy 2.1 takes a bare `postgresql://` for psycopg 3, 2.0 for psycopg2.

    Example:
        >>> with_driver("postgresql://user@host/name")
        'postgresql+psycopg2://user@host/name'
    """
    return url.replace("postgresql://", "postgresql+psycopg2://", 1) if url.startswith("postgresql://") else url


def with_path(url: str) -> str:
    """The address with an SQLite file's whole path, for processes that work in another folder.

    Example:
        >>> with_path("postgresql://user@host/name"), with_path("sqlite:////srv/mlflow.db")
        ('postgresql://user@host/name', 'sqlite:////srv/mlflow.db')
    """
    prefix, found, path = url.partition("sqlite:///")
    return f"sqlite:///{Path(path).resolve()}" if found and not prefix else url


def local_settings(folder: Path) -> Settings:
    """Settings that keep everything in one folder, whatever the environment says."""
    address = f"sqlite:///{(folder / 'mlflow.db').resolve()}"
    return Settings(tracking_uri=address, registry_uri=address, database_url=address, cache=folder / "cache")


def switch_mlflow() -> None:
    """Sets MLflow's switches in this process; must run before `mlflow` is first imported."""
    os.environ.update(MLFLOW_SWITCHES)
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)


def switch_ray() -> None:
    """Sets Ray's switches in this process and those that it starts; must run before `ray` is first imported."""
    os.environ.update(RAY_SWITCHES)
