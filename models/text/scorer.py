"""Texts in, calibrated risks of every label out, with the labels that are named and, if wanted, each token's weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from models.ensemble import Ensemble
from models.stay import Floats
from models.text.attribution import token_weights
from models.text.bundle import TextBundle
from models.text.reading import ReadTexts, read_texts
from models.text.scoring import document_logits
from models.text.task import TextTaskKind
from models.text.tokenizer import TextTokenizer

_LEAST = 1e-12


@dataclass(frozen=True)
class TokenWeight:
    """A token's place and weight.

    Args:
        start: index of its first character in the original text.
        end: index behind its last character.
        weight: what it adds to the label's logit.
    """

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Attribution:
    """What the risk of one label rests on.

    Args:
        label: the label.
        tokens: every token that was read, in order.
    """

    label: str
    tokens: tuple[TokenWeight, ...]


@dataclass(frozen=True)
class TextScores:
    """Answers for `n` texts.

    Args:
        labels: names of all labels, in the order of the columns.
        probability: (n, labels) calibrated risks; those of a classification add up to 1.
        named: labels that are named for each text: one for a classification, any number for several labels.
        attribution: for each text one a named label; empty where not asked for.
        tokens_read: (n,) tokens that were read of each text.
    """

    labels: tuple[str, ...]
    probability: Floats
    named: tuple[tuple[str, ...], ...]
    attribution: tuple[tuple[Attribution, ...], ...]
    tokens_read: tuple[int, ...]


class TextScorer:
    """One loaded model of documents.

    Args:
        bundle: the model's facts.
        network: its members, which go into evaluation mode.
        tokenizer: how texts become tokens.
        digest: digest of the artifact, `sha256:<hex>`; empty for a model that is not saved yet.
        card: the model card in Markdown, where the artifact holds one.
        device: where the members run.
    """

    def __init__(
        self,
        bundle: TextBundle,
        network: Ensemble,
        tokenizer: TextTokenizer,
        *,
        digest: str = "",
        card: str = "",
        device: str = "cpu",
    ) -> None:
        self.bundle, self.tokenizer, self.digest, self.card = bundle, tokenizer, digest, card
        self.network = network.to(device).eval()
        self.device = torch.device(device)

    def classify(self, texts: Sequence[str], *, attribution: bool = False) -> TextScores:
        """Risks of every text; they do not depend on which texts are asked for together.

        Args:
            texts: any number, of any length.
            attribution: also what each named label's risk rests on, token by token.
        """
        read = read_texts(self.tokenizer, texts, max_tokens=self.bundle.network.max_tokens)
        probability = self.risks(document_logits(self.network, read, device=self.device))
        named = self.named(probability)
        labels = self.bundle.task.labels
        weights: tuple[tuple[Attribution, ...], ...] = ()
        if attribution:
            weights = tuple(self._attributed(read, row, own) for row, own in enumerate(named))
        lengths = tuple(int(n) for n in read.encoded.lengths)
        return TextScores(labels, probability, tuple(tuple(labels[k] for k in own) for own in named), weights, lengths)

    def risks(self, logits: Floats) -> Floats:
        """(texts, labels) calibrated risks of the members' logits."""
        return self.bundle.calibration.apply(logits + self._shift, np.zeros(len(logits)))

    def named(self, probability: Floats) -> list[list[int]]:
        """Numbers of the labels that are named for each text."""
        if self.bundle.task.kind is TextTaskKind.MULTILABEL:
            return [np.flatnonzero(row >= self._decision).tolist() for row in probability]
        best = (np.log(np.maximum(probability, _LEAST)) + self._decision).argmax(axis=1)
        return [[int(k)] for k in best]

    @cached_property
    def _shift(self) -> Floats:
        return np.array(self.bundle.shift)

    @cached_property
    def _decision(self) -> Floats:
        return np.array(self.bundle.decision)

    def _attributed(self, read: ReadTexts, row: int, named: list[int]) -> tuple[Attribution, ...]:
        own = read.of_text(row)
        ids, place = read.encoded.features[own, 0], read.place[own].tolist()
        found = []
        for output in named:
            weights = token_weights(self.network, ids, output).tolist()
            tokens = (TokenWeight(start, end, w) for (start, end), w in zip(place, weights, strict=True))
            found.append(Attribution(self.bundle.task.labels[output], tuple(tokens)))
        return tuple(found)
