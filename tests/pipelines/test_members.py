"""Members are trained one after another, each reproducibly, and an interrupted run goes on where it stopped."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.artifact import load_artifact
from models.cells import Cell
from models.ensemble import MemberKind
from models.errors import ConfigError
from models.forward import score_logits
from models.record import from_plain
from models.task import LabelScope
from pipelines.baselines import TREES
from pipelines.combined import NETWORKS_ALONE, SINGLE_NETWORK
from pipelines.config import RunConfig
from pipelines.dataset import build_dataset
from pipelines.ensemble_config import EnsembleConfig, Variant
from pipelines.fit import Interrupted, fit_network
from pipelines.members import fit_members
from pipelines.score_cohort import score_table
from pipelines.sources.simulator import simulate
from pipelines.split import Part, split_patients
from pipelines.train import train
from pipelines.tree_member import fit_trees

SMALL = {
    "name": "members",
    "seed": 4,
    "task": {"outcome": "in_hospital_death"},
    "split": {"key": "m", "train": 0.4, "validation": 0.15, "calibration": 0.2, "test": 0.25},
    "encoding": {"grid": "fixed", "width_h": 6.0},
    "network": {"hidden_size": 4},
    "ensemble": {"members": 2, "variants": [{}, {"network": {"cell": "lstm"}}], "trees": True, "trees_weight": 0.4},
    "training": {"rows": 16, "max_epochs": 2, "learning_rate": 1e-2, "target_replication": 0.4},
    "baselines": {"enabled": True, "trees": 10, "threads": 1},
    "evaluation": {"bootstrap": 20},
}
CONFIG = from_plain(RunConfig, SMALL, where="config")


@pytest.fixture(scope="module")
def cohort():
    return simulate(stays=300, seed=2, mean_hours=20.0)


@pytest.fixture(scope="module")
def data(cohort, tmp_path_factory):
    return build_dataset(cohort, CONFIG, tmp_path_factory.mktemp("encoded"), say=lambda _: None)


@pytest.fixture(scope="module")
def members(data, tmp_path_factory):
    return fit_members(data, CONFIG, folder=tmp_path_factory.mktemp("members") / "checkpoints")


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    return train([cohort], CONFIG, folder=tmp_path_factory.mktemp("trained"), progress=False)


def assert_same(one, other):
    for name, weight in one.ensemble.state_dict().items():
        torch.testing.assert_close(other.ensemble.state_dict()[name], weight, rtol=0, atol=0)
    assert [trees.texts for trees in one.trees] == [trees.texts for trees in other.trees]
    assert one.specs == other.specs
    assert without_clock(one.history) == without_clock(other.history)


def without_clock(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_networks_take_seeds_and_variants_in_turn_and_trees_come_last(members):
    kinds = [(spec.kind, spec.seed, spec.network and spec.network.cell) for spec in members.specs]
    assert kinds == [
        (MemberKind.NETWORK, 4, Cell.GRU),
        (MemberKind.NETWORK, 5, Cell.LSTM),
        (MemberKind.TREES, 4, None),
    ]
    assert members.ensemble.weights == (0.3, 0.3, 0.4)


def test_a_member_is_the_network_that_its_seed_alone_would_give(data, members, tmp_path):
    parts = [(data.parts[p].encoded, data.parts[p].targets) for p in (Part.TRAIN, Part.VALIDATION)]
    alone = fit_network(
        train=parts[0],
        validation=parts[1],
        network=replace(CONFIG.network, cell=Cell.LSTM),
        task=CONFIG.task,
        training=CONFIG.training,
        seed=5,
        folder=tmp_path,
    )
    second = members.ensemble.networks[1].state_dict()
    assert all(torch.equal(weight, second[name]) for name, weight in alone.network.state_dict().items())


def test_the_same_configuration_gives_the_same_members_bit_for_bit(data, members, tmp_path):
    assert_same(fit_members(data, CONFIG, folder=tmp_path), members)


def test_every_epoch_is_told_with_its_member(data, members, tmp_path):
    rows = []
    fit_members(data, CONFIG, folder=tmp_path, on_epoch=rows.append)
    assert [(row["member"], row["epoch"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert without_clock(rows) == without_clock(members.history)


def test_a_signal_between_two_members_ends_the_run_and_resuming_trains_the_rest_alone(data, members, tmp_path):
    def stop_after_the_first(line):
        if "member 1/2" in line:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="run again with resume"):
        fit_members(data, CONFIG, folder=tmp_path, say=stop_after_the_first)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / "member-1").exists()
    done = (tmp_path / "member-0" / "newest.ckpt").stat().st_mtime_ns
    rows = []
    assert_same(fit_members(data, CONFIG, folder=tmp_path, resume=True, on_epoch=rows.append), members)
    assert {row["member"] for row in rows} == {1}
    assert (tmp_path / "member-0" / "newest.ckpt").stat().st_mtime_ns == done


def test_a_signal_within_the_second_member_is_resumed_within_it(data, members, tmp_path):
    def stop_in_the_second(row):
        if row["member"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        fit_members(data, CONFIG, folder=tmp_path, on_epoch=stop_in_the_second)
    rows = []
    assert_same(fit_members(data, CONFIG, folder=tmp_path, resume=True, on_epoch=rows.append), members)
    assert [(row["member"], row["epoch"]) for row in rows] == [(1, 1)]


def test_a_run_anew_leaves_nothing_to_resume_of_the_one_before(data, members, tmp_path):
    other = replace(CONFIG, seed=9, training=replace(CONFIG.training, max_epochs=1))
    (tmp_path / "shown-by-a-killed-run").mkdir()
    fit_members(data, other, folder=tmp_path)
    assert not list(tmp_path.glob("shown-*"))

    def stop_after_the_first(line):
        if "member 1/2" in line:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        fit_members(data, CONFIG, folder=tmp_path, say=stop_after_the_first)
    assert_same(fit_members(data, CONFIG, folder=tmp_path, resume=True), members)


def test_the_bar_says_which_member_is_trained(data, tmp_path, capfd):
    fit_members(data, replace(CONFIG, ensemble=EnsembleConfig(members=2)), folder=tmp_path, progress=True)
    shown = capfd.readouterr().err
    assert "member 1/2" in shown
    assert "member 2/2" in shown


def test_trees_see_earlier_steps_where_targets_are_replicated(data):
    last_alone = replace(CONFIG, training=replace(CONFIG.training, target_replication=0.0))
    assert fit_trees(data, CONFIG).texts != fit_trees(data, last_alone).texts


def test_the_table_shows_what_the_members_gain(trained):
    assert {NETWORKS_ALONE, SINGLE_NETWORK, TREES} <= set(trained.baselines)
    figures = [trained.metrics, trained.baselines[NETWORKS_ALONE], trained.baselines[SINGLE_NETWORK]]
    briers = [figure["metrics"]["brier"]["value"] for figure in figures]
    assert len(set(briers)) == 3
    assert [row["member"] for row in trained.history] == [0, 0, 1, 1]


def test_the_artifact_gives_the_ensembles_hold_out_risks_and_their_spread(cohort, trained):
    scorer = load_artifact(trained.artifact)
    assert [member.kind for member in scorer.bundle.members] == ["network", "network", "trees"]
    table = score_table(scorer, cohort)
    test = split_patients(cohort.patient_id, CONFIG.split)[Part.TEST]
    rows = table["stay_id"].isin([cohort.stays.stay_id[i] for i in test])
    by_stay = table[rows].groupby("stay_id", sort=False)["risk"].last().to_numpy()
    kept = {name: i for i, name in enumerate(trained.scores.stay_id)}
    order = [kept[name] for name in table[rows]["stay_id"].drop_duplicates()]
    np.testing.assert_allclose(by_stay, trained.scores.risk[trained.scores.last_rows[order], 0], rtol=0, atol=1e-6)
    assert (table["spread"] > 0).mean() > 0.9


def test_an_ensembles_card_lists_its_members(trained):
    card = (trained.artifact / "card.md").read_text()
    assert "gru, 1 x 4" in card
    assert "lstm, 1 x 4" in card
    assert "boosted trees" in card


def test_one_member_has_nothing_to_be_compared_with(cohort, tmp_path):
    config = replace(CONFIG, ensemble=EnsembleConfig(), baselines=replace(CONFIG.baselines, enabled=False))
    run = train(
        [cohort], replace(config, training=replace(config.training, max_epochs=1)), folder=tmp_path, progress=False
    )
    assert set(run.baselines) == {"true_risk"}
    assert list(score_table(load_artifact(run.artifact), cohort).columns)[:3] == ["stay_id", "time_h", "risk"]
    assert "spread" not in score_table(load_artifact(run.artifact), cohort).columns


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": 0}, "members must be at least 1"),
        ({"variants": (Variant(), Variant())}, "variants must be at most 1"),
        ({"members": 4, "folds": 4, "variants": (Variant(), Variant())}, "variants must be at most 1"),
        ({"members": 3, "folds": 2}, "folds must be 0 or a number from 2 that divides ensemble.members, got 2 of 3"),
        ({"folds": 1}, "folds must be 0 or a number from 2"),
        ({"members": 2, "folds": -2}, "folds must be 0 or a number from 2"),
        ({"trees_weight": 1.0}, "trees_weight must lie between 0 and 1"),
        ({"trees_weight": 0.0}, "trees_weight must lie between 0 and 1"),
    ],
)
def test_settings_that_make_no_ensemble_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        EnsembleConfig(**changes)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"network": {"cell": "transformer"}}, r"network\.cell must be one of"),
        ({"network": {"hidden_sise": 4}}, r"network must hold only the keys"),
        ({"network": {"cell": "gru_d"}}, "must hold value, mask and delta"),
        ({"training": {"max_epochs": 0}}, r"training\.max_epochs must be at least 1"),
        ({"training": {"target_replication": 0.5}}, r"variants\.training must hold only the keys"),
        ({"training": {"monitor": "auroc"}}, r"variants\.training must hold only the keys"),
    ],
)
def test_a_variant_that_does_not_hold_is_refused(variant, message):
    with pytest.raises(ConfigError, match=message):
        from_plain(RunConfig, SMALL | {"ensemble": {"members": 2, "variants": [{}, variant]}}, where="config")


def test_trees_of_a_label_a_step_learn_from_every_step(cohort, tmp_path):
    task = replace(CONFIG.task, scope=LabelScope.STEP)
    config = replace(CONFIG, task=task, ensemble=EnsembleConfig(trees=True))
    data = build_dataset(cohort, config, tmp_path, say=lambda _: None)
    trees = fit_trees(data, config)
    part = data.parts[Part.TEST]
    assert trees.predict(part.encoded.features).shape == (len(part.encoded.time_min), 1)
    members = fit_members(data, config, folder=tmp_path / "checkpoints")
    assert np.isfinite(score_logits(members.ensemble, part.encoded)).all()
