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
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from models.errors import DataError
from models.record import to_plain
from models.stay import Ints
from pipelines.auxiliary_config import AuxiliaryConfig
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.dataset import build_dataset, taught_beside
from pipelines.labels import make_targets
from pipelines.part_data import Dataset
from pipelines.split import Part, assert_disjoint, patient_folds, split_patients

# Features of so many different encodings are on disk at once.
KEPT_ENCODINGS = 3


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
    of_stay = patient_folds([cohort.patient_id[i] for i in pool], key, folds)
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
    """

    cohort: Cohort
    folder: Path
    _kept: dict[str, tuple[Path, list[Dataset]]] = field(default_factory=dict)

    def folds(self, config: RunConfig) -> list[Dataset]:
        """The training and validation part of every fold, encoded as the trial's configuration says.

        Raises:
            DataError: if the outcome is unknown or not of the task's kind, or a fold has no patient.
        """
        decides = {"encoding": to_plain(config.encoding), "notes": to_plain(config.notes)}
        key = json.dumps(decides, sort_keys=True)
        if key in self._kept:
            self._kept[key] = self._kept.pop(key)  # the newest stand last
            return self._kept[key][1]
        while len(self._kept) >= KEPT_ENCODINGS:
            shutil.rmtree(self._kept.pop(next(iter(self._kept)))[0])
        # What a trial teaches beside its task is made for each trial.
        plain = replace(config, training=replace(config.training, auxiliary=AuxiliaryConfig()))
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        made = []
        for number, (fit, judge) in enumerate(fold_indices(self.cohort, config)):
            into = folder / str(number)
            into.mkdir()
            indices = {Part.TRAIN: fit, Part.VALIDATION: judge}
            made.append(build_dataset(self.cohort, plain, into, say=lambda _: None, indices=indices))
        self._kept[key] = (folder, made)
        return made

    def targets(self, data: Dataset, config: RunConfig, folder: Path) -> Dataset:
        """The same stays with the targets that the trial's configuration asks for.

        Args:
            data: a fold.
            config: of the trial.
            folder: exists; receives the targets of auxiliary heads.
        """
        mean, deviation = data.scale
        replication = config.training.target_replication
        parts = {
            name: replace(
                part,
                targets=make_targets(
                    (part.label - mean) / deviation, part.encoded, config.task, replication=replication
                ),
            )
            for name, part in data.parts.items()
        }
        taught = taught_beside(self.cohort, config, parts[Part.TRAIN], data.encoding, folder)
        return replace(data, parts=parts, auxiliary=taught)


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
