"""A trial is judged by plain figures of stays that nothing of it was fitted on."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score, root_mean_squared_error

from models.errors import ConfigError, DataError
from models.record import from_plain
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.config import RunConfig
from pipelines.dataset import build_dataset
from pipelines.members import fit_members
from pipelines.sources.simulator import simulate
from pipelines.tune_config import TuneMetric
from pipelines.tune_data import FoldStore, encoded_folder, fold_indices
from pipelines.tune_objective import Judge, check_metric, trial_value
from tests.pipelines.small_line import TINY

BINARY = TaskSpec("a", scope=LabelScope.STEP)
CLASSES = TaskSpec("a", kind=TargetKind.MULTICLASS, classes=("x", "y", "z"), scope=LabelScope.STEP)
NUMBER = TaskSpec("a", kind=TargetKind.REGRESSION, scope=LabelScope.STEP)
ALL = slice(None)
PLAIN = {**TINY, "threads": 1, "notes": {"enabled": False}, "tune": {"folds": 1}}
BESIDE = {**TINY["training"], "target_replication": 0.3, "auxiliary": {"next_value_weight": 0.5}}


@pytest.fixture(scope="module")
def cohort():
    return simulate(stays=200, seed=1, mean_hours=24.0)


@pytest.fixture
def config():
    return from_plain(RunConfig, PLAIN, where="config")


def judged(metric, task, label, logit, scale=(0.0, 1.0)):
    (value,) = Judge(TuneMetric(metric), task, label, ALL, scale)(logit.astype(np.float32)).values()
    return value


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_two_classes_are_scikit_learn_s(seed):
    random = np.random.default_rng(seed)
    logit = random.normal(size=(200, 1)).astype(np.float32)
    label = (random.random((200, 1)) < 0.3).astype(float)
    label[::7] = np.nan
    known = ~np.isnan(label[:, 0])
    y, z = label[known, 0], logit[known, 0].astype(float)
    assert judged("auroc", BINARY, label, logit) == pytest.approx(roc_auc_score(y, z), abs=1e-12)
    assert judged("auprc", BINARY, label, logit) == pytest.approx(average_precision_score(y, z), abs=1e-12)
    assert judged("log_loss", BINARY, label, logit) == pytest.approx(log_loss(y, expit(z)), abs=1e-12)


def test_figures_of_several_classes_and_of_numbers_are_scikit_learn_s():
    random = np.random.default_rng(0)
    logit = random.normal(size=(300, 3)).astype(np.float32)
    label = random.integers(0, 3, (300, 1)).astype(float)
    y, z = label[:, 0].astype(int), logit.astype(float)
    assert judged("log_loss", CLASSES, label, logit) == pytest.approx(log_loss(y, softmax(z, axis=1)), abs=1e-9)
    expected = np.mean([roc_auc_score(y == c, z[:, c]) for c in range(3)])
    assert judged("auroc", CLASSES, label, logit) == pytest.approx(expected, abs=1e-12)
    number = random.normal(10.0, 3.0, size=(300, 1))
    error = root_mean_squared_error(number[:, 0], z[:, 0] * 3.0 + 10.0)
    assert judged("rmse", NUMBER, number, logit[:, :1], (10.0, 3.0)) == pytest.approx(error, abs=1e-9)


def test_one_class_alone_and_no_label_are_refused_by_name():
    logit = np.zeros((4, 1))
    with pytest.raises(DataError, match="log_loss where"):
        judged("auprc", BINARY, np.ones((4, 1)), logit)
    with pytest.raises(DataError, match="must have labels"):
        judged("log_loss", BINARY, np.full((4, 1), np.nan), logit)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tune": {"metric": "rmse"}}, "auprc, auroc or log_loss"),
        ({"task": {"outcome": "a", "kind": "regression"}}, "must be rmse"),
        ({"calibration": {"include_validation": True}, "training": {"monitor": "last_epoch"}}, "include_validation"),
    ],
)
def test_a_figure_that_does_not_fit_the_task_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        check_metric(from_plain(RunConfig, {**TINY, **change}, where="config"))


def test_one_fold_is_the_split_s_own_and_several_judge_each_patient_once(cohort, config):
    ((train, validation),) = fold_indices(cohort, config)
    three = fold_indices(cohort, replace(config, tune=replace(config.tune, folds=3)))
    pool = np.sort(np.concatenate([train, validation]))
    np.testing.assert_array_equal(np.sort(np.concatenate([judge for _, judge in three])), pool)
    for fit, judge in three:
        patients = [{cohort.patient_id[i] for i in side} for side in (fit, judge)]
        assert patients[0].isdisjoint(patients[1])
        np.testing.assert_array_equal(np.sort(np.concatenate([fit, judge])), pool)
    with pytest.raises(DataError, match=r"lower tune\.folds"):
        fold_indices(cohort, replace(config, tune=replace(config.tune, folds=5000)))


@pytest.mark.parametrize("beside", [{}, {"pretraining": {"epochs": 1}}, {"training": BESIDE}])
def test_a_trial_trains_what_the_run_trains(cohort, beside, tmp_path):
    config = from_plain(RunConfig, {**PLAIN, **beside}, where="config")
    epochs = []
    with encoded_folder(tmp_path / "search") as folder:
        store = FoldStore(cohort, folder)
        value = trial_value(config, store, folder=tmp_path / "trial", report=lambda step, v, row: epochs.append(row))
    (tmp_path / "run").mkdir()
    data = build_dataset(cohort, config, tmp_path / "run", say=lambda _: None)
    fit = fit_members(data, config, folder=tmp_path / "fit").fits[0]
    assert [row["validation_loss"] for row in epochs] == [row["validation_loss"] for row in fit.history]
    assert value == epochs[fit.best_epoch]["tune_auprc"]
    assert not (tmp_path / "trial").exists()


def test_features_are_kept_for_trials_that_share_them_and_never_outlive_the_search(cohort, config, tmp_path):
    with encoded_folder(tmp_path) as folder:
        store = FoldStore(cohort, folder)
        first = store.folds(config)
        wider = replace(config, network=replace(config.network, hidden_size=5))
        assert store.folds(wider) is first
        for width_h in (2.0, 3.0, 4.0):
            other = replace(config, encoding=replace(config.encoding, width_h=width_h))
            assert store.folds(other) is not first
        assert len(list(folder.iterdir())) == 3
        assert store.folds(config) is not first
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_search_left_is_removed_by_the_next(tmp_path):
    import socket

    dead, other = (tmp_path / f"encoded-{host}-999999999-x" for host in (socket.gethostname(), "elsewhere"))
    dead.mkdir()
    other.mkdir()
    with encoded_folder(tmp_path):
        assert not dead.exists()
        assert other.exists()
