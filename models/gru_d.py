"""A GRU with decays: values, masks and times since the last observation in, hidden states over time out.

Source: Che, Purushotham, Cho, Sontag and Liu 2018, Recurrent Neural Networks for Multivariate Time Series with
Missing Values, Scientific Reports 8:6085, equations 3 to 6 (in the preprint, arXiv:1606.01865, 10 to 17).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from models.layout import Layout
from models.scans import Gradients, scan_gru_d, where_falling

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
    """

    def __init__(self, layout: Layout, *, width: int, hidden_size: int) -> None:
        super().__init__()
        self.layout, self.hidden_size = layout, hidden_size
        # All but the times, which enter as decays.
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, width - layout.channels))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size))
        self.input_rate = nn.Parameter(torch.empty(layout.channels))
        self.input_rate_bias = nn.Parameter(torch.empty(layout.channels))
        self.hidden_decay = nn.Linear(layout.channels, hidden_size)

    @property
    def entering_width(self) -> int:
        """Number of inputs that the gates read at a time step: all but the times."""
        return self.weight_ih.shape[1]

    def forward(
        self, inputs: Tensor, before: Tensor, keep: Tensor | None = None, keep_inputs: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (batch, time, hidden) and the last one (1, batch, hidden).

        Args:
            inputs: (batch, time, width).
            before: (1, batch, hidden) hidden state before the first time step.
            keep: (1, batch, hidden) what the gates read of the hidden state is multiplied by this at every time
                step; None: by 1.
            keep_inputs: (1, batch, entering width) what the gates read of the inputs, in the order of `weight_ih`, is
                multiplied by this at every time step; None: by 1. The decays read the inputs as they are.
        """
        # Numbers of half the length would lose the decays near 1, which is where they matter.
        with torch.autocast(inputs.device.type, enabled=False):
            steps = inputs.to(self.weight_hh.dtype).transpose(0, 1)
            fall, entering = self.prepare(steps)
            first = before[0].to(steps.dtype)
            kept = None if keep is None else keep[0].to(steps.dtype)
            if keep_inputs is not None:
                widths = [part.shape[2] for part in entering]
                shares = torch.split(keep_inputs[0].to(steps.dtype), widths, dim=1)
                entering = tuple(part * share for part, share in zip(entering, shares, strict=True))
            hidden = scan_gru_d(entering, fall, first, (self.weight_ih, self.weight_hh), self.bias, kept)
        return hidden.transpose(0, 1), hidden[-1:]

    def prepare(self, steps: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What a step needs besides the hidden state, for all steps at once.

        Args:
            steps: (time, batch, width).

        Returns:
            log gamma_h (time, batch, hidden), to be cut off at 0, and what enters: x_hat (time, batch, channels)
            first, masks, then further features of the channels, then all others.
        """
        layout = self.layout
        by_channel = steps[..., : layout.width].view(*steps.shape[:2], layout.channels, layout.per_channel)
        value, mask, *further = (by_channel[..., place] for place in (layout.value, layout.mask, *layout.others))
        delta = by_channel[..., layout.delta].contiguous()
        estimate: Tensor = _Estimate.apply(value, mask, delta, self.input_rate, self.input_rate_bias)  # type: ignore[no-untyped-call]
        fall = functional.linear(delta, -self.hidden_decay.weight, -self.hidden_decay.bias)
        entering = (estimate, mask, *further, steps[..., layout.width :])
        return fall, entering

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


class _Estimate(torch.autograd.Function):
    """x_hat, with its gradients written out: differentiated operation by operation, they take three times as long."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, mask: Tensor, delta: Tensor, rate: Tensor, rate_bias: Tensor) -> Tensor:
        fall = torch.addcmul(-rate_bias, rate, delta, value=-1)
        # An encoded value is x where it is observed and x_last where it is not; the mean it decays to is 0.
        decayed = fall.clamp_max(0.0).exp_().mul_(value)
        ctx.save_for_backward(value, mask, delta, rate, fall, decayed)
        return torch.lerp(decayed, value, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        value, mask, delta, rate, fall, decayed = ctx.saved_tensors
        to_decayed = torch.addcmul(gradient, gradient, mask, value=-1)
        to_fall = where_falling(to_decayed * decayed, fall)
        to_rate, to_bias = -(to_fall * delta).sum((0, 1)), -to_fall.sum((0, 1))
        if not any(ctx.needs_input_grad[:3]):
            return None, None, None, to_rate, to_bias
        to_value = gradient * mask + to_decayed * fall.clamp_max(0.0).exp_()
        return to_value, gradient * (value - decayed), -to_fall * rate, to_rate, to_bias
