"""The configuration of a run: one TOML file and `key=value` overrides in, a frozen `RunConfig` out."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.calibration import CalibrationMethod, check_method
from models.cells import Cell
from models.encoding import EncodingConfig
from models.errors import ConfigError, UsageError
from models.layout import Layout
from models.network import NetworkConfig
from models.notes import NotesConfig
from models.record import from_plain
from models.task import TargetKind, TaskSpec
from pipelines.baselines import BaselinesConfig
from pipelines.calibration_config import CalibrationConfig
from pipelines.encoded_cache import CacheConfig
from pipelines.ensemble_config import EnsembleConfig
from pipelines.evaluation_config import EvaluationConfig
from pipelines.pretraining_config import PretrainingConfig
from pipelines.retrain_config import RetrainConfig
from pipelines.split import SplitConfig
from pipelines.text.identifiers.guard import IdentifiersConfig
from pipelines.training_config import Monitor, TrainingConfig
from pipelines.tune_config import TuneConfig


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run does; its resolved form travels inside the artifact.

    Args:
        name: name of the registered model.
        task: what is predicted.
        seed: of every random choice.
        threads: CPU threads of the training; 0 = as many as there are cores.
    """

    name: str
    task: TaskSpec
    seed: int = 0
    threads: int = 0
    split: SplitConfig = field(default_factory=SplitConfig)
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    notes: NotesConfig = field(default_factory=NotesConfig)
    identifiers: IdentifiersConfig = field(default_factory=IdentifiersConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    retrain: RetrainConfig | None = None

    def __post_init__(self) -> None:
        """Refuses a name that MLflow or a file system would not take."""
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"name must be letters, digits, - and _, got {self.name!r}; rename the model")
        check_method(self.calibration.method, self.task.kind)
        self._check_weight()
        networks = [self.ensemble.network(self.network, k) for k in range(self.ensemble.members)]
        if any(network.cell is Cell.GRU_D for network in networks):
            Layout.required(Layout.of(1, self.encoding.features))
        if self.ensemble.fit_weights and self.task.kind is not TargetKind.BINARY:
            raise ConfigError(
                f"ensemble.fit_weights must go with a binary task, got '{self.task.kind}'; state the weights instead"
            )
        for k in range(self.ensemble.members):
            self.ensemble.training(self.training, k)  # refuses what a variant must not say
        if self.ensemble.folds and (self.calibration.include_validation or self.training.monitor is not Monitor.LAST):
            raise ConfigError(
                "ensemble.folds must go with training.monitor 'last_epoch' and without calibration.include_validation, "
                f"got '{self.training.monitor}' and {str(self.calibration.include_validation).lower()}; a fold that "
                "chose the epoch is not fit to calibrate on, and all others calibrate; set both, or ensemble.folds = 0"
            )
        if self.calibration.include_validation and self.training.monitor is not Monitor.LAST:
            raise ConfigError(
                f"calibration.include_validation must go with training.monitor 'last_epoch', got "
                f"'{self.training.monitor}'; a part that chose the epoch is not fit to calibrate on"
            )

    def _check_weight(self) -> None:
        """Refuses a class weight that no intercept takes back: every risk would be too high, or too low."""
        weight, method = self.training.positive_weight, self.calibration.method
        if (
            weight != 1.0
            and self.task.kind is TargetKind.BINARY
            and method in (CalibrationMethod.NONE, CalibrationMethod.TEMPERATURE)
        ):
            raise ConfigError(
                "calibration.method must be platt, beta, isotonic or auto where training.positive_weight is not 1, got "
                f"'{method}' and {weight:g}; only an intercept takes the weight back"
            )


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a TOML file and applies `key=value` overrides such as `training.max_epochs=5`.

    Raises:
        ConfigError: for an unreadable file, an unknown key or a value of another type.
        UsageError: for an override that is not `key=value`.
    """
    return from_plain(RunConfig, read_plain(path, overrides), where="config")


def read_plain(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The file's tables with the overrides in them, before any key is checked.

    Raises:
        ConfigError: for an unreadable file.
        UsageError: for an override that is not `key=value`.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config must be a readable file, got {path}; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config must be TOML, got an error in {path}: {error}; correct the line") from error
    return with_overrides(data, overrides)


def with_overrides(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Puts `key=value` overrides into the tables of a configuration.

    Raises:
        UsageError: for an override that is not `key=value`.
    """
    for override in overrides:
        _apply(data, override)
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UsageError(f"--set must be key=value, got {override!r}; write for example training.max_epochs=5")
    *tables, last = key.strip().split(".")
    target = data
    for table in tables:
        target = target.setdefault(table, {})
        if not isinstance(target, dict):
            raise UsageError(f"--set must name a key of a table, got {key!r}; check the key")
    target[last] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word such as gru needs no quotes on a command line
