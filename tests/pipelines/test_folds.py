"""Members that each leave a fold of the patients out: whom each saw, what calibrates, and what a leak looks like."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.artifact import load_artifact
from models.ensemble import combine
from models.errors import ConfigError, DataError
from models.forward import score_logits
from models.record import from_plain
from pipelines import part_data
from pipelines.baselines import LINEAR, TREES
from pipelines.combined import NETWORKS_ALONE, SINGLE_NETWORK, calibration_logits, combine_known
from pipelines.config import RunConfig
from pipelines.dataset import build_dataset
from pipelines.fit import Interrupted
from pipelines.leak_finding import LeakError
from pipelines.leak_guards import check_left_out
from pipelines.members import fit_members
from pipelines.model_card import card_markdown
from pipelines.outcomes import Outcomes
from pipelines.report.tripod import tripod_items
from pipelines.score_cohort import labelled_scores
from pipelines.sources.simulator import simulate
from pipelines.split import Part, split_patients
from pipelines.train import train

FOLDS = 3
TABLES = {
    "name": "folds",
    "seed": 4,
    "task": {"outcome": "in_hospital_death"},
    "split": {"key": "m", "train": 0.4, "validation": 0.15, "calibration": 0.2, "test": 0.25},
    "encoding": {"grid": "fixed", "width_h": 6.0},
    "network": {
        "hidden_size": 4,
        "skip_pieces": 2,
        "output_dropout": 0.5,
    },  # none of it may be left when stays are scored
    "ensemble": {
        "members": 6,
        "folds": FOLDS,
        "trees": True,
        "trees_weight": 0.4,
        "variants": [{}, {"network": {"cell": "lstm"}, "training": {"max_epochs": 1}}],
    },
    "training": {
        "rows": 16,
        "max_epochs": 2,
        "learning_rate": 1e-2,
        "monitor": "last_epoch",
        "target_replication": 0.4,
        "auxiliary": {"next_value_weight": 0.5},
    },
    "baselines": {"enabled": True, "trees": 10, "threads": 1},
    "evaluation": {"bootstrap": 20},
}
CONFIG = from_plain(RunConfig, TABLES, where="config")


@pytest.fixture(scope="module")
def cohort():
    return simulate(stays=400, seed=2, mean_hours=20.0)


@pytest.fixture(scope="module")
def data(cohort, tmp_path_factory):
    return build_dataset(cohort, CONFIG, tmp_path_factory.mktemp("encoded"), say=lambda _: None)


@pytest.fixture(scope="module")
def members(data, tmp_path_factory):
    return fit_members(data, CONFIG, folder=tmp_path_factory.mktemp("members") / "checkpoints")


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    return train([cohort], CONFIG, folder=tmp_path_factory.mktemp("trained"), progress=False)


def test_everyone_before_the_hold_out_is_learnt_from_and_each_patient_is_in_one_fold(cohort, data):
    parts = split_patients(cohort.patient_id, CONFIG.split)
    before = sorted(np.concatenate([parts[p] for p in Part if p is not Part.TEST]).tolist())
    assert set(data.parts) == {Part.TRAIN, Part.TEST}
    assert data.parts[Part.TRAIN].index.tolist() == before
    assert data.calibration is data.parts[Part.TRAIN]
    folds_of = {}
    for patient, fold in zip(data.calibration.patient_id, data.folds.tolist(), strict=True):
        folds_of.setdefault(patient, set()).add(fold)
    assert all(len(folds) == 1 for folds in folds_of.values())
    assert set().union(*folds_of.values()) == set(range(FOLDS))


def test_members_leave_folds_out_in_turn_and_each_round_is_of_one_variant(members):
    assert [spec.fold for spec in members.specs] == [0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert [spec.network and str(spec.network.cell) for spec in members.specs] == [
        *["gru"] * 3,
        *["lstm"] * 3,
        *[None] * 3,
    ]
    assert [len(fit.history) for fit in members.fits] == [2, 2, 2, 1, 1, 1]
    assert sum(members.ensemble.weights) == pytest.approx(1.0)
    assert sum(members.ensemble.weights[6:]) == pytest.approx(0.4)


def test_the_outcomes_of_the_fold_that_a_member_leaves_out_do_not_reach_it(cohort, data, members, tmp_path):
    fold = 1
    train_part = data.parts[Part.TRAIN]
    strangers = train_part.index[data.folds == fold]
    value, time_min = (column.copy() for column in outcome_columns(cohort))
    value[strangers] = 1.0 - value[strangers]
    changed = replace(cohort, outcome_rows=Outcomes.from_columns({"in_hospital_death": (value, time_min)}))
    config = replace(CONFIG, ensemble=replace(CONFIG.ensemble, members=3, variants=(), trees=False))
    folder = tmp_path / "encoded"
    folder.mkdir()
    other = fit_members(
        build_dataset(changed, config, folder, say=lambda _: None), config, folder=tmp_path / "checkpoints"
    )
    pairs = zip(members.ensemble.networks[:3], other.ensemble.networks, strict=True)
    same = [same_weights(one, its_other) for one, its_other in pairs]
    assert same == [False, True, False]


def same_weights(one, other):
    theirs = other.state_dict()
    return all(torch.equal(weight, theirs[name]) for name, weight in one.state_dict().items())


def outcome_columns(cohort):
    from pipelines.labels import outcomes_of

    known = outcomes_of(cohort, "in_hospital_death")
    return known.value, known.time_min


def test_a_stay_is_calibrated_by_the_members_that_never_saw_it(data, members):
    logits = calibration_logits(members.ensemble, members.specs, data)
    part = data.calibration
    fold = np.repeat(data.folds, part.encoded.lengths)
    for number, (member, spec) in enumerate(zip(members.ensemble, members.specs, strict=True)):
        known = ~np.isnan(logits[:, number, 0])
        assert np.array_equal(known, fold == spec.fold)
        if spec.network is not None:
            alone = score_logits(member, part.encoded)
            np.testing.assert_allclose(logits[known, number], alone[known], rtol=0, atol=1e-5)


def test_known_logits_combine_by_their_weights_alone():
    logits = np.array([[[1.0], [np.nan], [4.0]], [[np.nan], [2.0], [8.0]]])
    np.testing.assert_allclose(combine_known(logits, (0.25, 0.25, 0.5)), [[3.0], [6.0]])
    whole = np.random.default_rng(0).normal(size=(5, 3, 2))
    assert np.array_equal(combine_known(whole, (0.2, 0.3, 0.5)), combine(whole, (0.2, 0.3, 0.5)))


def test_the_artifact_says_who_left_what_out_and_scores_as_the_run_did(cohort, trained):
    scorer = load_artifact(trained.artifact)
    assert [member.fold for member in scorer.bundle.members] == [0, 1, 2] * 3
    seen = scorer.bundle.cohort["fitted_on"]
    assert seen["network/1"] == seen["trees/1"] == "train without fold 1"
    assert seen["calibration"] == seen["thresholds"] == "train"
    assert "left_out" in [guard["name"] for guard in scorer.bundle.guards]
    test = split_patients(cohort.patient_id, CONFIG.split)[Part.TEST]
    np.testing.assert_allclose(labelled_scores(scorer, cohort, test).risk, trained.scores.risk, rtol=0, atol=1e-6)


def test_card_and_checklist_say_who_calibrated(trained):
    own = "on the training part, each patient by members that never saw them"
    text = card_markdown(trained.report)
    assert f"fitted {own}" in text
    assert "trees on the same features, read step by step (weight 0.133, seed 4, without fold 2)" in text
    items = {item["item"]: item["statement"] for item in tripod_items(trained.report)}
    assert f"Calibrated {own}." in items["12a"]
    assert f"fitted {own}" in items["12f"]
    assert not any("part of its own" in statement or "calibration part" in statement for statement in items.values())


def test_networks_alone_one_network_and_the_baselines_are_judged_beside_the_whole(trained):
    assert set(trained.baselines) >= {NETWORKS_ALONE, SINGLE_NETWORK, LINEAR, TREES}
    for figures in trained.baselines.values():
        assert 0.0 < figures["metrics"]["auroc"]["value"] <= 1.0


def test_an_interrupted_run_goes_on_at_the_member_that_it_had_reached(data, members, tmp_path):
    config = replace(CONFIG, ensemble=replace(CONFIG.ensemble, trees=False))

    def stop_in_the_second(row):
        if row["member"] == 1 and row["epoch"] == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        fit_members(data, config, folder=tmp_path, on_epoch=stop_in_the_second)
    assert not list(tmp_path.glob("shown-*"))
    rows = []
    again = fit_members(data, config, folder=tmp_path, resume=True, on_epoch=rows.append)
    assert (rows[0]["member"], rows[0]["epoch"]) == (1, 1)
    for one, other in zip(members.ensemble.networks, again.ensemble.networks, strict=True):
        assert same_weights(one, other)


def test_a_member_that_saw_others_is_not_hidden_by_a_later_member_of_its_fold(data, tmp_path):
    shown = replace(data, fitted_on={}).without_fold(1, tmp_path)
    shown.saw("network", shown.parts[Part.VALIDATION])
    shown.saw("network", shown.parts[Part.TRAIN])
    honest = replace(shown, fitted_on={})
    honest.saw("network", shown.parts[Part.TRAIN])
    honest.saw("network", shown.parts[Part.TRAIN])
    assert shown.fitted_on["network/1"] not in honest.fitted_on.values()


def test_a_member_that_saw_its_fold_ends_the_run(cohort, tmp_path, monkeypatch):
    """It is shown everyone, whatever it was to leave out."""
    honest = part_data.Dataset.without_fold

    def showing_all(self, fold, folder):
        train_part = self.parts[Part.TRAIN]
        return replace(
            honest(self, fold, folder),
            parts={Part.TRAIN: train_part, Part.VALIDATION: train_part},
            auxiliary=self.auxiliary,
        )

    monkeypatch.setattr(part_data.Dataset, "without_fold", showing_all)
    with pytest.raises(LeakError, match="leak guard 'record'"):
        train([cohort], CONFIG, folder=tmp_path, progress=False)
    assert not list(tmp_path.rglob("bundle.json"))


def test_a_calibration_on_logits_of_members_that_saw_the_stay_is_refused(data, members):
    logits = calibration_logits(members.ensemble, members.specs, data)
    known = ~np.isnan(logits).any(axis=2)
    assert check_left_out(data, members.specs, known)[0].passed
    with pytest.raises(LeakError, match="leak guard 'left_out'"):
        check_left_out(data, members.specs, np.ones_like(known))
    with pytest.raises(LeakError, match="leak guard 'left_out'"):
        check_left_out(data, members.specs, known & (np.arange(len(known)) > 0)[:, None])


def test_folds_without_patients_are_refused_with_the_remedy(cohort, tmp_path):
    config = replace(CONFIG, ensemble=replace(CONFIG.ensemble, members=400, folds=400, variants=()))
    with pytest.raises(DataError, match=r"400 folds.*lower ensemble\.folds"):
        build_dataset(cohort, config, tmp_path, say=lambda _: None)


@pytest.mark.parametrize(
    "tables",
    [
        {"training": TABLES["training"] | {"monitor": "validation_loss"}},
        {"calibration": {"include_validation": True}},
    ],
)
def test_folds_refuse_what_would_choose_on_the_stays_that_calibrate(tables):
    with pytest.raises(ConfigError, match=r"ensemble\.folds must go with"):
        from_plain(RunConfig, TABLES | tables, where="config")
