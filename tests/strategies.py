"""Hypothesis strategies for stays: raw facts in any order, and the `Stays` that they make."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from models.channels import StaticKind, StaticVariable
from models.intake import Columns, NoteColumns, build_stays
from models.stay import Stays

CHANNELS = ("heart_rate", "lactate", "glucose")
STATICS = (
    StaticVariable("age", unit="a"),
    StaticVariable("sex", StaticKind.CATEGORICAL, categories=("female", "male")),
)
EARLIEST, LATEST = -600, 2880


@dataclass(frozen=True)
class Fact:
    """One observation before it is sorted into a stay."""

    stay: int
    time_min: int
    channel: int
    value: float


@dataclass(frozen=True)
class NoteFact:
    """One note before it is sorted into a stay."""

    stay: int
    time_min: int
    text: str


@dataclass(frozen=True)
class Facts:
    """What is known of `count` stays, in any order of arrival."""

    count: int
    end_min: tuple[int, ...]
    rows: tuple[Fact, ...]
    static: tuple[tuple[float, float], ...]
    notes: tuple[NoteFact, ...] = ()

    def stays(self) -> Stays:
        """The facts as columns."""
        return build_stays(
            stay_id=[f"stay{i}" for i in range(self.count)],
            end_min=np.array(self.end_min, dtype=np.int64),
            columns=Columns(
                stay=np.array([r.stay for r in self.rows], dtype=np.int64),
                time_min=np.array([r.time_min for r in self.rows], dtype=np.int64),
                channel=np.array([r.channel for r in self.rows], dtype=np.int16),
                value=np.array([r.value for r in self.rows], dtype=np.float64),
            ),
            channels=CHANNELS,
            static=np.array(self.static, dtype=np.float64).reshape(self.count, len(STATICS)),
            static_names=tuple(s.name for s in STATICS),
            notes=NoteColumns(
                stay=np.array([n.stay for n in self.notes], dtype=np.int64),
                time_min=np.array([n.time_min for n in self.notes], dtype=np.int64),
                kind=["nursing"] * len(self.notes),
                text=[n.text for n in self.notes],
            ),
        )[0]

    def reordered(self, rows: Sequence[Fact]) -> "Facts":
        """The same stays with other rows."""
        return replace(self, rows=tuple(rows))


# Whole minutes close together make equal times, equal values and shared bins likely; the ends are likely too.
minutes = st.one_of(st.integers(EARLIEST, LATEST), st.integers(-3, 130), st.sampled_from([0, 59, 60, 61, LATEST]))
values = st.one_of(
    st.floats(-50, 500, allow_nan=False, width=32),
    st.sampled_from([0.0, 1.0, 80.0, 1e6]),
    st.integers(0, 200).map(float),
)
texts = st.text(min_size=0, max_size=20)


@st.composite
def facts(draw, *, min_stays: int = 1, max_stays: int = 4, max_rows: int = 40, notes: bool = False) -> Facts:
    """Facts of a few stays; some have no observation at all, some history before admission only."""
    count = draw(st.integers(min_stays, max_stays))
    which = st.integers(0, count - 1) if count else st.nothing()
    row = st.builds(Fact, which, minutes, st.integers(0, len(CHANNELS) - 1), values)
    rows = draw(st.lists(row, max_size=max_rows if count else 0))
    note = st.builds(NoteFact, which, minutes, texts)
    written = draw(st.lists(note, max_size=6 if notes and count else 0))
    latest = [0] * count
    for item in [*rows, *written]:
        latest[item.stay] = max(latest[item.stay], item.time_min)
    extra = draw(st.lists(st.sampled_from([0, 0, 1, 59, 60, 600]), min_size=count, max_size=count))
    static = st.tuples(st.one_of(st.floats(0, 100), st.just(float("nan"))), st.sampled_from([0.0, 1.0, float("nan")]))
    return Facts(
        count=count,
        end_min=tuple(a + b for a, b in zip(latest, extra, strict=True)),
        rows=tuple(rows),
        static=tuple(draw(st.lists(static, min_size=count, max_size=count))),
        notes=tuple(written),
    )


def stays(**choices) -> st.SearchStrategy[Stays]:
    """`Stays` of a few stays; takes the choices of `facts`."""
    return facts(**choices).map(Facts.stays)
