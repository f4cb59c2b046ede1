"""A learning rate from the data: a network and tapes in, the rate at which the loss falls fastest out.

Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3 (range test).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from models.errors import RefusedError
from models.streaming import StreamingNetwork
from pipelines.objective import Objective
from pipelines.optimisers import build_optimizer
from pipelines.tapes import TapeBatch, Tapes
from pipelines.training_config import TrainingConfig

_LOWEST, _HIGHEST = 1e-5, 1.0
_BATCHES = 96
_LEAST_BATCHES = 16
# The sweep stops where the running mean lies above the untrained network's loss by its best gain, or by this.
_LEAST_RISE = 0.05
_RUNNING = 8


@dataclass(frozen=True)
class RateSweep:
    """What a sweep saw.

    Args:
        rates: learning rate of every batch, rising.
        losses: training loss of every batch, less the untrained network's on the same batch.
        chosen: the rate at which the smoothed loss falls fastest.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    chosen: float


def find_learning_rate(
    network: StreamingNetwork, tapes: Tapes, objective: Objective, training: TrainingConfig, *, seed: int
) -> RateSweep:
    """Sweeps the rate exponentially over a few dozen batches, on a copy of the network.

    Raises:
        RefusedError: if the loss diverges before a fall can be seen.
    """
    network = copy.deepcopy(network).train()
    rates, losses = [], []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for rate, loss in _sweep(network, tapes, objective, training):
            rates.append(rate)
            losses.append(loss)
            if _diverged(losses):
                break
    return RateSweep(tuple(rates), tuple(losses), _steepest(rates, losses))


def _sweep(
    network: StreamingNetwork, tapes: Tapes, objective: Objective, training: TrainingConfig
) -> Iterator[tuple[float, float]]:
    """Trains on one batch after another at rising rates; yields each rate and the gain before its step.

    The loss is taken against that of the untrained network on the same batch: batches differ among themselves
    more than one step changes.
    """
    untrained = copy.deepcopy(network).eval()
    optimizer = build_optimizer(network, training, learning_rate=_LOWEST)
    device = next(network.parameters()).device
    states = [network.initial_state(0), network.initial_state(0)]
    for batch, rate in zip(_batches(tapes), np.geomspace(_LOWEST, _HIGHEST, _BATCHES), strict=False):
        batch = batch.to(device)
        if states[0].batch != len(batch.chunk.reset):
            states = [network.initial_state(len(batch.chunk.reset))] * 2
        with torch.no_grad():
            logits, states[1] = untrained(batch.chunk, states[1])
            before = objective.total(logits, batch.target, batch.weight)
        logits, after = network(batch.chunk, states[0])
        states[0] = after.detach()
        loss = objective.total(logits, batch.target, batch.weight)
        yield float(rate), float(loss.detach() - before)
        for group in optimizer.param_groups:
            group["lr"] = float(rate) * group["share"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), training.gradient_clip or math.inf)
        optimizer.step()


def _batches(tapes: Tapes) -> Iterator[TapeBatch]:
    """Batches with something to learn, epoch after epoch; the state of a skipped chunk is of no matter here."""
    while True:
        yield from (batch for batch in tapes if float(batch.weight.sum()) > 0)


def _diverged(losses: list[float]) -> bool:
    """Whether the running mean of the losses is not finite or above where it began by what it ever gained."""
    if not math.isfinite(losses[-1]):
        return True
    if len(losses) <= _RUNNING:
        return False
    running = np.convolve(losses, np.full(_RUNNING, 1 / _RUNNING), mode="valid")
    return bool(running[-1] > max(-running.min(), _LEAST_RISE))


def _steepest(rates: list[float], losses: list[float]) -> float:
    finite = np.isfinite(losses)
    level = np.asarray(losses)[finite]
    if len(level) < _LEAST_BATCHES:
        raise RefusedError(
            f"find_learning_rate must see at least {_LEAST_BATCHES} finite losses, got {len(level)}; "
            "set training.learning_rate yourself"
        )
    # Batches differ more than steps do: the slope is that of a line through a quarter of the sweep.
    width = len(level) // 4
    x = np.lib.stride_tricks.sliding_window_view(np.log(np.asarray(rates)[finite]), width)
    y = np.lib.stride_tricks.sliding_window_view(level, width)
    centred = x - x.mean(axis=1, keepdims=True)
    slope = (centred * y).sum(axis=1) / (centred**2).sum(axis=1)
    return float(np.exp(x[int(np.argmin(slope))].mean()))
