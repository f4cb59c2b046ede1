"""A loaded model in, an engine out: what steps the members of many live stays at once, as fast as the machine can.

Every engine gives what the members give, to 1e-5: this is checked on golden stays whenever one is made, and an
engine that does not is refused. All of them keep a stay's state in the same row of numbers.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.batch import NoteBatch
from models.cut import Cut
from models.encoded import Encoded
from models.engine_device import DeviceEngine
from models.engine_numpy import NumpyEngine
from models.engine_reference import ReferenceEngine
from models.engine_state import EngineState, Rows, StateLayout
from models.errors import ArtifactError, ConfigError, DataError
from models.forward import cut_chunk
from models.golden import TOLERANCE, golden_stays, stays_from_golden
from models.scorer import Scorer
from models.stay import Floats, Ints

AUTO, REFERENCE, NUMPY, DEVICE = "auto", "reference", "numpy", "device"
KINDS = (AUTO, REFERENCE, NUMPY, DEVICE)


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

    Args:
        scorer: the model.
        kind: `reference` (the members themselves), `numpy` (a processor's), `device` (a GPU's, also to be had on a
            processor) or `auto`.

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
    layout = StateLayout.of(scorer.network)
    reference = ReferenceEngine(scorer.network, layout, scorer.device)
    if kind == REFERENCE:
        return reference
    engine: Engine
    if kind == DEVICE or (kind == AUTO and scorer.device.type != "cpu"):
        engine = DeviceEngine(scorer.network, layout, scorer.device)
    else:
        engine = NumpyEngine(scorer.network, layout)
    check_engine(engine, reference, scorer)
    return engine


def check_engine(engine: Engine, reference: Engine, scorer: Scorer) -> None:
    """Refuses an engine that does not give what the reference gives on golden stays: step by step, and replayed.

    Raises:
        ArtifactError: if a member's logit, or a state, differs by more than 1e-5.
    """
    bundle = scorer.bundle
    encoded = bundle.encoding.encode(stays_from_golden(golden_stays(bundle), bundle), tokenizer=scorer.tokenizer)
    lengths, first = encoded.lengths, encoded.step_offsets[:-1]
    worst = 0.0
    expected, got = (one.initial_state(len(encoded)) for one in (reference, engine))
    for step in range(int(lengths.max())):
        active = np.flatnonzero(lengths > step)
        at = first[active] + step
        chunk = cut_chunk(encoded, Cut(at, np.ones_like(at), np.zeros(len(at), dtype=np.bool_)))
        features = np.ascontiguousarray(encoded.features[at], dtype=np.float32)
        logits = []
        for one, states in ((reference, expected), (engine, got)):
            given, after = one.step(features, states.take(active), notes=chunk.notes)
            states.put(active, after)
            logits.append(given)
        worst = max(worst, _difference(*logits))
    worst = max(worst, _difference(expected.values, got.values))
    worst = max(worst, _difference(expected.values, engine.replay(encoded).values))
    if not worst <= TOLERANCE:
        raise ArtifactError(
            f"engine '{engine.kind}' must give the members' logits within {TOLERANCE:g}, got a difference of "
            f"{worst:g}; set the engine to {REFERENCE}, or check the installed numpy and torch"
        )


def _difference(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """The largest, relative to numbers beyond 1; NaN if there is one."""
    return float(np.max(np.abs(got - expected) / np.maximum(1.0, np.abs(expected)), initial=0.0))
