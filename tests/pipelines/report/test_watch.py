"""Watched steps and alerts: exact small examples, and that a lower threshold never alerts less."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.report.watch import Watch, alert_steps, first_alert_min, watch_of
from pipelines.scores import StepScores


def scores_of(stays, onset=None):
    """Stays as lists of (minute, risk, label)."""
    rows = [row for stay in stays for row in stay]
    time_min, risk, label = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    names = tuple(f"s{i}" for i in range(len(stays)))
    offsets = np.concatenate([[0], np.cumsum([len(stay) for stay in stays])])
    onsets = None if onset is None else np.array(onset, dtype=float)
    return StepScores(names, names, offsets, time_min.astype(int), risk[:, None], risk[:, None], label[:, None], onsets)


def watch_at(times, risks, stay=None):
    n = len(times)
    of = np.zeros(n, int) if stay is None else np.asarray(stay)
    stays = int(of.max()) + 1
    no = np.zeros(stays)
    return Watch(of, np.asarray(times), np.asarray(risks, float), np.zeros(n, bool), no, no > 0, no, of[:stays], 0)


def test_a_stay_is_watched_until_its_event_and_from_admission():
    scores = scores_of(
        [[(60, 0.1, 0), (120, 0.2, 1), (180, 0.9, 1)], [(30, 0.5, 0), (90, 0.6, 0)]], onset=[150, np.nan]
    )
    watch = watch_of(scores, 0)
    assert watch.time_min.tolist() == [60, 120, 30, 90]
    assert watch.stay.tolist() == [0, 0, 1, 1]
    assert (watch.days * 1440).tolist() == pytest.approx([150, 90])
    assert watch.event.tolist() == [True, False]
    assert watch.positive.tolist() == [False, True, False, False]


def test_an_event_after_the_last_step_ends_the_watch_at_that_step_and_history_counts_as_watched():
    watch = watch_of(scores_of([[(-60, 0.1, 1), (120, 0.2, 1)]], onset=[500]), 0)
    assert (watch.days * 1440).tolist() == pytest.approx([180])


def test_a_stay_whose_event_precedes_its_first_score_is_counted_apart_and_one_without_label_not_at_all():
    scores = scores_of([[(60, 0.1, 1)], [(60, 0.3, 0)], [(60, 0.3, np.nan)]], onset=[60, np.nan, np.nan])
    watch = watch_of(scores, 0)
    assert len(watch) == 1
    assert watch.too_early == 1
    assert watch.patient.tolist() == [1]


def test_without_times_every_step_is_watched():
    watch = watch_of(scores_of([[(60, 0.1, 1), (120, 0.2, 1)]]), 0)
    assert watch.time_min.tolist() == [60, 120]
    assert np.isnan(watch.onset_min).all()


def test_an_alert_silences_its_stay_alone_and_a_high_risk_alerts_again_afterwards():
    watch = watch_at([0, 60, 120, 180, 0, 60], [0.9, 0.9, 0.2, 0.9, 0.1, 0.9], stay=[0, 0, 0, 0, 1, 1])
    assert alert_steps(watch, 0.5, 180).tolist() == [0, 3, 5]
    assert alert_steps(watch, 0.5, 181).tolist() == [0, 5]
    assert alert_steps(watch, 0.5, 60).tolist() == [0, 1, 3, 5]
    assert alert_steps(watch, 0.5, 0).tolist() == [0, 1, 3, 5]
    assert alert_steps(watch, 0.95, 60).tolist() == []
    assert first_alert_min(watch, 0.5).tolist() == [0, 60]
    assert np.isnan(first_alert_min(watch, 0.95)).all()


def test_a_risk_exactly_at_the_threshold_alerts():
    assert alert_steps(watch_at([0], [0.5]), 0.5, 60).tolist() == [0]


def slow_alerts(watch, threshold, silence):
    """The definition, step by step."""
    last, given_at = {}, []
    for i, (stay, minute, risk) in enumerate(zip(watch.stay, watch.time_min, watch.risk, strict=True)):
        if risk >= threshold and minute - last.get(stay, -(10**9)) >= silence:
            last[stay] = minute
            given_at.append(i)
    return given_at


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(0, 15),
)
def test_alerts_follow_the_definition_and_fall_with_the_threshold(rows, silence):
    rows = sorted({(stay, minute): risk for stay, minute, risk in rows}.items())
    stays = np.unique([stay for (stay, _), _ in rows], return_inverse=True)[1]
    watch = watch_at([minute for (_, minute), _ in rows], [risk / 5 for _, risk in rows], stay=stays)
    counts = []
    for threshold in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        found = alert_steps(watch, threshold, silence).tolist()
        assert found == slow_alerts(watch, threshold, silence)
        counts.append(len(found))
    assert counts == sorted(counts, reverse=True)
