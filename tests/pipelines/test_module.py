"""Training steps: truncation against full back-propagation, steps that must not happen, accumulation, penalties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.cells import Cell
from models.cut import Cut
from models.encoded import Encoded
from models.forward import cut_chunk, score_logits
from models.network import NetworkConfig, RecurrentNetwork
from models.notes import NotesConfig
from models.pooling import Pooling
from models.task import TargetKind
from pipelines.fit import FitResult, fit_network
from pipelines.labels import StepTargets
from pipelines.module import TapeModule
from pipelines.objective import Objective
from pipelines.optimisers import clip_gradients
from pipelines.tapes import Tapes
from pipelines.training_config import Optimizer, Reduction, Schedule
from tests.tape_data import (
    LAYOUT,
    SMALL_NETWORK,
    STEP_TASK,
    cohort_part,
    encoded_of,
    quick_training,
    stay_targets,
    step_targets,
    with_notes,
)

LENGTHS = [1, 9, 4, 23, 17, 9, 2, 12]


def gradients_on_tapes(network: RecurrentNetwork, encoded: Encoded, targets: StepTargets, length: int) -> list[Tensor]:
    """Sum of the gradients over one epoch, chunk by chunk with the state carried and detached."""
    network.zero_grad()
    objective = Objective(TargetKind.BINARY)
    state = network.initial_state(2)
    for batch in Tapes(encoded, targets, rows=2, truncation_length=length, seed=0):
        logits, after = network(batch.chunk, state)
        objective.total(logits, batch.target, batch.weight, 1.0).backward()
        state = after.detach()
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


def gradients_of_whole_stays(network: RecurrentNetwork, encoded: Encoded, targets: StepTargets) -> list[Tensor]:
    """Sum of the gradients of every stay read whole, by itself: full back-propagation through time."""
    network.zero_grad()
    objective = Objective(TargetKind.BINARY)
    for stay in range(len(encoded)):
        begin, end = encoded.step_offsets[stay : stay + 2]
        chunk = cut_chunk(encoded, Cut(*(torch.tensor([v]).numpy() for v in (begin, end - begin, True))))
        logits, _ = network(chunk, network.initial_state(1))
        value, weight = (torch.from_numpy(a[None, begin:end]) for a in (targets.value, targets.weight))
        objective.total(logits, value, weight, 1.0).backward()
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("pooling", list(Pooling))
@pytest.mark.parametrize("cell", list(Cell))
@pytest.mark.parametrize("per_step", [False, True])
def test_tapes_as_long_as_the_longest_stay_are_full_back_propagation(
    cell: Cell, pooling: Pooling, per_step: bool
) -> None:
    encoded = encoded_of(LENGTHS)
    targets = step_targets(encoded) if per_step else stay_targets(encoded)
    torch.manual_seed(0)
    config = NetworkConfig(
        cell=cell, pooling=pooling, hidden_size=6, layers=2, dropout=0.0, learn_initial_state=True, skip=True
    )
    network = RecurrentNetwork(config, width=5, outputs=1, layout=LAYOUT)
    full = gradients_of_whole_stays(network, encoded, targets)
    for length in (max(LENGTHS), 1000):
        on_tapes = gradients_on_tapes(network, encoded, targets, length)
        torch.testing.assert_close(on_tapes, full, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", list(Cell))
@pytest.mark.parametrize("pooling", list(Pooling))
def test_logits_on_tapes_are_those_of_whole_stays(cell: Cell, pooling: Pooling) -> None:
    encoded = encoded_of(LENGTHS * 4, dtype=np.float64)
    encoded.features[:, 0] = np.arange(len(encoded.features))
    torch.manual_seed(0)
    config = NetworkConfig(cell=cell, pooling=pooling, hidden_size=6, layers=2, dropout=0.0)
    network = RecurrentNetwork(config, width=5, outputs=1, layout=LAYOUT).double()
    expected = score_logits(network, encoded)
    state = network.initial_state(3)
    for batch in Tapes(encoded, stay_targets(encoded), rows=3, truncation_length=4, seed=0):
        logits, state = network(batch.chunk, state)
        step = batch.chunk.features[batch.chunk.valid][:, 0].long().numpy()
        np.testing.assert_allclose(logits[batch.chunk.valid].detach().numpy(), expected[step], rtol=0, atol=1e-10)


def test_shorter_chunks_truncate_the_gradient() -> None:
    encoded = encoded_of(LENGTHS)
    torch.manual_seed(0)
    network = RecurrentNetwork(SMALL_NETWORK, width=5, outputs=1)
    full = gradients_of_whole_stays(network, encoded, stay_targets(encoded))
    cut = gradients_on_tapes(network, encoded, stay_targets(encoded), 3)
    assert max(float((a - b).abs().max()) for a, b in zip(cut, full, strict=True)) > 1e-3


def fit(folder: Path, part: Any, **changes: Any) -> FitResult:
    task, network = changes.pop("task", STEP_TASK), changes.pop("network", SMALL_NETWORK)
    notes = changes.pop("notes", None)
    return fit_network(
        train=part,
        validation=part,
        network=network,
        notes=notes,
        vocabulary_size=20 if notes else 0,
        task=task,
        training=quick_training(**({"schedule": Schedule.CONSTANT, "warmup_fraction": 0.0} | changes)),
        seed=1,
        folder=folder,
    )


@pytest.fixture
def steps_taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, dict[str, Tensor], dict[str, Tensor]]]:
    """Normaliser, weights before and weights after every batch of a run."""
    seen: list[tuple[float, dict[str, Tensor], dict[str, Tensor]]] = []
    original = TapeModule.optimizer_step

    def watched(module: TapeModule, *arguments: Any, **named: Any) -> None:
        before = {n: p.detach().clone() for n, p in module.network.named_parameters()}
        original(module, *arguments, **named)
        after = {n: p.detach().clone() for n, p in module.network.named_parameters()}
        seen.append((float(module.steps_now), before, after))

    monkeypatch.setattr(TapeModule, "optimizer_step", watched)
    return seen


@pytest.mark.parametrize("optimizer", [Optimizer.ADAMW, Optimizer.SGD, Optimizer.RMSPROP])
def test_a_batch_without_a_supervised_step_moves_no_weight(
    tmp_path: Path, steps_taken: list[Any], optimizer: Optimizer
) -> None:
    encoded = encoded_of([40] * 8)
    fit(tmp_path, (encoded, stay_targets(encoded)), optimizer=optimizer, weight_decay=0.5, momentum=0.9, max_epochs=3)
    still = [before for steps, before, after in steps_taken if all(torch.equal(before[n], after[n]) for n in before)]
    silent = [before for steps, before, _ in steps_taken if not steps]
    assert len(silent) == len(still) == 9
    assert len(steps_taken) == 12


def test_the_state_moves_on_through_batches_without_a_supervised_step(tmp_path: Path) -> None:
    encoded = encoded_of([30] * 200, seed=5)
    encoded.features[1:, 0] = 0.0
    encoded.features[encoded.step_offsets[:-1], 0] = torch.randn(200, generator=torch.manual_seed(0)).sign().numpy() * 3
    targets = stay_targets(encoded)
    result = fit(tmp_path, (encoded, targets), max_epochs=12, learning_rate=2e-2, network=NetworkConfig(hidden_size=16))
    assert min(row["validation_loss"] for row in result.history) < 0.3


@pytest.mark.parametrize("reduction", list(Reduction))
def test_accumulated_batches_make_the_step_of_one_larger_batch(tmp_path: Path, reduction: Reduction) -> None:
    encoded = encoded_of([6] * 16)
    part = (encoded, step_targets(encoded))
    changes = {"optimizer": Optimizer.SGD, "momentum": 0.0, "max_epochs": 1, "gradient_clip": 0.0, "l1": 1e-3}
    network = NetworkConfig(hidden_size=4, dropout=0.0)
    whole = fit(tmp_path / "whole", part, rows=16, network=network, reduction=reduction, **changes)
    parts = fit(tmp_path / "parts", part, rows=4, accumulate_batches=4, network=network, reduction=reduction, **changes)
    for name, weight in whole.network.state_dict().items():
        torch.testing.assert_close(parts.network.state_dict()[name], weight, rtol=0, atol=1e-6)
    assert parts.history[0]["train_loss"] == pytest.approx(whole.history[0]["train_loss"], rel=1e-5)


def test_nesterov_steps_are_those_of_its_definition(tmp_path: Path, steps_taken: list[Any]) -> None:
    encoded = encoded_of([6] * 8)
    part = (encoded, step_targets(encoded))
    changes = {"optimizer": Optimizer.SGD, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0, "gradient_clip": 0.0}
    fit(tmp_path, part, max_epochs=3, learning_rate=0.1, network=NetworkConfig(hidden_size=4, dropout=0.0), **changes)
    velocity: dict[str, Tensor] = {}
    for _, before, after in steps_taken:
        network = RecurrentNetwork(NetworkConfig(hidden_size=4, dropout=0.0), width=5, outputs=1)
        network.load_state_dict(before)
        batch = next(iter(Tapes(*part, rows=8, truncation_length=10, seed=1)))
        logits, _ = network(batch.chunk, network.initial_state(8))
        Objective(TargetKind.BINARY).total(logits, batch.target, batch.weight).backward()
        for name, parameter in network.named_parameters():
            gradient = parameter.grad
            assert gradient is not None
            velocity[name] = 0.9 * velocity.get(name, 0.0) + gradient
            expected = before[name] - 0.1 * (gradient + 0.9 * velocity[name])
            torch.testing.assert_close(after[name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("limit", [0.5, 1e3, float("inf")])
@pytest.mark.parametrize("spoiled", [False, True])
def test_gradients_are_clipped_to_the_very_numbers_of_torchs_own_clipping(limit: float, spoiled: bool) -> None:
    sides = []
    for clip in (clip_gradients, torch.nn.utils.clip_grad_norm_):
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.zeros(n)) for n in (5, 7, 3)]
        for parameter in parameters[:2]:
            parameter.grad = torch.randn_like(parameter)
            if spoiled:
                parameter.grad[0] = torch.nan
        norm = float(clip(parameters, limit))
        assert parameters[2].grad is None
        sides.append([torch.tensor(norm), *(p.grad for p in parameters if p.grad is not None)])
    torch.testing.assert_close(sides[0], sides[1], rtol=0, atol=0, equal_nan=True)
    assert clip_gradients([torch.nn.Parameter(torch.zeros(2))], limit) == 0.0


def test_the_gradient_is_clipped_and_reported_as_it_was_before(tmp_path: Path, steps_taken: list[Any]) -> None:
    encoded = encoded_of([6] * 8)
    changes = {"optimizer": Optimizer.SGD, "momentum": 0.0, "weight_decay": 0.0, "gradient_clip": 1e-3}
    result = fit(tmp_path, (encoded, step_targets(encoded)), max_epochs=1, learning_rate=1.0, **changes)
    moved = [
        sum(float((after[n] - before[n]).square().sum()) for n in before) ** 0.5 for _, before, after in steps_taken
    ]
    assert moved == pytest.approx([1e-3], rel=1e-2)
    assert result.history[0]["gradient_norm"] > 0.01


def test_decay_and_l1_shrink_matrices_and_leave_biases(tmp_path: Path) -> None:
    part = cohort_part()
    free = fit(tmp_path / "free", part, weight_decay=0.0, max_epochs=4)
    for name, changes in (("l2", {"weight_decay": 2.0}), ("l1", {"weight_decay": 0.0, "l1": 0.05})):
        held = fit(tmp_path / name, part, max_epochs=4, **changes)
        sizes = [sum(float(p.detach().abs().sum()) for p in r.network.parameters() if p.ndim > 1) for r in (held, free)]
        assert sizes[0] < 0.95 * sizes[1]


def test_notes_are_trained_and_their_absence_from_a_batch_is_harmless(tmp_path: Path) -> None:
    encoded = with_notes(encoded_of(LENGTHS * 3), every=40)
    notes = NotesConfig(enabled=True, embedding_size=4, hidden_size=3)
    result = fit(tmp_path, (encoded, step_targets(encoded)), notes=notes, max_epochs=1)
    torch.manual_seed(1)
    fresh = RecurrentNetwork(SMALL_NETWORK, width=5, outputs=1, notes=notes, vocabulary_size=20)
    assert result.network.notes is not None
    assert fresh.notes is not None
    assert not torch.equal(result.network.notes.embedding.weight, fresh.notes.embedding.weight)


def test_the_averaged_weights_follow_the_trained_ones(tmp_path: Path) -> None:
    part = cohort_part()
    plain = fit(tmp_path / "plain", part, max_epochs=1, learning_rate=1e-2)
    slow = fit(tmp_path / "slow", part, max_epochs=1, learning_rate=1e-2, average_decay=0.999)
    torch.manual_seed(1)
    start = RecurrentNetwork(SMALL_NETWORK, width=5, outputs=1)
    weights = [n.stack.layers[0].weight_hh_l0.detach() for n in (slow.network, plain.network, start)]
    distance = [float((weight - weights[2]).norm()) for weight in weights]
    assert 0 < distance[0] < distance[1]
