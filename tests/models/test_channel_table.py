"""The declared channels: units, conversions, limits and codes."""

import numpy as np
import pytest

from models.channel_table import (
    CHANNELS,
    STATICS,
    _loinc_index,
    channel_by_loinc,
    channel_by_name,
    static_by_name,
)
from models.channels import Channel
from models.errors import ConfigError, DataError
from models.intake import canonical_values


def test_names_are_unique():
    assert len({c.name for c in CHANNELS}) == len(CHANNELS)
    assert len({s.name for s in STATICS}) == len(STATICS)


def test_every_code_finds_its_channel():
    codes = [(code, channel.name) for channel in CHANNELS for code in channel.loinc]
    assert len(codes) > 50
    assert all(channel_by_loinc(code).name == name for code, name in codes)


def test_one_code_in_two_channels_is_refused():
    twice = tuple(Channel(name, "1", (0.0, 1.0), ("8867-4",)) for name in ("one", "two"))
    with pytest.raises(ConfigError, match="8867-4 must belong to one channel, got one and two"):
        _loinc_index(twice)


def test_an_unknown_name_or_code_is_refused_without_an_echo():
    for look_up in (channel_by_name, channel_by_loinc, static_by_name):
        with pytest.raises(DataError) as error:
            look_up("Jane Doe")
        assert "Jane" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "unit", "given", "canonical"),
    [
        ("temperature", "[degF]", 98.6, 37.0),
        ("temperature", "[degF]", 32.0, 0.0),
        ("sbp", "kPa", 16.0, 120.01),
        ("spo2", "1", 0.97, 97.0),
        ("fio2", "1", 0.21, 21.0),
        ("creatinine", "umol/L", 88.4, 1.0),
        ("glucose", "mmol/L", 5.55, 100.0),
        ("lactate", "mg/dL", 18.0, 1.998),
        ("bilirubin_total", "umol/L", 17.1, 1.0),
        ("bun", "mmol/L", 7.14, 20.0),
        ("calcium", "mmol/L", 2.495, 10.0),
        ("phosphate", "mmol/L", 0.969, 3.0),
        ("magnesium", "mmol/L", 1.0, 2.4305),
        ("hemoglobin", "g/L", 140.0, 14.0),
        ("albumin", "g/L", 40.0, 4.0),
        ("crp", "mg/dL", 10.0, 100.0),
        ("potassium", "meq/L", 4.0, 4.0),
        ("platelets", "10*9/L", 200.0, 200.0),
        ("wbc", "/uL", 8000.0, 8.0),
        ("weight", "[lb_av]", 100.0, 45.359237),
        ("height", "[in_i]", 70.0, 177.8),
        ("troponin_t", "ng/L", 14.0, 0.014),
        ("urine_output", "L", 0.3, 300.0),
    ],
)
def test_an_accepted_unit_is_converted(name: str, unit: str, given: float, canonical: float):
    value, _ = canonical_values(channel_by_name(name), unit, np.array([given]))
    assert value[0] == pytest.approx(canonical, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "hard", "soft"),
    [
        ("heart_rate", (0, 390), (0, 300)),
        ("respiratory_rate", (0, 120), (0, 70)),
        ("spo2", (0, 100), (50, 100)),
        ("temperature", (10, 50), (32, 42)),
        ("fio2", (20, 110), (21, 100)),
        ("ph", (6.3, 10), (6.8, 8)),
        ("lactate", (0, 50), (0, 33)),
    ],
)
def test_hard_limits_are_the_widest_published_and_soft_the_narrowest(name: str, hard: tuple, soft: tuple):
    channel = channel_by_name(name)
    assert (channel.hard, channel.soft) == (hard, soft)
