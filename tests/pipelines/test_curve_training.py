"""Curves of features through the training loop: where their knots come from, how fast they move, what they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from models.encoded import Encoded
from models.forward import score_logits
from models.network import NetworkConfig, RecurrentNetwork
from models.task import TargetKind
from pipelines import rate_finder
from pipelines.fit import FitResult, fit_network
from pipelines.labels import StepTargets
from pipelines.module import TapeModule
from pipelines.objective import Objective
from pipelines.optimisers import build_optimizer
from pipelines.rate_finder import find_learning_rate
from pipelines.tapes import Tapes
from tests.tape_data import STAY_TASK, cohort_part, encoded_of, quick_training

NETWORK = NetworkConfig(hidden_size=4, skip=True, skip_pieces=8)
Part = tuple[Encoded, StepTargets]


def fit(folder: Path, train: Part, validation: Part, network: NetworkConfig = NETWORK, **changes: Any) -> FitResult:
    return fit_network(
        train=train,
        validation=validation,
        network=network,
        task=STAY_TASK,
        training=quick_training(**changes),
        seed=0,
        folder=folder,
    )


def knots(result: FitResult) -> torch.Tensor:
    assert result.network.curves is not None
    return result.network.curves.knots


def network_of(config: NetworkConfig = NETWORK) -> RecurrentNetwork:
    torch.manual_seed(0)
    return RecurrentNetwork(config, width=5, outputs=1)


def groups_of(network: RecurrentNetwork, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """The optimiser's group of every parameter, by the parameter's name."""
    names = {id(p): name for name, p in network.named_parameters()}
    return {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}


def test_knots_are_quantiles_of_the_training_stays_last_steps_and_of_no_other(tmp_path: Path) -> None:
    train = cohort_part(stays=81)
    # Averaged weights are another copy of the network, which must have the knots as well.
    runs = [fit(tmp_path / str(k), train, cohort_part(seed=k), average_decay=0.5 * (k - 1)) for k in (1, 2)]
    last = train[0].features[train[0].step_offsets[1:] - 1]
    expected = np.quantile(last, np.linspace(0, 1, 9), axis=0).T
    for run in runs:
        np.testing.assert_allclose(knots(run).numpy(), expected, rtol=0, atol=1e-6)


def test_every_parameter_is_in_one_group_and_the_curves_have_their_own_rate_and_decay() -> None:
    training = quick_training(weight_decay=0.3, curve_decay=0.2, curve_rate=7.0)
    network = network_of()
    groups = groups_of(network, build_optimizer(network, training, learning_rate=1e-3))
    assert set(groups) == {name for name, _ in network.named_parameters()}
    expected = {
        "curves.rise": (7.0, 0.2),
        "head.weight": (1.0, 0.3),
        "skip.weight": (1.0, 0.3),
        "head.bias": (1.0, 0.0),
        "stack.layers.0.bias_ih_l0": (1.0, 0.0),
    }
    assert {name: (groups[name]["share"], groups[name]["weight_decay"]) for name in expected} == expected


def test_training_moves_every_group_at_its_share_of_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, dict[str, float]]] = []
    original = TapeModule.optimizer_step

    def watched(module: TapeModule, *arguments: Any, **named: Any) -> None:
        groups = groups_of(module.network, module.trainer.optimizers[0])
        seen.append((groups["head.weight"]["lr"], {name: group["lr"] for name, group in groups.items()}))
        original(module, *arguments, **named)

    monkeypatch.setattr(TapeModule, "optimizer_step", watched)
    fit(tmp_path, cohort_part(), cohort_part(seed=1), curve_rate=4.0, warmup_fraction=0.3)
    assert len({rate for rate, _ in seen}) > 3
    for rate, rates in seen:
        assert {name: value / rate for name, value in rates.items()} == pytest.approx(
            {name: 4.0 if name == "curves.rise" else 1.0 for name in rates}
        )


def test_the_rate_finder_sweeps_the_curves_at_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.optim.Optimizer] = []

    def kept(*arguments: Any, **named: Any) -> torch.optim.Optimizer:
        made.append(build_optimizer(*arguments, **named))
        return made[-1]

    monkeypatch.setattr(rate_finder, "build_optimizer", kept)
    training = quick_training(curve_rate=5.0)
    tapes = Tapes(*cohort_part(), rows=8, truncation_length=10, seed=0)
    sweep = find_learning_rate(network_of(), tapes, Objective(TargetKind.BINARY), training, seed=0)
    (optimizer,) = made
    rates = [group["lr"] for group in optimizer.param_groups]
    # The last loss may end the sweep before its own step.
    assert rates[0] in sweep.rates[-2:]
    assert rates == pytest.approx([rates[0], rates[0], 5.0 * rates[0]])


def u_shaped(seed: int) -> Part:
    """Stays of one step; the risk is high at both ends of each of five features, and no line through them tells."""
    encoded = encoded_of([1] * 1500, seed=seed)
    logit = 2.0 * (encoded.features.astype(np.float64) ** 2 - 1).sum(axis=1)
    label = np.random.default_rng(seed + 50).random(len(logit)) < 1 / (1 + np.exp(-logit))
    value = label.astype(np.float32)[:, None]
    return encoded, StepTargets(value, np.ones_like(value))


def test_a_risk_that_is_high_at_both_ends_is_learnt_along_curves_and_not_without(tmp_path: Path) -> None:
    auroc = {}
    unseen, targets = u_shaped(2)
    for pieces in (0, 8):
        network = NetworkConfig(hidden_size=1, skip=True, skip_pieces=pieces)
        result = fit(
            tmp_path / str(pieces), u_shaped(0), u_shaped(1), network, rows=64, max_epochs=6, learning_rate=2e-2
        )
        auroc[pieces] = roc_auc_score(targets.value[:, 0], score_logits(result.network, unseen)[:, 0])
    assert auroc[8] > 0.9
    assert auroc[0] < 0.75
