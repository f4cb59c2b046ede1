"""From encoded stays to chunks and logits: ragged time steps in, the network's output at every step out.

Memory does not grow with a stay's length: chunks are cut one at a time, and the state is carried between
them without a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.batch import Chunk, NoteBatch
from models.cut import Cut, gather
from models.encoded import Encoded
from models.ensemble import Ensemble
from models.network import RecurrentNetwork
from models.state import State
from models.stay import Floats, Ints
from models.streaming import StreamingNetwork

Network = StreamingNetwork | Ensemble
# What gives the logits of a chunk, from the state before it, and the state after it.
_Read = Callable[[Chunk, State], tuple[torch.Tensor, State]]


def cut_chunk(encoded: Encoded, cut: Cut) -> Chunk:
    """The chunk of these rows; padding is zero."""
    _, valid = cut.steps()
    return Chunk(
        torch.from_numpy(gather(encoded.features, cut)),
        torch.from_numpy(valid),
        torch.from_numpy(np.ascontiguousarray(cut.reset)),
        _cut_notes(encoded, cut),
    )


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
    network: Network,
    encoded: Encoded,
    *,
    rows: int = 256,
    truncation_length: int = 64,
    device: torch.device | str | None = None,
) -> NDArray[Any]:
    """Logits of every time step of every stay, in evaluation mode and without a gradient.

    Args:
        network: it and each of its parts are left in the mode in which they came.
        encoded: the stays' time steps.
        rows: stays that are scored at once; stays of similar length go together.
        truncation_length: time steps of a chunk. A bidirectional network reads whole stays instead.
        device: where to compute; by default where the network is.

    Returns:
        (steps, outputs) in the network's precision; float64 for an ensemble.
    """
    precision = torch.float64 if isinstance(network, Ensemble) else _parameter(network).dtype
    logits = np.zeros((int(encoded.step_offsets[-1]), network.outputs), torch.zeros(0, dtype=precision).numpy().dtype)
    for cut, scored in score_chunks(network, encoded, rows=rows, truncation_length=truncation_length, device=device):
        step, valid = cut.steps()
        logits[step[valid]] = scored[valid]
    return logits


def score_members(
    ensemble: Ensemble,
    encoded: Encoded,
    *,
    rows: int = 256,
    truncation_length: int = 64,
    device: torch.device | str | None = None,
) -> Floats:
    """(steps, members, outputs) float64 logits of every member; arguments as of `score_logits`."""
    logits = np.zeros((int(encoded.step_offsets[-1]), len(ensemble), ensemble.outputs))
    for cut, scored in _chunks(ensemble, ensemble.member_logits, encoded, rows, truncation_length, device):
        step, valid = cut.steps()
        logits[step[valid]] = scored[valid]
    return logits


def score_chunks(
    network: Network,
    encoded: Encoded,
    *,
    rows: int = 256,
    truncation_length: int = 64,
    device: torch.device | str | None = None,
) -> Iterator[tuple[Cut, NDArray[Any]]]:
    """`score_logits` chunk by chunk: where its rows lie, and their logits (batch, time, outputs)."""
    return _chunks(network, network, encoded, rows, truncation_length, device)


def _chunks(
    network: Network,
    read: _Read,
    encoded: Encoded,
    rows: int,
    truncation_length: int,
    device: torch.device | str | None,
) -> Iterator[tuple[Cut, NDArray[Any]]]:
    # Each for itself: an ensemble that was just put together is in training mode, and its members are not.
    training = [part for part in network.modules() if part.training] if network.training else []
    # Moving a recurrent layer, even to where it is, rebuilds its list of weights: another thread may be reading it.
    if device is not None and torch.device(device) != _parameter(network).device:
        network.to(device)
    if training:
        network.eval()
    order = np.argsort(-encoded.lengths, kind="stable")
    length = truncation_length if network.streams else max(int(encoded.lengths.max(initial=1)), 1)
    for begin in range(0, len(order), rows):
        yield from _score_group(network, read, encoded, order[begin : begin + rows], length)
    for part in training:
        part.training = True


def _score_group(
    network: Network, read: _Read, encoded: Encoded, stays: Ints, truncation_length: int
) -> Iterator[tuple[Cut, NDArray[Any]]]:
    device = _parameter(network).device
    state = network.initial_state(len(stays)).detach()
    for cut in walk(encoded, stays, truncation_length=truncation_length):
        # The mode is entered for each chunk, as a generator would leave it on between chunks.
        with torch.inference_mode():
            if len(cut.first) < state.batch:
                state = state.select(torch.arange(len(cut.first), device=device))
            output, state = read(cut_chunk(encoded, cut).to(device), state)
        yield cut, output.cpu().numpy()


def _parameter(network: Network) -> torch.Tensor:
    """Any parameter: all of a model are on one device and of one precision."""
    return next(network.parameters())


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
