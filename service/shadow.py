"""What a version that is tried says beside the answers of the one that serves, kept as differences alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from models.task import TargetKind
from service.audit import Audit, AuditEvent
from service.batcher import Batcher
from service.beside import LONG_STEPS
from service.live.following import Compared, Following
from service.logs import Event, log_event, log_failure
from service.metrics import Metrics
from service.scoring import Scored
from service.served import Phase, Place, Served

# Whole stays that are scored again by a version that is tried, at one time; others are left out.
AT_ONCE = 4
PPM = 1e6


@dataclass
class _Tally:
    """Differences between a version that is tried and the answers.

    Args:
        count: of comparisons.
        total: sum of each one's largest difference.
        largest: of all.
    """

    count: int = 0
    total: float = 0.0
    largest: float = 0.0

    def add(self, difference: float) -> None:
        """Counts a comparison."""
        self.count, self.total = self.count + 1, self.total + difference
        self.largest = max(self.largest, difference)

    @property
    def mean(self) -> float:
        """Of the comparisons' largest differences."""
        return self.total / max(self.count, 1)


class Shadow:
    """Compares versions that are tried with the answers.

    Args:
        following: has live stays known to them.
        inference: the thread that computes.
        metrics: figures.
        audit: records of what was found.
    """

    def __init__(self, following: Following, inference: Batcher, *, metrics: Metrics, audit: Audit) -> None:
        self._following, self._inference, self._metrics, self._audit = following, inference, metrics, audit
        self._tallies: dict[Place, _Tally] = {}
        self._scoring: set[asyncio.Task[None]] = set()

    def begin(self, place: Place, tried: Served) -> None:
        """Compares from now on."""
        tally = self._tallies[place] = _Tally()
        self._following.shadows[tried.stepper] = partial(self._compare, tried, tally)
        log_event(Event.SHADOW_STARTED, model=place.model, version=tried.version, digest=tried.digest)

    def end(self, place: Place) -> None:
        """Compares no more, and says what was found."""
        tried, tally = place.aside, self._tallies.pop(place, None)
        if tried is None or tally is None:
            return
        self._following.shadows.pop(tried.stepper, None)
        log_event(
            Event.SHADOW_ENDED,
            model=place.model,
            version=tried.version,
            compared=tally.count,
            difference_mean=tally.mean,
            difference_max=tally.largest,
        )
        counts = {"compared": tally.count, "mean_ppm": round(tally.mean * PPM), "max_ppm": round(tally.largest * PPM)}
        self._audit.record(AuditEvent.SHADOWED, digest=tried.digest, version=tried.version, counts=counts)

    def also_score(self, place: Place, body: bytes, scored: Scored) -> None:
        """Has a version that is tried score what was answered just now."""
        if place.phase is Phase.SHADOW and place.aside is not None and len(self._scoring) < AT_ONCE:
            task = asyncio.create_task(self._also_score(place, place.aside, body, scored))
            self._scoring.add(task)
            task.add_done_callback(self._scoring.discard)

    async def close(self) -> None:
        """Ends what goes on."""
        for task in self._scoring:
            task.cancel()
        await asyncio.gather(*self._scoring, return_exceptions=True)

    async def _also_score(self, place: Place, tried: Served, body: bytes, scored: Scored) -> None:
        try:
            run = self._inference.aside if scored.steps > LONG_STEPS else self._inference.run
            other = await run(tried.scoring.score, body)
        except Exception as error:  # noqa: BLE001  # what is tried may fail; the answer was given
            log_failure(Event.FAILED, error, request_id="")
            return
        tally = self._tallies.get(place)
        if tally is not None and scored.risks:
            self._compare(tried, tally, Compared(scored.risks, other.risks))

    def _compare(self, tried: Served, tally: _Tally, compared: Compared) -> None:
        differences = [abs(a - b) for a, b in zip(compared.answered, compared.tried, strict=True)]
        tally.add(max(differences))
        task = tried.stepper.bundle.task
        if task.kind is not TargetKind.REGRESSION:
            self._metrics.observe_shadow(task.output_names, differences, version=tried.version)
