"""Boosted trees row by row, without what LightGBM's Python package does around every call.

A prediction of one row takes LightGBM a few microseconds, and its Python package several times as many to prepare. So
the library's own call for single rows is made directly; where the package does not let it, its prediction is.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

from models.engine_state import Rows
from models.stay import Floats
from models.trees import TreeMember

# Of LightGBM's C API: numbers of 32 bits, and a raw score from the first tree to the last.
_FLOAT32, _RAW_SCORE, _FIRST, _ALL = 0, 1, 0, -1
# Many rows at once are as fast by the package.
_FEW = 32


class TreeRows:
    """Logits of a member of trees.

    Args:
        member: the trees.
    """

    def __init__(self, member: TreeMember) -> None:
        self._member = member
        self._single = _single_rows(member)

    def __call__(self, features: Rows) -> Floats:
        """(n, outputs) logits of (n, width) features."""
        if self._single is None or len(features) > _FEW:
            return self._member.predict(features)
        return self._single(features)


class _SingleRows:
    """LightGBM's prediction of single rows, prepared once; for one thread at a time."""

    def __init__(self, library: Any, boosters: list[Any], width: int, outputs: int) -> None:
        self._library, self._boosters, self._outputs = library, boosters, outputs
        self._length = ctypes.c_int64()
        self._length_pointer = ctypes.byref(self._length)
        self._prepared = [self._prepare(booster, width) for booster in boosters]
        self._step = 8 * (outputs // len(boosters))

    def _prepare(self, booster: Any, width: int) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        failed = self._library.LGBM_BoosterPredictForMatSingleRowFastInit(
            booster._handle,
            ctypes.c_int(_RAW_SCORE),
            ctypes.c_int(_FIRST),
            ctypes.c_int(_ALL),
            ctypes.c_int(_FLOAT32),
            ctypes.c_int32(width),
            b"num_threads=1",
            ctypes.byref(handle),
        )
        if failed:
            raise AttributeError("single rows")
        return handle

    def __call__(self, features: Rows) -> Floats:
        rows = np.ascontiguousarray(features, dtype=np.float32)
        logits = np.empty((len(rows), self._outputs))
        predict = self._library.LGBM_BoosterPredictForMatSingleRowFast
        source, target = rows.ctypes.data, logits.ctypes.data
        for _ in range(len(rows)):
            for prepared in self._prepared:
                failed = predict(prepared, ctypes.c_void_p(source), self._length_pointer, ctypes.c_void_p(target))
                if failed:
                    raise RuntimeError("LightGBM predicted no row")
                target += self._step
            source += rows.strides[0]
        return logits

    def __del__(self) -> None:
        for prepared in getattr(self, "_prepared", ()):
            self._library.LGBM_FastConfigFree(prepared)


def _single_rows(member: TreeMember) -> _SingleRows | None:
    """None where the installed LightGBM keeps library or handle elsewhere."""
    boosters = list(member._boosters)
    module = sys.modules.get(type(boosters[0]).__module__)
    try:
        return _SingleRows(module._LIB, boosters, member.width, member.outputs)  # type: ignore[union-attr]
    except AttributeError:
        return None
