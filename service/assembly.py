"""Settings and verified models in, the parts of one application out, put together and not yet at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from service.audit import Audit, AuditLog
from service.batcher import Batcher
from service.live.calls import LiveStays
from service.live.choice import Keeping
from service.live.following import Following
from service.live.rebuilding import Background
from service.live.upkeep import make_live_stays
from service.metrics import Metrics
from service.rollover import Rollover, check_same_task, wanted_by
from service.routes import Service
from service.selection import Selected
from service.served import Arms, Models, Place, Served
from service.settings import Settings
from service.text.lanes import Lanes
from service.text.models import TextModels
from service.text.rollover import TextRollover
from service.text.routes import TextService
from service.watcher import Followed, Watcher


@dataclass(frozen=True)
class Changes:
    """What changes models beside the calls.

    Args:
        following: makes live stays known to another model.
        watcher: looks where names point.
        rollover: has other models answer.
        background: the thread that loads and folds.
    """

    following: Following
    watcher: Watcher
    rollover: Rollover
    background: Background

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Follows the names of models while the block runs."""
        tasks = [asyncio.create_task(self.following.keep_up()), asyncio.create_task(self.watcher.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.watcher.close()
            await self.rollover.close()
            self.background.close()


class Assembled(NamedTuple):
    """The parts of an application."""

    service: Service
    live: LiveStays
    keeping: Keeping
    changes: Changes
    texts: TextService


def assembled(
    settings: Settings,
    selected: Selected | None,
    challenger: Selected | None,
    audit: Audit,
    texts: TextModels | None = None,
) -> Assembled:
    """The parts of an application around these models: one of stays, its challenger, and those of documents.

    Raises:
        ArtifactError: if the challenger predicts something else.
        ConfigError: if the settings name no store or cache.
    """
    metrics = Metrics()
    inference = Batcher(
        max_waiting=settings.max_waiting,
        observe=lambda facts: metrics.observe_batch(facts.waited_s, facts.computed_s),
        shared=selected is None or selected.scorer.device.type == "cpu",
    )
    metrics.watch_queue(lambda: inference.waiting)
    if isinstance(audit, AuditLog):
        log = audit
        metrics.watch_audit(lambda: log.head[0])
    models = _models(settings, selected, challenger, inference)
    live, keeping = make_live_stays(
        settings, lambda stay_id: models.chosen(stay_id).stepper, metrics=metrics, audit=audit
    )
    background = Background(inference)
    following = Following(live.sessions, background, lambda stay_id: wanted_by(models, stay_id), metrics)
    rollover = Rollover(settings, models, following, background, inference=inference, metrics=metrics, audit=audit)
    rollover.tell_models()
    documents = _documents(settings, texts or TextModels(), background, metrics, audit)
    names = [Followed(p.model, partial(rollover.point, p), partial(rollover.refuse, p)) for p in models.places]
    watcher = Watcher(settings, [*names, *documents.rollover.names])
    changes = Changes(following, watcher, rollover, background)
    service = Service(settings, models, rollover, inference, metrics, audit, documents.models)
    return Assembled(service, live, keeping, changes, documents)


def _documents(
    settings: Settings, models: TextModels, background: Background, metrics: Metrics, audit: Audit
) -> TextService:
    lanes = Lanes(settings.max_waiting)
    rollover = TextRollover(settings, models, lanes, background, metrics=metrics, audit=audit)
    rollover.tell_models()
    return TextService(settings, models, lanes, rollover, metrics, audit)


def _models(settings: Settings, selected: Selected | None, challenger: Selected | None, inference: Batcher) -> Models:
    if selected is None:
        return Models(Place("", None))
    champion = Place(settings.model, Served.of(selected.scorer, selected.origin, settings, inference))
    if not settings.challenger or settings.challenger_key is None:
        return Models(champion)
    other = None
    if challenger is not None:
        check_same_task(selected.scorer, challenger.scorer)
        other = Served.of(challenger.scorer, challenger.origin, settings, inference)
    key = settings.challenger_key.get_secret_value().encode()
    arms = Arms(settings.challenger_share, key, settings.patient_separator)
    return Models(champion, Place(settings.challenger, other), arms)
