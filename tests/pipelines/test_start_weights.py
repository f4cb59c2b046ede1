"""Weights from elsewhere: what fits is taken, what belongs to a task may differ, all else is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.errors import ConfigError
from models.network import NetworkConfig, RecurrentNetwork
from pipelines.fit import FitResult, fit_network
from pipelines.start_weights import take_weights, weights_digest
from tests.tape_data import STAY_TASK, cohort_part, quick_training

SHAPE = NetworkConfig(hidden_size=8, skip=True)


def network(seed: int, config: NetworkConfig = SHAPE, *, outputs: int = 1) -> RecurrentNetwork:
    torch.manual_seed(seed)
    return RecurrentNetwork(config, width=5, outputs=outputs)


def fit(folder: Path, initial: dict[str, torch.Tensor] | None, *, resume: bool = False) -> FitResult:
    return fit_network(
        train=cohort_part(),
        validation=cohort_part(seed=1),
        network=SHAPE,
        task=STAY_TASK,
        training=quick_training(),
        seed=0,
        folder=folder,
        resume=resume,
        initial=initial,
    )


def test_all_weights_are_taken_from_a_network_of_the_same_shape() -> None:
    source, target = network(1), network(2)
    taken = take_weights(target, source.state_dict())
    assert set(taken) == set(source.state_dict())
    assert all(torch.equal(target.state_dict()[name], t) for name, t in source.state_dict().items())


def test_heads_of_another_shape_and_missing_ones_stay_as_they_were() -> None:
    for given in (network(1, outputs=3).state_dict(), network(1, replace(SHAPE, skip=False)).state_dict()):
        target = network(2)
        before = {name: t.clone() for name, t in target.state_dict().items()}
        taken = take_weights(target, given)
        assert "stack.layers.0.weight_ih_l0" in taken
        assert "skip.weight" not in taken
        assert torch.equal(target.state_dict()["skip.weight"], before["skip.weight"])
        assert torch.equal(target.state_dict()["stack.layers.0.weight_hh_l0"], given["stack.layers.0.weight_hh_l0"])


@pytest.mark.parametrize(
    "given",
    [
        network(1, replace(SHAPE, hidden_size=9)).state_dict(),
        network(1, replace(SHAPE, layers=2)).state_dict(),
        {},
        network(1).state_dict() | {"stack.layers.0.bias_ih_l0": torch.full((24,), float("nan"))},
    ],
)
def test_weights_of_another_network_are_refused(given: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ConfigError, match="initial must hold"):
        take_weights(network(2), given)


def test_a_digest_depends_on_names_shapes_and_numbers_and_not_on_the_order() -> None:
    weights = network(1).state_dict()
    digest = weights_digest(weights)
    assert weights_digest(dict(reversed(weights.items()))) == digest
    name, tensor = next(iter(weights.items()))
    others = [{name: tensor * 2}, {name: tensor.T.contiguous()}, {name: tensor.double()}]
    assert all(weights_digest(weights | other) != digest for other in others)


def test_training_starts_from_the_given_weights(tmp_path: Path) -> None:
    given = network(7).state_dict()
    runs = [fit(tmp_path / name, initial) for name, initial in (("a", given), ("b", dict(given)), ("c", None))]
    heads = [run.network.head.weight.detach() for run in runs]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_run_is_not_resumed_from_other_start_weights(tmp_path: Path) -> None:
    fit(tmp_path, network(7).state_dict())
    fit(tmp_path, network(7).state_dict(), resume=True)
    with pytest.raises(ConfigError, match="resume must continue a run with the same settings"):
        fit(tmp_path, network(8).state_dict(), resume=True)
