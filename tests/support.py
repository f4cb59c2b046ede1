"""A small real model for tests: a simulated cohort, a network with random weights, a saved artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import torch

from models.artifact import load_artifact, save_artifact
from models.bundle import Bundle
from models.calibration import Calibration
from models.cells import Cell
from models.encoding import Encoding, EncodingConfig
from models.ensemble import Ensemble, Member, MemberKind, MemberSpec
from models.network import NetworkConfig, RecurrentNetwork
from models.note_reader import train_reader
from models.notes import NotesConfig
from models.scorer import Scorer
from models.task import TargetKind, TaskSpec
from models.trees import TreeMember
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
    further: Sequence[NetworkConfig] = (),
    trees: bool = False,
    read: NotesConfig = NOTES,
    cohort: Cohort | None = None,
) -> SmallModel:
    """Saves a network with random weights, further members, and a calibration that is not the identity."""
    cohort = cohort or small_cohort()
    chosen = (network or NetworkConfig(cell=cell, hidden_size=8, layers=2), *further)
    target = task or TaskSpec("in_hospital_death", description="death in hospital (simulated)")
    fitted = Encoding.fit(cohort.stays, encoding or EncodingConfig(), statics=cohort.statics)
    patients = [cohort.patient_id[i] for i in cohort.stays.stay_of_note()]
    tokenizer = train_reader(list(cohort.stays.note_text), patients, read) if notes else None
    torch.manual_seed(0)
    members: list[Member] = [
        RecurrentNetwork(
            one,
            width=fitted.width,
            outputs=target.outputs,
            notes=read if notes else None,
            vocabulary_size=tokenizer.vocabulary_size if tokenizer else 0,
            layout=fitted.layout,
        )
        for one in chosen
    ]
    for member in members:
        # What notes add is nothing in a network that has not been trained.
        if isinstance(member, RecurrentNetwork) and member.note_memory is not None:
            torch.nn.init.normal_(member.note_memory.head.weight, std=0.2)
    share = 0.6 / len(chosen) if trees else 1 / len(chosen)
    specs = tuple(MemberSpec(MemberKind.NETWORK, share, seed, one) for seed, one in enumerate(chosen))
    if trees:
        members.append(small_trees(fitted.encode(cohort.stays).features, target))
        specs = (*specs, MemberSpec(MemberKind.TREES, 0.4))
    rows = ((0.2, 0.1, -0.1),) * target.outputs
    bundle = Bundle(
        name="small",
        task=target,
        channels=cohort.channels,
        statics=cohort.statics,
        encoding=fitted,
        members=specs,
        notes=read if notes else None,
        calibration=Calibration(target.kind, Calibration.identity(target.kind, 1).method, rows, rows, (0.0, 4.0)),
        thresholds={"in_hospital_death/event1": 0.2},
        cohort={"fingerprint": cohort.fingerprint, "licence": cohort.licence, "source": cohort.source},
        created="2026-01-01T00:00:00+00:00",
    )
    ensemble = Ensemble(members, [spec.weight for spec in specs])
    digest = save_artifact(folder, bundle, ensemble, tokenizer, documents={"card.md": "# small\n"})
    return SmallModel(folder, cohort, digest)


def tree_texts(features: np.ndarray, task: TaskSpec) -> list[str]:
    """LightGBM models of whether sums of two features lie above their median: an output each, or all classes."""
    settings: dict[str, Any] = {"num_leaves": 7, "min_data_in_leaf": 3, "num_threads": 1, "verbosity": -1}
    sums = (features + np.roll(features, 1, axis=1))[:, : task.outputs]
    tables = sums[:, : task.targets] > np.median(sums[:, : task.targets], axis=0)
    if task.kind is TargetKind.MULTICLASS:
        settings |= {"objective": "multiclass", "num_class": task.outputs}
        tables = np.argsort(sums, axis=1)[:, :1]
    else:
        settings["objective"] = "l2" if task.kind is TargetKind.REGRESSION else "binary"
    fits = [
        lightgbm.train(settings, lightgbm.Dataset(features, column * 1.0), num_boost_round=10) for column in tables.T
    ]
    return [str(fit.model_to_string()) for fit in fits]


def small_trees(features: np.ndarray, task: TaskSpec) -> TreeMember:
    """Boosted trees over these features."""
    return TreeMember(tree_texts(features, task), width=features.shape[1], outputs=task.outputs)


def finite(values: np.ndarray) -> bool:
    """Whether every number is finite."""
    return bool(np.isfinite(values).all())
