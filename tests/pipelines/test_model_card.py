"""The card says what the model is for, how good it is beside its baselines, and where it ends."""

import json
from dataclasses import replace

import pytest

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.model_card import card_facts, card_json, card_markdown


@pytest.fixture(scope="module")
def bundle(line):
    return line.good.bundle


def test_both_forms_carry_the_disclaimer_in_both_languages(bundle):
    for text in (card_markdown(card_facts(bundle)), card_json(card_facts(bundle))):
        assert DISCLAIMER_EN in text
        assert DISCLAIMER_JA in text


def test_the_card_names_use_data_licence_calibration_and_limits(bundle):
    text = card_markdown(card_facts(bundle))
    for heading in ("Intended use", "Data", "Figures on the hold-out", "Calibration", "Limits", "Made with"):
        assert f"## {heading}" in text
    assert bundle.cohort["licence"] in text
    assert bundle.cohort["fingerprint"] in text
    assert "retrospective" in text
    assert "fitted on a part of its own" in text


def test_network_and_baselines_stand_in_one_table_with_intervals(bundle):
    entry = {"value": 0.8, "low": 0.7, "high": 0.9}
    table = {
        "network": {"stays": 100, "events": 12, "metrics": {"auroc": entry, "calibration_slope": entry}},
        "logistic": {"stays": 100, "events": 12, "metrics": {"auroc": {"value": 0.75, "low": 0.65, "high": 0.85}}},
    }
    text = card_markdown(card_facts(replace(bundle, metrics=table)))
    assert "| figure | network | logistic |" in text
    assert "| auroc | 0.800 [0.700, 0.900] | 0.750 [0.650, 0.850] |" in text
    assert "| calibration_slope | 0.800 [0.700, 0.900] |  |" in text
    assert "100 stays, 12 events" in text


def test_a_model_without_hold_out_says_so(bundle):
    assert "No hold-out was kept." in card_markdown(card_facts(replace(bundle, metrics={})))


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (TaskSpec("sepsis", scope=LabelScope.STEP, horizons_h=(6.0, 12.0)), "within 6, 12 h"),
        (TaskSpec("los", kind=TargetKind.REGRESSION, unit="d"), "in d"),
        (TaskSpec("death"), "by the end of the stay"),
    ],
)
def test_intended_use_says_what_is_predicted_and_when(bundle, task, words):
    assert words in card_facts(replace(bundle, task=task, uncertainty=None))["intended_use"]


def test_the_json_form_is_plain_json_without_any_patient(line, bundle):
    for facts in (card_facts(bundle), line.good.report):
        text = card_json(facts)
        assert json.loads(text)["channels"] == list(bundle.encoding.channels.names)
        assert not any(patient in text for patient in line.cohort.patient_id)


def test_a_report_adds_alerts_subgroups_and_differences_to_both_forms(line):
    report = line.good.report
    text = card_markdown(report)
    for heading in ("Alerts, in_hospital_death", "Subgroups, in_hospital_death", "Paired differences"):
        assert f"## {heading}" in text
    (entry,) = report["comparisons"]
    found = entry["outputs"]["in_hospital_death"]["auroc"]
    assert f"| {entry['with']} | in_hospital_death, auroc | {found['value']:.3f} " in text
    assert "(smallest)" in text
    assert json.loads(card_json(report)) == report


def test_a_report_shows_the_very_figures_of_the_bundle(line):
    assert line.good.report["metrics"] == line.good.bundle.metrics
