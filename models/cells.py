"""Stacked recurrent layers: inputs over time and the hidden states before them in, every layer's hidden states out."""

from __future__ import annotations

from enum import StrEnum
from typing import cast

import torch
from torch import Tensor, nn

from models.gru_d import GruD
from models.layout import Layout
from models.scans import scan_gru

Memory = tuple[Tensor, ...]
"""Tensors (depth, batch, hidden) that a cell carries over time: `h`, and `c` for an LSTM."""

Kept = tuple[Tensor, ...]
"""GRU-D's dropout, which holds for a whole stay: factors (1, batch, hidden) of the hidden state and (1, batch, inputs)
of the inputs that its gates read; or none."""


class Cell(StrEnum):
    """Kind of recurrent cell."""

    RNN_TANH = "rnn_tanh"
    RNN_RELU = "rnn_relu"
    LSTM = "lstm"
    GRU = "gru"
    GRU_D = "gru_d"

    @property
    def memory_names(self) -> tuple[str, ...]:
        """Names of what the cell carries over time."""
        return ("h", "c") if self is Cell.LSTM else ("h",)

    @property
    def gates(self) -> int:
        """Number of blocks of rows in a weight matrix."""
        return {Cell.LSTM: 4, Cell.GRU: 3, Cell.GRU_D: 3}.get(self, 1)


class Initialisation(StrEnum):
    """How the recurrent weights begin; input weights are Xavier-uniform in either case."""

    ORTHOGONAL = "orthogonal"
    XAVIER = "xavier"


class RecurrentStack(nn.Module):
    """Layers of one cell, with dropout between them; each layer is one call over all time steps.

    Above GRU-D's layer, which reads the channels themselves, stand layers of plain GRU. The layers are separate
    modules, not one `num_layers` call, so that the hidden state of every layer at every time step can be read and
    differentiated.

    Args:
        cell: kind of cell.
        width: number of inputs at a time step.
        hidden_size: width of the hidden state of one direction.
        layers: number of layers.
        dropout: probability, between layers, training only.
        bidirectional: a second direction reads each stay from its end.
        layout: which inputs are value, mask and delta of every channel; needed by GRU-D alone.
    """

    def __init__(
        self,
        cell: Cell,
        *,
        width: int,
        hidden_size: int,
        layers: int,
        dropout: float,
        bidirectional: bool,
        layout: Layout | None = None,
    ) -> None:
        super().__init__()
        self.cell = cell
        self.output_width = hidden_size * (2 if bidirectional else 1)
        widths = [width] + [self.output_width] * (layers - 1)
        self.layers = nn.ModuleList(_layer(cell, w, hidden_size) for w in widths)
        if cell is Cell.GRU_D:
            self.layers[0] = GruD(Layout.required(layout), width=width, hidden_size=hidden_size)
        self.backward_layers = nn.ModuleList(_layer(cell, w, hidden_size) for w in widths if bidirectional)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor, memory: Memory, valid: Tensor, kept: Kept = ()) -> tuple[list[Tensor], Memory]:
        """Runs every layer over all time steps.

        Args:
            inputs: (batch, time, width).
            memory: tensors (layers, batch, hidden) before the first time step.
            valid: (batch, time) bool; read by the second direction alone.
            kept: dropout of GRU-D's layer; none: nothing is dropped.

        Returns:
            Hidden states (batch, time, output width) of every layer, and the memory after the last time step.
        """
        outputs: list[Tensor] = []
        after: list[Memory] = []
        for index, layer in enumerate(self.layers):
            inputs = inputs if index == 0 else self.dropout(inputs)
            hidden, last = run_layer(layer, inputs, tuple(m[index : index + 1] for m in memory), kept)
            kept = ()
            if len(self.backward_layers):
                hidden = torch.cat([hidden, _run_reversed(self.backward_layers[index], inputs, memory, valid)], dim=2)
            outputs.append(hidden)
            after.append(last)
            inputs = hidden
        return outputs, tuple(torch.cat(parts) for parts in zip(*after, strict=True))


def run_layer(layer: nn.Module, inputs: Tensor, memory: Memory, kept: Kept = ()) -> tuple[Tensor, Memory]:
    """One layer from a memory of tensors (1, batch, hidden): hidden states and the memory after."""
    memory = tuple(m.contiguous() for m in memory)
    if isinstance(layer, GruD):
        hidden, last = layer(inputs, memory[0], *kept)
        return hidden, (last,)
    if len(memory) == 2:
        hidden, last = layer(inputs, memory)
        return hidden, tuple(last)
    if isinstance(layer, nn.GRU) and _written_out(inputs):
        return _scanned(layer, inputs, memory[0])
    hidden, last = layer(inputs, memory[0])
    return hidden, (last,)


def _written_out(inputs: Tensor) -> bool:
    """Whether a GRU trains faster by `models.scans` than by torch, which on a processor differentiates op by op."""
    on_processor = inputs.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return on_processor and torch.is_grad_enabled()


def _scanned(layer: nn.GRU, inputs: Tensor, before: Tensor) -> tuple[Tensor, Memory]:
    """What `layer(inputs, before)` gives, but for rounding."""
    weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    of_inputs, of_hidden, bias, hidden_bias = cast("tuple[Tensor, ...]", weights)
    size = layer.hidden_size
    # The hidden state's biases of r and z are added to the inputs' own; that of n lies within the reset gate.
    outer = bias + nn.functional.pad(hidden_bias[: 2 * size], (0, size))
    biases = (outer, hidden_bias[2 * size :])
    hidden = scan_gru(inputs.transpose(0, 1), before[0], (of_inputs, of_hidden), biases)
    return hidden.transpose(0, 1), (hidden[-1:],)


def initialise(stack: RecurrentStack, *, how: Initialisation, forget_bias: float) -> None:
    """Sets weights gate by gate, biases to zero and an LSTM's forget gate to `forget_bias`.

    Source: Glorot and Bengio 2010 (Xavier); Saxe et al. 2014 (orthogonal); Jozefowicz et al. 2015 (forget bias).
    """
    for name, parameter in stack.named_parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
            if stack.cell is Cell.LSTM and ".bias_ih" in name:
                with torch.no_grad():
                    parameter.chunk(4)[1].fill_(forget_bias)
            continue
        orthogonal = how is Initialisation.ORTHOGONAL and ".weight_hh" in name
        for block in parameter.detach().chunk(stack.cell.gates):
            if orthogonal:
                nn.init.orthogonal_(block)
            else:
                nn.init.xavier_uniform_(block)
    for layer in stack.layers:
        if isinstance(layer, GruD):
            layer.begin_decays()


def _layer(cell: Cell, width: int, hidden_size: int) -> nn.Module:
    match cell:
        case Cell.LSTM:
            return nn.LSTM(width, hidden_size, batch_first=True)
        case Cell.GRU | Cell.GRU_D:
            return nn.GRU(width, hidden_size, batch_first=True)
        case Cell.RNN_TANH | Cell.RNN_RELU:
            return nn.RNN(width, hidden_size, batch_first=True, nonlinearity=cell.value.removeprefix("rnn_"))


def _run_reversed(layer: nn.Module, inputs: Tensor, memory: Memory, valid: Tensor) -> Tensor:
    """Hidden states of a layer that reads each row from its last valid step to its first, in the row's order."""
    steps = torch.arange(inputs.shape[1], device=inputs.device)
    lengths = valid.sum(1, keepdim=True)
    # Padding keeps its place behind the stay, so it is read after the stay's first step and changes nothing before.
    order = torch.where(steps < lengths, lengths - 1 - steps, steps)[..., None]
    flipped = inputs.gather(1, order.expand(-1, -1, inputs.shape[2]))
    hidden, _ = run_layer(layer, flipped, tuple(torch.zeros_like(m[:1]) for m in memory))
    return hidden.gather(1, order.expand(-1, -1, hidden.shape[2]))
