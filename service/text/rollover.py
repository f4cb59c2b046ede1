"""From a version that a name of a model of documents points to, to answers by it: verify, warm, switch, or refuse.

Documents leave no state behind, so a switch is one assignment. Requests that were read before keep the model that they
were read for; whoever wants the version before has its alias point back.
"""

from __future__ import annotations

import logging
from functools import partial

from models.errors import ArtifactError, SequelaError
from service.audit import Audit, AuditEvent
from service.errors import Problem
from service.live.rebuilding import Background
from service.logs import Event, log_event
from service.metrics import Metrics
from service.model_uri import artifact_folder, names_registry
from service.schema_answers import TextModelStanding
from service.selection import Found, Origin, Source, record_verified, usable_device
from service.settings import Settings
from service.text.answering import answer_once
from service.text.lanes import Lanes
from service.text.models import TextModel, TextModels, TextPlace, load_text_model
from service.watcher import Followed


class TextRollover:
    """Changes the models of documents that answer.

    Args:
        settings: where versions lie, and the device.
        models: the models.
        lanes: the threads that compute.
        background: loads models.
        metrics: figures.
        audit: records of every change.
    """

    def __init__(
        self,
        settings: Settings,
        models: TextModels,
        lanes: Lanes,
        background: Background,
        *,
        metrics: Metrics,
        audit: Audit,
    ) -> None:
        self._settings, self._models, self._lanes = settings, models, lanes
        self._background, self._metrics, self._audit = background, metrics, audit
        self._refused: dict[TextPlace, Found] = {}

    @property
    def names(self) -> list[Followed]:
        """The names to follow."""
        return [Followed(p.uri, partial(self.point, p), partial(self.refuse, p)) for p in self._models.places]

    async def warm_up(self) -> None:
        """Answers for one text by every model, so that no request pays for what torch sets up once."""
        for place in self._models.places:
            await self._lanes.run(1, answer_once, place.current)

    async def point(self, place: TextPlace, found: Found) -> None:
        """Has a name stand for this version.

        Raises:
            Problem: if the audit cannot be written, or too much waits; nothing is changed then.
        """
        if _is(place.current, found):
            place.refused = ""
        elif self._refused.get(place) != found:
            model = await self._loaded(place, found)
            if model is not None:
                self._switch(place, model)

    def refuse(self, place: TextPlace, version: str, reason: str) -> None:
        """Says that a version does not answer, and why; the one that does goes on."""
        place.refused = version or "unknown"
        self._metrics.count_text_swap(place.current.name, "refused")
        log_event(Event.MODEL_REFUSED, level=logging.ERROR, model=place.uri, version=version, reason=reason)
        self._audit.record(AuditEvent.MODEL_REFUSED, version=version)

    def tell_models(self) -> None:
        """States which models answer."""
        self._metrics.set_text_models(
            {
                "model": place.current.name,
                "name": place.current.ref.name,
                "version": place.current.origin.version or "",
                "digest": place.current.ref.digest,
                "source": str(place.current.origin.source),
            }
            for place in self._models.places
        )

    async def _loaded(self, place: TextPlace, found: Found) -> TextModel | None:
        """A version, verified and warm; None if it does not hold.

        Raises:
            Problem: if too much waits, so that another look must tell.
        """
        try:
            model = await self._background.run(self._verified, place, found)
            await self._lanes.run(1, answer_once, model)
            record_verified(self._settings, place.uri, found)
        except Problem:  # says nothing of the version: nobody had time for it
            raise
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it, it shall not answer
            self._refused[place] = found
            self.refuse(place, found.version, str(error) if isinstance(error, SequelaError) else type(error).__name__)
            return None
        self._refused.pop(place, None)
        return model

    def _verified(self, place: TextPlace, found: Found) -> TextModel:
        name = place.current.name
        folder, device = artifact_folder(self._settings.cache, found.digest), usable_device(self._settings.device)
        loaded = load_text_model(name, folder, digest=found.digest, device=device)
        model = TextModel(name, loaded, Origin(Source.REGISTRY, found.version))
        _check_same_task(place.current, model)
        return model

    def _switch(self, place: TextPlace, model: TextModel) -> None:
        version, digest = model.origin.version or "", model.model.digest
        self._audit.record(AuditEvent.SWAPPED, digest=digest, version=version)
        place.current, place.refused = model, ""
        self._metrics.count_text_swap(model.name, "switched")
        self.tell_models()
        log_event(Event.MODEL_SWITCHED, model=place.uri, version=version, digest=digest)


def text_standing(place: TextPlace) -> TextModelStanding:
    """What a name of a model of documents stands for at this moment."""
    return TextModelStanding(
        name=place.current.name,
        model=place.uri if names_registry(place.uri) else "",
        version=place.current.origin.version or "",
        refused=place.refused,
    )


def _check_same_task(served: TextModel, other: TextModel) -> None:
    """Refuses a model that answers another question: who calls reads the answer by its labels.

    Raises:
        ArtifactError: if it does.
    """
    mine, its = served.facts, other.facts
    if (mine.task, mine.labels, mine.language) != (its.task, its.labels, its.language):
        raise ArtifactError(
            "model must have the task, labels and language of the served one, got others; "
            "name it in SEQUELA_TEXT_MODELS under a name of its own"
        )


def _is(model: TextModel, found: Found) -> bool:
    return (model.origin.version, model.model.digest) == (found.version, found.digest)
