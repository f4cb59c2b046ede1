"""The last time step of a stay scored for itself is what scoring all of them says there."""

import numpy as np
import pytest

from models.cells import Cell
from models.last_step import TRUNCATION_LENGTH, LastScores, LastStep
from models.network import NetworkConfig
from models.pooling import Pooling
from tests.support import save_small_model

SHAPES = {
    "lstm": {"network": NetworkConfig(cell=Cell.LSTM, hidden_size=6)},
    "two layers": {"network": NetworkConfig(cell=Cell.GRU, hidden_size=6, layers=2)},
    "mean": {"network": NetworkConfig(hidden_size=6, pooling=Pooling.MEAN)},
    "attention": {"network": NetworkConfig(hidden_size=6, pooling=Pooling.ATTENTION)},
    "head": {"network": NetworkConfig(hidden_size=6, head_layers=1, head_size=8, skip=True, skip_pieces=3)},
    "bidirectional": {"network": NetworkConfig(hidden_size=6, bidirectional=True)},
    "notes": {"notes": True},
    "ensemble": {"further": [NetworkConfig(cell=Cell.LSTM, hidden_size=5)], "trees": True},
}


@pytest.fixture(scope="module", params=SHAPES)
def scorer_and_stays(request, tmp_path_factory):
    model = save_small_model(tmp_path_factory.mktemp("models") / "small", **SHAPES[request.param])
    return model.scorer(), model.cohort.stays


def assert_equal(found: LastScores, expected: LastScores) -> None:
    assert np.array_equal(found.steps, expected.steps)
    assert np.array_equal(found.time_min, expected.time_min)
    np.testing.assert_allclose(found.risk, expected.risk, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.spread, expected.spread, rtol=0, atol=1e-6)


def test_it_is_what_scoring_all_time_steps_says(scorer_and_stays):
    scorer, stays = scorer_and_stays
    assert int(scorer.bundle.encoding.encode(stays).lengths.max()) > 1
    assert_equal(LastStep(scorer).score(stays), LastScores.of(scorer.score(stays)))


def test_batch_mates_do_not_matter(scorer_and_stays):
    scorer, stays = scorer_and_stays
    last = LastStep(scorer)
    together = last.score(stays)
    for index in (0, 7, 30):
        alone = last.score(stays.select([index]))
        np.testing.assert_allclose(alone.risk[0], together.risk[index], rtol=0, atol=1e-6)


def test_the_same_stays_in_the_same_order_score_bit_equal(scorer_and_stays):
    scorer, stays = scorer_and_stays
    last = LastStep(scorer)
    assert np.array_equal(last.score(stays).risk, last.score(stays).risk)


def test_stays_longer_than_a_chunk_are_read_on(tmp_path):
    from models.encoding import EncodingConfig
    from models.grid import GridKind

    config = EncodingConfig(grid=GridKind.FIXED, width_h=0.25)
    model = save_small_model(tmp_path / "long", encoding=config)
    scorer, stays = model.scorer(), model.cohort.stays
    assert int(scorer.bundle.encoding.encode(stays).lengths.max()) > TRUNCATION_LENGTH
    assert_equal(LastStep(scorer).score(stays), LastScores.of(scorer.score(stays)))
