"""The recurrent network: a chunk of time steps and the state before it in, logits and the state after it out.

The same function is used in training (state detached between chunks), in evaluation (state carried, no
gradient) and in live serving (state kept per stay), so the three cannot drift apart.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.batch import Chunk
from models.cells import Cell, Kept, Memory, RecurrentStack, initialise
from models.curves import FeatureCurves
from models.errors import ConfigError, DataError
from models.gru_d import GruD
from models.layout import Layout
from models.network_config import NetworkConfig, Reads
from models.note_encoder import NoteEncoder
from models.note_memory import SEEN, NoteMemory, TermEncoder
from models.notes import NoteFusion, NoteReading, NotesConfig
from models.pooling import RunningPool
from models.state import State
from models.streaming import StreamingNetwork

__all__ = ["NetworkConfig", "Reads", "RecurrentNetwork"]

# What GRU-D's dropout draws when a stay begins, by its names in a state: of the hidden state, and of the inputs.
DROPOUT_MASKS = ("recurrent_mask", "input_mask")


class RecurrentNetwork(StreamingNetwork):
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
        self.head: nn.Linear
        self.notes = _note_encoder(config, notes, vocabulary_size)
        fusion = notes.fusion if notes is not None and self.notes is not None else NoteFusion.EARLY
        read = self._read_width(early=fusion is NoteFusion.EARLY)
        # GRU-D drops behind its decays: a mask that is scaled or dropped would no longer say what is missing.
        self.input_dropout = nn.Dropout(0.0 if config.cell is Cell.GRU_D else config.input_dropout)
        self.projection = nn.Linear(read, config.projection_size) if config.projection_size else None
        self.stack = RecurrentStack(
            config.cell,
            width=config.projection_size or read,
            hidden_size=config.hidden_size,
            layers=config.layers,
            dropout=config.dropout,
            bidirectional=config.bidirectional,
            layout=layout,
        )
        self.pool = RunningPool(config.pooling, self.stack.output_width)
        self.output_dropout = nn.Dropout(config.output_dropout)
        self.trunk = _trunk(config, self.stack.output_width + read)
        self.head = nn.Linear(config.head_size if config.head_layers else self.stack.output_width, outputs)
        self.skip = nn.Linear(read, outputs, bias=False) if config.skip else None
        self.curves = _curves(config, width, outputs)
        self.note_memory: NoteMemory | None = None
        if self.notes is not None and fusion is not NoteFusion.EARLY:
            sizes = {"width": self.notes.output_width, "pooled": self.stack.output_width, "outputs": outputs}
            self.note_memory = NoteMemory(fusion, **sizes)
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

    @property
    def leaves_parts_unused(self) -> bool:
        """Whether a batch may leave parameters without a gradient: one without notes leaves their encoder."""
        return self.notes is not None

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
        kept = self._dropout_masks(batch, where, kind)
        carried = self.pool.initial(batch, device=where, dtype=kind)
        if self.note_memory is not None:
            carried += (self.note_memory.initial(batch, device=where, dtype=kind),)
        return State(names + DROPOUT_MASKS[: len(kept)] + self._carried_names, memory + kept + carried)

    def parts(self, state: State) -> tuple[Memory, Kept, tuple[Tensor, ...]]:
        """A state's tensors: the cell's memory, the masks of GRU-D's dropout if it has any, the readout's."""
        cells = len(self.config.cell.memory_names)
        pooled = len(state.tensors) - len(self._carried_names)
        return state.tensors[:cells], state.tensors[cells:pooled], state.tensors[pooled:]

    def forward(self, chunk: Chunk, state: State) -> tuple[Tensor, State]:
        """Logits (batch, time, outputs) and the state after the last time step.

        Rows that reset begin from the initial state. Padding ends a stay, so the state after a padded row
        is never read on. Raises `DataError` for a chunk or a state that does not fit the network.
        """
        state = self.begin(chunk, state)
        memory, kept, carried = self.parts(state)
        read = self.inputs(chunk)
        hidden, memory = self.stack(self.project(read), memory, chunk.valid, kept)
        logits, carried = self.readout(chunk, read, hidden[-1], carried)
        return logits, State(state.names, tuple(t.to(state.tensors[0].dtype) for t in memory + kept + carried))

    def begin(self, chunk: Chunk, state: State) -> State:
        """The state before the chunk's first time step: checked, rows that reset set to the initial state."""
        _check_chunk(self, chunk)
        initial = self.initial_state(chunk.features.shape[0], dtype=state.tensors[0].dtype)
        _check_state(state, initial)
        return state.reset(chunk.reset, initial)

    def inputs(self, chunk: Chunk) -> Tensor:
        """(batch, time, width) what enters the cell: features and notes, with dropout.

        Notes that meet measurements later do not enter it; a cell without measurements then reads when they came.
        """
        parts = []
        if self.config.reads is not Reads.NOTES:
            parts.append(chunk.features.to(self.head.weight.dtype))
        if self.notes is not None and (self.note_memory is None or not parts):
            vectors = self._vectors(chunk)
            parts.append(vectors if self.note_memory is None else vectors[..., -1:])
        dropped: Tensor = self.input_dropout(torch.cat(parts, dim=2))
        return dropped

    def project(self, read: Tensor) -> Tensor:
        """(batch, time, width) what the first layer reads of the inputs."""
        return read if self.projection is None else torch.tanh(self.projection(read))

    def readout(
        self, chunk: Chunk, read: Tensor, hidden: Tensor, carried: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits (batch, time, outputs) from inputs and last hidden states, and what is carried on."""
        own = len(self.pool.names)
        state, kept = self.pool(hidden.to(self.head.weight.dtype), carried[:own], chunk.valid)
        pooled = self.output_dropout(state)
        if self.trunk is not None:
            pooled = self.trunk(torch.cat([pooled, read], dim=2))
        logits = self.head(pooled)
        if self.skip is not None:
            logits = logits + self.skip(read)
        if self.curves is not None:
            logits = logits + self.curves(chunk.features.to(self.head.weight.dtype))
        if self.note_memory is not None:
            said, seen = self.note_memory(self._vectors(chunk), state, carried[own])
            logits, kept = logits + said, (*kept, seen)
        return logits, kept

    @property
    def _carried_names(self) -> tuple[str, ...]:
        return self.pool.names if self.note_memory is None else (*self.pool.names, SEEN)

    def _vectors(self, chunk: Chunk) -> Tensor:
        """(batch, time, width) notes at their time steps."""
        batch, time, _ = chunk.features.shape
        vectors: Tensor = cast("nn.Module", self.notes)(chunk.notes, batch=batch, time=time)
        return vectors

    def _read_width(self, *, early: bool) -> int:
        measured = 0 if self.config.reads is Reads.NOTES else self.width
        if self.notes is None:
            return measured
        return measured + self.notes.output_width if early else max(measured, 1)

    def _dropout_masks(self, batch: int, device: torch.device, dtype: torch.dtype) -> Kept:
        """Factors that drop what GRU-D's gates read for a whole stay in training, and ones elsewhere; or nothing.

        Source: Gal and Ghahramani 2016, A Theoretically Grounded Application of Dropout in Recurrent Neural Networks.
        """
        layer, shares = self.stack.layers[0], (self.config.recurrent_dropout, self.config.input_dropout)
        if not isinstance(layer, GruD) or not any(shares):
            return ()
        widths = (layer.hidden_size, layer.entering_width)
        ones = (torch.ones((1, batch, width), device=device, dtype=dtype) for width in widths)
        return tuple(functional.dropout(o, share, self.training) for o, share in zip(ones, shares, strict=True))

    def _learned_beginning(self) -> nn.ParameterDict | None:
        if not self.config.learn_initial_state:
            return None
        shape = (self.config.layers, 1, self.config.hidden_size)
        return nn.ParameterDict({name: torch.zeros(shape) for name in self.config.cell.memory_names})


def _check_chunk(network: RecurrentNetwork, chunk: Chunk) -> None:
    if chunk.features.shape[2] != network.width:
        raise DataError(
            f"chunk must have {network.width} features, got {chunk.features.shape[2]}; encode with this "
            "network's own encoding"
        )
    if not network.streams and not bool(chunk.reset.all()):
        raise DataError(
            "chunk must hold whole stays, as the network is bidirectional, got a stay's continuation; raise "
            "truncation_length to the longest stay or use a network that is not bidirectional"
        )


def _check_state(state: State, initial: State) -> None:
    if state.names != initial.names or [t.shape for t in state.tensors] != [t.shape for t in initial.tensors]:
        raise DataError(
            f"state must hold {initial.names} of {[tuple(t.shape) for t in initial.tensors]}, got {state.names} "
            f"of {[tuple(t.shape) for t in state.tensors]}; begin with initial_state"
        )


def _curves(config: NetworkConfig, width: int, outputs: int) -> FeatureCurves | None:
    if not config.skip_pieces:
        return None
    return FeatureCurves(width, outputs, pieces=config.skip_pieces, dropout=config.input_dropout)


def _trunk(config: NetworkConfig, width: int) -> nn.Sequential | None:
    layers: list[nn.Module] = []
    for _ in range(config.head_layers):
        layers += [nn.Linear(width, config.head_size), nn.ReLU(), nn.Dropout(config.head_dropout)]
        width = config.head_size
    return nn.Sequential(*layers) if layers else None


def _note_encoder(
    config: NetworkConfig, notes: NotesConfig | None, vocabulary_size: int
) -> NoteEncoder | TermEncoder | None:
    if config.reads is Reads.SIGNALS or notes is None or not notes.enabled:
        if config.reads is Reads.NOTES:
            raise ConfigError("notes.enabled must be true for network.reads 'notes', got false; enable them")
        return None
    if vocabulary_size < 2:
        raise ConfigError(
            f"vocabulary_size must be at least 2 where notes are read, got {vocabulary_size}; give the tokenizer's"
        )
    if notes.reading is NoteReading.TERMS:
        early = notes.fusion is NoteFusion.EARLY
        return TermEncoder(vocabulary_size=vocabulary_size, hidden_size=notes.hidden_size if early else 0)
    return NoteEncoder(
        vocabulary_size=vocabulary_size, embedding_size=notes.embedding_size, hidden_size=notes.hidden_size
    )
