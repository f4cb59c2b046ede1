"""Curves of features: what they add up to, where they are flat, and that a score with them is still causal."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.artifact import load_artifact, save_artifact
from models.curves import FeatureCurves
from models.encoded import Encoded
from models.errors import DataError
from models.forward import score_logits
from models.network import NetworkConfig, RecurrentNetwork
from tests.support import save_small_model, small_cohort
from tests.tape_data import encoded_of

WITH_CURVES = NetworkConfig(hidden_size=6, skip_pieces=4)


def curves_of(features, *, pieces, outputs=1, seed=0):
    """Curves with knots at the quantiles of (steps, width) features, and random rises."""
    curves = FeatureCurves(features.shape[1], outputs, pieces=pieces, dropout=0.5).to(features.dtype).eval()
    curves.place_knots(features)
    torch.nn.init.normal_(curves.rise, generator=torch.Generator().manual_seed(seed))
    return curves


def reference(curves, features):
    """(batch, time, outputs) sums, interpolated along the cumulated rises of the pieces that are wide enough."""
    knots, rise = (t.detach().double().numpy() for t in (curves.knots, curves.rise))
    value = features.double().numpy()
    total = np.zeros((*value.shape[:2], len(rise)))
    for output in range(len(rise)):
        for column in range(value.shape[2]):
            for piece in np.flatnonzero(np.diff(knots[column]) > 1e-6):
                rises = [0.0, rise[output, column, piece]]
                total[:, :, output] += np.interp(value[:, :, column], knots[column, piece : piece + 2], rises)
    return total


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(seed=st.integers(0, 10_000), pieces=st.integers(1, 9), outputs=st.integers(1, 3), width=st.integers(1, 5))
def test_a_sum_is_what_interpolation_along_the_cumulated_rises_gives(seed, pieces, outputs, width):
    curves = curves_of(normal(50, width, seed=seed), pieces=pieces, outputs=outputs, seed=seed)
    features = 2 * normal(3, 7, width, seed=seed + 1)
    expected = sum(
        np.interp(
            features[..., column].numpy(),
            curves.knots[column].numpy(),
            np.concatenate([[0.0], np.cumsum(curves.rise[0, column].detach().numpy())]),
        )
        for column in range(width)
    )
    found = curves(features).detach().numpy()
    np.testing.assert_allclose(found[..., 0], expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found, reference(curves, features), rtol=0, atol=1e-10)


@given(seed=st.integers(0, 10_000), pieces=st.integers(1, 9), kinds=st.integers(1, 6))
def test_knots_that_fall_together_hold_no_curve_and_break_none(seed, pieces, kinds):
    seen = torch.randint(0, kinds, (40, 3), generator=torch.Generator().manual_seed(seed)).double()
    # A piece far narrower than any rounding of a standard score, beside ties.
    seen[:10] += 1e-9
    curves = curves_of(seen, pieces=pieces, seed=seed)
    features = torch.cat([seen, seen + 0.5, seen - 0.5])[None]
    found = curves(features).detach().numpy()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, reference(curves, features), rtol=0, atol=1e-9)


def test_a_feature_that_never_varied_adds_nothing_whatever_it_says_later():
    curves = curves_of(torch.full((20, 1), 3.0), pieces=4)
    assert curves(torch.tensor([[[-1e6], [3.0], [1e6]]])).flatten().tolist() == [0.0, 0.0, 0.0]


def test_a_curve_is_flat_outside_its_outermost_knots():
    curves = curves_of(normal(100, 1), pieces=5)
    low, high = curves.knots[0, 0].item(), curves.knots[0, -1].item()
    below, above = (
        curves(torch.tensor([[[low], [low - 1], [-1e9]]]).double()),
        curves(torch.tensor([[[high], [high + 1], [1e9]]]).double()),
    )
    assert torch.equal(below, torch.zeros_like(below))
    torch.testing.assert_close(above, curves.rise.sum().expand_as(above))


def test_knots_are_quantiles_of_what_was_given_and_its_order_does_not_matter():
    features = normal(101, 4)
    curves = curves_of(features, pieces=10)
    expected = np.quantile(features.numpy(), np.linspace(0, 1, 11), axis=0).T
    np.testing.assert_allclose(curves.knots.numpy(), expected, rtol=0, atol=1e-12)
    assert torch.equal(curves_of(features.flip(0), pieces=10).knots, curves.knots)


@pytest.mark.parametrize("features", [torch.zeros(0, 3), torch.zeros(4, 2), torch.zeros(3)])
def test_features_of_another_width_or_none_place_no_knots(features):
    with pytest.raises(DataError, match=r"features must be of shape \(steps, 3\) with at least one step"):
        FeatureCurves(3, 1, pieces=2, dropout=0.0).place_knots(features)


def test_a_sum_depends_neither_on_the_batch_nor_on_the_chunk():
    curves = curves_of(normal(60, 5, dtype=torch.float32), pieces=6, outputs=2)
    features = normal(4, 12, 5, seed=1, dtype=torch.float32)
    whole = curves(features)
    assert whole.shape == (4, 12, 2)
    pieces = torch.cat([curves(features[:, :5]), curves(features[:, 5:])], dim=1)
    rows = torch.cat([curves(row[None]) for row in features])
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(rows, whole, rtol=0, atol=1e-6)


def test_single_precision_gives_what_double_gives():
    single = curves_of(normal(80, 6, dtype=torch.float32), pieces=8)
    features = normal(3, 9, 6, seed=2, dtype=torch.float32)
    found = single(features)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), single.double()(features.double()), rtol=0, atol=1e-5)


def test_gradients_are_those_of_the_function():
    curves = curves_of(normal(30, 3), pieces=4, outputs=2)
    features = normal(2, 5, 3, seed=3)

    def sums(rise):
        return torch.func.functional_call(curves, {"rise": rise}, (features,))

    assert torch.autograd.gradcheck(sums, curves.rise.detach().clone().requires_grad_())


def test_dropout_leaves_whole_curves_out_in_training_alone():
    curves = curves_of(normal(50, 1), pieces=3)
    features = normal(1, 400, 1, seed=4)
    whole = curves(features)
    torch.manual_seed(0)
    dropped = curves.train()(features)
    left = dropped != 0
    assert 100 < int(left.sum()) < 300
    torch.testing.assert_close(dropped[left], 2 * whole[left])


def network_with_curves(encoded, *, seed=0):
    """A network whose curves were placed on these stays and bend."""
    torch.manual_seed(seed)
    network = RecurrentNetwork(WITH_CURVES, width=encoded.width, outputs=1).double().eval()
    assert network.curves is not None
    network.curves.place_knots(torch.from_numpy(encoded.features))
    torch.nn.init.normal_(network.curves.rise)
    return network


def test_curves_add_to_the_logit_of_the_step_alone():
    encoded = encoded_of([6, 9], dtype=np.float64)
    network = network_with_curves(encoded)
    with_curves = score_logits(network, encoded)
    added = network.curves(torch.from_numpy(encoded.features)[None])[0].detach().numpy()
    torch.nn.init.zeros_(network.curves.rise)
    np.testing.assert_allclose(with_curves, score_logits(network, encoded) + added, rtol=0, atol=1e-12)
    assert np.abs(added).max() > 0.1


def test_what_comes_later_changes_no_earlier_logit():
    encoded = encoded_of([10], dtype=np.float64)
    network = network_with_curves(encoded)
    later = encoded.features.copy()
    later[6:] = 50.0
    changed = score_logits(network, Encoded(later, encoded.step_offsets, encoded.time_min))
    logits = score_logits(network, encoded)
    assert np.array_equal(changed[:6], logits[:6])
    assert not np.array_equal(changed[6:], logits[6:])


def test_an_artifact_keeps_knots_and_rises(tmp_path: Path):
    model = save_small_model(tmp_path / "a", network=WITH_CURVES, notes=False)
    scorer = model.scorer()
    (member,) = scorer.network.members
    features = torch.from_numpy(scorer.bundle.encoding.encode(small_cohort().stays).features)
    member.curves.place_knots(features)
    torch.nn.init.normal_(member.curves.rise)
    save_artifact(tmp_path / "b", scorer.bundle, scorer.network, None)
    (read,) = load_artifact(tmp_path / "b").network.members
    assert torch.equal(read.curves.knots, member.curves.knots)
    assert torch.equal(read.curves.rise, member.curves.rise)
    assert float(read.curves.knots.diff(dim=1).max()) > 0
