"""Boosted trees row by row, without what LightGBM's Python package does around every call.

A prediction of one row takes LightGBM a few microseconds, and an ordinary call several times as many to prepare. So
the library's own call for single rows is made, which is prepared once.
"""

from __future__ import annotations

import ctypes

import numpy as np

from models.engine_state import Rows
from models.stay import Floats
from models.tree_library import ALL, FIRST, FLOAT32, ONE_THREAD, RAW_SCORE, Booster, LibraryError, library
from models.trees import TreeMember

# Many rows at once are as fast by the ordinary call.
_FEW = 32


class TreeRows:
    """Logits of a member of trees.

    Args:
        member: the trees.
    """

    def __init__(self, member: TreeMember) -> None:
        self._member = member
        self._single = _SingleRows(member)

    def __call__(self, features: Rows) -> Floats:
        """(n, outputs) logits of (n, width) features."""
        if len(features) > _FEW:
            return self._member.predict(features)
        return self._single(features)


class _SingleRows:
    """LightGBM's prediction of single rows, prepared once; for one thread at a time."""

    def __init__(self, member: TreeMember) -> None:
        self._library, self._boosters, self._outputs = library(), list(member.boosters), member.outputs
        self._length = ctypes.c_int64()
        self._length_pointer = ctypes.byref(self._length)
        self._prepared = [self._prepare(booster) for booster in self._boosters]
        self._step = 8 * (member.outputs // len(self._boosters))

    def _prepare(self, booster: Booster) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        failed = self._library.LGBM_BoosterPredictForMatSingleRowFastInit(
            booster.handle,
            ctypes.c_int(RAW_SCORE),
            ctypes.c_int(FIRST),
            ctypes.c_int(ALL),
            ctypes.c_int(FLOAT32),
            ctypes.c_int32(booster.features),
            ONE_THREAD,
            ctypes.byref(handle),
        )
        if failed:
            raise LibraryError("LightGBM must prepare single rows, got a refusal")
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
                    raise LibraryError("LightGBM must predict a row, got a refusal")
                target += self._step
            source += rows.strides[0]
        return logits

    def __del__(self) -> None:
        for prepared in getattr(self, "_prepared", ()):
            self._library.LGBM_FastConfigFree(prepared)
