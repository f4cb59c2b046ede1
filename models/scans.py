"""Recurrent layers step by step on a processor: inputs of all time steps in, hidden states of all time steps out.

Automatic differentiation keeps a graph of every operation of every step, and multiplies each step's share of the
weights' gradients by itself. Here the gradients are written out: what needs no other step is done for all steps at
once, and only what has to wait for the step before, or after, is done step by step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Gradients = tuple[Tensor | None, ...]

_by_sigmoid = torch.ops.aten.sigmoid_backward.grad_input
_by_tanh = torch.ops.aten.tanh_backward.grad_input


def scan_gru(inputs: Tensor, before: Tensor, weights: tuple[Tensor, Tensor], biases: tuple[Tensor, Tensor]) -> Tensor:
    """(time, batch, hidden) hidden states of torch's GRU.

    Args:
        inputs: (time, batch, width).
        before: (batch, hidden).
        weights: (3 hidden, width) of the inputs and (3 hidden, hidden) of the hidden state, for r, z and n.
        biases: (3 hidden,) of r, z and n, and (hidden,) of the hidden state's part of n, inside the reset gate.
    """
    hidden: Tensor = _ScanGru.apply(inputs, before, *weights, *biases)  # type: ignore[no-untyped-call]
    return hidden


def scan_gru_d(
    inputs: tuple[Tensor, ...],
    fall: Tensor,
    before: Tensor,
    weights: tuple[Tensor, Tensor],
    bias: Tensor,
    keep: Tensor | None,
) -> Tensor:
    """(time, batch, hidden) hidden states of GRU-D.

    Args:
        inputs: each (time, batch, some), what enters beside the hidden state; apart, as a gradient by inputs takes
            time and features need none.
        fall: (time, batch, hidden) logarithm of the hidden state's decay before each step; above 0 as at 0.
        before: (batch, hidden).
        weights: (3 hidden, width) of all inputs and (3 hidden, hidden) of the hidden state, for r, z and c.
        bias: (3 hidden,).
        keep: (batch, hidden) factor of what r, z and c read of the hidden state; None: 1.
    """
    hidden: Tensor = _ScanGruD.apply(fall, before, *weights, bias, keep, *inputs)  # type: ignore[no-untyped-call]
    return hidden


def where_falling(gradient: Tensor, fall: Tensor) -> Tensor:
    """The gradient by exp(min(fall, 0)) times that, led through the minimum; at 0 it passes."""
    least = torch.finfo(fall.dtype).tiny
    passed: Tensor = torch.ops.aten.hardtanh_backward(gradient, fall, -torch.inf, least)
    return passed


class _ScanGru(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, before: Tensor, entrance: Tensor, weight: Tensor, bias: Tensor, inner: Tensor
    ) -> Tensor:
        gates, hidden = _enter(inputs, entrance, bias), _room(before, len(inputs))
        within = torch.empty_like(hidden[1:])
        to_r, to_z, to_n = _by_gate(weight).transpose(1, 2).contiguous()
        for r, z, n, inside, last, after in _steps(*gates, within, hidden[:-1], hidden[1:]):
            r.addmm_(last, to_r).sigmoid_()
            z.addmm_(last, to_z).sigmoid_()
            torch.addmm(inner, last, to_n, out=inside)
            n.addcmul_(r, inside).tanh_()
            torch.lerp(n, last, z, out=after)
        ctx.save_for_backward(inputs, entrance, weight, gates, within, hidden)
        return hidden[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        inputs, entrance, weight, gates, within, hidden = ctx.saved_tensors
        from_r, from_z, from_n = _by_gate(weight)
        r, z, n = gates
        by_r, by_z, by_n = within * r * (1 - r), (hidden[:-1] - n).mul_(z).mul_(1 - z), (1 - n * n).mul_(1 - z)
        to_gates, to_within = torch.empty_like(gates), torch.empty_like(within)
        arriving = gradient[-1]
        steps = _steps(_given_before(gradient), r, z, by_r, by_z, by_n, *to_gates, to_within, reverse=True)
        for given, reset, update, slope_r, slope_z, slope_n, to_r, to_z, to_n, to_inside in steps:
            torch.mul(arriving, slope_n, out=to_n)
            torch.mul(arriving, slope_z, out=to_z)
            torch.mul(to_n, slope_r, out=to_r)
            torch.mul(to_n, reset, out=to_inside)
            arriving = torch.addcmul(given, arriving, update)
            arriving.addmm_(to_r, from_r).addmm_(to_z, from_z).addmm_(to_inside, from_n)
        to_weight = _products((*to_gates[:2], to_within), (hidden[:-1],) * 3)
        to_inputs = _led_back(to_gates, entrance) if ctx.needs_input_grad[0] else None
        to_bias = to_gates.sum((1, 2)).flatten()
        return to_inputs, arriving, _to_entrance(to_gates, inputs), to_weight, to_bias, to_within.sum((0, 1))


class _ScanGruD(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        fall: Tensor,
        before: Tensor,
        entrance: Tensor,
        weight: Tensor,
        bias: Tensor,
        keep: Tensor | None,
        *inputs: Tensor,
    ) -> Tensor:
        entering, size, gamma = torch.cat(inputs, dim=2).flatten(0, 1), before.shape[1], fall.clamp_max(0.0).exp_()
        # tanh(x) is 2 sigmoid(2 x) - 1, which takes a third of the time of torch's own and costs it a last digit.
        twice = torch.ones_like(bias)
        twice[2 * size :] = 2.0
        gates = torch.addmm(bias * twice, entering, (entrance * twice[:, None]).t()).view(*fall.shape[:2], -1)
        hidden = _room(before, len(fall))
        faded, opened = torch.empty_like(gamma), torch.empty_like(gamma)
        read = faded if keep is None else torch.empty_like(gamma)
        to_both, to_c = weight[: 2 * size].t().contiguous(), 2.0 * weight[2 * size :].t().contiguous()
        parts = (gamma, gates[..., : 2 * size], *gates.chunk(3, 2), faded, read, opened, hidden[:-1], hidden[1:])
        for decay, both, r, z, c, fade, seen, through, last, after in _steps(*parts):
            torch.mul(decay, last, out=fade)
            if keep is not None:
                torch.mul(fade, keep, out=seen)
            both.addmm_(seen, to_both).sigmoid_()
            torch.mul(r, seen, out=through)
            c.addmm_(through, to_c).sigmoid_().mul_(2.0).sub_(1.0)
            torch.lerp(fade, c, z, out=after)
        ctx.save_for_backward(entering, entrance, weight, keep, fall, gamma, gates, faded, read, opened)
        ctx.widths = tuple(i.shape[2] for i in inputs)
        return hidden[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        entering, entrance, weight, keep, fall, gamma, gates, faded, read, opened = ctx.saved_tensors
        size = weight.shape[1]
        from_both, from_c = weight[: 2 * size], weight[2 * size :]
        to_gates, to_fall = torch.empty_like(gates), torch.empty_like(fall)
        arriving, (spare, to_seen, to_fade, onward) = gradient[-1], (torch.empty_like(fall[0]) for _ in range(4))
        given, to_both = _given_before(gradient), to_gates[..., : 2 * size]
        parts = (gamma, *gates.chunk(3, 2), faded, read, *to_gates.chunk(3, 2), to_both, to_fall)
        for before, decay, r, z, c, fade, seen, to_r, to_z, to_c, both, falls in _steps(given, *parts, reverse=True):
            torch.sub(c, fade, out=spare)
            _by_sigmoid(spare.mul_(arriving), z, grad_input=to_z)
            torch.mul(arriving, z, out=spare)
            _by_tanh(spare, c, grad_input=to_c)
            torch.sub(arriving, spare, out=to_fade)
            torch.mm(to_c, from_c, out=spare)
            torch.mul(spare, r, out=to_seen)
            _by_sigmoid(spare.mul_(seen), r, grad_input=to_r)
            to_seen.addmm_(both, from_both)
            to_fade.add_(to_seen if keep is None else to_seen.mul_(keep))
            torch.mul(to_fade, fade, out=falls)
            arriving = torch.addcmul(before, to_fade, decay, out=onward)
        flat = to_gates.flatten(0, 1)
        products = (flat[:, : 2 * size].t() @ read.flatten(0, 1), flat[:, 2 * size :].t() @ opened.flatten(0, 1))
        to_entrance = (entering.t() @ flat).t()
        to_inputs = [
            (flat @ part).view(*fall.shape[:2], -1) if needed else None
            for needed, part in zip(ctx.needs_input_grad[6:], torch.split(entrance, ctx.widths, 1), strict=True)
        ]
        return where_falling(to_fall, fall), arriving, to_entrance, torch.cat(products), flat.sum(0), None, *to_inputs


def _enter(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(3, time, batch, hidden) what inputs and biases add to the gates."""
    flat = inputs.reshape(-1, inputs.shape[2])
    gates = flat.new_empty(3, *inputs.shape[:2], len(bias) // 3)
    for gate, rows, shift in zip(gates, _by_gate(weight), bias.view(3, -1), strict=True):
        torch.addmm(shift, flat, rows.t(), out=gate.view(len(flat), -1))
    return gates


def _to_entrance(gates: Tensor, inputs: Tensor) -> Tensor:
    """(3 hidden, width) gradient by the inputs' weights, from that by the gates' sums."""
    flat = inputs.reshape(-1, inputs.shape[2])
    # Transposed, this product of a tall matrix takes a multiple of the time where the width is odd.
    each = [flat.t() @ gate.reshape(len(flat), -1) for gate in gates]
    return torch.cat(each, dim=1).t()


def _led_back(gates: Tensor, weight: Tensor) -> Tensor:
    """(time, batch, width) gradient by the inputs, from that by the gates' sums (3, time, batch, hidden)."""
    flat, rows = gates.flatten(1, 2), _by_gate(weight)
    led = flat[0] @ rows[0]
    for gate in (1, 2):
        led.addmm_(flat[gate], rows[gate])
    shaped: Tensor = led.view(*gates.shape[1:3], -1)
    return shaped


def _room(before: Tensor, time: int) -> Tensor:
    """(1 + time, batch, hidden) room for all hidden states, with the first in it."""
    hidden = before.new_empty(1 + time, *before.shape)
    hidden[0] = before
    return hidden


def _by_gate(weight: Tensor) -> Tensor:
    """(3, hidden, width) the weights (3 hidden, width) of each gate."""
    return weight.reshape(3, -1, weight.shape[1])


def _products(gradients: tuple[Tensor, ...], read: tuple[Tensor, ...]) -> Tensor:
    """(gates hidden, hidden) sums over time and batch of gradients by what was read."""
    return torch.cat([g.flatten(0, 1).t() @ x.flatten(0, 1) for g, x in zip(gradients, read, strict=True)])


def _given_before(gradient: Tensor) -> tuple[Tensor, ...]:
    """For every step the gradient given by the hidden state before it; zero before the first, which is no output."""
    return torch.zeros_like(gradient[0]), *gradient.unbind()[:-1]


def _steps(*tensors: Tensor | tuple[Tensor, ...], reverse: bool = False) -> Iterator[tuple[Tensor, ...]]:
    """The time steps of tensors (time, ...), side by side."""
    parts = [t if isinstance(t, tuple) else t.unbind() for t in tensors]
    return zip(*(p[::-1] for p in parts) if reverse else parts, strict=True)
