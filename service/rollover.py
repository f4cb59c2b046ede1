"""From a version that a name of a model points to, to all stays answered by it: verify, try, switch, keep, or go back.

A version that does not hold never answers. One that does may first be tried: it scores what is asked, and only the
differences are kept. Then new calls go to it, stays follow one by one as their states are made, and the version before
stays ready for a while, its states going on. Pointing the name back then needs no computation.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from models.artifact import load_artifact
from models.errors import ArtifactError, SequelaError
from models.scorer import Scorer
from service.audit import Audit, AuditEvent
from service.batcher import Batcher
from service.errors import Problem
from service.live.following import Following, Wanted
from service.live.rebuilding import Background
from service.logs import Event, log_event, log_failure
from service.metrics import Metrics
from service.model_uri import artifact_folder
from service.selection import Found, Origin, Source, record_verified, usable_device
from service.served import Models, Phase, Place, Served
from service.settings import Settings
from service.shadow import Shadow

MINUTE_S = 60.0


class Rollover:
    """Changes the models that answer.

    Args:
        settings: for how long a version is tried and kept.
        models: the models.
        following: makes live stays known to another model.
        background: loads models.
        inference: the thread that computes.
        metrics: figures.
        audit: records of every change.
    """

    def __init__(
        self,
        settings: Settings,
        models: Models,
        following: Following,
        background: Background,
        *,
        inference: Batcher,
        metrics: Metrics,
        audit: Audit,
    ) -> None:
        self._settings, self._models, self._following = settings, models, following
        self._background, self._inference = background, inference
        self._metrics, self._audit = metrics, audit
        self._tasks: dict[Place, asyncio.Task[None]] = {}
        self._refused: dict[Place, Found] = {}
        self._left: dict[Place, Served] = {}
        self._unrecorded: dict[Place, Found] = {}
        self.shadow = Shadow(following, inference, metrics=metrics, audit=audit)

    async def point(self, place: Place, found: Found) -> None:
        """Has a name stand for this version.

        Raises:
            Problem: if the audit cannot be written, or too much waits for the model; nothing is changed then.
        """
        if _is(self._left.get(place), found):
            return  # somebody went back from it, and the name has not moved since
        self._left.pop(place, None)
        if _is(place.current, found):
            place.refused = ""
            self._record(place, self._unrecorded.get(place))
            if place.phase is Phase.SHADOW:
                await self._end(place)
        elif _is(place.aside, found):
            if place.phase is not Phase.SHADOW:
                self._switch(place, AuditEvent.ROLLED_BACK)
            elif self._tasks[place].done():  # its time is over, and what came then failed
                self._switch(place, AuditEvent.SWAPPED)
        elif self._refused.get(place) != found:
            served = await self._loaded(place, found)
            if served is not None:
                await self._end(place)
                place.aside = served
                if place.current is not None and self._settings.shadow_min:
                    self._try(place, served)
                else:
                    self._switch(place, AuditEvent.SWAPPED)

    async def go_back(self, place: Place, *, request_id: str = "", key: str = "") -> bool:
        """Has the version that is kept answer again, or a trial end; False if there is neither.

        The version that is left so is not taken again before the name has pointed elsewhere.

        Args:
            place: the name.
            request_id: of the call that asks for it.
            key: public id of its key.

        Raises:
            Problem: if the audit cannot be written; nothing is changed then.
        """
        if place.aside is None or place.current is None:
            return False
        if place.phase is Phase.SHADOW:
            self._left[place] = place.aside
            await self._end(place)
            return True
        left = place.current
        self._switch(place, AuditEvent.ROLLED_BACK, request_id=request_id, key=key)
        self._left[place] = left
        return True

    def refuse(self, place: Place, version: str, reason: str) -> None:
        """Says that a version does not answer, and why; the one that does goes on."""
        place.refused = version or "unknown"
        self._metrics.count_swap("refused")
        log_event(Event.MODEL_REFUSED, level=logging.ERROR, model=place.model, version=version, reason=reason)
        self._audit.record(AuditEvent.MODEL_REFUSED, version=version)

    def tell_models(self) -> None:
        """States which models answer."""
        for number, place in enumerate(self._models.places):
            if place.current is not None:
                facts = place.current.facts
                tell = self._metrics.add_model if number else self._metrics.set_model
                tell(name=facts.name, version=place.current.version, digest=facts.digest, source=facts.source)

    async def close(self) -> None:
        """Ends what goes on; every stay is then answered by one of the two models."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), self.shadow.close(), return_exceptions=True)

    async def _loaded(self, place: Place, found: Found) -> Served | None:
        """A version, verified and warm; None if it does not hold.

        Raises:
            Problem: if too much waits for the model, so that another look must tell.
        """
        try:
            scorer = await self._background.run(_verified, self._settings, self._models, found)
            origin = Origin(Source.REGISTRY, found.version)
            stepper = self._models.first.stepper
            make = partial(Served.of, scorer, origin, self._settings, self._inference)
            served = await self._background.compute(stepper, make)
            await served.warm_up(self._inference)
        except Problem:  # says nothing of the version: the model that answers has no time for it
            raise
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it, it shall not answer
            self._refused[place] = found
            self.refuse(place, found.version, str(error) if isinstance(error, SequelaError) else type(error).__name__)
            return None
        self._refused.pop(place, None)
        self._record(place, found)
        return served

    def _record(self, place: Place, found: Found | None) -> None:
        """Notes that the copy may be served while MLflow is down; where that cannot be written, the next look tries."""
        self._unrecorded.pop(place, None)
        if found is not None and not _recorded(self._settings, place, found):
            self._unrecorded[place] = found

    def _try(self, place: Place, served: Served) -> None:
        place.phase = Phase.SHADOW
        self.shadow.begin(place, served)
        self._tasks[place] = asyncio.create_task(self._tried_out(place))

    async def _tried_out(self, place: Place) -> None:
        await self._following.bring(partial(self._stands_at, place))
        await asyncio.sleep(self._settings.shadow_min * MINUTE_S)
        self.shadow.end(place)
        self._switch(place, AuditEvent.SWAPPED)

    def _switch(self, place: Place, event: AuditEvent, *, request_id: str = "", key: str = "") -> None:
        """Has the model that stands aside answer."""
        served = place.aside
        if served is None:
            return
        self._audit.record(event, digest=served.digest, version=served.version, request_id=request_id, key=key)
        self._cancel(place)
        place.current, place.aside = served, place.current
        place.phase, place.refused = Phase.SWITCHING, ""
        back = event is AuditEvent.ROLLED_BACK
        self._metrics.count_swap("rolled_back" if back else "switched")
        self.tell_models()
        told = Event.MODEL_ROLLED_BACK if back else Event.MODEL_SWITCHED
        log_event(told, model=place.model, version=served.version, digest=served.digest)
        self._tasks[place] = asyncio.create_task(self._switched(place))

    async def _switched(self, place: Place) -> None:
        await self._following.bring(partial(self._stands_at, place))
        place.phase = Phase.KEEPING
        log_event(Event.STAYS_SWITCHED, model=place.model, version=place.current.version if place.current else "")
        await asyncio.sleep(self._settings.keep_min * MINUTE_S)
        place.aside, place.phase = None, Phase.STEADY
        await self._following.drop(partial(self._stands_at, place))

    async def _end(self, place: Place) -> None:
        """Gives up what stands aside."""
        self._cancel(place)
        if place.phase is Phase.SHADOW:
            self.shadow.end(place)
        place.aside, place.phase = None, Phase.STEADY
        await self._following.drop(partial(self._stands_at, place))

    def _cancel(self, place: Place) -> None:
        task = self._tasks.pop(place, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def _stands_at(self, place: Place, stay_id: str) -> bool:
        return self._models.place(stay_id) is place


def _verified(settings: Settings, models: Models, found: Found) -> Scorer:
    folder = artifact_folder(settings.cache, found.digest)
    scorer = load_artifact(folder, device=usable_device(settings.device), expected_digest=found.digest)
    check_same_task(models.first.stepper.scorer, scorer)
    return scorer


def _recorded(settings: Settings, place: Place, found: Found) -> bool:
    try:
        record_verified(settings, place.model, found)
    except OSError as error:  # of the disk: the version itself holds
        log_failure(Event.FAILED, error, request_id="")
        return False
    return True


def wanted_by(models: Models, stay_id: str) -> Wanted:
    """The models that shall know a stay."""
    place = models.place(stay_id)
    return Wanted((place.current or models.first).stepper, place.aside.stepper if place.aside else None)


def check_same_task(served: Scorer, other: Scorer) -> None:
    """Refuses a model that answers another question than the one that is served.

    Raises:
        ArtifactError: if it does.
    """
    mine, its = served.bundle.task, other.bundle.task
    if (mine.kind, mine.outcome, mine.output_names, mine.unit) != (its.kind, its.outcome, its.output_names, its.unit):
        raise ArtifactError(
            "model must predict what the served one predicts, got another task; serve it under a name of its own"
        )


def _is(served: Served | None, found: Found) -> bool:
    return served is not None and (served.version, served.digest) == (found.version, found.digest)
