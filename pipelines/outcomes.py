"""Outcomes of a cohort as columns: one row a stay and outcome, with its time where it has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.stay import Floats, Ints

if TYPE_CHECKING:  # a third of the time that `sequela prepare` takes would go into importing it
    import pandas as pd


@dataclass(frozen=True)
class Outcomes:
    """Rows of known outcomes, sorted by (stay, outcome); a stay without a row is unlabelled.

    Args:
        names: names of the outcomes.
        stay: (rows,) index of the stay.
        code: (rows,) index into `names`.
        time_min: (rows,) whole minute of the event since admission; NaN where there is none.
        value: (rows,) finite: 0 or 1, a class index, or a number.
    """

    names: tuple[str, ...]
    stay: Ints
    code: NDArray[np.int16]
    time_min: Floats
    value: Floats

    def __post_init__(self) -> None:
        """Refuses values that are not finite and two rows of one stay and outcome; sorts the rows."""
        if not len(self.stay) == len(self.code) == len(self.time_min) == len(self.value):
            raise DataError("outcome columns must be of one length, got several lengths; give columns that fit")
        if not np.isfinite(self.value).all():
            raise DataError("outcome value must be finite, got NaN or infinity; leave out rows that are not known")
        order = np.lexsort((self.code, self.stay))
        for name in ("stay", "code", "time_min", "value"):
            object.__setattr__(self, name, getattr(self, name)[order])
        if np.any((np.diff(self.stay) == 0) & (np.diff(self.code) == 0)):
            raise DataError("outcomes must hold one row a stay and outcome, got two; remove one of them")

    @classmethod
    def from_columns(cls, columns: Mapping[str, tuple[Floats, Floats]]) -> Outcomes:
        """From (value, time_min) of every stay by outcome name; NaN values are left out.

        Example:
            >>> nan = np.nan
            >>> Outcomes.from_columns({"death": (np.array([1.0, nan, 0.0]), np.array([90.0, nan, nan]))}).stay.tolist()
            [0, 2]
        """
        names = tuple(sorted(columns))
        rows = [np.flatnonzero(~np.isnan(columns[name][0])) for name in names]
        return cls(
            names=names,
            stay=np.concatenate([np.zeros(0, dtype=np.int64), *rows]),
            code=np.repeat(np.arange(len(names), dtype=np.int16), [len(r) for r in rows]),
            time_min=np.concatenate([np.zeros(0), *(columns[n][1][r] for n, r in zip(names, rows, strict=True))]),
            value=np.concatenate([np.zeros(0), *(columns[n][0][r] for n, r in zip(names, rows, strict=True))]),
        )

    @classmethod
    def from_rows(
        cls, stay: Sequence[int] | Ints, outcome: Sequence[str], time_min: Sequence[float] | Floats, value: Floats
    ) -> Outcomes:
        """From one entry a row: index of the stay, name of the outcome, minute (NaN = untimed) and value."""
        names = tuple(sorted(set(outcome)))
        code = {name: i for i, name in enumerate(names)}
        return cls(
            names=names,
            stay=np.asarray(stay, dtype=np.int64),
            code=np.array([code[name] for name in outcome], dtype=np.int16),
            time_min=np.asarray(time_min, dtype=np.float64),
            value=np.asarray(value, dtype=np.float64),
        )

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Outcomes:
        """From a table with the columns stay, outcome, time_min (NA = untimed) and value."""
        return cls.from_rows(
            frame["stay"].to_numpy(dtype=np.int64),
            [str(name) for name in frame["outcome"]],
            frame["time_min"].to_numpy(dtype=np.float64, na_value=np.nan),
            frame["value"].to_numpy(dtype=np.float64),
        )

    def frame(self) -> pd.DataFrame:
        """The table that `from_frame` reads: stay (int64), outcome (text), time_min (Int64), value (float64)."""
        import pandas as pd

        return pd.DataFrame(
            {
                "stay": self.stay,
                "outcome": np.array(self.names, dtype=object)[self.code],
                "time_min": pd.array(self.time_min, dtype="Float64").astype("Int64"),
                "value": self.value,
            }
        )
