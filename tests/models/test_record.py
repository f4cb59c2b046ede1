"""Records survive the way to plain values and back, and refuse what does not fit."""

import json
from dataclasses import dataclass, field

import pytest

from models.channels import Channel, Conversion
from models.errors import ConfigError
from models.record import from_plain, to_plain
from models.task import LabelScope, TaskSpec


@dataclass(frozen=True)
class Outer:
    task: TaskSpec
    rate: float = 1.0
    count: int = 1
    limit: tuple[float, float] | None = None
    table: dict[str, Conversion] = field(default_factory=dict)


def test_a_nested_record_survives_json():
    record = Outer(TaskSpec("death", scope=LabelScope.STEP, horizons_h=(6.0, 12.0)), limit=(0.0, 1.0))
    assert from_plain(Outer, json.loads(json.dumps(to_plain(record))), where="outer") == record


def test_a_channel_with_conversions_survives_json():
    channel = Channel("temperature", "Cel", (10.0, 50.0), accepts={"[degF]": Conversion(5 / 9, -160 / 9)})
    assert from_plain(Channel, json.loads(json.dumps(to_plain(channel))), where="channel") == channel


def test_an_integer_is_taken_where_a_float_is_meant():
    value = from_plain(Outer, {"task": {"outcome": "death"}, "rate": 2}, where="outer").rate
    assert value == 2.0
    assert isinstance(value, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"task": {"outcome": "death"}, "colour": 1}, "outer must hold only the keys .* got colour"),
        ({}, "outer must hold task"),
        ({"task": {"outcome": "death", "kind": "ternary"}}, "outer.task.kind must be one of binary"),
        ({"task": {"outcome": "death"}, "count": True}, "outer.count must be of type int, got bool"),
        ({"task": {"outcome": "death"}, "count": 1.5}, "outer.count must be of type int, got float"),
        ({"task": {"outcome": "death"}, "limit": [1.0]}, "outer.limit must be a list of 2"),
        ({"task": "death"}, "outer.task must be a table"),
        ({"task": {"outcome": "death"}, "table": {"m": {"factor": "x"}}}, "outer.table.m.factor must be of type float"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_path(data, message):
    with pytest.raises(ConfigError, match=message):
        from_plain(Outer, data, where="outer")
