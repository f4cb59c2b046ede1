"""The Challenges' scores against values worked by hand from the published definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.task import AfterEvent, LabelScope, TargetKind, TaskSpec
from pipelines.challenge_scores import (
    event1,
    event2,
    hourly_decisions,
    utility,
    utility_of_alert,
    utility_of_silence,
)
from pipelines.scores import StepScores
from pipelines.thresholds import best_event1_threshold, best_gain_threshold, choose_thresholds

SEPSIS = TaskSpec("sepsis", scope=LabelScope.STEP, horizons_h=(6.0,), after_event=AfterEvent.POSITIVE)


def hourly(risks, onsets_h, *, label=0.0):
    """Stays on a grid of one hour: lists of risks, and hours of onset or None."""
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in risks])])
    time_min = np.concatenate([np.arange(1, len(r) + 1) * 60 for r in risks])
    risk = np.concatenate(risks).astype(float)[:, None]
    onset = np.array([np.nan if h is None else h * 60.0 for h in onsets_h])
    names = tuple(f"s{i}" for i in range(len(risks)))
    return StepScores(names, names, offsets, time_min, risk, risk, np.full(risk.shape, label), onset)


def test_event1_is_the_smaller_of_sensitivity_and_positive_predictivity():
    # 4 deaths, 5 alerts, 3 of them right: sensitivity 3/4, positive predictivity 3/5.
    label = np.array([1.0, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    alert = np.array([1.0, 1, 1, 0, 1, 1, 0, 0, 0, 0])
    assert event1(label, alert)(np.ones((1, 10)))["event1"][0] == pytest.approx(0.6)
    # One alert, right: sensitivity 1/4, positive predictivity 1.
    assert event1(label, label * (np.arange(10) == 0))(np.ones((1, 10)))["event1"][0] == pytest.approx(0.25)


def test_event1_without_an_alert_is_zero_and_without_a_death_not_defined():
    label = np.array([1.0, 0, 0])
    assert event1(label, np.zeros(3))(np.ones((1, 3)))["event1"][0] == 0.0
    assert np.isnan(event1(np.zeros(3), label)(np.ones((1, 3)))["event1"][0])


def test_event2_worked_by_hand_from_the_published_formula():
    # Ten groups of two stays; group g has mean risk g/20 + 0.02 and the deaths below.
    means = np.arange(10) / 20 + 0.02
    deaths = [0, 0, 1, 0, 0, 1, 0, 1, 1, 2]
    risk = np.repeat(means, 2) + np.tile([-0.01, 0.01], 10)
    label = np.concatenate([[1.0] * d + [0.0] * (2 - d) for d in deaths])
    h = sum((d - 2 * m) ** 2 / (2 * m * (1 - m) + 0.001) for d, m in zip(deaths, means, strict=True))
    shuffled = np.random.default_rng(0).permutation(20)
    found = event2(label[shuffled], risk[shuffled])(np.ones((1, 20)))["event2"][0]
    assert found == pytest.approx(h / (means[9] - means[0]))


def test_event2_leaves_out_no_stay_that_ten_does_not_divide():
    risk = np.linspace(0.05, 0.9, 23)
    label = np.zeros(23)
    label[-1] = 1.0
    groups = np.array_split(np.arange(23), 10)
    means = [risk[g].mean() for g in groups]
    h = sum(
        (label[g].sum() - len(g) * m) ** 2 / (len(g) * m * (1 - m) + 0.001) for g, m in zip(groups, means, strict=True)
    )
    assert event2(label, risk)(np.ones((1, 23)))["event2"][0] == pytest.approx(h / (means[-1] - means[0]))


def test_event2_of_a_draw_is_that_of_the_stays_it_holds():
    rng = np.random.default_rng(1)
    risk = rng.random(100)
    label = (rng.random(100) < risk).astype(float)
    weight = np.bincount(rng.integers(100, size=100), minlength=100).astype(float)
    rows = np.repeat(np.arange(100), weight.astype(int))
    expected = event2(label[rows], risk[rows])(np.ones((1, 100)))["event2"]
    assert event2(label, risk)(weight[None])["event2"] == pytest.approx(expected)


def test_event2_of_equal_risks_or_few_stays_is_not_defined():
    assert np.isnan(event2(np.zeros(20), np.full(20, 0.3))(np.ones((1, 20)))["event2"][0])
    assert np.isnan(event2(np.zeros(9), np.linspace(0, 1, 9))(np.ones((1, 9)))["event2"][0])


def test_utilities_at_the_corners_of_the_published_curves():
    alert = {-13: -0.05, -12: 0.0, -9: 0.5, -6: 1.0, -3: 2 / 3, 0: 1 / 3, 3: 0.0, 4: 0.0}
    silence = {-13: 0.0, -6: 0.0, -3: -2 / 3, 0: -4 / 3, 3: -2.0, 4: 0.0}
    assert utility_of_alert(np.array([*alert], dtype=float)) == pytest.approx([*alert.values()])
    assert utility_of_silence(np.array([*silence], dtype=float)) == pytest.approx([*silence.values()])
    nothing = np.array([np.nan])
    assert (utility_of_alert(nothing)[0], utility_of_silence(nothing)[0]) == (-0.05, 0.0)


def test_the_published_programs_own_example_of_one_stay():
    # Labels 0 0 0 0 1 1, predictions 0 0 1 1 1 1: 3.388888888888889 (in its documentation). The label turns
    # 1 six hours before onset: at hour 5, so onset is hour 11.
    decisions = hourly_decisions(hourly([[0, 0, 1, 1, 1, 1]], [11]), 0)
    chosen = np.where(decisions.risk >= 0.5, decisions.if_alert, decisions.if_silent)
    assert chosen.sum() == pytest.approx(3.388888888888889)


def test_normalised_utility_of_two_stays_worked_by_hand():
    # Septic stay, onset at hour 13, 16 hours: hour t has dt = t - 13, from -12 to 3.
    # Best: alert throughout: dt -12..-6 gives 0,1/6,..,1 (3.5), dt -5..3 gives 8/9,7/9,..,0 (4): 7.5.
    # Never: dt -5..3 gives -2/9 * (1..9) = -10. Alerts from hour 10 (dt -3) on: 6/9+..+0 = 21/9, and silence at
    # dt -5, -4: -2/9 - 4/9. The other stay of 10 hours has 4 false alerts: -0.2.
    septic = [0.0] * 9 + [1.0] * 7
    other = [1.0] * 4 + [0.0] * 6
    scores = hourly([septic, other], [13, None])
    expected = (21 / 9 - 6 / 9 - 0.2 + 10) / (7.5 + 10)
    found = utility(hourly_decisions(scores, 0), 0.5)(np.ones((1, 2)))["utility"][0]
    assert found == pytest.approx(expected)


def test_never_alerting_is_zero_and_the_best_decisions_are_one():
    scores = hourly([[0.1] * 20, [0.2] * 10], [12, None])
    assert utility(hourly_decisions(scores, 0), 0.5)(np.ones((1, 2)))["utility"][0] == 0.0
    best = hourly([[1.0] * 20, [0.0] * 10], [12, None])
    assert utility(hourly_decisions(best, 0), 0.5)(np.ones((1, 2)))["utility"][0] == pytest.approx(1.0)


def published_utility(labels, predictions):
    """One stay's utility from the published definition, hour by hour."""
    onset = labels.index(1) + 6 if 1 in labels else None
    total = 0.0
    for hour, alert in enumerate(predictions):
        if onset is None:
            total += -0.05 if alert else 0.0
        elif hour <= onset - 6:
            total += max((hour - onset + 12) / 6, -0.05) if alert else 0.0
        elif hour <= onset + 3:
            total += (3 - (hour - onset)) / 9 if alert else -2 * (hour - onset + 6) / 9
    return total


@settings(max_examples=60, deadline=None)
@given(
    stays=st.lists(
        st.tuples(st.lists(st.booleans(), min_size=1, max_size=40), st.none() | st.integers(0, 39)),
        min_size=1,
        max_size=5,
    )
)
def test_any_cohorts_utility_equals_the_definition_hour_by_hour(stays):
    risks, onsets, sums = [], [], np.zeros(3)
    for alerts, first in stays:
        positive = None if first is None else first % len(alerts)
        labels = [int(positive is not None and hour >= positive) for hour in range(len(alerts))]
        ideal = [positive is not None and -12 <= hour - positive - 6 <= 3 for hour in range(len(alerts))]
        sums += [published_utility(labels, p) for p in (alerts, ideal, [False] * len(alerts))]
        risks.append([float(a) for a in alerts])
        onsets.append(None if positive is None else positive + 7)
    found = utility(hourly_decisions(hourly(risks, onsets), 0), 0.5)(np.ones((1, len(stays))))["utility"][0]
    if sums[1] == sums[2]:
        assert np.isnan(found)
    else:
        assert found == pytest.approx((sums[0] - sums[2]) / (sums[1] - sums[2]))


def test_between_hours_the_last_score_decides_and_a_short_stay_decides_once():
    names = ("a", "b")
    time_min = np.array([0, 59, 61, 130, 0])
    risk = np.array([0.1, 0.2, 0.3, 0.4, 0.9])[:, None]
    scores = StepScores(names, names, np.array([0, 4, 5]), time_min, risk, risk, np.zeros((5, 1)))
    decisions = hourly_decisions(scores, 0)
    assert decisions.risk.tolist() == [0.2, 0.3, 0.4, 0.9]
    assert decisions.stay.tolist() == [0, 0, 0, 1]


def test_a_stay_of_unknown_outcome_does_not_count_and_a_late_onset_without_labels_does():
    scores = hourly([[1.0] * 5, [1.0] * 5], [None, 3], label=np.nan)
    decisions = hourly_decisions(scores, 0)
    assert decisions.rows.tolist() == [1]
    assert len(decisions.stay) == 5


def test_the_best_thresholds_are_found_among_all():
    rng = np.random.default_rng(2)
    risk = np.round(rng.random(300), 2)
    label = (rng.random(300) < risk**2).astype(float)
    chosen = best_event1_threshold(label, risk)
    score = lambda t: event1(label, (risk >= t).astype(float))(np.ones((1, 300)))["event1"][0]  # noqa: E731
    assert score(chosen) == max(score(t) for t in np.unique(risk))
    gain = rng.normal(size=300) - 0.2 + risk
    best = best_gain_threshold(gain, risk)
    assert gain[risk >= best].sum() == pytest.approx(max(gain[risk >= t].sum() for t in np.unique(risk)))


def test_where_no_alert_is_worth_it_the_threshold_is_above_every_risk():
    risk = np.array([0.2, 0.9])
    assert best_gain_threshold(np.array([-1.0, -1.0]), risk) > 0.9


def test_thresholds_are_chosen_by_name_for_what_the_task_has():
    scores = hourly([[0.1] * 9 + [0.8] * 7, [0.2] * 10], [13, None])
    scores.label[7:16] = 1.0
    chosen = choose_thresholds(scores, SEPSIS)
    assert set(chosen) == {"sepsis_6h/utility", *(f"sepsis_6h/alert_rate_{r}" for r in (0.05, 0.1, 0.2))}
    # Ten false alerts cost 0.5, the early rewards of the septic stay are worth more: alerting throughout is best.
    assert chosen["sepsis_6h/utility"] == pytest.approx(0.1)
    stay = choose_thresholds(scores, TaskSpec("death"))
    assert 0.2 < stay["death/event1"] <= 0.8
    several = TaskSpec("unit", kind=TargetKind.MULTICLASS, classes=("a", "b"))
    assert choose_thresholds(scores, several) == {}


def test_an_event_without_a_time_has_no_utility():
    scores = hourly([[0.5] * 10, [0.5] * 10], [5, None])
    scores.label[12] = 1.0
    assert "sepsis_6h/utility" not in choose_thresholds(scores, SEPSIS)
