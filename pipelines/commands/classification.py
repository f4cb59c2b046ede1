"""`sequela train`, `evaluate` and `score` where documents are classified or given any number of labels."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.disclaimer import DISCLAIMER_EN
from models.errors import UsageError
from pipelines.commands.text_answers import (
    figure_lines,
    named_model,
    trained_answer,
    write_figures,
    write_rows,
)
from pipelines.parent_tags import parent_tags

if TYPE_CHECKING:
    from pipelines.settings import Settings
    from pipelines.text.config import TextRunConfig
    from pipelines.text.parent import TextParent

Say = Callable[[str], None]
_SHOWN = ("macro_f1", "micro_f1", "accuracy", "log_loss", "ece")


def train_classifier(args: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Trains and registers one model of documents; returns the run's identity and its metrics."""
    from pipelines.text.config import load_text_config

    if args.ray:
        raise UsageError("ray must be left out for documents, got it; drop it")
    written = load_text_config(args.config, args.set)  # a mistake in it is told before seconds of imports
    from pipelines.settings import Settings
    from pipelines.text.corpus_files import read_corpora
    from pipelines.text.publish import DocumentsPublication
    from pipelines.text.train import train_documents

    settings = Settings.from_environment()
    config, parent = _inherited(written, args.warm_start, settings)
    corpus = read_corpora(args.cohorts)
    folder = args.folder or Path("work") / config.name
    tags = {} if parent is None else parent_tags(parent.address, parent.scorer.digest)
    networks = config.members.networks
    with DocumentsPublication(config, settings, cohorts=args.cohorts, tags=tags, networks=networks) as publication:
        trained = train_documents(
            corpus,
            config,
            folder=folder,
            resume=args.resume,
            progress=not args.quiet,
            say=say,
            on_epoch=publication.log_epoch,
            parent=parent,
        )
        version = publication.register(trained)
    model = f"models:/{config.name}/{version}"
    lines = document_lines(trained.figures, of="hold-out")
    return trained_answer(publication.run_id, model, trained.figures, lines, say)


def _inherited(config: TextRunConfig, model: str | None, settings: Settings) -> tuple[TextRunConfig, TextParent | None]:
    """The version to start from, verified, and the configuration that goes with it; as it is without one."""
    from models.artifact_folder import artifact_kind
    from models.text.artifact import load_text_artifact
    from models.text.bundle import KIND
    from pipelines.registry import resolve_model
    from pipelines.text.parent import TextParent, inherited_text_config

    if model is None:
        return config, None
    resolved = resolve_model(model, settings)
    if artifact_kind(resolved.folder) != KIND:
        raise UsageError("warm-start must name a model that classifies documents, got another kind; leave it out")
    scorer = load_text_artifact(resolved.folder, expected_digest=resolved.digest)
    parent = TextParent(scorer, resolved.version.address if resolved.version else "artifact folder")
    return inherited_text_config(config, parent), parent


def evaluate_classifier(args: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """Judges a model on every labelled document of a corpus and writes the figures."""
    from dataclasses import replace

    from models.record import from_plain
    from models.scorer import resolve_device
    from models.text.artifact import load_text_artifact
    from pipelines.bootstrap import Resampling
    from pipelines.registry import resolve_model
    from pipelines.settings import Settings
    from pipelines.text.corpus_files import read_corpora
    from pipelines.text.document_evaluate import document_risks, judge_documents

    if args.html:
        raise UsageError("html must be left out for documents, got it; drop it")
    device = resolve_device("auto")
    scorer = load_text_artifact(folder, device=device)
    resampling = from_plain(Resampling, scorer.bundle.config["evaluation"], where="evaluation")
    if args.bootstrap is not None:
        resampling = replace(resampling, draws=args.bootstrap)
    corpus, settings = read_corpora([args.cohort]), Settings.from_environment()
    rivals = {}
    for address in args.against:
        rival = load_text_artifact(resolve_model(address, settings).folder, device=device)
        if rival.bundle.task.labels != scorer.bundle.task.labels:
            raise UsageError("against must name models of the same labels, got others; leave it out")
        rivals[address] = document_risks(rival, corpus.documents.text)
    figures = judge_documents(scorer, corpus, resampling, rivals=rivals)
    figures |= named_model(scorer.bundle, scorer.digest)
    return write_figures(figures, args.out, document_lines(figures, of="every labelled document of the corpus"), say)


def score_classifier(args: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """Writes a row for every document of a corpus, with the risk of every label."""
    from models.scorer import resolve_device
    from models.text.artifact import load_text_artifact
    from pipelines.text.corpus_files import read_corpora
    from pipelines.text.document_score import risk_table

    if args.uncertainty:
        raise UsageError("uncertainty must be left out for documents, got it; drop it")
    scorer = load_text_artifact(folder, device=resolve_device("auto"))
    documents = read_corpora([args.cohort]).documents
    table = risk_table(scorer, documents.text, documents.document_id)
    write_rows(table, args.out, scorer.bundle, scorer.digest)
    say(f"wrote the risks of {len(table):,} documents to {args.out}")
    say(DISCLAIMER_EN)
    return {"documents": len(table), "out": str(args.out), **named_model(scorer.bundle, scorer.digest)}


def document_lines(figures: dict[str, Any], *, of: str) -> list[str]:
    """A table of what `of` names: the model and every baseline, each figure with its interval."""
    head = f"{of}: {figures['documents']:,} documents of {figures['groups']:,} groups"
    return figure_lines(head, "model", figures, _SHOWN)
