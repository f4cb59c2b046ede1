"""Declarations of channels and static variables."""

import pytest

from models.channels import Channel, Conversion, StaticKind, StaticVariable, loinc_check_digit_holds
from models.errors import ConfigError


@pytest.mark.parametrize("code", ["8867-4", "9279-1", "59408-5", "8310-5", "3150-0", "2160-0"])
def test_a_published_code_has_a_valid_check_digit(code: str):
    assert loinc_check_digit_holds(code)


@pytest.mark.parametrize("code", ["3150-6", "8867-5", "8867", "8867-44", "abc-1", "", "-4", "88a7-4"])
def test_a_mistyped_code_does_not_hold(code: str):
    assert not loinc_check_digit_holds(code)


def test_a_channel_converts_from_its_own_and_accepted_units_alone():
    channel = Channel("temperature", "Cel", (10.0, 50.0), accepts={"K": Conversion(1.0, -273.15)})
    assert channel.conversion("Cel") == Conversion(1.0, 0.0)
    assert channel.conversion("K") == Conversion(1.0, -273.15)
    assert channel.conversion("[degF]") is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "Heart Rate", "unit": "/min", "hard": (0.0, 1.0)}, "lower-case identifier"),
        ({"name": "HR", "unit": "/min", "hard": (0.0, 1.0)}, "lower-case identifier"),
        ({"name": "hr", "unit": "/min", "hard": (1.0, 1.0)}, "low < high"),
        ({"name": "hr", "unit": "/min", "hard": (0.0, 1.0), "soft": (0.0, 2.0)}, "within the hard limits"),
        ({"name": "hr", "unit": "/min", "hard": (0.0, 1.0), "soft": (0.5, 0.5)}, "within the hard limits"),
        ({"name": "hr", "unit": "/min", "hard": (0.0, 1.0), "loinc": ("3150-6",)}, "check digit"),
        ({"name": "hr", "unit": "/min", "hard": (0.0, 1.0), "accepts": {"/s": Conversion(0.0)}}, "factor other than 0"),
        ({"name": "hr", "unit": "/min", "hard": (0.0, 1.0), "accepts": {"/min": Conversion()}}, "must differ"),
    ],
)
def test_a_declaration_that_cannot_hold_is_refused(arguments: dict, words: str):
    with pytest.raises(ConfigError, match=words):
        Channel(**arguments)


def test_a_static_variable_has_categories_exactly_if_it_is_categorical():
    assert StaticVariable("sex", StaticKind.CATEGORICAL, categories=("female", "male")).categories[1] == "male"
    with pytest.raises(ConfigError, match="categories of sex"):
        StaticVariable("sex", StaticKind.CATEGORICAL)
    with pytest.raises(ConfigError, match="categories of age"):
        StaticVariable("age", categories=("young", "old"))


def test_a_static_variable_converts_from_accepted_units_alone():
    height = StaticVariable("height", unit="cm", accepts={"m": Conversion(100.0)})
    assert height.conversion("m") == Conversion(100.0)
    assert height.conversion("cm") == Conversion()
    assert height.conversion("km") is None
