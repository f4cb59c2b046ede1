"""LightGBM's model text in, its raw scores of rows out, by the library itself.

LightGBM's Python package loads pandas, SciPy and scikit-learn, which cost a service a second at start and 150 MiB for
ever, although scoring needs none of them. So the package is only asked where its library lies; the calls below are
LightGBM's C API.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.stay import Floats

# Of LightGBM's C API: types of numbers, a raw score, and from the first tree to the last.
FLOAT32, FLOAT64, RAW_SCORE, FIRST, ALL = 0, 1, 1, 0, -1
ONE_THREAD = b"num_threads=1"
_ROW_MAJOR = 1
_FILES = ("lib_lightgbm.so", "lib_lightgbm.dylib", "lib_lightgbm.dll")


class LibraryError(Exception):
    """Raised where LightGBM refuses a call; holds no text of the model."""


@cache
def library() -> Any:
    """LightGBM's library.

    Raises:
        ImportError: if LightGBM is not installed.
    """
    spec = importlib.util.find_spec("lightgbm")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    for place in places:
        for folder in ("lib", "", "bin"):
            for file in _FILES:
                path = Path(place, folder, file)
                if path.is_file():
                    return ctypes.CDLL(str(path))
    raise ImportError("lightgbm")


class Booster:
    """One model.

    Args:
        text: LightGBM's model text, which `models.tree_text` has found sound: LightGBM trusts it.

    Raises:
        ImportError: if LightGBM is not installed.
        LibraryError: if the text is no model.
    """

    def __init__(self, text: str) -> None:
        self._library, self._text = library(), text
        self.handle = ctypes.c_void_p()
        iterations = ctypes.c_int()
        self._call("BoosterLoadModelFromString", text.encode(), ctypes.byref(iterations), ctypes.byref(self.handle))
        self.features, self.outputs = self._number("GetNumFeature"), self._number("NumModelPerIteration")

    def __reduce__(self) -> tuple[type[Booster], tuple[str]]:
        """A copy, also in another process, is made from the text."""
        return Booster, (self._text,)

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._library.LGBM_BoosterFree(self.handle)

    def predict(self, rows: NDArray[Any]) -> Floats:
        """Raw scores (n, outputs) of rows (n, features), each by itself and on one thread."""
        kept = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)
        kept = np.ascontiguousarray(kept)
        found = np.empty((len(kept), self.outputs))
        self._call(
            "BoosterPredictForMat",
            self.handle,
            ctypes.c_void_p(kept.ctypes.data),
            ctypes.c_int(FLOAT32 if kept.dtype == np.float32 else FLOAT64),
            ctypes.c_int32(kept.shape[0]),
            ctypes.c_int32(kept.shape[1]),
            ctypes.c_int(_ROW_MAJOR),
            ctypes.c_int(RAW_SCORE),
            ctypes.c_int(FIRST),
            ctypes.c_int(ALL),
            ONE_THREAD,
            ctypes.byref(ctypes.c_int64()),
            ctypes.c_void_p(found.ctypes.data),
        )
        return found

    def _number(self, name: str) -> int:
        number = ctypes.c_int()
        self._call(f"Booster{name}", self.handle, ctypes.byref(number))
        return number.value

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, f"LGBM_{name}")(*arguments):
            raise LibraryError(f"LightGBM must accept {name}, got a refusal")
