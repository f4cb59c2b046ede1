"""NumPy arrays and texts in, Arrow arrays out, and back.

pyarrow's own conversions import pandas, whatever they convert: that alone would take a third of the time in
which `sequela prepare` reads 4,000 stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_TYPES = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
}


def numbers_to_arrow(values: NDArray[Any]) -> pa.Array:
    """An array without nulls; NaN stays NaN.

    Example:
        >>> numbers_to_arrow(np.arange(3)).to_pylist()
        [0, 1, 2]
    """
    contiguous = np.ascontiguousarray(values)
    buffers = [None, pa.py_buffer(contiguous)]
    return pa.Array.from_buffers(_TYPES[contiguous.dtype.name], len(contiguous), buffers)


def texts_to_arrow(texts: Sequence[str]) -> pa.Array:
    """Texts without nulls.

    Example:
        >>> texts_to_arrow(["a", "痛み", ""]).to_pylist()
        ['a', '痛み', '']
    """
    encoded = [text.encode("utf-8") for text in texts]
    edges = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(encoded), buffers)


def numbers_from_arrow(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """A column's numbers as an array of their own.

    Raises:
        ValueError: if one is null.
    """
    if column.null_count:
        raise ValueError("column must hold no nulls")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    arrays = [np.from_dlpack(chunk) for chunk in chunks if len(chunk)]
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=column.type.to_pandas_dtype())
