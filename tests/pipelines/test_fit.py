from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from models.cells import Cell
from models.errors import ConfigError, DataError, RefusedError
from models.forward import score_logits
from models.network import NetworkConfig
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.epochs import best_row
from pipelines.fit import FitResult, fit_network
from pipelines.labels import StepTargets
from pipelines.objective import Objective
from pipelines.optimisers import rate_factor
from pipelines.training_config import (
    Monitor,
    Optimizer,
    Precision,
    Reduction,
    RegressionLoss,
    Schedule,
    TrainingConfig,
)
from pipelines.validation import validate
from tests.tape_data import SMALL_NETWORK, STAY_TASK, STEP_TASK, cohort_part, encoded_of, quick_training, step_targets


def fit(folder: Path, part: Any = None, *, task: TaskSpec = STAY_TASK, seed: int = 0, **changes: Any) -> FitResult:
    return fit_network(
        train=part or cohort_part(),
        validation=changes.pop("validation", None) or part or cohort_part(seed=1),
        network=changes.pop("network", SMALL_NETWORK),
        task=task,
        training=quick_training(**changes),
        seed=seed,
        folder=folder,
        on_epoch=changes.get("on_epoch"),
    )


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_every_optimizer_learns(tmp_path: Path, optimizer: Optimizer) -> None:
    part = encoded_of([12] * 40), step_targets(encoded_of([12] * 40))
    rate = {Optimizer.SGD: 0.5, Optimizer.ADAGRAD: 0.1}.get(optimizer, 2e-2)
    result = fit(tmp_path, part, task=STEP_TASK, optimizer=optimizer, learning_rate=rate, max_epochs=6)
    assert result.history[-1]["validation_loss"] < 0.5 * np.log(2)


@pytest.mark.parametrize("schedule", list(Schedule))
def test_every_schedule_trains(tmp_path: Path, schedule: Schedule) -> None:
    result = fit(tmp_path, schedule=schedule, max_epochs=3, warmup_fraction=0.2)
    assert [row["learning_rate"] > 0 for row in result.history] == [True] * 3


def test_two_runs_of_one_seed_are_equal_and_of_another_are_not(tmp_path: Path) -> None:
    network = NetworkConfig(hidden_size=8, layers=2, dropout=0.5)
    runs = [fit(tmp_path / str(i), network=network, seed=seed) for i, seed in enumerate((4, 4, 5))]
    weights = [r.network.head.weight.detach() for r in runs]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_result_holds_the_best_epochs_weights_on_the_cpu_ready_to_score(tmp_path: Path) -> None:
    validation = cohort_part(seed=1)
    result = fit(tmp_path, max_epochs=8, learning_rate=0.05, validation=validation)
    assert not result.network.training
    losses = [row["validation_loss"] for row in result.history]
    assert result.best_epoch == int(np.argmin(losses)) < 7
    figures = validate(
        result.network, *validation, objective=Objective(TargetKind.BINARY), task=STAY_TASK, monitor=Monitor.LOSS
    )
    assert figures["validation_loss"] == pytest.approx(min(losses), abs=1e-6)


@pytest.mark.parametrize("monitor", [Monitor.AUROC, Monitor.AUPRC])
def test_discrimination_can_decide_the_best_epoch(tmp_path: Path, monitor: Monitor) -> None:
    result = fit(tmp_path, monitor=monitor, max_epochs=4)
    figures = [row[str(monitor)] for row in result.history]
    assert result.best_epoch == int(np.argmax(figures))


def test_early_stopping_waits_as_long_as_its_patience(tmp_path: Path) -> None:
    result = fit(tmp_path, max_epochs=50, patience=3, learning_rate=0.05)
    assert len(result.history) == result.best_epoch + 4 < 50


def test_each_epoch_is_told_as_it_ends(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    result = fit_network(
        train=cohort_part(),
        validation=cohort_part(seed=1),
        network=SMALL_NETWORK,
        task=STAY_TASK,
        training=quick_training(max_epochs=3),
        seed=0,
        folder=tmp_path,
        on_epoch=rows.append,
    )
    assert rows == result.history
    expected = {"epoch", "train_loss", "validation_loss", "learning_rate", "seconds", "gradient_norm"}
    assert [set(row) for row in rows] == [expected] * 3
    assert [row["epoch"] for row in rows] == [0, 1, 2]


def test_gradient_norms_are_kept_for_every_epoch_layer_and_step(tmp_path: Path) -> None:
    result = fit(tmp_path, max_epochs=3, network=NetworkConfig(cell=Cell.LSTM, hidden_size=8, layers=2))
    assert result.gradient_norms.keys() == {"h", "c"}
    epochs, layers, time = result.gradient_norms["h"].shape
    assert (epochs, layers) == (3, 2)
    assert time > 5
    assert (result.gradient_norms["h"][:, -1, -1] > 0).all()


def test_several_classes_are_learnt(tmp_path: Path) -> None:
    task = TaskSpec("kind", kind=TargetKind.MULTICLASS, scope=LabelScope.STEP, classes=("a", "b", "c"))
    encoded = encoded_of([9] * 40)
    value = np.digitize(encoded.features[:, :1], [-0.5, 0.5]).astype(np.float32)
    part = (encoded, StepTargets(value, np.ones_like(value)))
    result = fit(tmp_path, part, task=task, max_epochs=20, learning_rate=2e-2, monitor=Monitor.AUROC)
    assert result.history[result.best_epoch]["auroc"] > 0.95
    assert score_logits(result.network, encoded).shape == (360, 3)


@pytest.mark.parametrize("loss", list(RegressionLoss))
def test_a_number_is_learnt(tmp_path: Path, loss: RegressionLoss) -> None:
    task = TaskSpec("days", kind=TargetKind.REGRESSION, scope=LabelScope.STEP)
    encoded = encoded_of([9] * 40)
    value = encoded.features[:, :1].copy()
    part = (encoded, StepTargets(value, np.ones_like(value)))
    result = fit(tmp_path, part, task=task, max_epochs=10, learning_rate=2e-2, regression_loss=loss)
    assert result.history[result.best_epoch]["validation_loss"] < 0.35 * float(value.std())


def test_several_horizons_are_learnt_together(tmp_path: Path) -> None:
    task = TaskSpec("death", scope=LabelScope.STEP, horizons_h=(6.0, 12.0))
    encoded = encoded_of([9] * 40)
    part = (encoded, step_targets(encoded, outputs=2))
    result = fit(tmp_path, part, task=task, max_epochs=15, learning_rate=2e-2, monitor=Monitor.AUPRC)
    assert result.history[result.best_epoch]["auprc"] > 0.95


def test_bf16_trains_with_a_float32_state(tmp_path: Path) -> None:
    result = fit(tmp_path, precision=Precision.BF16, max_epochs=3)
    assert all(np.isfinite(row["train_loss"]) for row in result.history)
    assert result.network.head.weight.dtype is torch.float32


def test_a_bidirectional_network_trains_on_whole_stays(tmp_path: Path) -> None:
    network = NetworkConfig(hidden_size=6, bidirectional=True)
    result = fit(tmp_path, network=network, truncation_length=64)
    assert result.gradient_norms == {}
    assert len(result.history) == 2


def test_a_bidirectional_network_refuses_chunks_shorter_than_a_stay(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="truncation_length"):
        fit(tmp_path, network=NetworkConfig(hidden_size=6, bidirectional=True), truncation_length=5)


def test_the_sum_over_time_trains_on_steps(tmp_path: Path) -> None:
    part = encoded_of([12] * 40), step_targets(encoded_of([12] * 40))
    result = fit(tmp_path, part, task=STEP_TASK, reduction=Reduction.SUM, max_epochs=4, learning_rate=2e-2)
    assert result.history[-1]["validation_loss"] < 0.5


def test_the_rate_finder_finds_a_rate_that_learns_and_finds_it_again(tmp_path: Path) -> None:
    encoded = encoded_of([12] * 300)
    part = (encoded, step_targets(encoded))
    runs = [
        fit(tmp_path / str(i), part, task=STEP_TASK, find_learning_rate=True, learning_rate=123.0, max_epochs=3)
        for i in range(2)
    ]
    sweep = runs[0].sweep
    assert sweep is not None
    assert sweep == runs[1].sweep
    assert runs[0].learning_rate == sweep.chosen
    assert 1e-4 < sweep.chosen < 0.5
    assert list(sweep.rates) == sorted(sweep.rates)
    assert runs[0].history[-1]["validation_loss"] < 0.3


def test_the_head_begins_at_the_base_rate(tmp_path: Path) -> None:
    encoded = encoded_of([5] * 40)
    value = np.zeros((200, 1), dtype=np.float32)
    value[:20] = 1.0
    part = (encoded, StepTargets(value, np.ones_like(value)))
    result = fit(tmp_path, part, task=STEP_TASK, max_epochs=1, learning_rate=1e-8)
    assert float(result.network.head.bias.detach()) == pytest.approx(np.log(20.5 / 180.5), abs=1e-4)


def test_a_run_that_diverges_is_refused(tmp_path: Path) -> None:
    task = TaskSpec("days", kind=TargetKind.REGRESSION, scope=LabelScope.STEP)
    encoded = encoded_of([9] * 40)
    value = np.tile(np.array([[1e30], [-1e30]], dtype=np.float32), (180, 1))
    part = (encoded, StepTargets(value, np.ones_like(value)))
    diverging: dict[str, Any] = {"gradient_clip": 0.0, "optimizer": Optimizer.SGD, "learning_rate": 1e3}
    with pytest.raises(RefusedError, match=r"finite validation_loss in some epoch, got NaN or infinity in all \d+"):
        fit(tmp_path, part, task=task, **diverging, monitor=Monitor.LAST)


def test_a_gpu_that_the_machine_does_not_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (CUDAAccelerator, MPSAccelerator):
        monkeypatch.setattr(kind, "is_available", staticmethod(lambda: False))
    with pytest.raises(ConfigError, match=r"training\.accelerator and devices must be what .*, got gpu and 1; set"):
        fit(tmp_path, accelerator="gpu")


def test_nothing_supervised_is_refused(tmp_path: Path) -> None:
    encoded, targets = cohort_part()
    nothing = StepTargets(targets.value, np.zeros_like(targets.weight))
    with pytest.raises(DataError, match="training stays"):
        fit(tmp_path, (encoded, nothing), validation=(encoded, targets))
    with pytest.raises(DataError, match="validation stays"):
        fit(tmp_path, (encoded, targets), validation=(encoded, nothing))


def test_discrimination_of_one_class_alone_is_refused(tmp_path: Path) -> None:
    encoded, targets = cohort_part()
    one_class = StepTargets(np.zeros_like(targets.value), targets.weight)
    with pytest.raises(DataError, match="one class alone"):
        fit(tmp_path, (encoded, targets), validation=(encoded, one_class), monitor=Monitor.AUROC)


def test_training_says_nothing_on_either_stream(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("schedule", "start", "peak_at", "end"),
    [
        (Schedule.CONSTANT, 1e-3, 0.1, 1.0),
        (Schedule.COSINE, 1e-3, 0.1, 0.0),
        (Schedule.ONE_CYCLE, 0.04, 0.1, 0.0),
        (Schedule.EXPONENTIAL, 1e-3, 0.1, 1e-2),
        (Schedule.PLATEAU, 1e-3, 0.1, 1.0),
    ],
)
def test_schedules_rise_to_one_and_end_where_they_say(
    schedule: Schedule, start: float, peak_at: float, end: float
) -> None:
    training = quick_training(schedule=schedule, warmup_fraction=0.1)
    shares = [rate_factor(training, p) for p in np.linspace(0, 1, 1001)]
    assert shares[0] == pytest.approx(start)
    assert max(shares) == pytest.approx(1.0) == shares[round(peak_at * 1000)]
    assert shares[-1] == pytest.approx(end, abs=1e-9)
    assert np.all(np.diff(shares[100:]) <= 0)


def test_the_plateau_schedule_halves_the_rate_when_the_loss_stays() -> None:
    training = quick_training(schedule=Schedule.PLATEAU, warmup_fraction=0.0)
    losses = [1.0, 0.9, 0.95, 0.92, 0.8, 0.85, 0.81, 0.9, 0.9]
    assert [rate_factor(training, 0.5, losses[:n]) for n in range(10)] == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_the_first_of_equal_epochs_is_the_best_and_one_that_is_not_finite_never() -> None:
    rows = [{"validation_loss": v} for v in (float("nan"), 0.5, 0.4, 0.4, float("inf"))]
    assert best_row(rows, Monitor.LOSS) == 2
    assert best_row(rows[:1], Monitor.LOSS) is None
    assert best_row(rows, Monitor.LAST) == 3
    assert best_row(rows[:1], Monitor.LAST) is None


@pytest.mark.parametrize(
    "change",
    [
        {"truncation_length": 0},
        {"rows": 0},
        {"learning_rate": 0.0},
        {"warmup_fraction": 1.0},
        {"nesterov": True, "optimizer": Optimizer.ADAM},
        {"rows": 5, "devices": 2},
        {"accelerator": "tpu"},
        {"regression_loss": RegressionLoss.RMSE, "accumulate_batches": 2},
        {"target_replication": 1.5},
    ],
)
def test_settings_without_meaning_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"training.{next(iter(change))}"):
        TrainingConfig(**change)
