"""A small real model for tests: a simulated cohort, a network with random weights, a saved artifact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.artifact import load_artifact, save_artifact
from models.bundle import Bundle
from models.calibration import Calibration
from models.cells import Cell
from models.encoding import Encoding, EncodingConfig
from models.ensemble import Ensemble, network_members
from models.network import NetworkConfig, RecurrentNetwork
from models.notes import NotesConfig, NoteTokenizer
from models.scorer import Scorer
from models.task import TaskSpec
from pipelines.cohort import Cohort
from pipelines.sources.simulated_notes import Language
from pipelines.sources.simulator import simulate

NOTES = NotesConfig(enabled=True, vocabulary_size=400, embedding_size=4, hidden_size=5)


@dataclass(frozen=True)
class SmallModel:
    """An artifact on disk, the cohort it was fitted on and its digest."""

    folder: Path
    cohort: Cohort
    digest: str

    def scorer(self) -> Scorer:
        """The verified model."""
        return load_artifact(self.folder)


def small_cohort(stays: int = 60, seed: int = 3) -> Cohort:
    """Simulated stays of about a day, with notes in both languages."""
    return simulate(stays, seed, Language.BOTH, mean_hours=24)


def save_small_model(
    folder: Path,
    *,
    cell: Cell = Cell.GRU,
    notes: bool = True,
    network: NetworkConfig | None = None,
    encoding: EncodingConfig | None = None,
    task: TaskSpec | None = None,
) -> SmallModel:
    """Saves a network with random weights and a calibration that is not the identity."""
    cohort = small_cohort()
    chosen = network or NetworkConfig(cell=cell, hidden_size=8, layers=2)
    target = task or TaskSpec("in_hospital_death", description="death in hospital (simulated)")
    fitted = Encoding.fit(cohort.stays, encoding or EncodingConfig(), statics=cohort.statics)
    patients = [cohort.patient_id[i] for i in cohort.stays.stay_of_note()]
    tokenizer = NoteTokenizer.train(list(cohort.stays.note_text), patients, NOTES) if notes else None
    torch.manual_seed(0)
    built = RecurrentNetwork(
        chosen,
        width=fitted.width,
        outputs=target.outputs,
        notes=NOTES if notes else None,
        vocabulary_size=tokenizer.vocabulary_size if tokenizer else 0,
        layout=fitted.layout,
    )
    rows = ((0.2, 0.1, -0.1),) * target.outputs
    bundle = Bundle(
        name="small",
        task=target,
        channels=cohort.channels,
        statics=cohort.statics,
        encoding=fitted,
        members=network_members(chosen),
        notes=NOTES if notes else None,
        calibration=Calibration(target.kind, Calibration.identity(target.kind, 1).method, rows, rows, (0.0, 4.0)),
        thresholds={"in_hospital_death/event1": 0.2},
        cohort={"fingerprint": cohort.fingerprint, "licence": cohort.licence, "source": cohort.source},
        created="2026-01-01T00:00:00+00:00",
    )
    digest = save_artifact(folder, bundle, Ensemble([built]), tokenizer, documents={"card.md": "# small\n"})
    return SmallModel(folder, cohort, digest)


def finite(values: np.ndarray) -> bool:
    """Whether every number is finite."""
    return bool(np.isfinite(values).all())
