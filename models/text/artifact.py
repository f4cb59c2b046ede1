"""A model of documents to and from a directory: JSON and safetensors, every file under a digest, no pickle anywhere.

manifest.json          sha256 and size of every other file; its own digest names the version
bundle.json            the model's facts (`models.text.bundle.TextBundle`)
weights.safetensors    the members' parameters, each name after its member's number
tokenizer.json         the tokenizer
golden.json            sentences written for this purpose with their risks, checked at every load
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact_folder import artifact_digest, read_json, verify_digests
from models.ensemble import Ensemble
from models.errors import ArtifactError
from models.streaming import StreamingNetwork
from models.text.bundle import TextBundle, TextMemberKind, TextMemberSpec
from models.text.network import TextNetwork
from models.text.phrases import PhraseMember
from models.text.saving import GOLDEN, WEIGHTS, read_facts, read_weights, save_model
from models.text.scorer import TextScorer
from models.text.tokenizer import TextTokenizer

TOKENIZER, CARD = "tokenizer.json", "card.md"
# Risks may differ by this much between engines and machines.
TOLERANCE = 1e-5
GOLDEN_TEXTS = (
    "Aspirin 100 mg was stopped because of gastric bleeding; blood pressure 120/80.",
    "The patient had no fever. Knee replacement on the left side was uneventful.",
    "右肺上葉に２０ｍｍの結節を認め、肺癌を疑う。胸水なし。",
    "",
)


def save_text_artifact(folder: Path, scorer: TextScorer, *, documents: Mapping[str, str] | None = None) -> str:
    """Writes the model to `folder`, whole or not at all, and returns its digest, `sha256:<hex>`.

    Args:
        folder: must not exist yet.
        scorer: the model.
        documents: further text files by name, such as the model card.

    Raises:
        ArtifactError: if the folder exists, or the written model does not answer as the given one.
    """

    def golden(written: Path) -> dict[str, Any]:
        found = {"texts": list(GOLDEN_TEXTS), "risk": _risks(_read_scorer(written, device="cpu", digest=""))}
        _check_golden(found, scorer)
        return found

    files = {TOKENIZER: scorer.tokenizer.to_json(), **(documents or {})}
    return save_model(folder, scorer.bundle, scorer.network.members.state_dict(), files=files, golden=golden)


def load_text_artifact(folder: Path, *, device: str = "cpu", expected_digest: str | None = None) -> TextScorer:
    """Reads and verifies a model.

    Args:
        folder: a folder that `save_text_artifact` wrote.
        device: where the members shall run.
        expected_digest: the digest that the registry states; None takes the folder's own.

    Raises:
        ArtifactError: if a file is missing, surplus or altered, the schema is another one, or the golden risks
            do not hold.
    """
    verify_digests(folder, expected_digest=expected_digest)
    scorer = _read_scorer(folder, device=device, digest=artifact_digest(folder))
    _check_golden(read_json(folder / GOLDEN), scorer)
    return scorer


def read_text_bundle(folder: Path) -> TextBundle:
    """The facts of an artifact, without its weights.

    Raises:
        ArtifactError: if they do not fit this release's schema.
    """
    return read_facts(TextBundle, folder)


def _read_scorer(folder: Path, *, device: str, digest: str) -> TextScorer:
    bundle = read_text_bundle(folder)
    try:
        tokenizer = TextTokenizer.from_json((folder / TOKENIZER).read_text(encoding="utf-8"))
        members = [_member(spec, bundle, tokenizer.vocabulary_size) for spec in bundle.members]
        network = Ensemble(members, [spec.weight for spec in bundle.members])
        network.members.load_state_dict(read_weights(folder), strict=True)
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        raise ArtifactError(
            f"{WEIGHTS} and {TOKENIZER} must hold the members' parameters and their tokens; fetch the artifact again"
        ) from error
    card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
    return TextScorer(bundle, network, tokenizer, digest=digest, card=card, device=device)


def _member(spec: TextMemberSpec, bundle: TextBundle, vocabulary_size: int) -> StreamingNetwork:
    outputs = len(bundle.task.labels)
    if spec.kind is TextMemberKind.NETWORK:
        return TextNetwork(bundle.network, vocabulary_size=vocabulary_size, outputs=outputs, at_ends=True)
    empty = np.zeros(spec.phrases)
    return PhraseMember(
        empty.astype(np.int64), empty, longest=spec.longest, vocabulary_size=vocabulary_size, outputs=outputs
    )


def _risks(scorer: TextScorer) -> Any:
    return scorer.classify(GOLDEN_TEXTS).probability.tolist()


def _check_golden(golden: dict[str, Any], scorer: TextScorer) -> None:
    """Refuses a model that does not give the stored risks.

    Raises:
        ArtifactError: if a risk differs by more than 1e-5.
    """
    found, stored = np.array(_risks(scorer)), np.array(golden["risk"])
    same = golden["texts"] == list(GOLDEN_TEXTS) and found.shape == stored.shape
    if not same or not float(np.max(np.abs(found - stored), initial=0.0)) <= TOLERANCE:
        raise ArtifactError(
            f"golden risks must hold within {TOLERANCE:g}, got others; fetch the artifact again or check the "
            "installed torch"
        )
