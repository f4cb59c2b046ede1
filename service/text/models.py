"""Names of models in the settings in, verified models of documents out, each with what it can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.artifact_folder import artifact_kind
from models.errors import ArtifactError
from models.text import bundle as classifying
from models.text import tagging_artifact as tagging
from models.text.artifact import load_text_artifact
from models.text.scorer import TextScorer
from models.text.tagging_artifact import TaggingModel, load_tagging_artifact
from service.logs import Event, log_event
from service.schema_answers import ModelRef
from service.selection import Origin, keep_verified, located
from service.settings import Settings
from service.text.schema import TextModelFacts


@dataclass(frozen=True)
class TextModel:
    """One loaded model.

    Args:
        name: under which it is asked for.
        model: what classifies, or what tags.
        origin: how it was found.
    """

    name: str
    model: TextScorer | TaggingModel
    origin: Origin

    @property
    def ref(self) -> ModelRef:
        """Which model answered."""
        return ModelRef(name=self.model.bundle.name, version=self.origin.version, digest=self.model.digest)

    @property
    def facts(self) -> TextModelFacts:
        """What it is and how good it was."""
        bundle = self.model.bundle
        said: dict[str, Any]
        if isinstance(bundle, classifying.TextBundle):
            task = bundle.task
            said = {"task": str(task.kind), "labels": list(task.labels), "language": task.language}
            said["description"] = task.description
        else:
            said = {"task": "tagging", "labels": list(bundle.labels), "language": bundle.language}
            said["description"] = bundle.description
        return TextModelFacts(
            model=self.name,
            created=bundle.created,
            answered_by=self.ref,
            source=str(self.origin.source),
            metrics=bundle.metrics,
            **said,
        )


@dataclass(eq=False)
class TextPlace:
    """What one name of a model of documents means at this moment.

    Args:
        uri: of the model, as the settings give it.
        current: answers.
        refused: version that was refused last; empty once another one answers.
    """

    uri: str
    current: TextModel
    refused: str = ""


class TextModels:
    """All models of documents: a request keeps the one that it found, whatever its name means afterwards.

    Args:
        places: what every name means.
    """

    def __init__(self, places: Sequence[TextPlace] = ()) -> None:
        self.places = tuple(places)

    @property
    def by_name(self) -> dict[str, TextModel]:
        """Those that answer now."""
        return {place.current.name: place.current for place in self.places}

    def classifiers(self) -> dict[str, TextModel]:
        """Those that classify."""
        return {name: m for name, m in self.by_name.items() if isinstance(m.model, TextScorer)}

    def taggers(self) -> dict[str, TextModel]:
        """Those that tag."""
        return {name: m for name, m in self.by_name.items() if isinstance(m.model, TaggingModel)}


def select_text_models(settings: Settings) -> TextModels:
    """Finds, verifies and loads every model that the settings name.

    Raises:
        ArtifactError: if one is not there, does not hold, or is no model of documents.
        ConfigError: if a name has no meaning.
    """
    return TextModels([TextPlace(uri, _selected(name, uri, settings)) for name, uri in settings.text_models])


def load_text_model(name: str, folder: Path, *, digest: str | None, device: str) -> TextScorer | TaggingModel:
    """A verified model of documents.

    Args:
        name: under which it is asked for.
        folder: of its artifact.
        digest: that it must have; None for the folder's own.
        device: where it shall run.

    Raises:
        ArtifactError: if it does not hold, or is no model of documents.
    """
    kind = artifact_kind(folder)
    if kind == classifying.KIND:
        return load_text_artifact(folder, device=device, expected_digest=digest)
    if kind == tagging.KIND:
        return load_tagging_artifact(folder, device=device, expected_digest=digest)
    raise ArtifactError(
        f"text_models must name models of documents, got one of stays under {name!r}; set SEQUELA_MODEL for it"
    )


def _selected(name: str, uri: str, settings: Settings) -> TextModel:
    place = located(settings, uri)
    model = load_text_model(name, place.folder, digest=place.digest, device=place.device)
    keep_verified(settings, place)
    log_event(
        Event.MODEL_LOADED,
        model=model.bundle.name,
        version=place.origin.version,
        digest=model.digest,
        source=str(place.origin.source),
        device=place.device,
    )
    return TextModel(name, model, place.origin)
