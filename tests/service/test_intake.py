import json
import math
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.encoding import EncodingConfig
from models.grid import GridKind
from models.stay import Stays
from service.errors import Problem
from service.intake import Intake
from service.schema_answers import InputRef
from service.score_body import read_score
from service.settings import Settings
from service.vocabulary import Vocabulary

NOW = datetime(2026, 2, 1, 12, 0, tzinfo=UTC)


class Read(NamedTuple):
    """A request's account, and the stay that is scored."""

    stays: Stays
    rejected: tuple[InputRef, ...]
    flagged: tuple[InputRef, ...]
    unused: tuple[str, ...]
    never_observed: tuple[str, ...]


def read_body(intake, body, now=None):
    one = intake.read(read_score(json.dumps(body).encode(), known=frozenset()), now=now)
    return Read(intake.stays([one]), one.rejected, one.flagged, one.unused, one.never_observed)


@pytest.fixture(scope="module")
def intake(scorer):
    return Intake(Vocabulary.of(scorer.bundle), scorer.bundle, Settings())


@pytest.fixture(scope="module")
def read(intake):
    return lambda **body: read_body(intake, body, NOW)


@pytest.fixture(scope="module")
def refuse(read):
    def refuse(**body):
        with pytest.raises(Problem) as caught:
            read(**body)
        assert caught.value.status_code == 422
        return [tuple(place.loc) for place in caught.value.places]

    return refuse


def heart_rate(time_h=1.0, value=90.0, unit="/min", **more):
    return {"channel": "heart_rate", "time_h": time_h, "value": value, "unit": unit, **more}


def rows(stays):
    return [
        (stays.channels[c], int(t), v)
        for c, t, v in zip(stays.channel.tolist(), stays.time_min.tolist(), stays.value.tolist(), strict=True)
    ]


def test_units_are_converted_and_channels_found_by_loinc(read):
    stay = read(
        observations=[
            {"channel": "loinc:8310-5", "time_h": 0.5, "value": 100.4, "unit": "[degF]"},
            {"channel": "sbp", "time_h": 1.0, "value": 16.0, "unit": "kPa"},
        ]
    )
    (first, minute, celsius), (second, _, pressure) = rows(stay.stays)
    assert (first, minute, second) == ("temperature", 30, "sbp")
    assert math.isclose(celsius, 38.0)
    assert math.isclose(pressure, 16.0 * 7.50062)


def test_a_stay_without_anything_has_an_end_at_admission(read):
    stay = read()
    assert stay.stays.end_min.tolist() == [0]
    assert stay.never_observed == ("heart_rate", "sbp", "temperature", "lactate")


def test_the_end_is_the_last_usable_input_unless_given(read):
    late_but_missing = heart_rate(time_h=9.0, value=None)
    assert read(observations=[heart_rate(2.0), late_but_missing]).stays.end_min.tolist() == [120]
    assert read(observations=[heart_rate(2.0)], notes=[{"time_h": 3, "text": "x"}]).stays.end_min.tolist() == [180]
    assert read(observations=[heart_rate(2.0)], as_of_h=5.0).stays.end_min.tolist() == [300]
    assert read(observations=[heart_rate(-2.0)]).stays.end_min.tolist() == [0]


def test_null_is_counted_as_missing_and_never_becomes_a_value(read):
    stay = read(observations=[heart_rate(value=None), heart_rate(2.0)])
    assert [(r.input, r.index, r.reason) for r in stay.rejected] == [("observation", 0, "missing")]
    assert len(rows(stay.stays)) == 1


@pytest.mark.parametrize("value", [-1.0, 391.0, 1e308, -1e308])
def test_a_value_outside_hard_limits_is_rejected_and_counted(read, value):
    stay = read(observations=[heart_rate(value=value)])
    assert [(r.index, r.reason) for r in stay.rejected] == [(0, "outside_hard_limits")]
    assert rows(stay.stays) == []


@pytest.mark.parametrize(("channel", "unit"), [("sbp", "kPa"), ("temperature", "[degF]"), ("spo2", "1")])
def test_a_value_that_overflows_in_conversion_is_rejected_without_a_warning(read, channel, unit):
    stay = read(observations=[{"channel": channel, "time_h": 0, "value": 1.7e308, "unit": unit}])
    assert [r.reason for r in stay.rejected] == ["outside_hard_limits"]


def test_a_value_outside_soft_limits_is_kept_and_flagged(read):
    stay = read(observations=[heart_rate(value=310.0)])
    assert [(f.index, f.reason) for f in stay.flagged] == [(0, "outside_soft_limits")]
    assert len(rows(stay.stays)) == 1


def test_the_same_fact_twice_counts_once(read):
    stay = read(observations=[heart_rate(), heart_rate(), heart_rate(value=91.0)])
    assert [(r.index, r.reason) for r in stay.rejected] == [(1, "duplicate")]
    assert len(rows(stay.stays)) == 2


def test_the_same_note_twice_counts_once(read):
    note = {"time_h": 1, "kind": "progress", "text": "stable"}
    stay = read(notes=[note, note, {**note, "kind": "nursing"}])
    assert [(r.input, r.index, r.reason) for r in stay.rejected] == [("note", 1, "duplicate")]
    assert len(stay.stays.note_text) == 2


def test_what_becomes_known_after_the_end_is_rejected(read):
    stay = read(
        as_of_h=2.0,
        observations=[heart_rate(1.0), heart_rate(3.0), heart_rate(1.5, available_time_h=2.5)],
        notes=[{"time_h": 2.1, "text": "later"}],
    )
    assert [(r.input, r.index, r.reason) for r in stay.rejected] == [
        ("observation", 1, "after_end"),
        ("observation", 2, "after_end"),
        ("note", 0, "after_end"),
    ]


def test_nothing_enters_before_it_was_available(read):
    stay = read(observations=[heart_rate(1.0, available_time_h=4.0), heart_rate(2.0, available_time_h=1.0)])
    assert [minute for _, minute, _ in rows(stay.stays)] == [120, 240]


def test_a_known_channel_that_the_model_does_not_read_is_reported_as_unused(read):
    stay = read(
        observations=[
            {"channel": "glucose", "time_h": 0, "value": 100, "unit": "mg/dL"},
            {"channel": "bed_angle", "time_h": 0, "value": 30, "unit": "deg"},
        ],
        static={"height": {"value": 170, "unit": "cm"}},
    )
    assert stay.unused == ("bed_angle", "glucose", "height")
    assert stay.rejected == ()


def test_static_values_become_numbers_and_category_indices(read):
    stay = read(static={"age": {"value": 63, "unit": "a"}, "sex": "male"})
    values = dict(zip(stay.stays.static_names, stay.stays.static[0].tolist(), strict=True))
    assert (values["age"], values["sex"]) == (63.0, 1.0)
    assert math.isnan(values["height"])


def test_missing_and_impossible_static_values_are_rejected_by_name(read):
    stay = read(static={"age": {"value": 1000, "unit": "a"}, "sex": None, "height": {"value": None, "unit": "cm"}})
    assert {(r.name, r.reason) for r in stay.rejected} == {
        ("age", "outside_hard_limits"),
        ("sex", "missing"),
        ("height", "missing"),
    }


def test_unknown_names_and_units_are_refused_by_place(refuse):
    assert refuse(observations=[heart_rate(), {**heart_rate(), "channel": "pulse"}]) == [("observations", 1, "channel")]
    assert refuse(observations=[{**heart_rate(), "channel": "loinc:3150-6"}]) == [("observations", 0, "channel")]
    assert refuse(observations=[heart_rate(unit="Hz")]) == [("observations", 0, "unit")]
    assert refuse(static={"shoe_size": {"value": 9, "unit": "1"}}) == [("static", "*")]
    assert refuse(static={"age": {"value": 9, "unit": "mo?"}}) == [("static", "age", "unit")]
    assert refuse(static={"age": "nine"}) == [("static", "age")]
    assert refuse(static={"sex": "unknown"}) == [("static", "sex")]


def test_all_wrong_places_are_named_at_once(refuse):
    assert (
        refuse(observations=[heart_rate(unit="Hz"), {**heart_rate(), "channel": "pulse"}], as_of_h=1e6, static={}) != []
    )
    assert len(refuse(observations=[{**heart_rate(), "channel": "x"}, heart_rate(unit="Hz")])) == 2


def test_one_identifier_for_two_facts_is_refused_and_for_one_fact_is_a_repeat(read, refuse):
    same = heart_rate(observation_id="a")
    assert refuse(observations=[same, heart_rate(value=91.0, observation_id="a")]) == [
        ("observations", 1, "observation_id")
    ]
    assert [r.reason for r in read(observations=[same, same]).rejected] == ["duplicate"]


def test_absolute_times_need_admission_and_may_not_be_in_the_future(read, refuse):
    admission = NOW - timedelta(hours=5)
    seen = {"channel": "heart_rate", "value": 90, "unit": "/min"}
    assert refuse(observations=[{**seen, "time": NOW.isoformat()}]) == [("observations", 0, "time")]
    late = (NOW + timedelta(minutes=6)).isoformat()
    assert refuse(admission=admission.isoformat(), observations=[{**seen, "time": late}]) == [
        ("observations", 0, "time")
    ]
    assert refuse(admission=admission.isoformat(), as_of=late) == [("as_of",)]
    assert refuse(admission=late) == [("admission",)]
    assert refuse(admission=admission.isoformat(), as_of=(admission - timedelta(hours=1)).isoformat()) == [("as_of",)]
    available = {**seen, "time": admission.isoformat(), "available_time": late}
    assert refuse(admission=admission.isoformat(), observations=[available]) == [("observations", 0, "available_time")]
    stay = read(
        admission=admission.isoformat(), observations=[{**seen, "time": (NOW + timedelta(minutes=4)).isoformat()}]
    )
    assert rows(stay.stays) == [("heart_rate", 304, 90.0)]


def test_counts_and_lengths_are_limited(scorer):
    settings = Settings(max_observations=1, max_notes=1, max_note_chars=3)
    intake = Intake(Vocabulary.of(scorer.bundle), scorer.bundle, settings)
    notes = [{"time_h": 0, "text": "long"}, {"time_h": 0, "text": "ok"}]
    with pytest.raises(Problem) as caught:
        read_body(intake, {"observations": [heart_rate()] * 2, "notes": notes})
    assert [tuple(p.loc) for p in caught.value.places] == [("observations",), ("notes",), ("notes", 0, "text")]


def test_a_far_end_on_a_fixed_grid_is_refused_before_it_fills_the_memory(make_artifact, tmp_path):
    from models.artifact import load_artifact

    config = EncodingConfig(grid=GridKind.FIXED, width_h=1.0)
    bundle = load_artifact(make_artifact(tmp_path / "fixed", encoding=config)).bundle
    with pytest.raises(Problem) as caught:
        read_body(Intake(Vocabulary.of(bundle), bundle, Settings()), {"as_of_h": 900_000.0})
    assert [tuple(p.loc) for p in caught.value.places] == [("as_of",)]


@given(st.permutations(range(8)))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_in_which_observations_arrive_does_not_change_the_stay(intake, order):
    body = [heart_rate(h / 2, 80.0 + h % 3) for h in range(6)] + [heart_rate(1.0, 200.0), heart_rate(1.0, 80.0)]
    first, second = (read_body(intake, {"observations": [body[i] for i in at]}) for at in (range(8), order))
    assert rows(first.stays) == rows(second.stays)
