"""Texts in, their words with places in the original text out, and windows of whole sentences of them.

A word is a run of letters and digits of a script that parts its words by spaces, and one character of a script that
does not (Japanese) or one mark otherwise. The original text is cut, never a normalised one, so that places hold
whatever NFKC does to a word: a letter and the marks that combine with it stay together.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

# Kana, ideographs and their radicals and half-width forms: none of them parts its words by spaces.
_UNPARTED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff"
    "\uff66-\uff9d\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
# Marks that combine with the character before them; the half-width sounding marks do so under NFKC.
_COMBINING = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u3099\u309a\ufe00-\ufe0f\ufe20-\ufe2f\uff9e\uff9f"
_WORD = re.compile(rf"(?:[^\W_{_UNPARTED}{_COMBINING}][{_COMBINING}]*)+|\S[{_COMBINING}]*")
_DIGIT = re.compile(r"\d")
_ENDS = frozenset(".!?。！？．｡")
_UNSPACED_ENDS = frozenset("。！？｡")


def split_words(text: str) -> NDArray[np.int32]:
    """The words of a text, (words, 2): first character and the one behind the last.

    Example:
        >>> split_words("5-FU 10mg、肺癌").tolist()
        [[0, 1], [1, 2], [2, 4], [5, 9], [9, 10], [10, 11], [11, 12]]
    """
    return np.array([match.span() for match in _WORD.finditer(text)], dtype=np.int32).reshape(-1, 2)


def normalised(word: str) -> str:
    """The word by NFKC, in its own case."""
    return unicodedata.normalize("NFKC", word)


def known_form(word: str) -> str:
    """The form by which a normalised word is known: lower case, every digit a zero."""
    return _DIGIT.sub("0", word.lower())


def sentence_windows(text: str, words: NDArray[np.int32], limit: int) -> list[tuple[int, int]]:
    """First word and the one behind the last of every window: whole sentences of at most `limit` words together.

    A sentence that is longer stands alone, and is cut where it is longer than four times the limit.
    """
    windows: list[tuple[int, int]] = []
    start = 0
    for end in _sentence_ends(text, words):
        if windows and end - windows[-1][0] <= limit:
            windows[-1] = (windows[-1][0], end)
        else:
            windows += [(cut, min(cut + 4 * limit, end)) for cut in range(start, end, 4 * limit)]
        start = end
    return windows


def _sentence_ends(text: str, words: NDArray[np.int32]) -> list[int]:
    """Number of words up to every sentence's end, the text's own among them."""
    ends: list[int] = []
    for word, (first, behind) in enumerate(words.tolist()):
        following = int(words[word + 1, 0]) if word + 1 < len(words) else len(text)
        spaced = following > behind or text[first] in _UNSPACED_ENDS
        if word + 1 == len(words) or (text[first] in _ENDS and spaced) or "\n" in text[behind:following]:
            ends.append(word + 1)
    return ends
