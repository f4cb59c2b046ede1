"""Members that read notes past the cell in, what their notes so far add to the logits of a time step out, by numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.engine_cells import Array
from models.network import Reads, RecurrentNetwork


@dataclass(frozen=True)
class NoteWeights:
    """How the notes so far are read by members of one shape: `models.note_memory.NoteMemory`, side by side.

    Args:
        head: (members, width, outputs).
        gate: (members, pooled + outputs, outputs) and (members, 1, outputs) of gated fusion; None of late fusion.
    """

    head: Array
    gate: tuple[Array, Array] | None

    def said(self, seen: Array, pooled: Array) -> Array:
        """(members, n, outputs) what is added to the logits.

        Args:
            seen: (members, n, width) kept of the notes so far.
            pooled: (members, n, pooled) state.
        """
        said: Array = np.matmul(seen, self.head)
        if self.gate is not None:
            weight, bias = self.gate
            half = np.float32(0.5)
            opened = np.tanh(half * (np.matmul(np.concatenate([pooled, said], axis=2), weight) + bias))
            said *= half + half * opened
        return said


def keep_notes(vectors: Array | None, old: Array, new: Array) -> None:
    """Writes into `new` what is kept of the notes: the maximum of what was and of those of the step, if any."""
    if vectors is None:
        new[:] = old
    else:
        np.maximum(old, vectors, out=new)


def beside_features(weight: Array, members: Sequence[RecurrentNetwork]) -> Array:
    """(members, features + notes' vector, columns) of a reading of the inputs, with zeros for what is not read.

    Args:
        weight: (members, inputs, columns).
        members: of one shape.
    """
    first = members[0]
    if first.notes is None:
        return weight
    width, told = first.width, int(first.notes.output_width)
    whole = np.zeros((len(weight), width + told, weight.shape[2]), dtype=np.float32)
    begin = 0
    if first.config.reads is Reads.NOTES:
        # Notes that are read past the cell leave it the last feature, which says whether there was one.
        begin = width if first.note_memory is None else width + told - 1
    whole[:, begin : begin + weight.shape[1]] = weight
    return whole
