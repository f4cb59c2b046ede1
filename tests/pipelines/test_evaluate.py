"""A hold-out's report: which steps it judges, that each metric has an interval, and that no stay is lost."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.errors import ConfigError, DataError
from models.task import AfterEvent, LabelScope, TargetKind, TaskSpec
from pipelines.evaluate import evaluate
from pipelines.evaluation_config import EvaluationConfig
from pipelines.scores import StepScores
from pipelines.thresholds import choose_thresholds

QUICK = EvaluationConfig(bootstrap=60)
DEATH = TaskSpec("death")
SEPSIS = TaskSpec("sepsis", scope=LabelScope.STEP, horizons_h=(6.0, 12.0), after_event=AfterEvent.POSITIVE)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def stay_scores(stays=300, seed=0, lengths=None):
    """Stays of 4 to 60 hourly steps whose risk becomes surer with time."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 60, size=stays) if lengths is None else np.asarray(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    time_min = np.concatenate([np.arange(1, n + 1) * 60 for n in lengths])
    truth = np.repeat(rng.normal(-1, 1.5, size=stays), lengths)
    label = np.repeat((rng.random(stays) < sigmoid(truth[offsets[:-1]])).astype(float), lengths)[:, None]
    logit = (truth + rng.normal(size=len(truth)) * 20 / (5 + time_min / 60))[:, None]
    names = tuple(f"stay-{i}" for i in range(stays))
    patients = tuple(f"patient-{i // 2}" for i in range(stays))
    return StepScores(names, patients, offsets, time_min, logit, sigmoid(logit), label)


def step_scores(stays=200, seed=0):
    """Stays of 20 hours; one in four has an onset, which risks foresee."""
    rng = np.random.default_rng(seed)
    onset = np.where(rng.random(stays) < 0.25, rng.integers(5, 24, size=stays) * 60.0, np.nan)
    time_min = np.tile(np.arange(1, 21) * 60, stays)
    ahead = np.repeat(onset, 20) - time_min
    label = np.stack([ahead <= 360, ahead <= 720], axis=1).astype(float)
    logit = rng.normal(size=(len(ahead), 2)) - 2 + 2 * label
    names = tuple(f"stay-{i}" for i in range(stays))
    return StepScores(names, names, np.arange(stays + 1) * 20, time_min, logit, sigmoid(logit), label, onset)


def test_a_stay_task_is_judged_at_every_stays_last_step():
    scores = stay_scores()
    report = evaluate(scores, DEATH, QUICK)
    rows = scores.step_offsets[1:] - 1
    expected = roc_auc_score(scores.label[rows, 0], scores.risk[rows, 0])
    assert report["metrics"]["auroc"]["value"] == pytest.approx(expected)
    assert (report["stays"], report["patients"], report["unlabelled_stays"]) == (300, 150, 0)
    assert report["events"] == scores.label[rows, 0].sum()


@pytest.mark.parametrize("hour", [6, 12, 24, 48])
def test_metrics_at_an_hour_judge_the_last_step_by_then_of_stays_that_last_as_long(hour):
    scores = stay_scores()
    entry = evaluate(scores, DEATH, QUICK)["metrics"][f"auroc_at_{hour}h"]
    lengths = np.diff(scores.step_offsets)
    rows = scores.step_offsets[:-1][lengths >= hour] + hour - 1
    assert entry["stays"] == len(rows)
    assert entry["value"] == pytest.approx(roc_auc_score(scores.label[rows, 0], scores.risk[rows, 0]))


def test_figures_of_few_events_come_with_a_caution_and_are_marked():
    scores = stay_scores(stays=12, lengths=[60] * 3 + [20] * 9)
    few = evaluate(scores, DEATH, QUICK)
    assert len(few["cautions"]) == 1
    assert "fewer than 10 of a kind (evaluation.min_events)" in few["cautions"][0]
    assert few["cautions"][0].startswith("death: ")
    assert all(entry["few_events"] for entry in few["metrics"].values())
    enough = evaluate(stay_scores(), DEATH, QUICK)
    assert enough["cautions"] == []
    assert not any("few_events" in entry for entry in enough["metrics"].values())
    assert evaluate(scores, DEATH, replace(QUICK, min_events=1))["cautions"] == []


def test_figures_at_an_hour_that_few_stays_reach_are_marked_alone():
    lengths = [20] * 300
    lengths[:8] = [60] * 8
    metrics = evaluate(stay_scores(lengths=lengths), DEATH, QUICK)["metrics"]
    marked = {name for name, entry in metrics.items() if entry.get("few_events")}
    assert "brier_at_48h" in marked
    assert all(name.endswith(("_at_24h", "_at_48h")) for name in marked)


def test_several_classes_and_numbers_with_few_patients_come_with_a_caution_too():
    rng = np.random.default_rng(3)
    scores = stay_scores(stays=60)
    kinds = TaskSpec("unit", kind=TargetKind.MULTICLASS, classes=("a", "b", "rare"))
    label = np.repeat(np.where(np.arange(60) < 3, 2, np.arange(60) % 2).astype(float), np.diff(scores.step_offsets))
    logit = rng.normal(size=(len(label), 3))
    risk = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    found = evaluate(replace(scores, label=label[:, None], logit=logit, risk=risk), kinds, QUICK)
    (caution,) = found["cautions"]
    assert "rare" in caution
    assert found["metrics"]["auroc"]["few_events"]
    assert not found["outputs"][kinds.output_names[0]]["auroc"].get("few_events")
    number = TaskSpec("days", kind=TargetKind.REGRESSION)
    few = evaluate(stay_scores(stays=8), number, QUICK)
    assert few["cautions"][0].startswith("days: 4 patients with a value: fewer than 10")


def test_every_metric_has_an_interval_around_its_value_and_the_report_is_json():
    scores = stay_scores()
    report = evaluate(scores, DEATH, QUICK, thresholds=choose_thresholds(stay_scores(seed=1), DEATH))
    expected = {"auroc", "auprc", "brier", "ece", "calibration_slope", "calibration_intercept", "event1", "event2"}
    rates = {f"sensitivity_at_alert_rate_{rate}" for rate in (0.05, 0.1, 0.2)}
    hours = {f"{m}_at_{h}h" for m in expected - {"event1", "event2"} for h in (6, 12, 24, 48)}
    assert set(report["metrics"]) == expected | rates | hours
    for name, entry in report["metrics"].items():
        assert entry["low"] <= entry["value"] <= entry["high"], name
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert "Research use only" in report["disclaimer"]
    assert "研究目的" in report["disclaimer"]


def test_a_step_task_is_judged_at_all_supervised_steps_for_every_horizon():
    scores = step_scores()
    scores.label[::7] = np.nan
    report = evaluate(scores, SEPSIS, QUICK, thresholds=choose_thresholds(step_scores(seed=1), SEPSIS))
    assert list(report["outputs"]) == ["sepsis_6h", "sepsis_12h"]
    assert report["metrics"] == report["outputs"]["sepsis_6h"]
    for k, name in enumerate(report["outputs"]):
        known = ~np.isnan(scores.label[:, k])
        expected = roc_auc_score(scores.label[known, k], scores.risk[known, k])
        assert report["outputs"][name]["auroc"]["value"] == pytest.approx(expected)
        assert 0 < report["outputs"][name]["utility"]["value"] < 1
    assert report["undefined"]["sepsis_6h/_at_24h"] == "no stay holds a label here"


def test_a_score_that_needs_a_threshold_is_absent_without_one():
    assert "event1" not in evaluate(stay_scores(), DEATH, QUICK)["metrics"]
    assert "utility" not in evaluate(step_scores(), SEPSIS, QUICK)["metrics"]
    assert "event2" not in evaluate(step_scores(), SEPSIS, QUICK)["metrics"]


def test_a_hold_out_of_one_class_reports_what_it_can_and_says_why_not_the_rest():
    scores = stay_scores()
    scores.label[:] = 0.0
    report = evaluate(scores, DEATH, QUICK)
    assert "auroc" not in report["metrics"]
    assert "one class" in report["undefined"]["death/auroc"]
    assert report["metrics"]["brier"]["value"] > 0
    assert report["events"] == 0


def test_stays_without_a_label_are_counted_and_never_judged():
    scores = stay_scores()
    scores.label[: scores.step_offsets[10]] = np.nan
    rest = evaluate(scores.select(np.arange(10, 300)), DEATH, QUICK)
    whole = evaluate(scores, DEATH, QUICK)
    assert (whole["stays"], whole["unlabelled_stays"]) == (300, 10)
    assert whole["metrics"]["auroc"] == rest["metrics"]["auroc"]


def test_a_stay_of_a_single_step_is_judged_too():
    scores = stay_scores(lengths=[1] * 300)
    report = evaluate(scores, DEATH, QUICK)
    assert report["stays"] == 300
    assert report["metrics"]["auroc"]["value"] == pytest.approx(roc_auc_score(scores.label[:, 0], scores.risk[:, 0]))


def test_the_order_of_stays_and_the_names_of_patients_change_no_value():
    scores = stay_scores()
    turned = scores.select(np.arange(300)[::-1])
    first, second = (evaluate(s, DEATH, QUICK)["metrics"] for s in (scores, turned))
    for name, entry in first.items():
        assert entry["value"] == pytest.approx(second[name]["value"], rel=1e-9), name


def test_intervals_are_those_of_patients():
    scores = stay_scores()
    alone = StepScores(
        scores.stay_id, scores.stay_id, scores.step_offsets, scores.time_min, scores.logit, scores.risk, scores.label
    )
    one, other = evaluate(scores, DEATH, QUICK), evaluate(alone, DEATH, QUICK)
    assert one["metrics"]["auroc"]["value"] == other["metrics"]["auroc"]["value"]
    assert one["metrics"]["auroc"]["low"] != other["metrics"]["auroc"]["low"]


def test_several_classes_have_macro_metrics_and_their_own():
    rng = np.random.default_rng(2)
    task = TaskSpec("unit", kind=TargetKind.MULTICLASS, classes=("medical", "surgical", "cardiac"))
    risk = rng.dirichlet(np.ones(3), size=400)
    label = (risk.cumsum(axis=1) < rng.random((400, 1))).sum(axis=1).astype(float)[:, None]
    names = tuple(map(str, range(400)))
    scores = StepScores(names, names, np.arange(401), np.full(400, 3000), np.log(risk), risk, label)
    report = evaluate(scores, task, QUICK)
    expected = roc_auc_score(label[:, 0].astype(int), risk, multi_class="ovr")
    assert report["metrics"]["auroc"]["value"] == pytest.approx(expected)
    assert {"log_loss", "accuracy", "brier", "auprc"} <= set(report["metrics"])
    assert set(report["outputs"]) == {"medical", "surgical", "cardiac"}
    assert report["outputs"]["cardiac"]["auroc"]["low"] > 0.5
    assert report["events"] == 400 - np.bincount(label[:, 0].astype(int)).max()


def test_numbers_have_errors_in_their_unit():
    rng = np.random.default_rng(3)
    task = TaskSpec("length_of_stay_d", kind=TargetKind.REGRESSION, unit="d")
    label = rng.normal(6, 2, size=(300, 1))
    risk = label + rng.normal(size=(300, 1))
    names = tuple(map(str, range(300)))
    scores = StepScores(names, names, np.arange(301), np.full(300, 1440), risk, risk, label)
    report = evaluate(scores, task, QUICK)
    assert set(report["metrics"]) == {
        f"{m}{at}" for m in ("rmse", "mae", "r2") for at in ("", "_at_24h", "_at_12h", "_at_6h")
    } - {f"{m}_at_{h}h" for m in ("rmse", "mae", "r2") for h in (6, 12)}
    assert report["metrics"]["rmse"]["value"] == pytest.approx(1.0, abs=0.15)
    assert report["events"] == 300


@pytest.mark.parametrize("settings", [{"bootstrap": 2}, {"alert_rates": (0.0,)}, {"hours": (0.0,)}, {"level": 2.0}])
def test_settings_that_cannot_hold_are_refused(settings):
    with pytest.raises(ConfigError, match="must"):
        EvaluationConfig(**settings)


@pytest.mark.parametrize(
    "change",
    [
        {"patient_id": ("a",)},
        {"time_min": np.zeros(3)},
        {"risk": np.full((2, 1), np.nan)},
        {"risk": np.zeros((2, 3))},
        {"step_offsets": np.array([0, 2, 2])},
        {"onset_min": np.zeros(5)},
    ],
)
def test_columns_that_do_not_fit_are_refused(change):
    zeros = np.zeros((2, 1))
    columns = {
        "stay_id": ("a", "b"),
        "patient_id": ("p", "q"),
        "step_offsets": np.array([0, 1, 2]),
        "time_min": np.zeros(2, dtype=int),
        "logit": zeros,
        "risk": zeros,
        "label": zeros,
    }
    with pytest.raises(DataError, match="must"):
        StepScores(**columns | change)


@pytest.mark.slow
def test_a_thousand_draws_of_two_thousand_stays_take_seconds():
    import time

    scores = stay_scores(2000, lengths=[48] * 2000)
    began = time.process_time()
    evaluate(scores, DEATH, EvaluationConfig(hours=()), thresholds={"death/event1": 0.3})
    assert time.process_time() - began < 6.0
