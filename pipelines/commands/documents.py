"""`sequela train`, `evaluate` and `score` where what is read is a corpus of documents instead of a cohort of stays."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.disclaimer import DISCLAIMER_EN
from models.errors import UsageError
from pipelines.commands.text_answers import (
    figure_lines,
    named_model,
    trained_answer,
    write_figures,
    write_rows,
)

Say = Callable[[str], None]
_SHOWN = ("f1", "precision", "recall", "ece")


def train_documents(args: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Trains and registers one model of documents; returns the run's identity and its metrics."""
    from pipelines.config import read_plain
    from pipelines.text.tagging_config import TaggingKind

    kind = read_plain(args.config, args.set).get("task", {}).get("kind", "")
    if kind != TaggingKind.TAGGING:
        from pipelines.commands.classification import train_classifier

        return train_classifier(args, say)
    if args.warm_start or args.ray:
        raise UsageError("warm-start and ray must be left out for tagging, got one of them; drop it")
    return _train_tagger(args, say)


def _train_tagger(args: argparse.Namespace, say: Say) -> dict[str, Any]:
    from pipelines.text.tagging_config import load_tagging_config

    config = load_tagging_config(args.config, args.set)  # a mistake in it is told before seconds of imports
    from pipelines.settings import Settings
    from pipelines.text.corpus_files import read_corpora
    from pipelines.text.tagging_publish import TaggingPublication
    from pipelines.text.tagging_train import train_tagger

    corpus = read_corpora(args.cohorts)
    folder = args.folder or Path("work") / config.name
    with TaggingPublication(config, Settings.from_environment(), cohorts=args.cohorts) as publication:
        trained = train_tagger(
            corpus, config, folder=folder, resume=args.resume, say=say, on_epoch=publication.log_epoch
        )
        version = publication.register(trained)
    model = f"models:/{config.name}/{version}"
    lines = tagging_lines(trained.figures, of="hold-out")
    return trained_answer(publication.run_id, model, trained.figures, lines, say)


def evaluate_tagger(args: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """Judges a tagger on every document of a corpus and writes the figures."""
    from dataclasses import replace

    from models.record import from_plain
    from models.scorer import resolve_device
    from models.text.tagging_artifact import load_tagging_artifact
    from pipelines.bootstrap import Resampling
    from pipelines.text.corpus_files import read_corpora
    from pipelines.text.tagging_evaluate import judge_tagger

    if args.html or args.against:
        raise UsageError("html and against must be left out for tagging, got one of them; drop it")
    model = load_tagging_artifact(folder, device=resolve_device("auto"))
    resampling = from_plain(Resampling, model.bundle.config["evaluation"], where="evaluation")
    if args.bootstrap is not None:
        resampling = replace(resampling, draws=args.bootstrap)
    figures = judge_tagger(model.tagger, read_corpora([args.cohort]), resampling)
    figures |= named_model(model.bundle, model.digest)
    return write_figures(figures, args.out, tagging_lines(figures, of="every labelled document of the corpus"), say)


def score_tagger(args: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """Writes a row for every span that a tagger finds in a corpus."""
    from models.scorer import resolve_device
    from models.text.tagging_artifact import load_tagging_artifact
    from pipelines.text.corpus_files import read_corpora
    from pipelines.text.tagging_score import span_table

    if args.uncertainty:
        raise UsageError("uncertainty must be left out for tagging, got it; every span has its probability already")
    model = load_tagging_artifact(folder, device=resolve_device("auto"))
    documents = read_corpora([args.cohort]).documents
    table = span_table(model.tagger, documents.text, documents.document_id)
    write_rows(table, args.out, model.bundle, model.digest)
    say(f"wrote {len(table):,} spans of {len(documents):,} documents to {args.out}")
    say(DISCLAIMER_EN)
    facts = {"documents": len(documents), "spans": len(table), "out": str(args.out)}
    return facts | named_model(model.bundle, model.digest)


def tagging_lines(figures: dict[str, Any], *, of: str) -> list[str]:
    """A table of what `of` names: the tagger and every baseline, each figure with its interval."""
    head = f"{of}: {figures['documents']:,} documents, {figures['spans']:,} spans, exact places and labels"
    return figure_lines(head, "network", figures, _SHOWN)
