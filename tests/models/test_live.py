"""Live steps give the risks of the whole stay, and their state survives as bytes."""

from dataclasses import replace

import numpy as np
import pytest

from models.cells import Cell
from models.channel_encoding import SUMMARIES, Feature
from models.encoding import EncodingConfig
from models.errors import ArtifactError, DataError
from models.folding import steps_of
from models.grid import GridKind
from models.live import LiveState, start, step
from models.network import NetworkConfig
from models.pooling import Pooling
from models.scorer import Scorer
from models.stay import Stays
from tests.support import save_small_model

GRIDS = {"event": EncodingConfig(), "hourly": EncodingConfig(grid=GridKind.FIXED, width_h=1.0)}


def stepped_risks(scorer: Scorer, stay: Stays) -> np.ndarray:
    """Every step's risk; the state goes through bytes between any two of them."""
    encoding = scorer.bundle.encoding
    minutes = stay.note_time_min
    live, risks, before = start(scorer, stay), [], None
    for item in steps_of(encoding, stay, notes=scorer.tokenizer is not None):
        entering = [
            text
            for text, minute in zip(stay.note_text, minutes.tolist(), strict=True)
            if enters_between(encoding, minute, before, item.time_min, int(stay.end_min[0]))
        ]
        live = LiveState.from_bytes(live.to_bytes())
        risk, live = step(scorer, live, item.time_min, item.channel, item.value, minute=item.minute, notes=entering)
        risks.append(risk)
        before = item.time_min
    return np.stack(risks)


def enters_between(encoding, minute: int, before: int | None, stamp: int, end: int) -> bool:
    return encoding.grid.stamp(encoding.grid.step_of(minute), end) == stamp


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("cell", list(Cell))
def test_stepping_gives_the_whole_stays_risks(cell, grid, tmp_path):
    features = (Feature.MASK, Feature.DELTA, Feature.VALUE) if cell is Cell.GRU_D else SUMMARIES
    encoding = replace(GRIDS[grid], features=features)
    model = save_small_model(tmp_path / "model", cell=cell, encoding=encoding)
    scorer = model.scorer()
    for index in range(4):
        stay = model.cohort.stays.select([index])
        assert np.abs(stepped_risks(scorer, stay) - scorer.score(stay).risk).max() <= 1e-6


@pytest.mark.parametrize("trees", [False, True])
def test_stepping_an_ensemble_gives_the_whole_stays_risks(trees, tmp_path):
    further = [NetworkConfig(cell=Cell.LSTM, hidden_size=5, pooling=Pooling.ATTENTION), NetworkConfig(hidden_size=3)]
    model = save_small_model(tmp_path / "model", further=further, trees=trees)
    scorer = model.scorer()
    for index in range(4):
        stay = model.cohort.stays.select([index])
        assert np.abs(stepped_risks(scorer, stay) - scorer.score(stay).risk).max() <= 1e-6


@pytest.mark.parametrize("pooling", list(Pooling))
def test_stepping_carries_what_pooling_accumulates(pooling, tmp_path):
    model = save_small_model(tmp_path / "model", network=NetworkConfig(hidden_size=6, pooling=pooling))
    scorer, stay = model.scorer(), model.cohort.stays.select([1])
    assert np.abs(stepped_risks(scorer, stay) - scorer.score(stay).risk).max() <= 1e-6


def test_a_step_leaves_the_given_state_as_it_was(tmp_path):
    model = save_small_model(tmp_path / "model")
    scorer = model.scorer()
    live = start(scorer, model.cohort.stays.select([0]))
    before = live.to_bytes()
    first, _ = step(scorer, live, 10, [0], [80.0], notes=["pale"])
    second, _ = step(scorer, live, 10, [0], [80.0], notes=["pale"])
    assert live.to_bytes() == before
    assert np.array_equal(first, second)


def test_another_models_state_is_refused(tmp_path):
    one, other = (save_small_model(tmp_path / cell, cell=cell) for cell in (Cell.GRU, Cell.LSTM))
    live = start(one.scorer(), one.cohort.stays.select([0]))
    with pytest.raises(ArtifactError, match="this model's own"):
        step(other.scorer(), live, 0)


@pytest.mark.parametrize("data", [b"", b"\x00" * 40, b"not a state", (1 << 40).to_bytes(8, "little") + b"{}"])
def test_bytes_that_are_no_state_are_refused(data):
    with pytest.raises(ArtifactError, match="must be the bytes of a live state"):
        LiveState.from_bytes(data)


def test_a_bidirectional_model_does_not_stream(tmp_path):
    model = save_small_model(tmp_path / "model", network=NetworkConfig(hidden_size=4, bidirectional=True))
    with pytest.raises(DataError, match="must not be bidirectional"):
        start(model.scorer(), model.cohort.stays.select([0]))
