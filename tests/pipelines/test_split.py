"""The split is by patient, keyed, and stable while a cohort grows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ConfigError, DataError
from pipelines.split import Part, SplitConfig, assert_disjoint, patient_fraction, split_patients

PATIENTS = [f"p{i % 400}" for i in range(1000)]


def test_every_stay_is_in_exactly_one_part():
    parts = split_patients(PATIENTS, SplitConfig())
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(1000))


def test_all_stays_of_a_patient_are_in_one_part():
    parts = split_patients(PATIENTS, SplitConfig())
    part_of = {stay: part for part, stays in parts.items() for stay in stays.tolist()}
    for patient in set(PATIENTS):
        assert len({part_of[i] for i, p in enumerate(PATIENTS) if p == patient}) == 1


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_patients_fraction_depends_on_key_and_patient_alone(key, patient):
    assert patient_fraction(key, patient) == patient_fraction(key, patient)
    assert 0.0 <= patient_fraction(key, patient) < 1.0


def test_a_grown_cohort_keeps_every_patients_part():
    before = split_patients(PATIENTS, SplitConfig())
    after = split_patients(PATIENTS + [f"new{i}" for i in range(500)], SplitConfig())
    assert all(set(before[part].tolist()) <= set(after[part].tolist()) for part in Part)


def test_another_key_is_another_split():
    one, other = (split_patients(PATIENTS, SplitConfig(key=k)) for k in ("one", "other"))
    assert one[Part.TEST].tolist() != other[Part.TEST].tolist()


def test_parts_hold_about_their_shares():
    many = [str(i) for i in range(20_000)]
    parts = split_patients(many, SplitConfig(train=0.6, validation=0.2, calibration=0.1, test=0.1))
    assert [round(len(parts[p]) / 20_000, 1) for p in Part] == [0.6, 0.2, 0.1, 0.1]


def test_shares_that_do_not_add_up_are_refused():
    with pytest.raises(ConfigError, match="add up to 1"):
        SplitConfig(train=0.9)


def test_a_split_without_a_hold_out_is_refused():
    with pytest.raises(ConfigError, match="above 0"):
        SplitConfig(train=0.8, validation=0.1, calibration=0.1, test=0.0)


def test_too_few_patients_are_refused():
    with pytest.raises(DataError, match="enough patients"):
        split_patients(["a"], SplitConfig())


def test_parts_that_share_a_patient_are_refused():
    with pytest.raises(DataError, match="share a patient"):
        assert_disjoint(["a", "a"], {Part.TRAIN: np.array([0]), Part.TEST: np.array([1])})
