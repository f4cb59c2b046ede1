"""A run's `tune.space` in; what a trial draws and the configuration that it makes out.

Every value is checked before the first trial: a key that does not exist, or a value that no configuration of the
space takes, is refused by name. What holds alone and not together is the trial's to find out.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import ConfigError
from models.record import from_plain
from pipelines.config import RunConfig

if TYPE_CHECKING:
    from optuna import Trial

# What decides a fitted network. The split is not among them: a search never touches the hold-out.
TABLES = ("encoding", "network", "notes", "pretraining", "training")
DEFAULT_SPACE: dict[str, Any] = {
    "network.hidden_size": [32, 64, 128],
    "network.layers": {"low": 1, "high": 2},
    "network.dropout": {"low": 0.0, "high": 0.5},
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "training.weight_decay": {"low": 1e-5, "high": 1e-1, "log": True},
}
COMBINATIONS = 200


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Args:
        key: dotted configuration key.
        values: plain values, at least one; no two the same.
    """

    key: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Refuses no choice and the same one twice."""
        if not self.values or len(set(self._names())) != len(self.values):
            raise _wrong(self.key, "a list of different values", list(self.values), "correct the list")

    def _names(self) -> list[str]:
        return [json.dumps(value) for value in self.values]

    @property
    def _stored(self) -> list[Any]:
        """How the study knows the values: a list by its text."""
        return [json.dumps(v) if isinstance(v, list | dict) else v for v in self.values]

    def suggest(self, trial: Trial) -> Any:
        """The trial's choice, as the study knows it."""
        return trial.suggest_categorical(self.key, self._stored)

    def value(self, stored: Any) -> Any:
        """The plain value of what the study knows."""
        return self.values[self._stored.index(stored)]

    @property
    def probes(self) -> tuple[Any, ...]:
        """The values that are checked beforehand: all."""
        return self.values


@dataclass(frozen=True)
class Span:
    """A number between two others, both included.

    Args:
        key: dotted configuration key.
        low: least.
        high: greatest.
        log: drawn evenly over the logarithm.
        step: distance between neighbours; None = any number (of an integer: 1).
        integer: whole numbers alone.
    """

    key: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        """Refuses bounds and steps that hold no numbers."""
        given = {"low": self.low, "high": self.high}
        if not self.low < self.high:
            raise _wrong(self.key, "a range whose low is below its high", given, "swap or widen them")
        if self.log and (self.low <= 0 or self.step is not None):
            raise _wrong(self.key, "above 0 and without step where log is true", given, "drop log or step")
        whole = all(float(x).is_integer() for x in (self.low, self.high, self.step or 1))
        if self.integer and not whole:
            raise _wrong(self.key, "whole numbers for an integer", given, "round them")
        if self.step is not None and not (self.step > 0 and _whole((self.high - self.low) / self.step)):
            raise _wrong(self.key, "a range of whole steps above 0", given | {"step": self.step}, "change step or high")

    def suggest(self, trial: Trial) -> int | float:
        """The trial's number."""
        if self.integer:
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def value(self, stored: Any) -> Any:
        """The number itself."""
        return stored

    @property
    def probes(self) -> tuple[int | float, ...]:
        """The values that are checked beforehand: the ends."""
        return tuple(int(x) if self.integer else x for x in (self.low, self.high))


@dataclass(frozen=True)
class Space:
    """What is searched.

    Args:
        plain: the run's tables, as its TOML file holds them; what is drawn is put into them.
        parameters: what is drawn, in the order of the file.
    """

    plain: Mapping[str, Any]
    parameters: tuple[Choice | Span, ...]

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Space:
        """The space of a run.

        Raises:
            ConfigError: for a key that does not exist or may not be searched, or a value that never holds.
        """
        config = from_plain(RunConfig, plain, where="config")
        wanted = _flat(config.tune.space or DEFAULT_SPACE)
        space = cls(plain, tuple(_parameter(key, value) for key, value in wanted.items()))
        space._check_values()
        space._check_variant(config)
        return space

    def draw(self, trial: Trial) -> dict[str, Any]:
        """The trial's value of every key."""
        return self.values({parameter.key: parameter.suggest(trial) for parameter in self.parameters})

    def suggest(self, trial: Trial) -> None:
        """Draws every key; the study knows what."""
        for parameter in self.parameters:
            parameter.suggest(trial)

    def values(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Plain values of what the study knows of a trial."""
        return {parameter.key: parameter.value(stored[parameter.key]) for parameter in self.parameters}

    def merged(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The run's tables with these values in them."""
        plain = copy.deepcopy(dict(self.plain))
        for key, value in values.items():
            *tables, last = key.split(".")
            target = plain
            for table in tables:
                target = target.setdefault(table, {})
            target[last] = copy.deepcopy(value)
        return plain

    def config(self, values: Mapping[str, Any]) -> RunConfig:
        """The configuration that these values make.

        Raises:
            ConfigError: if they do not go together.
        """
        return from_plain(RunConfig, self.merged(values), where="config")

    def to_plain(self) -> list[dict[str, Any]]:
        """The parameters as JSON values."""
        return [dataclasses.asdict(parameter) for parameter in self.parameters]

    def _check_values(self) -> None:
        random = np.random.default_rng(0)
        for parameter in self.parameters:
            for value in parameter.probes:
                problem = self._problem(parameter.key, value, random)
                if problem is not None:
                    raise _wrong(parameter.key, "values that the configuration takes", value, str(problem))

    def _check_variant(self, config: RunConfig) -> None:
        """Refuses a key that the kind of network which trials train sets for itself: every trial would be the same."""
        for variant in config.ensemble.variants[:1]:
            fixed = {f"network.{name}" for name in variant.network} | {f"training.{name}" for name in variant.training}
            for parameter in self.parameters:
                if parameter.key in fixed:
                    raise ConfigError(
                        "tune.space must hold keys that the first of ensemble.variants leaves open, got "
                        f"{parameter.key}; remove it here or there"
                    )

    def _problem(self, key: str, value: Any, random: np.random.Generator) -> ConfigError | None:
        """Why no configuration takes the value; None where one does, with whatever the other keys draw."""
        try:
            self.config({key: value})
            return None
        except ConfigError as error:
            problem = error
        for _ in range(COMBINATIONS):
            others = {p.key: p.probes[int(random.integers(len(p.probes)))] for p in self.parameters}
            try:
                self.config(others | {key: value})
                return None
            except ConfigError:
                continue
        return problem


def _flat(space: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys, whether the file quotes them or makes tables of them."""
    found: dict[str, Any] = {}
    for name, value in space.items():
        key = f"{prefix}{name}"
        nested = isinstance(value, Mapping) and not {"low", "high"} & set(value)
        found |= _flat(value, f"{key}.") if nested else {key: value}
    return found


def _parameter(key: str, wanted: Any) -> Choice | Span:
    kind = _field_type(key)
    if isinstance(wanted, list):
        return Choice(key, tuple(wanted))
    if not isinstance(wanted, Mapping):
        raise _wrong(key, "a list of choices or a table with low and high", wanted, "write one of the two")
    unknown = set(wanted) - {"low", "high", "log", "step", "integer"}
    numbers = [v for k, v in wanted.items() if k in ("low", "high", "step")]
    sound = all(isinstance(v, int | float) and not isinstance(v, bool) for v in numbers)
    flags = all(isinstance(v, bool) for k, v in wanted.items() if k in ("log", "integer"))
    if unknown or not {"low", "high"} <= set(wanted) or not sound or not flags:
        raise _wrong(
            key, "a table of the numbers low, high, step and the flags log, integer", dict(wanted), "correct it"
        )
    if kind not in (int, float):
        raise _wrong(key, "a list of choices, as the key is no number", dict(wanted), "list them")
    return Span(key, **{**wanted, "integer": kind is int or wanted.get("integer", False)})


def _field_type(key: str) -> Any:
    """Type of a configuration key."""
    table, *rest = key.split(".")
    if table not in TABLES or not rest:
        raise ConfigError(
            f"tune.space must hold keys of {', '.join(TABLES)}, got {key}; remove it: a search changes neither the "
            "task nor which patients are held out"
        )
    kind: Any = typing.get_type_hints(RunConfig)[table]
    for name in rest:
        hints = typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
        if name not in hints:
            known = ", ".join(sorted(hints)) or "none"
            raise ConfigError(f"tune.space must hold keys of the configuration, got {key}; {table} has {known}")
        kind = hints[name]
    return kind


def _whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-9 * max(1.0, abs(number))


def _wrong(key: str, expected: str, value: Any, remedy: str) -> ConfigError:
    return ConfigError(f"tune.space.{key} must be {expected}, got {value!r}; {remedy}")
