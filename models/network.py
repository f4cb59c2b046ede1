"""The recurrent network: a chunk of time steps and the state before it in, logits and the state after it out.

The same function is used in training (state detached between chunks), in evaluation (state carried, no
gradient) and in live serving (state kept per stay), so the three cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.batch import Chunk
from models.cells import Cell, Initialisation, Memory, RecurrentStack, initialise
from models.curves import FeatureCurves
from models.errors import ConfigError, DataError
from models.layout import Layout
from models.note_encoder import NoteEncoder
from models.notes import NotesConfig
from models.pooling import Pooling, RunningPool
from models.state import State

LEAST = {"hidden_size": 1, "layers": 1, "projection_size": 0, "head_layers": 0, "head_size": 1, "skip_pieces": 0}
PROBABILITIES = ("dropout", "input_dropout", "recurrent_dropout", "output_dropout", "head_dropout")


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of a network; travels inside the artifact.

    Args:
        cell: kind of cell.
        hidden_size: width of the hidden state of one direction.
        layers: number of stacked layers.
        dropout: probability between layers.
        input_dropout: probability on the inputs.
        recurrent_dropout: of gru_d: probability on what its gates read of the hidden state before; which units are
            dropped is drawn when a stay begins and holds to its end.
        output_dropout: probability before the head.
        bidirectional: reads each stay from its end too; for offline tasks, cannot stream.
        pooling: what the head reads at a time step.
        forget_bias: bias of an LSTM's forget gate at the beginning.
        initialisation: of the recurrent weights.
        learn_initial_state: the state of a beginning stay is trained; else it is zero.
        projection_size: width of a linear layer with tanh before the cell; 0 = none, as gru_d needs.
        head_layers: hidden layers (ReLU) between the pooled state and the outputs; the first also reads the step's own
            inputs. 0 = the outputs are linear.
        head_size: width of those layers.
        head_dropout: probability behind each of them.
        skip: the head also reads the step's own inputs, past the cell: what is linear in running statistics
            is then learnt as such, and the cell learns what is not.
        skip_pieces: past the cell, the head also adds a curve of this many linear pieces for every feature; 0 = none.
    """

    cell: Cell = Cell.GRU
    hidden_size: int = 64
    layers: int = 1
    dropout: float = 0.2
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    output_dropout: float = 0.0
    bidirectional: bool = False
    pooling: Pooling = Pooling.LAST
    forget_bias: float = 1.0
    initialisation: Initialisation = Initialisation.ORTHOGONAL
    learn_initial_state: bool = False
    projection_size: int = 0
    head_layers: int = 0
    head_size: int = 256
    head_dropout: float = 0.5
    skip: bool = False
    skip_pieces: int = 0

    def __post_init__(self) -> None:
        """Refuses sizes and probabilities that have no meaning."""
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(
                    f"network.{name} must be at least {least}, got {getattr(self, name)}; raise the number"
                )
        for name in PROBABILITIES:
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"network.{name} must be at least 0 and below 1, got {getattr(self, name)}; give a probability"
                )
        decays = self.cell is Cell.GRU_D
        if decays and (self.bidirectional or self.projection_size):
            raise ConfigError(
                "network.bidirectional and network.projection_size must be false and 0 with the cell gru_d, which "
                f"reads the channels themselves and from the past, got {self.bidirectional} and "
                f"{self.projection_size}; set both so or choose the cell gru"
            )
        if self.recurrent_dropout and not decays:
            raise ConfigError(
                f"network.recurrent_dropout must be 0 with the cell {self.cell}, got {self.recurrent_dropout}; "
                "use network.dropout or the cell gru_d"
            )


class RecurrentNetwork(nn.Module):
    """Input projection, note encoder, recurrent stack, pooling and head.

    Args:
        config: shape of the network.
        width: number of features at a time step.
        outputs: number of logits at a time step.
        notes: how notes are read; None or not enabled: notes are not read.
        vocabulary_size: number of token ids; needed with notes.
        layout: which features are value, mask and delta of every channel (`Encoding.layout`).

    Example:
        >>> network = RecurrentNetwork(NetworkConfig(hidden_size=4), width=3, outputs=1)
        >>> valid, begins = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
        >>> logits, state = network(Chunk(torch.zeros(2, 5, 3), valid, begins), network.initial_state(2))
        >>> tuple(logits.shape), state.names
        ((2, 5, 1), ('h',))
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        width: int,
        outputs: int,
        notes: NotesConfig | None = None,
        vocabulary_size: int = 0,
        layout: Layout | None = None,
    ) -> None:
        super().__init__()
        self.config, self.width, self.outputs = config, width, outputs
        self.notes = _note_encoder(notes, vocabulary_size)
        read = width + (self.notes.output_width if self.notes is not None else 0)
        # GRU-D drops behind its decays: a mask that is scaled or dropped would no longer say what is missing.
        decays = config.cell is Cell.GRU_D
        self.input_dropout = nn.Dropout(0.0 if decays else config.input_dropout)
        self.projection = nn.Linear(read, config.projection_size) if config.projection_size else None
        self.stack = RecurrentStack(
            config.cell,
            width=config.projection_size or read,
            hidden_size=config.hidden_size,
            layers=config.layers,
            dropout=config.dropout,
            bidirectional=config.bidirectional,
            layout=layout,
            input_dropout=config.input_dropout if decays else 0.0,
        )
        self.pool = RunningPool(config.pooling, self.stack.output_width)
        self.output_dropout = nn.Dropout(config.output_dropout)
        self.trunk = _trunk(config, self.stack.output_width + read)
        self.head = nn.Linear(config.head_size if config.head_layers else self.stack.output_width, outputs)
        self.skip = nn.Linear(read, outputs, bias=False) if config.skip else None
        self.curves = (
            FeatureCurves(width, outputs, pieces=config.skip_pieces, dropout=config.input_dropout)
            if config.skip_pieces
            else None
        )
        self.beginning = self._learned_beginning()
        initialise(self.stack, how=config.initialisation, forget_bias=config.forget_bias)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        if self.skip is not None:
            nn.init.zeros_(self.skip.weight)

    @property
    def streams(self) -> bool:
        """Whether a stay can be read chunk by chunk."""
        return not self.config.bidirectional

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """The state of `batch` stays that begin; by default on the network's device and in its precision."""
        where = torch.device(device) if device is not None else self.head.weight.device
        kind = dtype or self.head.weight.dtype
        shape = (self.config.layers, batch, self.config.hidden_size)
        names = self.config.cell.memory_names
        if self.beginning is None:
            memory = tuple(torch.zeros(shape, device=where, dtype=kind) for _ in names)
        else:
            memory = tuple(self.beginning[name].to(where, kind).expand(shape) for name in names)
        kept = self._recurrent_mask(batch, where, kind)
        carried = self.pool.initial(batch, device=where, dtype=kind)
        return State(names + ("recurrent_mask",) * len(kept) + self.pool.names, memory + kept + carried)

    def parts(self, state: State) -> tuple[Memory, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """A state's tensors: the cell's memory, the mask of recurrent dropout if there is one, the pooling's."""
        cells = len(self.config.cell.memory_names)
        pooled = len(state.tensors) - len(self.pool.names)
        return state.tensors[:cells], state.tensors[cells:pooled], state.tensors[pooled:]

    def forward(self, chunk: Chunk, state: State) -> tuple[Tensor, State]:
        """Logits (batch, time, outputs) and the state after the last time step.

        Rows that reset begin from the initial state. Padding ends a stay, so the state after a padded row
        is never read on. Raises `DataError` for a chunk or a state that does not fit the network.
        """
        state = self.begin(chunk, state)
        memory, kept, carried = self.parts(state)
        read = self.inputs(chunk)
        hidden, memory = self.stack(self.project(read), memory, chunk.valid, *kept)
        logits, carried = self.readout(chunk, read, hidden[-1], carried)
        kind = state.tensors[0].dtype
        return logits, State(state.names, tuple(t.to(kind) for t in memory + kept + carried))

    def begin(self, chunk: Chunk, state: State) -> State:
        """The state before the chunk's first time step: checked, rows that reset set to the initial state."""
        if chunk.features.shape[2] != self.width:
            raise DataError(
                f"chunk must have {self.width} features, got {chunk.features.shape[2]}; encode with this "
                "network's own encoding"
            )
        if not self.streams and not bool(chunk.reset.all()):
            raise DataError(
                "chunk must hold whole stays, as the network is bidirectional, got a stay's continuation; raise "
                "truncation_length to the longest stay or use a network that is not bidirectional"
            )
        initial = self.initial_state(chunk.features.shape[0], dtype=state.tensors[0].dtype)
        if state.names != initial.names or [t.shape for t in state.tensors] != [t.shape for t in initial.tensors]:
            raise DataError(
                f"state must hold {initial.names} of {[tuple(t.shape) for t in initial.tensors]}, got {state.names} "
                f"of {[tuple(t.shape) for t in state.tensors]}; begin with initial_state"
            )
        return state.reset(chunk.reset, initial)

    def inputs(self, chunk: Chunk) -> Tensor:
        """(batch, time, width) what enters the network: features and notes, with dropout."""
        batch, time, _ = chunk.features.shape
        read = chunk.features.to(self.head.weight.dtype)
        if self.notes is not None:
            read = torch.cat([read, self.notes(chunk.notes, batch=batch, time=time)], dim=2)
        dropped: Tensor = self.input_dropout(read)
        return dropped

    def project(self, read: Tensor) -> Tensor:
        """(batch, time, width) what the first layer reads of the inputs."""
        return read if self.projection is None else torch.tanh(self.projection(read))

    def readout(
        self, chunk: Chunk, read: Tensor, hidden: Tensor, carried: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits (batch, time, outputs) from inputs and last hidden states, and what the pooling carries on."""
        pooled, carried = self.pool(hidden.to(self.head.weight.dtype), carried, chunk.valid)
        pooled = self.output_dropout(pooled)
        if self.trunk is not None:
            pooled = self.trunk(torch.cat([pooled, read], dim=2))
        logits = self.head(pooled)
        if self.skip is not None:
            logits = logits + self.skip(read)
        if self.curves is not None:
            logits = logits + self.curves(chunk.features.to(self.head.weight.dtype))
        return logits, carried

    def _recurrent_mask(self, batch: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """(1, batch, hidden) factors that drop units for a whole stay in training, and ones elsewhere; or nothing.

        Source: Gal and Ghahramani 2016, A Theoretically Grounded Application of Dropout in Recurrent Neural Networks.
        """
        if not self.config.recurrent_dropout:
            return ()
        ones = torch.ones((1, batch, self.config.hidden_size), device=device, dtype=dtype)
        return (nn.functional.dropout(ones, self.config.recurrent_dropout, training=self.training),)

    def _learned_beginning(self) -> nn.ParameterDict | None:
        if not self.config.learn_initial_state:
            return None
        shape = (self.config.layers, 1, self.config.hidden_size)
        return nn.ParameterDict({name: torch.zeros(shape) for name in self.config.cell.memory_names})


def _trunk(config: NetworkConfig, width: int) -> nn.Sequential | None:
    layers: list[nn.Module] = []
    for _ in range(config.head_layers):
        layers += [nn.Linear(width, config.head_size), nn.ReLU(), nn.Dropout(config.head_dropout)]
        width = config.head_size
    return nn.Sequential(*layers) if layers else None


def _note_encoder(notes: NotesConfig | None, vocabulary_size: int) -> NoteEncoder | None:
    if notes is None or not notes.enabled:
        return None
    if vocabulary_size < 2:
        raise ConfigError(
            f"vocabulary_size must be at least 2 where notes are read, got {vocabulary_size}; give the tokenizer's"
        )
    return NoteEncoder(
        vocabulary_size=vocabulary_size, embedding_size=notes.embedding_size, hidden_size=notes.hidden_size
    )
