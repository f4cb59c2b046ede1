"""Boosted trees as a member of an ensemble: the features of a time step in, its logits out, whatever came before.

LightGBM's text format is read, never a pickle; LightGBM's library is loaded only when an artifact names trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.batch import Chunk
from models.errors import ArtifactError
from models.state import State
from models.stay import Floats
from models.tree_library import Booster, LibraryError, library
from models.tree_text import check_tree_text


class TreeMember(nn.Module):
    """Boosted trees over the same encoded features as the networks'; they carry no state, so every score is causal.

    A row's logit depends on that row alone: trees are walked row by row, on one thread, in float64.

    Args:
        texts: LightGBM models as text, one an output; one alone that gives all of them for several classes.
        width: number of features at a time step.
        outputs: number of logits at a time step.

    Raises:
        ArtifactError: if LightGBM is not installed, or a text is no model of these features and outputs.
    """

    streams = True

    def __init__(self, texts: Sequence[str], *, width: int, outputs: int) -> None:
        super().__init__()
        self.texts, self.width, self.outputs = tuple(texts), width, outputs
        self.boosters = [_booster(text, width) for text in self.texts]
        given = sum(booster.outputs for booster in self.boosters)
        if given != outputs or any(booster.features != width for booster in self.boosters):
            widths = sorted({booster.features for booster in self.boosters})
            raise ArtifactError(
                f"trees must give {outputs} outputs of {width} features, got {given} of {widths}; train again"
            )

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Nothing: trees remember nothing."""
        del batch, device, dtype
        return State((), ())

    def forward(self, chunk: Chunk, state: State) -> tuple[Tensor, State]:
        """Logits (batch, time, outputs) float64, 0 at padding, and the state as it came."""
        valid = chunk.valid.cpu().numpy()
        # Float32 as in training, so that a value at a split falls on the same side.
        rows = np.ascontiguousarray(chunk.features.detach().cpu().numpy()[valid], dtype=np.float32)
        logits = np.zeros((*valid.shape, self.outputs))
        if len(rows):
            logits[valid] = self.predict(rows)
        return torch.from_numpy(logits).to(chunk.features.device), state

    def predict(self, features: NDArray[Any]) -> Floats:
        """Logits (rows, outputs) of features (rows, width)."""
        return np.concatenate([booster.predict(features) for booster in self.boosters], axis=1)


def _booster(text: str, width: int) -> Booster:
    try:
        library()  # an extra: only artifacts with trees need it
    except ImportError as error:
        raise ArtifactError(
            "lightgbm must be installed to score with boosted trees, got none; pip install 'sequela[trees]'"
        ) from error
    check_tree_text(text, width=width)
    try:
        return Booster(text)
    except LibraryError as error:
        raise ArtifactError("trees must be LightGBM's model text, got another; fetch the artifact again") from error
