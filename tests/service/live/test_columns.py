"""Columns of a stay's observations: folded by any model they give what the facts themselves give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ArtifactError
from service.batcher import Batcher
from service.live import columns as columns_module
from service.live.columns import Codes, Columns
from service.live.facts import Note, Observation, Profile, StayFacts
from service.live.refolding import Held, refolded
from service.live.session import Identifiers
from service.live.stepper import Stepper
from service.selection import Origin

UNITS = {"heart_rate": "/min", "sbp": "mm[Hg]", "temperature": "[degF]", "lactate": "mmol/L"}
TYPICAL = {"heart_rate": 90.0, "sbp": 120.0, "temperature": 99.0, "lactate": 2.0}
PROFILE = Profile(None, {"age": {"value": 63, "unit": "a"}, "sex": "female"})

observations = st.builds(
    lambda channel, part, minute, known, named: Observation(
        named, channel, None if part is None else TYPICAL[channel] * part, UNITS[channel], minute, minute + known
    ),
    st.sampled_from(sorted(UNITS)),
    st.sampled_from([0.8, 1.0, 1.1, 50.0, 1e300, None]),
    st.integers(-200, 600),
    st.sampled_from([0, 0, 45]),
    st.one_of(st.none(), st.uuids().map(str)),
)


@pytest.fixture(scope="module")
def steppers(scorers):
    inference = Batcher(max_waiting=64)
    yield {name: Stepper(scorer, Origin(), inference) for name, scorer in scorers.items()}
    inference.close()


def facts_of(said):
    facts = StayFacts(profile=PROFILE)
    facts.add(said)
    return facts


def columns_of(codes, facts):
    return Held(bytes(Columns.of(codes, facts).rows), facts.profile)


def assert_same(got, expected, stepper):
    for name in ("committed", "open", "readings", "charted", "end_min", "seen"):
        assert getattr(got, name) == getattr(expected, name), name
    join = stepper.live.layout.join
    for field in stepper.live.layout.dtype.names:
        mine, its = join([got.state])[field], join([expected.state])[field]
        if mine.dtype.kind == "f":
            np.testing.assert_allclose(mine, its, atol=1e-6)
        else:
            np.testing.assert_array_equal(mine, its)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(observations, max_size=12), min_size=1, max_size=5))
def test_columns_of_many_stays_fold_as_each_stay_s_facts_do(steppers, said):
    codes, stays = Codes(), [facts_of(one) for one in said]
    for stepper in steppers.values():
        got = refolded(stepper, [columns_of(codes, facts) for facts in stays], codes)
        for fold, facts in zip(got, stays, strict=True):
            assert_same(fold, stepper.folds([facts])[0], stepper)


@settings(max_examples=60, deadline=None)
@given(st.lists(observations, max_size=12), st.data())
def test_columns_survive_their_bytes_in_a_process_that_numbers_otherwise(said, data):
    facts = facts_of(said)
    if facts.held and data.draw(st.booleans()):
        facts.withdraw(next(iter(facts.held)))
    columns = Columns.of(Codes(), facts)
    other = Codes()
    other.number("lactate", "mg/dL")
    back = Columns.from_plain(other, *columns.to_plain())
    read = [
        [(int(m), c.pairs[int(k)], float(v)) for m, k, v in np.frombuffer(bytes(rows), "<i4,<u2,<f8")]
        for one, c in ((columns, columns.codes), (back, other))
        for rows in (one.rows, one.gone)
    ]
    assert read[:2] == read[2:]
    assert back.whole == columns.whole


def test_what_may_have_been_said_is_never_called_new():
    codes, one = Codes(), Observation(None, "sbp", 120.0, "mm[Hg]", 60, 60)
    facts = facts_of([one, one._replace(time_min=90, known_min=90)])
    facts.withdraw(one.identifier)
    columns = Columns.of(codes, facts)
    assert columns.may_hold([one])
    assert columns.may_hold([one._replace(time_min=30, known_min=90)])
    assert not columns.may_hold([one._replace(value=121.0), one._replace(time_min=61, known_min=61)])
    assert columns.may_hold([one], withdrawn_only=True)
    assert not columns.may_hold([one._replace(time_min=90, known_min=90)], withdrawn_only=True)
    columns.add([Note(None, "note", "text", 0, 0)])
    assert not columns.whole
    assert not columns.may_hold([one._replace(value=121.0)])


def test_a_channel_that_the_full_table_has_no_number_for_may_have_been_said(monkeypatch):
    monkeypatch.setattr(columns_module, "MOST_CODES", 1)
    sbp, lactate = Observation(None, "sbp", 120.0, "mm[Hg]", 0, 0), Observation(None, "lactate", 2.0, "mmol/L", 0, 0)
    columns = Columns.of(Codes(), facts_of([sbp, lactate]))
    assert not columns.whole
    assert columns.may_hold([lactate])
    assert not columns.may_hold([sbp._replace(value=121.0)])


def test_bytes_that_are_no_columns_are_refused():
    head, content = Columns.of(Codes(), facts_of([Observation(None, "sbp", 1.0, "mm[Hg]", 0, 0)])).to_plain()
    with pytest.raises(ArtifactError, match="columns must name"):
        Columns.from_plain(Codes(), {**head, "pairs": []}, content)


@pytest.mark.parametrize("count", [3, 600], ids=["few", "many"])
def test_a_listed_identifier_is_never_called_new(count):
    facts = [Observation(f"id-{i}", "sbp", 120.0, "mm[Hg]", i, i) for i in range(count)]
    facts += [Note(None, "note", "text", 0, 0), Observation(None, "sbp", None, "mm[Hg]", 0, 0)]
    identifiers = Identifiers()
    identifiers.add(facts)
    assert all(identifiers.may_hold([fact]) for fact in facts)
    assert not identifiers.may_hold([Observation("other", "sbp", 120.0, "mm[Hg]", 0, 0)])
    assert not identifiers.may_hold([Observation(None, "sbp", 120.0, "mm[Hg]", 0, 0)])
