"""An ensemble is a network whose logit is the weighted mean of its members', with their states side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import Chunk
from models.cells import Cell
from models.ensemble import Ensemble, MemberKind, MemberSpec, check_members, combine, spread
from models.errors import ArtifactError, DataError
from models.forward import score_logits, score_members
from models.network import NetworkConfig, RecurrentNetwork
from models.pooling import Pooling
from models.state import State
from models.task import LabelScope, TaskSpec
from models.trees import TreeMember
from tests.support import small_trees
from tests.tape_data import LAYOUT, encoded_of

LENGTHS = [1, 9, 4, 30, 17, 9, 2]
TWO_OUTPUTS = TaskSpec("death", scope=LabelScope.STEP, horizons_h=(6.0, 12.0))
# A cell, a pooling and a depth each, so that no two states look alike.
CONFIGS = (
    NetworkConfig(hidden_size=6, layers=2, pooling=Pooling.ATTENTION),
    NetworkConfig(cell=Cell.LSTM, hidden_size=4),
    NetworkConfig(cell=Cell.GRU_D, hidden_size=3, pooling=Pooling.MAX),
)


def network_of(config: NetworkConfig, *, outputs: int = 2, width: int = 5) -> RecurrentNetwork:
    torch.manual_seed(0)
    return RecurrentNetwork(config, width=width, outputs=outputs, layout=LAYOUT).double()


def ensemble_of(*, trees: bool = False) -> Ensemble:
    networks = [network_of(config) for config in CONFIGS]
    if not trees:
        return Ensemble(networks)
    member = small_trees(encoded_of(LENGTHS).features, TWO_OUTPUTS)
    return Ensemble([*networks, member], [0.2, 0.2, 0.2, 0.4])


@pytest.mark.parametrize("trees", [False, True])
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 8), truncation_length=st.integers(1, 40))
def test_scores_do_not_depend_on_rows_or_chunks(trees: bool, rows: int, truncation_length: int) -> None:
    encoded, ensemble = encoded_of(LENGTHS, dtype=np.float64), ensemble_of(trees=trees)
    whole = score_logits(ensemble, encoded, truncation_length=100)
    parts = score_logits(ensemble, encoded, rows=rows, truncation_length=truncation_length)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-10)


def test_the_logit_is_the_weighted_mean_of_what_each_member_says_alone() -> None:
    encoded, ensemble = encoded_of(LENGTHS), ensemble_of(trees=True)
    networks = [score_logits(network, encoded) for network in ensemble.networks]
    (trees,) = (member.predict(encoded.features) for member in ensemble if isinstance(member, TreeMember))
    alone = np.stack([*networks, trees], axis=1)
    np.testing.assert_array_equal(score_members(ensemble, encoded), alone)
    expected = np.average(alone, axis=1, weights=ensemble.weights)
    np.testing.assert_allclose(score_logits(ensemble, encoded), expected, rtol=0, atol=1e-12)


def test_an_ensemble_of_one_scores_as_its_network_does() -> None:
    encoded = encoded_of(LENGTHS)
    network = network_of(CONFIGS[0]).float()
    np.testing.assert_array_equal(score_logits(Ensemble([network]), encoded), score_logits(network, encoded))


def test_members_states_stand_side_by_side_and_survive_as_bytes() -> None:
    ensemble = ensemble_of(trees=True)
    chunk = Chunk(torch.randn(3, 4, 5), torch.ones(3, 4, dtype=torch.bool), torch.ones(3, dtype=torch.bool))
    with torch.no_grad():
        _, state = ensemble(chunk, ensemble.initial_state(3))
    assert state.names == ("0.h", "0.pool_sum", "0.pool_weight", "1.h", "1.c", *state.names[5:])
    assert {name.split(".")[0] for name in state.names} == {"0", "1", "2"}, "trees carry nothing"
    again = State.from_bytes(state.to_bytes())
    assert again.names == state.names
    assert all(torch.equal(one, other) for one, other in zip(again.tensors, state.tensors, strict=True))


def test_more_than_ten_members_keep_their_own_states() -> None:
    networks = [network_of(NetworkConfig(hidden_size=2 + k), outputs=1) for k in range(11)]
    encoded, ensemble = encoded_of([7], dtype=np.float64), Ensemble(networks)
    expected = np.mean([score_logits(network, encoded) for network in networks], axis=0)
    np.testing.assert_allclose(score_logits(ensemble, encoded, truncation_length=2), expected, rtol=0, atol=1e-12)


def test_another_ensembles_state_is_refused() -> None:
    chunk = Chunk(torch.zeros(1, 1, 5), torch.ones(1, 1, dtype=torch.bool), torch.ones(1, dtype=torch.bool))
    one = Ensemble([network_of(CONFIGS[0])])
    with pytest.raises(DataError, match=r"state must hold 0\.h, 0\.pool_sum, 0\.pool_weight, got"):
        one(chunk, ensemble_of().initial_state(1))
    with pytest.raises(DataError, match="begin with initial_state"):
        ensemble_of()(chunk, one.initial_state(1))


def test_one_bidirectional_member_ends_streaming() -> None:
    networks = [network_of(CONFIGS[0]), network_of(NetworkConfig(hidden_size=4, bidirectional=True))]
    assert Ensemble(networks[:1]).streams
    assert not Ensemble(networks).streams
    assert score_logits(Ensemble(networks), encoded_of(LENGTHS, dtype=np.float64), truncation_length=3).shape == (72, 2)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=6),
    weights=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
def test_mean_and_spread_are_numpys(values: list[list[float]], weights: list[float]) -> None:
    table = np.array(values)[:, :, None]
    mean = np.average(table, axis=1, weights=weights)
    np.testing.assert_allclose(combine(table, weights), mean, rtol=0, atol=1e-12)
    deviation = np.sqrt(np.average((table - mean[:, None]) ** 2, axis=1, weights=weights))
    np.testing.assert_allclose(spread(table, weights), deviation, rtol=0, atol=1e-6)


def test_a_member_of_no_weight_says_nothing() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 3, 2))
    np.testing.assert_array_equal(combine(logits, (0.0, 0.7, 0.0)), logits[:, 1])


def test_members_of_other_shapes_or_weights_are_refused() -> None:
    with pytest.raises(ArtifactError, match="of one width, number of outputs"):
        Ensemble([network_of(CONFIGS[0]), network_of(CONFIGS[0], outputs=1)])
    with pytest.raises(ArtifactError, match="number of weights"):
        Ensemble([network_of(CONFIGS[0])], [0.5, 0.5])
    with pytest.raises(ArtifactError, match="one network at least"):
        Ensemble([small_trees(encoded_of(LENGTHS).features, TWO_OUTPUTS)])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((), "one network at least"),
        ((MemberSpec(MemberKind.TREES),), "one network at least"),
        ((MemberSpec(MemberKind.NETWORK, 0.5, network=NetworkConfig()),), "add up to 1"),
    ],
)
def test_specs_that_make_no_ensemble_are_refused(members: tuple[MemberSpec, ...], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        check_members(members)


def test_a_spec_without_a_meaning_is_refused() -> None:
    with pytest.raises(ArtifactError, match="weight must be above 0"):
        MemberSpec(MemberKind.TREES, 0.0)
    with pytest.raises(ArtifactError, match="network must be given exactly if"):
        MemberSpec(MemberKind.NETWORK)
    with pytest.raises(ArtifactError, match="network must be given exactly if"):
        MemberSpec(MemberKind.TREES, network=NetworkConfig())


@pytest.mark.parametrize("members", [1, 2, 9])
def test_few_members_logits_are_combined_as_many_to_the_last_bit(members):
    rng = np.random.default_rng(members)
    weights = rng.uniform(0.1, 1.0, members).tolist()
    logits = rng.standard_normal((100, members, 2))
    few = np.concatenate([combine(one[None], weights) for one in logits])
    assert few.tobytes() == combine(logits, weights).tobytes()
