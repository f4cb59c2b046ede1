"""Facts, weights and files of a model of documents to a sealed folder, and facts and weights of one back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from models.artifact_folder import artifact_digest, read_json, sealed_folder, write_json
from models.errors import ArtifactError, ConfigError
from models.record import from_plain, to_plain
from models.text.facts import TextFacts

BUNDLE, WEIGHTS, GOLDEN = "bundle.json", "weights.safetensors", "golden.json"
Facts = TypeVar("Facts", bound=TextFacts)


def save_model(
    folder: Path,
    bundle: TextFacts,
    weights: Mapping[str, Tensor],
    *,
    files: Mapping[str, str],
    golden: Callable[[Path], dict[str, Any]],
) -> str:
    """Writes a model to `folder`, whole or not at all, and returns its digest, `sha256:<hex>`.

    Args:
        folder: must not exist yet.
        bundle: the model's facts.
        weights: its parameters by name.
        files: further text files by name.
        golden: answers of the model as it was written, which must be the given one's, so that saving proves loading;
            called with the folder that then is sealed.

    Raises:
        ArtifactError: if the folder exists, or as `golden` raises it.
    """
    kept = {name: t.detach().cpu().contiguous() for name, t in weights.items()}
    with sealed_folder(folder) as partial:
        safetensors.torch.save_file(kept, partial / WEIGHTS)
        write_json(partial / BUNDLE, to_plain(bundle))
        for name, text in files.items():
            (partial / name).write_text(text, encoding="utf-8")
        write_json(partial / GOLDEN, golden(partial))
    return artifact_digest(folder)


def read_facts(kind: type[Facts], folder: Path) -> Facts:
    """The facts of an artifact, without its weights.

    Raises:
        ArtifactError: if they do not fit this release's schema.
    """
    try:
        return from_plain(kind, read_json(folder / BUNDLE), where=BUNDLE)
    except ConfigError as error:
        raise ArtifactError(f"{BUNDLE} must fit this release's schema: {error}") from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The parameters of an artifact.

    Raises:
        ArtifactError: if they are none, or not finite.
    """
    try:
        weights = safetensors.torch.load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{WEIGHTS} must hold a model's parameters; fetch the artifact again") from error
    if not all(bool(torch.isfinite(t).all()) for t in weights.values()):
        raise ArtifactError(f"{WEIGHTS} must hold finite numbers, got others; train again")
    return weights
