"""Columns of stays: lengths are checked, selection keeps what belongs together."""

import numpy as np
import pytest

from models.errors import DataError
from models.stay import Stays, gather_ragged


def three_stays() -> Stays:
    return Stays(
        stay_id=("a", "b", "c"),
        end_min=np.array([60, 120, 0]),
        offsets=np.array([0, 2, 3, 3]),
        time_min=np.array([0, 10, 5]),
        channel=np.array([0, 1, 0], dtype=np.int16),
        value=np.array([80.0, 98.0, 90.0]),
        channels=("heart_rate", "spo2"),
        static=np.array([[50.0], [60.0], [np.nan]]),
        static_names=("age",),
        note_offsets=np.array([0, 0, 1, 1]),
        note_time_min=np.array([7]),
        note_kind=("nursing",),
        note_text=("calm",),
    )


def test_selected_stays_keep_their_observations_notes_and_statics():
    chosen = three_stays().select([1, 2, 0])
    assert chosen.stay_id == ("b", "c", "a")
    assert chosen.offsets.tolist() == [0, 1, 1, 3]
    assert chosen.value.tolist() == [90.0, 80.0, 98.0]
    assert chosen.note_offsets.tolist() == [0, 1, 1, 1]
    assert chosen.note_text == ("calm",)
    assert chosen.static[0, 0] == 60.0


def test_rows_know_their_stay():
    assert three_stays().stay_of_row().tolist() == [0, 0, 1]
    assert three_stays().stay_of_note().tolist() == [1]


def test_gathering_no_group_gives_no_row():
    rows, offsets = gather_ragged(np.array([0, 2, 5]), np.array([], dtype=np.int64))
    assert rows.tolist() == []
    assert offsets.tolist() == [0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("end_min", np.array([1])),
        ("value", np.array([1.0])),
        ("static", np.zeros((3, 2))),
        ("offsets", np.array([0, 2, 3, 4])),
        ("note_text", ()),
    ],
)
def test_columns_that_do_not_fit_are_refused(name, value):
    stays = three_stays()
    fields = {f: getattr(stays, f) for f in stays.__dataclass_fields__} | {name: value}
    with pytest.raises(DataError, match="must"):
        Stays(**fields)
