from __future__ import annotations

import math

import pytest
import torch

from models.task import TargetKind
from pipelines.objective import Objective
from pipelines.training_config import Reduction, RegressionLoss


def log_loss(logit: float, label: int) -> float:
    return math.log1p(math.exp(-logit)) if label else math.log1p(math.exp(logit))


LOGITS = torch.tensor([[[0.5], [-1.0], [2.0]], [[1.5], [0.0], [9.0]]])
TARGET = torch.tensor([[[1.0], [0.0], [1.0]], [[0.0], [1.0], [0.0]]])
WEIGHT = torch.tensor([[[1.0], [0.5], [0.0]], [[2.0], [0.0], [0.0]]])


def test_mean_divides_by_the_supervised_weight() -> None:
    expected = (log_loss(0.5, 1) + 0.5 * log_loss(-1.0, 0) + 2 * log_loss(1.5, 0)) / 3.5
    assert float(Objective(TargetKind.BINARY).total(LOGITS, TARGET, WEIGHT)) == pytest.approx(expected, rel=1e-6)


def test_sum_adds_over_time_and_averages_over_rows() -> None:
    expected = (log_loss(0.5, 1) + 0.5 * log_loss(-1.0, 0) + 2 * log_loss(1.5, 0)) / 2
    objective = Objective(TargetKind.BINARY, reduction=Reduction.SUM)
    assert float(objective.total(LOGITS, TARGET, WEIGHT)) == pytest.approx(expected, rel=1e-6)


def test_positive_labels_weigh_more() -> None:
    expected = (3 * log_loss(0.5, 1) + 0.5 * log_loss(-1.0, 0) + 2 * log_loss(1.5, 0)) / 3.5
    objective = Objective(TargetKind.BINARY, positive_weight=3.0)
    assert float(objective.total(LOGITS, TARGET, WEIGHT)) == pytest.approx(expected, rel=1e-6)


def test_classes_use_the_cross_entropy_of_their_index() -> None:
    logits = torch.tensor([[[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]]], requires_grad=True)
    target, weight = torch.tensor([[[2.0], [1.0]]]), torch.ones(1, 2, 1)
    expected = -(torch.log_softmax(logits, 2)[0, 0, 2] + torch.log_softmax(logits, 2)[0, 1, 1]) / 2
    torch.testing.assert_close(Objective(TargetKind.MULTICLASS).total(logits, target, weight), expected)


def test_regression_is_the_mean_square_or_its_root() -> None:
    expected = ((0.5 - 1) ** 2 + 0.5 * 1.0 + 2 * 1.5**2) / 3.5
    square = Objective(TargetKind.REGRESSION).total(LOGITS, TARGET, WEIGHT)
    root = Objective(TargetKind.REGRESSION, regression_loss=RegressionLoss.RMSE).total(LOGITS, TARGET, WEIGHT)
    assert float(square) == pytest.approx(expected, rel=1e-6)
    assert float(root) == pytest.approx(math.sqrt(expected), rel=1e-6)


@pytest.mark.parametrize("kind", [TargetKind.BINARY, TargetKind.REGRESSION])
def test_what_stands_where_nothing_is_supervised_does_not_matter(kind: TargetKind) -> None:
    logits = LOGITS.clone()
    logits[WEIGHT == 0] = torch.inf
    logits.requires_grad_()
    loss = Objective(kind).total(logits, TARGET, WEIGHT)
    torch.testing.assert_close(loss, Objective(kind).total(LOGITS, TARGET, WEIGHT))


def test_the_gradient_is_zero_where_nothing_is_supervised() -> None:
    logits = LOGITS.clone().requires_grad_()
    Objective(TargetKind.BINARY).total(logits, TARGET, WEIGHT).backward()
    assert logits.grad is not None
    assert not logits.grad[WEIGHT == 0].any()
    assert logits.grad[WEIGHT > 0].all()


def test_a_given_normaliser_makes_parts_add_up() -> None:
    objective = Objective(TargetKind.BINARY)
    parts = [objective.total(LOGITS[i : i + 1], TARGET[i : i + 1], WEIGHT[i : i + 1], 3.5) for i in range(2)]
    torch.testing.assert_close(sum(parts), objective.total(LOGITS, TARGET, WEIGHT))


def test_the_penalty_is_the_l1_norm_of_the_matrices() -> None:
    layer = torch.nn.Linear(3, 2)
    expected = 0.1 * layer.weight.abs().sum()
    torch.testing.assert_close(Objective(TargetKind.BINARY, l1=0.1).penalty(layer), expected)
    assert Objective(TargetKind.BINARY).penalty(layer) == 0.0
