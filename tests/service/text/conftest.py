"""Tiny models of documents with random weights, saved and loaded as any other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from models.calibration import Calibration
from models.ensemble import Ensemble
from models.scorer import Scorer
from models.task import TargetKind
from models.text.artifact import save_text_artifact
from models.text.bundle import TextBundle, TextMemberKind, TextMemberSpec
from models.text.network import TextNetwork, TextNetworkConfig
from models.text.scorer import TextScorer
from models.text.tagger import Tagger
from models.text.tagging_artifact import TaggingBundle, save_tagging_artifact
from models.text.tagging_network import TaggingConfig, TaggingNetwork
from models.text.task import TextTask, TextTaskKind
from models.text.tokenizer import TextTokenizer, TokenizerConfig
from models.text.vocabulary import VocabularyConfig, WordVocabulary
from service.app import create_app
from service.settings import Settings
from service.text.models import TextModels, select_text_models

TEXTS = ("Patient stable, no fever.", "発熱あり。抗菌薬を開始した。", "Lactate rising; sepsis suspected.")
SIZES = TaggingConfig(word_size=4, character_size=4, filters=4, shape_size=2, affix_size=2, hidden_size=6)


def save_classifier(folder: Path, kind: TextTaskKind, labels: tuple[str, ...], *, seed: int = 3) -> Path:
    tokenizer = TextTokenizer.train(TEXTS * 6, [str(i) for i in range(18)], TokenizerConfig(vocabulary_size=400))
    shape = TextNetworkConfig(embedding_size=8, hidden_size=8)
    torch.manual_seed(seed)
    network = TextNetwork(shape, vocabulary_size=tokenizer.vocabulary_size, outputs=len(labels))
    several = kind is TextTaskKind.MULTILABEL
    target = TargetKind.BINARY if several else TargetKind.MULTICLASS
    bundle = TextBundle(
        name="wards",
        task=TextTask(kind, labels, description="where a report comes from"),
        network=shape,
        members=(TextMemberSpec(TextMemberKind.NETWORK),),
        calibration=Calibration.identity(target, len(labels)),
        shift=(0.0,) * len(labels),
        decision=(0.5 if several else 0.0,) * len(labels),
        created="2026-01-01T00:00:00Z",
    )
    save_text_artifact(folder, TextScorer(bundle, Ensemble([network]), tokenizer))
    return folder


def save_tagger(folder: Path) -> Path:
    torch.manual_seed(0)
    vocabulary = WordVocabulary.train(
        ["Aspirin and fever", "fever aspirin"], ["a", "b"], VocabularyConfig(min_groups=2)
    )
    labels = ("drug", "finding")
    network = TaggingNetwork(SIZES, labels, words=vocabulary.word_count, characters=vocabulary.character_count)
    save_tagging_artifact(
        folder, TaggingBundle(name="entities", labels=labels, network=SIZES), Tagger(network, vocabulary)
    )
    return folder


@pytest.fixture(scope="session")
def text_artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a classifier, one of several labels, and a tagger, by name."""
    folder = tmp_path_factory.mktemp("texts")
    return {
        "ward": save_classifier(folder / "ward", TextTaskKind.CLASSIFICATION, ("surgery", "radiology", "office")),
        "symptoms": save_classifier(folder / "symptoms", TextTaskKind.MULTILABEL, ("fever", "cough")),
        "entities": save_tagger(folder / "entities"),
    }


@pytest.fixture(scope="session")
def named(text_artifacts: dict[str, Path]) -> str:
    """What `SEQUELA_TEXT_MODELS` says."""
    return ",".join(f"{name}={folder}" for name, folder in text_artifacts.items())


@pytest.fixture
def text_settings(named: str) -> Settings:
    """Settings with the three models."""
    return Settings(trusted_hosts=("testserver",), text_models=named, device="cpu", max_documents=3)


@pytest.fixture(scope="session")
def text_models(named: str) -> TextModels:
    """The three models, loaded."""
    return select_text_models(Settings(text_models=named, device="cpu"))


@pytest.fixture
def texts(scorer: Scorer, text_settings: Settings, text_models: TextModels) -> Iterator[TestClient]:
    """A client of a started application with the three models."""
    with TestClient(create_app(text_settings, scorer, texts=text_models)) as started:
        yield started
