"""What an answer says of how sure a risk is: interval and label set as the model has them, null where it has none."""

import numpy as np
import pytest
from fastapi.testclient import TestClient

from models.artifact import load_artifact
from models.task import LabelScope, TargetKind, TaskSpec
from models.uncertainty import Uncertainty
from service.app import create_app

BODY = {"as_of_h": 12, "observations": [{"channel": "heart_rate", "time_h": 3, "value": 120, "unit": "/min"}]}


def fitted(task, *, levels=(0.8, 0.9), patients=60):
    rng = np.random.default_rng(1)
    risk = rng.random((patients, task.outputs))
    if task.kind is TargetKind.MULTICLASS:
        risk /= risk.sum(axis=1, keepdims=True)
        label = rng.integers(task.outputs, size=(patients, 1)).astype(float)
    else:
        label = (rng.random((patients, task.outputs)) < risk).astype(float)
    given = {"patient_index": np.arange(patients), "order": np.zeros(patients), "levels": levels, "kind": task.kind}
    return Uncertainty.fit(risk, label, **given)


@pytest.fixture
def answer(make_artifact, settings, tmp_path):
    """Answers with a model of this task, with or without uncertainty, and the model."""

    def ask(task, uncertainty):
        folder = make_artifact(tmp_path / "model", task=task, uncertainty=uncertainty)
        scorer = load_artifact(folder)
        with TestClient(create_app(settings, scorer)) as client:
            return client.post("/v1/score", json=BODY).json(), scorer

    return ask


def test_every_horizon_has_its_own_interval_and_label_set(answer):
    task = TaskSpec("sepsis", scope=LabelScope.STEP, horizons_h=(4.0, 12.0))
    uncertainty = fitted(task)
    found, scorer = answer(task, uncertainty)
    assert scorer.bundle.uncertainty == uncertainty
    risk = np.array([[entry["risk"] for entry in found["risks"]]])
    low, high = uncertainty.interval(risk)
    inside = uncertainty.label_sets(risk)[0, :, 1]
    for k, entry in enumerate(found["risks"]):
        assert entry["interval"] == pytest.approx([low[0, k], high[0, k]])
        assert entry["label_set"] == [n for n, within in zip(("no_event", "event"), inside[k], strict=True) if within]
        assert entry["label_set_level"] == 0.9


def test_with_too_few_patients_every_set_says_cannot_tell(answer):
    task = TaskSpec("died")
    found, _ = answer(task, fitted(task, patients=3))
    assert found["risks"][0]["label_set"] == ["no_event", "event"]


def test_without_label_sets_the_answer_says_null(answer):
    found, _ = answer(TaskSpec("died"), None)
    assert [found["risks"][0][name] for name in ("interval", "label_set", "label_set_level")] == [None] * 3


def test_several_classes_have_one_set_of_classes(answer):
    task = TaskSpec("place", TargetKind.MULTICLASS, classes=("home", "ward", "icu"))
    uncertainty = fitted(task)
    found, _ = answer(task, uncertainty)
    share = np.array([[entry["probability"] for entry in found["classes"]]])
    inside = uncertainty.label_sets(share)[0, 0, 1]
    assert found["label_set"] == [name for name, within in zip(task.classes, inside, strict=True) if within]
    assert "interval" not in found["classes"][0]
