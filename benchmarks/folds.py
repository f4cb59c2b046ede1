"""A cohort, its patient-wise folds and run configurations in, logits of stays that no fit has seen out.

Everything runs in-process, on one thread a process. The fold that is held out chooses nothing: the last epoch is
kept whatever it is, and the figures that the loop asks for are made on some training stays.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from models.encoded import Encoded
from models.encoding import Encoding
from models.errors import ConfigError
from models.forward import score_logits
from models.note_reader import NoteReader, train_reader
from models.record import to_plain
from models.stay import Floats, Ints, Stays
from models.task import LabelScope, TargetKind
from pipelines.auxiliary import AuxiliaryTargets, auxiliary_targets
from pipelines.cohort import Cohort, concat_cohorts, read_cohort
from pipelines.config import RunConfig
from pipelines.fit import fit_network
from pipelines.labels import StayOutcomes, StepTargets, make_targets, outcomes_of, step_labels, task_outcomes
from pipelines.pretrain import pretrain
from pipelines.split import patient_fraction
from pipelines.training_config import Monitor

# Training stays on which the loop makes its own figures; they decide nothing.
_WATCHED = 128


@dataclass(frozen=True)
class Folds:
    """Which stays are held out when.

    Args:
        cohorts: folders of prepared cohorts; all of them together are one.
        number: of folds.
        key: names the folds; another key is another division of the patients.
    """

    cohorts: tuple[Path, ...]
    number: int
    key: str

    def of_stays(self, cohort: Cohort) -> Ints:
        """(stays,) the fold of every stay; a patient's stays are in one."""
        fraction = {p: patient_fraction(self.key, p) for p in set(cohort.patient_id)}
        return np.array([int(fraction[p] * self.number) for p in cohort.patient_id], dtype=np.int64)


@dataclass(frozen=True)
class Fit:
    """One network to fit: a configuration, its seed among it, on all folds but one."""

    row: str
    fold: int
    config: RunConfig

    @property
    def features(self) -> str:
        """Names what is encoded: fits of one name read the same features."""
        return json.dumps([self.fold, to_plain(self.config.encoding), to_plain(self.config.notes)], sort_keys=True)


@dataclass(frozen=True)
class Scored:
    """Judged rows of a held-out fold.

    Args:
        stay: (rows,) stay of every row, as its position in the cohort.
        label: (rows,) 0 or 1.
        logit: (rows,) of the network, not calibrated.
        seconds: that the fit took.
    """

    stay: Ints
    label: Floats
    logit: Floats
    seconds: float


@dataclass(frozen=True)
class _Side:
    """The stays of one side of a fold; `outcomes` is the task's."""

    cohort: Cohort
    index: Ints
    stays: Stays
    encoded: Encoded
    outcomes: StayOutcomes

    def outcomes_of(self, name: str) -> StayOutcomes:
        """Any outcome of these stays."""
        known = outcomes_of(self.cohort, name)
        return StayOutcomes(known.value[self.index], known.time_min[self.index])


@dataclass(frozen=True)
class _Encoded:
    """Both sides of a fold, with what was fitted on the training side."""

    train: _Side
    test: _Side
    encoding: Encoding
    tokenizer: NoteReader | None


def score_folds(folds: Folds, fits: list[Fit], folder: Path, *, jobs: int, resume: bool) -> list[Scored]:
    """Fits and scores everything; results in the order of `fits`.

    Args:
        folds: the division of the patients.
        fits: what to fit.
        folder: receives every result as soon as it is there.
        jobs: processes.
        resume: take results that the folder holds already. They are known by configuration, cohort and fold, not by
            the program that made them: begin anew after a change to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for fit in fits:
        _check(fit)
    paths = [_result_path(folds, fit, folder) for fit in fits]
    # By path, as rows may be of the same configuration.
    missing = {path: fit for fit, path in zip(fits, paths, strict=True) if not (resume and path.exists())}
    waiting: dict[str, list[tuple[Fit, Path]]] = {}
    for path, fit in missing.items():
        waiting.setdefault(fit.features, []).append((fit, path))
    # The longest lists first, so that the processes end together.
    lists = sorted(waiting.values(), key=len, reverse=True)
    if jobs == 1:
        for group in lists:
            _score_list(folds, group)
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            for done in as_completed([pool.submit(_score_list, folds, group) for group in lists]):
                done.result()
    return [_read(path) for path in paths]


@cache
def whole_cohort(paths: tuple[Path, ...]) -> Cohort:
    """All stays of these cohorts."""
    return concat_cohorts([read_cohort(path) for path in paths])


def _check(fit: Fit) -> None:
    config = fit.config
    if config.training.monitor is not Monitor.LAST:
        raise ConfigError(
            f"training.monitor must be last_epoch, got {config.training.monitor} in row {fit.row!r}; a held-out fold "
            "may choose nothing"
        )
    if config.task.kind is not TargetKind.BINARY or config.task.outputs > 1:
        raise ConfigError("task must have one binary output, got another; compare such tasks one by one")


def _result_path(folds: Folds, fit: Fit, folder: Path) -> Path:
    facts = [to_plain(fit.config), whole_cohort(folds.cohorts).fingerprint, folds.number, folds.key, fit.fold]
    return folder / (hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24] + ".npz")


def _read(path: Path) -> Scored:
    with np.load(path) as kept:
        return Scored(kept["stay"], kept["label"], kept["logit"], float(kept["seconds"]))


def _score_list(folds: Folds, group: list[tuple[Fit, Path]]) -> None:
    """Encodes a fold once and fits every network that reads these features."""
    torch.set_num_threads(1)
    cohort = whole_cohort(folds.cohorts)
    sides = _encode(cohort, folds, group[0][0])
    for fit, path in group:
        began = time.monotonic()
        network_logit = _fit_and_score(sides, fit)
        seconds = time.monotonic() - began
        rows, label = _judged(sides.test, fit.config)
        stay = np.repeat(sides.test.index, sides.test.encoded.lengths)[rows]
        beside = path.with_suffix(".part.npz")
        np.savez(beside, stay=stay, label=label, logit=network_logit[rows], seconds=seconds)
        beside.replace(path)
        print(f"  {fit.row}: seed {fit.config.seed}, fold {fit.fold + 1}, {seconds:.0f} s", flush=True)


def _encode(cohort: Cohort, folds: Folds, fit: Fit) -> _Encoded:
    fold, config = folds.of_stays(cohort), fit.config
    outcomes = task_outcomes(cohort, config.task)
    train = cohort.stays.select(np.flatnonzero(fold != fit.fold))
    encoding = Encoding.fit(train, config.encoding, statics=cohort.statics)
    tokenizer = None
    if config.notes.enabled:
        patients = np.array(cohort.patient_id)[fold != fit.fold]
        tokenizer = train_reader(list(train.note_text), [str(patients[i]) for i in train.stay_of_note()], config.notes)
    sides = []
    for index in (np.flatnonzero(fold != fit.fold), np.flatnonzero(fold == fit.fold)):
        stays = cohort.stays.select(index)
        known = StayOutcomes(outcomes.value[index], outcomes.time_min[index])
        sides.append(_Side(cohort, index, stays, encoding.encode(stays, tokenizer=tokenizer), known))
    return _Encoded(sides[0], sides[1], encoding, tokenizer)


def _fit_and_score(sides: _Encoded, fit: Fit) -> Floats:
    """(steps,) logits of the held-out stays."""
    config, train = fit.config, sides.train
    targets = _targets(train, config)
    watched = np.arange(min(_WATCHED, len(train.encoded)))
    folder = Path(tempfile.mkdtemp(prefix="fold-"))
    try:
        fitted = fit_network(
            train=(train.encoded, targets),
            validation=(train.encoded.select(watched), targets.select(train.encoded.step_offsets, watched)),
            network=config.network,
            notes=config.notes if sides.tokenizer is not None else None,
            vocabulary_size=sides.tokenizer.vocabulary_size if sides.tokenizer is not None else 0,
            task=config.task,
            training=replace(config.training, accelerator="cpu"),
            seed=config.seed,
            folder=folder,
            initial=_pretrained(sides, config, folder / "pretraining"),
            auxiliary=_auxiliary(sides, config, folder),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return score_logits(fitted.network, sides.test.encoded)[:, 0].astype(np.float64)


def _pretrained(sides: _Encoded, config: RunConfig, folder: Path) -> dict[str, torch.Tensor] | None:
    if not config.pretraining.epochs:
        return None
    return pretrain(
        sides.train.stays,
        sides.train.encoded,
        sides.encoding,
        tokenizer=sides.tokenizer,
        network=config.network,
        notes=config.notes if sides.tokenizer is not None else None,
        config=config.pretraining,
        training=replace(config.training, accelerator="cpu"),
        seed=config.seed,
        folder=folder,
    ).weights


def _auxiliary(sides: _Encoded, config: RunConfig, folder: Path) -> AuxiliaryTargets | None:
    return auxiliary_targets(
        config.training.auxiliary,
        sides.train.encoded,
        sides.encoding,
        {name: sides.train.outcomes_of(name) for name in (o.outcome for o in config.training.auxiliary.outcomes)},
        replication=config.training.target_replication,
        folder=folder,
    )


def _targets(side: _Side, config: RunConfig) -> StepTargets:
    label = step_labels(side.encoded.step_offsets, side.encoded.time_min, side.outcomes, config.task)
    return make_targets(label, side.encoded, config.task, replication=config.training.target_replication)


def _judged(side: _Side, config: RunConfig) -> tuple[Ints, Floats]:
    """Rows on which the task is judged, every stay's last step or every labelled one, and their labels."""
    label = step_labels(side.encoded.step_offsets, side.encoded.time_min, side.outcomes, config.task)[:, 0]
    rows = side.encoded.step_offsets[1:] - 1 if config.task.scope is LabelScope.STAY else np.arange(len(label))
    rows = rows[~np.isnan(label[rows])]
    return rows, label[rows]
