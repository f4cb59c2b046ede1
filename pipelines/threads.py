"""CPU threads of PyTorch for the length of a block: a run's choice in, the process's own setting back afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Computes on this many threads within the block.

    The number decides the order of sums and so the last digits of weights: a run must not leave it to the next run
    of the process.

    Args:
        threads: at least 1; 0 leaves the setting of the process: one a core unless `OMP_NUM_THREADS` says otherwise.
    """
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
