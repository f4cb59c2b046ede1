"""A registered model of documents and the champion in, the verdict on their hold-out out: what promotion asks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from models.record import from_plain
from models.stay import Ints
from models.text.artifact import load_text_artifact
from models.text.scorer import TextScorer
from models.text.task import TextTaskKind
from pipelines.gate import GateCheck, GateVerdict
from pipelines.registry import ModelVersion
from pipelines.settings import Settings
from pipelines.split import Part, split_patients
from pipelines.text.config import TextRunConfig
from pipelines.text.corpus import Corpus
from pipelines.text.document_evaluate import as_table, document_risks, true_labels
from pipelines.text.document_metrics import Table, naming_difference
from pipelines.text.recorded import recorded_corpus, recorded_folders
from pipelines.text.verdict import compared, verdict


def judge_classifier(
    candidate: ModelVersion, champion: ModelVersion | None, settings: Settings, *, folders: Sequence[Path] = ()
) -> GateVerdict:
    """The verdict on a candidate, as of `pipelines.text.verdict`; nothing is moved.

    Args:
        candidate: the version that shall be promoted.
        champion: whom it is compared with; None without one.
        settings: where MLflow is.
        folders: of the candidate's corpora; those that its run recorded where left out.
    """

    def judge(model: TextScorer) -> tuple[GateCheck, Callable[[TextScorer], list[GateCheck]]]:
        config = from_plain(TextRunConfig, model.bundle.config, where="config")
        held_out = _held_out(folders or recorded_folders(candidate), model, config)
        rows, truth = true_labels(held_out, model.bundle.task)
        judged, least = held_out.select(rows), config.gate.min_documents
        amount = GateCheck("documents", len(judged) >= least, len(judged), f"at least {least}")
        return amount, lambda rival: _comparison(model, rival, judged, truth, config)

    bound = "digests and golden risks hold"
    return verdict(candidate, champion, settings, load=load_text_artifact, judge=judge, bound=bound)


def hold_out_rows(corpus: Corpus, config: TextRunConfig) -> Ints:
    """Rows of the documents that a run of this configuration held out."""
    several = config.task.kind is TextTaskKind.MULTILABEL
    labelled = np.array([i for i, own in enumerate(corpus.labels) if own or several], dtype=np.int64)
    return labelled[split_patients([corpus.group[i] for i in labelled], config.split)[Part.TEST]]


def _comparison(
    ours: TextScorer, champion: TextScorer, held_out: Corpus, truth: Table, config: TextRunConfig
) -> list[GateCheck]:
    task, its = ours.bundle.task, champion.bundle.task

    def difference() -> dict[str, float]:
        mine, theirs = _named(ours, held_out), _named(champion, held_out)
        return naming_difference(truth, mine, theirs, task.labels, held_out.group, config.evaluation)

    return compared(
        "macro_f1",
        same=(its.labels, its.kind) == (task.labels, task.kind),
        does="name",
        differ="task.kind or task.labels differ",
        margin=config.gate.macro_f1_margin,
        difference=difference,
    )


def _named(scorer: TextScorer, corpus: Corpus) -> Table:
    risk = document_risks(scorer, corpus.documents.text)
    return as_table(scorer.named(risk), risk.shape[1])


def _held_out(folders: Sequence[Path], model: TextScorer, config: TextRunConfig) -> Corpus:
    corpus = recorded_corpus(folders, model.bundle.corpus["fingerprint"])
    return corpus.select(hold_out_rows(corpus, config).tolist())
