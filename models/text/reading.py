"""Texts in, their tokens end to end out, as networks and tapes read them; with each token's place in its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.encoded import Encoded
from models.text.tokenizer import TextTokenizer, TokenizedText


@dataclass(frozen=True)
class ReadTexts:
    """Tokens of `n` texts.

    Args:
        encoded: token ids (tokens, 1) int64, end to end, with offsets a text; a token stands for a minute.
        place: (tokens, 2) int32 characters of every token in its own text.
    """

    encoded: Encoded
    place: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.encoded)

    def of_text(self, text: int) -> slice:
        """The tokens of one text."""
        return slice(int(self.encoded.step_offsets[text]), int(self.encoded.step_offsets[text + 1]))


def read_texts(tokenizer: TextTokenizer, texts: Sequence[str], *, max_tokens: int = 0) -> ReadTexts:
    """The tokens of texts.

    Args:
        tokenizer: trained on the training texts.
        texts: any number; an empty one is a token of a space.
        max_tokens: tokens of a text that are read, its first ones; 0 = all of them.
    """
    return joined([_cut(text, max_tokens) for text in tokenizer.encode_all(texts)])


def joined(texts: Sequence[TokenizedText]) -> ReadTexts:
    """Tokenized texts end to end."""
    lengths = [len(text) for text in texts]
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *(text.ids.astype(np.int64) for text in texts)])
    place = np.concatenate([np.zeros((0, 2), dtype=np.int32), *(text.offsets for text in texts)])
    within = np.arange(offsets[-1], dtype=np.int64) - np.repeat(offsets[:-1], lengths)
    return ReadTexts(Encoded(ids[:, None], offsets, within), place)


def _cut(text: TokenizedText, max_tokens: int) -> TokenizedText:
    if not max_tokens or len(text) <= max_tokens:
        return text
    return TokenizedText(text.ids[:max_tokens], text.offsets[:max_tokens])
