"""Character spans and tokens' offsets in, a tag of every token out; and back again, and exact-span counts.

Tags are IOB2: `B-x` opens a span of label x, `I-x` goes on with it, `O` is outside of all. Spans are in characters
of the original text whatever the tokenizer normalised, since nothing but the offsets is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import DataError
from models.text.documents import Span

OUTSIDE = 0


@dataclass(frozen=True)
class TaggedText:
    """Tags of one text's tokens.

    Args:
        tags: (tokens,) int64.
        left_out: spans that no tags can express: within or across another span, or of no token.
    """

    tags: NDArray[np.int64]
    left_out: int


@dataclass(frozen=True)
class TagSet:
    """The tags of some labels: outside, and two for every label.

    Args:
        labels: names of the labels, each once.

    Example:
        >>> TagSet(("Chemical", "Disease")).tags
        ('O', 'B-Chemical', 'I-Chemical', 'B-Disease', 'I-Disease')
    """

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuses no label, or one twice."""
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise DataError(f"labels must be one or more, each once, got {len(self.labels)}; name every label once")

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the tags, by number."""
        return ("O", *(f"{kind}-{label}" for label in self.labels for kind in "BI"))

    def begin(self, label: int) -> int:
        """The tag that opens a span of this label; the one after it goes on with it."""
        return 1 + 2 * label

    def allowed(self) -> Tensor:
        """(tags, tags) bool: an inner tag follows its own label alone, every other tag follows any."""
        tags = len(self.tags)
        allowed = torch.ones(tags, tags, dtype=torch.bool)
        for begin in range(1, tags, 2):
            allowed[:, begin + 1] = False
            allowed[begin : begin + 2, begin + 1] = True
        return allowed

    def first(self) -> Tensor:
        """(tags,) bool: no sequence begins with an inner tag."""
        return torch.tensor([not name.startswith("I-") for name in self.tags])

    def tag(self, offsets: NDArray[np.int32], spans: Sequence[Span]) -> TaggedText:
        """The tags that stand for these spans.

        A token belongs to a span if they share a character. Of spans that share a token the longest stays.

        Args:
            offsets: (tokens, 2) first character of every token and the one behind its last, in order.
            spans: labelled stretches of the text.

        Raises:
            DataError: if a span has another label.
        """
        numbers = {label: number for number, label in enumerate(self.labels)}
        if any(span.label not in numbers for span in spans):
            raise DataError(f"spans must have one of {len(self.labels)} labels, got another; name it in the task")
        tags = np.zeros(len(offsets), dtype=np.int64)
        left_out = 0
        for span in sorted(spans, key=lambda span: (span.start - span.end, span.start)):
            inside = np.flatnonzero((offsets[:, 0] < span.end) & (offsets[:, 1] > span.start))
            if not len(inside) or tags[inside[0] : inside[-1] + 1].any():
                left_out += 1
                continue
            begin = self.begin(numbers[span.label])
            tags[inside[0] : inside[-1] + 1] = begin + 1
            tags[inside[0]] = begin
        return TaggedText(tags, left_out)

    def runs(self, tags: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        """First token, the one behind the last, and label's number of every span that the tags stand for.

        An inner tag that follows nothing of its label opens a span, as conlleval reads it.
        """
        found: list[tuple[int, int, int]] = []
        start, open_label = 0, -1
        for token, tag in enumerate([*tags.tolist(), OUTSIDE]):
            label = (tag - 1) // 2 if tag > OUTSIDE else -1
            goes_on = label == open_label and tag % 2 == 0
            if open_label >= 0 and not goes_on:
                found.append((start, token, open_label))
            if not goes_on:
                start, open_label = token, label
        return found

    def spans(self, offsets: NDArray[np.int32], tags: NDArray[np.int64]) -> tuple[Span, ...]:
        """The spans that the tags stand for; tokens without a character hold none.

        Where several tokens stand for one character (bytes), the first span that holds it keeps it.
        """
        if len(offsets) != len(tags):
            raise DataError(f"tags must be one a token, got {len(tags)} for {len(offsets)}; tag the same text")
        found: list[Span] = []
        behind = 0
        for first, last, label in self.runs(tags):
            start, end = max(int(offsets[first, 0]), behind), int(offsets[first:last, 1].max())
            if start < end:
                found.append(Span(start, end, self.labels[label]))
                behind = end
        return tuple(found)
