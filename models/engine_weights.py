"""Members of one shape in, their weights side by side as numpy arrays out, laid out for a step.

What reads the inputs linearly (first gates, projection, trunk, skip) stands apart from what reads hidden states, as
one product of the features gives all of the former for all members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.cells import Cell
from models.curves import NARROWEST
from models.engine_cells import Array, arranged
from models.engine_notes import NoteWeights, beside_features
from models.layout import Layout
from models.network import NetworkConfig, RecurrentNetwork
from models.pooling import Pooling


class UnlikeError(Exception):
    """Raised when members hold parameters that this module has no step for."""


@dataclass(frozen=True)
class Reading:
    """A linear reading of a time step's inputs.

    Args:
        weight: (members, inputs, columns); the features first, then the notes' vector.
        bias: (members, columns).
    """

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Linear:
    """A linear layer.

    Args:
        weight: (members, inputs, columns).
        bias: (members, 1, columns).
    """

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Layer:
    """A recurrent layer.

    Args:
        cell: its kind; GRU above GRU-D.
        below: of what the layer below gives; None where the first layer reads the inputs themselves.
        recurrent: (members, hidden, gates * hidden).
        inner: (members, 1, hidden) of a GRU: bias of n within the reset gate.
    """

    cell: Cell
    below: Linear | None
    recurrent: Array
    inner: Array | None = None


@dataclass(frozen=True)
class Decays:
    """What GRU-D's first layer has besides.

    Args:
        layout: columns of value, mask and delta.
        rate: (members, 1, channels) of the values' decay.
        rate_bias: likewise.
        estimate: (members, channels, 3 hidden) weights of the decayed values.
    """

    layout: Layout
    rate: Array
    rate_bias: Array
    estimate: Array


@dataclass(frozen=True)
class Curves:
    """Curves of the features: what stands at a knot, and how a value lies between two.

    Args:
        low: (knot sets, 1, pieces, width) where a piece begins; one set for all members where they agree.
        inverse: likewise, one by its width; 0 for a piece that has none.
        rise: (members, pieces * width, outputs).
    """

    low: Array
    inverse: Array
    rise: Array


@dataclass(frozen=True)
class GroupWeights:
    """All weights of members of one shape.

    Args:
        config: their shape.
        first: what the first layer, or the projection, reads of the inputs.
        fade: of GRU-D: the rates of the hidden state's decay, negated.
        trunk_reading: what the trunk's first layer reads of the inputs.
        skip: what the outputs read of them.
        decays: of GRU-D.
        layers: recurrent ones, from the inputs up.
        score: of attention pooling, both layers.
        trunk: hidden layers of the head; the first without what it reads of the inputs.
        head: the outputs.
        curves: past the cell.
        notes: past the cell; None where none are read there.
    """

    config: NetworkConfig
    first: Reading
    fade: Reading | None
    trunk_reading: Reading | None
    skip: Reading | None
    decays: Decays | None
    layers: tuple[Layer, ...]
    score: tuple[Linear, ...]
    trunk: tuple[Linear, ...]
    head: Linear
    curves: Curves | None
    notes: NoteWeights | None


def group_weights(members: Sequence[RecurrentNetwork]) -> GroupWeights:
    """Weights of members of one shape.

    Raises:
        UnlikeError: if the members are of half or double precision, or hold a parameter that no step here uses.
    """
    taken = _Taken(members)
    config = members[0].config

    def beside(reading: Reading | None) -> Reading | None:
        return None if reading is None else Reading(beside_features(reading.weight, members), reading.bias)

    trunk_reading, trunk = _trunk(taken, config)
    first, fade, decays = _first(taken, members[0])
    weights = GroupWeights(
        config=config,
        first=Reading(beside_features(first.weight, members), first.bias),
        fade=beside(fade),
        trunk_reading=beside(trunk_reading),
        skip=beside(_skip(taken)) if config.skip else None,
        decays=decays,
        layers=tuple(_layer(taken, config, number) for number in range(config.layers)),
        score=_score(taken) if config.pooling is Pooling.ATTENTION else (),
        trunk=trunk,
        head=_linear(taken, "head"),
        curves=_curves(taken) if config.skip_pieces else None,
        notes=_notes(taken, members[0]),
    )
    taken.check_whole()
    return weights


class _Taken:
    """Parameters of all members by name, each stacked; remembers which were taken."""

    def __init__(self, members: Sequence[RecurrentNetwork]) -> None:
        self._states = [member.state_dict() for member in members]
        # Read elsewhere: notes by the members' own encoders, the beginning by their initial states.
        self._left = {n for n in self._states[0] if not n.startswith(("notes.", "beginning."))}
        if any(tensor.dtype is not torch.float32 for tensor in self._states[0].values()):
            raise UnlikeError("precision")

    def __call__(self, name: str) -> Array:
        """(members, ...) the parameter; KeyError becomes `UnlikeError`."""
        try:
            self._left.discard(name)
            return np.stack([state[name].detach().cpu().numpy() for state in self._states])
        except KeyError as error:
            raise UnlikeError(name) from error

    def check_whole(self) -> None:
        if self._left:
            raise UnlikeError(", ".join(sorted(self._left)))


def _turned(weight: Array) -> Array:
    """(members, inputs, columns) of torch's (members, columns, inputs)."""
    return np.ascontiguousarray(weight.transpose(0, 2, 1))


def _linear(taken: _Taken, name: str) -> Linear:
    return Linear(_turned(taken(f"{name}.weight")), taken(f"{name}.bias")[:, None])


def _first(taken: _Taken, member: RecurrentNetwork) -> tuple[Reading, Reading | None, Decays | None]:
    config = member.config
    if config.cell is Cell.GRU_D:
        return _decaying(taken, Layout.required(getattr(member.stack.layers[0], "layout", None)))
    if config.projection_size:
        return Reading(_turned(taken("projection.weight")), taken("projection.bias")), None, None
    weight, bias = _gates(taken, config.cell, 0)
    return Reading(weight, bias), None, None


def _gates(taken: _Taken, cell: Cell, number: int) -> tuple[Array, Array]:
    """What a layer's gates read of its inputs: weights, and all biases outside of a reset gate."""
    name = f"stack.layers.{number}"
    bias, hidden_bias = taken(f"{name}.bias_ih_l0"), taken(f"{name}.bias_hh_l0").copy()
    if cell is Cell.GRU:
        hidden_bias[:, 2 * hidden_bias.shape[1] // 3 :] = 0.0
    return _turned(arranged(cell, taken(f"{name}.weight_ih_l0"))), arranged(cell, bias + hidden_bias)


def _layer(taken: _Taken, config: NetworkConfig, number: int) -> Layer:
    name = f"stack.layers.{number}"
    if config.cell is Cell.GRU_D and number == 0:
        return Layer(Cell.GRU_D, None, _turned(arranged(Cell.GRU_D, taken(f"{name}.weight_hh"))))
    cell = Cell.GRU if config.cell is Cell.GRU_D else config.cell
    below = None
    if number or config.projection_size:
        weight, bias = _gates(taken, cell, number)
        below = Linear(weight, bias[:, None])
    recurrent = _turned(arranged(cell, taken(f"{name}.weight_hh_l0")))
    inner = None
    if cell is Cell.GRU:
        inner = taken(f"{name}.bias_hh_l0")[:, None, 2 * config.hidden_size :]
    return Layer(cell, below, recurrent, inner)


def _decaying(taken: _Taken, layout: Layout) -> tuple[Reading, Reading, Decays]:
    """GRU-D's readings by columns of the features: its own weights stand in the order [estimate, mask, others]."""
    name = "stack.layers.0"
    own = _turned(arranged(Cell.GRU_D, taken(f"{name}.weight_ih")))
    channels, per = layout.channels, layout.per_channel
    rest = own.shape[1] - channels * (per - 1)
    weight = np.zeros((len(own), layout.width + rest, own.shape[2]), dtype=np.float32)
    by_channel = weight[:, : layout.width].reshape(len(own), channels, per, -1)
    for number, place in enumerate((layout.mask, *layout.others), start=1):
        by_channel[:, :, place] = own[:, number * channels : (number + 1) * channels]
    weight[:, layout.width :] = own[:, channels * (per - 1) :]
    fade = np.zeros((len(own), layout.width + rest, own.shape[2] // 3), dtype=np.float32)
    decay = -_turned(taken(f"{name}.hidden_decay.weight"))
    fade[:, : layout.width].reshape(len(own), channels, per, -1)[:, :, layout.delta] = decay
    decays = Decays(
        layout, taken(f"{name}.input_rate")[:, None], taken(f"{name}.input_rate_bias")[:, None], own[:, :channels]
    )
    bias = arranged(Cell.GRU_D, taken(f"{name}.bias"))
    return Reading(weight, bias), Reading(fade, -taken(f"{name}.hidden_decay.bias")), decays


def _score(taken: _Taken) -> tuple[Linear, ...]:
    return _linear(taken, "pool.score.0"), _linear(taken, "pool.score.2")


def _trunk(taken: _Taken, config: NetworkConfig) -> tuple[Reading | None, tuple[Linear, ...]]:
    # A linear layer, its ReLU and its dropout are three modules.
    layers = [_linear(taken, f"trunk.{3 * number}") for number in range(config.head_layers)]
    if not layers:
        return None, ()
    first, size = layers[0], config.hidden_size
    reading = Reading(np.ascontiguousarray(first.weight[:, size:]), first.bias[:, 0])
    layers[0] = Linear(np.ascontiguousarray(first.weight[:, :size]), np.zeros_like(first.bias))
    return reading, tuple(layers)


def _skip(taken: _Taken) -> Reading:
    weight = _turned(taken("skip.weight"))
    return Reading(weight, np.zeros((len(weight), weight.shape[2]), dtype=np.float32))


def _notes(taken: _Taken, member: RecurrentNetwork) -> NoteWeights | None:
    if member.note_memory is None:
        return None
    head, gate = _turned(taken("note_memory.head.weight")), None
    if member.note_memory.gate is not None:
        read = _linear(taken, "note_memory.gate")
        gate = (read.weight, read.bias)
    return NoteWeights(head, gate)


def _curves(taken: _Taken) -> Curves:
    knots, rise = taken("curves.knots"), taken("curves.rise")
    if (knots == knots[0]).all():
        knots = knots[:1]
    wide = knots[:, :, 1:] - knots[:, :, :-1]
    usable = wide > NARROWEST
    inverse = np.where(usable, 1.0 / np.where(usable, wide, 1.0), 0.0).astype(np.float32)
    # Pieces first: what then lies together are the features, which are many.
    flat = rise.transpose(0, 3, 2, 1).reshape(len(rise), -1, rise.shape[1])
    low, inverse = (part.transpose(0, 2, 1)[:, None] for part in (knots[:, :, :-1], inverse))
    return Curves(np.ascontiguousarray(low), np.ascontiguousarray(inverse), np.ascontiguousarray(flat))
