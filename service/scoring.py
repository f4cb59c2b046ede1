"""A request's bytes to an answer's bytes: read, score, word; all of it runs in the inference thread."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from models.bundle import Bundle
from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.scorer import MINUTES_PER_HOUR, Scorer, Trajectories
from models.task import TargetKind
from service.errors import from_validation
from service.intake import StayInput, read_stay
from service.schema import ScoreRequest
from service.schema_answers import (
    BinaryAnswer,
    ClassPoint,
    ClassProbability,
    ModelRef,
    MulticlassAnswer,
    NumberPoint,
    RegressionAnswer,
    Risk,
    RiskPoint,
    ScoreAnswer,
)
from service.selection import Origin
from service.settings import Settings
from service.strict_json import read_strict
from service.vocabulary import Vocabulary

# A model may have label sets of several levels: the one nearest to this is served.
SERVED_LEVEL = 0.9


@dataclass(frozen=True)
class Scored:
    """An answer and what may be counted of it.

    Args:
        content: the JSON body.
        prediction_id: the answer's identifier.
        observations: observations of the stay that was scored.
        notes: its notes.
        steps: its time steps.
        rejected: inputs that were not used, by reason.
        outputs: names of the probabilities; empty for a regression.
        risks: the probabilities at the end, one an output.
    """

    content: bytes
    prediction_id: str
    observations: int
    notes: int
    steps: int
    rejected: Counter[str]
    outputs: tuple[str, ...]
    risks: tuple[float, ...]


class StayScoring:
    """Scores requests with one model.

    Args:
        scorer: the verified model.
        origin: how it was found.
        settings: limits of a request.
    """

    def __init__(self, scorer: Scorer, origin: Origin, settings: Settings) -> None:
        self.scorer = scorer
        self._settings = settings
        self._vocabulary = Vocabulary.of(scorer.bundle)
        self._model = ModelRef(name=scorer.bundle.name, version=origin.version, digest=scorer.digest)

    def warm_up(self) -> None:
        """Scores an empty stay, so that the first request does not pay for what torch sets up once."""
        self.score(b'{"as_of_h": 1}')

    def score(self, body: bytes) -> Scored:
        """Answers one request.

        Raises:
            Problem: 422 with the places of the body that do not hold.
        """
        request = self._parse(body)
        stay = read_stay(request, vocabulary=self._vocabulary, bundle=self.scorer.bundle, settings=self._settings)
        scores = self.scorer.score(stay.stays)
        answer = self._answer(request, stay, scores)
        task = self.scorer.bundle.task
        probabilities = task.kind is not TargetKind.REGRESSION
        return Scored(
            content=answer.model_dump_json().encode(),
            prediction_id=str(answer.prediction_id),
            observations=len(stay.stays.time_min),
            notes=len(stay.stays.note_text),
            steps=len(scores.time_min),
            rejected=Counter(r.reason for r in stay.rejected),
            outputs=task.output_names if probabilities else (),
            risks=tuple(scores.risk[-1].tolist()) if probabilities else (),
        )

    def _parse(self, body: bytes) -> ScoreRequest:
        try:
            return ScoreRequest.model_validate(read_strict(body))
        except ValidationError as error:
            raise from_validation(error, known=self._vocabulary.words) from None

    def _answer(self, request: ScoreRequest, stay: StayInput, scores: Trajectories) -> ScoreAnswer:
        task = self.scorer.bundle.task
        japanese = request.disclaimer_language == "ja"
        facts: dict[str, Any] = {
            "prediction_id": uuid.uuid4(),
            "model": self._model,
            "outcome": task.outcome,
            "description": task.description,
            "as_of_h": float(scores.time_min[-1]) / MINUTES_PER_HOUR,
            "steps": len(scores.time_min),
            "rejected": list(stay.rejected),
            "flagged": list(stay.flagged),
            "unused": list(stay.unused),
            "never_observed": list(stay.never_observed),
            "disclaimer": DISCLAIMER_JA if japanese else DISCLAIMER_EN,
            "disclaimer_ja": DISCLAIMER_JA,
        }
        hours = (scores.time_min / MINUTES_PER_HOUR).tolist() if request.trajectory else None
        return _ANSWERS[task.kind](self.scorer.bundle, scores, hours, facts)


def _binary(bundle: Bundle, scores: Trajectories, hours: list[float] | None, facts: dict[str, Any]) -> ScoreAnswer:
    final = scores.risk[-1].tolist()
    task = bundle.task
    horizons = task.horizons_h or (None,) * len(final)
    risks = [
        Risk(
            outcome=name,
            horizon_h=horizon,
            risk=value,
            threshold=bundle.decision_threshold(name),
            spread=_spread(bundle, scores, k),
            **_uncertainty(bundle, scores, k),
        )
        for k, (name, horizon, value) in enumerate(zip(task.output_names, horizons, final, strict=True))
    ]
    points = None
    if hours is not None:
        points = [RiskPoint(time_h=h, risk=r[0], risks=r) for h, r in zip(hours, scores.risk.tolist(), strict=True)]
    return BinaryAnswer(**facts, risk=final[0], risks=risks, trajectory=points)


def _spread(bundle: Bundle, scores: Trajectories, output: int) -> float | None:
    return float(scores.spread[-1, output]) if len(bundle.members) > 1 else None


def _uncertainty(bundle: Bundle, scores: Trajectories, output: int) -> dict[str, Any]:
    """Interval and label set of an output's last risk, as far as the model has them."""
    found: dict[str, Any] = {}
    if scores.interval_low is not None and scores.interval_high is not None:
        found["interval"] = (float(scores.interval_low[-1, output]), float(scores.interval_high[-1, output]))
    return found | _label_set(bundle, scores, output, ("no_event", "event"))


def _label_set(bundle: Bundle, scores: Trajectories, target: int, names: Sequence[str]) -> dict[str, Any]:
    if bundle.uncertainty is None or scores.label_set is None:
        return {}
    index = bundle.uncertainty.level_index(SERVED_LEVEL)
    inside = scores.label_set[-1, target, index].tolist()
    labels = [name for name, within in zip(names, inside, strict=True) if within]
    return {"label_set": labels, "label_set_level": bundle.uncertainty.levels[index]}


def _multiclass(bundle: Bundle, scores: Trajectories, hours: list[float] | None, facts: dict[str, Any]) -> ScoreAnswer:
    classes = [
        ClassProbability(name=name, probability=value, spread=_spread(bundle, scores, k))
        for k, (name, value) in enumerate(zip(bundle.task.classes, scores.risk[-1].tolist(), strict=True))
    ]
    points = None
    if hours is not None:
        points = [ClassPoint(time_h=h, probabilities=r) for h, r in zip(hours, scores.risk.tolist(), strict=True)]
    sets = _label_set(bundle, scores, 0, bundle.task.classes)
    return MulticlassAnswer(**facts, classes=classes, trajectory=points, **sets)


def _regression(bundle: Bundle, scores: Trajectories, hours: list[float] | None, facts: dict[str, Any]) -> ScoreAnswer:
    risk = scores.risk
    points = None
    if hours is not None:
        points = [NumberPoint(time_h=h, value=r) for h, r in zip(hours, risk[:, 0].tolist(), strict=True)]
    spread = _spread(bundle, scores, 0)
    return RegressionAnswer(**facts, value=float(risk[-1, 0]), unit=bundle.task.unit, spread=spread, trajectory=points)


_Word = Callable[[Bundle, Trajectories, list[float] | None, dict[str, Any]], ScoreAnswer]
_ANSWERS: dict[TargetKind, _Word] = {
    TargetKind.BINARY: _binary,
    TargetKind.MULTICLASS: _multiclass,
    TargetKind.REGRESSION: _regression,
}
