"""The encoded parts of a split with their targets, and the record of what was fitted on whom: what training reads."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.encoded import Encoded
from models.encoding import Encoding
from models.note_reader import NoteReader
from models.stay import Floats, Ints, Stays, gather_ragged
from pipelines.auxiliary import AuxiliaryTargets
from pipelines.labels import StayOutcomes, StepTargets
from pipelines.split import Part
from pipelines.warm_start import Parent


@dataclass(frozen=True)
class PartData:
    """One part of the split.

    Args:
        index: positions of the stays in the cohort.
        stays: their columns.
        patient_id: patient of every stay.
        encoded: their time steps.
        outcomes: the outcome of every stay.
        label: (steps, targets) in the outcome's own units; NaN = not supervised.
        targets: what training reads; standardised for regression.
    """

    index: Ints
    stays: Stays
    patient_id: tuple[str, ...]
    encoded: Encoded
    outcomes: StayOutcomes
    label: Floats
    targets: StepTargets

    def select(self, stays: Ints, *, out: Path | None = None) -> PartData:
        """The stays at these positions of the part; their features in the file `out`, or in memory."""
        rows, _ = gather_ragged(self.encoded.step_offsets, stays)
        return PartData(
            index=self.index[stays],
            stays=self.stays.select(stays),
            patient_id=tuple(self.patient_id[i] for i in stays),
            encoded=self.encoded.select(stays, out=out),
            outcomes=StayOutcomes(self.outcomes.value[stays], self.outcomes.time_min[stays]),
            label=self.label[rows],
            targets=self.targets.select(self.encoded.step_offsets, stays),
        )


@dataclass(frozen=True)
class Dataset:
    """Every part, with what was fitted on the training part.

    Args:
        parts: train, validation, calibration and test; with folds train, which is everyone before the hold-out, and
            test.
        encoding: fitted on the training part.
        tokenizer: trained on the training part's notes; None without notes.
        scale: mean and standard deviation of a regression target; (0, 1) otherwise.
        fitted_on: digest of the patients that each fitted thing saw, by its name; `saw` adds to it.
        key: of the digests.
        auxiliary: what the heads beside the task's own are taught on the training part; None where there are none.
        parent: the version whose encoding and tokenizer these are; None where they were fitted here.
        folds: (n,) the fold of every training stay; None where members learn from them all.
        fold: the one that is left out of these parts, see `without_fold`.
    """

    parts: dict[Part, PartData]
    encoding: Encoding
    tokenizer: NoteReader | None
    scale: tuple[float, float]
    fitted_on: dict[str, str] = field(default_factory=dict)
    key: str = ""
    auxiliary: AuxiliaryTargets | None = None
    parent: Parent | None = None
    folds: Ints | None = None
    fold: int | None = None

    @property
    def calibration(self) -> PartData:
        """The stays whose logits calibrate: a part of their own, or the training stays, each left out in its turn."""
        return self.parts[Part.TRAIN if self.folds is not None else Part.CALIBRATION]

    def stays_left_out(self, fold: int | None) -> NDArray[np.bool_]:
        """(n,) which stays of `calibration` a member that leaves this fold out never saw; all without folds."""
        if self.folds is None:
            return np.ones(len(self.calibration.index), dtype=np.bool_)
        return np.asarray(self.folds == fold)

    def without_fold(self, fold: int, folder: Path) -> Dataset:
        """What a member learns from that never sees a fold: the others to train on, this one to validate on.

        Args:
            fold: of the training stays.
            folder: exists; receives the features, which are mapped. The caller removes it.
        """
        train = self.parts[Part.TRAIN]
        out = self.stays_left_out(fold)
        kept, left = np.flatnonzero(~out), np.flatnonzero(out)
        parts = {
            Part.TRAIN: train.select(kept, out=folder / "kept.npy"),
            Part.VALIDATION: train.select(left, out=folder / "left.npy"),
        }
        taught = None if self.auxiliary is None else self.auxiliary.select(train.encoded.step_offsets, kept)
        return replace(self, parts=parts, auxiliary=taught, folds=None, fold=fold)

    def saw(self, thing: str, part: PartData) -> PartData:
        """Records that `thing` is fitted on these stays, and gives them back; the leak guards check the record.

        Example:
            part = data.saw("calibration", data.parts[Part.CALIBRATION])
        """
        digest = patients_digest(part.patient_id, self.key)
        name = thing if self.fold is None else fold_name(thing, self.fold)
        if self.fold is not None and self.fitted_on.get(name, digest) != digest:
            digest = "differing patients"  # of several members without this fold one saw others: no later one hides it
        self.fitted_on[name] = digest
        return part


def fold_name(thing: str, fold: int) -> str:
    """Name in the record of what never saw a fold.

    Example:
        >>> fold_name("network", 2)
        'network/2'
    """
    return f"{thing}/{fold}"


def patients_digest(patient_id: Collection[str], key: str) -> str:
    """Names a set of patients without telling who they are: HMAC-SHA-256 over their sorted identifiers.

    Args:
        patient_id: patients; one who stands there twice counts once.
        key: of the split, so that the digest can be compared within it alone.
    """
    digest = hmac.new(key.encode(), digestmod=hashlib.sha256)
    for patient in sorted(set(patient_id)):
        digest.update(f"{len(patient.encode())}:{patient}".encode())
    return "hmac-sha256:" + digest.hexdigest()
