import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.channel_encoding import NEVER_GAP, Feature
from models.channels import StaticKind, StaticVariable
from models.encoding import Encoding, EncodingConfig
from models.errors import ConfigError, DataError
from models.grid import GridKind
from models.notes import NotesConfig, NoteTokenizer
from models.record import from_plain, to_plain
from models.stay import Stays
from tests.strategies import CHANNELS, STATICS, Fact, Facts, NoteFact, facts

HR, LACTATE, GLUCOSE = range(3)
NAN = float("nan")


def training_facts(count=12):
    rng = np.random.default_rng(0)
    rows = [
        Fact(stay, int(rng.integers(-60, 2880)), channel, float(rng.lognormal(3 + channel, 0.5)))
        for stay in range(count)
        for channel in (HR, LACTATE)
        for _ in range(9)
    ]
    static = tuple((50.0 + i, float(i % 2)) for i in range(count))
    return Facts(count, (2880,) * count, tuple(rows), static)


TRAINING = training_facts().stays()
TOKENIZER = NoteTokenizer.train([], [], NotesConfig())


def fit(kind=GridKind.EVENT, width_h=1.0, stays=TRAINING, **choices):
    config = EncodingConfig(grid=kind, width_h=width_h, channels=choices.pop("channels", CHANNELS), **choices)
    return Encoding.fit(stays, config, statics=STATICS)


ENCODINGS = {
    "event": fit(),
    "hourly": fit(GridKind.FIXED),
    "seven minutes": fit(GridKind.FIXED, 7 / 60),
    "day": fit(GridKind.FIXED, 24.0),
    "event, every feature": fit(features=tuple(Feature)),
    "hourly, every feature": fit(GridKind.FIXED, features=tuple(Feature)),
}
every_encoding = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=list(ENCODINGS))


def one(*rows, end_min=2880, static=(60.0, 0.0), notes=()):
    return Facts(1, (end_min,), tuple(Fact(0, *row) for row in rows), (static,), tuple(notes))


def column(encoding, encoded, name):
    return encoded.features[:, encoding.feature_names.index(name)]


def encode64(encoding, stays, **choices):
    return encoding.encode(stays, dtype=np.float64, **choices)


def test_features_have_the_width_and_the_names_that_the_encoding_states():
    encoding = ENCODINGS["event"]
    encoded = encoding.encode(TRAINING)
    assert encoded.features.dtype == np.float32
    assert encoded.width == encoding.width == len(encoding.feature_names) == 3 * 9 + 2 + 5
    assert encoding.feature_names[:2] == ("heart_rate.value", "heart_rate.mask")
    assert encoding.feature_names[-5:] == (
        "static.age",
        "static.age.missing",
        "static.sex.female",
        "static.sex.male",
        "static.sex.missing",
    )


def test_a_channel_tells_its_last_value_mask_gap_and_running_statistics():
    encoding = ENCODINGS["event"]
    encoded = encode64(encoding, one((0, HR, 10.0), (60, HR, 30.0), (120, LACTATE, 50.0), end_min=180).stays())
    score = encoding.channels.standardiser.apply(np.array([HR, HR]), np.array([10.0, 30.0]))
    assert encoded.time_min.tolist() == [0, 60, 120, 180]
    np.testing.assert_allclose(column(encoding, encoded, "heart_rate.value"), score[[0, 1, 1, 1]])
    assert column(encoding, encoded, "heart_rate.mask").tolist() == [1, 1, 0, 0]
    hours = np.array([0.0, 0.0, 1.0, 2.0])
    np.testing.assert_allclose(column(encoding, encoded, "heart_rate.gap"), np.log1p(hours) / np.log1p(168))
    counts = np.array([1.0, 2.0, 2.0, 2.0])
    np.testing.assert_allclose(column(encoding, encoded, "heart_rate.count"), np.log1p(counts) / np.log1p(100))
    means = np.array([score[0], score.mean(), score.mean(), score.mean()])
    np.testing.assert_allclose(column(encoding, encoded, "heart_rate.mean"), means)
    np.testing.assert_allclose(column(encoding, encoded, "heart_rate.min"), score[[0, 0, 0, 0]])
    np.testing.assert_allclose(column(encoding, encoded, "heart_rate.max"), score[[0, 1, 1, 1]])
    np.testing.assert_allclose(column(encoding, encoded, "heart_rate.first"), score[[0, 0, 0, 0]])
    assert column(encoding, encoded, "heart_rate.trend")[0] == 0.0
    assert (column(encoding, encoded, "heart_rate.trend")[1:] > 0).all()
    np.testing.assert_allclose(column(encoding, encoded, "time"), np.log1p(np.arange(4.0)) / np.log1p(168))


def test_a_channel_not_yet_observed_is_told_apart_from_one_just_observed():
    encoding = ENCODINGS["event"]
    encoded = encode64(encoding, one((60, HR, 1.0), end_min=60).stays())
    assert column(encoding, encoded, "heart_rate.gap").tolist() == [NEVER_GAP, 0.0]
    assert column(encoding, encoded, "heart_rate.count")[0] == 0.0
    assert column(encoding, encoded, "heart_rate.value")[0] == 0.0


def test_on_a_fixed_grid_a_bin_counts_minutes_and_tells_the_latest():
    encoding = ENCODINGS["hourly"]
    rows = [(5, HR, 10.0), (5, HR, 20.0), (50, HR, 40.0)]
    encoded = encode64(encoding, one(*rows, end_min=120).stays())
    score = encoding.channels.standardiser.apply(np.array([HR]), np.array([40.0]))
    assert encoded.time_min.tolist() == [60, 120]
    np.testing.assert_allclose(column(encoding, encoded, "heart_rate.value"), score[[0, 0]])
    assert column(encoding, encoded, "heart_rate.mask").tolist() == [1, 0]
    np.testing.assert_allclose(column(encoding, encoded, "heart_rate.count"), np.log1p(2) / np.log1p(100))
    np.testing.assert_allclose(
        column(encoding, encoded, "heart_rate.gap"), np.log1p(np.array([10, 70]) / 60) / np.log1p(168)
    )


def test_a_stay_without_observation_has_steps_and_neutral_features():
    encoded = ENCODINGS["event"].encode(one(end_min=0, static=(NAN, NAN)).stays())
    assert encoded.time_min.tolist() == [0]
    assert np.isfinite(encoded.features).all()


def test_no_stay_encodes_to_no_step():
    encoded = ENCODINGS["event"].encode(TRAINING.select([]))
    assert encoded.features.shape == (0, ENCODINGS["event"].width)
    assert len(encoded) == 0


def test_a_channel_absent_from_training_is_never_used():
    encoding = ENCODINGS["event"]
    encoded = encoding.encode(one((0, GLUCOSE, 100.0), (0, HR, 20.0)).stays())
    names = np.array(encoding.feature_names)
    assert not encoded.features[:, np.char.startswith(names, "glucose")].any()


def test_static_values_are_standardised_or_one_hot_with_missing_flags():
    encoding = ENCODINGS["event"]
    rows = np.array([(55.5, 0.0), (1e9, 1.0), (NAN, NAN)])
    stays = replace(TRAINING.select([0, 1, 2]), static=rows)
    static = encoding.statics.apply(stays)
    assert static.tolist() == [[0, 0, 1, 0, 0], [6, 0, 0, 1, 0], [0, 1, 0, 0, 1]]


def test_a_static_variable_that_training_never_had_counts_as_missing():
    bare = replace(TRAINING, static=np.full((len(TRAINING), 2), NAN))
    encoding = fit(stays=bare)
    assert encoding.statics.apply(one().stays()).tolist() == [[0, 1, 0, 0, 1]]


@pytest.mark.parametrize("index", [2.0, -1.0, 0.5])
def test_a_category_that_does_not_exist_is_refused(index):
    with pytest.raises(DataError, match="index of its 2 categories"):
        ENCODINGS["event"].encode(one(static=(60.0, index)).stays())


def test_frequent_channels_are_chosen_where_none_is_named():
    encoding = fit(channels=(), min_stays=5)
    assert encoding.channels.names == ("heart_rate", "lactate")


def test_features_and_statics_can_be_chosen():
    encoding = fit(features=(Feature.GAP, Feature.VALUE), statics=("sex",), channels=("lactate",))
    assert encoding.feature_names[:4] == ("lactate.gap", "lactate.value", "time", "step_gap")
    assert encoding.encode(TRAINING).width == encoding.width == 2 + 2 + 3


@pytest.mark.parametrize("choices", [{"channels": ("hart_rate",)}, {"statics": ("agee",)}])
def test_names_that_the_cohort_does_not_declare_are_refused(choices):
    with pytest.raises(ConfigError, match="must be names that the cohort declares"):
        fit(**choices)


@pytest.mark.parametrize(
    "choices",
    [
        {"clip": 0.0},
        {"clip": NAN},
        {"min_stays": 0},
        {"width_h": 0.001},
        {"channels": ("a", "a")},
        {"features": (Feature.VALUE, Feature.VALUE)},
    ],
)
def test_choices_that_do_not_hold_are_refused(choices):
    with pytest.raises(ConfigError):
        EncodingConfig(**choices)


def test_channels_are_matched_by_name_in_any_order_and_unknown_ones_make_no_step():
    encoding = ENCODINGS["event"]
    expected = encoding.encode(one((3, HR, 20.0), (9, LACTATE, 50.0)).stays())
    other = Stays(
        stay_id=("x",),
        end_min=np.array([2880]),
        offsets=np.array([0, 3]),
        time_min=np.array([3, 5, 9]),
        channel=np.array([2, 0, 1], dtype=np.int16),
        value=np.array([20.0, 7.0, 50.0]),
        channels=("unknown", "lactate", "heart_rate"),
        static=np.array([[0.0, 1.0, 60.0]]),
        static_names=("sex", "else", "age"),
    )
    got = encoding.encode(other)
    np.testing.assert_array_equal(got.features, expected.features)
    np.testing.assert_array_equal(got.time_min, expected.time_min)


def test_notes_make_steps_and_tokens_only_with_a_tokenizer():
    stays = one((3, HR, 20.0), end_min=20, notes=[NoteFact(0, 9, "well"), NoteFact(0, 20, "")]).stays()
    encoding = ENCODINGS["event"]
    assert encoding.encode(stays).time_min.tolist() == [0, 3, 20]
    encoded = encoding.encode(stays, tokenizer=TOKENIZER)
    assert encoded.time_min.tolist() == [0, 3, 9, 20]
    assert encoded.note_step.tolist() == [2, 3]
    assert encoded.tokens[: encoded.note_offsets[1]].tolist() == TOKENIZER.encode("well")


def test_features_can_be_written_to_a_file_and_mapped_from_there(tmp_path):
    encoding = ENCODINGS["hourly"]
    mapped = encoding.encode(TRAINING, out=tmp_path / "features.npy")
    assert isinstance(mapped.features, np.memmap)
    assert mapped.features.mode == "r"
    np.testing.assert_array_equal(mapped.features, encoding.encode(TRAINING).features)
    assert len(encoding.encode(TRAINING.select([]), out=tmp_path / "none.npy")) == 0


def test_some_of_the_stays_can_be_copied_to_a_file_of_their_own_and_mapped_from_there(tmp_path):
    encoded = ENCODINGS["hourly"].encode(TRAINING, out=tmp_path / "all.npy")
    copied = encoded.select([1, 0], out=tmp_path / "some.npy")
    assert isinstance(copied.features, np.memmap)
    assert copied.features.mode == "r"
    np.testing.assert_array_equal(copied.features, encoded.select([1, 0]).features)
    assert len(encoded.select([], out=tmp_path / "none.npy")) == 0


@every_encoding
def test_an_encoding_survives_json(encoding):
    text = json.dumps(to_plain(encoding), allow_nan=False)
    assert from_plain(Encoding, json.loads(text), where="encoding") == encoding


def test_never_observed_names_the_channels_without_observation():
    assert ENCODINGS["event"].never_observed(one((0, LACTATE, 1.0)).stays()) == ("heart_rate", "glucose")


def test_values_that_are_not_finite_or_not_sorted_are_refused():
    stays = one((0, HR, 1.0), (1, HR, 2.0)).stays()
    with pytest.raises(DataError, match="finite"):
        ENCODINGS["event"].encode(replace(stays, value=np.array([1.0, NAN])))
    with pytest.raises(DataError, match="sorted"):
        ENCODINGS["event"].encode(replace(stays, time_min=np.array([1, 0])))
    with pytest.raises(DataError, match="sorted"):
        ENCODINGS["event"].encode(replace(stays, time_min=np.array([0, 0]), value=np.array([1.0, 1.0])))


@every_encoding
@given(known=facts(), data=st.data())
def test_any_order_of_arrival_gives_equal_bits(encoding, known, data):
    rows = data.draw(st.permutations(known.rows))
    repeated = data.draw(st.lists(st.sampled_from(rows), max_size=3)) if rows else []
    first, second = encoding.encode(known.stays()), encoding.encode(known.reordered([*rows, *repeated]).stays())
    np.testing.assert_array_equal(first.features, second.features)
    np.testing.assert_array_equal(first.time_min, second.time_min)


@every_encoding
@given(known=facts(), cut=st.integers(0, 2880), data=st.data())
def test_the_future_does_not_change_the_past(encoding, known, cut, data):
    future = st.builds(Fact, st.integers(0, known.count - 1), st.integers(cut + 1, 6000), st.just(HR), st.just(33.0))
    rows = [r for r in known.rows if r.time_min <= cut] + data.draw(st.lists(future, max_size=10))
    changed = replace(known, rows=tuple(rows), end_min=(7000,) * known.count)
    original = replace(known, end_min=(7000,) * known.count)
    first, second = encode64(encoding, original.stays()), encode64(encoding, changed.stays())
    for i in range(known.count):
        before, after = first.select([i]), second.select([i])
        past = before.time_min <= cut
        np.testing.assert_array_equal(before.time_min[past], after.time_min[after.time_min <= cut])
        np.testing.assert_array_equal(before.features[past], after.features[after.time_min <= cut])


@every_encoding
@given(known=facts(min_stays=2))
def test_a_stay_is_encoded_the_same_whoever_stands_beside_it(encoding, known):
    together = encoding.encode(known.stays())
    for i in range(known.count):
        alone = encoding.encode(known.stays().select([i]))
        np.testing.assert_array_equal(together.select([i]).features, alone.features)


@every_encoding
@given(known=facts())
def test_features_are_finite_and_within_the_clip(encoding, known):
    features = encode64(encoding, known.stays()).features
    assert np.isfinite(features).all()
    clipped = [not name.endswith(".delta") for name in encoding.feature_names]
    assert (np.abs(features[:, clipped]) <= encoding.clip).all()


@pytest.mark.parametrize("grid", ["event", "hourly"])
@given(known=facts())
def test_delta_follows_the_papers_recursion_over_stamps_and_masks(grid, known):
    encoding = ENCODINGS[f"{grid}, every feature"]
    encoded = encode64(encoding, known.stays())
    for stay in range(known.count):
        one = encoded.select([stay])
        for name in ("heart_rate", "lactate"):
            mask, found = column(encoding, one, f"{name}.mask"), column(encoding, one, f"{name}.delta")
            delta, hours = 0.0, one.time_min / 60
            for t in range(len(hours)):
                if t:
                    delta = hours[t] - hours[t - 1] + (1 - mask[t - 1]) * delta
                assert found[t] * 24 == pytest.approx(delta, abs=1e-9)


def test_delta_counts_days_on_a_straight_line_and_is_not_clipped():
    encoding = ENCODINGS["event, every feature"]
    encoded = encode64(encoding, one((0, HR, 1.0), (1440, HR, 2.0), (2160, LACTATE, 9.0), end_min=72_000).stays())
    assert column(encoding, encoded, "heart_rate.delta").tolist() == [0.0, 1.0, 0.5, 49.0]
    assert column(encoding, encoded, "lactate.delta").tolist() == [0.0, 1.0, 1.5, 48.5]


def test_delta_is_among_no_runs_features_unless_it_is_asked_for():
    assert Feature.DELTA not in EncodingConfig().features
    assert set(EncodingConfig().features) | {Feature.DELTA} == set(Feature)


@given(known=facts())
def test_fitting_depends_on_the_training_stays_alone(known):
    rows = tuple(replace(r, stay=r.stay + len(TRAINING)) for r in known.rows)
    base = training_facts()
    everyone = replace(
        base,
        count=base.count + known.count,
        rows=base.rows + rows,
        end_min=base.end_min + known.end_min,
        static=base.static + known.static,
    )
    chosen = everyone.stays().select(np.arange(base.count))
    assert fit(stays=chosen) == ENCODINGS["event"]


def test_many_blocks_of_stays_are_encoded_as_one_block_is():
    many = training_facts(900).stays()
    encoding = fit(GridKind.FIXED, 1.0)
    whole = encoding.encode(many)
    assert len(whole.features) > 2 * 16_384
    for i in (0, 341, 342, 899):
        np.testing.assert_array_equal(whole.select([i]).features, encoding.encode(many.select([i])).features)


def test_a_categorical_variable_without_values_in_training_is_missing_for_all():
    variable = StaticVariable("unit", StaticKind.CATEGORICAL, categories=("a", "b"))
    encoding = Encoding.fit(TRAINING, EncodingConfig(), statics=(variable,))
    assert encoding.statics.apply(TRAINING.select([0])).tolist() == [[0, 0, 1]]
