"""One time step of one recurrent layer of several members at once, in numpy: gates and hidden states in, states out.

A sigmoid is `(1 + tanh(x / 2)) / 2`; the halving is in the weights already (`arranged`), so that all gates of a layer
are one call of tanh. Arrays are (members, stays, width) throughout.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from models.cells import Cell

Array = NDArray[np.float32]
# Turns gates into what they let through, in place: sigmoids in so many leading columns, tanh in the others.
Activation = Callable[[Array, int], object]

# Gates of torch's weights in the order in which they are computed here, and how many of them are sigmoids.
_ORDER: dict[Cell, tuple[int, ...]] = {Cell.LSTM: (0, 1, 3, 2), Cell.GRU: (0, 1, 2), Cell.GRU_D: (0, 1, 2)}
_SIGMOIDS = {Cell.LSTM: 3, Cell.GRU: 2, Cell.GRU_D: 2}


def arranged(cell: Cell, weight: Array) -> Array:
    """(members, gates * hidden, ...) torch's rows of the gates, in this module's order and halved for sigmoids."""
    order = _ORDER.get(cell, (0,))
    gates = weight.reshape(len(weight), len(order), -1, *weight.shape[2:])[:, order].copy()
    gates[:, : _SIGMOIDS.get(cell, 0)] *= np.float32(0.5)
    return gates.reshape(weight.shape)


def activate_few(gates: Array, sigmoids: int) -> None:
    """An `Activation` for steps: to the last digit the same however many stays share the call."""
    np.tanh(gates, out=gates)
    if not sigmoids:
        return
    halved = gates[:, :, :sigmoids]
    halved *= np.float32(0.5)
    halved += np.float32(0.5)


def activate_many(gates: Array, sigmoids: int) -> None:
    """An `Activation` for replays: tanh is `2 sigmoid(2 x) - 1` by torch in a third of the time, within 2e-7."""
    gates *= np.float32(2.0)
    shared = torch.from_numpy(gates)
    torch.sigmoid(shared, out=shared)
    rest = gates[:, :, sigmoids:]
    rest *= np.float32(2.0)
    rest -= np.float32(1.0)


def step_lstm(
    given: Array, recurrent: Array, before: Array, hidden: Array, memory: Array, *, activate: Activation = activate_few
) -> None:
    """One LSTM step.

    Args:
        given: (members, stays, 4 hidden) what inputs and biases add to the gates.
        recurrent: likewise of the hidden state before; overwritten.
        before: (members, stays, hidden) the memory `c` before.
        hidden: where the hidden state after goes.
        memory: where the memory after goes.
        activate: one of this module's.
    """
    size = before.shape[2]
    recurrent += given
    activate(recurrent, 3 * size)
    enter, keep, leave, new = (recurrent[:, :, k * size : (k + 1) * size] for k in range(4))
    new *= enter
    np.multiply(keep, before, out=memory)
    memory += new
    if activate is activate_few:
        passed = np.tanh(memory)
    else:
        passed = memory.copy()
        activate(passed, 0)
    np.multiply(leave, passed, out=hidden)


def step_gru(
    given: Array, recurrent: Array, inner: Array, before: Array, hidden: Array, *, activate: Activation = activate_few
) -> None:
    """One GRU step.

    Args:
        given: (members, stays, 3 hidden) what inputs and outer biases add to r, z and n.
        recurrent: likewise of the hidden state before; overwritten.
        inner: (members, 1, hidden) bias of n within the reset gate.
        before: (members, stays, hidden) hidden state before.
        hidden: where the hidden state after goes.
        activate: one of this module's.
    """
    size = before.shape[2]
    gates, new = recurrent[:, :, : 2 * size], recurrent[:, :, 2 * size :]
    gates += given[:, :, : 2 * size]
    activate(gates, 2 * size)
    new += inner
    new *= gates[:, :, :size]
    new += given[:, :, 2 * size :]
    activate(new, 0)
    old = before - new
    old *= gates[:, :, size:]
    np.add(new, old, out=hidden)


def step_gru_d(given: Array, faded: Array, weight: Array, hidden: Array) -> None:
    """One GRU-D step.

    Args:
        given: (members, stays, 3 hidden) what inputs and biases add to r, z and c.
        faded: (members, stays, hidden) the decayed hidden state before.
        weight: (members, hidden, 3 hidden) of the hidden state.
        hidden: where the hidden state after goes.
    """
    size = faded.shape[2]
    gates = np.matmul(faded, weight[:, :, : 2 * size])
    gates += given[:, :, : 2 * size]
    activate_few(gates, 2 * size)
    new = np.matmul(gates[:, :, :size] * faded, weight[:, :, 2 * size :])
    new += given[:, :, 2 * size :]
    np.tanh(new, out=new)
    new -= faded
    new *= gates[:, :, size:]
    np.add(faded, new, out=hidden)


def step_rnn(cell: Cell, given: Array, recurrent: Array, hidden: Array) -> None:
    """One step of a plain layer; arguments as of `step_lstm`."""
    recurrent += given
    if cell is Cell.RNN_TANH:
        np.tanh(recurrent, out=hidden)
    else:
        np.maximum(recurrent, 0.0, out=hidden)


def decay(negative_rate: Array) -> Array:
    """exp(-max(0, rate)), in place."""
    np.minimum(negative_rate, 0.0, out=negative_rate)
    return np.exp(negative_rate, out=negative_rate)
