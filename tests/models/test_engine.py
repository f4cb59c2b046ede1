"""Every engine gives what the members give, whatever their cells, poolings and heads; and none depends on the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import NoteBatch
from models.cells import Cell
from models.channel_encoding import Feature
from models.encoded import Encoded
from models.encoding import EncodingConfig
from models.engine import KINDS, check_engine, make_engine
from models.engine_device import DeviceEngine, ResidentStates
from models.engine_numpy import NumpyEngine
from models.engine_reference import ReferenceEngine
from models.engine_state import EngineState, StateLayout
from models.ensemble import Ensemble, Member
from models.errors import ArtifactError, ConfigError, DataError
from models.layout import Layout
from models.network import NetworkConfig, Reads, RecurrentNetwork
from models.notes import NoteFusion, NoteReading, NotesConfig
from models.pooling import Pooling
from models.task import LabelScope, TaskSpec
from tests.support import save_small_model, small_trees

# Three channels of four features, the clock and a static value.
LAYOUT = Layout(3, 4, value=0, mask=1, delta=2)
WIDTH, OUTPUTS, VOCABULARY = 15, 2, 20
NOTES = NotesConfig(enabled=True, embedding_size=3, hidden_size=4)
WRITTEN = st.none() | st.builds(
    lambda reading, fusion: replace(NOTES, reading=reading, fusion=fusion),
    st.sampled_from(NoteReading),
    st.sampled_from(NoteFusion),
)

SHAPES = {
    "cell": st.sampled_from(Cell),
    "hidden_size": st.integers(1, 9),
    "layers": st.integers(1, 3),
    "pooling": st.sampled_from(Pooling),
    "learn_initial_state": st.booleans(),
    "projection_size": st.sampled_from([0, 0, 5]),
    "head_layers": st.integers(0, 2),
    "head_size": st.integers(1, 6),
    "skip": st.booleans(),
    "skip_pieces": st.sampled_from([0, 1, 4]),
}
GRU_D = {"projection_size": 0, "recurrent_dropout": 0.3, "input_dropout": 0.2}
configs = st.fixed_dictionaries(SHAPES).map(
    lambda shape: NetworkConfig(**shape | (GRU_D if shape["cell"] is Cell.GRU_D else {}))
)


def network(config: NetworkConfig, seed: int, *, notes: NotesConfig | None = None) -> RecurrentNetwork:
    """A network whose every parameter is random; curves have knots of their own, some of them equal."""
    torch.manual_seed(seed)
    made = RecurrentNetwork(
        config,
        width=WIDTH,
        outputs=OUTPUTS,
        notes=notes,
        vocabulary_size=VOCABULARY,
        layout=LAYOUT,
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    if made.curves is not None:
        values = torch.randn(40, WIDTH)
        values[:, 0] = 0.0
        made.curves.place_knots(values)
    return made.eval()


def features(rows: int, seed: int) -> np.ndarray:
    """Rows such as an encoding gives: masks are 0 or 1, deltas not negative."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    made[:, list(LAYOUT.columns(Feature.MASK))] = rng.integers(0, 2, (rows, 3))
    made[:, list(LAYOUT.columns(Feature.DELTA))] = rng.exponential(2.0, (rows, 3))
    return made


def note_batch(rows: int, seed: int) -> NoteBatch:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 4))
    lengths = torch.from_numpy(rng.integers(1, 6, count))
    tokens = torch.from_numpy(rng.integers(1, VOCABULARY, (count, int(lengths.max()))))
    return NoteBatch(tokens, lengths, torch.from_numpy(rng.integers(0, rows, count)), torch.zeros(count).long())


def both(members: list[Member]) -> tuple[ReferenceEngine, NumpyEngine]:
    ensemble = Ensemble(members).eval()
    layout = StateLayout.of(ensemble)
    return ReferenceEngine(ensemble, layout, torch.device("cpu")), NumpyEngine(ensemble, layout)


def reading_notes(config: NetworkConfig) -> NetworkConfig:
    """The same of notes alone, without what needs measurements."""
    cell = Cell.GRU if config.cell is Cell.GRU_D else config.cell
    return replace(config, reads=Reads.NOTES, cell=cell, skip_pieces=0, recurrent_dropout=0.0)


@settings(max_examples=120, deadline=None)
@given(
    chosen=st.lists(configs, min_size=1, max_size=3),
    twice=st.booleans(),
    notes=WRITTEN,
    alone=st.booleans(),
    rows=st.sampled_from([1, 2, 3, 5, 12]),
    seed=st.integers(0, 99),
)
def test_numpy_steps_as_the_members_do(chosen, twice, notes, alone, rows, seed):
    if notes and alone:
        chosen = [reading_notes(chosen[0]), *chosen[1:], replace(chosen[0], reads=Reads.SIGNALS)]
    chosen = chosen + chosen[:1] if twice else chosen
    members = [network(config, seed + i, notes=notes) for i, config in enumerate(chosen)]
    reference, fast = both(members)
    assert fast.steps_alone == ()
    states = [reference.initial_state(rows), fast.initial_state(rows)]
    for step in range(4):
        seen = features(rows, seed + step)
        entering = note_batch(rows, seed + step) if notes and step % 2 else None
        expected, states[0] = reference.step(seen, states[0], notes=entering)
        got, states[1] = fast.step(seen, states[1], notes=entering)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(states[1].values, states[0].values, rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    chosen=st.lists(configs, min_size=1, max_size=2),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=9),
    data=st.data(),
)
def test_a_replayed_state_is_that_of_stepping(chosen, lengths, data):
    reference, fast = both([network(config, i) for i, config in enumerate(chosen)])
    steps = np.array([data.draw(st.integers(0, length)) for length in lengths])
    offsets = np.cumsum([0, *lengths])
    encoded = Encoded(features(int(offsets[-1]), 1), offsets, np.arange(offsets[-1]))
    expected = reference.initial_state(len(lengths))
    for row, (first, count) in enumerate(zip(offsets[:-1], steps, strict=True)):
        state = reference.initial_state(1)
        for step in range(count):
            state = reference.step(encoded.features[[first + step]], state)[1]
        expected.put([row], state)
    for engine in (reference, fast):
        found = engine.replay(encoded, steps=steps)
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(chosen=st.lists(configs, min_size=1, max_size=3), notes=WRITTEN, rows=st.sampled_from([1, 5, 17]))
def test_a_devices_engine_steps_as_the_members_do(chosen, notes, rows):
    members = [network(config, i, notes=notes) for i, config in enumerate(chosen)]
    ensemble = Ensemble(members).eval()
    layout, device = StateLayout.of(ensemble), torch.device("cpu")
    engines = ReferenceEngine(ensemble, layout, device), DeviceEngine(ensemble, layout, device)
    states = [engine.initial_state(rows) for engine in engines]
    for step in range(3):
        entering = note_batch(rows, step) if notes and step == 1 else None
        found = [e.step(features(rows, step), s, notes=entering) for e, s in zip(engines, states, strict=True)]
        states = [after for _, after in found]
        np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(states[1].values, states[0].values, rtol=1e-5, atol=1e-5)


def test_resident_states_are_stepped_where_they_lie_and_no_others():
    trees = small_trees(features(300, 9), TaskSpec("death", scope=LabelScope.STEP, horizons_h=(6.0, 12.0)))
    members = [network(NetworkConfig(cell=Cell.LSTM, hidden_size=4), 0), trees]
    ensemble = Ensemble(members).eval()
    layout, device = StateLayout.of(ensemble), torch.device("cpu")
    reference = ReferenceEngine(ensemble, layout, device)
    resident = ResidentStates(ensemble, layout, device, capacity=40)
    everyone, stepped = np.arange(40), np.array([31, 2, 17])
    begun = reference.step(features(40, 0), reference.initial_state(40))[1]
    resident.put(everyone, begun)
    expected, after = reference.step(features(3, 1), begun.take(stepped))
    np.testing.assert_allclose(resident.step(stepped, features(3, 1)), expected, atol=1e-6)
    begun.put(stepped, after)
    np.testing.assert_allclose(resident.take(everyone).values, begun.values, atol=1e-6)


def test_members_of_one_shape_are_computed_together():
    one, other = NetworkConfig(hidden_size=4, dropout=0.1), NetworkConfig(hidden_size=4, cell=Cell.LSTM)
    members = [network(config, i) for i, config in enumerate((one, other, replace(one, dropout=0.5)))]
    assert StateLayout.of(Ensemble(members)).groups == ((0, 2), (1,))


@pytest.mark.parametrize("config", [NetworkConfig(hidden_size=8), NetworkConfig(cell=Cell.LSTM, layers=2)])
def test_a_stays_logit_does_not_depend_on_its_batch(config):
    _, fast = both([network(config, 0), network(config, 1)])
    seen = features(37, 0)
    alone = [fast.step(seen[[i]], fast.initial_state(1))[0][0] for i in range(37)]
    for rows in (2, 3, 8, 37):
        together, _ = fast.step(seen[:rows], fast.initial_state(rows))
        assert np.abs(together - np.stack(alone[:rows])).max() <= 1e-6


def test_the_same_batch_gives_the_same_bits():
    _, fast = both([network(NetworkConfig(hidden_size=8, skip_pieces=3), 0)])
    seen, state = features(16, 0), fast.initial_state(16)
    (first, after), (again, after_again) = fast.step(seen, state), fast.step(seen, state)
    assert first.tobytes() == again.tobytes()
    assert after.values.tobytes() == after_again.values.tobytes()


def test_a_step_leaves_states_and_features_as_they_were():
    _, fast = both([network(NetworkConfig(cell=Cell.GRU_D, pooling=Pooling.MEAN), 0)])
    seen, state = features(4, 0), fast.initial_state(4)
    kept = seen.copy(), state.values.copy()
    fast.step(seen, state)
    assert np.array_equal(seen, kept[0])
    assert np.array_equal(state.values, kept[1])


def test_a_member_without_a_fast_step_is_stepped_by_itself():
    class Shifted(RecurrentNetwork):
        """A network with a parameter that no fast step knows."""

        def __init__(self) -> None:
            super().__init__(NetworkConfig(hidden_size=3), width=WIDTH, outputs=OUTPUTS)
            self.shift = torch.nn.Parameter(torch.ones(OUTPUTS))

        def forward(self, chunk, state):
            logits, after = super().forward(chunk, state)
            return logits + self.shift, after

    members = [network(NetworkConfig(hidden_size=4), 0), Shifted().eval(), network(NetworkConfig(hidden_size=4), 1)]
    reference, fast = both(members)
    seen = features(5, 0)
    (expected, before), (got, after) = (e.step(seen, e.initial_state(5)) for e in (reference, fast))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(after.values, before.values, atol=1e-6)
    encoded = Encoded(seen, np.array([0, 2, 5]), np.arange(5))
    np.testing.assert_allclose(fast.replay(encoded).values, reference.replay(encoded).values, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_trees_give_their_own_logits(rows):
    trees = small_trees(features(300, 9), TaskSpec("death", scope=LabelScope.STEP, horizons_h=(6.0, 12.0)))
    reference, fast = both([network(NetworkConfig(hidden_size=3), 0), trees])
    seen = features(rows, 4)
    expected, got = (engine.step(seen, engine.initial_state(rows))[0] for engine in (reference, fast))
    np.testing.assert_array_equal(got[:, 1], expected[:, 1])


def test_rows_survive_their_bytes_and_no_others_are_read():
    _, fast = both([network(NetworkConfig(cell=Cell.LSTM, hidden_size=5, pooling=Pooling.MAX), 0)])
    state = fast.step(features(3, 0), fast.initial_state(3))[1]
    told = [state.to_bytes(row) for row in (2, 0)]
    assert np.array_equal(EngineState.from_bytes(told, width=15).values, state.take([2, 0]).values)
    with pytest.raises(DataError, match="60 bytes"):
        EngineState.from_bytes([told[0][:-1]], width=15)


@pytest.mark.parametrize("cell", [Cell.LSTM, Cell.GRU_D])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_gets_its_engine(kind, cell, tmp_path):
    summaries = (Feature.MASK, Feature.DELTA, Feature.VALUE, Feature.TREND)
    small = save_small_model(tmp_path / "model", cell=cell, encoding=EncodingConfig(features=summaries))
    assert make_engine(small.scorer(), kind).kind == ("numpy" if kind == "auto" else kind)


def test_an_engine_of_another_kind_is_refused(tmp_path):
    scorer = save_small_model(tmp_path / "model").scorer()
    with pytest.raises(ConfigError, match="engine must be one of auto, reference"):
        make_engine(scorer, "fastest")


def test_an_engine_that_gives_other_logits_is_refused(tmp_path):
    scorer = save_small_model(tmp_path / "model").scorer()
    reference = make_engine(scorer, "reference")
    with torch.no_grad():
        altered = save_small_model(tmp_path / "other").scorer()
        altered.network.networks[0].head.bias += 1e-3
    with pytest.raises(ArtifactError, match="within 1e-05"):
        check_engine(make_engine(altered, "reference"), reference, scorer)
