from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.batch import Chunk
from models.cells import Cell
from models.errors import ConfigError
from models.gru_d import GruD
from models.network import NetworkConfig, RecurrentNetwork
from models.pooling import Pooling
from models.task import TargetKind
from pipelines.gradients import hidden_gradient_norms, hidden_gradients, sample_chunk
from pipelines.objective import Objective
from tests.gru_d_reference import reference_step
from tests.tape_data import LAYOUT, cohort_part, encoded_of, stay_targets

BATCH, TIME, WIDTH, HIDDEN, LAYERS = 3, 9, 4, 5, 2
OBJECTIVE = Objective(TargetKind.BINARY)


def network_of(cell: Cell, **changes: Any) -> RecurrentNetwork:
    torch.manual_seed(0)
    config = NetworkConfig(cell=cell, hidden_size=HIDDEN, layers=LAYERS, dropout=0.0, **changes)
    network = RecurrentNetwork(config, width=WIDTH, outputs=1, layout=LAYOUT).double()
    for parameter in network.stack.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network


def sample() -> tuple[Chunk, Tensor, Tensor]:
    torch.manual_seed(1)
    features = torch.randn(BATCH, TIME, WIDTH, dtype=torch.float64)
    chunk = Chunk(features, torch.ones(BATCH, TIME, dtype=torch.bool), torch.ones(BATCH, dtype=torch.bool))
    target = torch.randint(0, 2, (BATCH, TIME, 1)).double()
    weight = torch.zeros(BATCH, TIME, 1, dtype=torch.float64)
    weight[:, [3, -1]] = 1.0
    return chunk, target, weight


def cells_of(network: RecurrentNetwork, kind: Any, **options: Any) -> list[Any]:
    """The same weights as torch's own single-step cells."""
    cells: list[Any] = []
    for index, layer in enumerate(network.stack.layers):
        if isinstance(layer, GruD):
            cells.append(partial(reference_step, layer))
            continue
        cell = kind(WIDTH if index == 0 else HIDDEN, HIDDEN, **options).double()
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, name).data = getattr(layer, f"{name}_l0").data
        cells.append(cell)
    return cells


def reference(network: RecurrentNetwork) -> dict[str, Tensor]:
    """Total derivatives by stepping cells written out one by one; an LSTM's h is rebuilt from a kept c."""
    chunk, target, weight = sample()
    lstm = network.config.cell is Cell.LSTM
    kinds: dict[Cell, Any] = {Cell.LSTM: nn.LSTMCell, Cell.GRU: nn.GRUCell, Cell.GRU_D: nn.GRUCell}
    kind = kinds.get(network.config.cell, nn.RNNCell)
    options = {"nonlinearity": network.config.cell.removeprefix("rnn_")} if kind is nn.RNNCell else {}
    cells = cells_of(network, kind, **options)
    hidden = [torch.zeros(BATCH, HIDDEN, dtype=torch.float64) for _ in cells]
    memory = [torch.zeros(BATCH, HIDDEN, dtype=torch.float64) for _ in cells]
    kept: dict[str, list[list[Tensor]]] = {"h": [[] for _ in cells], "c": [[] for _ in cells]}
    top = []
    for time in range(TIME):
        below = chunk.features[:, time]
        for index, cell in enumerate(cells):
            if lstm:
                i, f, g, o = (
                    below @ cell.weight_ih.T + cell.bias_ih + hidden[index] @ cell.weight_hh.T + cell.bias_hh
                ).chunk(4, 1)
                memory[index] = f.sigmoid() * memory[index] + i.sigmoid() * g.tanh()
                memory[index].retain_grad()
                kept["c"][index].append(memory[index])
                hidden[index] = o.sigmoid() * memory[index].tanh()
            else:
                hidden[index] = cell(below, hidden[index])
            hidden[index].retain_grad()
            kept["h"][index].append(hidden[index])
            below = hidden[index]
        top.append(below)
    logits, _ = network.head(torch.stack(top, 1)), None
    OBJECTIVE.total(logits, target, weight).backward()
    names = ("h", "c") if lstm else ("h",)
    return {name: torch.stack([torch.stack([t.grad for t in layer]) for layer in kept[name]]) for name in names}  # type: ignore[misc]


@pytest.mark.parametrize("cell", list(Cell))
def test_derivatives_are_those_of_cells_stepped_one_by_one(cell: Cell) -> None:
    network = network_of(cell)
    found, expected = hidden_gradients(network, *sample(), OBJECTIVE), reference(network)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", list(Cell))
def test_norms_are_taken_over_batch_and_width(cell: Cell) -> None:
    network = network_of(cell)
    gradients, norms = (
        hidden_gradients(network, *sample(), OBJECTIVE),
        hidden_gradient_norms(network, *sample(), OBJECTIVE),
    )
    for name, value in gradients.items():
        assert norms[name].shape == (LAYERS, TIME)
        np.testing.assert_allclose(norms[name], value.square().sum(dim=(2, 3)).sqrt().numpy())


def test_the_outputs_own_gradient_of_a_fused_layer_misses_the_recurrence() -> None:
    network = network_of(Cell.GRU)
    chunk, target, weight = sample()
    hidden, _ = network.stack(chunk.features, network.initial_state(BATCH).tensors, chunk.valid)
    hidden[-1].retain_grad()
    OBJECTIVE.total(network.head(hidden[-1]), target, weight).backward()
    direct = hidden[-1].grad
    total = hidden_gradients(network, chunk, target, weight, OBJECTIVE)["h"][-1].transpose(0, 1)
    assert direct is not None
    assert not direct[:, 4:-1].any()
    assert total[:, 4:-1].abs().min() > 0
    torch.testing.assert_close(direct[:, -1], total[:, -1])


def test_a_small_recurrence_vanishes_and_a_large_one_explodes() -> None:
    for scale, shrinks in ((0.3, True), (1.7, False)):
        network = network_of(Cell.RNN_RELU)
        for layer in network.stack.layers:
            layer.weight_hh_l0.data = torch.eye(HIDDEN, dtype=torch.float64) * scale  # type: ignore[union-attr]
            layer.bias_ih_l0.data.fill_(1.0)  # type: ignore[union-attr, operator]
        chunk, target, weight = sample()
        weight[:, :-1] = 0.0
        norms = hidden_gradient_norms(network, chunk, target, weight, OBJECTIVE)["h"][-1]
        assert (norms[0] < norms[-1]) is np.True_ if shrinks else norms[0] > norms[-1]


@pytest.mark.parametrize("pooling", list(Pooling))
def test_pooling_is_on_the_way_back(pooling: Pooling) -> None:
    norms = hidden_gradient_norms(network_of(Cell.LSTM, pooling=pooling), *sample(), OBJECTIVE)
    assert all(np.isfinite(v).all() and (v[:, -1] > 0).all() for v in norms.values())


def test_the_network_is_left_as_it_was() -> None:
    network = network_of(Cell.GRU).train()
    hidden_gradient_norms(network, *sample(), OBJECTIVE)
    assert network.training
    assert all(p.grad is None for p in network.parameters())


def test_a_bidirectional_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="bidirectional"):
        hidden_gradient_norms(network_of(Cell.GRU, bidirectional=True), *sample(), OBJECTIVE)


def test_the_sample_ends_where_its_stays_end() -> None:
    encoded, targets = cohort_part(stays=40)
    chunk = sample_chunk(encoded, targets, stays=5, length=8)
    assert chunk.chunk.features.shape == (5, 8, 5)
    assert chunk.weight[:, -1].eq(1).all()
    ends = encoded.features[encoded.step_offsets[1:] - 1]
    assert all((ends == row.numpy()).all(1).any() for row in chunk.chunk.features[:, -1])


def test_the_sample_is_no_longer_than_half_of_the_stays() -> None:
    encoded = encoded_of([1, 2, 3, 9, 9])
    assert sample_chunk(encoded, stay_targets(encoded), stays=9, length=64).chunk.features.shape == (3, 3, 5)
