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
from models.live import LiveModel
from models.live_input import LiveInput
from models.network import NetworkConfig
from models.pooling import Pooling
from models.scorer import Scorer
from models.stay import Stays
from tests.support import save_small_model

GRIDS = {"event": EncodingConfig(), "hourly": EncodingConfig(grid=GridKind.FIXED, width_h=1.0)}


def inputs_of(scorer: Scorer, stay: Stays) -> list[LiveInput]:
    """What enters at every time step of a stay."""
    encoding = scorer.bundle.encoding
    # Two bins have one stamp where a stay ends on the edge of the last: a step's number tells them apart.
    entered = encoding.encode(stay, tokenizer=scorer.tokenizer).note_step.tolist()
    return [
        LiveInput(
            step.time_min,
            step.channel.tolist(),
            step.value.tolist(),
            step.minute.tolist(),
            [text for text, at in zip(stay.note_text, entered, strict=True) if at == number]
            if scorer.tokenizer is not None
            else [],
        )
        for number, step in enumerate(steps_of(encoding, stay, notes=scorer.tokenizer is not None))
    ]


def stepped_risks(scorer: Scorer, stay: Stays) -> np.ndarray:
    """Every step's risk."""
    model = LiveModel(scorer)
    states, risks = model.start(stay), []
    for entering in inputs_of(scorer, stay):
        stepped = model.step(states, [entering])
        states = stepped.states
        risks.append(stepped.risk[0])
    return np.stack(risks)


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
    small = save_small_model(tmp_path / "model")
    model = LiveModel(small.scorer())
    states = model.start(small.cohort.stays.select([0]))
    entering = [LiveInput(10, [0], [80.0], notes=["pale"])]
    first, second = model.step(states, entering), model.step(states, entering)
    assert first.states == second.states != states
    assert np.array_equal(first.risk, second.risk)


def test_stays_step_together_as_each_by_itself(tmp_path):
    small = save_small_model(tmp_path / "model", trees=True)
    scorer = small.scorer()
    model, stays = LiveModel(scorer), [small.cohort.stays.select([index]) for index in range(6)]
    inputs = [inputs_of(scorer, stay) for stay in stays]
    alone = [stepped_risks(scorer, stay) for stay in stays]
    states = [model.start(stay)[0] for stay in stays]
    for number in range(min(map(len, inputs))):
        together = model.step(states, [entering[number] for entering in inputs])
        states = together.states
        assert max(np.abs(together.risk[i] - alone[i][number]).max() for i in range(6)) <= 1e-6


@pytest.mark.parametrize("leave_last", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_replayed_states_are_those_of_stepping(grid, leave_last, tmp_path):
    small = save_small_model(tmp_path / "model", encoding=replace(GRIDS[grid], features=tuple(Feature)))
    scorer = small.scorer()
    model, stays = LiveModel(scorer), small.cohort.stays.select(range(5))
    replayed = model.layout.join(model.replay(stays, leave_last=leave_last, threads=1 + leave_last))
    for index in range(5):
        stay = stays.select([index])
        states, inputs = model.start(stay), inputs_of(scorer, stay)
        for entering in inputs[: len(inputs) - leave_last]:
            states = model.step(states, [entering]).states
        (stepped,) = model.layout.join(states)
        for field in ("stamp", "since", "statistics", "summary", "static", "network"):
            np.testing.assert_allclose(replayed[index][field], stepped[field], rtol=1e-6, atol=2e-6)


def test_a_step_that_does_not_fit_is_refused(tmp_path):
    small = save_small_model(tmp_path / "model")
    model = LiveModel(small.scorer())
    states = model.step(model.start(small.cohort.stays.select([0])), [LiveInput(10, [0], [80.0])]).states
    with pytest.raises(DataError, match="replay the stay"):
        model.step(states, [LiveInput(5)])
    with pytest.raises(DataError, match="one a stay"):
        model.step(states, [])


def test_another_models_state_is_refused(tmp_path):
    one, other = (save_small_model(tmp_path / cell, cell=cell) for cell in (Cell.GRU, Cell.RNN_TANH))
    states = LiveModel(one.scorer()).start(one.cohort.stays.select([0]))
    with pytest.raises(ArtifactError, match="this model's own"):
        LiveModel(other.scorer()).step(states, [LiveInput(0)])


@pytest.mark.parametrize("damage", [lambda state: b"", lambda state: state[:-1], lambda state: b"x" + state[1:]])
def test_bytes_that_are_no_state_are_refused(damage, tmp_path):
    small = save_small_model(tmp_path / "model")
    model = LiveModel(small.scorer())
    (state,) = model.start(small.cohort.stays.select([0]))
    with pytest.raises(ArtifactError, match="this model's own"):
        model.step([damage(state)], [LiveInput(0)])


def test_a_bidirectional_model_does_not_stream(tmp_path):
    small = save_small_model(tmp_path / "model", network=NetworkConfig(hidden_size=4, bidirectional=True))
    with pytest.raises(DataError, match="must not be bidirectional"):
        LiveModel(small.scorer())
