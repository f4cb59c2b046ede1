"""GRU-D against the paper's equations written in numpy, and the scans against torch's own differentiation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.batch import Chunk
from models.cells import Cell, run_layer
from models.errors import ConfigError
from models.gru_d import GruD
from models.layout import Layout
from models.network import NetworkConfig, RecurrentNetwork
from tests.gru_d_reference import reference_step

# Two channels with a summary beside value, mask and delta, and two further features.
LAYOUT = Layout(channels=2, per_channel=4, value=2, mask=0, delta=3)
WIDTH, HIDDEN, BATCH, TIME = 10, 5, 3, 7

Floats = NDArray[np.float64]


def layer_of(*, seed: int = 0) -> GruD:
    torch.manual_seed(seed)
    layer = GruD(LAYOUT, width=WIDTH, hidden_size=HIDDEN).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def steps_of(*, seed: int = 1) -> Tensor:
    """Inputs with true masks and times that are not negative."""
    torch.manual_seed(seed)
    inputs = torch.randn(BATCH, TIME, WIDTH, dtype=torch.float64)
    for channel in range(LAYOUT.channels):
        begin = channel * LAYOUT.per_channel
        inputs[..., begin + LAYOUT.mask] = (inputs[..., begin + LAYOUT.mask] > 0).double()
        inputs[..., begin + LAYOUT.delta].abs_()
    return inputs


def weights_of(layer: GruD) -> dict[str, Floats]:
    return {name: p.detach().numpy().copy() for name, p in layer.named_parameters()}


def paper(w: dict[str, Floats], inputs: Floats, before: Floats, keep: Floats) -> Floats:
    """(time, hidden) of one stay, number by number as equations 3 to 6 read."""
    hidden, states = before.copy(), []
    size = len(hidden)
    for step in inputs:
        x_hat, m, delta, others = [], [], [], []
        for d in range(LAYOUT.channels):
            mask, other, value, gap = step[4 * d : 4 * d + 4]
            gamma_x = np.exp(-max(0.0, w["input_rate"][d] * gap + w["input_rate_bias"][d]))
            x_hat.append(mask * value + (1 - mask) * (gamma_x * value + (1 - gamma_x) * 0.0))
            m.append(mask)
            delta.append(gap)
            others.append(other)
        rates = w["hidden_decay.weight"] @ np.array(delta) + w["hidden_decay.bias"]
        decayed = np.array([np.exp(-max(0.0, rate)) for rate in rates]) * hidden
        read = np.array([*x_hat, *m, *others, *step[8:]])
        entering = w["weight_ih"] @ read + w["bias"]
        seen = keep * decayed
        r = 1 / (1 + np.exp(-(entering[:size] + w["weight_hh"][:size] @ seen)))
        z = 1 / (1 + np.exp(-(entering[size : 2 * size] + w["weight_hh"][size : 2 * size] @ seen)))
        c = np.tanh(entering[2 * size :] + w["weight_hh"][2 * size :] @ (r * seen))
        hidden = (1 - z) * decayed + z * c
        states.append(hidden)
    return np.stack(states)


def paper_loss(w: dict[str, Floats], inputs: Floats, before: Floats, keep: Floats, by: Floats) -> float:
    return float(sum((paper(w, *row[:3]) * row[3]).sum() for row in zip(inputs, before, keep, by, strict=True)))


def test_hidden_states_are_those_of_the_papers_equations() -> None:
    layer, inputs = layer_of(), steps_of()
    before = torch.randn(1, BATCH, HIDDEN, dtype=torch.float64)
    found, last = layer(inputs, before)
    ones = np.ones(HIDDEN)
    for row in range(BATCH):
        expected = paper(weights_of(layer), inputs[row].numpy(), before[0, row].numpy(), ones)
        np.testing.assert_allclose(found[row].detach().numpy(), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(last[0], found[:, -1])


@pytest.mark.parametrize("name", [n for n, _ in layer_of().named_parameters()])
def test_gradients_are_finite_differences_of_the_papers_equations(name: str) -> None:
    layer, inputs = layer_of(), steps_of()
    before, by = torch.randn(1, BATCH, HIDDEN, dtype=torch.float64), torch.randn(BATCH, TIME, HIDDEN).double()
    keep = torch.tensor([0.0, 2.0, 1.0, 2.0, 0.0]).double().expand(1, BATCH, HIDDEN).contiguous()
    (layer(inputs, before, keep)[0] * by).sum().backward()
    given = [t.numpy() for t in (inputs, before[0], keep[0], by)]
    weights, step = weights_of(layer), 1e-6
    gradient = dict(layer.named_parameters())[name].grad
    assert gradient is not None
    for place in np.ndindex(weights[name].shape):
        losses = []
        for sign in (1, -1):
            moved = weights | {name: weights[name].copy()}
            moved[name][place] += sign * step
            losses.append(paper_loss(moved, *given))
        assert float(gradient[place]) == pytest.approx((losses[0] - losses[1]) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("dropped", [False, True])
def test_the_written_gradients_are_those_of_differentiation_operation_by_operation(dropped: bool) -> None:
    layer = layer_of()
    keep = (torch.rand(1, BATCH, HIDDEN) > 0.5).double() * 2 if dropped else None
    results = []
    for written in (True, False):
        inputs, before = steps_of().requires_grad_(), torch.full((1, BATCH, HIDDEN), 0.3).double().requires_grad_()
        layer.zero_grad()
        if written:
            out = layer(inputs, before, keep)[0]
        else:
            hidden, states = before[0], []
            for time in range(TIME):
                hidden = reference_step(layer, inputs[:, time], hidden, 1.0 if keep is None else keep[0])
                states.append(hidden)
            out = torch.stack(states, dim=1)
        (out * torch.arange(TIME)[None, :, None]).sin().sum().backward()
        results.append(
            [out, inputs.grad, before.grad, *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]
        )
    assert len(results[0]) == 3 + len(list(layer.parameters()))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("inputs_train", [False, True])
def test_the_scanned_gru_is_torchs_in_values_and_gradients(inputs_train: bool) -> None:
    torch.manual_seed(0)
    layer = nn.GRU(4, HIDDEN, batch_first=True).double()
    results = []
    for scanned in (True, False):
        torch.manual_seed(2)
        inputs = torch.randn(BATCH, TIME, 4).double().requires_grad_(inputs_train)
        before = torch.randn(1, BATCH, HIDDEN).double().requires_grad_()
        layer.zero_grad()
        out, last = run_layer(layer, inputs, (before,)) if scanned else layer(inputs, before)
        ((out * torch.arange(TIME)[None, :, None]).sin().sum() + (last[0] if scanned else last).cos().sum()).backward()
        gradients = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
        results.append([out, before.grad, *gradients] + ([inputs.grad] if inputs_train else []))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-11)


def test_a_value_that_is_missing_for_long_fades_to_the_mean_and_the_hidden_state_with_it() -> None:
    layer = layer_of()
    layer.begin_decays()
    with torch.no_grad():
        layer.hidden_decay.weight.fill_(1.0)
    inputs = steps_of()
    inputs[..., [LAYOUT.mask, 4 + LAYOUT.mask]] = 0.0
    inputs[..., [LAYOUT.delta, 4 + LAYOUT.delta]] = 1e4
    fall, (estimate, *_) = layer.prepare(inputs.transpose(0, 1))
    assert not fall.exp().any()
    assert not estimate.any()
    inputs[..., [LAYOUT.mask, 4 + LAYOUT.mask]] = 1.0
    observed = layer.prepare(inputs.transpose(0, 1))[1][0]
    torch.testing.assert_close(observed, inputs.transpose(0, 1)[..., [LAYOUT.value, 4 + LAYOUT.value]])


def test_no_decay_begins_where_it_passes_no_gradient() -> None:
    network = network_of()
    inputs = steps_of()
    inputs[..., [LAYOUT.delta, 4 + LAYOUT.delta]] += 0.1
    network(chunk_of(inputs), network.initial_state(BATCH))[0].sum().backward()
    layer = network.stack.layers[0]
    assert isinstance(layer, GruD)
    for parameter in (layer.input_rate, layer.hidden_decay.weight):
        assert parameter.grad is not None
        assert (parameter.grad != 0).all()


def network_of(**changes: Any) -> RecurrentNetwork:
    torch.manual_seed(0)
    config = NetworkConfig(cell=Cell.GRU_D, hidden_size=HIDDEN, **changes)
    return RecurrentNetwork(config, width=WIDTH, outputs=1, layout=LAYOUT).double()


def chunk_of(inputs: Tensor, *, reset: Tensor | None = None) -> Chunk:
    batch, time, _ = inputs.shape
    begins = torch.ones(batch, dtype=torch.bool) if reset is None else reset
    return Chunk(inputs, torch.ones(batch, time, dtype=torch.bool), begins)


@pytest.mark.parametrize("name", ["recurrent", "input"])
def test_dropout_draws_a_mask_when_a_stay_begins_and_keeps_it_to_the_end(name: str) -> None:
    network = network_of(**{f"{name}_dropout": 0.5}).train()
    inputs = steps_of()
    _, first = network(chunk_of(inputs), network.initial_state(BATCH))
    _, later = network(chunk_of(inputs, reset=torch.tensor([False, True, False])), first)
    place = first.names.index(f"{name}_mask")
    before, after = first.tensors[place][0], later.tensors[place][0]
    assert set(before.flatten().tolist()) == {0.0, 2.0}
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_dropout_drops_nothing_in_evaluation() -> None:
    inputs = steps_of()
    outputs = []
    for dropout in (0.0, 0.5):
        network = network_of(recurrent_dropout=dropout, input_dropout=dropout).eval()
        outputs.append(network(chunk_of(inputs), network.initial_state(BATCH))[0])
    assert torch.equal(outputs[0], outputs[1])


def test_dropped_units_are_not_read_by_the_gates() -> None:
    layer, inputs = layer_of(), steps_of()
    keep = torch.ones(1, BATCH, HIDDEN, dtype=torch.float64)
    keep[..., 2] = 0.0
    with torch.no_grad():
        expected = layer(inputs, torch.zeros(1, BATCH, HIDDEN).double(), keep)[0]
        layer.weight_hh[:, 2] = 100.0
        changed = layer(inputs, torch.zeros(1, BATCH, HIDDEN).double(), keep)[0]
    torch.testing.assert_close(changed, expected, rtol=0, atol=1e-12)


def test_dropped_inputs_are_read_by_no_gate_at_any_step_and_decay_as_they_are() -> None:
    layer, inputs = layer_of(), steps_of()
    drawn = (torch.rand(1, BATCH, layer.entering_width) > 0.5).double() * 2
    hidden, states = torch.zeros(BATCH, HIDDEN).double(), []
    for time in range(TIME):
        hidden = reference_step(layer, inputs[:, time], hidden, keep_inputs=drawn[0])
        states.append(hidden)
    found, _ = layer(inputs, torch.zeros(1, BATCH, HIDDEN).double(), None, drawn)
    torch.testing.assert_close(found, torch.stack(states, dim=1), rtol=0, atol=1e-12)


def test_input_dropout_over_chunks_is_that_of_the_whole_stay() -> None:
    network, inputs = network_of(input_dropout=0.5, recurrent_dropout=0.5).train(), steps_of()
    torch.manual_seed(5)
    whole, _ = network(chunk_of(inputs), network.initial_state(BATCH))
    torch.manual_seed(5)
    state, parts = network.initial_state(BATCH), []
    for begin, end in ((0, 3), (3, 4), (4, TIME)):
        begins = torch.full((BATCH,), begin == 0)
        logits, state = network(chunk_of(inputs[:, begin:end], reset=begins), state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12)


def test_other_cells_draw_input_dropout_at_every_step_and_carry_none_of_it() -> None:
    network = RecurrentNetwork(NetworkConfig(input_dropout=0.5), width=WIDTH, outputs=1).train()
    ones = chunk_of(torch.ones(BATCH, TIME, WIDTH))
    assert network.initial_state(BATCH).names == ("h",)
    assert not torch.equal(*network.inputs(ones)[:, :2].unbind(1))


def test_layers_above_the_first_are_plain_gru() -> None:
    kinds = [type(layer) for layer in network_of(layers=3).stack.layers]
    assert kinds == [GruD, nn.GRU, nn.GRU]


def test_gru_d_without_its_features_is_refused() -> None:
    with pytest.raises(ConfigError, match="value, mask and delta for the cell gru_d"):
        RecurrentNetwork(NetworkConfig(cell=Cell.GRU_D), width=4, outputs=1)


@pytest.mark.parametrize("change", [{"bidirectional": True}, {"projection_size": 3}])
def test_gru_d_refuses_what_it_cannot_do(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the cell gru_d, which"):
        NetworkConfig(cell=Cell.GRU_D, **change)


def test_other_cells_refuse_recurrent_dropout() -> None:
    with pytest.raises(ConfigError, match="recurrent_dropout must be 0 with the cell lstm"):
        NetworkConfig(cell=Cell.LSTM, recurrent_dropout=0.1)
