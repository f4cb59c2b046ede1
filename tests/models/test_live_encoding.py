"""A stay alone is encoded as it is among others, in its features and in what is remembered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.channel_encoding import Feature
from models.encoding import Encoding, EncodingConfig
from models.errors import DataError
from models.grid import GridKind
from models.live_encoding import FEW, LiveEncoder
from models.live_input import LiveInput
from models.live_record import RecordLayout
from tests.strategies import CHANNELS, STATICS, Fact, Facts


def _training():
    """Stays that have two of the three channels, one of them skewed."""
    rng = np.random.default_rng(0)
    rows = [
        Fact(stay, int(rng.integers(-60, 2880)), channel, float(rng.lognormal(3, 0.1 + 1.5 * channel)))
        for stay in range(12)
        for channel in (0, 1)
        for _ in range(9)
    ]
    return Facts(12, (2880,) * 12, tuple(rows), tuple((50.0 + i, float(i % 2)) for i in range(12))).stays()


TRAINING = _training()
ENCODINGS = {
    f"{kind}, {name}": Encoding.fit(
        TRAINING, EncodingConfig(grid=kind, channels=CHANNELS, features=features), statics=STATICS
    )
    for kind in GridKind
    for name, features in (
        ("every feature", tuple(Feature)),
        ("few features", (Feature.DELTA, Feature.MASK, Feature.VALUE)),
    )
}
every_encoding = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=list(ENCODINGS))


@st.composite
def steps(draw):
    """A stay's time steps: most follow each other and hold the model's channels, some do not."""
    stamp, found = draw(st.integers(-300, 0)), []
    for _ in range(draw(st.integers(1, 4))):
        stamp += draw(st.integers(0, 300))
        count = draw(st.integers(0, 6))
        channels = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
        values = draw(st.lists(st.floats(-1e4, 1e4), min_size=count, max_size=count))
        minutes = draw(st.none() | st.lists(st.sampled_from((stamp, stamp, stamp - 1)), min_size=count, max_size=count))
        found.append(LiveInput(stamp, channels, values, minutes))
    return found


def taken(encoding, entering, copies):
    """Features and records of a stay after every step, one of so many alike; ends where a step is refused."""
    layout, encoder = RecordLayout(encoding, digest="", state_width=0, state_schema=""), LiveEncoder(encoding)
    records, found = layout.empty(copies), []
    records["static"] = np.float32(0.5)
    for step in entering:
        before = records.tobytes()
        try:
            features = encoder.step(records, [step] * copies)
        except DataError:
            assert records.tobytes() == before
            found.append(None)
            break
        found.append((features[0].copy(), records[0].copy()))
    return found


@every_encoding
@given(entering=steps())
def test_a_stay_alone_is_encoded_as_among_others(encoding, entering):
    alone, among = taken(encoding, entering, 1), taken(encoding, entering, FEW + 1)
    assert [one is None for one in alone] == [one is None for one in among]
    for one, other in zip(alone, among, strict=True):
        if one is not None and other is not None:
            np.testing.assert_allclose(one[0], other[0], rtol=1e-6, atol=1e-6)
            for field in ("stamp", "since", "statistics", "summary", "static"):
                np.testing.assert_allclose(one[1][field], other[1][field], rtol=1e-6, atol=1e-6)


@every_encoding
@pytest.mark.parametrize(
    "wrong",
    [
        LiveInput(10, [3], [1.0]),
        LiveInput(10, [-1], [1.0]),
        LiveInput(10, [0], [float("nan")]),
        LiveInput(10, [0, 1], [1.0]),
        LiveInput(10, [0], [1.0], [10, 10]),
        LiveInput(10, [0], [1.0], [11]),
        LiveInput(4),
    ],
)
@pytest.mark.parametrize("copies", [1, 2, FEW + 1])
def test_a_step_that_does_not_fit_leaves_every_record_as_it_was(encoding, wrong, copies):
    layout, encoder = RecordLayout(encoding, digest="", state_width=0, state_schema=""), LiveEncoder(encoding)
    records = layout.empty(copies)
    encoder.step(records, [LiveInput(5, [0], [20.0])] * copies)
    before = records.tobytes()
    with pytest.raises(DataError):
        encoder.step(records, [LiveInput(10, [0], [20.0])] * (copies - 1) + [wrong])
    assert records.tobytes() == before
