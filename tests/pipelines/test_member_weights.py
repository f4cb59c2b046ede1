"""Kinds of members weighed by what they say of stays that they never saw; the ablation without notes."""

import numpy as np
import pytest

from models.ensemble import MemberKind, MemberSpec
from models.errors import ConfigError
from models.network import NetworkConfig, Reads
from models.task import TargetKind, TaskSpec
from pipelines.combined import notes_weights
from pipelines.config import RunConfig
from pipelines.ensemble_config import EnsembleConfig, Variant
from pipelines.member_weights import fit_shares, member_kinds
from pipelines.training_config import Monitor, TrainingConfig

NETWORK = NetworkConfig(reads=Reads.SIGNALS)
VARIANTS = (Variant(weight=1.0), Variant(network={"reads": "notes"}, weight=3.0))


def drawn(*strength: float, rows: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    said = rng.standard_normal((rows, len(strength)))
    risk = 1 / (1 + np.exp(2.0 - said @ np.array(strength)))
    return said, (rng.random(rows) < risk).astype(float)


def test_shares_are_those_by_which_the_outcome_was_drawn():
    said, label = drawn(1.5, 0.5)
    assert fit_shares(said, label, np.array([0.5, 0.5])) == pytest.approx([0.75, 0.25], abs=0.07)


def test_what_speaks_against_the_outcome_gets_almost_no_share():
    said, label = drawn(1.0, -1.0)
    shares = fit_shares(said, label, np.array([0.5, 0.5]))
    assert 0 < shares[1] < 0.01
    assert shares.sum() == pytest.approx(1.0)


def test_few_stays_leave_the_declared_shares_nearly_as_they_are():
    said, label = drawn(1.0, 1.0, rows=40)
    assert fit_shares(said, label, np.array([0.8, 0.2])) == pytest.approx([0.8, 0.2], abs=0.15)


def test_members_of_one_kind_differ_by_their_fold_alone():
    specs = EnsembleConfig(members=4, folds=2, variants=VARIANTS, trees=True).specs(NETWORK, seed=0)
    assert member_kinds(specs).tolist() == [0, 0, 1, 1, 2, 2]


def test_networks_share_what_trees_leave_by_their_kinds_weights():
    specs = EnsembleConfig(members=4, folds=2, variants=VARIANTS, trees=True, trees_weight=0.2).specs(NETWORK, seed=0)
    assert [spec.weight for spec in specs] == pytest.approx([0.1, 0.1, 0.3, 0.3, 0.1, 0.1])


def test_without_notes_are_trees_and_networks_of_measurements():
    specs = (
        MemberSpec(MemberKind.NETWORK, 0.3, network=NETWORK),
        MemberSpec(MemberKind.NETWORK, 0.5, network=NetworkConfig(reads=Reads.NOTES)),
        MemberSpec(MemberKind.TREES, 0.2),
    )
    assert notes_weights(specs) == {"without_notes": [0.3, 0.0, 0.2], "notes_alone": [0.0, 0.5, 0.0]}


def test_a_weight_of_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"variants\.weight must be above 0"):
        Variant(weight=0.0)


def test_weights_are_fitted_on_folds_alone():
    with pytest.raises(ConfigError, match=r"must go with ensemble\.folds"):
        EnsembleConfig(fit_weights=True)


def test_weights_are_fitted_for_binary_outcomes_alone():
    task = TaskSpec("days", kind=TargetKind.REGRESSION)
    ensemble = EnsembleConfig(members=2, folds=2, fit_weights=True)
    with pytest.raises(ConfigError, match="must go with a binary task"):
        RunConfig("x", task, ensemble=ensemble, training=TrainingConfig(monitor=Monitor.LAST))
