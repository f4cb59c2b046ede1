"""Products of many rows by one matrix, as fast as the installed libraries can: whole, four rows at a time, or by torch.

A BLAS packs the matrix anew for every larger product, which costs more than the product itself where rows are few; for
four rows some read it in place, and torch's own BLAS packs little. Which is fastest differs between machines and
matrices, so it is measured once. Ways may differ in the last digit, as they do between one row and many already.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from models.engine_cells import Array

BLOCK = 4
_TRIAL_ROWS = (4, 8, 16, 64)
_REPEATS = 7
# What a way may differ from numpy's, beside the largest number of the result.
_CLOSE = 1e-5


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
        self._shared = torch.from_numpy(self.weight)
        self._ways = [(n, self._fastest(n)) for n in _TRIAL_ROWS]

    def __call__(self, rows: Array) -> Array:
        """(members, rows, columns) or (rows, columns)."""
        n = rows.shape[-2]
        if n >= BLOCK:
            for most, way in self._ways:
                if n <= most:
                    return way(rows)
            return self._ways[-1][1](rows)
        return self._whole(rows)

    def _whole(self, rows: Array) -> Array:
        found: Array = np.matmul(rows, self.weight)
        return found

    def _blocks(self, rows: Array) -> Array:
        n, inputs = rows.shape[-2:]
        if n % BLOCK:
            return self._whole(rows)
        blocks = rows.reshape(*rows.shape[:-2], n // BLOCK, BLOCK, inputs)
        found: Array = np.matmul(blocks, self._by_block)
        return found.reshape(*rows.shape[:-2], n, -1)

    def _by_torch(self, rows: Array) -> Array:
        given = torch.from_numpy(rows)
        found: Array = (torch.mm if given.dim() == 2 else torch.bmm)(given, self._shared).numpy()
        return found

    def _fastest(self, n: int) -> Callable[[Array], Array]:
        """The way of least time for so many rows, among those that agree with numpy's."""
        rows = np.random.default_rng(0).standard_normal((*self.weight.shape[:-2], n, self.weight.shape[-2]))
        given = rows.astype(np.float32)
        expected = self._whole(given)
        bound = _CLOSE * float(np.max(np.abs(expected), initial=1.0))
        ways = (self._whole, self._blocks, self._by_torch)
        holding = [way for way in ways if np.max(np.abs(way(given) - expected), initial=0.0) <= bound]
        return min(holding, key=lambda way: _least_s(way, given))


def _least_s(way: Callable[[Array], Array], rows: Array) -> float:
    least = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        way(rows)
        least = min(least, time.perf_counter() - began)
    return least
