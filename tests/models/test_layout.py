import numpy as np
import pytest

from models.channel_encoding import SUMMARIES, Feature
from models.encoding import Encoding, EncodingConfig
from models.errors import ConfigError
from models.layout import Layout
from tests.strategies import CHANNELS, STATICS, Fact, Facts

STAYS = Facts(1, (60,), tuple(Fact(0, 10 * c, c, 5.0 + c) for c in range(3)), ((50.0, 0.0),)).stays()


def fit(features: tuple[Feature, ...]) -> Encoding:
    config = EncodingConfig(features=features, channels=CHANNELS, min_stays=1)
    return Encoding.fit(STAYS, config, statics=STATICS)


def test_columns_are_those_of_the_features_names() -> None:
    encoding = fit((Feature.DELTA, Feature.MEAN, Feature.VALUE, Feature.MASK))
    layout = encoding.layout
    assert layout is not None
    for feature in (Feature.VALUE, Feature.MASK, Feature.DELTA):
        names = [encoding.feature_names[column] for column in layout.columns(feature)]
        assert names == [f"{channel}.{feature}" for channel in CHANNELS]
    assert layout.width == 12
    assert layout.others == (1,)


def test_the_layout_stays_with_the_encoded_stays_and_their_selections() -> None:
    encoding = fit((Feature.VALUE, Feature.MASK, Feature.DELTA))
    encoded = encoding.encode(STAYS)
    assert encoded.layout == encoded.select(np.array([0])).layout == encoding.layout == Layout(3, 3, 0, 1, 2)


@pytest.mark.parametrize("features", [SUMMARIES, (Feature.VALUE, Feature.DELTA)])
def test_without_value_mask_and_delta_there_is_no_layout(features: tuple[Feature, ...]) -> None:
    assert fit(features).layout is None
    assert Layout.of(0, tuple(Feature)) is None


def test_a_layout_that_is_needed_and_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="must hold value, mask and delta"):
        Layout.required(None)


@pytest.mark.parametrize("places", [(0, 0, 1), (0, 1, 3), (-1, 1, 2)])
def test_places_that_cannot_be_are_refused(places: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="three places below per_channel"):
        Layout(2, 3, *places)


def test_no_channel_is_refused() -> None:
    with pytest.raises(ConfigError, match="channels must be at least 1"):
        Layout(0, 3, 0, 1, 2)
