"""Prepared cohorts in, the ways out in which stays are divided into those learnt from and those judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from models.stay import Floats, Ints
from pipelines.cohort import Cohort, concat_cohorts, make_cohort, read_cohort
from pipelines.config import RunConfig
from pipelines.dataset import part_indices
from pipelines.prepare import prepare
from pipelines.split import Part, patient_fraction

UNIT = "unit_2019"


@dataclass(frozen=True)
class Division:
    """Which stays a model learns from, and on which it is judged.

    Args:
        name: what a table calls it.
        cohorts: folders of prepared cohorts; all of them together are one.
        learn: positions of the stays that a training is given; it splits them by patient as its configuration says.
        judge: positions of the stays that it is judged on; None: the hold-out of its own split.
        without: static variables that no model is shown.
        fold_of: name of the division whose folds are judged together; empty where this is none of several.
    """

    name: str
    cohorts: tuple[Path, ...]
    learn: Ints
    judge: Ints | None = None
    without: tuple[str, ...] = ()
    fold_of: str = ""

    @property
    def whole(self) -> Cohort:
        """Every stay."""
        return _whole(self.cohorts, self.without)

    @property
    def learnt(self) -> Cohort:
        """The stays that a training is given, as a cohort of their own."""
        return subset(self.whole, self.learn)

    def parts(self, config: RunConfig) -> dict[Part, Ints]:
        """Positions of the stays of every part; the judged ones are the hold-out."""
        found = {part: self.learn[index] for part, index in part_indices(self.learnt, config).items()}
        return found if self.judge is None else found | {Part.TEST: self.judge}


@cache
def _whole(cohorts: tuple[Path, ...], without: tuple[str, ...]) -> Cohort:
    return _without(concat_cohorts([read_cohort(path) for path in cohorts]), without)


def subset(cohort: Cohort, index: Ints) -> Cohort:
    """The stays at these positions, in this order, with their outcomes."""
    if np.array_equal(index, np.arange(len(cohort.stays))):
        return cohort
    place = np.full(len(cohort.stays), -1, dtype=np.int64)
    place[index] = np.arange(len(index))
    known = cohort.outcome_rows
    kept = place[known.stay] >= 0
    return make_cohort(
        stays=cohort.stays.select(index),
        patient_id=[cohort.patient_id[i] for i in index],
        outcomes=replace(
            known,
            stay=place[known.stay][kept],
            code=known.code[kept],
            time_min=known.time_min[kept],
            value=known.value[kept],
        ),
        channels=cohort.channels,
        statics=cohort.statics,
        source=cohort.source,
        licence=cohort.licence,
    )


def prepared(folder: Path, data: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The cohorts of these names (`2012a`, `2012b`, `2019a`), prepared once."""
    return tuple(_prepared(folder / name, data) for name in names)


def both_ways(a: Path, b: Path) -> list[Division]:
    """Learn from all of one cohort, be judged on all of the other, and the reverse."""
    count = len(_whole((a,), ()).stays)
    total = len(_whole((a, b), ()).stays)
    first, second = np.arange(count, dtype=np.int64), np.arange(count, total, dtype=np.int64)
    return [
        Division("train a, test b", (a, b), first, second),
        Division("train b, test a", (a, b), second, first),
    ]


def in_folds(cohorts: tuple[Path, ...], number: int, key: str) -> list[Division]:
    """Be judged on every fold of the patients, having learnt from the others."""
    cohort, name = _whole(cohorts, ()), f"a and b, {number} folds"
    fraction = {p: patient_fraction(key, p) for p in set(cohort.patient_id)}
    fold = np.array([int(fraction[p] * number) for p in cohort.patient_id], dtype=np.int64)
    return [
        Division(f"{name}, fold {k + 1}", cohorts, np.flatnonzero(fold != k), np.flatnonzero(fold == k), fold_of=name)
        for k in range(number)
    ]


def held_out(cohorts: tuple[Path, ...], key: str) -> Division:
    """Be judged on the split's own hold-out."""
    learn = np.arange(len(_whole(cohorts, ()).stays), dtype=np.int64)
    return Division(f"hold-out, key {key}", cohorts, learn)


def across_units(cohorts: tuple[Path, ...]) -> list[Division]:
    """Learn from the stays of one type of unit, be judged on those of the other: a stand-in for another hospital.

    No model is shown the type, which would be an input that never varied in training. Stays of unknown type are
    left out.
    """
    whole = _whole(cohorts, ())
    (declared,) = [s for s in whole.statics if s.name == UNIT]
    unit: Floats = whole.stays.static[:, whole.stays.static_names.index(UNIT)]
    stays = {name: np.flatnonzero(unit == k) for k, name in enumerate(declared.categories)}
    return [
        Division(f"train {learn}, test {judge}", cohorts, stays[learn], stays[judge], without=(UNIT,))
        for learn, judge in (tuple(stays), tuple(reversed(stays)))
    ]


def _without(cohort: Cohort, names: tuple[str, ...]) -> Cohort:
    kept = [k for k, name in enumerate(cohort.stays.static_names) if name not in names]
    if len(kept) == len(cohort.statics):
        return cohort
    statics = tuple(cohort.statics[k] for k in kept)
    stays = replace(cohort.stays, static=cohort.stays.static[:, kept], static_names=tuple(s.name for s in statics))
    return replace(cohort, stays=stays, statics=statics)


def _prepared(path: Path, data: Path) -> Path:
    if path.exists():
        return path
    year, letter = path.name[:4], path.name[4:]
    if year == "2012":
        source = data / "challenge2012"
        outcomes = source / f"Outcomes-{letter}.txt"
        prepare("challenge2012", [source / f"set-{letter}.tar.xz"], out=path, outcomes=outcomes)
    else:
        archive = data / "challenge2019" / f"training_set{letter.upper()}.tar.xz"
        prepare("challenge2019", [archive], out=path)
    return path
