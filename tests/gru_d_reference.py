"""GRU-D as the paper writes it, one step at a time: what the fast layer is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from models.gru_d import GruD


def reference_step(
    layer: GruD, inputs: Tensor, before: Tensor, keep: Tensor | float = 1.0, keep_inputs: Tensor | float = 1.0
) -> Tensor:
    """(batch, hidden) after one step of inputs (batch, width), by equations 3 to 6 of Che et al. 2018."""
    layout = layer.layout
    by_channel = inputs[:, : layout.width].reshape(len(inputs), layout.channels, layout.per_channel)
    x, m, delta = by_channel[..., layout.value], by_channel[..., layout.mask], by_channel[..., layout.delta]
    rest = [i for i in range(layout.per_channel) if i not in (layout.value, layout.mask, layout.delta)]
    others = torch.cat([*(by_channel[..., i] for i in rest), inputs[:, layout.width :]], dim=1)
    zero = torch.zeros((), dtype=inputs.dtype)
    gamma_x = torch.exp(-torch.maximum(zero, layer.input_rate * delta + layer.input_rate_bias))
    gamma_h = torch.exp(-torch.maximum(zero, delta @ layer.hidden_decay.weight.T + layer.hidden_decay.bias))
    x_mean = 0.0
    x_hat = m * x + (1 - m) * (gamma_x * x + (1 - gamma_x) * x_mean)
    h = gamma_h * before
    w_r, w_z, w_c = layer.weight_ih.chunk(3)
    u_r, u_z, u_c = layer.weight_hh.chunk(3)
    b_r, b_z, b_c = layer.bias.chunk(3)
    read = keep_inputs * torch.cat([x_hat, m, others], dim=1)
    r = torch.sigmoid(read @ w_r.T + (keep * h) @ u_r.T + b_r)
    z = torch.sigmoid(read @ w_z.T + (keep * h) @ u_z.T + b_z)
    candidate = torch.tanh(read @ w_c.T + (r * (keep * h)) @ u_c.T + b_c)
    return (1 - z) * h + z * candidate
