"""A registered model and a site's own cohort in, the same network with risks that fit the site's patients out.

Weights and encoding stay as they are. What turns logits into risks, thresholds and label sets is fitted again on
local patients, and judged on others of them beside what the model said before.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact import save_artifact
from models.artifact_folder import new_place
from models.bundle import Bundle
from models.errors import ConfigError, RefusedError
from models.record import from_plain, to_plain
from models.scorer import Scorer
from models.stay import Ints
from models.task import TargetKind, TaskSpec
from pipelines.baselines import BaselineScores
from pipelines.calibrate import fit_calibration, fit_uncertainty, with_calibration
from pipelines.cautions import recalibration_cautions
from pipelines.cohort import Cohort
from pipelines.config import RunConfig
from pipelines.evaluate import evaluate
from pipelines.leak_finding import Finding
from pipelines.leak_guards import records
from pipelines.members import Members
from pipelines.model_card import card_json, card_markdown
from pipelines.origin import seen_cohorts
from pipelines.recalibration_figures import paired_calibration
from pipelines.report.training_report import report_on_training
from pipelines.score_cohort import labelled_scores
from pipelines.scores import StepScores
from pipelines.split import Part, SplitConfig, split_patients
from pipelines.thresholds import choose_thresholds
from pipelines.train import NETWORK, TrainedRun
from pipelines.uncertainty_figures import with_uncertainty

BEFORE = "before_recalibration"
# Fewer patients with, or without, the event than this tell nothing about a risk, on either part.
MIN_EVENTS = 30
# Share of the local patients on whom before and after are compared.
HOLDOUT = 0.5
# What may be chosen anew; everything else is in the weights.
TABLES = ("calibration", "evaluation")
# The guards that a site's own patients answer anew; the others look at weights and encoding, which stay.
ANEW = ("patients", "record", "calibration", "uncertainty")


@dataclass(frozen=True)
class Recalibrated:
    """What a recalibration leaves.

    Args:
        run: the new version, as `Publication.register` takes it.
        before: figures of the model as it came, on the local hold-out.
        after: the same figures with the new calibration.
        paired: after less before of every figure of calibration and of ranking, with intervals.
    """

    run: TrainedRun
    before: dict[str, Any]
    after: dict[str, Any]
    paired: dict[str, dict[str, float]]

    @property
    def evidence(self) -> dict[str, Any]:
        """Before, after and their difference, as plain values."""
        return {"before": self.before, "after": self.after, "paired": self.paired}


@dataclass(frozen=True)
class _Local:
    """The site's scores: of the part that is calibrated on, and of the hold-out."""

    calibration: StepScores
    test: StepScores
    index: dict[Part, Ints]


def recalibration_config(bundle: Bundle, name: str, given: Mapping[str, Any], *, holdout: float = HOLDOUT) -> RunConfig:
    """The model's own configuration with another name, a local split, and what is chosen anew.

    Args:
        bundle: the model's facts.
        name: of the new registered model.
        given: tables `calibration` and `evaluation`, each with the keys to change.
        holdout: share of the local patients.

    Raises:
        ConfigError: for another table, an unknown key, or a share that leaves nobody to one part.
    """
    other = sorted(set(given) - set(TABLES))
    if other:
        raise ConfigError(
            f"a recalibration must change only {' and '.join(TABLES)}, got {', '.join(other)}; "
            "train a model for anything else"
        )
    if not 0.0 < holdout < 1.0:
        raise ConfigError(f"holdout must lie between 0 and 1, got {holdout}; for example {HOLDOUT}")
    plain: dict[str, Any] = {**bundle.config, "name": name}
    for table in given:
        plain[table] = {**plain.get(table, {}), **given[table]}
    config = from_plain(RunConfig, plain, where="config")
    # Nobody is trained on: the three parts before the hold-out are calibrated on together.
    share = (1.0 - holdout) / 3
    return replace(config, split=SplitConfig(config.split.key, share, share, share, holdout))


def recalibrate(
    scorer: Scorer,
    cohort: Cohort,
    config: RunConfig,
    *,
    folder: Path,
    min_events: int = MIN_EVENTS,
    say: Callable[[str], None] = lambda _: None,
    progress: bool = False,
) -> Recalibrated:
    """Fits calibration, thresholds and label sets on local patients, and compares on others of them.

    Args:
        scorer: the model.
        cohort: the site's patients, none of whom it was trained on.
        config: from `recalibration_config`.
        folder: where the artifact goes.
        min_events: patients with, and without, the event that each of the two parts must hold.
        say: receives lines for people.
        progress: show progress bars on standard error.

    Raises:
        RefusedError: if a part has too few events, or the cohort is the one that the model was trained on.
        DataError: if the cohort does not have the model's outcome.
    """
    if cohort.fingerprint in seen_cohorts(scorer.bundle.cohort):
        raise RefusedError(
            "cohort must be another one than the model was trained on, got that one; its patients are no new evidence"
        )
    task, old = scorer.bundle.task, scorer.bundle
    local = _score(scorer, cohort, config, progress=progress)
    for part, scores in (("calibration part", local.calibration), ("hold-out", local.test)):
        _check_events(scores, task, part, min_events)
    settings, key = config.calibration, config.split.key
    mean, scale = old.calibration.mean, old.calibration.scale
    calibration = fit_calibration(local.calibration, task, settings, key=key, mean=mean, scale=scale, shifted=True)
    served = BaselineScores(*(with_calibration(s, calibration) for s in (local.calibration, local.test)))
    uncertainty = fit_uncertainty(served.calibration, task, settings, key=key)
    thresholds = choose_thresholds(served.calibration, task)
    say(f"  calibrated by {calibration.method} on {len(local.calibration):,} stays, judged on {len(local.test):,}")
    before = evaluate(local.test, task, config.evaluation, thresholds=old.thresholds)
    before = with_uncertainty(before, local.test, old.uncertainty, config)
    after = evaluate(served.test, task, config.evaluation, thresholds=thresholds)
    after = with_uncertainty(after, served.test, uncertainty, config)
    bundle = replace(
        _site_bundle(scorer, cohort, config, local, {NETWORK: after, BEFORE: before}),
        calibration=calibration,
        thresholds=thresholds,
        uncertainty=uncertainty,
    )
    table = {NETWORK: served, BEFORE: BaselineScores(local.calibration, local.test)}
    paired = paired_calibration(served.test, local.test, task, config.evaluation.resampling)
    holdout = local.index[Part.TEST]
    report = report_on_training(bundle, cohort, holdout, table, config, cautions=recalibration_cautions(paired))
    return Recalibrated(_save(folder, bundle, scorer, table, report), before, after, paired)


def _score(scorer: Scorer, cohort: Cohort, config: RunConfig, *, progress: bool) -> _Local:
    index = split_patients(cohort.patient_id, config.split)
    fitted_on = np.sort(np.concatenate([index[p] for p in Part if p is not Part.TEST]))
    calibration = labelled_scores(scorer, cohort, fitted_on, progress=progress)
    return _Local(calibration, labelled_scores(scorer, cohort, index[Part.TEST], progress=progress), index)


def _check_events(scores: StepScores, task: TaskSpec, part: str, least: int) -> None:
    """Refuses a part with too few patients of a class; for a number, with too few who have one."""
    patient = scores.patient_index[scores.stay_of_step]
    for k in range(task.targets):
        label = scores.label[:, k]
        known = ~np.isnan(label)
        values: tuple[float, ...] = (0.0, 1.0)
        if task.kind is TargetKind.MULTICLASS:
            values = tuple(float(c) for c in range(len(task.classes)))
        groups = [known] if task.kind is TargetKind.REGRESSION else [label == value for value in values]
        fewest = min(len(np.unique(patient[rows])) for rows in groups)
        if fewest < least:
            raise RefusedError(
                f"{part} must hold at least {least} patients of every class, got {fewest}; bring more patients, or "
                "lower --min-events and trust the result less"
            )


def _site_bundle(scorer: Scorer, cohort: Cohort, config: RunConfig, local: _Local, metrics: dict[str, Any]) -> Bundle:
    old = scorer.bundle
    licences = dict.fromkeys(x for x in (str(old.cohort.get("licence", "")), cohort.licence) if x)
    counts = {"calibration": len(local.calibration), "test": len(local.test)}
    kept = tuple(guard for guard in old.guards if guard.get("name") not in ANEW)
    disjoint = Finding("patients", f"{counts['calibration']:,} stays to fit on and {counts['test']:,} to judge on")
    return replace(
        old,
        name=config.name,
        metrics=metrics,
        config=to_plain(config),
        cohort={
            "fingerprint": cohort.fingerprint,
            "source": cohort.source,
            "licence": "; ".join(licences),
            "stays": len(cohort.stays),
            "patients": len(set(cohort.patient_id)),
            "parts": counts,
            "recalibrated_from": {"name": old.name, "digest": scorer.digest, "created": old.created},
            "trained_on": old.cohort,
        },
        guards=(*records((disjoint,)), *kept),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def _save(
    folder: Path, bundle: Bundle, scorer: Scorer, table: dict[str, BaselineScores], report: dict[str, Any]
) -> TrainedRun:
    artifact = new_place(folder, bundle.created)
    documents = {"card.md": card_markdown(report), "card.json": card_json(report)}
    network = scorer.network
    digest = save_artifact(artifact, bundle, network, scorer.tokenizer, documents=documents)
    return TrainedRun(
        artifact=artifact,
        digest=digest,
        bundle=bundle,
        metrics=bundle.metrics[NETWORK],
        baselines={BEFORE: bundle.metrics[BEFORE]},
        history=[],
        plots=[],
        scores=table[NETWORK].test,
        members=Members(network, bundle.members, ()),
        report=report,
    )
