"""Batches of words in, a score of every tag at every word out: characters, shape and affixes under a two-way LSTM.

Source: Lample et al. 2016 (bidirectional LSTM with a chain of tags); Ma and Hovy 2016 (characters by convolution).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.cells import Cell, Initialisation, RecurrentStack, initialise
from models.errors import ConfigError
from models.text.crf import LinearChainCrf
from models.text.spans import TagSet
from models.text.vocabulary import AFFIX_LENGTHS, AFFIXES, FIRST_WORD, PAD, SHAPES, UNKNOWN, WordBatch

_KERNELS = (2, 3, 4)


@dataclass(frozen=True)
class TaggingConfig:
    """Sizes of a tagging network.

    Args:
        cell: kind of recurrent cell.
        word_size, character_size, shape_size, affix_size: widths of embeddings; 0 leaves shape or affixes out.
        filters: of every width, over a word's characters.
        hidden_size: width of one direction.
        layers: number of recurrent layers.
        input_dropout: probability, on a word's features, training only.
        dropout: probability, on hidden states, training only.
        unknown_words: probability that a known word is read as an unknown one, training only.
        window: words of the whole sentences that are read together.
    """

    cell: Cell = Cell.LSTM
    word_size: int = 64
    character_size: int = 24
    shape_size: int = 8
    affix_size: int = 12
    filters: int = 32
    hidden_size: int = 128
    layers: int = 1
    input_dropout: float = 0.3
    dropout: float = 0.4
    unknown_words: float = 0.1
    window: int = 40

    def __post_init__(self) -> None:
        """Refuses sizes and probabilities that do not hold."""
        if self.cell is Cell.GRU_D:
            raise ConfigError("cell must be one that reads words, got gru_d; choose lstm or gru")
        for name in ("word_size", "character_size", "filters", "hidden_size", "layers", "window"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}; choose a positive number")
        if min(self.shape_size, self.affix_size) < 0:
            raise ConfigError("shape_size and affix_size must not be negative, got one that is; 0 leaves it out")
        for name in ("input_dropout", "dropout", "unknown_words"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}; choose a probability")


class WordReader(nn.Module):
    """Distinct words in, a vector of each out."""

    def __init__(self, config: TaggingConfig, *, words: int, characters: int) -> None:
        super().__init__()
        self.words = _embedding(words, config.word_size, padding=True)
        self.characters = nn.Embedding(characters, config.character_size, padding_idx=PAD)
        kernels = (nn.Conv1d(config.character_size, config.filters, k, padding=k // 2) for k in _KERNELS)
        self.convolutions = nn.ModuleList(kernels)
        self.shapes = _embedding(SHAPES, config.shape_size) if config.shape_size else None
        self.affixes = _embedding(AFFIXES, config.affix_size) if config.affix_size else None
        self.unknown_words = config.unknown_words
        affixes = 2 * len(AFFIX_LENGTHS) * config.affix_size
        self.width = config.word_size + len(_KERNELS) * config.filters + config.shape_size + affixes

    def forward(self, batch: WordBatch) -> Tensor:
        """(batch, time, width) features of every word."""
        numbers = batch.words[batch.index]
        if self.training and self.unknown_words:
            hidden = torch.rand(numbers.shape, device=numbers.device) < self.unknown_words
            numbers = torch.where(hidden & (numbers >= FIRST_WORD), UNKNOWN, numbers)
        return torch.cat([self.words(numbers), self._spelling(batch)[batch.index]], dim=2)

    def _spelling(self, batch: WordBatch) -> Tensor:
        """(distinct, width) what a word's own form says."""
        present = (batch.characters != PAD)[:, None]
        embedded = self.characters(batch.characters).transpose(1, 2)
        length = present.shape[2]
        # ReLU leaves nothing below zero, so that padding never is the largest.
        found = [torch.relu(conv(embedded)[:, :, :length]) * present for conv in self.convolutions]
        parts = [f.amax(2) for f in found]
        if self.shapes is not None:
            parts.append(self.shapes(batch.shapes))
        if self.affixes is not None:
            parts.append(self.affixes(batch.affixes).flatten(1))
        return torch.cat(parts, dim=1)


class TaggingNetwork(nn.Module):
    """A score of every tag at every word, and the chain that joins them.

    It reads a window as a whole, in both directions, and keeps no state.

    Args:
        config: sizes.
        labels: what spans are labelled with.
        words: number of word numbers.
        characters: number of character numbers.
    """

    def __init__(self, config: TaggingConfig, labels: tuple[str, ...], *, words: int, characters: int) -> None:
        super().__init__()
        self.config = config
        self.tag_set = TagSet(labels)
        self.reader = WordReader(config, words=words, characters=characters)
        self.stack = RecurrentStack(
            config.cell,
            width=self.reader.width,
            hidden_size=config.hidden_size,
            layers=config.layers,
            dropout=config.dropout,
            bidirectional=True,
        )
        initialise(self.stack, how=Initialisation.ORTHOGONAL, forget_bias=1.0)
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.stack.output_width, len(self.tag_set.tags))
        self.crf = LinearChainCrf(self.tag_set.allowed(), self.tag_set.first())

    def forward(self, batch: WordBatch) -> Tensor:
        """(batch, time, tags) scores before the chain's own."""
        features = self.input_dropout(self.reader(batch))
        shape = (self.config.layers, len(features), self.config.hidden_size)
        memory = tuple(features.new_zeros(shape) for _ in self.config.cell.memory_names)
        outputs, _ = self.stack(features, memory, batch.valid)
        scores: Tensor = self.head(self.dropout(outputs[-1]))
        return scores

    def loss(self, batch: WordBatch, tags: Tensor) -> Tensor:
        """Negative log-likelihood of the tags (batch, time), by word."""
        likelihood = self.crf.log_likelihood(self(batch), tags, batch.valid)
        return -(likelihood.sum() / batch.valid.sum()).float()


def _embedding(numbers: int, width: int, *, padding: bool = False) -> nn.Embedding:
    table = nn.Embedding(numbers, width, padding_idx=PAD if padding else None)
    nn.init.normal_(table.weight, std=0.1)
    if padding:
        with torch.no_grad():
            table.weight[PAD].zero_()
    return table
