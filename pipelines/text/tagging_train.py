"""From an annotated corpus and a configuration to a verified tagging artifact with its figures: one run, whole.

The order is fixed: scan for identifiers of people, split by group, fit the baselines, learn the vocabulary, fit,
choose the epoch, calibrate, judge all on the hold-out, save. The network comes last of what takes long, so that
nothing stands between it and its artifact.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact_folder import new_place
from models.errors import DataError
from models.record import to_plain
from models.stay import Ints
from models.text.spans import TagSet
from models.text.tagger import Tagger
from models.text.tagging_artifact import TaggingBundle, save_tagging_artifact
from models.text.tagging_network import TaggingNetwork
from models.text.vocabulary import WordVocabulary
from pipelines.epochs import OnEpoch
from pipelines.split import Part
from pipelines.text.absent_labels import absent_labels, absent_lines
from pipelines.text.card import text_card
from pipelines.text.corpus import Corpus
from pipelines.text.identifiers.guard import guard
from pipelines.text.tagging_baselines import DictionaryTagger, LinearChainTagger, SpanTagger
from pipelines.text.tagging_config import TaggingRunConfig
from pipelines.text.tagging_data import TaggedWindows, read_tagged, split_documents
from pipelines.text.tagging_evaluate import judge_tagger
from pipelines.text.tagging_fit import TaggingFit, fit_tagger
from pipelines.text.vector_file import Vectors, digest_of, start_from, vector_facts, without_place, word_vectors
from pipelines.threads import torch_threads

LIBRARIES = ("torch", "pytorch-lightning", "numpy", "mlflow", "safetensors")
Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainedTagger:
    """What a tagging run leaves.

    Args:
        artifact: folder of the saved model.
        digest: its digest.
        bundle: its facts.
        tagger: the model.
        figures: of the model and its baselines on the hold-out, as `judge_tagger` gives them.
        history: one row an epoch.
    """

    artifact: Path
    digest: str
    bundle: TaggingBundle
    tagger: Tagger
    figures: dict[str, Any]
    history: list[dict[str, float]]


def train_tagger(
    corpus: Corpus,
    config: TaggingRunConfig,
    *,
    folder: Path,
    resume: bool = False,
    say: Say = lambda _: None,
    on_epoch: OnEpoch | None = None,
) -> TrainedTagger:
    """Trains one tagger.

    Args:
        corpus: annotated documents.
        config: the run's configuration.
        folder: where checkpoints and the artifact go.
        resume: go on after the last whole epoch in the folder, if there is one.
        say: receives lines for people.
        on_epoch: receives every epoch's figures as soon as they are known.

    Raises:
        SequelaError: with what is wrong and what to do; nothing is saved then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check(corpus, config)
    for fact in guard(corpus.documents.text, config.identifiers, what="corpus").lines():
        say(fact)
    say(f"corpus {corpus.fingerprint[:23]}: {len(corpus):,} documents, {sum(map(len, corpus.spans)):,} spans")
    parts = split_documents(corpus, config.split, config.held_out)
    marked = [[span.label for span in own] for own in corpus.spans]
    absent = absent_labels(config.task.labels, marked, parts)
    for fact in absent_lines(absent, config.task.labels):
        say(fact)
    seen = np.sort(np.concatenate([rows for part, rows in parts.items() if part is not Part.TEST]))
    rivals = fit_rivals(corpus.select(seen.tolist()), config)
    with torch_threads(config.threads):
        tagger, fit, vectors = _fitted(corpus, parts, config, folder / "checkpoints", say, on_epoch, resume=resume)
        held_out = corpus.select(parts[Part.TEST].tolist())
        figures = judge_tagger(tagger, held_out, config.evaluation, rivals=rivals)
    facts = {**absent, **vector_facts(vectors), "sharpness": fit.sharpness}
    bundle = _bundle(corpus, parts, config, tagger, figures, facts)
    artifact = new_place(folder, bundle.created)
    digest = save_tagging_artifact(artifact, bundle, tagger, documents=text_card(bundle))
    return TrainedTagger(artifact, digest, bundle, tagger, figures, fit.history)


def fit_rivals(corpus: Corpus, config: TaggingRunConfig) -> dict[str, SpanTagger]:
    """The baselines, trained on everything that is not held out: they need no part to choose or calibrate on."""
    texts, spans = corpus.documents.text, corpus.spans
    rivals: dict[str, SpanTagger] = {}
    if config.baselines.dictionary:
        rivals["dictionary"] = DictionaryTagger.train(texts, spans)
    if config.baselines.linear_chain:
        rivals["linear_chain"] = LinearChainTagger.train(texts, spans, config.task.labels)
    return rivals


def _check(corpus: Corpus, config: TaggingRunConfig) -> None:
    if not corpus.span_labels or set(corpus.span_labels) - set(config.task.labels):
        raise DataError(
            f"corpus must hold spans, with labels of the task's {len(config.task.labels)} alone, got "
            f"{len(corpus.span_labels)} labels; correct task.labels or prepare annotated documents"
        )


def _fitted(
    corpus: Corpus,
    parts: dict[Part, Ints],
    config: TaggingRunConfig,
    folder: Path,
    say: Say,
    on_epoch: OnEpoch | None,
    *,
    resume: bool,
) -> tuple[Tagger, TaggingFit, Vectors | None]:
    training = corpus.select(parts[Part.TRAIN].tolist())
    vocabulary = WordVocabulary.train(training.documents.text, training.group, config.vocabulary)
    tag_set = TagSet(config.task.labels)

    def windows(part: Part) -> TaggedWindows:
        own = corpus.select(parts[part].tolist())
        return read_tagged(own.documents.text, own.spans, vocabulary, tag_set, config.network.window)

    train = windows(Part.TRAIN)
    say(
        f"  {len(train):,} windows of {sum(map(len, train.tags)):,} words train, {train.left_out:,} spans do not fit "
        f"their words; {vocabulary.word_count:,} words are known"
    )
    vectors = word_vectors(config.vectors, vocabulary, width=config.network.word_size)

    def make() -> TaggingNetwork:
        sizes = {"words": vocabulary.word_count, "characters": vocabulary.character_count}
        network = TaggingNetwork(config.network, config.task.labels, **sizes)
        start_from(network.reader.words, vectors)
        return network

    fit = fit_tagger(
        make,
        train=train,
        validation=windows(Part.VALIDATION),
        calibration=windows(Part.CALIBRATION),
        training=config.training,
        seed=config.seed,
        folder=folder,
        settings={"network": config.network, "labels": config.task.labels, "vectors": digest_of(vectors)},
        resume=resume,
        on_epoch=on_epoch,
    )
    return Tagger(fit.network, vocabulary), fit, vectors


def _bundle(
    corpus: Corpus,
    parts: dict[Part, Ints],
    config: TaggingRunConfig,
    tagger: Tagger,
    figures: dict[str, Any],
    facts: dict[str, Any],
) -> TaggingBundle:
    return TaggingBundle(
        name=config.name,
        labels=config.task.labels,
        network=tagger.network.config,
        language=config.task.language,
        description=config.task.description,
        metrics=figures,
        config=without_place(to_plain(config)),
        corpus={
            "fingerprint": corpus.fingerprint,
            "source": corpus.source,
            "licence": corpus.licence,
            "documents": len(corpus),
            "groups": len(set(corpus.group)),
            "parts": {str(part): len(rows) for part, rows in parts.items()},
            **facts,
        },
        versions={"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in LIBRARIES},
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )
