"""The network of texts: a chunk of tokens and the state before it in, logits and the state after it out.

Tokens are embedded and read by the same recurrent stack as vital signs, and what the head reads is pooled over the
text so far. In one direction a text is read chunk by chunk with its state carried, so that it may be of any length;
a network that reads texts from their end too needs each of them whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from models.batch import Chunk
from models.cells import Cell, Initialisation, RecurrentStack, initialise
from models.errors import ConfigError, DataError
from models.network_config import check_numbers
from models.pooling import Pooling, RunningPool
from models.state import State
from models.streaming import StreamingNetwork

LEAST = {"embedding_size": 1, "hidden_size": 1, "layers": 1, "max_tokens": 0}
PROBABILITIES = ("dropout", "token_dropout", "embedding_dropout", "output_dropout")
_EMBEDDING_SPREAD = 0.1


@dataclass(frozen=True)
class TextNetworkConfig:
    """Shape of a network of texts; travels inside the artifact.

    Args:
        cell: kind of cell; gru_d, which reads channels, is refused.
        embedding_size: width of a token's vector.
        hidden_size: width of the hidden state of one direction.
        layers: number of stacked layers.
        dropout: probability between layers.
        token_dropout: probability that a token's vector is zero as a whole.
        embedding_dropout: probability on the numbers of tokens' vectors.
        output_dropout: probability before the head.
        bidirectional: reads each text from its end too; needs a limit of its length.
        pooling: what the head reads, side by side: the last state, or the mean, maximum or attention so far.
        pool_embeddings: the head also reads the mean of the tokens' vectors so far, past the cell.
        forget_bias: bias of an LSTM's forget gate at the beginning.
        initialisation: of the recurrent weights.
        max_tokens: tokens of a text that are read, its first ones; 0 = all, for networks of one direction alone.
    """

    cell: Cell = Cell.GRU
    embedding_size: int = 64
    hidden_size: int = 64
    layers: int = 1
    dropout: float = 0.2
    token_dropout: float = 0.1
    embedding_dropout: float = 0.2
    output_dropout: float = 0.3
    bidirectional: bool = False
    pooling: tuple[Pooling, ...] = (Pooling.MEAN, Pooling.MAX)
    pool_embeddings: bool = True
    forget_bias: float = 1.0
    initialisation: Initialisation = Initialisation.ORTHOGONAL
    max_tokens: int = 0

    def __post_init__(self) -> None:
        """Refuses sizes and probabilities that have no meaning."""
        check_numbers(self, LEAST, PROBABILITIES)
        if self.cell is Cell.GRU_D:
            raise ConfigError("network.cell must not be gru_d for texts, got it; choose lstm or gru")
        if not self.pooling or len(set(self.pooling)) != len(self.pooling):
            raise ConfigError(
                f"network.pooling must name one kind or more, each once, got {list(map(str, self.pooling))}; correct it"
            )
        if self.bidirectional and not self.max_tokens:
            raise ConfigError(
                "network.max_tokens must be above 0 for a bidirectional network, which reads whole texts, got 0; "
                "state how long they may be"
            )


class TextNetwork(StreamingNetwork):
    """Embedding, recurrent stack, pooling and head.

    Args:
        config: shape of the network.
        vocabulary_size: number of token ids; id 0 is read as nothing.
        outputs: number of logits at a token.
        predicts_tokens: the head gives a logit for every token of the vocabulary, from the last hidden state and
            through the embedding itself; for pre-training.
        at_ends: logits are computed at each row's last token of a chunk alone, and are zero elsewhere: all that the
            training and the answers of whole texts read, in a fraction of the time.

    Example:
        >>> network = TextNetwork(TextNetworkConfig(hidden_size=4), vocabulary_size=300, outputs=2)
        >>> valid, begins = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
        >>> chunk = Chunk(torch.ones(2, 5, 1, dtype=torch.int64), valid, begins)
        >>> logits, state = network(chunk, network.initial_state(2))
        >>> tuple(logits.shape), state.names[0]
        ((2, 5, 2), 'h')
    """

    def __init__(
        self,
        config: TextNetworkConfig,
        *,
        vocabulary_size: int,
        outputs: int,
        predicts_tokens: bool = False,
        at_ends: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.width, self.outputs, self.at_ends = config, 1, outputs, at_ends
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_size, padding_idx=0)
        with torch.no_grad():
            self.embedding.weight[1:].normal_(0.0, _EMBEDDING_SPREAD)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)
        self.stack = RecurrentStack(
            config.cell,
            width=config.embedding_size,
            hidden_size=config.hidden_size,
            layers=config.layers,
            dropout=config.dropout,
            bidirectional=config.bidirectional,
        )
        initialise(self.stack, how=config.initialisation, forget_bias=config.forget_bias)
        read = self.stack.output_width
        kinds = (Pooling.LAST,) if predicts_tokens else config.pooling
        self.pools = nn.ModuleList(RunningPool(kind, read) for kind in kinds)
        if config.pool_embeddings and not predicts_tokens:
            self.pools.append(RunningPool(Pooling.MEAN, config.embedding_size))
        self.pool_embeddings = config.pool_embeddings and not predicts_tokens
        self.output_dropout = nn.Dropout(config.output_dropout)
        pooled = sum(pool.width for pool in self._pools)
        self.head: nn.Module
        if predicts_tokens:
            self.head = TokenHead(self.embedding, pooled)
        else:
            self.head = nn.Linear(pooled, outputs)
            nn.init.xavier_uniform_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    @property
    def _pools(self) -> list[RunningPool]:
        return [cast("RunningPool", pool) for pool in self.pools]

    @property
    def streams(self) -> bool:
        """Whether a text can be read chunk by chunk."""
        return not self.config.bidirectional

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """The state of `batch` texts that begin; by default on the network's device and in its precision."""
        where = torch.device(device) if device is not None else self.embedding.weight.device
        kind = dtype or self.embedding.weight.dtype
        names = self.config.cell.memory_names
        shape = (self.config.layers, batch, self.config.hidden_size)
        tensors = [torch.zeros(shape, device=where, dtype=kind) for _ in names]
        pooled = []
        for number, pool in enumerate(self._pools):
            pooled += [f"{number}.{name}" for name in pool.names]
            tensors += pool.initial(batch, device=where, dtype=kind)
        return State((*names, *pooled), tuple(tensors))

    def forward(self, chunk: Chunk, state: State) -> tuple[Tensor, State]:
        """Logits (batch, time, outputs) of the text up to each token, and the state after the last one.

        Rows that reset begin from the initial state.

        Raises:
            DataError: if a row goes on where the network reads whole texts.
        """
        if not self.streams and not bool(chunk.reset.all()):
            raise DataError(
                "chunk must hold whole texts, as the network is bidirectional, got a text's continuation; raise "
                "training.truncation_length to network.max_tokens, or use one direction"
            )
        return self.read(self.embed(chunk.features[..., 0]), chunk, state)

    def embed(self, ids: Tensor) -> Tensor:
        """(batch, time, embedding) vectors of token ids (batch, time), with dropout."""
        vectors: Tensor = self.embedding(ids)
        if self.training and self.config.token_dropout:
            kept = torch.rand(ids.shape, device=ids.device) >= self.config.token_dropout
            vectors = vectors * kept[..., None]
        dropped: Tensor = self.embedding_dropout(vectors)
        return dropped

    def read(self, vectors: Tensor, chunk: Chunk, state: State) -> tuple[Tensor, State]:
        """What `forward` gives, from the tokens' vectors; of the chunk, validity and beginnings are read."""
        batch = vectors.shape[0]
        before = state.reset(chunk.reset, self.initial_state(batch, dtype=state.tensors[0].dtype))
        cells = len(self.config.cell.memory_names)
        hidden, memory = self.stack(vectors, before.tensors[:cells], chunk.valid)
        pooled, carried, place = [], list(memory), cells
        for number, pool in enumerate(self._pools):
            past_cell = self.pool_embeddings and number == len(self.pools) - 1
            own = before.tensors[place : place + len(pool.names)]
            place += len(pool.names)
            pools = pool.last if self.at_ends else pool
            value, after = pools(vectors if past_cell else hidden[-1], own, chunk.valid)
            pooled.append(value)
            carried += after
        logits: Tensor = self.head(self.output_dropout(torch.cat(pooled, dim=2)))
        if self.at_ends:
            logits = _at_ends(logits, chunk.valid)
        kind = before.tensors[0].dtype
        return logits, State(before.names, tuple(t.to(kind) for t in carried))


def _at_ends(logits: Tensor, valid: Tensor) -> Tensor:
    """(batch, time, outputs) logits (batch, 1, outputs) in the place of each row's last valid step, zero elsewhere."""
    place = (valid.sum(1) - 1).clamp_min(0)[:, None, None].expand(-1, 1, logits.shape[2])
    return logits.new_zeros(*valid.shape, logits.shape[2]).scatter(1, place, logits)


class TokenHead(nn.Module):
    """Logits of every token of the vocabulary, from hidden states, by their likeness to the tokens' own vectors.

    The vectors are the embedding's, which is left in its owner: a tensor is stored once.

    Args:
        embedding: of the tokens.
        width: of the hidden states.

    Source: Press and Wolf 2017, Using the Output Embedding to Improve Language Models.
    """

    def __init__(self, embedding: nn.Embedding, width: int) -> None:
        super().__init__()
        self._embedding = [embedding]
        self.bridge = nn.Linear(width, embedding.embedding_dim)
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, time, vocabulary) logits."""
        return nn.functional.linear(self.bridge(hidden), self._embedding[0].weight, self.bias)
