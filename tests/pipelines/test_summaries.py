"""Rows of an ensemble's trees: a stay weighs one, its last step most of it, and every part of it can be drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.task import LabelScope, TaskSpec
from pipelines.summaries import EARLIER_STEPS, replicated_rows, training_rows
from tests.pipelines.test_baselines import HOURLY, piece

DEATH = TaskSpec("death", scope=LabelScope.STAY)


def stay_of(part, rows):
    """Index of the stay that each row is a step of; a row of features is found by its bytes."""
    places = {row.tobytes(): i for i, row in enumerate(part.encoded.features)}
    steps = np.array([places[row.tobytes()] for row in rows.features])
    return steps, np.searchsorted(part.encoded.step_offsets, steps, side="right") - 1


@settings(max_examples=25, deadline=None)
@given(replication=st.floats(0.05, 0.95), seed=st.integers(0, 5), limit=st.integers(80, 1000))
def test_a_stay_weighs_one_and_its_last_step_what_is_not_shared(replication, seed, limit):
    part = piece(80, seed)
    rows = replicated_rows(part, DEATH, target=0, limit=limit, seed=seed, replication=replication)
    steps, stays = stay_of(part, rows)
    assert len(rows.target) <= limit
    assert rows.rows_a_stay <= EARLIER_STEPS + 1
    np.testing.assert_allclose(np.bincount(stays, rows.weight, minlength=80), 1.0, atol=1e-9)
    last = steps == part.encoded.step_offsets[1:][stays] - 1
    several = (part.encoded.lengths[stays] > 1) & (rows.rows_a_stay > 1)
    np.testing.assert_allclose(rows.weight[last & several], 1 - replication)
    np.testing.assert_allclose(rows.weight[last & ~several], 1.0)
    assert np.array_equal(rows.target, part.targets.value[steps, 0])


def test_every_hour_of_a_stay_is_drawn_as_often_as_another():
    part = piece(400, 0)
    rows = replicated_rows(part, DEATH, target=0, limit=10_000, seed=0, replication=0.5)
    steps, stays = stay_of(part, rows)
    begins = part.encoded.step_offsets[:-1][stays]
    longest = part.encoded.lengths[stays] == 6
    drawn = np.bincount((steps - begins)[longest], minlength=6)
    stays_of_six = int((part.encoded.lengths == 6).sum())
    assert drawn[5] == stays_of_six
    np.testing.assert_allclose(drawn[:5] / stays_of_six, EARLIER_STEPS / 5, rtol=0.3)


@pytest.mark.parametrize(("task", "replication"), [(DEATH, 0.0), (HOURLY, 0.5)])
def test_without_replication_the_rows_are_the_baselines(task, replication):
    part = piece(50, 3)
    rows = replicated_rows(part, task, target=0, limit=40, seed=1, replication=replication)
    expected = training_rows(part, task, target=0, limit=40, seed=1)
    assert np.array_equal(rows.features, expected.features)
    assert rows.weight is None


def test_too_many_stays_are_sampled_and_then_their_last_steps_alone():
    part = piece(100, 0)
    rows = replicated_rows(part, DEATH, target=0, limit=30, seed=0, replication=0.5)
    assert len(rows.target) == 30
    assert rows.rows_a_stay == 1
    assert np.array_equal(rows.weight, np.ones(30))
    assert rows.of == 100
