"""The champion in a report: compared on the very hold-out, or not at all and for a reason that is told."""

from dataclasses import replace

import pytest

from models.task import LabelScope
from pipelines.baselines import BaselineScores
from pipelines.registry import CHAMPION, move_alias
from pipelines.report.champion import OTHER_SPLIT, rivals_of
from pipelines.report.training_report import Rival, report_on_training
from pipelines.split import Part, split_patients
from pipelines.tracking import connect


@pytest.fixture(scope="module")
def registered(line):
    """A champion of a name of its own."""
    from pipelines.publish import Publication

    config = replace(line.config, name="report-champion")
    with Publication(config, line.settings, cohorts=(line.cohort_folder,)) as publication:
        version = publication.register(line.weak)
    move_alias(connect(line.settings), config.name, CHAMPION, version)
    return config, version, publication.run_id


def test_a_name_without_champion_has_no_rival(line):
    assert rivals_of(replace(line.config, name="nobody-yet"), line.settings) == []


def test_a_champion_of_the_same_split_is_compared_on_the_hold_out(line, registered):
    config, version, _ = registered
    (rival,) = rivals_of(config, line.settings)
    assert rival.name == f"champion models:/report-champion/{version}"
    holdout = split_patients(line.cohort.patient_id, config.split)[Part.TEST]
    served = BaselineScores(line.good.scores, line.good.scores)
    report = report_on_training(
        line.good.bundle, line.cohort, holdout, {"network": served}, config, rivals=[rival, Rival("x", reason="gone")]
    )
    found, gone = report["comparisons"]
    assert found["outputs"]["in_hospital_death"]["auroc"]["low"] > 0
    assert gone == {"with": "x", "undefined": "gone"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [("split", OTHER_SPLIT), ("task", "task.scope differ")],
)
def test_a_champion_that_may_have_seen_the_patients_or_predicts_something_else_is_not(line, registered, change, reason):
    config, _, _ = registered
    changed = {
        "split": replace(config.split, key="another"),
        "task": replace(config.task, scope=LabelScope.STEP),
    }
    (rival,) = rivals_of(replace(config, **{change: changed[change]}), line.settings)
    assert rival.scorer is None
    assert reason in rival.reason


def test_the_page_of_a_registered_version_names_it_and_its_digest(line, registered):
    from pipelines.tracking import mlflow

    config, version, run_id = registered
    page = mlflow.artifacts.load_text(f"runs:/{run_id}/report.html")
    assert f"models:/{config.name}/{version}" in page
    assert line.weak.digest in page
    card = mlflow.artifacts.load_dict(f"runs:/{run_id}/model_card.json")
    assert card["metrics"] == line.weak.bundle.metrics
