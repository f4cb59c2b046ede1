"""What is written as TOML reads back as it was."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from pipelines.toml_text import to_toml

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT
VALUES = SCALARS | st.lists(SCALARS, max_size=4) | st.lists(st.dictionaries(TEXT, SCALARS, max_size=3), max_size=2)
TABLES = st.recursive(
    st.dictionaries(TEXT, VALUES, max_size=4),
    lambda inner: st.dictionaries(TEXT, VALUES | inner, max_size=4),
    max_leaves=8,
)


@given(TABLES)
def test_any_tables_read_back_the_same(tables):
    assert tomllib.loads(to_toml(tables)) == tables


def test_what_is_not_there_is_left_out_and_dates_stay_dates():
    tables = tomllib.loads("when = 2026-01-01T00:00:00Z\n[a.b]\nc = 1\n")
    assert tomllib.loads(to_toml({**tables, "nothing": None})) == tables
