"""A training run fits on the training part alone, reports every part's figures and saves a verified artifact."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.artifact import load_artifact
from models.channel_encoding import SUMMARIES, Feature
from models.encoding import Encoding
from models.errors import DataError
from models.notes import NoteTokenizer
from models.task import TargetKind, TaskSpec
from pipelines.baselines import BaselinesConfig
from pipelines.dataset import build_dataset
from pipelines.outcomes import Outcomes
from pipelines.score_cohort import labelled_scores, score_table
from pipelines.split import Part, split_patients
from pipelines.train import train


def silent(_: str) -> None:
    """Says nothing."""


def test_changed_stays_of_other_parts_leave_everything_fitted_unchanged(line, tmp_path_factory):
    cohort, config = line.cohort, line.config
    before = build_dataset(cohort, config, tmp_path_factory.mktemp("before"), say=silent)
    train_rows = np.isin(cohort.stays.stay_of_row(), split_patients(cohort.patient_id, config.split)[Part.TRAIN])
    train_notes = np.isin(cohort.stays.stay_of_note(), split_patients(cohort.patient_id, config.split)[Part.TRAIN])
    changed = replace(
        cohort,
        stays=replace(
            cohort.stays,
            value=np.where(train_rows, cohort.stays.value, cohort.stays.value + 5.0),
            note_text=tuple(
                text if keep else "zzyzx zzyzx" for text, keep in zip(cohort.stays.note_text, train_notes, strict=True)
            ),
        ),
    )
    after = build_dataset(changed, config, tmp_path_factory.mktemp("after"), say=silent)
    assert after.encoding == before.encoding
    assert after.tokenizer.to_json() == before.tokenizer.to_json()
    assert not np.array_equal(after.parts[Part.TEST].encoded.features, before.parts[Part.TEST].encoded.features)


def test_encoding_and_tokenizer_are_those_of_the_training_part_alone(line, tmp_path):
    data = build_dataset(line.cohort, line.config, tmp_path, say=silent)
    index = split_patients(line.cohort.patient_id, line.config.split)[Part.TRAIN]
    stays = line.cohort.stays.select(index)
    patients = [line.cohort.patient_id[index[i]] for i in stays.stay_of_note()]
    assert data.encoding == Encoding.fit(stays, line.config.encoding, statics=line.cohort.statics)
    expected = NoteTokenizer.train(list(stays.note_text), patients, line.config.notes)
    assert data.tokenizer.to_json() == expected.to_json()


def test_no_patient_is_in_two_parts(line, tmp_path):
    parts = build_dataset(line.cohort, line.config, tmp_path, say=silent).parts
    patients = [set(part.patient_id) for part in parts.values()]
    assert sum(map(len, patients)) == len(set().union(*patients)) == len(set(line.cohort.patient_id))


def test_the_bundle_in_memory_is_the_one_that_was_saved(line):
    assert load_artifact(line.good.artifact).bundle == line.good.bundle
    assert line.good.bundle.metrics["network"] == line.good.metrics


def test_the_saved_artifact_gives_the_hold_outs_risks_again(line):
    again = labelled_scores(load_artifact(line.good.artifact), line.cohort)
    test = split_patients(line.cohort.patient_id, line.config.split)[Part.TEST]
    assert np.abs(again.select(test).risk - line.good.scores.risk).max() <= 1e-6
    assert np.array_equal(again.select(test).label, line.good.scores.label)


def test_scores_of_a_cohort_hold_every_stay(line):
    table = score_table(load_artifact(line.good.artifact), line.cohort)
    assert list(table.columns) == ["stay_id", "time_h", "risk"]
    assert table["stay_id"].drop_duplicates().tolist() == list(line.cohort.stays.stay_id)
    assert table["risk"].between(0, 1).all()


def test_the_same_configuration_gives_the_same_weights(line, tmp_path):
    again = train([line.cohort], line.config, folder=tmp_path, progress=False)
    first, second = (load_artifact(run.artifact).network.state_dict() for run in (line.good, again))
    assert all(bool((first[name] == second[name]).all()) for name in first)


def test_the_threads_of_a_run_are_its_own(line, tmp_path):
    before = torch.get_num_threads()
    during = []
    config = replace(line.config, threads=before + 1, training=replace(line.config.training, max_epochs=1))
    told = lambda _: during.append(torch.get_num_threads())  # noqa: E731
    train([line.cohort], config, folder=tmp_path, progress=False, on_epoch=told)
    assert during == [before + 1]
    assert torch.get_num_threads() == before


def test_no_encoded_patient_data_outlives_the_run(line, tmp_path):
    train([line.cohort], line.config, folder=tmp_path, progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "artifacts", "plots", "notes-audit.md"}
    assert not list(tmp_path.rglob("*.npy"))


def test_the_risk_that_a_simulator_drew_with_stands_in_the_table(line):
    true = line.good.baselines["true_risk"]["metrics"]["auroc"]
    assert true["low"] < true["value"] < true["high"]
    assert true["value"] > line.weak.metrics["metrics"]["auroc"]["value"]


def test_simulated_stays_beside_others_train_without_a_best_reachable_risk(line, tmp_path):
    outcomes = line.cohort.outcomes
    drawn = outcomes["outcome"] == "in_hospital_death_true_risk"
    kept = outcomes[~drawn | (outcomes["stay"] % 2 == 0)]
    mixed = replace(line.cohort, outcome_rows=Outcomes.from_frame(kept))
    config = replace(line.config, training=replace(line.config.training, max_epochs=1))
    trained = train([mixed], config, folder=tmp_path, progress=False)
    assert trained.baselines == {}
    assert trained.metrics["stays"] == line.good.metrics["stays"]


@pytest.mark.parametrize(
    ("kind", "outcome", "classes", "values"),
    [
        (TargetKind.BINARY, "length_of_stay_d", (), "0 to 1"),
        (TargetKind.BINARY, "discharge_destination", (), "0 to 1"),
        (TargetKind.MULTICLASS, "discharge_destination", ("home", "died"), "0 to 1"),
        (TargetKind.MULTICLASS, "length_of_stay_d", ("short", "middling", "long"), "0 to 2"),
    ],
)
def test_an_outcome_of_another_kind_than_the_tasks_is_refused(line, tmp_path, kind, outcome, classes, values):
    config = replace(line.config, task=TaskSpec(outcome, kind=kind, classes=classes))
    with pytest.raises(DataError, match=f"'{outcome}' must have the values {values}"):
        train([line.cohort], config, folder=tmp_path, progress=False)


def test_an_unknown_outcome_is_refused_with_those_that_the_cohort_has(line, tmp_path):
    config = replace(line.config, task=replace(line.config.task, outcome="readmission"))
    with pytest.raises(DataError, match=r"must be an outcome of the cohort \(.*in_hospital_death"):
        train([line.cohort], config, folder=tmp_path, progress=False)


def test_baselines_see_every_summary_also_where_the_network_is_shown_less(line, tmp_path):
    quick = replace(line.config.training, max_epochs=1)
    shown = {}
    for name, features in (("few", (Feature.VALUE, Feature.MASK)), ("all", SUMMARIES)):
        encoding = replace(line.config.encoding, features=features)
        config = replace(line.config, encoding=encoding, training=quick, baselines=BaselinesConfig(trees=10))
        shown[name] = train([line.cohort], config, folder=tmp_path / name, progress=False).baselines
    for baseline in ("logistic_regression", "lightgbm"):
        assert shown["few"][baseline]["metrics"]["auroc"] == shown["all"][baseline]["metrics"]["auroc"]
