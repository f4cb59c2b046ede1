"""From a labelled corpus and a configuration to a verified artifact with its figures: one run, whole.

The order is fixed: scan for identifiers of people, split by group, train the tokenizer, pre-train, fit the members,
calibrate, judge on the hold-out beside the baselines, save.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact_folder import new_place
from models.record import to_plain
from models.stay import Floats, Ints
from models.text.artifact import save_text_artifact
from models.text.bundle import TextBundle, TextMemberKind, TextMemberSpec
from models.text.phrases import PhraseMember
from models.text.scorer import TextScorer
from models.text.scoring import document_logits
from models.text.task import TextTaskKind
from pipelines.epochs import OnEpoch
from pipelines.split import Part
from pipelines.text.absent_labels import absent_labels, absent_lines
from pipelines.text.baselines import fit_tfidf
from pipelines.text.card import text_card
from pipelines.text.config import TextRunConfig
from pipelines.text.corpus import Corpus
from pipelines.text.dataset import TextDataset, build_dataset
from pipelines.text.document_calibrate import balanced_decision, best_thresholds, fit_calibration
from pipelines.text.document_evaluate import judge_documents
from pipelines.text.identifiers.guard import guard
from pipelines.text.members import TextMembers, fit_members, refitted
from pipelines.text.parent import TextParent, check_local
from pipelines.text.tagging_metrics import group_numbers
from pipelines.text.vector_file import vector_facts, without_place
from pipelines.threads import torch_threads

LIBRARIES = ("torch", "pytorch-lightning", "numpy", "mlflow", "safetensors", "tokenizers", "scikit-learn")
Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainedDocuments:
    """What a run leaves.

    Args:
        artifact: folder of the saved model.
        digest: its digest.
        scorer: the model.
        figures: of the model and its baselines on the hold-out, as `judge_documents` gives them.
        history: one row an epoch of every network, with the `member`'s number.
        members: what was fitted.
    """

    artifact: Path
    digest: str
    scorer: TextScorer
    figures: dict[str, Any]
    history: list[dict[str, float]]
    members: TextMembers

    @property
    def bundle(self) -> TextBundle:
        """The model's facts."""
        return self.scorer.bundle


def train_documents(
    corpus: Corpus,
    config: TextRunConfig,
    *,
    folder: Path,
    parts: Mapping[Part, Ints] | None = None,
    resume: bool = False,
    progress: bool = False,
    say: Say = lambda _: None,
    on_epoch: OnEpoch | None = None,
    parent: TextParent | None = None,
) -> TrainedDocuments:
    """Trains one model of documents.

    Args:
        corpus: labelled documents.
        config: the run's configuration.
        folder: where checkpoints and the artifact go.
        parts: rows of every part; by default the split of `config`.
        resume: continue from the newest checkpoint in the folder, if there is one.
        progress: show progress bars on standard error.
        say: receives lines for people.
        on_epoch: receives every epoch's figures as soon as they are known.
        parent: the version from whose tokenizer and weights it starts; `config` is then `inherited_text_config`'s.

    Raises:
        SequelaError: with what is wrong and what to do; nothing is saved then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for fact in guard(corpus.documents.text, config.identifiers, what="corpus").lines():
        say(fact)
    if parent is not None:
        check_local(corpus, parent, say)
    data = build_dataset(corpus, config, parts, parent=parent)
    say(
        f"corpus {corpus.fingerprint[:23]}: {len(corpus):,} documents, {len(data.task.labels)} labels, "
        f"{len(data.learnt.features):,} tokens train"
    )
    absent = absent_labels(data.task.labels, corpus.labels, {name: part.rows for name, part in data.parts.items()})
    for fact in absent_lines(absent, data.task.labels):
        say(fact)
    with torch_threads(config.threads):
        first = fit_members(
            data, config, folder=folder / "checkpoints", resume=resume, progress=progress, say=say, on_epoch=on_epoch
        )
        members = refitted(first, data, config)
        scorer = _scorer(corpus, data, config, first, members)
        held_out = corpus.select(data.parts[Part.TEST].rows.tolist())
        rivals = _rivals(corpus, data, config, held_out)
        figures = judge_documents(scorer, held_out, config.evaluation, rivals=rivals)
        bundle = replace(scorer.bundle, metrics=figures, corpus=scorer.bundle.corpus | absent)
        scorer = TextScorer(bundle, members.ensemble, data.tokenizer)
        artifact = new_place(folder, bundle.created)
        digest = save_text_artifact(artifact, scorer, documents=text_card(bundle))
        return TrainedDocuments(artifact, digest, scorer, figures, members.history, members)


def _rivals(corpus: Corpus, data: TextDataset, config: TextRunConfig, held_out: Corpus) -> dict[str, Floats]:
    """Risks of the baselines, fitted on everything that is not held out: they need no part to choose on."""
    if not config.baselines.tfidf:
        return {}
    rows = np.sort(np.concatenate([p.rows for name, p in data.parts.items() if name is not Part.TEST])).tolist()
    seen = corpus.select(rows)
    return {"tfidf": fit_tfidf(seen.documents.text, seen.labels, data.task).risks(held_out.documents.text)}


def _scorer(
    corpus: Corpus, data: TextDataset, config: TextRunConfig, first: TextMembers, members: TextMembers
) -> TextScorer:
    """The model of the members, calibrated by what the first ones, which know no such document, say of that part."""
    part = data.parts[Part.CALIBRATION]
    logits, label = document_logits(first.ensemble, part.read), part.label.astype(np.float64)
    shift = np.array(data.shift) * config.loss.balance
    groups = group_numbers(part.group).tolist()
    calibration = fit_calibration(logits + shift, label, groups, data.task, config.calibration)
    if data.task.kind is not TextTaskKind.MULTILABEL:
        decision = balanced_decision(calibration, shift)
    elif config.calibration.threshold:
        decision = (config.calibration.threshold,) * label.shape[1]
    else:
        decision = best_thresholds(calibration.apply(logits + shift, np.zeros(len(logits))), label)
    bundle = TextBundle(
        name=config.name,
        task=data.task,
        network=config.network,
        members=_specs(members, config),
        calibration=calibration,
        shift=tuple(shift.tolist()),
        decision=decision,
        config=without_place(to_plain(config)),
        corpus=_corpus_facts(corpus, data),
        versions={"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in LIBRARIES},
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
    return TextScorer(bundle, members.ensemble, data.tokenizer)


def _specs(members: TextMembers, config: TextRunConfig) -> tuple[TextMemberSpec, ...]:
    specs = []
    for number, (member, weight) in enumerate(zip(members.ensemble, members.ensemble.weights, strict=True)):
        if isinstance(member, PhraseMember):
            known = {"longest": member.longest, "phrases": member.phrases}
            specs.append(TextMemberSpec(TextMemberKind.PHRASES, weight, **known))
        else:
            specs.append(TextMemberSpec(TextMemberKind.NETWORK, weight, seed=config.seed + number))
    return tuple(specs)


def _corpus_facts(corpus: Corpus, data: TextDataset) -> dict[str, Any]:
    return {
        "fingerprint": corpus.fingerprint,
        "source": corpus.source,
        "licence": corpus.licence,
        "documents": len(corpus),
        "groups": len(set(corpus.group)),
        "parts": {str(name): len(part) for name, part in data.parts.items()},
        **vector_facts(data.vectors),
        **({} if data.parent is None else data.parent.facts),
    }
