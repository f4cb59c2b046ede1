"""The shape of a recurrent network: a run's `network` table in, a checked `NetworkConfig` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from models.cells import Cell, Initialisation
from models.errors import ConfigError
from models.pooling import Pooling

LEAST = {"hidden_size": 1, "layers": 1, "projection_size": 0, "head_layers": 0, "head_size": 1, "skip_pieces": 0}
PROBABILITIES = ("dropout", "input_dropout", "recurrent_dropout", "output_dropout", "head_dropout")


def check_numbers(config: object, least: Mapping[str, int], probabilities: Sequence[str]) -> None:
    """Refuses sizes and probabilities of a `network` table that have no meaning.

    Args:
        config: the table.
        least: keys of sizes, and the least that each may be.
        probabilities: keys of probabilities below 1.

    Raises:
        ConfigError: with the key and what it is.
    """
    for name, lowest in least.items():
        if (given := getattr(config, name)) < lowest:
            raise ConfigError(f"network.{name} must be at least {lowest}, got {given}; raise the number")
    for name in probabilities:
        if not 0 <= (given := getattr(config, name)) < 1:
            raise ConfigError(f"network.{name} must be at least 0 and below 1, got {given}; give a probability")


class Reads(StrEnum):
    """What a network reads of a stay: all that the model reads, its measurements alone, or its notes alone."""

    ALL = "all"
    SIGNALS = "signals"
    NOTES = "notes"


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of a network; travels inside the artifact.

    Args:
        cell: kind of cell.
        hidden_size: width of the hidden state of one direction.
        layers: number of stacked layers.
        dropout: probability between layers.
        input_dropout: probability on the inputs, drawn anew at every time step; of gru_d: on what its gates read of
            them, drawn when a stay begins and held to its end.
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
        reads: all that the model reads, or measurements or notes alone, as a member of an ensemble may.
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
    reads: Reads = Reads.ALL

    def __post_init__(self) -> None:
        """Refuses sizes and probabilities that have no meaning."""
        check_numbers(self, LEAST, PROBABILITIES)
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
        if self.reads is Reads.NOTES and (decays or self.skip_pieces):
            raise ConfigError(
                "network.reads must not be notes with the cell gru_d or network.skip_pieces, which read measurements, "
                f"got '{self.cell}' and {self.skip_pieces}; choose the cell gru and 0"
            )
