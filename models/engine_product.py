"""Products of many rows by one matrix, as fast as the installed BLAS can: whole, or four rows at a time.

A BLAS packs the matrix anew for every larger product, which costs more than the product itself where rows are few; for
four rows some read it in place. Which is faster differs between machines, so it is measured once. Four at a time is
only ever used where it gives the same bits: what a stay scores must not hang on how many others share its batch.
"""

from __future__ import annotations

import time

import numpy as np

from models.engine_cells import Array

BLOCK = 4
_TRIAL_ROWS = (16, 64)
_REPEATS = 5


def padded_rows(n: int) -> int:
    """Rows that `n` stays are computed as: from four on whole blocks."""
    return n if n <= BLOCK else -(-n // BLOCK) * BLOCK


class Product:
    """`rows @ weight` for (members, rows, inputs) or (rows, inputs).

    Args:
        weight: (members, inputs, columns) or (inputs, columns).
    """

    def __init__(self, weight: Array) -> None:
        self.weight = np.ascontiguousarray(weight)
        self._by_block = self.weight[..., None, :, :]
        self._most = max((n for n in _TRIAL_ROWS if self._faster_by_block(n)), default=0)

    def __call__(self, rows: Array) -> Array:
        """(members, rows, columns) or (rows, columns)."""
        n = rows.shape[-2]
        if BLOCK < n <= self._most and n % BLOCK == 0:
            return self._blocks(rows)
        whole: Array = np.matmul(rows, self.weight)
        return whole

    def _blocks(self, rows: Array) -> Array:
        n, inputs = rows.shape[-2:]
        blocks = rows.reshape(*rows.shape[:-2], n // BLOCK, BLOCK, inputs)
        found: Array = np.matmul(blocks, self._by_block)
        return found.reshape(*rows.shape[:-2], n, -1)

    def _faster_by_block(self, n: int) -> bool:
        shape = (*self.weight.shape[:-2], n, self.weight.shape[-2])
        rows = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        ways = (lambda: np.matmul(rows, self.weight), lambda: self._blocks(rows))
        if not np.array_equal(ways[0](), ways[1]()):
            return False
        spent = []
        for way in ways:
            best = float("inf")
            for _ in range(_REPEATS):
                began = time.perf_counter()
                way()
                best = min(best, time.perf_counter() - began)
            spent.append(best)
        return spent[1] < spent[0]
