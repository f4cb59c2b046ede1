from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.pooling import Pooling, RunningPool


def pool_of(pooling: Pooling, width: int = 3) -> RunningPool:
    torch.manual_seed(1)
    return RunningPool(pooling, width).double()


def hidden_of(batch: int = 2, time: int = 6, width: int = 3) -> Tensor:
    torch.manual_seed(2)
    return torch.rand(batch, time, width, dtype=torch.float64) * 2 - 1


def run(pool: RunningPool, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
    valid = torch.ones(hidden.shape[:2], dtype=torch.bool) if valid is None else valid
    initial = pool.initial(len(hidden), device=hidden.device, dtype=hidden.dtype)
    pooled, _ = pool(hidden, initial, valid)
    return pooled


def test_last_is_each_steps_own_hidden_state() -> None:
    hidden = hidden_of()
    assert torch.equal(run(pool_of(Pooling.LAST), hidden), hidden)


def test_mean_and_max_are_those_of_all_steps_so_far() -> None:
    hidden = hidden_of()
    mean, largest = run(pool_of(Pooling.MEAN), hidden), run(pool_of(Pooling.MAX), hidden)
    for step in range(hidden.shape[1]):
        torch.testing.assert_close(mean[:, step], hidden[:, : step + 1].mean(1))
        torch.testing.assert_close(largest[:, step], hidden[:, : step + 1].amax(1))


def test_attention_is_a_softmax_over_all_steps_so_far() -> None:
    pool, hidden = pool_of(Pooling.ATTENTION), hidden_of()
    pooled = run(pool, hidden)
    score = 5.0 * torch.tanh(pool.score(hidden) / 5.0)
    for step in range(hidden.shape[1]):
        weight = torch.softmax(score[:, : step + 1], dim=1)
        torch.testing.assert_close(pooled[:, step], (weight * hidden[:, : step + 1]).sum(1))


@pytest.mark.parametrize("pooling", list(Pooling))
def test_padding_changes_no_valid_step_and_nothing_that_is_carried(pooling: Pooling) -> None:
    pool, hidden = pool_of(pooling), hidden_of()
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[1, 4:] = False
    other = hidden.clone()
    other[1, 4:] = 0.99
    initial = pool.initial(2, device=hidden.device, dtype=hidden.dtype)
    (one, carried), (two, carried_two) = pool(hidden, initial, valid), pool(other, initial, valid)
    assert torch.equal(one[valid], two[valid])
    assert all(torch.equal(a, b) for a, b in zip(carried, carried_two, strict=True))


@pytest.mark.parametrize("pooling", list(Pooling))
def test_a_row_of_padding_alone_stays_finite(pooling: Pooling) -> None:
    pooled = run(pool_of(pooling), hidden_of(), torch.zeros(2, 6, dtype=torch.bool))
    assert pooled.isfinite().all()


@pytest.mark.parametrize("pooling", list(Pooling))
def test_pooling_is_differentiable(pooling: Pooling) -> None:
    pool, hidden = pool_of(pooling), hidden_of().requires_grad_()
    assert torch.autograd.gradcheck(lambda h: run(pool, h), (hidden,))
