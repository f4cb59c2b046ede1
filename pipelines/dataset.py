"""From a cohort and a configuration to encoded parts with targets: all that training reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.encoded import Encoded
from models.encoding import Encoding
from models.notes import NoteTokenizer
from models.stay import Floats, Ints, Stays
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.labels import StayOutcomes, StepTargets, make_targets, step_labels, target_scale, task_outcomes
from pipelines.split import Part, split_patients


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


@dataclass(frozen=True)
class Dataset:
    """Every part, with what was fitted on the training part.

    Args:
        parts: train, validation, calibration and test.
        encoding: fitted on the training part.
        tokenizer: trained on the training part's notes; None without notes.
        scale: mean and standard deviation of a regression target; (0, 1) otherwise.
    """

    parts: dict[Part, PartData]
    encoding: Encoding
    tokenizer: NoteTokenizer | None
    scale: tuple[float, float]


def build_dataset(cohort: Cohort, config: RunConfig, folder: Path, *, say: Callable[[str], None]) -> Dataset:
    """Splits by patient, fits the encoding and the tokenizer on the training part, and encodes every part.

    Args:
        cohort: the stays.
        config: the run's configuration.
        folder: exists; receives the features of every part, which are mapped and not held in memory. They are
            patient data: the caller removes the folder when it is done.
        say: receives lines for people.

    Raises:
        DataError: if the outcome is unknown or not of the task's kind, or a part has no patient.
    """
    outcomes = task_outcomes(cohort, config.task)
    indices = split_patients(cohort.patient_id, config.split)
    if config.calibration.include_validation:
        indices[Part.CALIBRATION] = np.concatenate([indices[Part.VALIDATION], indices[Part.CALIBRATION]])
    train = cohort.stays.select(indices[Part.TRAIN])
    encoding = Encoding.fit(train, config.encoding, statics=cohort.statics)
    tokenizer = _train_tokenizer(train, [cohort.patient_id[i] for i in indices[Part.TRAIN]], config)
    encoded = {
        p: encoding.encode(cohort.stays.select(i), tokenizer=tokenizer, out=folder / f"{p}.npy")
        for p, i in indices.items()
    }
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
        say(f"  {part:<12} {len(index):>7,} stays {steps:>10,} time steps, width {encoding.width}")
    return Dataset(parts, encoding, tokenizer, scale)


def _train_tokenizer(stays: Stays, patient_id: list[str], config: RunConfig) -> NoteTokenizer | None:
    if not config.notes.enabled:
        return None
    patients = [patient_id[i] for i in stays.stay_of_note()]
    return NoteTokenizer.train(list(stays.note_text), patients, config.notes)
