"""A whole tagging run: it learns what endings tell, is calibrated, judged beside its baselines, and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.errors import ConfigError, DataError, RefusedError
from models.text.tagging_artifact import load_tagging_artifact
from models.text.tagging_network import TaggingConfig
from models.text.vocabulary import VocabularyConfig
from pipelines.bootstrap import Resampling
from pipelines.split import SplitConfig
from pipelines.text.tagging_config import (
    TaggingBaselines,
    TaggingRunConfig,
    TaggingTask,
    TaggingTraining,
    load_tagging_config,
)
from pipelines.text.tagging_data import read_tagged
from pipelines.text.tagging_evaluate import judge_tagger
from pipelines.text.tagging_fit import best_sharpness, scale_scores
from pipelines.text.tagging_module import rate_share
from pipelines.text.tagging_train import train_tagger
from tests.pipelines.text.tagging_corpus import LABELS, made_corpus

CONFIGS = Path(__file__).parents[3] / "configs"
CONFIG = TaggingRunConfig(
    name="made-tagger",
    task=TaggingTask(LABELS, language="en"),
    threads=1,
    held_out=("devel",),
    split=SplitConfig("key", 0.6, 0.15, 0.15, 0.1),
    vocabulary=VocabularyConfig(min_groups=2),
    network=TaggingConfig(word_size=8, character_size=12, filters=12, affix_size=6, hidden_size=16, dropout=0.1),
    training=TaggingTraining(batch_windows=8, max_epochs=12, learning_rate=1e-2, average_decay=0.8),
    evaluation=Resampling(draws=50),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows, lines = [], []
    trained = train_tagger(
        made_corpus(held_out=True),
        CONFIG,
        folder=tmp_path_factory.mktemp("run"),
        say=lines.append,
        on_epoch=rows.append,
    )
    return trained, rows, lines


def test_unseen_names_are_found_by_their_endings(run):
    figures = run[0].figures
    assert figures["metrics"]["f1"]["value"] > 0.8
    assert figures["rivals"]["dictionary"]["metrics"]["recall"]["value"] < 0.5
    assert figures["rivals"]["dictionary"]["difference"]["f1"]["low"] > 0
    assert set(figures["rivals"]) == {"dictionary", "linear_chain"}


def test_every_epoch_is_told_with_its_figures(run):
    trained, rows, lines = run
    assert rows == trained.history
    assert len(rows) == CONFIG.training.max_epochs
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert any("windows" in line for line in lines)


def test_the_artifact_answers_as_the_run_was_judged(run):
    trained = run[0]
    model = load_tagging_artifact(trained.artifact, expected_digest=trained.digest)
    corpus = made_corpus(held_out=True)
    devel = corpus.select([row for row, part in enumerate(corpus.part) if part == "devel"])
    figures = judge_tagger(model.tagger, devel, CONFIG.evaluation)
    assert figures["metrics"] == trained.figures["metrics"]
    assert model.bundle.corpus["fingerprint"] == corpus.fingerprint
    assert "rivals" not in figures


def test_the_same_seed_gives_the_same_model(run, tmp_path):
    short = replace(CONFIG, training=replace(CONFIG.training, max_epochs=1), baselines=TaggingBaselines(False, False))
    first, second = (
        train_tagger(made_corpus(held_out=True), short, folder=tmp_path / name) for name in ("first", "second")
    )
    for ours, theirs in zip(first.tagger.network.parameters(), second.tagger.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_calibration_moves_probabilities_and_no_span(run):
    tagger, corpus = run[0].tagger, made_corpus(40)
    # Every fifth sentence is marked with nothing, so that being sure costs.
    spans = [() if row % 5 == 0 else own for row, own in enumerate(corpus.spans)]
    part = read_tagged(corpus.documents.text, spans, tagger.vocabulary, tagger.tag_set, 40)
    kept = {name: tensor.clone() for name, tensor in tagger.network.state_dict().items()}
    found, sharpness = tagger.tag(corpus.documents.text), best_sharpness(tagger.network, part)
    try:
        scale_scores(tagger.network, 2.0)
        sharper = tagger.tag(corpus.documents.text)
        assert [[t.span for t in spans] for spans in sharper] == [[t.span for t in spans] for spans in found]
        assert [[t.probability for t in spans] for spans in sharper] != [
            [t.probability for t in spans] for spans in found
        ]
        assert best_sharpness(tagger.network, part) == pytest.approx(sharpness / 2, rel=0.1)
    finally:
        tagger.network.load_state_dict(kept)


def test_labels_that_the_task_does_not_name_are_refused(tmp_path):
    config = replace(CONFIG, task=TaggingTask(("drug",)))
    with pytest.raises(DataError, match=r"task\.labels"):
        train_tagger(made_corpus(held_out=True), config, folder=tmp_path)


def test_documents_without_spans_judge_nothing(run):
    corpus = made_corpus(8)
    object.__setattr__(corpus, "spans", ((),) * 8)
    with pytest.raises(DataError, match="annotated"):
        judge_tagger(run[0].tagger, corpus, CONFIG.evaluation)


def test_a_run_whose_loss_is_no_number_is_refused(tmp_path):
    training = replace(CONFIG.training, learning_rate=1e30, gradient_clip=0.0, max_epochs=1)
    with pytest.raises(RefusedError, match="finite"):
        train_tagger(made_corpus(held_out=True), replace(CONFIG, training=training), folder=tmp_path)


def test_the_rate_rises_and_falls():
    shares = [rate_share(i / 10, 0.2) for i in range(11)]
    assert shares[0] == 1e-3
    assert max(shares) == shares[2] == 1.0
    assert shares[2:] == sorted(shares[2:], reverse=True)
    assert shares[-1] == pytest.approx(0.02)


@pytest.mark.parametrize("name", ["chemicals-diseases-en", "findings-ja"])
def test_the_shipped_configurations_hold(name):
    assert load_tagging_config(CONFIGS / f"{name}.toml").name == name


@pytest.mark.parametrize(
    "choice",
    [
        {"max_epochs": 0},
        {"learning_rate": 0.0},
        {"warmup_fraction": 1.0},
        {"average_decay": -0.1},
        {"batch_windows": 0},
    ],
)
def test_settings_without_meaning_are_refused(choice):
    with pytest.raises(ConfigError, match=next(iter(choice))):
        TaggingTraining(**choice)


def test_a_name_that_no_registry_takes_is_refused():
    with pytest.raises(ConfigError, match="name"):
        replace(CONFIG, name="a/b")
    with pytest.raises(ConfigError, match="language"):
        TaggingTask(LABELS, language="fr")
