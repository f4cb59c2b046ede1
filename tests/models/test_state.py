from __future__ import annotations

import pytest
import torch

from models.cells import Cell
from models.errors import DataError
from models.network import NetworkConfig, RecurrentNetwork
from models.pooling import Pooling
from models.state import State
from tests.tape_data import LAYOUT


def state_of(batch: int = 3) -> State:
    torch.manual_seed(0)
    return State(
        ("h", "c", "pool_weight"), (torch.randn(2, batch, 4), torch.randn(2, batch, 4), torch.rand(1, batch, 1))
    )


def test_reset_changes_the_marked_rows_alone() -> None:
    state, fresh = state_of(), State(("h", "c", "pool_weight"), tuple(torch.zeros_like(t) for t in state_of().tensors))
    reset = state.reset(torch.tensor([True, False, True]), fresh)
    for old, new in zip(state.tensors, reset.tensors, strict=True):
        assert torch.equal(new[:, 1], old[:, 1])
        assert not new[:, [0, 2]].any()


def test_select_takes_rows_in_the_given_order() -> None:
    state = state_of()
    selected = state.select(torch.tensor([2, 0]))
    assert selected.batch == 2
    assert torch.equal(selected.tensors[0], state.tensors[0][:, [2, 0]])


def test_detach_keeps_values_and_drops_the_gradient() -> None:
    tensor = torch.ones(1, 2, 3, requires_grad=True) * 2
    detached = State(("h",), (tensor,)).detach()
    assert not detached.tensors[0].requires_grad
    assert torch.equal(detached.tensors[0], tensor.detach())


@pytest.mark.parametrize("cell", list(Cell))
@pytest.mark.parametrize("pooling", list(Pooling))
def test_bytes_give_back_every_kind_of_state(cell: Cell, pooling: Pooling) -> None:
    config = NetworkConfig(cell=cell, pooling=pooling, hidden_size=3, layers=11)
    network = RecurrentNetwork(config, width=3, outputs=1, layout=LAYOUT)
    state = network.initial_state(2)
    back = State.from_bytes(state.to_bytes())
    assert back.names == state.names
    assert all(torch.equal(a, b) for a, b in zip(back.tensors, state.tensors, strict=True))


def test_bytes_keep_the_order_of_more_than_ten_tensors() -> None:
    names = tuple(f"t{i}" for i in range(12))
    state = State(names, tuple(torch.full((1, 1, 1), float(i)) for i in range(12)))
    assert [float(t) for t in State.from_bytes(state.to_bytes()).tensors] == list(range(12))


@pytest.mark.parametrize("damage", [b"", b"no state at all", state_of().to_bytes()[:-3]])
def test_damaged_bytes_are_refused(damage: bytes) -> None:
    with pytest.raises(DataError, match="bytes of a state"):
        State.from_bytes(damage)


def test_tensors_of_different_batches_are_refused() -> None:
    with pytest.raises(DataError, match="one batch"):
        State(("h", "c"), (torch.zeros(1, 2, 3), torch.zeros(1, 3, 3)))


def test_a_tensor_without_a_name_is_refused() -> None:
    with pytest.raises(DataError, match="name every tensor"):
        State(("h",), (torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)))
