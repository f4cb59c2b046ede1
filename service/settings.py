"""From environment variables to frozen settings; nothing else in `service` reads the environment.

| variable | meaning | default |
|---|---|---|
| `SEQUELA_MODEL` | `models:/name@alias`, `models:/name/version`, a folder, or `none` | see below |
| `SEQUELA_WATCH_S` | seconds between two looks at the alias; 0 for none | 60 |
| `SEQUELA_SHADOW_MIN` | minutes that a new version scores beside the one that answers, before it does | 0 |
| `SEQUELA_KEEP_MIN` | minutes that the version before, and its states, are kept up to date | 15 |
| `SEQUELA_CHALLENGER` | model that answers a share of the patients, named as `SEQUELA_MODEL` | none |
| `SEQUELA_CHALLENGER_SHARE` | that share, from 0 to 1 | 0.5 |
| `SEQUELA_CHALLENGER_KEY` | secret of 16 to 64 bytes that divides the patients; the same in all replicas | none |
| `SEQUELA_PATIENT_SEPARATOR` | what stands before it in a stay's identifier names the patient | none: all of it does |
| `SEQUELA_TEXT_MODELS` | models of documents, `name=uri,name=uri`; a URI is as in `SEQUELA_MODEL` | none |
| `SEQUELA_DEVICE` | `auto` (`cuda` where present), `cpu`, `cuda` or `cuda:<number>` | `auto` |
| `SEQUELA_HOST`, `SEQUELA_PORT` | where to listen; port 0 takes a free one | `127.0.0.1`, `8000` |
| `SEQUELA_CACHE` | folder of verified copies of models | `.sequela` in the working directory |
| `SEQUELA_TRUSTED_HOSTS` | accepted `Host` names, comma separated | loopback names if it listens there, else `*` |
| `SEQUELA_KEYS` | file of API keys; needed unless it listens on the loopback interface | none |
| `SEQUELA_RATE_LIMIT` | requests that a key may make, unless it has a rate of its own | `6000/minute` |
| `SEQUELA_AUDIT` | folder of the audit, of this process alone; `off` for none | `audit` in the cache |
| `SEQUELA_STORE` | where live stays are: `sqlite:///…`, `postgresql://…`, or `memory:` | `stays.sqlite3` in the cache |
| `SEQUELA_STATE_CACHE` | `redis://…` where replicas share folded states | none: the store keeps them |
| `SEQUELA_STATE_BYTES` | memory for live stays; the least used leave it | 1 GiB |
| `SEQUELA_RETENTION_H` | hours after its last change at which a stay is deleted | none: never |
| `SEQUELA_MAX_LISTENERS` | open event streams | 256 |
| `SEQUELA_OTLP_ENDPOINT` | OpenTelemetry collector that traces go to | none: no traces |
| `SEQUELA_FETCH_TIMEOUT_S` | how long MLflow may take at start before the last verified copy is used | 60 |
| `SEQUELA_MAX_BODY_BYTES` | largest request body | 4 MiB |
| `SEQUELA_BODY_TIMEOUT_S` | how long a body may take to arrive | 30 |
| `SEQUELA_MAX_OBSERVATIONS`, `SEQUELA_MAX_NOTES` | inputs of one stay | 50,000; 500 |
| `SEQUELA_MAX_NOTE_CHARS`, `SEQUELA_MAX_STEPS` | length of a note; time steps of a stay | 20,000; 20,000 |
| `SEQUELA_MAX_DOCUMENTS`, `SEQUELA_MAX_DOCUMENT_CHARS` | documents of a request; length of one | 64; 100,000 |
| `SEQUELA_MAX_WAITING` | steps and requests that may wait for the model | 1024 |
| `SEQUELA_CLOCK_TOLERANCE_S` | how far in the future a time may lie | 300 |
| `SEQUELA_SHUTDOWN_TIMEOUT_S` | how long open requests may take after SIGTERM | 20 |
| `MLFLOW_TRACKING_URI`, `MLFLOW_REGISTRY_URI` | MLflow's addresses | `sqlite:///mlflow.db`; the tracking address |

Without `SEQUELA_MODEL` stays are scored by `models:/mortality-2012@champion`, or not at all where `SEQUELA_TEXT_MODELS`
names models of documents.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.errors import ConfigError

PREFIX = "SEQUELA_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"

# The process that fetches must never unpickle or report home, whatever the operator sets ...
FETCH_SWITCHES = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}
# ... and shall not wait minutes for a dead server unless the operator says so.
FETCH_DEFAULTS = {
    "MLFLOW_TRACKING_URI": DEFAULT_TRACKING_URI,
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}

NO_MODEL = "none"

Count = Annotated[int, Field(ge=1)]
TextModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
ModelUri = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(BaseSettings):
    """What the service is told from outside; fields are the variables of the table above."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    model: Annotated[str, Field(min_length=1)] = "models:/mortality-2012@champion"
    watch_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    shadow_min: Annotated[float, Field(ge=0, le=10_080)] = 0.0
    keep_min: Annotated[float, Field(ge=0, le=10_080)] = 15.0
    challenger: str = ""
    challenger_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    challenger_key: SecretStr | None = None
    patient_separator: Annotated[str, Field(max_length=8)] = ""
    text_models: Annotated[tuple[tuple[TextModelName, ModelUri], ...], NoDecode] = ()
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$")] = "auto"
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    cache: Path = Path(".sequela")
    trusted_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    keys: Path | None = None
    rate_limit: Annotated[str, Field(min_length=1)] = "6000/minute"
    audit: str = ""
    store: str = ""
    state_cache: str = ""
    state_bytes: Count = 1024**3
    retention_h: Annotated[float, Field(gt=0)] | None = None
    max_listeners: Count = 256
    otlp_endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    fetch_timeout_s: Seconds = 60.0
    max_body_bytes: Count = 4 * 1024 * 1024
    body_timeout_s: Seconds = 30.0
    max_observations: Count = 50_000
    max_notes: Count = 500
    max_note_chars: Count = 20_000
    max_steps: Count = 20_000
    max_documents: Count = 64
    max_document_chars: Count = 100_000
    max_waiting: Count = 1024
    clock_tolerance_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    shutdown_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 20

    @field_validator("trusted_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        return tuple(v.strip() for v in value.split(",") if v.strip()) if isinstance(value, str) else value

    @field_validator("text_models", mode="before")
    @classmethod
    def _split_models(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [tuple(p.strip() for p in v.partition("=")[::2]) for v in value.split(",") if v.strip()]
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("must name each model once")
        return tuple(pairs)

    @model_validator(mode="after")
    def _key_for_challenger(self) -> Self:
        key = self.challenger_key
        if self.challenger and (key is None or not 16 <= len(key.get_secret_value().encode()) <= 64):
            raise ValueError("CHALLENGER needs a CHALLENGER_KEY of 16 to 64 bytes")
        return self

    @model_validator(mode="after")
    def _something_to_serve(self) -> Self:
        if not self.stays_model and (self.challenger or not self.text_models):
            raise ValueError("MODEL must be given, unless there are TEXT_MODELS and no CHALLENGER")
        return self

    @property
    def stays_model(self) -> str:
        """The model of stays; empty where documents alone are served."""
        given = "model" in self.model_fields_set or not self.text_models
        return self.model if given and self.model != NO_MODEL else ""

    @property
    def audit_folder(self) -> Path | None:
        """Where the audit lies; None if there is to be none."""
        if self.audit.lower() == "off":
            return None
        return Path(self.audit) if self.audit else self.cache / "audit"

    @property
    def store_address(self) -> str:
        """Where live stays are kept."""
        return self.store or f"sqlite:///{self.cache / 'stays.sqlite3'}"

    @property
    def accepted_hosts(self) -> tuple[str, ...]:
        """Names that a request's `Host` may have.

        A service on the loopback interface takes loopback names alone, so that no web page can reach it
        under a name of its own; one that listens elsewhere has names that only its operator knows.
        """
        if self.trusted_hosts:
            return self.trusted_hosts
        return (*LOOPBACK, "[::1]") if self.host in LOOPBACK else ("*",)


def settings_from_environment() -> Settings:
    """Settings of this process.

    Raises:
        ConfigError: naming every variable that does not hold, without its value.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"{PREFIX}{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}"
            for e in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise ConfigError(f"settings must hold, got {wrong}; correct the environment variables") from None


def fetch_environment() -> dict[str, str]:
    """This process's environment for the short process that asks MLflow; MLflow's own variables pass through."""
    given = {k: v for k, v in os.environ.items() if v}
    return {**FETCH_DEFAULTS, **given, **FETCH_SWITCHES}
