"""Notes of a chunk as token ids in, one vector at the time step where each note enters out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from models.batch import NoteBatch


class NoteEncoder(nn.Module):
    """Reads each note with a GRU and places its last hidden state at the note's time step.

    Several notes at one time step are averaged. A step without a note has zeros, and the last feature
    says whether there was one.

    Args:
        vocabulary_size: number of token ids; id 0 is padding.
        embedding_size: width of a token's vector.
        hidden_size: width of a note's vector.
    """

    def __init__(self, *, vocabulary_size: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        self.reader = nn.GRU(embedding_size, hidden_size, batch_first=True)
        self.output_width = hidden_size + 1

    def forward(self, notes: NoteBatch | None, *, batch: int, time: int) -> Tensor:
        """(batch, time, hidden size + 1), zeros where no note enters."""
        weight = self.embedding.weight
        flat = torch.zeros(batch * time, self.output_width, device=weight.device, dtype=weight.dtype)
        if notes is None or not len(notes.lengths):
            return flat.view(batch, time, -1)
        packed = pack_padded_sequence(
            self.embedding(notes.tokens), notes.lengths, batch_first=True, enforce_sorted=False
        )
        _, last = self.reader(packed)
        vectors = last[0].to(weight.dtype)
        place = notes.row * time + notes.step
        entries = torch.cat([vectors, torch.ones_like(vectors[:, :1])], dim=1)
        total = flat.index_add(0, place, entries)
        return (total / total[:, -1:].clamp_min(1.0)).view(batch, time, -1)
