"""A time step's features in, everything that any member reads of them linearly out: one product for all members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from models.batch import NoteBatch
from models.engine_cells import Array
from models.engine_group import Group
from models.engine_product import Product
from models.engine_weights import Reading
from models.network import RecurrentNetwork

# States hang on the former, heads alone on the latter, which therefore stand behind.
_OF_STATES, _OF_HEADS = ("first", "fade"), ("trunk_reading", "skip")


@dataclass(frozen=True)
class Part:
    """Members of one shape.

    Args:
        numbers: of the members in their ensemble.
        networks: they themselves, whose encoders read the notes.
        group: their step.
    """

    numbers: tuple[int, ...]
    networks: Sequence[RecurrentNetwork]
    group: Group


class Readings:
    """The readings of all members.

    Args:
        parts: the members by shape.
        width: number of features.
    """

    def __init__(self, parts: Sequence[Part], width: int) -> None:
        self._parts, self._width = parts, width
        self._columns: dict[tuple[int, str], slice] = {}
        weights, biases = [np.zeros((width, 0), dtype=np.float32)], [np.zeros(0, dtype=np.float32)]
        end = self._of_states = 0
        for names in (_OF_STATES, _OF_HEADS):
            for number, name in ((number, name) for number in range(len(parts)) for name in names):
                reading = self._reading(number, name)
                if reading is not None:
                    weights.append(reading.weight[:, :width].transpose(1, 0, 2).reshape(width, -1))
                    biases.append(reading.bias.reshape(-1))
                    begin, end = end, end + biases[-1].size
                    self._columns[number, name] = slice(begin, end)
            self._of_states = self._of_states or end
        whole = np.concatenate(weights, axis=1)
        self._bias = np.concatenate(biases)
        self._product, self._product_of_states = Product(whole), Product(whole[:, : self._of_states])

    def read(self, features: Array, vectors: Sequence[Array | None], *, states_alone: bool = False) -> Array:
        """(n, columns) all readings, or those alone that states hang on.

        Args:
            features: (n, width).
            vectors: of every part, as `vectors` gives them.
            states_alone: leaves out what heads alone hang on.
        """
        product = self._product_of_states if states_alone else self._product
        found = product(features)
        found += self._bias[: found.shape[1]]
        self._add_notes(found, vectors)
        return found

    def of(self, found: Array, number: int, name: str) -> Array:
        """(members, n, columns) one reading of part `number`, which has it."""
        members = len(self._parts[number].networks)
        return found[:, self._columns[number, name]].reshape(len(found), members, -1).transpose(1, 0, 2)

    def if_any(self, found: Array, number: int, name: str) -> Array | None:
        """Likewise; None where the part has none."""
        return self.of(found, number, name) if (number, name) in self._columns else None

    def _reading(self, number: int, name: str) -> Reading | None:
        reading: Reading | None = getattr(self._parts[number].group.weights, name)
        return reading

    def vectors(self, number: int, notes: NoteBatch | None, n: int) -> Array | None:
        """(members, n, width) the notes as part `number` reads them; None without notes, or if it reads none."""
        networks = self._parts[number].networks
        if notes is None or networks[0].notes is None:
            return None
        return np.stack([_note_vectors(network, notes, n) for network in networks])

    def _add_notes(self, found: Array, vectors: Sequence[Array | None]) -> None:
        """Adds what is read of the notes."""
        for number, own in enumerate(vectors):
            if own is None:
                continue
            for name in (*_OF_STATES, *_OF_HEADS):
                reading, place = self._reading(number, name), self._columns.get((number, name))
                if reading is None or place is None or place.stop > found.shape[1]:
                    continue
                read = np.matmul(own, reading.weight[:, self._width :])
                found[:, place] += read.transpose(1, 0, 2).reshape(len(found), -1)


def _note_vectors(network: RecurrentNetwork, notes: NoteBatch, n: int) -> Array:
    with torch.inference_mode():
        vectors: Array = cast("nn.Module", network.notes)(notes, batch=n, time=1)[:, 0].numpy()
    return vectors
