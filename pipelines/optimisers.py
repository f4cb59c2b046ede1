"""Optimisers and the course of their learning rate: a network and its training settings in, steps out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer as TorchOptimizer

from models.curves import FeatureCurves
from pipelines.training_config import Optimizer, Schedule, TrainingConfig

# Share of the peak at which one_cycle begins and to which exponential falls.
_CYCLE_START = 1 / 25
_EXPONENTIAL_END = 1e-2
_PLATEAU_FACTOR = 0.5
_PLATEAU_EPOCHS = 2


def build_optimizer(network: nn.Module, training: TrainingConfig, *, learning_rate: float) -> TorchOptimizer:
    """The optimiser over all trained parameters; weight matrices decay, biases do not.

    Every group states its `share` of the learning rate; curves move faster, as each sees little of a batch.
    """
    curves = [p for m in network.modules() if isinstance(m, FeatureCurves) for p in m.parameters()]
    own = {id(p) for p in curves}
    trained = [p for p in network.parameters() if p.requires_grad and id(p) not in own]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": training.weight_decay, "share": 1.0},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "share": 1.0},
    ]
    if curves:
        groups.append({"params": curves, "weight_decay": training.curve_decay, "share": training.curve_rate})
    match training.optimizer:
        case Optimizer.ADAM:
            return torch.optim.Adam(groups, lr=learning_rate, fused=True)
        case Optimizer.ADAMW:
            return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
        case Optimizer.RMSPROP:
            return torch.optim.RMSprop(groups, lr=learning_rate, momentum=training.momentum)
        case Optimizer.ADAGRAD:
            return torch.optim.Adagrad(groups, lr=learning_rate)
        case Optimizer.SGD:
            return torch.optim.SGD(groups, lr=learning_rate, momentum=training.momentum, nesterov=training.nesterov)


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> float:
    """Scales gradients down to a common norm of at most `limit`, and gives the norm that they had.

    The numbers are those of `torch.nn.utils.clip_grad_norm_`, which spends most of its time on what no processor or
    single GPU needs.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    factor = float(limit / (norm + 1e-6))
    # Written so that a norm that is not a number spoils every weight, as it does there: the run must not go on.
    if not factor >= 1.0:
        torch._foreach_mul_(gradients, factor)
    return float(norm)


def rate_factor(training: TrainingConfig, progress: float, losses: Sequence[float] = ()) -> float:
    """Share of the peak learning rate; a pure function, so that a resumed run needs no state for it.

    Args:
        training: schedule and warm-up.
        progress: part of the run that is done, from 0 to 1.
        losses: validation losses of the epochs so far; read by `plateau` alone.
    """
    warmup = training.warmup_fraction
    if progress < warmup:
        rise = progress / warmup
        if training.schedule is Schedule.ONE_CYCLE:
            return _CYCLE_START + (1 - _CYCLE_START) * (1 - math.cos(math.pi * rise)) / 2
        return max(rise, 1e-3)
    rest = (progress - warmup) / (1 - warmup)
    match training.schedule:
        case Schedule.CONSTANT:
            return 1.0
        case Schedule.COSINE | Schedule.ONE_CYCLE:
            return (1 + math.cos(math.pi * rest)) / 2
        case Schedule.EXPONENTIAL:
            return float(_EXPONENTIAL_END**rest)
        case Schedule.PLATEAU:
            return float(_PLATEAU_FACTOR ** _plateaus(losses))


def _plateaus(losses: Sequence[float]) -> int:
    """How often the loss did not improve for two epochs in a row."""
    plateaus, waited, best = 0, 0, math.inf
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == _PLATEAU_EPOCHS:
            plateaus, waited = plateaus + 1, 0
    return plateaus
