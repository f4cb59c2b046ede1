"""A run on documents that starts from a registered model reads as it does, and learns on from where it stands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.errors import ConfigError, RefusedError
from models.text.artifact import load_text_artifact
from models.text.task import TextTask, TextTaskKind
from pipelines.text.card import CARD, CARD_JSON
from pipelines.text.config import TextPretrainingConfig
from pipelines.text.parent import TextParent, inherited_text_config
from pipelines.text.train import TrainedDocuments, train_documents
from pipelines.text.vector_file import VectorsConfig
from tests.pipelines.text.test_documents_training import CONFIG, corpus

ALONE = replace(CONFIG, pretraining=TextPretrainingConfig(), members=replace(CONFIG.members, phrases=False))
STILL = replace(ALONE, training=replace(ALONE.training, max_epochs=1, learning_rate=1e-9))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> TrainedDocuments:
    return train_documents(corpus(), ALONE, folder=tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def parent(first: TrainedDocuments) -> TextParent:
    return TextParent(load_text_artifact(first.artifact), "models:/reports/1")


def other_shape(config):
    """Settings that a parent's own replace."""
    return replace(
        config,
        network=replace(config.network, hidden_size=5),
        tokenizer=replace(config.tokenizer, vocabulary_size=300),
        members=replace(config.members, networks=2),
    )


def test_it_takes_tokenizer_shape_and_weights(first: TrainedDocuments, parent: TextParent, tmp_path: Path) -> None:
    said: list[str] = []
    config = inherited_text_config(other_shape(STILL), parent)
    found = train_documents(corpus(120), config, folder=tmp_path, parent=parent, say=said.append)
    assert found.scorer.tokenizer.to_json() == first.scorer.tokenizer.to_json()
    before, after = (next(iter(run.scorer.network)).state_dict() for run in (first, found))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if name != "head.bias":
            assert torch.allclose(tensor, after[name], atol=1e-5), name
    facts = found.bundle.corpus
    assert facts["warm_started_from"]["digest"] == parent.scorer.digest
    assert facts["trained_on"]["fingerprint"] == first.bundle.corpus["fingerprint"]
    assert any("models:/reports/1" in line for line in said)


def test_other_labels_take_everything_but_the_head(parent: TextParent, tmp_path: Path) -> None:
    task = TextTask(TextTaskKind.MULTILABEL)
    config = inherited_text_config(replace(STILL, task=task), parent)
    found = train_documents(corpus(140, several=True), config, folder=tmp_path, parent=parent)
    mine, its = (next(iter(scorer.network)).state_dict() for scorer in (found.scorer, parent.scorer))
    assert torch.allclose(mine["embedding.weight"], its["embedding.weight"], atol=1e-5)
    assert not torch.allclose(mine["head.weight"], its["head.weight"], atol=1e-3)


def test_its_own_corpus_and_weights_made_otherwise_are_refused(parent: TextParent, tmp_path: Path) -> None:
    config = inherited_text_config(STILL, parent)
    with pytest.raises(RefusedError, match="no new evidence"):
        train_documents(corpus(), config, folder=tmp_path, parent=parent)
    for other in (replace(STILL, pretraining=CONFIG.pretraining), replace(STILL, vectors=VectorsConfig("x.vec"))):
        with pytest.raises(ConfigError, match="weights are given"):
            inherited_text_config(other, parent)


def test_the_cards_two_forms_show_the_figures_of_the_bundle(first: TrainedDocuments) -> None:
    markdown = (first.artifact / CARD).read_text(encoding="utf-8")
    plain = json.loads((first.artifact / CARD_JSON).read_text(encoding="utf-8"))
    assert plain["metrics"] == json.loads(json.dumps(first.figures))
    value = first.figures["metrics"]["macro_f1"]
    shown = f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    assert f"| macro_f1 | {shown} |" in markdown
    assert "model less tfidf" in markdown
    assert plain["disclaimer"] in markdown
    assert plain["disclaimer_ja"] in markdown
    assert load_text_artifact(first.artifact).card == markdown
