"""How far the loss reaches back: a chunk in, norms of its total derivative by every hidden state over time out.

`output.grad` of a fused layer holds only what the layer's outputs feed directly; the part that flows through
the recurrence stays inside the fused call. Here each layer runs one time step at a time, every state is kept,
and its gradient therefore holds both parts. Norms that fall towards the chunk's beginning show vanishing
gradients, norms that grow show exploding ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.batch import Chunk
from models.cells import Cell, Memory, run_layer
from models.cut import Cut, gather
from models.encoded import Encoded
from models.errors import ConfigError
from models.forward import cut_chunk
from models.network import RecurrentNetwork
from models.stay import Ints
from pipelines.labels import StepTargets
from pipelines.objective import Objective

Norms = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Sample:
    """A chunk with its targets and weights (batch, time, targets)."""

    chunk: Chunk
    target: Tensor
    weight: Tensor


def hidden_gradient_norms(
    network: RecurrentNetwork, chunk: Chunk, target: Tensor, weight: Tensor, objective: Objective
) -> Norms:
    """Norms over (batch, hidden) of the loss's total derivative by `h` (and `c`), each (layers, time).

    The network is run without dropout from the initial state and left as it was.

    Raises:
        ConfigError: for a bidirectional network, whose time steps have no single direction.
    """
    gradients = hidden_gradients(network, chunk, target, weight, objective)
    return {name: g.flatten(2).norm(dim=2).double().cpu().numpy() for name, g in gradients.items()}


def hidden_gradients(
    network: RecurrentNetwork, chunk: Chunk, target: Tensor, weight: Tensor, objective: Objective
) -> dict[str, Tensor]:
    """The derivatives themselves, each (layers, time, batch, hidden)."""
    if not network.streams:
        raise ConfigError("network must not be bidirectional to trace gradients over time, got one; use one direction")
    was_training = network.training
    network.eval()
    # Outside cuDNN, as its recurrent layers differentiate in training mode alone.
    with torch.backends.cudnn.flags(enabled=False), torch.enable_grad():
        names = network.config.cell.memory_names
        state = network.begin(chunk, network.initial_state(chunk.features.shape[0]))
        read = network.inputs(chunk)
        memory, _, carried = network.parts(state)
        hidden, kept = _step_layers(network, network.project(read), memory)
        logits, _ = network.readout(chunk, read, hidden, carried)
        flat = [memory[i] for layer in kept for memory in layer for i in range(len(names))]
        found = torch.autograd.grad(objective.total(logits, target, weight), flat, allow_unused=True)
    network.train(was_training)
    whole = [torch.zeros_like(t) if g is None else g for g, t in zip(found, flat, strict=True)]
    layers, time = len(kept), chunk.features.shape[1]
    stacked = torch.stack(whole).view(layers, time, len(names), *flat[0].shape[1:])
    return {name: stacked[:, :, i] for i, name in enumerate(names)}


def sample_chunk(encoded: Encoded, targets: StepTargets, *, stays: int, length: int) -> Sample:
    """The last time steps of some supervised stays, ending together; the same ones whenever asked.

    Args:
        encoded: the training stays.
        targets: of their time steps.
        stays: at most this many, spread evenly over those that are long enough.
        length: at most this many time steps; fewer where most stays are shorter.
    """
    last = encoded.step_offsets[1:] - 1
    length = max(min(length, int(np.median(encoded.lengths))), 1)
    fit = np.flatnonzero((encoded.lengths >= length) & _supervised_before(targets, last, length))
    fit = fit if len(fit) else np.flatnonzero(encoded.lengths >= length)
    chosen = fit[np.linspace(0, len(fit) - 1, num=min(stays, len(fit))).astype(np.int64)]
    count = np.full(len(chosen), length)
    cut = Cut(last[chosen] + 1 - length, count, np.ones(len(chosen), dtype=bool))
    value, weight = (torch.from_numpy(gather(a, cut)) for a in (targets.value, targets.weight))
    return Sample(cut_chunk(encoded, cut), value, weight)


def _supervised_before(targets: StepTargets, last: Ints, length: int) -> NDArray[np.bool_]:
    """Whether any of a stay's last steps is supervised; looks at the last and the one `length` - 1 before it."""
    ends = np.stack([last, np.maximum(last - length + 1, 0)])
    return np.asarray((np.asarray(targets.weight[ends]) > 0).any(axis=(0, 2)))


def _step_layers(network: RecurrentNetwork, inputs: Tensor, memory: Memory) -> tuple[Tensor, list[list[Memory]]]:
    """Top hidden states (batch, time, hidden), and the memories by layer and time step, part of the graph."""
    kept: list[list[Memory]] = []
    for index, layer in enumerate(network.stack.layers):
        carried = tuple(m[index : index + 1] for m in memory)
        steps: list[Memory] = []
        for time in range(inputs.shape[1]):
            carried = _step(network.config.cell, layer, inputs[:, time : time + 1], carried)
            steps.append(carried)
        inputs = torch.cat([s[0].transpose(0, 1) for s in steps], dim=1)
        kept.append(steps)
    return inputs, kept


def _step(cell: Cell, layer: nn.Module, inputs: Tensor, carried: Memory) -> Memory:
    """The memory after one time step, each tensor a node through which the whole gradient flows.

    A fused LSTM returns h and c side by side, so c's share in h would bypass the returned c. The output gate is
    computed again and h rebuilt from c, which puts c on every path.
    """
    _, after = run_layer(layer, inputs, carried)
    if cell is not Cell.LSTM:
        return after
    gates = nn.functional.linear(inputs[:, 0], layer.weight_ih_l0, layer.bias_ih_l0)  # type: ignore[arg-type]
    gates = gates + nn.functional.linear(carried[0][0], layer.weight_hh_l0, layer.bias_hh_l0)  # type: ignore[arg-type]
    output_gate = gates.chunk(4, dim=1)[3].sigmoid()
    return output_gate[None] * torch.tanh(after[1]), after[1]
