"""A cohort and a configuration in; what trials are fitted on and judged on out: training and validation alone.

The calibration part and the hold-out are not even encoded here. Features are kept between trials, and made anew only
for a trial that changes what decides them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.encoded import Encoded
from models.errors import DataError
from models.record import to_plain
from models.stay import Floats, Ints
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.dataset import encode_stays, fit_features
from pipelines.labels import StayOutcomes, StepTargets, make_targets, step_labels, target_scale, task_outcomes
from pipelines.split import Part, assert_disjoint, patient_fraction, split_patients

# Features of so many different encodings are on disk at once.
KEPT_ENCODINGS = 3


@dataclass(frozen=True)
class Side:
    """The stays that a network is fitted on, or judged on.

    Args:
        encoded: their time steps.
        label: (steps, targets) in the outcome's own units; NaN = not supervised.
    """

    encoded: Encoded
    label: Floats


@dataclass(frozen=True)
class Fold:
    """One fitting and judging.

    Args:
        train: what the network, the encoding and the tokenizer are fitted on.
        validation: what it is judged on; none of its patients is in `train`.
        vocabulary_size: number of token ids; None without notes.
        scale: mean and standard deviation of a regression target in `train`; (0, 1) otherwise.
    """

    train: Side
    validation: Side
    vocabulary_size: int | None
    scale: tuple[float, float]

    def targets(self, side: Side, config: RunConfig) -> StepTargets:
        """What training reads of a side."""
        mean, deviation = self.scale
        standardised = (side.label - mean) / deviation
        return make_targets(standardised, side.encoded, config.task, replication=config.training.target_replication)


def fold_indices(cohort: Cohort, config: RunConfig) -> list[tuple[Ints, Ints]]:
    """Positions of the stays to fit on and to judge on, for every fold.

    One fold is the split's own training and validation part. Several share out the patients of both by a keyed
    hash, so each patient is judged exactly once.

    Raises:
        DataError: if a fold has no patient.
    """
    parts = split_patients(cohort.patient_id, config.split)
    train, validation = parts[Part.TRAIN], parts[Part.VALIDATION]
    folds = config.tune.folds
    if folds == 1:
        return [(train, validation)]
    pool = np.sort(np.concatenate([train, validation]))
    key = f"{config.split.key}/tune"
    of_stay = np.array([int(patient_fraction(key, cohort.patient_id[i]) * folds) for i in pool])
    found = [(pool[of_stay != fold], pool[of_stay == fold]) for fold in range(folds)]
    for fit, judge in found:
        if len(fit) == 0 or len(judge) == 0:
            raise DataError(
                f"cohort must hold enough patients for {folds} folds, got {len(set(cohort.patient_id))} in all and "
                "none for one; lower tune.folds"
            )
        assert_disjoint(cohort.patient_id, {Part.TRAIN: fit, Part.VALIDATION: judge})
    return found


@dataclass
class FoldStore:
    """Encoded folds, made when they are first asked for.

    Args:
        cohort: the stays.
        folder: receives the features.
        say: receives lines for people.
    """

    cohort: Cohort
    folder: Path
    say: Callable[[str], None] = lambda _: None
    _kept: dict[str, tuple[Path, list[Fold]]] = field(default_factory=dict)

    def folds(self, config: RunConfig) -> list[Fold]:
        """The folds of a trial's configuration.

        Raises:
            DataError: if the outcome is unknown or not of the task's kind, or a fold has no patient.
        """
        decides = {"encoding": to_plain(config.encoding), "notes": to_plain(config.notes)}
        key = json.dumps(decides, sort_keys=True)
        if key in self._kept:
            self._kept[key] = self._kept.pop(key)  # the newest stand last
            return self._kept[key][1]
        while len(self._kept) >= KEPT_ENCODINGS:
            self._forget(next(iter(self._kept)))
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        outcomes = task_outcomes(self.cohort, config.task)
        indices = fold_indices(self.cohort, config)
        made = [
            self._fold(config, outcomes, fit, judge, folder / str(number))
            for number, (fit, judge) in enumerate(indices)
        ]
        self._kept[key] = (folder, made)
        (fit, judge), width = indices[0], made[0].train.encoded.width
        self.say(f"  encoded {len(indices)} x ({len(fit):,} + {len(judge):,}) stays, width {width}")
        return made

    def _forget(self, key: str) -> None:
        folder, _ = self._kept.pop(key)
        shutil.rmtree(folder)

    def _fold(self, config: RunConfig, outcomes: StayOutcomes, fit: Ints, judge: Ints, folder: Path) -> Fold:
        folder.mkdir()
        fitted = fit_features(self.cohort, fit, config)
        sides = []
        for name, index in (("train", fit), ("validation", judge)):
            encoded = encode_stays(self.cohort, index, fitted, folder / f"{name}.npy")
            known = StayOutcomes(outcomes.value[index], outcomes.time_min[index])
            sides.append(Side(encoded, step_labels(encoded.step_offsets, encoded.time_min, known, config.task)))
        scale = target_scale(sides[0].label, sides[0].encoded, config.task)
        size = None if fitted.tokenizer is None else fitted.tokenizer.vocabulary_size
        return Fold(sides[0], sides[1], size, scale)


@contextlib.contextmanager
def encoded_folder(folder: Path) -> Iterator[Path]:
    """A folder for features that is removed at the end; those of killed processes of this machine go first.

    Features are patient data: they do not outlive the search.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"encoded-{socket.gethostname()}-"
    for left in folder.glob(f"{prefix}*"):
        owner = left.name.removeprefix(prefix).partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{prefix}{os.getpid()}-") as made:
        yield Path(made)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
