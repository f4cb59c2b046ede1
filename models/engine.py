"""A loaded model in, an engine out: what steps the members of many live stays at once, as fast as the machine can.

Every engine gives what the members give, to 1e-5: this is checked on golden stays whenever one is made, and an
engine that does not is refused. All of them keep a stay's state in the same row of numbers.
"""

from __future__ import annotations

from typing import Protocol

from models.batch import NoteBatch
from models.encoded import Encoded
from models.engine_reference import ReferenceEngine
from models.engine_state import EngineState, Rows, StateLayout
from models.errors import ConfigError, DataError
from models.scorer import Scorer
from models.stay import Floats, Ints

AUTO, REFERENCE = "auto", "reference"
KINDS = (AUTO, REFERENCE)


class Engine(Protocol):
    """Steps of the members; holds no stay's state, so one engine serves any number of stays."""

    kind: str
    layout: StateLayout

    def initial_state(self, n: int) -> EngineState:
        """States of `n` stays that begin."""
        ...

    def step(self, features: Rows, state: EngineState, *, notes: NoteBatch | None = None) -> tuple[Floats, EngineState]:
        """One time step of `n` stays; the given states stay as they are.

        Args:
            features: (n, width) float32.
            state: of the `n` stays, before the step.
            notes: those that enter at the step, `step` being 0 throughout.

        Returns:
            Member logits (n, members, outputs) float64, and the states after it.
        """
        ...

    def replay(self, encoded: Encoded, *, steps: Ints | None = None) -> EngineState:
        """States after the first `steps` time steps of every stay, from its beginning; None: after all of them."""
        ...


def make_engine(scorer: Scorer, kind: str = AUTO) -> Engine:
    """The engine of this kind, or the fastest for the scorer's device.

    Raises:
        ConfigError: for a kind that there is not.
        DataError: if the model is bidirectional: it reads whole stays and cannot step.
        ArtifactError: if the engine does not give what the members give.
    """
    if kind not in KINDS:
        raise ConfigError(f"engine must be one of {', '.join(KINDS)}, got {kind}; leave it to {AUTO}")
    if not scorer.network.streams:
        raise DataError(
            "model must not be bidirectional to score live stays, got a bidirectional one; "
            "score whole stays or choose another model"
        )
    return ReferenceEngine(scorer.network, StateLayout.of(scorer.network), scorer.device)
