"""A network before training and weights from elsewhere in, the same network with those weights out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from models.encoded import Encoded
from models.errors import ConfigError
from models.network import NetworkConfig, RecurrentNetwork
from models.notes import NotesConfig
from models.stay import Ints
from models.streaming import StreamingNetwork
from models.task import LabelScope, TaskSpec

# What belongs to one task: weights for another one are left where they are.
HEADS = ("head.", "skip.", "curves.", "note_memory.")
# Enough for quantiles, and little to sort.
_SAMPLED_STEPS = 20_000


def new_network(
    config: NetworkConfig, encoded: Encoded, task: TaskSpec, *, notes: NotesConfig | None, vocabulary_size: int
) -> RecurrentNetwork:
    """A network of random weights that reads these time steps and answers this task."""
    network = RecurrentNetwork(
        config,
        width=encoded.width,
        outputs=task.outputs,
        notes=notes,
        vocabulary_size=vocabulary_size,
        layout=encoded.layout,
    )
    if network.curves is not None:
        network.curves.place_knots(torch.from_numpy(np.asarray(encoded.features[_judged_steps(encoded, task)])))
    return network


def _judged_steps(encoded: Encoded, task: TaskSpec) -> Ints:
    """Steps whose features say where curves must bend: every stay's last, or an even sample of all."""
    if task.scope is LabelScope.STAY:
        return encoded.step_offsets[1:] - 1
    return np.arange(0, int(encoded.step_offsets[-1]), max(int(encoded.step_offsets[-1]) // _SAMPLED_STEPS, 1))


def take_weights(
    network: StreamingNetwork, initial: Mapping[str, Tensor] | None, *, skippable: tuple[str, ...] = HEADS
) -> tuple[str, ...]:
    """Copies every parameter of the same name and shape into the network.

    Args:
        network: changed in place.
        initial: weights by name, as of `state_dict`; None leaves the network as it is.
        skippable: beginnings of the names that may be missing, left over or of another shape; all others must fit.

    Returns:
        Names of what was taken.

    Raises:
        ConfigError: if a parameter that is not skippable has no counterpart of its shape, or is not finite.
    """
    if initial is None:
        return ()
    own = network.state_dict()
    fits = tuple(name for name, t in own.items() if name in initial and initial[name].shape == t.shape)
    strangers = sorted(name for name in {*own, *initial} if name not in fits and not name.startswith(skippable))
    if strangers:
        raise ConfigError(
            f"initial must hold the network's parameters but those of {', '.join(skippable)}, got a difference in "
            f"{', '.join(strangers)}; start from a network of the same [network] table, channels and tokenizer"
        )
    if not all(bool(torch.isfinite(initial[name]).all()) for name in fits):
        raise ConfigError("initial must hold finite numbers, got others; train the network again that they are from")
    with torch.no_grad():
        for name in fits:
            own[name].copy_(initial[name])
    return fits


def weights_digest(weights: Mapping[str, Tensor] | None) -> str:
    """SHA-256 over names, shapes and numbers, whatever the order; empty for no weights."""
    if weights is None:
        return ""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return "sha256:" + digest.hexdigest()
