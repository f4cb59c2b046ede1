"""Figures of alerts: counted by hand on few stays, held to their burden on many, and the same at every call."""

import numpy as np
import pytest

from pipelines.evaluation_config import EvaluationConfig
from pipelines.report.alerts import alert_figures, threshold_at_burden
from pipelines.report.watch import Watch, alert_steps, watch_of
from tests.pipelines.report.test_watch import scores_of

QUICK = EvaluationConfig(bootstrap=60, min_group=1, alert_burdens=(0.5,), alert_silence_h=2.0)


def few():
    """One day of watch each: a caught event, a missed one, a false alarm, and quiet."""
    day = [60, 120, 180, 1440]
    risks = [[0.1, 0.9, 0.9, 0.9], [0.1, 0.1, 0.2, 0.1], [0.9, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]]
    labels = [1, 1, 0, 0]
    return scores_of([[(t, r, y) for t, r in zip(day, row, strict=True)] for row, y in zip(risks, labels, strict=True)])


def many(stays=400, seed=0):
    rng = np.random.default_rng(seed)
    onset = np.where(rng.random(stays) < 0.2, rng.integers(5, 60, stays) * 60.0, np.nan)
    time = np.tile(np.arange(1, 41) * 60, stays)
    ahead = np.repeat(onset, 40) - time
    label = (ahead <= 360).astype(float)
    risk = 1 / (1 + np.exp(-(rng.normal(-3, 1, len(time)) + 1.5 * label)))
    rows = list(zip(time, risk, label, strict=True))
    return scores_of([rows[i * 40 : (i + 1) * 40] for i in range(stays)], onset=onset)


def test_figures_are_those_counted_by_hand():
    found = alert_figures(watch_of(few(), 0), {"mine": 0.5}, QUICK)
    assert (found["watched_stays"], found["watched_events"], found["patient_days"]) == (4, 2, pytest.approx(4.0))
    mine = {name: entry["value"] for name, entry in found["points"][0]["metrics"].items()}
    # Alerts at minutes 120 and 1440 of the first stay, and at 60 of the third.
    assert mine["alerts_per_patient_day"] == pytest.approx(3 / 4)
    assert mine["sensitivity"] == pytest.approx(1 / 2)
    assert mine["ppv"] == pytest.approx(2 / 3)
    assert mine["stays_alerted"] == pytest.approx(2 / 4)
    assert mine["events_alerted_any_time_before"] == pytest.approx(1 / 2)


def test_an_alert_before_the_horizon_catches_no_event_though_it_came_before_it():
    scores = scores_of(
        [[(60, 0.9, 0), (600, 0.1, 0), (900, 0.1, 1)], [(60, 0.1, 0), (900, 0.1, 0)]], onset=[1000, np.nan]
    )
    metrics = alert_figures(watch_of(scores, 0), {"mine": 0.5}, QUICK)["points"][0]["metrics"]
    assert metrics["sensitivity"]["value"] == 0.0
    assert metrics["events_alerted_any_time_before"]["value"] == 1.0
    assert metrics["ppv"]["value"] == 0.0


@pytest.mark.parametrize("burden", [0.05, 0.3, 1.0])
def test_a_threshold_keeps_its_burden_and_the_next_lower_risk_would_not(burden):
    watch = watch_of(many(), 0)
    threshold = threshold_at_burden(watch, burden, 720)
    days = watch.days.sum()
    assert len(alert_steps(watch, threshold, 720)) / days <= burden
    lower = watch.risk[watch.risk < threshold].max()
    assert len(alert_steps(watch, lower, 720)) / days > burden


def test_a_burden_that_no_risk_keeps_gives_no_alert():
    watch = watch_of(few(), 0)
    assert len(alert_steps(watch, threshold_at_burden(watch, 1e-6, 0), 0)) == 0


def test_every_figure_lies_in_its_interval_and_is_the_same_at_every_call():
    config = EvaluationConfig(bootstrap=80)
    one, other = (alert_figures(watch_of(many(), 0), {"mine": 0.1}, config) for _ in range(2))
    assert one == other
    assert [p["burden"] for p in one["points"]] == [None, 0.1, 0.25, 0.5, 1.0]
    for point in one["points"]:
        for entry in point["metrics"].values():
            assert entry["low"] <= entry["value"] <= entry["high"]
    assert alert_figures(watch_of(many(), 0), {"mine": 0.1}, EvaluationConfig(bootstrap=80, seed=1)) != one


def test_too_few_events_have_no_figures_but_a_reason():
    found = alert_figures(watch_of(few(), 0), {}, EvaluationConfig(bootstrap=60))
    assert "needs 5 watched stays" in found["undefined"]
    assert "points" not in found


def test_stays_without_any_time_have_no_burden():
    zero = np.zeros(1)
    watch = Watch(np.zeros(1, int), np.zeros(1, int), zero, zero > 0, zero, zero > 0, zero, np.zeros(1, int), 0)
    assert "undefined" in alert_figures(watch, {}, QUICK)
