"""A run that was interrupted anywhere and resumed is the run that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import ConfigError
from models.network import NetworkConfig
from pipelines.checkpoints import RunFolder
from pipelines.epochs import Epochs
from pipelines.fit import FitResult, Interrupted, fit_network
from pipelines.training_config import Monitor, Optimizer, TrainingConfig
from tests.tape_data import STAY_TASK, cohort_part, quick_training

NETWORK = NetworkConfig(hidden_size=8, layers=2, dropout=0.3, output_dropout=0.2)
TRAINING = quick_training(max_epochs=3, average_decay=0.9)


def fit(folder: Path, *, resume: bool = False, training: TrainingConfig = TRAINING, **changes: Any) -> FitResult:
    return fit_network(
        train=cohort_part(seed=0),
        validation=cohort_part(seed=1),
        network=NETWORK,
        task=STAY_TASK,
        training=training,
        seed=3,
        folder=folder,
        resume=resume,
        **changes,
    )


class StopsAt:
    """Asks the run to stop after its n-th batch, by the file that a signal would make."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, batch: int) -> None:
        seen = 0
        original = Epochs.on_train_batch_end

        def counting(callback: Epochs, *arguments: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == batch:
                RunFolder(folder).stop.touch()
            original(callback, *arguments)

        monkeypatch.setattr(Epochs, "on_train_batch_end", counting)


def assert_same(resumed: FitResult, whole: FitResult) -> None:
    for name, weight in whole.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], weight, rtol=0, atol=0)
    without_clock = [[{k: v for k, v in row.items() if k != "seconds"} for row in r.history] for r in (resumed, whole)]
    assert without_clock[0] == without_clock[1]
    assert resumed.best_epoch == whole.best_epoch


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fit(tmp_path_factory.mktemp("whole"))


def batches_of_an_epoch() -> int:
    from pipelines.tapes import Tapes

    return len(Tapes(*cohort_part(seed=0), rows=8, truncation_length=10, seed=3))


@pytest.mark.parametrize("batch", ["first", "middle", "before_last", "last", "second_epoch", "end_of_second"])
def test_a_run_resumed_within_or_at_the_end_of_an_epoch_is_bit_equal(
    whole: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: str
) -> None:
    epoch = batches_of_an_epoch()
    number = {
        "first": 1,
        "middle": epoch // 2,
        "before_last": epoch - 1,
        "last": epoch,
        "second_epoch": epoch + 3,
        "end_of_second": 2 * epoch,
    }[batch]
    with monkeypatch.context() as patch:
        StopsAt(patch, tmp_path, number)
        with pytest.raises(Interrupted, match="resume"):
            fit(tmp_path)
    assert_same(fit(tmp_path, resume=True), whole)


def test_a_run_interrupted_three_times_is_bit_equal(
    whole: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (2, 5, 4):
        with monkeypatch.context() as patch:
            StopsAt(patch, tmp_path, number)
            with pytest.raises(Interrupted):
                fit(tmp_path, resume=True)
    assert_same(fit(tmp_path, resume=True), whole)


def test_accumulated_gradients_are_never_cut_by_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = quick_training(max_epochs=2, accumulate_batches=3)
    whole = fit(tmp_path / "whole", training=training)
    with monkeypatch.context() as patch:
        StopsAt(patch, tmp_path / "cut", 4)
        with pytest.raises(Interrupted):
            fit(tmp_path / "cut", training=training)
    assert_same(fit(tmp_path / "cut", resume=True, training=training), whole)


def test_early_stopping_counts_on_over_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = quick_training(max_epochs=30, patience=2, learning_rate=0.05, optimizer=Optimizer.ADAM)
    whole = fit(tmp_path / "whole", training=training)
    assert len(whole.history) == whole.best_epoch + 3 < 30
    with monkeypatch.context() as patch:
        StopsAt(patch, tmp_path / "cut", batches_of_an_epoch() * (whole.best_epoch + 2) - 2)
        with pytest.raises(Interrupted):
            fit(tmp_path / "cut", training=training)
    assert_same(fit(tmp_path / "cut", resume=True, training=training), whole)


def test_resuming_a_run_that_has_ended_gives_its_result_without_training(whole: FitResult, tmp_path: Path) -> None:
    fit(tmp_path)
    rows: list[dict[str, float]] = []
    assert_same(fit(tmp_path, resume=True, on_epoch=rows.append), whole)
    assert rows == []


def test_resume_without_a_checkpoint_begins(whole: FitResult, tmp_path: Path) -> None:
    assert_same(fit(tmp_path / "new", resume=True), whole)


def test_without_resume_an_old_checkpoint_is_not_continued(whole: FitResult, tmp_path: Path) -> None:
    fit(tmp_path, training=quick_training(max_epochs=1))
    assert_same(fit(tmp_path), whole)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    fit(tmp_path, training=quick_training(max_epochs=1))
    with pytest.raises(ConfigError, match="another one"):
        fit(tmp_path, resume=True, training=quick_training(max_epochs=1, monitor=Monitor.AUROC))


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: bytes) -> None:
    RunFolder(tmp_path).checkpoint.write_bytes(damage)
    with pytest.raises(ConfigError, match="damaged"):
        fit(tmp_path, resume=True)


def test_checkpoints_every_few_steps_change_nothing(whole: FitResult, tmp_path: Path) -> None:
    from dataclasses import replace

    every = fit(tmp_path, training=replace(TRAINING, checkpoint_every_steps=2))
    assert_same(every, whole)


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(tmp_path, training=quick_training(max_epochs=1))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


_PROGRAM = """
import sys
from pathlib import Path
from pipelines.fit import Interrupted
from pipelines.training_config import TrainingConfig
from tests.pipelines.test_resume import fit
from tests.tape_data import quick_training
try:
    fit(Path(sys.argv[1]), training=quick_training(max_epochs=2000), on_epoch=lambda row: print("epoch", flush=True))
except Interrupted:
    sys.exit(7)
"""


def test_sigterm_leaves_a_checkpoint_and_ends_with_interrupted(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "epoch\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (7, "")
    assert RunFolder(tmp_path).read()["callbacks"]["Epochs"]["ended"] is False


def test_the_handlers_of_signals_come_back_after_training(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    fit(tmp_path, training=quick_training(max_epochs=1))
    assert signal.getsignal(signal.SIGTERM) is before
