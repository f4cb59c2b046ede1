"""Lead time: exact on few stays, quantiles as numpy's, and what cannot be told is said."""

import numpy as np
import pytest

from pipelines.evaluation_config import EvaluationConfig
from pipelines.report.lead_time import lead_statistic, lead_times
from pipelines.report.watch import watch_of
from tests.pipelines.report.test_alerts import many
from tests.pipelines.report.test_watch import scores_of

QUICK = EvaluationConfig(bootstrap=60, min_group=1)


def test_hours_run_from_the_first_alert_to_the_event():
    early = [(60, 0.9, 0), (600, 0.9, 1)]
    late = [(60, 0.1, 0), (600, 0.9, 1)]
    never = [(60, 0.1, 0), (600, 0.1, 1)]
    scores = scores_of([early, late, never, never], onset=[660, 720, 720, np.nan])
    found = lead_times(watch_of(scores, 0), {"rule": 0.5}, QUICK)
    assert found["event_stays"] == 3
    (point,) = found["points"]
    assert point["alerted"] == 2
    values = {name: entry["value"] for name, entry in point["metrics"].items()}
    assert values == {"lower_quartile_h": 2.0, "median_h": 2.0, "upper_quartile_h": 10.0, "share_early": 1 / 3}


def test_quartiles_are_those_of_the_reference_whatever_the_weights():
    rng = np.random.default_rng(0)
    lead = np.where(rng.random(60) < 0.3, np.nan, rng.gamma(3, 4, 60))
    weight = rng.integers(0, 4, size=(5, 60)).astype(float)
    found = lead_statistic(lead, 6.0)(weight)
    for i, row in enumerate(weight.astype(int)):
        drawn = np.repeat(lead, row)
        held = drawn[~np.isnan(drawn)]
        for name, share in (("lower_quartile_h", 0.25), ("median_h", 0.5), ("upper_quartile_h", 0.75)):
            assert found[name][i] == np.quantile(held, share, method="inverted_cdf")
        assert found["share_early"][i] == pytest.approx(np.mean(np.nan_to_num(drawn, nan=-1) >= 6.0))


def test_a_lower_threshold_never_alerts_later():
    found = lead_times(watch_of(many(), 0), {"high": 0.3, "low": 0.1}, EvaluationConfig(bootstrap=60))
    high, low = found["points"]
    assert low["alerted"] >= high["alerted"]
    assert low["metrics"]["share_early"]["value"] >= high["metrics"]["share_early"]["value"]


def test_an_outcome_without_times_and_a_group_too_small_are_said_to_be_so():
    untimed = scores_of([[(60, 0.9, 1)], [(60, 0.1, 0)]])
    assert lead_times(watch_of(untimed, 0), {"rule": 0.5}, QUICK) == {"undefined": "the outcome has no time"}
    timed = scores_of([[(60, 0.9, 1)], [(60, 0.1, 0)]], onset=[120, np.nan])
    assert "needs 5" in lead_times(watch_of(timed, 0), {"rule": 0.5}, EvaluationConfig(bootstrap=60))["undefined"]
    rare = lead_times(watch_of(many(), 0), {"never": 1.0}, EvaluationConfig(bootstrap=60))
    assert rare["points"] == [{"name": "never", "threshold": 1.0, "suppressed": True}]
