"""Read texts in, the ensemble's logits at the end of each out; a text's logits do not depend on its mates."""

from __future__ import annotations

import numpy as np
import torch

from models.ensemble import Ensemble
from models.forward import score_chunks
from models.stay import Floats
from models.text.reading import ReadTexts

# Texts and tokens that are read at once: bounds the memory, whatever the texts' number and length.
_ROWS = 32
_TOKENS = 512


def document_logits(ensemble: Ensemble, read: ReadTexts, *, device: torch.device | str | None = None) -> Floats:
    """(texts, outputs) float64 logits at the last token of every text."""
    logits = np.zeros((len(read), ensemble.outputs))
    text_of_end = {int(end): row for row, end in enumerate(read.encoded.step_offsets[1:])}
    for cut, scored in score_chunks(ensemble, read.encoded, rows=_ROWS, truncation_length=_TOKENS, device=device):
        for row, (first, count) in enumerate(zip(cut.first.tolist(), cut.count.tolist(), strict=True)):
            text = text_of_end.get(first + count)
            if text is not None and count:
                logits[text] = scored[row, count - 1]
    return logits
