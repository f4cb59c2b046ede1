"""A GRU with decays: values, masks and times since the last observation in, hidden states over time out.

Source: Che, Purushotham, Cho, Sontag and Liu 2018, Recurrent Neural Networks for Multivariate Time Series with
Missing Values, Scientific Reports 8:6085, equations 3 to 6 (in the preprint, arXiv:1606.01865, 10 to 17).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from models.layout import Layout

aten = torch.ops.aten

# What a channel's value decays to: the training mean, which standard scores put at 0.
TRAINING_MEAN = 0.0
# Rates at the beginning, for times in days: a value halves in about a day and a half, and the hidden state loses a
# twentieth a step while every channel has been missing for a day.
_INPUT_RATE = 0.5
_HIDDEN_RATE = 0.1


class GruD(nn.Module):
    """One layer of GRU-D; called like `nn.GRU(batch_first=True)`.

    With x the standard scores, m the masks and delta the times since the previous observation of a step's channels,
    and x_last the last value observed by then:

        gamma_x = exp(-max(0, w_x * delta + b_x))                 one weight a channel
        x_hat   = m x + (1 - m) (gamma_x x_last + (1 - gamma_x) x_mean)
        gamma_h = exp(-max(0, W_h delta + b_h))
        h'      = gamma_h * h                                     h of the step before
        r, z    = sigmoid(W x_hat + V m + O o + U h' + b)         each with weights of its own
        c       = tanh(W x_hat + V m + O o + U (r * h') + b)
        h       = (1 - z) * h' + z * c

    o is everything else of a step: clock, static values, notes and, where they are encoded, running statistics. The
    paper has none but names static values beside the inputs as the way to add them. `weight_ih` holds [W V O].

    Args:
        layout: which of the inputs are value, mask and delta.
        width: number of inputs at a time step.
        hidden_size: width of the hidden state.
        input_dropout: probability on what the gates read, not on what decays; training only.
    """

    def __init__(self, layout: Layout, *, width: int, hidden_size: int, input_dropout: float = 0.0) -> None:
        super().__init__()
        self.layout, self.hidden_size = layout, hidden_size
        # All but the times, which enter as decays.
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, width - layout.channels))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size))
        self.input_rate = nn.Parameter(torch.empty(layout.channels))
        self.input_rate_bias = nn.Parameter(torch.empty(layout.channels))
        self.hidden_decay = nn.Linear(layout.channels, hidden_size)
        self.input_dropout = nn.Dropout(input_dropout)

    def forward(self, inputs: Tensor, before: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states (batch, time, hidden) and the last one (1, batch, hidden).

        Args:
            inputs: (batch, time, width).
            before: (1, batch, hidden) hidden state before the first time step.
            keep: (1, batch, hidden) what the gates read of the hidden state is multiplied by this at every time
                step; None: by 1.
        """
        # Numbers of half the length would lose the decays near 1, which is where they matter.
        with torch.autocast(inputs.device.type, enabled=False):
            steps = inputs.to(self.weight_hh.dtype).transpose(0, 1)
            gamma_h, gates, candidates = self.prepare(steps)
            gate_weight, candidate_weight = self._of_gates(self.weight_hh)
            first = before[0].to(steps.dtype)
            kept = None if keep is None else keep[0].to(steps.dtype)
            hidden: Tensor = _Scan.apply(gamma_h, gates, candidates, first, gate_weight, candidate_weight, kept)  # type: ignore[no-untyped-call]
        return hidden.transpose(0, 1), hidden[-1:]

    def prepare(self, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a step needs besides the hidden state, for all steps at once.

        Args:
            steps: (time, batch, width).

        Returns:
            gamma_h (time, batch, hidden), what the inputs add to the gates r and z (time, batch, 2 hidden), and to
            the candidate (time, batch, hidden).
        """
        layout = self.layout
        channels = steps[..., : layout.width].view(*steps.shape[:2], layout.channels, layout.per_channel)
        value, mask, delta = (channels[..., place] for place in (layout.value, layout.mask, layout.delta))
        gamma_x = _decay(torch.addcmul(-self.input_rate_bias, self.input_rate, delta, value=-1))
        # An encoded value is x where it is observed and x_last where it is not.
        decayed = TRAINING_MEAN + gamma_x * (value - TRAINING_MEAN)
        estimate = torch.lerp(decayed, value, mask)
        others = [channels[..., place] for place in layout.others]
        read = self.input_dropout(torch.cat([estimate, mask, *others, steps[..., layout.width :]], dim=2))
        weights, biases = self._of_gates(self.weight_ih), self._of_gates(self.bias)
        gates, candidates = (functional.linear(read, w, b) for w, b in zip(weights, biases, strict=True))
        gamma_h = _decay(functional.linear(delta, -self.hidden_decay.weight, -self.hidden_decay.bias))
        return gamma_h, gates, candidates

    def _of_gates(self, stacked: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of the gates r and z, and those of the candidate."""
        return stacked[: 2 * self.hidden_size], stacked[2 * self.hidden_size :]

    @torch.no_grad()
    def begin_decays(self) -> None:
        """Sets the decays of an untrained layer.

        Where the rate is below zero a decay is 1 and passes no gradient, so every rate begins above: a missing
        value fades within days, the hidden state slowly.
        """
        nn.init.constant_(self.input_rate, _INPUT_RATE)
        nn.init.zeros_(self.input_rate_bias)
        nn.init.uniform_(self.hidden_decay.weight, 0.0, _HIDDEN_RATE / self.hidden_decay.in_features)
        nn.init.zeros_(self.hidden_decay.bias)


def _decay(negative_rate: Tensor) -> Tensor:
    """exp(-max(0, rate))."""
    return negative_rate.clamp_max(0.0).exp_()


class _Scan(torch.autograd.Function):
    """The part of a layer that goes step by step, with its gradient written out.

    Automatic differentiation would keep a graph of every operation of every step and multiply each step's share of
    the weights' gradients by itself. Here slopes and weights' gradients are computed for all steps at once, and only
    what has to wait for the step after is done step by step.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gamma_h: Tensor,
        gates: Tensor,
        candidates: Tensor,
        before: Tensor,
        gate_weight: Tensor,
        candidate_weight: Tensor,
        keep: Tensor | None,
    ) -> Tensor:
        """Hidden states (time, batch, hidden).

        Args:
            ctx: where the gradient finds what it needs.
            gamma_h: (time, batch, hidden).
            gates: (time, batch, 2 hidden) what the inputs add to r and z.
            candidates: (time, batch, hidden) what the inputs add to c.
            before: (batch, hidden).
            gate_weight: (2 hidden, hidden).
            candidate_weight: (hidden, hidden).
            keep: (batch, hidden) factor of what r, z and c read of the hidden state.
        """
        faded, opened, hidden = (torch.empty_like(gamma_h) for _ in range(3))
        gate, candidate = torch.empty_like(gates), torch.empty_like(candidates)
        read = faded if keep is None else torch.empty_like(faded)
        each = (gamma_h, gates, candidates, faded, read, opened, gate, candidate, hidden)
        last = before
        for gamma, gate_in, candidate_in, fade, seen, open_, both, new, after in _steps(each):
            torch.mul(gamma, last, out=fade)
            if keep is not None:
                torch.mul(fade, keep, out=seen)
            torch.addmm(gate_in, seen, gate_weight.t(), out=both).sigmoid_()
            reset, update = both.chunk(2, dim=1)
            torch.mul(reset, seen, out=open_)
            torch.addmm(candidate_in, open_, candidate_weight.t(), out=new).tanh_()
            last = torch.lerp(fade, new, update, out=after)
        ctx.save_for_backward(
            gamma_h, before, gate_weight, candidate_weight, keep, faded, read, opened, gate, candidate, hidden
        )
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all arguments but the last, from that of the hidden states."""
        gamma_h, before, gate_weight, candidate_weight, keep, faded, read, opened, gate, candidate, hidden = (
            ctx.saved_tensors
        )
        to_faded, to_gate, to_candidate = torch.empty_like(faded), torch.empty_like(gate), torch.empty_like(candidate)
        each = (gradient, gamma_h, read, gate, candidate, candidate - faded, to_faded, to_gate, to_candidate)
        arriving = torch.zeros_like(before)
        for given, gamma, seen, both, new, moved, to_fade, to_both, to_new in _steps(each, reverse=True):
            arriving = arriving + given
            reset, update = both.chunk(2, dim=1)
            to_reset, to_update = to_both.chunk(2, dim=1)
            through = arriving * update
            aten.tanh_backward.grad_input(through, new, grad_input=to_new)
            to_open = to_new @ candidate_weight
            torch.mul(to_open, seen, out=to_reset)
            torch.mul(arriving, moved, out=to_update)
            aten.sigmoid_backward.grad_input(to_both, both, grad_input=to_both)
            to_seen = torch.addmm(to_open.mul_(reset), to_both, gate_weight)
            if keep is not None:
                to_seen.mul_(keep)
            torch.sub(arriving, through, out=to_fade).add_(to_seen)
            arriving = to_fade * gamma
        to_gamma = to_faded * torch.cat([before[None], hidden[:-1]])
        to_gate_weight = to_gate.flatten(0, 1).t() @ read.flatten(0, 1)
        to_candidate_weight = to_candidate.flatten(0, 1).t() @ opened.flatten(0, 1)
        return to_gamma, to_gate, to_candidate, arriving, to_gate_weight, to_candidate_weight, None


def _steps(tensors: tuple[Tensor, ...], *, reverse: bool = False) -> Iterator[tuple[Tensor, ...]]:
    """The time steps of tensors (time, ...), side by side."""
    parts = [t.unbind() for t in tensors]
    return zip(*(reversed(p) for p in parts) if reverse else parts, strict=True)
