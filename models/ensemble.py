"""Several models of one encoding as one: a chunk and the members' states in, their mean logit and states out.

An ensemble keeps the contract of a single network, so training's evaluation, the scorer and live stays need not
know how many members there are. Every saved model is one, of one member or more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.batch import Chunk
from models.errors import ArtifactError, DataError
from models.network import NetworkConfig, RecurrentNetwork
from models.state import State
from models.stay import Floats
from models.streaming import StreamingNetwork
from models.trees import TreeMember

# So few numbers are added one by one.
FEW = 32
Member = StreamingNetwork | TreeMember
_Values = TypeVar("_Values", Tensor, Floats)


class MemberKind(StrEnum):
    """What a member is."""

    NETWORK = "network"
    TREES = "trees"


@dataclass(frozen=True)
class MemberSpec:
    """One member of an ensemble; travels inside the artifact.

    Args:
        kind: a recurrent network or boosted trees.
        weight: share of its logit in the ensemble's.
        seed: of its training.
        network: shape of the network; None for trees.
        fold: which fold of the training patients it never saw; None: it saw them all.
    """

    kind: MemberKind
    weight: float = 1.0
    seed: int = 0
    network: NetworkConfig | None = None
    fold: int | None = None

    def __post_init__(self) -> None:
        """Refuses a weight without meaning, and a network without a shape."""
        if not 0 < self.weight <= 1:
            raise ArtifactError(f"weight must be above 0 and at most 1, got {self.weight}; save the model again")
        if (self.network is None) != (self.kind is MemberKind.TREES):
            raise ArtifactError(
                f"network must be given exactly if the member is a network, got kind '{self.kind}'; save it again"
            )


def network_members(*networks: NetworkConfig) -> tuple[MemberSpec, ...]:
    """Members of equal weight with these shapes.

    Example:
        >>> [member.weight for member in network_members(NetworkConfig(), NetworkConfig())]
        [0.5, 0.5]
    """
    return tuple(MemberSpec(MemberKind.NETWORK, 1 / len(networks), network=network) for network in networks)


def check_members(members: Sequence[MemberSpec]) -> None:
    """Refuses members that make no ensemble.

    Raises:
        ArtifactError: if no network is among them, or weights do not add up to 1.
    """
    kinds = [member.kind for member in members]
    if MemberKind.NETWORK not in kinds:
        raise ArtifactError(
            f"members must hold one network at least, got {', '.join(kinds) or 'none'}; save the model again"
        )
    total = math.fsum(member.weight for member in members)
    if abs(total - 1) > 1e-9:
        raise ArtifactError(f"members must have weights that add up to 1, got {total}; save the model again")


class Ensemble(nn.Module):
    """Members that read the same features, as one network whose logit is the weighted mean of theirs.

    The state is the members' states side by side; a tensor's name begins with its member's number, as in `0.h`.
    Members compute in their own precision; what they say is combined in float64.

    Args:
        members: networks, and perhaps boosted trees.
        weights: of the members, adding up to 1; equal where left out.

    Raises:
        ArtifactError: if no member is a network, members differ in features or outputs, or weights do not fit them.
    """

    def __init__(self, members: Sequence[Member], weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.weights = tuple(weights) or (1 / len(members),) * len(members)
        shapes = {(member.width, member.outputs) for member in members}
        if len(shapes) != 1 or len(self.weights) != len(members):
            raise ArtifactError(
                f"members must be of one width, number of outputs and number of weights, got {sorted(shapes)} and "
                f"{len(self.weights)} weights of {len(members)}; save the model again"
            )
        self.members = nn.ModuleList(members)
        ((self.width, self.outputs),) = shapes
        if not any(isinstance(member, StreamingNetwork) for member in self):
            raise ArtifactError("members must hold one network at least, got trees alone; save the model again")
        self._state_names = self.initial_state(1).names

    @property
    def networks(self) -> tuple[RecurrentNetwork, ...]:
        """The members that are recurrent networks."""
        return tuple(member for member in self if isinstance(member, RecurrentNetwork))

    @property
    def streams(self) -> bool:
        """Whether a stay can be read chunk by chunk."""
        return all(member.streams for member in self)

    def __len__(self) -> int:
        return len(self.weights)

    def __iter__(self) -> Iterator[Member]:
        return (cast("Member", member) for member in self.members)

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """The state of `batch` stays that begin; by default on the networks' device and in their precision."""
        return _joined([member.initial_state(batch, device=device, dtype=dtype) for member in self])

    def forward(self, chunk: Chunk, state: State) -> tuple[Tensor, State]:
        """Logits (batch, time, outputs) float64 and the state after the last time step; raises as the members do."""
        logits, after = self.member_logits(chunk, state)
        return self.combine(logits), after

    def member_logits(self, chunk: Chunk, state: State) -> tuple[Tensor, State]:
        """Every member's logits, (batch, time, members, outputs) float64, and the state after the last time step.

        Raises:
            DataError: if the state is not one of these members.
        """
        if state.names != self._state_names:
            held = ", ".join(state.names)
            raise DataError(f"state must hold {', '.join(self._state_names)}, got {held}; begin with initial_state")
        parts = [_part(state, number) for number in range(len(self))]
        results = [member(chunk, part) for member, part in zip(self, parts, strict=True)]
        logits = torch.stack([logits.double() for logits, _ in results], dim=2)
        return logits, _joined([after for _, after in results])

    def combine(self, logits: _Values) -> _Values:
        """The weighted mean (..., outputs) of members' logits (..., members, outputs)."""
        return combine(logits, self.weights)


def combine(logits: _Values, weights: Sequence[float]) -> _Values:
    """The mean (..., outputs) of logits (..., members, outputs), weighted; weights need not add up to 1.

    Example:
        >>> combine(np.array([[[1.0], [3.0]]]), (1.0, 1.0)).tolist()
        [[2.0]]
    """
    whole = math.fsum(weights)
    if isinstance(logits, np.ndarray) and logits.dtype == np.float64 and 0 < logits.size <= FEW:
        return _combined_few(logits, [weight / whole for weight in weights])
    # Member by member, so that a step's value does not depend on how many are computed at once.
    total = logits[..., 0, :] * (weights[0] / whole)
    for number, weight in enumerate(weights[1:], start=1):
        total = total + logits[..., number, :] * (weight / whole)
    return total


def _combined_few(logits: Floats, shares: Sequence[float]) -> Floats:
    """As `combine` to the last bit, without numpy, whose calls cost more than so few numbers."""
    found = []
    for members in logits.reshape(-1, *logits.shape[-2:]).tolist():
        total = [value * shares[0] for value in members[0]]
        for values, share in zip(members[1:], shares[1:], strict=True):
            total = [sum_so_far + value * share for sum_so_far, value in zip(total, values, strict=True)]
        found.append(total)
    return np.array(found).reshape(*logits.shape[:-2], logits.shape[-1])


def spread(values: Floats, weights: Sequence[float]) -> Floats:
    """Weighted standard deviation (..., outputs) of members' values (..., members, outputs); 0 for one member."""
    mean = combine(values, weights)
    variance = combine((values - mean[..., None, :]) ** 2, weights)
    return np.sqrt(variance)


def _joined(states: Sequence[State]) -> State:
    names = tuple(f"{number}.{name}" for number, state in enumerate(states) for name in state.names)
    return State(names, tuple(tensor for state in states for tensor in state.tensors))


def _part(state: State, number: int) -> State:
    prefix = f"{number}."
    pairs = [(n, t) for n, t in zip(state.names, state.tensors, strict=True) if n.startswith(prefix)]
    return State(tuple(name.removeprefix(prefix) for name, _ in pairs), tuple(tensor for _, tensor in pairs))
