"""The body of a score as plain dictionaries: what the published schema accepts, and nothing else."""

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.clock import Clock, TimeRefusedError, moment
from service.errors import Problem
from service.schema import ScoreRequest
from service.score_body import read_score
from service.times import Times

TWO = st.integers(0, 99).map("{:02d}".format)
WRITTEN = st.builds(
    "{}-{}-{}{}{}:{}:{}{}{}".format,
    st.sampled_from(["2026", "0000", "1999"]),
    st.one_of(TWO, st.just("02")),
    st.one_of(TWO, st.just("28")),
    st.sampled_from(["T", "t", " "]),
    st.one_of(TWO, st.just("10")),
    st.one_of(TWO, st.just("59")),
    st.one_of(TWO, st.just("60")),
    st.sampled_from(["", ".5", ".123456789", "."]),
    st.sampled_from(["Z", "z", "+09:00", "-23:59", "+23:60", "+10:75", "+24:00", "", "+0900"]),
)
NUMBERS = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.none(), st.just("90"))
ITEM = st.fixed_dictionaries(
    {
        "channel": st.sampled_from(["heart_rate", "", "x" * 101, 3]),
        "value": NUMBERS,
        "unit": st.sampled_from(["/min", ""]),
    },
    optional={
        "time": st.one_of(WRITTEN, st.none()),
        "time_h": NUMBERS,
        "available_time": WRITTEN,
        "available_time_h": NUMBERS,
        "observation_id": st.sampled_from(["a", "", None, "x" * 201]),
        "else": st.just(1),
    },
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "stay_id": st.sampled_from(["a", "", None, 1]),
        "admission": st.one_of(WRITTEN, st.none()),
        "as_of": WRITTEN,
        "as_of_h": NUMBERS,
        "observations": st.lists(ITEM, max_size=2),
        "static": st.dictionaries(
            st.sampled_from(["age", "sex"]), st.sampled_from(["female", None, 3, {"value": 1, "unit": "a"}])
        ),
        "trajectory": st.sampled_from([True, False, 1, "yes"]),
        "disclaimer_language": st.sampled_from(["en", "ja", "de"]),
        "else": st.just(1),
    },
)


def holds(body: dict) -> bool:
    """Whether the form of a body holds, and its times exist and are given as they may be."""
    try:
        request = read_score(json.dumps(body).encode(), known=frozenset())
        for name in ("admission", "as_of"):
            moment(request.get(name))
    except (Problem, TimeRefusedError):
        return False
    if request.get("as_of") is not None and request.get("as_of_h") is not None:
        return False
    for item in request.get("observations", ()):
        try:
            for name in ("time", "available_time"):
                moment(item.get(name))
        except TimeRefusedError:
            return False
        given = [item.get(name) is not None for name in ("time", "time_h", "available_time", "available_time_h")]
        if given[0] == given[1] or (given[2] and given[3]):
            return False
    return True


@given(BODIES)
@hypothesis_settings(max_examples=400, deadline=None)
def test_both_forms_of_the_schema_accept_the_same_bodies(body):
    try:
        ScoreRequest.model_validate(json.loads(json.dumps(body)))
        accepted = True
    except ValidationError:
        accepted = False
    assert holds(body) == accepted


@given(WRITTEN)
def test_a_time_means_the_same_in_both(written):
    try:
        expected = ScoreRequest.model_validate({"admission": written}).admission
    except ValidationError:
        return
    assert moment(read_score(json.dumps({"admission": written}).encode(), known=frozenset())["admission"]) == expected


def test_a_refusal_is_in_the_words_of_the_published_schema():
    with pytest.raises(Problem) as caught:
        read_score(b'{"admission": "yesterday", "name": 1}', known=frozenset({"admission"}))
    assert [(tuple(place.loc), place.msg) for place in caught.value.places] == [
        (("admission",), "must be an RFC 3339 time with an offset, such as 2026-01-31T08:05:00+09:00"),
        (("*",), "Extra inputs are not permitted"),
    ]


ADMISSION = datetime.fromisoformat("2026-01-31T08:00:00+09:00")
CLOCK = Clock(ADMISSION, datetime.fromisoformat("2026-02-01T08:00:00+09:00"))
TIMES = st.fixed_dictionaries(
    {},
    optional={
        "time": st.sampled_from(
            ["2026-01-31T08:05:00+09:00", "2026-01-31T00:00:00Z", "2026-03-01T08:05:00Z", "2026-02-30T08:05:00Z"]
        ),
        "time_h": st.sampled_from([0.5, 1.0, 900.0, None]),
        "available_time": st.sampled_from(["2026-01-31T09:05:00+09:00", None]),
        "available_time_h": st.sampled_from([0.1, 2.0]),
    },
)


@given(
    st.one_of(st.lists(TIMES, max_size=6), st.lists(st.builds(lambda h: {"time_h": h}, st.floats(-10, 30)), max_size=6))
)
def test_many_times_are_read_as_each_for_itself(items):
    places, expected_places = [], []
    found = Times(CLOCK).known("observations", items, places)
    expected = [Times(CLOCK).of(("observations", i), item, expected_places).known for i, item in enumerate(items)]
    assert (found, places) == (expected, expected_places)
