"""Stays in, the same stays without a random share of their observations out, and with the same time steps.

Whole cells are taken out: all observations of one channel in one time step. As they are gone before encoding, no
feature of any step, running statistics among them, can know them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoding
from models.grid import Grid, GridKind, Moments
from models.series import Rows
from models.stay import Floats, Ints, Stays


def mask_stays(stays: Stays, encoding: Encoding, *, share: float, seed: int, notes: bool) -> Stays:
    """The stays with about `share` of their cells taken out; which ones depends on the seed, never on values.

    A cell stays where its time step would be gone without it: on the event grid the last one of every step, on a
    fixed grid that of a stay's first and last step. Of observations that the encoding does not use, none is taken.

    Args:
        stays: the training stays.
        encoding: what will encode them.
        share: of the cells, from 0 to below 1.
        seed: of the choice.
        notes: whether notes make time steps.
    """
    used, row_of_used = _used_rows(stays, encoding)
    grid, rows = _grid(stays, encoding, notes=notes)
    channels = max(len(encoding.channels.names), 1)
    cells, cell_of_row = np.unique(grid.row_step * channels + rows.channel, return_inverse=True)
    draw = np.random.default_rng((seed, 0x6D61736B)).random(len(cells))
    out = (draw < share) & (draw < _kept_draw(cells // channels, draw, grid, encoding))
    taken = np.zeros(len(stays.time_min), dtype=bool)
    taken[used] = out[cell_of_row[row_of_used]]
    return _without(stays, taken)


def _used_rows(stays: Stays, encoding: Encoding) -> tuple[NDArray[np.bool_], Ints]:
    """Which observations the encoding uses, and to which of its `Rows` each of them went."""
    numbers = encoding.channels.numbers
    translation = np.array([numbers.get(name, -1) for name in stays.channels], dtype=np.int64)
    own = translation[stays.channel] if len(translation) else np.zeros(0, dtype=np.int64)
    used = own >= 0
    changes = np.zeros(int(used.sum()), dtype=bool)
    for column in (stays.stay_of_row(), stays.time_min, own):
        changes[1:] |= np.diff(column[used]) != 0
    return used, np.cumsum(changes)


def _grid(stays: Stays, encoding: Encoding, *, notes: bool) -> tuple[Grid, Rows]:
    rows = Rows.of(stays, encoding.channels.numbers)
    none = np.zeros(0, dtype=np.int64)
    moments = Moments(stays.stay_of_note(), stays.note_time_min) if notes else Moments(none, none)
    return encoding.grid.build(stays.end_min, Moments(rows.stay, rows.minute), moments), rows


def _kept_draw(step: Ints, draw: Floats, grid: Grid, encoding: Encoding) -> Floats:
    """(cells,) the highest draw of the cell's step where one of its cells must stay; above every draw elsewhere."""
    if not len(step):
        return draw
    begins = np.flatnonzero(np.diff(step, prepend=-1))
    highest = np.repeat(np.maximum.reduceat(draw, begins), np.diff(begins, append=len(step)))
    if encoding.grid.kind is GridKind.EVENT:
        return highest
    edges = np.zeros(int(grid.step_offsets[-1]), dtype=bool)
    edges[grid.step_offsets[:-1]] = edges[grid.step_offsets[1:] - 1] = True
    return np.where(edges[step], highest, 1.0)


def _without(stays: Stays, taken: NDArray[np.bool_]) -> Stays:
    kept = ~taken
    return replace(
        stays,
        offsets=np.concatenate([[0], np.cumsum(kept)])[stays.offsets].astype(np.int64),
        time_min=stays.time_min[kept],
        channel=stays.channel[kept],
        value=stays.value[kept],
    )
