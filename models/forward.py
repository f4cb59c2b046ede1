"""From encoded stays to chunks and logits: ragged time steps in, the network's output at every step out.

Memory does not grow with a stay's length: chunks are cut one at a time, the state is carried between
them without a gradient, and pages of memory-mapped features are given back after use.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.batch import Chunk, NoteBatch
from models.encoded import Encoded
from models.network import RecurrentNetwork
from models.stay import Ints


@dataclass(frozen=True)
class Cut:
    """Where the rows of a chunk lie among the time steps of `Encoded`.

    Args:
        first: (batch,) first time step of each row.
        count: (batch,) number of time steps of each row; 0 = the row is all padding.
        reset: (batch,) bool, True = a stay begins here.
    """

    first: Ints
    count: Ints
    reset: NDArray[np.bool_]

    @property
    def width(self) -> int:
        """Number of time steps of the longest row, at least 1."""
        return max(int(self.count.max(initial=0)), 1)

    def steps(self) -> tuple[Ints, NDArray[np.bool_]]:
        """Time step of every cell of the rectangle (batch, width), and which cells are not padding."""
        offset = np.arange(self.width, dtype=np.int64)
        valid = offset < self.count[:, None]
        return np.where(valid, self.first[:, None] + offset, 0), valid


def cut_chunk(encoded: Encoded, cut: Cut) -> Chunk:
    """The chunk of these rows; padding is zero."""
    step, valid = cut.steps()
    features = gather(encoded.features, step, valid)
    return Chunk(
        torch.from_numpy(features),
        torch.from_numpy(valid),
        torch.from_numpy(np.ascontiguousarray(cut.reset)),
        _cut_notes(encoded, cut),
    )


def gather(rows: NDArray[Any], step: Ints, valid: NDArray[np.bool_]) -> NDArray[Any]:
    """(batch, time, columns) rows at these steps, zero where not valid; mapped pages are given back."""
    if not len(rows):
        return np.zeros((*step.shape, rows.shape[1]), dtype=rows.dtype)
    taken = np.asarray(np.take(rows, step.ravel(), axis=0)).reshape(*step.shape, rows.shape[1])
    if not valid.all():
        taken[~valid] = 0
    release_pages(rows)
    return taken


def release_pages(rows: NDArray[Any]) -> None:
    """Gives back the pages that a memory-mapped array holds in memory; the file keeps the values."""
    held: Any = rows
    while held is not None and not isinstance(held, mmap.mmap):
        held = getattr(held, "base", None)
    if held is not None and hasattr(mmap, "MADV_DONTNEED") and isinstance(rows, np.memmap) and rows.mode == "r":
        held.madvise(mmap.MADV_DONTNEED)


def walk(encoded: Encoded, stays: Ints, *, truncation_length: int) -> Iterator[Cut]:
    """Cuts of consecutive chunks of these stays, in step from their beginnings.

    Args:
        encoded: the time steps.
        stays: indices of the stays, longest first; rows of stays that have ended are dropped from the end.
        truncation_length: time steps of a chunk.
    """
    first, lengths = encoded.step_offsets[stays], encoded.lengths[stays]
    for start in range(0, int(lengths.max(initial=0)), truncation_length):
        active = lengths > start
        count = np.minimum(lengths[active] - start, truncation_length)
        yield Cut(first[active] + start, count, np.full(int(active.sum()), start == 0))


def score_logits(
    network: RecurrentNetwork,
    encoded: Encoded,
    *,
    rows: int = 256,
    truncation_length: int = 64,
    device: torch.device | str | None = None,
) -> NDArray[Any]:
    """Logits of every time step of every stay, in evaluation mode and without a gradient.

    Args:
        network: left in the mode in which it came.
        encoded: the stays' time steps.
        rows: stays that are scored at once; stays of similar length go together.
        truncation_length: time steps of a chunk. A bidirectional network reads whole stays instead.
        device: where to compute; by default where the network is.

    Returns:
        (steps, outputs) in the network's precision.
    """
    weight = network.head.weight
    where = weight.device if device is None else torch.device(device)
    was_training = network.training
    network.to(where).eval()
    kind = torch.zeros(0, dtype=weight.dtype).numpy().dtype
    logits = np.zeros((int(encoded.step_offsets[-1]), network.outputs), dtype=kind)
    order = np.argsort(-encoded.lengths, kind="stable")
    length = truncation_length if network.streams else max(int(encoded.lengths.max(initial=1)), 1)
    with torch.inference_mode():
        for begin in range(0, len(order), rows):
            _score_group(network, encoded, order[begin : begin + rows], length, logits)
    network.train(was_training)
    return logits


def _score_group(
    network: RecurrentNetwork, encoded: Encoded, stays: Ints, truncation_length: int, logits: NDArray[Any]
) -> None:
    device = network.head.weight.device
    state = network.initial_state(len(stays))
    for cut in walk(encoded, stays, truncation_length=truncation_length):
        if len(cut.first) < state.batch:
            state = state.select(torch.arange(len(cut.first), device=device))
        output, state = network(cut_chunk(encoded, cut).to(device), state)
        step, valid = cut.steps()
        logits[step[valid]] = output.cpu().numpy()[valid]


def hidden_states(network: RecurrentNetwork, encoded: Encoded, stay: int) -> NDArray[Any]:
    """(layers, time, width) hidden state of every layer at every time step of one stay."""
    device = network.head.weight.device
    cut = Cut(encoded.step_offsets[[stay]], encoded.lengths[[stay]], np.ones(1, dtype=bool))
    chunk = cut_chunk(encoded, cut).to(device)
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        state = network.begin(chunk, network.initial_state(1))
        memory = state.tensors[: len(network.config.cell.memory_names)]
        outputs, _ = network.stack(network.project(network.inputs(chunk)), memory, chunk.valid)
    network.train(was_training)
    return np.stack([o[0].float().cpu().numpy() for o in outputs])


def _cut_notes(encoded: Encoded, cut: Cut) -> NoteBatch | None:
    """The notes within the rows of a chunk, found by bisection in the ascending `note_step`."""
    if not len(encoded.note_step):
        return None
    begin = np.searchsorted(encoded.note_step, cut.first)
    number = np.searchsorted(encoded.note_step, cut.first + cut.count) - begin
    if not number.sum():
        return None
    row = np.repeat(np.arange(len(number)), number)
    note = np.arange(int(number.sum())) + np.repeat(begin - (np.cumsum(number) - number), number)
    lengths = np.diff(encoded.note_offsets)[note]
    place = np.arange(int(lengths.max()))
    inside = place < lengths[:, None]
    where = np.where(inside, encoded.note_offsets[note][:, None] + place, 0)
    tokens = np.where(inside, encoded.tokens[where], 0).astype(np.int64)
    step = encoded.note_step[note] - cut.first[row]
    return NoteBatch(*(torch.from_numpy(a.astype(np.int64)) for a in (tokens, lengths, row, step)))
