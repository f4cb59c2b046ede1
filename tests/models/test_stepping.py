from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from models.channel_encoding import Feature
from models.encoding import Encoding, EncodingConfig
from models.errors import ArtifactError, DataError
from models.folding import fold, steps_of
from models.grid import GridKind
from models.notes import NotesConfig, NoteTokenizer
from models.stepping import EncoderState, Readings
from tests.strategies import CHANNELS, STATICS, Fact, Facts, NoteFact, facts

NAN = float("nan")
TOKENIZER = NoteTokenizer.train([], [], NotesConfig())


def training():
    rng = np.random.default_rng(0)
    rows = [
        Fact(stay, int(rng.integers(-60, 2880)), channel, float(rng.lognormal(3 + channel, 0.9)))
        for stay in range(12)
        for channel in (0, 1)
        for _ in range(9)
    ]
    return Facts(12, (2880,) * 12, tuple(rows), tuple((50.0 + i, float(i % 2)) for i in range(12))).stays()


def fit(kind, width_h):
    config = EncodingConfig(grid=kind, width_h=width_h, channels=CHANNELS, features=tuple(Feature))
    return Encoding.fit(training(), config, statics=STATICS)


ENCODINGS = {
    "event": fit(GridKind.EVENT, 1.0),
    "hourly": fit(GridKind.FIXED, 1.0),
    "seven minutes": fit(GridKind.FIXED, 7 / 60),
    "day": fit(GridKind.FIXED, 24.0),
}
every_encoding = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=list(ENCODINGS))
EVENT = ENCODINGS["event"]


def started(encoding=EVENT):
    return encoding.start(training().select([0]))


def same(first, second):
    return (
        np.array_equal(first.statistics, second.statistics)
        and np.array_equal(first.static, second.static)
        and first.stamp_min == second.stamp_min
        and np.array_equal(first.since_min, second.since_min)
    )


@every_encoding
@given(known=facts(max_stays=1, notes=True))
def test_stepping_through_a_stay_equals_encoding_it_at_once(encoding, known):
    stays = known.stays()
    stepped = fold(encoding, stays, notes=True)
    whole = encoding.encode(stays, dtype=np.float64, tokenizer=TOKENIZER)
    assert stepped.time_min.tolist() == whole.time_min.tolist()
    np.testing.assert_allclose(stepped.features, whole.features, rtol=0, atol=1e-10)


@given(known=facts(max_stays=1, notes=True))
def test_notes_make_no_steps_for_a_model_that_reads_none(known):
    stays = known.stays()
    assert fold(EVENT, stays).time_min.tolist() == EVENT.encode(stays).time_min.tolist()


@pytest.mark.parametrize("kind", list(GridKind))
def test_a_long_stay_stepped_equals_the_stay_encoded_at_once(kind):
    rng = np.random.default_rng(3)
    rows = [Fact(0, t, int(rng.integers(2)), float(rng.lognormal(3, 1))) for t in range(0, 30_000, 7)]
    stays = Facts(1, (30_000,), tuple(rows), ((NAN, 1.0),)).stays()
    encoding = fit(kind, 0.5)
    whole = encoding.encode(stays, dtype=np.float64)
    np.testing.assert_allclose(fold(encoding, stays).features, whole.features, rtol=0, atol=1e-10)


@every_encoding
@given(data=st.data())
def test_the_order_of_arrival_within_a_step_does_not_matter(encoding, data):
    reading = st.tuples(st.integers(1, 40), st.integers(0, 2), st.floats(-10, 500, width=32))
    readings = data.draw(st.lists(reading, min_size=1, max_size=12))
    other = data.draw(st.permutations(readings)) + data.draw(st.lists(st.sampled_from(readings), max_size=2))
    results = []
    for order in (readings, other):
        minute, channel, value = zip(*order, strict=True)
        results.append(encoding.step(started(encoding), 40, channel, value, minute=minute))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert same(results[0][1], results[1][1])


def test_a_provisional_step_leaves_the_committed_state_as_it_is():
    _, committed = EVENT.step(started(), 5, [0, 1], [20.0, 50.0])
    before = EncoderState.from_bytes(committed.to_bytes())
    first, _ = EVENT.step(committed, 9, [0], [30.0])
    again, _ = EVENT.step(committed, 9, [0], [30.0])
    assert same(before, committed)
    np.testing.assert_array_equal(first, again)


def test_a_step_without_observation_only_moves_the_clock():
    _, committed = EVENT.step(started(), 5, [0], [20.0])
    _, later = EVENT.step(committed, 65)
    assert later.stamp_min == 65
    np.testing.assert_array_equal(later.statistics, committed.statistics)


def test_observations_are_at_the_steps_time_where_no_minute_is_given():
    given_minutes = EVENT.step(started(), 5, [0, 1], [20.0, 50.0], minute=[5, 5])
    np.testing.assert_array_equal(EVENT.step(started(), 5, [0, 1], [20.0, 50.0])[0], given_minutes[0])


@pytest.mark.parametrize("committed", [False, True])
def test_a_state_survives_its_bytes(committed):
    state = EVENT.step(started(), 5, [0], [20.0])[1] if committed else started()
    assert same(EncoderState.from_bytes(state.to_bytes()), state)


def test_a_state_of_37_channels_is_a_few_kilobytes_however_long_the_stay():
    state = EncoderState(np.zeros((11, 37)), np.zeros(20), 10**6, np.zeros(37, np.int64))
    assert len(state.to_bytes()) < 4096


@pytest.mark.parametrize("data", [b"", b"not a state", safetensors.numpy.save({"statistics": np.zeros((2, 2))})])
def test_other_bytes_are_refused(data):
    with pytest.raises(ArtifactError, match="encoder state must be bytes"):
        EncoderState.from_bytes(data)


def test_another_encodings_state_is_refused():
    narrow = Encoding.fit(training(), EncodingConfig(channels=("lactate",)), statics=STATICS)
    with pytest.raises(DataError, match="start it with this encoding"):
        EVENT.step(started(narrow), 5)


@pytest.mark.parametrize(("kind", "time_min"), [("event", 119), ("event", 120), ("hourly", 119)])
def test_time_does_not_run_backwards(kind, time_min):
    _, state = ENCODINGS[kind].step(started(ENCODINGS[kind]), 120)
    with pytest.raises(DataError, match="replay the stay"):
        ENCODINGS[kind].step(state, time_min)


def test_an_observation_of_an_earlier_bin_is_refused_not_folded_in_late():
    _, state = ENCODINGS["hourly"].step(started(ENCODINGS["hourly"]), 120)
    with pytest.raises(DataError, match="replay the stay"):
        ENCODINGS["hourly"].step(state, 180, [0], [20.0], minute=[119])


@pytest.mark.parametrize(
    ("channel", "value", "minute", "message"),
    [
        ([0], [1.0], [6], "not be later than time_min"),
        ([0], [NAN], None, "finite"),
        ([3], [1.0], None, "channel must lie in 0 .. 2"),
        ([-1], [1.0], None, "channel must lie in 0 .. 2"),
        ([0, 1], [1.0], None, "one length"),
    ],
)
def test_readings_that_do_not_fit_the_step_are_refused(channel, value, minute, message):
    with pytest.raises(DataError, match=message):
        EVENT.step(started(), 5, channel, value, minute=minute)


def test_values_of_one_minute_combine_and_repetitions_count_once():
    readings = Readings.combine([3, 3, 3, 1], [0, 0, 0, 1], [2.0, 4.0, 4.0, 7.0])
    assert readings.minute.tolist() == [1, 3]
    assert readings.channel.tolist() == [1, 0]
    assert readings.value.tolist() == [7.0, 3.0]


def test_a_channel_absent_from_training_changes_nothing():
    with_glucose = EVENT.step(started(), 5, [0, 2], [20.0, 100.0])
    without = EVENT.step(started(), 5, [0], [20.0])
    np.testing.assert_array_equal(with_glucose[0], without[0])
    assert same(with_glucose[1], without[1])


def test_the_steps_of_a_stay_hold_its_raw_observations():
    stays = Facts(1, (130,), (Fact(0, -5, 0, 1.0), Fact(0, 61, 1, 2.0), Fact(0, 62, 0, 3.0)), ((NAN, NAN),)).stays()
    steps = steps_of(ENCODINGS["hourly"], stays)
    assert [s.time_min for s in steps] == [0, 60, 120, 130]
    assert [s.minute.tolist() for s in steps] == [[-5], [], [61, 62], []]
    assert [s.value.tolist() for s in steps] == [[1.0], [], [2.0, 3.0], []]


def test_notes_open_steps_of_their_own_when_asked():
    stays = Facts(1, (50,), (), ((NAN, NAN),), (NoteFact(0, 7, "x"),)).stays()
    assert [s.time_min for s in steps_of(EVENT, stays, notes=True)] == [0, 7, 50]


@pytest.mark.parametrize("count", [0, 2])
def test_one_stay_at_a_time_is_stepped(count):
    stays = training().select(range(count))
    with pytest.raises(DataError, match="must hold one stay"):
        steps_of(EVENT, stays)
    with pytest.raises(DataError, match="must hold one stay"):
        EVENT.start(stays)


def test_the_static_values_are_read_once_at_the_start():
    stays = training().select([0])
    older = replace(stays, static=stays.static + np.array([30.0, 0.0]))
    difference = EVENT.step(EVENT.start(older), 0)[0] - EVENT.step(EVENT.start(stays), 0)[0]
    assert np.flatnonzero(difference).tolist() == [EVENT.feature_names.index("static.age")]
