"""What a call on a live stay came to, and the bytes that say so.

The bytes are put together by hand, because the types of `answers` would cost as much as the model's own step; a test
holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.scorer import MINUTES_PER_HOUR, Trajectories
from models.task import TargetKind
from service.live.fold import Score
from service.live.stepper import Stepper
from service.schema_answers import ModelRef
from service.scoring import SERVED_LEVEL

# Stays differ in which channels they never had, but not in very many ways.
MAX_NAMED = 4096


@dataclass(slots=True)
class Outcome:
    """What a call came to.

    Args:
        prediction_id: the answer's identifier.
        revision: the stay's version with it.
        score: the current one.
        steps: time steps behind it.
        seen: bit k is set once the encoding's channel k was observed.
        last: what was answered before, by any model; empty for nothing.
        observations: accepted with the call.
        notes: likewise.
        rejected: inputs that no score used, as `InputRef` has them.
        flagged: inputs that were used although they are unusual.
        unused: names that were sent and that the model does not read.
        replayed_from_min: earliest minute of what concerned the past; None for nothing.
        trajectory: where it was asked for.
        identifiers: where they were asked for.
        japanese: whether the disclaimer is wanted so.
    """

    prediction_id: str
    revision: int
    score: Score
    steps: int
    seen: int
    last: Sequence[float] = ()
    observations: int = 0
    notes: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)
    flagged: list[dict[str, Any]] = field(default_factory=list)
    unused: Sequence[str] = ()
    replayed_from_min: int | None = None
    trajectory: Trajectories | None = None
    identifiers: list[str] | None = None
    japanese: bool = False


_WORDS = {
    False: orjson.Fragment(orjson.dumps(DISCLAIMER_EN)),
    True: orjson.Fragment(orjson.dumps(DISCLAIMER_JA)),
}


class Wording:
    """Words the answers of one model.

    Args:
        stepper: the model.
    """

    def __init__(self, stepper: Stepper) -> None:
        bundle = stepper.bundle
        self._bundle, self._task = bundle, bundle.task
        model = ModelRef(name=bundle.name, version=stepper.origin.version, digest=stepper.scorer.digest)
        self.model = orjson.Fragment(model.model_dump_json().encode())
        self._never: dict[int, orjson.Fragment] = {}
        self._thresholds = [bundle.decision_threshold(name) for name in self._task.output_names]
        horizons: Sequence[float | None] = self._task.horizons_h or (None,) * self._task.outputs
        self._horizons = horizons
        uncertainty = bundle.uncertainty
        self._level = None if uncertainty is None else uncertainty.level_index(SERVED_LEVEL)
        self._promised = None if uncertainty is None or self._level is None else uncertainty.levels[self._level]
        self._word: Callable[[Outcome], dict[str, Any]] = {
            TargetKind.BINARY: self._binary,
            TargetKind.MULTICLASS: self._multiclass,
            TargetKind.REGRESSION: self._regression,
        }[self._task.kind]

    def answer(self, outcome: Outcome) -> bytes:
        """The answer's body."""
        replayed = outcome.replayed_from_min
        content = {
            "disclaimer": _WORDS[outcome.japanese],
            "disclaimer_ja": _WORDS[True],
            "prediction_id": outcome.prediction_id,
            "model": self.model,
            "outcome": self._task.outcome,
            "description": self._task.description,
            "as_of_h": outcome.score.time_min / MINUTES_PER_HOUR,
            "steps": outcome.steps,
            "rejected": outcome.rejected,
            "flagged": outcome.flagged,
            "unused": outcome.unused,
            "never_observed": self._never_observed(outcome.seen),
            "kind": self._task.kind,
            **self._word(outcome),
            "revision": outcome.revision,
            "accepted": {"observations": outcome.observations, "notes": outcome.notes},
            "replayed_from_h": None if replayed is None else replayed / MINUTES_PER_HOUR,
            "identifiers": outcome.identifiers,
        }
        return orjson.dumps(content, default=tuple)

    def _never_observed(self, seen: int) -> orjson.Fragment:
        fragment = self._never.get(seen)
        if fragment is None:
            if len(self._never) >= MAX_NAMED:
                self._never.clear()
            names = self._bundle.encoding.channels.names
            never = [name for k, name in enumerate(names) if not seen >> k & 1]
            fragment = self._never[seen] = orjson.Fragment(orjson.dumps(never))
        return fragment

    def _binary(self, outcome: Outcome) -> dict[str, Any]:
        score, last = outcome.score, outcome.last
        points = None
        if outcome.trajectory is not None:
            points = [{"time_h": h, "risk": r[0], "risks": r} for h, r in _points(outcome.trajectory)]
        return {
            "risk": score.values[0],
            "risks": [
                {
                    "outcome": name,
                    "horizon_h": self._horizons[k],
                    "risk": score.values[k],
                    "threshold": self._thresholds[k],
                    "interval": None if score.intervals is None else score.intervals[k],
                    **self._label_set(score, k, ("no_event", "event")),
                    "spread": None if score.spread is None else score.spread[k],
                }
                for k, name in enumerate(self._task.output_names)
            ],
            "trajectory": points,
            "change": score.values[0] - last[0] if len(last) == len(score.values) else None,
        }

    def _multiclass(self, outcome: Outcome) -> dict[str, Any]:
        score, last = outcome.score, outcome.last
        points = None
        if outcome.trajectory is not None:
            points = [{"time_h": h, "probabilities": r} for h, r in _points(outcome.trajectory)]
        same = len(last) == len(score.values)
        return {
            "classes": [
                {
                    "name": name,
                    "probability": score.values[k],
                    "spread": None if score.spread is None else score.spread[k],
                }
                for k, name in enumerate(self._task.classes)
            ],
            **self._label_set(score, 0, self._task.classes),
            "trajectory": points,
            "change": [a - b for a, b in zip(score.values, last, strict=True)] if same else None,
        }

    def _regression(self, outcome: Outcome) -> dict[str, Any]:
        score, last = outcome.score, outcome.last
        points = None
        if outcome.trajectory is not None:
            points = [{"time_h": h, "value": r[0]} for h, r in _points(outcome.trajectory)]
        return {
            "value": score.values[0],
            "unit": self._task.unit,
            "spread": None if score.spread is None else score.spread[0],
            "trajectory": points,
            "change": score.values[0] - last[0] if last else None,
        }

    def _label_set(self, score: Score, target: int, names: Sequence[str]) -> dict[str, Any]:
        if score.label_sets is None or self._level is None:
            return {"label_set": None, "label_set_level": None}
        inside = score.label_sets[target][self._level]
        labels = [name for name, within in zip(names, inside, strict=True) if within]
        return {"label_set": labels, "label_set_level": self._promised}


def _points(trajectory: Trajectories) -> list[tuple[float, list[float]]]:
    hours = (trajectory.time_min / MINUTES_PER_HOUR).tolist()
    return list(zip(hours, trajectory.risk.tolist(), strict=True))
