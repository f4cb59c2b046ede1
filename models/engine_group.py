"""One time step of all members of one shape: what their readings of the inputs gave in, logits and states out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.cells import Cell
from models.engine_cells import Activation, Array, activate_few, decay, step_gru, step_gru_d, step_lstm, step_rnn
from models.engine_notes import keep_notes
from models.engine_product import Product
from models.engine_state import Rows
from models.engine_weights import Curves, Decays, GroupWeights
from models.note_memory import SEEN
from models.pooling import Pooling

# As in models.pooling: attention's scores stay within these, and a weight is never divided by less.
_SCORE_BOUND = np.float32(5.0)
_LEAST_WEIGHT = np.float32(1e-3)
# Rows whose curves are computed at once: what they take then lies in a core's cache.
_CURVED_ROWS = 16


@dataclass(frozen=True)
class GroupSlots:
    """Where the states of a group's members lie in a row: one after the other, each of `width` columns.

    Args:
        begin: first column.
        members: how many.
        width: columns of one member.
        places: of every tensor, by name: first column within the member, and width of one layer.
    """

    begin: int
    members: int
    width: int
    places: Mapping[str, tuple[int, int]]

    def of(self, rows: Rows) -> Array:
        """(members, n, width) view of the group's part of (n, columns) rows."""
        own = rows[:, self.begin : self.begin + self.members * self.width]
        return own.reshape(len(rows), self.members, self.width).transpose(1, 0, 2)

    def place(self, name: str, depth: int = 0) -> slice:
        """Columns of one layer of a tensor within a member's."""
        begin, width = self.places[name]
        return slice(begin + depth * width, begin + (depth + 1) * width)


class Group:
    """Steps the members of one shape.

    Args:
        weights: theirs.
        slots: of their states.
    """

    def __init__(self, weights: GroupWeights, slots: GroupSlots) -> None:
        self.weights, self._slots = weights, slots
        self._recurrent = [Product(layer.recurrent) for layer in weights.layers]
        below = [layer.below for layer in weights.layers]
        self._below = [None if linear is None else (Product(linear.weight), linear.bias) for linear in below]
        self._trunk = [(Product(linear.weight), linear.bias) for linear in weights.trunk]
        self._fading = None if weights.decays is None else (weights.decays, Product(weights.decays.estimate))
        depths = range(len(weights.layers))
        self._hidden = [slots.place("h", depth) for depth in depths]
        self._memory = [slots.place("c", depth) for depth in depths] if "c" in slots.places else []

    def advance(
        self,
        features: Array,
        first: Array,
        fade: Array | None,
        before: Rows,
        after: Rows,
        *,
        vectors: Array | None = None,
        activate: Activation = activate_few,
    ) -> Array:
        """Hidden states (members, n, hidden) of the last layer; states go from `before` to `after`.

        Args:
            features: (n, width).
            first: (members, n, columns) the first reading of the inputs, which every member has.
            fade: (members, n, hidden) of GRU-D: the decay's reading of them.
            before: (n, columns) rows of all members.
            after: likewise, written.
            vectors: (members, n, width) the step's notes; None where there are none.
            activate: what gates let through.
        """
        weights, old, new = self.weights, self._slots.of(before), self._slots.of(after)
        if weights.notes is not None:
            place = self._slots.place(SEEN)
            keep_notes(vectors, old[:, :, place], new[:, :, place])
        given = hidden = np.tanh(first) if weights.config.projection_size else first
        for depth, layer in enumerate(weights.layers):
            if (below := self._below[depth]) is not None:
                product, bias = below
                given = product(hidden)
                given += bias
            last, hidden = old[:, :, self._hidden[depth]], new[:, :, self._hidden[depth]]
            if fade is not None and self._fading is not None and depth == 0:
                estimated = _estimated(*self._fading, features)
                step_gru_d(given + estimated, decay(fade) * last, layer.recurrent, hidden)
                continue
            recurrent = self._recurrent[depth](last)
            if layer.inner is not None:
                step_gru(given, recurrent, layer.inner, last, hidden, activate=activate)
            elif layer.cell is Cell.LSTM:
                memory = self._memory[depth]
                step_lstm(given, recurrent, old[:, :, memory], hidden, new[:, :, memory], activate=activate)
            else:
                step_rnn(layer.cell, given, recurrent, hidden)
        return self._pooled(hidden, old, new)

    def logits(self, features: Array, pooled: Array, trunk: Array | None, skip: Array | None, after: Rows) -> Array:
        """(members, n, outputs).

        Args:
            features: (n, width).
            pooled: what `advance` gave.
            trunk: (members, n, head size) the trunk's reading of the inputs.
            skip: (members, n, outputs) the outputs' reading of them.
            after: (n, columns) rows that `advance` wrote.
        """
        weights = self.weights
        said = None
        if weights.notes is not None:
            said = weights.notes.said(self._slots.of(after)[:, :, self._slots.place(SEEN)], pooled)
        for product, bias in self._trunk:
            pooled = product(pooled)
            pooled += bias
            if trunk is not None:
                pooled, trunk = pooled + trunk, None
            np.maximum(pooled, 0.0, out=pooled)
        logits: Array = np.matmul(pooled, weights.head.weight)
        logits += weights.head.bias
        if skip is not None:
            logits += skip
        if weights.curves is not None:
            logits += _curved(weights.curves, features)
        if said is not None:
            logits += said
        return logits

    def _pooled(self, hidden: Array, old: Array, new: Array) -> Array:
        match self.weights.config.pooling:
            case Pooling.LAST:
                return hidden
            case Pooling.MAX:
                place = self._slots.place("pool_max")
                return np.maximum(old[:, :, place], hidden, out=new[:, :, place])
            case Pooling.MEAN:
                return self._mean(hidden, np.ones((1, 1, 1), dtype=np.float32), old, new)
            case Pooling.ATTENTION:
                inner, outer = self.weights.score
                score = np.matmul(np.tanh(np.matmul(hidden, inner.weight) + inner.bias), outer.weight) + outer.bias
                return self._mean(hidden, np.exp(_SCORE_BOUND * np.tanh(score / _SCORE_BOUND)), old, new)

    def _mean(self, hidden: Array, weight: Array, old: Array, new: Array) -> Array:
        sums, weights = (self._slots.place(name) for name in ("pool_sum", "pool_weight"))
        np.add(old[:, :, sums], hidden * weight, out=new[:, :, sums])
        np.add(old[:, :, weights], weight, out=new[:, :, weights])
        return np.divide(new[:, :, sums], np.maximum(new[:, :, weights], _LEAST_WEIGHT), dtype=np.float32)


def _estimated(decays: Decays, product: Product, features: Array) -> Array:
    """What GRU-D's gates read of values that fade to the training mean, which standard scores put at 0."""
    layout = decays.layout
    by_channel = features[:, : layout.width].reshape(len(features), layout.channels, layout.per_channel)
    value, mask, delta = (by_channel[:, :, place] for place in (layout.value, layout.mask, layout.delta))
    faded = decay(-(decays.rate * delta + decays.rate_bias))
    faded *= value
    faded += mask * (value - faded)
    return product(faded)


def _curved(curves: Curves, features: Array) -> Array:
    """(members, n, outputs) sums of the curves: every piece adds its rise as far as a value has come through it."""
    if len(features) > _CURVED_ROWS:
        parts = range(0, len(features), _CURVED_ROWS)
        return np.concatenate([_curved(curves, features[i : i + _CURVED_ROWS]) for i in parts], axis=1)
    way = features[None, :, None] - curves.low
    way *= curves.inverse
    np.clip(way, np.float32(0.0), np.float32(1.0), out=way)
    found: Array = np.matmul(way.reshape(*way.shape[:2], -1), curves.rise)
    return found
