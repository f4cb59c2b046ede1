"""From a cohort and a configuration to encoded parts with targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.encoded import Encoded
from models.encoding import Encoding
from models.errors import DataError
from models.note_reader import NoteReader, train_reader
from models.stay import Ints, Stays
from pipelines.auxiliary import AuxiliaryTargets, auxiliary_targets
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.encoded_cache import EncodedCache, entry_key
from pipelines.labels import (
    StayOutcomes,
    make_targets,
    outcomes_of,
    step_labels,
    target_scale,
    task_outcomes,
)
from pipelines.part_data import Dataset, PartData, patients_digest
from pipelines.split import Part, patient_folds, split_patients
from pipelines.warm_start import Parent


@dataclass(frozen=True)
class FittedFeatures:
    """What turns stays into features, as it was fitted.

    Args:
        encoding: its statistics are those of the stays that it was fitted on.
        tokenizer: trained on their notes; None without notes.
        patients: digest of their patients (`patients_digest`).
    """

    encoding: Encoding
    tokenizer: NoteReader | None
    patients: str


def build_dataset(
    cohort: Cohort,
    config: RunConfig,
    folder: Path,
    *,
    say: Callable[[str], None],
    cache: EncodedCache | None = None,
    indices: dict[Part, Ints] | None = None,
    parent: Parent | None = None,
) -> Dataset:
    """Splits by patient, fits the encoding and the tokenizer on the training part, and encodes every part.

    Args:
        cohort: the stays.
        config: the run's configuration.
        folder: exists; receives the features of every part, which are mapped and not held in memory. They are
            patient data: the caller removes the folder when it is done.
        say: receives lines for people.
        cache: keeps the features for later runs instead of `folder`; it must be open as long as they are read.
        indices: positions of the stays of the parts; the split's where left out.
        parent: the version whose encoding and tokenizer are taken; fitted here where left out.

    Raises:
        DataError: if the outcome is unknown or not of the task's kind, or a part has no patient.
    """
    outcomes = task_outcomes(cohort, config.task)
    indices = indices or part_indices(cohort, config)
    fitted = fit_features(cohort, indices[Part.TRAIN], config) if parent is None else inherited_features(parent)
    encoded = {p: _encode_part(cohort, i, fitted, folder / f"{p}.npy", cache) for p, i in indices.items()}
    part_outcomes = {p: StayOutcomes(outcomes.value[i], outcomes.time_min[i]) for p, i in indices.items()}
    label = {
        p: step_labels(encoded[p].step_offsets, encoded[p].time_min, part_outcomes[p], config.task) for p in indices
    }
    scale = target_scale(label[Part.TRAIN], encoded[Part.TRAIN], config.task)
    parts = {}
    for part, index in indices.items():
        standardised = (label[part] - scale[0]) / scale[1]
        parts[part] = PartData(
            index=index,
            stays=cohort.stays.select(index),
            patient_id=tuple(cohort.patient_id[i] for i in index),
            encoded=encoded[part],
            outcomes=part_outcomes[part],
            label=label[part],
            targets=make_targets(
                standardised, encoded[part], config.task, replication=config.training.target_replication
            ),
        )
        steps = int(encoded[part].step_offsets[-1])
        say(f"  {part:<12} {len(index):>7,} stays {steps:>10,} time steps, width {fitted.encoding.width}")
    taught = taught_beside(cohort, config, parts[Part.TRAIN], fitted.encoding, folder)
    folds = training_folds(parts[Part.TRAIN].patient_id, config)
    return replace(_dataset(parts, fitted, scale, config.split.key), auxiliary=taught, parent=parent, folds=folds)


def taught_beside(
    cohort: Cohort, config: RunConfig, train: PartData, encoding: Encoding, folder: Path
) -> AuxiliaryTargets | None:
    """Targets of the heads that `training.auxiliary` asks for; they lie in `folder`, as features do."""
    wanted = config.training.auxiliary
    known = {o.outcome: outcomes_of(cohort, o.outcome) for o in wanted.outcomes}
    outcomes = {name: StayOutcomes(o.value[train.index], o.time_min[train.index]) for name, o in known.items()}
    return auxiliary_targets(
        wanted, train.encoded, encoding, outcomes, replication=config.training.target_replication, folder=folder
    )


def _dataset(parts: dict[Part, PartData], fitted: FittedFeatures, scale: tuple[float, float], key: str) -> Dataset:
    things = [thing for thing, there in (("encoding", True), ("tokenizer", fitted.tokenizer)) if there]
    # What a parent brought was fitted on none of these patients.
    things = things if fitted.patients else []
    data = Dataset(parts, fitted.encoding, fitted.tokenizer, scale, dict.fromkeys(things, fitted.patients), key)
    data.saw("target_scale", parts[Part.TRAIN])
    return data


def fold_key(config: RunConfig) -> str:
    """Key of the members' folds: which one a patient is in does not follow from the part of the split."""
    return f"{config.split.key}/fold"


def training_folds(patient_id: Sequence[str], config: RunConfig) -> Ints | None:
    """(n,) the fold of every training stay; None where no members leave any out.

    Raises:
        DataError: if a fold has no patient.
    """
    number = config.ensemble.folds
    if not number:
        return None
    folds = patient_folds(patient_id, fold_key(config), number)
    if len(np.unique(folds)) < number:
        raise DataError(
            f"cohort must hold enough patients for {number} folds, got {len(set(patient_id))} to train on and none for "
            "one; bring more patients or lower ensemble.folds"
        )
    return folds


def part_indices(cohort: Cohort, config: RunConfig) -> dict[Part, Ints]:
    """Positions of the stays of every part; calibration holds validation too where the configuration says so.

    With folds everyone before the hold-out is the training part.

    Raises:
        DataError: if a part has no patient.
    """
    indices = split_patients(cohort.patient_id, config.split)
    if config.ensemble.folds:
        learnt = np.sort(np.concatenate([index for part, index in indices.items() if part is not Part.TEST]))
        return {Part.TRAIN: learnt, Part.TEST: indices[Part.TEST]}
    if config.calibration.include_validation:
        indices[Part.CALIBRATION] = np.concatenate([indices[Part.VALIDATION], indices[Part.CALIBRATION]])
    return indices


def fit_features(cohort: Cohort, index: Ints, config: RunConfig) -> FittedFeatures:
    """Fits the encoding and the tokenizer on the stays at `index`, and on nothing else of the cohort."""
    stays = cohort.stays.select(index)
    patient_id = [cohort.patient_id[i] for i in index]
    encoding = Encoding.fit(stays, config.encoding, statics=cohort.statics)
    tokenizer = _train_tokenizer(stays, patient_id, config)
    return FittedFeatures(encoding, tokenizer, patients_digest(patient_id, config.split.key))


def inherited_features(parent: Parent) -> FittedFeatures:
    """The parent's encoding and tokenizer, which saw none of these patients."""
    return FittedFeatures(parent.encoding, parent.scorer.tokenizer, "")


def encode_stays(cohort: Cohort, index: Ints, fitted: FittedFeatures, out: Path | None = None) -> Encoded:
    """The features of the stays at `index`; in the file `out`, or in memory."""
    return fitted.encoding.encode(cohort.stays.select(index), tokenizer=fitted.tokenizer, out=out)


def _encode_part(
    cohort: Cohort, index: Ints, fitted: FittedFeatures, file: Path, cache: EncodedCache | None
) -> Encoded:
    if cache is None:
        return encode_stays(cohort, index, fitted, file)
    key = entry_key(cohort.fingerprint, index, fitted.encoding, fitted.tokenizer)
    encoded = cache.get(key, lambda out: encode_stays(cohort, index, fitted, out))
    return replace(encoded, layout=fitted.encoding.layout)


def _train_tokenizer(stays: Stays, patient_id: list[str], config: RunConfig) -> NoteReader | None:
    if not config.notes.enabled:
        return None
    patients = [patient_id[i] for i in stays.stay_of_note()]
    return train_reader(list(stays.note_text), patients, config.notes)
