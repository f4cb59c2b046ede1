"""Clocks within an epoch of training: what forward, loss, backward, clipping and step take of it, and what is around.

Both figures are of the same epoch, so that other work on the machine, which slows one epoch and not the next, stays out
of their difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

import pipelines.epochs
import pipelines.module
from models.network import RecurrentNetwork
from pipelines.module import TapeModule
from pipelines.objective import Objective

Function = Callable[..., Any]


class Clocks:
    """Wall and processor time of the network's part of one epoch, and of the whole epoch, in seconds."""

    def __init__(self) -> None:
        self.inside = [0.0, 0.0]
        self.whole = [0.0, 0.0]
        self._began = (0.0, 0.0)

    @property
    def around(self) -> tuple[float, float]:
        """Wall and processor time of the epoch that was not the network's."""
        wall, processor = (a - b for a, b in zip(self.whole, self.inside, strict=True))
        return wall, processor

    def begin(self) -> None:
        """The epoch begins."""
        self._began = now()

    def end(self) -> None:
        """The epoch ends, its validation included."""
        self.whole = [b - a for a, b in zip(self._began, now(), strict=True)]

    def add(self, began: tuple[float, float], share: float = 1.0) -> None:
        """Counts what went by since `began` as the network's; with share -1 takes it out again."""
        for i, (a, b) in enumerate(zip(began, now(), strict=True)):
            self.inside[i] += share * (b - a)


def now() -> tuple[float, float]:
    """Wall and processor time."""
    return time.perf_counter(), time.process_time()


@contextmanager
def clocks() -> Iterator[Clocks]:
    """Clocks on every epoch that is trained meanwhile."""
    told = Clocks()

    def counted(function: Function) -> Function:
        def run(*args: Any, **kwargs: Any) -> Any:
            began = now()
            result = function(*args, **kwargs)
            # Validation is no part of forward, backward and step.
            if torch.is_grad_enabled():
                told.add(began)
            return result

        return run

    def stepping(function: Function) -> Function:
        def step(optimizer: Any, closure: Function | None = None) -> Any:
            def around_closure() -> Any:
                within = now()
                result = closure() if closure is not None else None
                told.add(within, -1.0)  # Lightning's closure is the training step, whose parts count by themselves
                return result

            began = now()
            result = function(optimizer, around_closure)
            told.add(began)
            return result

        return step

    def before(function: Function, mark: Function) -> Function:
        return lambda *args, **kwargs: (mark(), function(*args, **kwargs))[1]

    def after(function: Function, mark: Function) -> Function:
        return lambda *args, **kwargs: (function(*args, **kwargs), mark())[0]

    with ExitStack() as stack:
        for place, name, wrap in (
            (RecurrentNetwork, "forward", counted),
            (Objective, "total", counted),
            (torch.Tensor, "backward", counted),
            (pipelines.module, "clip_gradients", counted),
            (torch.optim.AdamW, "step", stepping),
            (TapeModule, "on_train_start", lambda f: before(f, told.begin)),
            (pipelines.epochs, "validate", lambda f: after(f, told.end)),
        ):
            stack.enter_context(_replaced(place, name, wrap))
        yield told


@contextmanager
def _replaced(place: Any, name: str, wrap: Callable[[Function], Function]) -> Iterator[None]:
    original = getattr(place, name)
    setattr(place, name, wrap(original))
    try:
        yield
    finally:
        setattr(place, name, original)
