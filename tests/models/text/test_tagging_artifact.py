"""A tagging model's folder: what goes in comes out, and nothing altered does."""

from __future__ import annotations

import json

import pytest
import torch

from models.errors import ArtifactError
from models.text.saving import BUNDLE, GOLDEN, WEIGHTS
from models.text.tagger import Tagger
from models.text.tagging_artifact import (
    TaggingBundle,
    load_tagging_artifact,
    read_tagging_bundle,
    save_tagging_artifact,
)
from models.text.tagging_network import TaggingConfig, TaggingNetwork
from models.text.vocabulary import VocabularyConfig, WordVocabulary

SIZES = TaggingConfig(word_size=4, character_size=4, filters=4, shape_size=2, affix_size=2, hidden_size=6)
BUNDLE_FACTS = TaggingBundle(name="tagger", labels=("drug", "finding"), network=SIZES)


def make_tagger(seed=0):
    torch.manual_seed(seed)
    vocabulary = WordVocabulary.train(
        ["Aspirin and fever", "fever aspirin"], ["a", "b"], VocabularyConfig(min_groups=2)
    )
    sizes = {"words": vocabulary.word_count, "characters": vocabulary.character_count}
    return Tagger(TaggingNetwork(SIZES, BUNDLE_FACTS.labels, **sizes), vocabulary)


@pytest.fixture
def folder(tmp_path):
    save_tagging_artifact(tmp_path / "model", BUNDLE_FACTS, make_tagger(), documents={"card.md": "# card"})
    return tmp_path / "model"


def test_a_model_comes_back_as_it_was(folder):
    model = load_tagging_artifact(folder)
    assert model.bundle == BUNDLE_FACTS
    texts = ["Aspirin caused fever 2 d later."]
    assert model.tagger.tag(texts) == make_tagger().tag(texts)


def test_the_folder_holds_no_pickle_and_tells_its_kind(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"bundle.json", "weights.safetensors", "vocabulary.json", "golden.json", "manifest.json", "card.md"}
    assert json.loads((folder / BUNDLE).read_text())["kind"] == "tagging"
    assert "Research use only" in read_tagging_bundle(folder).disclaimer


@pytest.mark.parametrize("name", ["bundle.json", "weights.safetensors", "vocabulary.json", "golden.json"])
def test_an_altered_file_is_refused(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(ArtifactError, match="sha256"):
        load_tagging_artifact(folder)


def reseal(folder, tmp_path):
    """The same files under new digests, as an attacker or a mistake would leave them."""
    from models.artifact_folder import sealed_folder

    with sealed_folder(tmp_path / "resealed") as partial:
        for path in folder.iterdir():
            if path.name != "manifest.json":
                (partial / path.name).write_bytes(path.read_bytes())
    return tmp_path / "resealed"


def test_golden_spans_that_do_not_hold_are_refused(folder, tmp_path):
    golden = json.loads((folder / GOLDEN).read_text())
    golden["spans"][0] = [[0, 3, "drug", 0.5]]
    (folder / GOLDEN).write_text(json.dumps(golden))
    with pytest.raises(ArtifactError, match="golden"):
        load_tagging_artifact(reseal(folder, tmp_path))


@pytest.mark.parametrize("damage", [b"", b"no weights"])
def test_weights_that_are_none_are_refused(folder, tmp_path, damage):
    (folder / WEIGHTS).write_bytes(damage)
    with pytest.raises(ArtifactError, match="parameters"):
        load_tagging_artifact(reseal(folder, tmp_path))


def test_weights_that_are_no_numbers_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / WEIGHTS)
    weights["head.bias"][0] = float("nan")
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ArtifactError, match="finite"):
        load_tagging_artifact(reseal(folder, tmp_path))


@pytest.mark.parametrize("change", [{"kind": "classification"}, {"schema_version": 9}, {"surplus": 1}])
def test_another_layout_is_refused(folder, change):
    plain = json.loads((folder / BUNDLE).read_text()) | change
    (folder / BUNDLE).write_text(json.dumps(plain))
    with pytest.raises(ArtifactError):
        read_tagging_bundle(folder)


def test_a_folder_is_not_written_over(folder):
    with pytest.raises(ArtifactError, match="must not exist"):
        save_tagging_artifact(folder, BUNDLE_FACTS, make_tagger())
