"""What the bundles of all models of documents hold: how good, made of what, when and by which release."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from models.disclaimer import DISCLAIMER_EN
from models.errors import ArtifactError

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class TextFacts:
    """Facts of a model of documents; plain values.

    Args:
        metrics: figures on the hold-out, with intervals, of the model and of every baseline.
        config: the resolved training configuration.
        corpus: fingerprint, source, licence and counts of the training corpus.
        versions: versions of the libraries that made it.
        created: UTC time, RFC 3339.
        kind: stands in `bundle.json` and tells the folder from another model's.
        disclaimer: the words that every answer carries.
        schema_version: version of this layout.
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    corpus: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    kind: str
    disclaimer: str = DISCLAIMER_EN
    schema_version: int = SCHEMA_VERSION

    def check_layout(self, kind: str) -> None:
        """Refuses another kind of model, and another layout.

        Raises:
            ArtifactError: if it is one.
        """
        if self.kind != kind or self.schema_version != SCHEMA_VERSION:
            raise ArtifactError(
                f"bundle must be of kind {kind} and schema {SCHEMA_VERSION}, got {self.kind!r} and "
                f"{self.schema_version!r}; load it with the release that wrote it"
            )
