"""One risk and label a patient in; label sets that hold their promise, and intervals of the risk, out.

Both promises are about new patients like those it was fitted on, and need patients whom neither the network nor
the calibration was fitted on.

A label set at level 0.9 holds the true label of at least nine in ten patients with the event, and of at least nine
in ten without: of each class for itself, so that a rare event is not bought with the common one. It is an average
over draws of the patients that it was fitted on, too: of one draw the sets hold it somewhat less or more often. Both
labels together say "cannot tell" (the model abstains); no label at all, that the risk is unlike that of either class.
With too few patients of a class for the level, every set holds it: a promise that cannot be kept is not made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError, DataError
from models.stay import Floats, Ints
from models.task import TargetKind
from models.venn_abers import VennAbers

LEVELS = (0.8, 0.9, 0.95)
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ConformalSets:
    """When a label enters the set, of one target.

    Args:
        positive_from: a level's least risk of class k with which k is in the set, class by class: binary targets
            have the event alone here; None = always.
        negative_to: a level's largest risk with which "no event" is in the set (binary targets); None = always.
        patients: calibration patients of every class, "no event" before "event".

    Source: Vovk 2012, Conditional validity of inductive conformal predictors (label-conditional p-values).
    """

    positive_from: tuple[tuple[float | None, ...], ...]
    negative_to: tuple[float | None, ...]
    patients: tuple[int, ...]


@dataclass(frozen=True)
class Uncertainty:
    """Label sets and intervals of every output.

    Args:
        kind: binary or multiclass.
        levels: of the label sets, ascending.
        sets: one a target.
        intervals: one an output of a binary task; none of several classes.
    """

    kind: TargetKind
    levels: tuple[float, ...]
    sets: tuple[ConformalSets, ...]
    intervals: tuple[VennAbers, ...] = ()

    def __post_init__(self) -> None:
        """Refuses parts that do not fit each other."""
        check_levels(self.levels)
        per_level = [row for s in self.sets for row in s.positive_from]
        if self.kind is TargetKind.BINARY:
            per_level += [s.negative_to for s in self.sets]
        fits = self.sets and all(len(row) == len(self.levels) for row in per_level)
        if not fits or self.kind is TargetKind.REGRESSION:
            raise DataError(
                f"uncertainty must have a bound a level ({len(self.levels)}) of every class of a binary or multiclass "
                f"target, got another shape for kind '{self.kind}'; fit it again"
            )

    @classmethod
    def fit(
        cls,
        risk: Floats,
        label: Floats,
        *,
        patient_index: Ints,
        order: Floats,
        kind: TargetKind = TargetKind.BINARY,
        levels: Sequence[float] = LEVELS,
    ) -> Uncertainty:
        """Fits on steps of patients apart; of every patient one step counts.

        Which step counts is drawn by `order`, which must not depend on labels or risks (a keyed hash). For the
        label sets of a class it is the first of the patient's steps of that class, for the intervals the first of
        all. So a set's promise is about a step drawn at random among those of its class of a new patient who has
        any; for a label of the whole stay, give every stay's last step: then it is about a stay drawn at random.

        Args:
            risk: (steps, outputs) calibrated.
            label: (steps, targets) 0 or 1, or class index; NaN = not supervised.
            patient_index: (steps,) which patient a step belongs to.
            order: (steps,) which step comes first.
            kind: binary or multiclass.
            levels: of the label sets.

        Raises:
            DataError: if a target has no supervised step, or the kind is a number.
        """
        if kind is TargetKind.REGRESSION:
            raise DataError("uncertainty must be of a binary or multiclass target, got a number; leave it out")
        targets = label.shape[1]
        if any(np.all(np.isnan(label[:, k])) for k in range(targets)):
            raise DataError(
                "label must hold supervised steps of every output, got none of one; give the calibration split more "
                "stays or set calibration.conformal_share = 0"
            )
        chosen = tuple(sorted(levels))
        draw = PatientDraw(patient_index, order)
        if kind is TargetKind.MULTICLASS:
            return cls(kind, chosen, (_sets_of_classes(risk, label[:, 0], draw, chosen),))
        sets = tuple(_sets_of_event(risk[:, k], label[:, k], draw, chosen) for k in range(targets))
        first = [draw.first(~np.isnan(label[:, k])) for k in range(targets)]
        ends = tuple(VennAbers.fit(risk[rows, k], label[rows, k]) for k, rows in enumerate(first))
        return cls(kind, chosen, sets, ends)

    @property
    def outputs(self) -> int:
        """Number of risks a step: targets, or classes of the one target."""
        return len(self.sets) if self.kind is TargetKind.BINARY else len(self.sets[0].positive_from)

    def level_index(self, level: float) -> int:
        """Position of the level that is nearest to this one."""
        return int(np.argmin(np.abs(np.array(self.levels) - level)))

    def label_sets(self, risk: NDArray[Any]) -> Bools:
        """(steps, targets, levels, labels) whether a label is in the set.

        The labels of a binary target are "no event" and "event", in this order; of several classes the classes, of
        the one target.

        Args:
            risk: (steps, outputs) calibrated.
        """
        if self.kind is TargetKind.MULTICLASS:
            inside = [_at_least(risk[:, k], row) for k, row in enumerate(self.sets[0].positive_from)]
            return np.stack(inside, axis=-1)[:, None]
        sets = [
            np.stack([~_above(risk[:, k], s.negative_to), _at_least(risk[:, k], s.positive_from[0])], axis=-1)
            for k, s in enumerate(self.sets)
        ]
        return np.stack(sets, axis=1)

    def interval(self, risk: NDArray[Any]) -> tuple[Floats, Floats] | None:
        """Lower and upper Venn-Abers ends, each (steps, outputs); None for several classes.

        The two ends are the risks that the calibration patients suggest at this score if the new patient joined
        them without and with the event. The calibrated risk is fitted by another method on other patients, so it
        may lie outside.

        Args:
            risk: (steps, outputs) calibrated.
        """
        if not self.intervals:
            return None
        ends = [venn_abers.interval(risk[:, k]) for k, venn_abers in enumerate(self.intervals)]
        return np.stack([low for low, _ in ends], axis=1), np.stack([high for _, high in ends], axis=1)


def check_levels(levels: Sequence[float]) -> None:
    """Refuses levels that no set can have.

    Raises:
        ConfigError: if one is not between 0 and 1, or they do not rise.
    """
    if not levels or any(not 0.0 < level < 1.0 for level in levels) or np.any(np.diff(levels) <= 0):
        raise ConfigError(
            f"conformal levels must be between 0 and 1 and ascending, got {list(levels)}; for example [0.8, 0.9]"
        )


def quantile_rank(level: float, patients: int) -> int:
    """Which of the ascending nonconformity scores bounds the set, from 1; above `patients` none does.

    Example:
        >>> quantile_rank(0.9, 9), quantile_rank(0.9, 8)
        (9, 9)
    """
    # The level as it is written: 0.95 is a little more than that as a binary number.
    return math.ceil(Fraction(str(level)) * (patients + 1))


@dataclass(frozen=True)
class PatientDraw:
    """Which step of a patient counts.

    Args:
        patient_index: (steps,) which patient a step belongs to, from 0.
        order: (steps,) which step comes first; drawn without a look at labels or risks.
    """

    patient_index: Ints
    order: Floats

    def first(self, eligible: Bools) -> Ints:
        """The row that comes first of every patient who has an eligible one."""
        rows = np.flatnonzero(eligible)
        rows = rows[np.lexsort((self.order[rows], self.patient_index[rows]))]
        chosen: Ints = rows[np.diff(self.patient_index[rows], prepend=-1) != 0]
        return chosen


def _sets_of_event(risk: Floats, label: Floats, draw: PatientDraw, levels: Sequence[float]) -> ConformalSets:
    without, having = (np.sort(risk[draw.first(label == truth)]) for truth in (0.0, 1.0))
    return ConformalSets(
        (_least(having, levels),), tuple(_negated(_least(-without[::-1], levels))), (len(without), len(having))
    )


def _sets_of_classes(risk: Floats, label: Floats, draw: PatientDraw, levels: Sequence[float]) -> ConformalSets:
    own = [np.sort(risk[draw.first(label == k), k]) for k in range(risk.shape[1])]
    return ConformalSets(tuple(_least(r, levels) for r in own), (), tuple(len(r) for r in own))


def _least(ascending: Floats, levels: Sequence[float]) -> tuple[float | None, ...]:
    """A level's least risk in the set: nonconformity falls with the risk, so ranks count from the highest."""
    ranks = [quantile_rank(level, len(ascending)) for level in levels]
    return tuple(float(ascending[-rank]) if rank <= len(ascending) else None for rank in ranks)


def _negated(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else -value for value in values]


def _at_least(risk: NDArray[Any], bounds: Sequence[float | None]) -> Bools:
    """(steps, levels) whether the label is in."""
    return np.stack([np.ones(len(risk), dtype=np.bool_) if b is None else risk >= b for b in bounds], axis=-1)


def _above(risk: NDArray[Any], bounds: Sequence[float | None]) -> Bools:
    """(steps, levels) whether it is not."""
    return np.stack([np.zeros(len(risk), dtype=np.bool_) if b is None else risk > b for b in bounds], axis=-1)
