"""Golden stays: synthetic stays with the scores that the model gave when it was saved, checked at every load."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from models.bundle import Bundle
from models.errors import ArtifactError
from models.intake import Columns, NoteColumns, build_stays
from models.stay import Stays

if TYPE_CHECKING:
    from models.scorer import Scorer

# Risks may differ by this much between engines and machines.
TOLERANCE = 1e-5
STAY_COUNT = 4
HOURS = 12
NOTE_TEXTS = ("Resting comfortably, tolerating diet.", "呼吸状態は安定している。")


def golden_stays(bundle: Bundle) -> dict[str, Any]:
    """Synthetic stays near the training means of the model's own channels, as plain values.

    The values come from a generator seeded by the model's name: no patient's data is in them.
    """
    rng = np.random.default_rng(zlib.crc32(bundle.name.encode()))
    return {"stays": [_golden_stay(bundle, rng, empty=i == 0) for i in range(STAY_COUNT)]}


def _golden_stay(bundle: Bundle, rng: np.random.Generator, *, empty: bool) -> dict[str, Any]:
    limits = {c.name: c.hard for c in bundle.channels}
    encoded = bundle.encoding.channels
    observations = []
    for index, name in enumerate(encoded.names if not empty else ()):
        times = np.unique(rng.integers(0, HOURS * 60, size=int(rng.integers(1, 6))))
        typical = encoded.standardiser.invert(np.full(len(times), index), rng.standard_normal(len(times)))
        values = np.clip(typical, *limits[name])
        observations += [[name, int(t), float(v)] for t, v in zip(times, values, strict=True)]
    static = {v.name: _golden_static(v, rng) for v in bundle.statics} if not empty else {}
    notes = [[60 * (i + 1), text] for i, text in enumerate(NOTE_TEXTS)] if bundle.notes and not empty else []
    return {"end_min": HOURS * 60, "observations": observations, "static": static, "notes": notes}


def _golden_static(variable: Any, rng: np.random.Generator) -> float:
    if variable.categories:
        return float(rng.integers(len(variable.categories)))
    low, high = variable.hard
    return float(rng.uniform(max(low, 0.0), min(high, 100.0)))


def stays_from_golden(golden: dict[str, Any], bundle: Bundle) -> Stays:
    """The golden stays as columns."""
    items = golden["stays"]
    names = tuple(c.name for c in bundle.channels)
    index = {name: i for i, name in enumerate(names)}
    rows = [(s, t, index[name], v) for s, item in enumerate(items) for name, t, v in item["observations"]]
    notes = [(s, t, text) for s, item in enumerate(items) for t, text in item["notes"]]
    static_names = tuple(v.name for v in bundle.statics)
    static = [[item["static"].get(name, np.nan) for name in static_names] for item in items]
    columns = Columns(
        stay=np.array([r[0] for r in rows], dtype=np.int64),
        time_min=np.array([r[1] for r in rows], dtype=np.int64),
        channel=np.array([r[2] for r in rows], dtype=np.int16),
        value=np.array([r[3] for r in rows], dtype=np.float64),
    )
    stays, _ = build_stays(
        stay_id=tuple(f"golden-{i}" for i in range(len(items))),
        end_min=np.array([item["end_min"] for item in items], dtype=np.int64),
        columns=columns,
        channels=names,
        static=np.array(static, dtype=np.float64).reshape(len(items), len(static_names)),
        static_names=static_names,
        notes=NoteColumns(
            stay=np.array([n[0] for n in notes], dtype=np.int64),
            time_min=np.array([n[1] for n in notes], dtype=np.int64),
            kind=["progress"] * len(notes),
            text=[n[2] for n in notes],
        ),
    )
    return stays


def with_scores(golden: dict[str, Any], scorer: Scorer) -> dict[str, Any]:
    """The golden stays with the risks that this scorer gives them at every time step."""
    scored = scorer.score(stays_from_golden(golden, scorer.bundle))
    return {**golden, "risk": scored.risk.tolist(), "time_min": scored.time_min.tolist()}


def check_golden(golden: dict[str, Any], scorer: Scorer) -> None:
    """Refuses a scorer that does not give the stored risks.

    Raises:
        ArtifactError: if a risk differs by more than 1e-5, or the time steps differ.
    """
    scored = scorer.score(stays_from_golden(golden, scorer.bundle))
    expected = np.array(golden["risk"], dtype=np.float64)
    if scored.time_min.tolist() != golden["time_min"] or scored.risk.shape != expected.shape:
        raise ArtifactError("golden scores must stand at the stored time steps, got others; train or fetch again")
    worst = float(np.max(np.abs(scored.risk - expected) / np.maximum(1.0, np.abs(expected))))
    if not worst <= TOLERANCE:
        raise ArtifactError(
            f"golden scores must hold within {TOLERANCE:g}, got a difference of {worst:g}; "
            "fetch the artifact again or check the installed torch"
        )
