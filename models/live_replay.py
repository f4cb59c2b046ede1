"""Whole stays in, what a live stay's record holds of their encoding out: for states that are made anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models import running
from models.encoded import Encoded
from models.encoding import Encoding
from models.live_record import Records
from models.note_reader import NoteReader
from models.series import Series
from models.stay import Ints, Stays

# Stays that are encoded and replayed together.
BLOCK_STAYS = 256


@dataclass(frozen=True)
class Block:
    """Encoded stays, and the series of which their features were made.

    Args:
        encoded: the time steps.
        series: the observations.
    """

    encoded: Encoded
    series: Series


def stay_blocks(stays: Stays) -> Iterator[Stays]:
    """The stays, some at a time."""
    if len(stays) <= BLOCK_STAYS:
        yield stays
        return
    for begin in range(0, len(stays), BLOCK_STAYS):
        yield stays.select(range(begin, min(begin + BLOCK_STAYS, len(stays))))


def encode_block(encoding: Encoding, stays: Stays, tokenizer: NoteReader | None) -> Block:
    """Encodes whole stays and keeps their series."""
    rows, grid = encoding.lay(stays, notes=tokenizer is not None)
    encoded = encoding.encode(stays, tokenizer=tokenizer, laid=(rows, grid))
    return Block(encoded, Series.of(rows, grid.row_step, len(stays), encoding.channels.standardiser))


def encoder_records(encoding: Encoding, block: Block, steps: Ints, records: Records) -> None:
    """Writes what the records hold of the encoding after the first `steps` (n,) time steps of every stay."""
    encoded, series = block.encoded, block.series
    first, begun = encoded.step_offsets[:-1], steps > 0
    records["stamp"][begun] = encoded.time_min[(first + steps - 1)[begun]]
    records["since"][begun] = encoded.time_min[first[begun], None]
    if not len(series.step):
        return
    stay = np.repeat(np.arange(len(steps)), np.diff(series.stay_start))
    within = series.step < (first + steps)[stay]
    # Within a series steps ascend, so those that count stand first.
    counted = np.add.reduceat(within, series.starts[:-1], dtype=np.int64)
    last = (series.starts[:-1] + counted - 1)[counted > 0]
    starts = np.concatenate([[0], np.cumsum(counted[counted > 0])])
    statistics = running.final(starts, series.minute[within], series.score[within])
    at = (stay[last], series.channel[last])
    records["since"][at] = encoded.time_min[series.step[last]]
    records["statistics"][at] = statistics.T
    records["summary"][at] = encoding.channels.summaries(statistics, series.channel[last])
