"""Subgroups and strata: who is in which, figures as the reference, small groups hidden and the smallest marked."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from models.channel_table import static_by_name
from models.channels import StaticVariable
from models.stay import Stays
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.evaluation_config import EvaluationConfig
from pipelines.report.group_figures import group_table
from pipelines.report.sections import NO_ALERTS, report_sections
from pipelines.report.stay_facts import StayFacts, facts_of, facts_of_cohort, observations_per_hour
from pipelines.report.strata import missingness_figures
from pipelines.report.subgroups import groups_of, subgroup_figures
from pipelines.scores import StepScores
from tests.pipelines.report.test_alerts import many

QUICK = EvaluationConfig(bootstrap=50, decision_points=3)
DEATH = TaskSpec("death")


def stay_scores(stays=400, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.normal(-1, 1.5, stays), 2)
    label = np.repeat((rng.random(stays) < 1 / (1 + np.exp(-truth[::2]))).astype(float), 2)[:, None]
    logit = (truth + rng.normal(size=2 * stays))[:, None]
    names = tuple(f"stay-{i}" for i in range(stays))
    patients = tuple(f"patient-{i // 2}" for i in range(stays))
    offsets, time = np.arange(stays + 1) * 2, np.tile([60, 120], stays)
    return StepScores(names, patients, offsets, time, logit, 1 / (1 + np.exp(-logit)), label)


def facts(stays=400, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 95, stays)
    sex = np.where(np.arange(stays) < 3, np.nan, rng.integers(0, 2, stays).astype(float))
    statics = (static_by_name("age"), static_by_name("sex"), static_by_name("height"))
    return StayFacts(statics, np.stack([age, sex, age], axis=1), rng.gamma(3, 1, stays))


def test_figures_of_a_group_are_those_of_its_stays_alone():
    scores, known = stay_scores(), facts()
    mask = known.static[:, 0] < 45
    (entry,) = group_table(scores, DEATH, 0, {"young": mask}, QUICK)
    rows = scores.last_rows[mask]
    label, risk = scores.label[rows, 0], scores.risk[rows, 0]
    value = {name: found["value"] for name, found in entry["metrics"].items()}
    assert (entry["stays"], entry["events"]) == (mask.sum(), label.sum())
    assert entry["patients"] == len({p for p, held in zip(scores.patient_id, mask, strict=True) if held})
    assert value["auroc"] == pytest.approx(roc_auc_score(label, risk))
    assert value["auprc"] == pytest.approx(average_precision_score(label, risk))
    assert value["brier"] == pytest.approx(brier_score_loss(label, risk))
    assert value["observed_over_expected"] == pytest.approx(label.sum() / risk.sum())
    assert value["base_rate"] == pytest.approx(label.mean())
    for found in entry["metrics"].values():
        assert found["low"] <= found["value"] <= found["high"]


def test_every_stay_is_in_one_group_of_each_variable_and_the_smallest_is_marked():
    found = {table["variable"]: table for table in subgroup_figures(stay_scores(), DEATH, 0, facts(), QUICK)}
    groups = found["age"]["groups"]
    assert [group["group"] for group in groups] == ["18-44", "45-64", "65-79", "80+"]
    assert sum(group["stays"] for group in groups) == 400
    sizes = [group["stays"] for group in groups]
    assert [group["smallest"] for group in groups] == [size == min(sizes) for size in sizes]


def test_a_group_of_few_stays_shows_nothing_of_them():
    found = {table["variable"]: table for table in subgroup_figures(stay_scores(), DEATH, 0, facts(), QUICK)}
    assert found["sex"]["groups"][-1] == {"group": "not recorded", "smallest": True, "suppressed": True}


def test_a_group_of_few_events_has_counts_of_stays_and_a_reason_alone():
    scores = stay_scores()
    mask = np.zeros(400, dtype=bool)
    mask[np.flatnonzero(scores.label[::2, 0] == 0)[:30]] = True
    (entry,) = group_table(scores, DEATH, 0, {"quiet": mask}, QUICK)
    assert (entry["stays"], entry["events"], entry["metrics"]) == (30, None, {})
    assert "too few for figures" in entry["undefined"]["all"]


def test_what_the_cohort_lacks_or_nobody_cut_is_said():
    config = EvaluationConfig(bootstrap=50, subgroups=("height", "hospital"))
    height, hospital = subgroup_figures(stay_scores(), DEATH, 0, facts(), config)
    assert "subgroup_cuts does not say" in height["undefined"]
    assert hospital == {"variable": "hospital", "undefined": "the cohort does not record it"}


def test_every_value_has_its_group():
    unit = static_by_name("icu_type")
    groups = groups_of(unit, np.array([0.0, 3.0, np.nan]), ())
    assert [name for name, mask in groups.items() if mask.any()] == ["coronary_care", "surgical", "not recorded"]
    weight = StaticVariable("weight", unit="kg")
    values = np.array([1.0, 2.0, 2.5, np.nan])
    masks = np.stack(list(groups_of(weight, values, (2.0, 2.5)).values()))
    assert masks.sum(axis=0).tolist() == [1, 1, 1, 1]


def test_terciles_are_of_equal_size_and_told_apart_by_density():
    known = facts()
    found = missingness_figures(stay_scores(), DEATH, 0, known.observations_per_hour, QUICK)
    sizes = [group["stays"] for group in found["groups"]]
    assert sum(sizes) == 400
    assert max(sizes) - min(sizes) <= 1
    assert found["cuts"] == np.quantile(known.observations_per_hour, [1 / 3, 2 / 3]).tolist()


def test_density_counts_observations_over_hours_from_the_first_or_admission():
    stays = Stays(
        stay_id=("a", "b", "c"),
        end_min=np.array([120, 30, 600]),
        offsets=np.array([0, 4, 6, 6]),
        time_min=np.array([-120, 0, 60, 120, 10, 20]),
        channel=np.zeros(6, dtype=np.int16),
        value=np.ones(6),
        channels=("heart_rate",),
        static=np.zeros((3, 0)),
        static_names=(),
    )
    assert observations_per_hour(stays).tolist() == [1.0, 2.0, 0.0]
    assert facts_of(stays, ()).static.shape == (3, 0)


def test_facts_follow_the_scores_order_and_unknown_stays_are_refused(line):
    stays = line.cohort.stays
    turned = [stays.stay_id[5], stays.stay_id[2]]
    known = facts_of_cohort(line.cohort, turned)
    np.testing.assert_array_equal(known.static, stays.static[[5, 2]])
    with pytest.raises(Exception, match="1 of other stays"):
        facts_of_cohort(line.cohort, ["nobody"])


def test_a_report_has_every_section_for_every_output_and_repeats():
    scores = many(120)
    two = StepScores(
        scores.stay_id, scores.patient_id, scores.step_offsets, scores.time_min,
        *(np.hstack([column, column]) for column in (scores.logit, scores.risk, scores.label)), scores.onset_min,
    )  # fmt: skip
    task = TaskSpec("sepsis", scope=LabelScope.STEP, horizons_h=(6.0, 12.0))
    known = StayFacts((), np.zeros((120, 0)), np.arange(120.0))
    thresholds = {"sepsis_6h/utility": 0.2}
    found = report_sections(two, task, known, QUICK, thresholds)
    assert set(found) == {
        "curves", "decision_curve", "reliability", "alerts", "lead_time", "subgroups", "missingness"
    }  # fmt: skip
    assert all(list(section) == ["sepsis_6h", "sepsis_12h"] for section in found.values())
    assert found["alerts"]["sepsis_6h"]["points"][0]["name"] == "threshold for utility"
    assert found["lead_time"]["sepsis_6h"]["points"][0]["threshold"] == 0.2
    assert json.loads(json.dumps(found, allow_nan=False)) == report_sections(two, task, known, QUICK, thresholds)


def test_classes_and_numbers_have_the_sections_that_they_can():
    rng = np.random.default_rng(0)
    risk = rng.dirichlet(np.ones(3), 200)
    label = (risk.cumsum(axis=1) < rng.random((200, 1))).sum(axis=1).astype(float)[:, None]
    names = tuple(map(str, range(200)))
    known = StayFacts((), np.zeros((200, 0)), np.arange(200.0))
    offsets, time = np.arange(201), np.full(200, 60)
    task = TaskSpec("unit", kind=TargetKind.MULTICLASS, classes=("a", "b", "c"))
    scores = StepScores(names, names, offsets, time, risk, risk, label)
    found = report_sections(scores, task, known, QUICK, {})
    assert found["alerts"]["a"] == {"undefined": NO_ALERTS}
    assert list(found["missingness"]) == ["unit"]
    assert 0.5 < found["missingness"]["unit"]["groups"][0]["metrics"]["auroc"]["value"] < 1
    days = TaskSpec("days", kind=TargetKind.REGRESSION)
    scores = StepScores(names, names, offsets, time, risk[:, :1], risk[:, :1], label)
    found = report_sections(scores, days, known, QUICK, {})
    assert found["decision_curve"] == {}
    assert found["missingness"]["days"]["groups"][0]["metrics"]["rmse"]["value"] > 0
