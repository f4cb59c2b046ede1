"""What a training run scored in, the facts of its report out: the hold-out's sections, baselines and the champion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.bundle import Bundle
from models.scorer import Scorer
from models.stay import Ints
from pipelines.baselines import BaselineScores
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.report.comparisons import Contender, compare
from pipelines.report.facts import HOLDOUT, evaluated_facts, report_facts
from pipelines.report.sections import report_sections
from pipelines.report.stay_facts import facts_of
from pipelines.score_cohort import labelled_scores
from pipelines.thresholds import choose_thresholds


@dataclass(frozen=True)
class Rival:
    """A registered model that a new one is compared with.

    Args:
        name: its address.
        scorer: the model; None where it is not to be compared.
        reason: why it is not.
    """

    name: str
    scorer: Scorer | None = None
    reason: str = ""


def report_on_training(
    bundle: Bundle,
    cohort: Cohort,
    holdout: Ints,
    scores: Mapping[str, BaselineScores],
    config: RunConfig,
    *,
    rivals: Sequence[Rival] = (),
    history: Sequence[Mapping[str, float]] = (),
    cautions: Sequence[str] = (),
) -> dict[str, Any]:
    """The facts of a report on the hold-out; the figures that the bundle holds are taken from it.

    Args:
        bundle: the model's facts, with the figures of every model in `metrics`.
        cohort: what was trained on.
        holdout: positions of the hold-out's stays, in the order of the scores.
        scores: by the name of the model, the reported one first.
        config: of the run.
        rivals: registered models to compare with.
        history: one row an epoch.
        cautions: what a reader must not take from the figures, beside what these themselves say.
    """
    task, settings = config.task, config.evaluation
    name, *others = scores
    mine = Contender(name, scores[name].test, bundle.thresholds)
    contenders = [Contender(o, scores[o].test, choose_thresholds(scores[o].calibration, task)) for o in others]
    contenders += [_scored(rival, cohort, holdout) for rival in rivals]
    facts = facts_of(cohort.stays.select(holdout), cohort.statics)
    return report_facts(
        bundle,
        bundle.metrics,
        report_sections(scores[name].test, task, facts, settings, bundle.thresholds),
        evaluated_facts(cohort, bundle.metrics[name], HOLDOUT),
        settings,
        comparisons=compare(mine, contenders, task, settings),
        history=history,
        cautions=cautions,
    )


def _scored(rival: Rival, cohort: Cohort, holdout: Ints) -> Contender:
    if rival.scorer is None:
        return Contender(rival.name, reason=rival.reason)
    return Contender(rival.name, labelled_scores(rival.scorer, cohort, holdout), rival.scorer.bundle.thresholds)
