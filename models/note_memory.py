"""Notes' vectors at their time steps in, what all notes so far say out: how notes meet measurements past the cell.

What is kept of the notes is part of the state, so that chunks, whole stays and single steps agree.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.batch import NoteBatch
from models.notes import NoteFusion

SEEN = "notes_seen"


class TermEncoder(nn.Module):
    """Marks which terms the notes of a time step hold.

    With a hidden size, a step's terms become a vector: the sum of theirs. The last feature says whether there was a
    note. Nothing is learnt without one.

    Args:
        vocabulary_size: number of ids; 0 is padding.
        hidden_size: width of the vector; 0: the marks themselves.
    """

    def __init__(self, *, vocabulary_size: int, hidden_size: int) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.embedding = nn.Linear(vocabulary_size, hidden_size, bias=False) if hidden_size else None
        self.output_width = (hidden_size or vocabulary_size) + 1
        # Says in which precision and on which device the marks are, where nothing is learnt.
        self.register_buffer("unit", torch.ones(1), persistent=False)

    unit: Tensor

    def forward(self, notes: NoteBatch | None, *, batch: int, time: int) -> Tensor:
        """(batch, time, output width), zeros where no note enters."""
        marks = torch.zeros(batch * time, self.vocabulary_size + 1, device=self.unit.device, dtype=self.unit.dtype)
        if notes is not None and len(notes.lengths):
            place = (notes.row * time + notes.step)[:, None].expand_as(notes.tokens)
            marks[place, notes.tokens] = 1.0
            marks[:, 0] = 0.0  # padding
            marks[place[:, 0], -1] = 1.0
        marks = marks.view(batch, time, -1)
        if self.embedding is None:
            return marks
        return torch.cat([self.embedding(marks[..., :-1]), marks[..., -1:]], dim=2)


class NoteMemory(nn.Module):
    """What the notes so far say: the maximum of their vectors, read linearly, and added to what the cell says.

    Of marks of terms the maximum is the set of all terms so far, however often one was written. A stay without any
    note gets nothing added.

    Args:
        fusion: late, or gated: the addition is weighed by a gate that reads it and the pooled state.
        width: of the notes' vectors.
        pooled: width of the pooled state.
        outputs: number of logits.
    """

    def __init__(self, fusion: NoteFusion, *, width: int, pooled: int, outputs: int) -> None:
        super().__init__()
        self.width = width
        self.head = nn.Linear(width, outputs, bias=False)
        self.gate = nn.Linear(pooled + outputs, outputs) if fusion is NoteFusion.GATED else None
        nn.init.zeros_(self.head.weight)

    def initial(self, batch: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """(1, batch, width) of a stay without any note."""
        return torch.zeros(1, batch, self.width, device=device, dtype=dtype)

    def forward(self, vectors: Tensor, pooled: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, outputs) what the notes add at every time step, and what is kept of them.

        Args:
            vectors: (batch, time, width) of the notes at their time steps, zeros elsewhere.
            pooled: (batch, time, pooled).
            seen: (1, batch, width) kept before the first time step.
        """
        before = seen.transpose(0, 1).to(vectors.dtype)
        running = torch.cummax(torch.cat([before, vectors], dim=1), dim=1).values[:, 1:]
        said: Tensor = self.head(running)
        if self.gate is not None:
            said = said * torch.sigmoid(self.gate(torch.cat([pooled, said], dim=2)))
        return said, running[:, -1:].transpose(0, 1)
