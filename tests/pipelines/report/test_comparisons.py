"""Comparisons with several models: the same differences as one by one, whatever the number of rows."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from models.errors import DataError
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines import merged_rows
from pipelines.evaluate import evaluate
from pipelines.evaluation_config import EvaluationConfig
from pipelines.paired import paired_difference
from pipelines.report.comparisons import Contender, compare
from tests.pipelines.report.test_alerts import many
from tests.pipelines.report.test_groups import DEATH, stay_scores

QUICK = EvaluationConfig(bootstrap=60, hours=())
STEP = TaskSpec("sepsis", scope=LabelScope.STEP, horizons_h=(6.0,))


def blurred(scores, seed=3):
    noise = np.random.default_rng(seed).uniform(0.3, 1.0, scores.risk.shape)
    return replace(scores, risk=scores.risk * noise)


def test_differences_are_those_of_the_gate_and_of_the_reference():
    good, poor = stay_scores(), blurred(stay_scores())
    (entry,) = compare(Contender("new", good), [Contender("old", poor)], DEATH, QUICK)
    found = entry["outputs"]["death"]
    assert (entry["with"], entry["draws"], set(found)) == ("old", 60, {"auroc", "auprc", "brier"})
    for metric in ("auroc", "auprc"):
        assert found[metric] == pytest.approx(paired_difference(good, poor, metric, task=DEATH, draws=60))
    last = good.last_rows
    expected = [brier_score_loss(s.label[last, 0], s.risk[last, 0]) for s in (good, poor)]
    assert found["brier"]["value"] == pytest.approx(expected[0] - expected[1])


def test_a_model_differs_from_itself_by_nothing():
    scores = stay_scores()
    (entry,) = compare(Contender("a", scores), [Contender("b", scores)], DEATH, QUICK)
    assert all(found == {"value": 0, "low": 0, "high": 0} for found in entry["outputs"]["death"].values())


def test_many_rows_are_compared_as_few_are_and_utility_by_each_ones_threshold(monkeypatch):
    good, poor = many(300), blurred(many(300))
    sides = Contender("a", good, {"sepsis_6h/utility": 0.1}), [Contender("b", poor, {"sepsis_6h/utility": 0.05})]
    (merged,) = compare(*sides, STEP, QUICK)
    monkeypatch.setattr("pipelines.report.comparisons.EXACT_ROWS", 10**9)
    (whole,) = compare(*sides, STEP, QUICK)
    assert len(good.risk) > merged_rows.EXACT_ROWS
    for metric, entry in whole["outputs"]["sepsis_6h"].items():
        width = entry["high"] - entry["low"]
        for name in ("value", "low", "high"):
            assert merged["outputs"]["sepsis_6h"][metric][name] == pytest.approx(entry[name], abs=0.05 * width)
    mine, theirs = (
        evaluate(c.scores, STEP, QUICK, thresholds=c.thresholds)["metrics"]["utility"]["value"]
        for c in (sides[0], *sides[1])
    )
    assert whole["outputs"]["sepsis_6h"]["utility"]["value"] == pytest.approx(mine - theirs)


def test_the_order_of_stays_does_not_matter_and_other_stays_are_refused():
    good, poor = stay_scores(), blurred(stay_scores())
    turned = poor.select(np.arange(400)[::-1])
    straight = compare(Contender("a", good), [Contender("b", poor)], DEATH, QUICK)
    assert compare(Contender("a", good), [Contender("b", turned)], DEATH, QUICK) == straight
    with pytest.raises(DataError, match="one hold-out"):
        compare(Contender("a", good), [Contender("b", poor.select(np.arange(9)))], DEATH, QUICK)


def test_what_cannot_be_compared_says_why():
    scores = stay_scores()
    assert compare(Contender("a", scores), [Contender("b", reason="another split")], DEATH, QUICK) == [
        {"with": "b", "undefined": "another split"}
    ]
    silent = replace(scores, label=scores.label * 0)
    (entry,) = compare(Contender("a", silent), [Contender("b", silent)], DEATH, QUICK)
    assert "one class" in entry["outputs"]["death"]["auroc"]["undefined"]
    with pytest.raises(DataError, match="must have scores"):
        compare(Contender("a"), [], DEATH, QUICK)


def test_classes_and_numbers_are_compared_by_their_own_metrics():
    scores = stay_scores()
    days = TaskSpec("days", kind=TargetKind.REGRESSION)
    (entry,) = compare(Contender("a", scores), [Contender("b", blurred(scores))], days, QUICK)
    assert set(entry["outputs"]["days"]) == {"rmse", "mae", "r2"}
    classes = TaskSpec("death", kind=TargetKind.MULTICLASS, classes=("no", "yes"))
    both = replace(
        scores, logit=np.hstack([-scores.logit, scores.logit]), risk=np.hstack([1 - scores.risk, scores.risk])
    )
    (entry,) = compare(Contender("a", both), [Contender("b", both)], classes, QUICK)
    assert entry["outputs"]["death"]["auroc"]["value"] == 0.0
