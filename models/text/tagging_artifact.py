"""A tagging model to and from a directory: JSON and safetensors, every file under a digest, no pickle anywhere.

manifest.json          sha256 and size of every other file; its own digest names the version
bundle.json            the model's facts (`TaggingBundle`)
weights.safetensors    the network's parameters
vocabulary.json        known words and characters
golden.json            sentences written for this purpose with the spans found in them, checked at every load
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.artifact_folder import artifact_digest, read_json, verify_digests
from models.errors import ArtifactError
from models.text.facts import TextFacts
from models.text.saving import GOLDEN, WEIGHTS, read_facts, read_weights, save_model
from models.text.tagger import Tagger
from models.text.tagging_network import TaggingConfig, TaggingNetwork
from models.text.vocabulary import WordVocabulary

KIND = "tagging"
"""Stands in `bundle.json` as `kind` and tells the folder from another model's."""
VOCABULARY = "vocabulary.json"
# Probabilities may differ by this much between machines.
TOLERANCE = 1e-5
GOLDEN_TEXTS = (
    "Aspirin 100 mg was stopped because of gastric bleeding; blood pressure 120/80.",
    "The patient had no fever. Acute renal failure followed high-dose methotrexate.",
    "右肺上葉に２０ｍｍの結節を認め、肺癌を疑う。胸水なし。",
    "",
)


@dataclass(frozen=True)
class TaggingBundle(TextFacts):
    """A tagging model's facts; plain values.

    Args:
        name: name of the registered model.
        labels: what spans are labelled with.
        language: `en`, `ja` or empty.
        description: what is marked, for people.
        network: its sizes.
    """

    name: str
    labels: tuple[str, ...]
    network: TaggingConfig
    language: str = ""
    description: str = ""
    kind: str = field(default=KIND, kw_only=True)

    def __post_init__(self) -> None:
        """Refuses another kind of model and another layout."""
        self.check_layout(KIND)


@dataclass(frozen=True)
class TaggingModel:
    """A tagger with what is known of it.

    Args:
        bundle: its facts.
        tagger: what answers.
        digest: of the folder it came from.
    """

    bundle: TaggingBundle
    tagger: Tagger
    digest: str = ""


def save_tagging_artifact(
    folder: Path, bundle: TaggingBundle, tagger: Tagger, *, documents: Mapping[str, str] | None = None
) -> str:
    """Writes the model to `folder`, whole or not at all, and returns its digest, `sha256:<hex>`.

    Args:
        folder: must not exist yet.
        bundle: the model's facts.
        tagger: its network and vocabulary.
        documents: further text files by name, such as the model card.

    Raises:
        ArtifactError: if the folder exists, or the written model does not answer as the given one.
    """

    def golden(written: Path) -> dict[str, Any]:
        found = {"texts": list(GOLDEN_TEXTS), "spans": _found(_read_tagger(written, bundle, device="cpu"))}
        _check_golden(found, tagger)
        return found

    files = {VOCABULARY: tagger.vocabulary.to_json(), **(documents or {})}
    return save_model(folder, bundle, tagger.network.state_dict(), files=files, golden=golden)


def load_tagging_artifact(folder: Path, *, device: str = "cpu", expected_digest: str | None = None) -> TaggingModel:
    """Reads and verifies a model.

    Args:
        folder: a folder that `save_tagging_artifact` wrote.
        device: where the network shall run.
        expected_digest: the digest that the registry states; None takes the folder's own.

    Raises:
        ArtifactError: if a file is missing, surplus or altered, the schema is another one, or the golden spans
            do not hold.
    """
    verify_digests(folder, expected_digest=expected_digest)
    bundle = read_tagging_bundle(folder)
    tagger = _read_tagger(folder, bundle, device=device)
    _check_golden(read_json(folder / GOLDEN), tagger)
    return TaggingModel(bundle, tagger, artifact_digest(folder))


def read_tagging_bundle(folder: Path) -> TaggingBundle:
    """The facts of an artifact, without its weights.

    Raises:
        ArtifactError: if they do not fit this release's schema.
    """
    return read_facts(TaggingBundle, folder)


def _read_tagger(folder: Path, bundle: TaggingBundle, *, device: str) -> Tagger:
    try:
        vocabulary = WordVocabulary.from_json((folder / VOCABULARY).read_text(encoding="utf-8"))
        network = TaggingNetwork(
            bundle.network, bundle.labels, words=vocabulary.word_count, characters=vocabulary.character_count
        )
        network.load_state_dict(read_weights(folder), strict=True)
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        raise ArtifactError(
            f"{WEIGHTS} and {VOCABULARY} must hold one network and its words; fetch the artifact again"
        ) from error
    return Tagger(network.to(device), vocabulary)


def _found(tagger: Tagger) -> list[list[list[Any]]]:
    tagged = tagger.tag(GOLDEN_TEXTS)
    return [[[t.span.start, t.span.end, t.span.label, t.probability] for t in spans] for spans in tagged]


def _check_golden(golden: dict[str, Any], tagger: Tagger) -> None:
    """Refuses a tagger that does not find the stored spans.

    Raises:
        ArtifactError: if a span differs, or its probability by more than 1e-5.
    """
    ours = [tuple(item) for spans in _found(tagger) for item in spans]
    stored = [tuple(item) for spans in golden["spans"] for item in spans]
    same = golden["texts"] == list(GOLDEN_TEXTS) and [item[:3] for item in ours] == [item[:3] for item in stored]
    if not same or any(abs(a[3] - b[3]) > TOLERANCE for a, b in zip(ours, stored, strict=True)):
        raise ArtifactError(
            f"golden spans must hold, and their probabilities within {TOLERANCE:g}, got others; "
            "fetch the artifact again or check the installed torch"
        )
