"""A model, a cohort and rivals in, the figures and the facts of a report on every stay of it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from models.errors import RefusedError
from models.record import from_plain
from models.scorer import Scorer
from pipelines.cautions import same_model
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.evaluate import evaluate
from pipelines.evaluation_config import EvaluationConfig
from pipelines.gate import same_task_check
from pipelines.origin import seen_cohorts
from pipelines.report.comparisons import Contender, compare
from pipelines.report.facts import WHOLE, evaluated_facts, report_facts
from pipelines.report.sections import report_sections
from pipelines.report.stay_facts import facts_of_cohort
from pipelines.score_cohort import labelled_scores
from pipelines.scores import StepScores
from pipelines.uncertainty_figures import with_uncertainty

TRAINED_ON = f"{WHOLE}, which is the one that the model was trained on: the figures flatter it"
MODEL = "model"
REGISTERED = "models:/"


@dataclass(frozen=True)
class CohortReport:
    """What is written of an evaluation.

    Args:
        figures: as of `pipelines.evaluate`, and every section beside them.
        facts: what the page is made of.
    """

    figures: dict[str, Any]
    facts: dict[str, Any]


def report_on_cohort(
    scorer: Scorer,
    cohort: Cohort,
    config: EvaluationConfig,
    *,
    rivals: Mapping[str, Scorer] | None = None,
    address: str = "",
    progress: bool = False,
) -> CohortReport:
    """Scores every stay with the model and its rivals, and judges them.

    Args:
        scorer: the model.
        cohort: stays with outcomes.
        config: what to report.
        rivals: models that it is compared with, by name.
        address: of the registered version, where it is one.
        progress: show progress bars on standard error.

    Raises:
        RefusedError: if a rival predicts something else.
        DataError: if the cohort does not have the model's outcome, or has other values of it.
    """
    bundle = scorer.bundle
    for name, rival in (rivals or {}).items():
        if not (check := same_task_check(bundle.task, rival.bundle.task)).passed:
            raise RefusedError(f"{name} must predict what the model predicts to be compared, got: {check.note}")
    scores = labelled_scores(scorer, cohort, progress=progress)
    figures = _judge(scorer, scores, config)
    sections = report_sections(scores, bundle.task, facts_of_cohort(cohort, scores.stay_id), config, bundle.thresholds)
    table, contenders = {MODEL: figures}, []
    for name, rival in (rivals or {}).items():
        theirs = labelled_scores(rival, cohort, progress=progress)
        table[name] = _judge(rival, theirs, config)
        contenders.append(Contender(name, theirs, rival.bundle.thresholds))
    comparisons = compare(Contender(MODEL, scores, bundle.thresholds), contenders, bundle.task, config)
    twins = [name for name, rival in (rivals or {}).items() if scorer.digest and rival.digest == scorer.digest]
    part = TRAINED_ON if cohort.fingerprint in seen_cohorts(bundle.cohort) else WHOLE
    facts = report_facts(
        bundle,
        table,
        sections,
        evaluated_facts(cohort, figures, part),
        config,
        comparisons=comparisons,
        digest=scorer.digest,
        address=address,
        cautions=same_model(twins),
    )
    beside = {"comparisons": comparisons, "cautions": facts["cautions"]}
    return CohortReport({**figures, **sections, **beside}, facts)


def model_label(address: str, scorer: Scorer) -> str:
    """How a report calls another model: by its registered address, or by name and digest; never by a folder."""
    return address if address.startswith(REGISTERED) else f"{scorer.bundle.name} {scorer.digest[:19]}"


def _judge(scorer: Scorer, scores: StepScores, config: EvaluationConfig) -> dict[str, Any]:
    bundle = scorer.bundle
    figures = evaluate(scores, bundle.task, config, thresholds=bundle.thresholds)
    if bundle.uncertainty is None:
        return figures
    run = replace(from_plain(RunConfig, bundle.config, where="config"), evaluation=config)
    return with_uncertainty(figures, scores, bundle.uncertainty, run)
