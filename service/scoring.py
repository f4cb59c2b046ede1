"""Requests' bytes to answers' bytes: read, score side by side, word; all of it runs in the inference thread."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.bundle import Bundle
from models.disclaimer import DISCLAIMER_JA, DISCLAIMERS
from models.last_step import LastScores, LastStep
from models.scorer import MINUTES_PER_HOUR, Scorer, Trajectories
from models.task import TargetKind
from service.beside import LONG_STEPS
from service.errors import Problem
from service.identifiers import new_id
from service.intake import Intake, StayInput
from service.language import Language
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
from service.score_body import ScoreFields, read_score
from service.selection import Origin
from service.settings import Settings
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


class Asked(NamedTuple):
    """The body of a request, and the language of its disclaimer where the body names none."""

    body: bytes
    language: Language = "en"


class _Read(NamedTuple):
    """A request whose form and content hold."""

    request: ScoreFields
    stay: StayInput
    language: Language


class _Found(NamedTuple):
    """Scores of one request: those of its last time step are row `row`; all of them where they were asked for."""

    last: LastScores
    row: int
    whole: Trajectories | None = None


class StayScoring:
    """Scores requests with one model.

    Args:
        scorer: the verified model.
        origin: how it was found.
        settings: limits of a request.
    """

    def __init__(self, scorer: Scorer, origin: Origin, settings: Settings) -> None:
        self.scorer = scorer
        self._vocabulary = Vocabulary.of(scorer.bundle)
        self._intake = Intake(self._vocabulary, scorer.bundle, settings)
        self._last = LastStep(scorer)
        self._model = ModelRef(name=scorer.bundle.name, version=origin.version, digest=scorer.digest)

    def warm_up(self) -> None:
        """Scores an empty stay, so that the first request does not pay for what torch sets up once."""
        self.score(b'{"as_of_h": 1}')

    def score(self, body: bytes, language: Language = "en") -> Scored:
        """Answers one request, however long the stay is.

        Args:
            body: as it was sent.
            language: of the disclaimer, where the body names none.

        Raises:
            Problem: 422 with the places of the body that do not hold.
        """
        read = self._read(Asked(body, language))
        if isinstance(read, Problem):
            raise read
        (found,) = self._found([read])
        return self._scored(read, found)

    def score_all(self, asked: Sequence[Asked]) -> list[Scored | Problem | None]:
        """Answers requests side by side: a refusal for a body that does not hold, None for a long stay.

        A long one, of more than `LONG_STEPS` time steps, would hold the others up: it is left to `score`.
        """
        read = [self._read(one) for one in asked]
        taken = {i: one for i, one in enumerate(read) if isinstance(one, _Read) and not self._is_long(one)}
        found = zip(taken.items(), self._found(list(taken.values())), strict=True)
        answered = {i: self._scored(one, of_it) for (i, one), of_it in found}
        return [one if isinstance(one, Problem) else answered.get(i) for i, one in enumerate(read)]

    def _is_long(self, read: _Read) -> bool:
        grid, stay = self.scorer.bundle.encoding.grid, read.stay
        return grid.most_steps(len(stay.minute) + len(stay.notes), stay.end_min) > LONG_STEPS

    def _read(self, asked: Asked) -> _Read | Problem:
        try:
            request = read_score(asked.body, known=self._vocabulary.words)
            language = request.get("disclaimer_language") or asked.language
            return _Read(request, self._intake.read(request), language)
        except Problem as problem:
            return problem

    def _found(self, read: Sequence[_Read]) -> list[_Found]:
        """Scores of all; a trajectory, which costs far more, of those alone who asked for it.

        A long stay is scored as one, too: it may be in another thread than that which last steps are for.
        """
        asked = [one.request.get("trajectory", False) for one in read]
        whole = [i for i, one in enumerate(read) if asked[i] or self._is_long(one)]
        ends = sorted(set(range(len(read))) - set(whole))
        found: dict[int, _Found] = {}
        if ends:
            last = self._last.score(self._intake.stays([read[i].stay for i in ends]))
            found = {i: _Found(last, row) for row, i in enumerate(ends)}
        for i in whole:
            trajectory = self.scorer.score(self._intake.stays([read[i].stay]))
            found[i] = _Found(LastScores.of(trajectory), 0, trajectory if asked[i] else None)
        return [found[i] for i in range(len(read))]

    def _scored(self, read: _Read, found: _Found) -> Scored:
        answer = self._answer(read, found)
        task = self.scorer.bundle.task
        probabilities = task.kind is not TargetKind.REGRESSION
        return Scored(
            content=answer.model_dump_json().encode(),
            prediction_id=str(answer.prediction_id),
            observations=len(read.stay.minute),
            notes=len(read.stay.notes),
            steps=answer.steps,
            rejected=Counter(r.reason for r in read.stay.rejected),
            outputs=task.output_names if probabilities else (),
            risks=tuple(found.last.risk[found.row].tolist()) if probabilities else (),
        )

    def _answer(self, read: _Read, found: _Found) -> ScoreAnswer:
        task, stay = self.scorer.bundle.task, read.stay
        facts: dict[str, Any] = {
            "prediction_id": uuid.UUID(new_id()),
            "model": self._model,
            "outcome": task.outcome,
            "description": task.description,
            "as_of_h": float(found.last.time_min[found.row]) / MINUTES_PER_HOUR,
            "steps": int(found.last.steps[found.row]),
            "rejected": list(stay.rejected),
            "flagged": list(stay.flagged),
            "unused": list(stay.unused),
            "never_observed": list(stay.never_observed),
            "disclaimer": DISCLAIMERS[read.language],
            "disclaimer_ja": DISCLAIMER_JA,
        }
        return _ANSWERS[task.kind](self.scorer.bundle, found, facts)


def _points(found: _Found) -> list[tuple[float, list[float]]] | None:
    """Hour and values of every time step, where they were asked for."""
    if found.whole is None:
        return None
    hours = (found.whole.time_min / MINUTES_PER_HOUR).tolist()
    return list(zip(hours, found.whole.risk.tolist(), strict=True))


def _binary(bundle: Bundle, found: _Found, facts: dict[str, Any]) -> ScoreAnswer:
    final = found.last.risk[found.row].tolist()
    task = bundle.task
    horizons = task.horizons_h or (None,) * len(final)
    risks = [
        Risk(
            outcome=name,
            horizon_h=horizon,
            risk=value,
            threshold=bundle.decision_threshold(name),
            spread=_spread(bundle, found, k),
            **_uncertainty(bundle, found, k),
        )
        for k, (name, horizon, value) in enumerate(zip(task.output_names, horizons, final, strict=True))
    ]
    points = _points(found)
    trajectory = None if points is None else [RiskPoint(time_h=h, risk=r[0], risks=r) for h, r in points]
    return BinaryAnswer(**facts, risk=final[0], risks=risks, trajectory=trajectory)


def _spread(bundle: Bundle, found: _Found, output: int) -> float | None:
    return float(found.last.spread[found.row, output]) if len(bundle.members) > 1 else None


def _uncertainty(bundle: Bundle, found: _Found, output: int) -> dict[str, Any]:
    """Interval and label set of an output's last risk, as far as the model has them."""
    last, row = found.last, found.row
    said: dict[str, Any] = {}
    if last.interval_low is not None and last.interval_high is not None:
        said["interval"] = (float(last.interval_low[row, output]), float(last.interval_high[row, output]))
    return said | _label_set(bundle, found, output, ("no_event", "event"))


def _label_set(bundle: Bundle, found: _Found, target: int, names: Sequence[str]) -> dict[str, Any]:
    if bundle.uncertainty is None or found.last.label_set is None:
        return {}
    index = bundle.uncertainty.level_index(SERVED_LEVEL)
    inside = found.last.label_set[found.row, target, index].tolist()
    labels = [name for name, within in zip(names, inside, strict=True) if within]
    return {"label_set": labels, "label_set_level": bundle.uncertainty.levels[index]}


def _multiclass(bundle: Bundle, found: _Found, facts: dict[str, Any]) -> ScoreAnswer:
    final = found.last.risk[found.row].tolist()
    classes = [
        ClassProbability(name=name, probability=value, spread=_spread(bundle, found, k))
        for k, (name, value) in enumerate(zip(bundle.task.classes, final, strict=True))
    ]
    points = _points(found)
    trajectory = None if points is None else [ClassPoint(time_h=h, probabilities=r) for h, r in points]
    sets = _label_set(bundle, found, 0, bundle.task.classes)
    return MulticlassAnswer(**facts, classes=classes, trajectory=trajectory, **sets)


def _regression(bundle: Bundle, found: _Found, facts: dict[str, Any]) -> ScoreAnswer:
    points = _points(found)
    trajectory = None if points is None else [NumberPoint(time_h=h, value=r[0]) for h, r in points]
    value, spread = float(found.last.risk[found.row, 0]), _spread(bundle, found, 0)
    return RegressionAnswer(**facts, value=value, unit=bundle.task.unit, spread=spread, trajectory=trajectory)


_Word = Callable[[Bundle, _Found, dict[str, Any]], ScoreAnswer]
_ANSWERS: dict[TargetKind, _Word] = {
    TargetKind.BINARY: _binary,
    TargetKind.MULTICLASS: _multiclass,
    TargetKind.REGRESSION: _regression,
}
