"""Static values of stays in, features out: standard scores and one-hot categories, each with a missing flag."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.channels import StaticKind, StaticVariable
from models.errors import DataError
from models.stay import Floats, Stays


@dataclass(frozen=True)
class StaticEncoding:
    """Fitted encoding of static variables.

    Args:
        variables: the variables, in the order of the features.
        mean: mean over the training stays (numeric); 0 otherwise.
        std: standard deviation (numeric); 1 where it is undefined.
        known: number of training stays that have the variable; one with 0 counts as missing ever after.
        clip: bound of the absolute standard score.
    """

    variables: tuple[StaticVariable, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    known: tuple[int, ...]
    clip: float

    @classmethod
    def fit(cls, stays: Stays, variables: tuple[StaticVariable, ...], clip: float) -> StaticEncoding:
        """Fits on the training stays."""
        values = aligned(stays, variables)
        present = ~np.isnan(values)
        known = present.sum(axis=0)
        numeric = np.array([v.kind is StaticKind.NUMERIC for v in variables], dtype=bool)
        mean = np.where(present, values, 0.0).sum(axis=0) / np.maximum(known, 1)
        square = np.where(present, (values - mean) ** 2, 0.0).sum(axis=0) / np.maximum(known, 1)
        std = np.sqrt(square)
        std = np.where(numeric & (std > 1e-9 * np.maximum(np.abs(mean), 1.0)), std, 1.0)
        return cls(
            variables=variables,
            mean=tuple(np.where(numeric, mean, 0.0).tolist()),
            std=tuple(std.tolist()),
            known=tuple(known.tolist()),
            clip=clip,
        )

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.feature_names)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        names: list[str] = []
        for variable in self.variables:
            if variable.kind is StaticKind.NUMERIC:
                names.append(f"static.{variable.name}")
            names.extend(f"static.{variable.name}.{category}" for category in variable.categories)
            names.append(f"static.{variable.name}.missing")
        return tuple(names)

    def apply(self, stays: Stays) -> Floats:
        """(n, width) features of the stays; a variable that the stays do not have is missing.

        Raises:
            DataError: for a category's index outside the variable's categories.
        """
        values = aligned(stays, self.variables)
        columns: list[Floats] = []
        for i, variable in enumerate(self.variables):
            value = values[:, i] if self.known[i] else np.full(len(stays), np.nan)
            missing = np.isnan(value)
            if variable.kind is StaticKind.NUMERIC:
                score = np.clip((value - self.mean[i]) / self.std[i], -self.clip, self.clip)
                columns.append(np.where(missing, 0.0, score)[:, None])
            else:
                columns.append(_one_hot(variable, value))
            columns.append(missing.astype(np.float64)[:, None])
        return np.concatenate(columns, axis=1) if columns else np.zeros((len(stays), 0))


def aligned(stays: Stays, variables: tuple[StaticVariable, ...]) -> Floats:
    """(n, variables) static values by name; NaN where the stays do not have the variable."""
    column = {name: i for i, name in enumerate(stays.static_names)}
    values = np.full((len(stays), len(variables)), np.nan)
    for i, variable in enumerate(variables):
        if variable.name in column:
            values[:, i] = stays.static[:, column[variable.name]]
    return values


def _one_hot(variable: StaticVariable, index: Floats) -> Floats:
    present = index[~np.isnan(index)]
    if np.any((present < 0) | (present >= len(variable.categories)) | (present != np.floor(present))):
        raise DataError(
            f"static {variable.name} must be an index of its {len(variable.categories)} categories, got another "
            "number; store categories as their index"
        )
    flags: Floats = (index[:, None] == np.arange(len(variable.categories))).astype(np.float64)
    return flags
