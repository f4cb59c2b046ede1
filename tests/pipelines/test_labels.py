"""Labels at time steps follow the task; nothing supervised is invented."""

import numpy as np
import pytest

from models.encoded import Encoded
from models.errors import DataError
from models.task import AfterEvent, LabelScope, TargetKind, TaskSpec
from pipelines.labels import StayOutcomes, make_targets, step_labels, target_scale

NAN = float("nan")
# Stay 0: steps at 1, 2 and 3 h; stay 1: at 1 and 2 h.
TIMES = np.array([60, 120, 180, 60, 120])
OFFSETS = np.array([0, 3, 5])
ENCODED = Encoded(np.zeros((5, 1), dtype=np.float32), OFFSETS, TIMES)


def labels(outcomes: StayOutcomes, task: TaskSpec) -> list[list[float]]:
    return step_labels(OFFSETS, TIMES, outcomes, task).T.tolist()


def test_a_stay_label_stands_at_every_step_and_an_unknown_one_at_none():
    (column,) = labels(StayOutcomes(np.array([1.0, NAN]), np.array([NAN, NAN])), TaskSpec("death"))
    assert column[:3] == [1.0, 1.0, 1.0]
    assert np.isnan(column[3:]).all()


def test_a_horizon_label_is_positive_within_the_horizon_before_the_event():
    task = TaskSpec("sepsis", scope=LabelScope.STEP, horizons_h=(1.0, 2.0), after_event=AfterEvent.POSITIVE)
    outcomes = StayOutcomes(np.array([1.0, 0.0]), np.array([240.0, NAN]))
    assert labels(outcomes, task) == [[0, 0, 1, 0, 0], [0, 1, 1, 0, 0]]


def test_steps_at_and_after_the_event_are_unsupervised_when_ignored():
    task = TaskSpec("sepsis", scope=LabelScope.STEP, horizons_h=(6.0,), after_event=AfterEvent.IGNORED)
    (column,) = labels(StayOutcomes(np.array([1.0, 0.0]), np.array([120.0, NAN])), task)
    assert column[0] == 1.0
    assert np.isnan(column[1:3]).all()
    assert column[3:] == [0.0, 0.0]


def test_horizons_need_the_time_of_every_event():
    task = TaskSpec("sepsis", scope=LabelScope.STEP, horizons_h=(6.0,))
    with pytest.raises(DataError, match="must have a time"):
        labels(StayOutcomes(np.array([1.0, 0.0]), np.array([NAN, NAN])), task)


def test_without_replication_the_last_step_alone_is_supervised():
    targets = make_targets(np.ones((5, 1)), ENCODED, TaskSpec("death"), replication=0.0)
    assert targets.weight[:, 0].tolist() == [0, 0, 1, 0, 1]


@pytest.mark.parametrize("replication", [0.0, 0.3, 1.0])
def test_every_labelled_stay_weighs_one_under_target_replication(replication):
    targets = make_targets(np.ones((5, 1)), ENCODED, TaskSpec("death"), replication=replication)
    assert np.add.reduceat(targets.weight[:, 0], OFFSETS[:-1]) == pytest.approx([1.0, 1.0])


def test_an_unknown_label_has_no_weight_and_no_value():
    targets = make_targets(np.array([[NAN], [NAN], [NAN], [1], [1]]), ENCODED, TaskSpec("death"), replication=0.5)
    assert targets.weight[:3].sum() == 0.0
    assert targets.value[:3].tolist() == [[0.0], [0.0], [0.0]]


def test_a_regression_target_is_scaled_over_stays_not_steps():
    task = TaskSpec("los", kind=TargetKind.REGRESSION, unit="d")
    assert target_scale(np.array([[2.0]] * 3 + [[6.0]] * 2), ENCODED, task) == (4.0, 2.0)
    assert target_scale(np.array([[2.0]] * 3 + [[6.0]] * 2), ENCODED, TaskSpec("death")) == (0.0, 1.0)
