"""From cohorts and a configuration to a verified artifact with its figures: one training run, whole.

The order is fixed: scan notes for identifiers of people, split, encode, fit the members, calibrate, choose
thresholds, evaluate on the hold-out beside the baselines, save, plot. Registration in MLflow is `pipelines.publish`'s.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact import save_artifact
from models.artifact_folder import new_place
from models.bundle import Bundle
from models.record import to_plain
from models.scorer import Scorer
from models.task import TargetKind
from pipelines.baselines import BaselineScores
from pipelines.class_checks import check_classes
from pipelines.cohort import Cohort, concat_cohorts
from pipelines.combined import Calibrated, MemberLogits, calibrated, calibration_logits, fit_combined, members_alone
from pipelines.combined import Fitted as FittedCalibration
from pipelines.comparison import compared
from pipelines.config import RunConfig
from pipelines.dataset import build_dataset
from pipelines.encoded_cache import open_cache
from pipelines.epochs import OnEpoch
from pipelines.evaluate import evaluate
from pipelines.fit import Launch
from pipelines.held_folder import private_folder
from pipelines.leak_finding import Finding
from pipelines.leak_guards import Fitted, check_data, guarded
from pipelines.member_weights import with_fitted_weights
from pipelines.members import Members, Say, fit_members
from pipelines.model_card import card_json, card_markdown
from pipelines.notes_audit import audit_markdown, audit_notes
from pipelines.notes_scan import scan_notes
from pipelines.part_data import Dataset, PartData
from pipelines.report.training_report import Rival, report_on_training
from pipelines.scores import StepScores
from pipelines.split import Part
from pipelines.threads import torch_threads
from pipelines.thresholds import choose_thresholds
from pipelines.uncertainty_figures import with_uncertainty
from pipelines.warm_start import PARENT, Parent, check_local, parent_figures

LIBRARIES = ("torch", "pytorch-lightning", "numpy", "pandas", "mlflow", "tokenizers", "safetensors", "lightgbm")
NETWORK = "network"
NOTES_AUDIT = "notes-audit.md"


@dataclass(frozen=True)
class TrainedRun:
    """What a training run leaves.

    Args:
        artifact: folder of the saved model.
        digest: its digest.
        bundle: its facts.
        metrics: figures of the served model, all its members together, on the hold-out, as `evaluate` gives them.
        baselines: the same figures of the networks without the trees and of one network alone, where there are more
            members, of every baseline, and of the true risk where the cohort is simulated.
        history: one row an epoch of every network, with the `member`'s number.
        plots: PNG files.
        scores: scores of the hold-out's time steps.
        members: what was fitted.
        report: what card and page are made of (`pipelines.report.facts`).
    """

    artifact: Path
    digest: str
    bundle: Bundle
    metrics: dict[str, Any]
    baselines: dict[str, dict[str, Any]]
    history: list[dict[str, float]]
    plots: list[Path]
    scores: StepScores
    members: Members
    report: dict[str, Any]


def train(
    cohorts: list[Cohort],
    config: RunConfig,
    *,
    folder: Path,
    resume: bool = False,
    progress: bool = True,
    say: Say = lambda _: None,
    on_epoch: OnEpoch | None = None,
    cache: Path | None = None,
    rivals: Sequence[Rival] = (),
    launch: Launch | None = None,
    parent: Parent | None = None,
) -> TrainedRun:
    """Trains one model.

    Args:
        cohorts: one or several; their stays must not share identifiers.
        config: the run's configuration.
        folder: where checkpoints, plots and the artifact go.
        resume: continue from the newest checkpoint in the folder, if there is one.
        progress: show progress bars on standard error.
        say: receives lines for people.
        on_epoch: receives every epoch's figures, with the `member`'s number, as soon as they are known.
        cache: folder where encoded stays are kept for later runs, if the configuration keeps them; None: nowhere.
        rivals: registered models that the report compares with; each must never have seen the hold-out's patients.
        launch: how the processes that train a network are started; on this machine where left out.
        parent: the version from whose encoding and weights it starts; `config` is then `inherited_config`'s.

    Raises:
        LeakError: if a leak guard does not hold.
        SequelaError: with what is wrong and what to do; nothing is saved then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cohort = concat_cohorts(cohorts) if len(cohorts) > 1 else cohorts[0]
    say(f"cohort {cohort.fingerprint[:23]}: {len(cohort.stays):,} stays")
    scan_notes(cohort, config, say)
    if parent is not None:
        check_local(cohort, parent, say)
    # Encoded features are patient data: but for the cache they do not outlive the run, however it ends.
    with (
        private_folder(folder, "encoded-") as encoded,
        open_cache(cache, config.cache) as kept,
        torch_threads(config.threads),
    ):
        data = build_dataset(cohort, config, encoded, say=say, cache=kept, parent=parent)
        check_classes(data, config)
        found = check_data(cohort, config, data)
        members = fit_members(
            data,
            config,
            folder=folder / "checkpoints",
            resume=resume,
            progress=progress,
            say=say,
            on_epoch=on_epoch,
            launch=launch,
        )
        return _judged(cohort, data, config, folder, found, members, say=say, rivals=rivals)


def _judged(
    cohort: Cohort,
    data: Dataset,
    config: RunConfig,
    folder: Path,
    found: tuple[Finding, ...],
    members: Members,
    *,
    say: Say,
    rivals: Sequence[Rival],
) -> TrainedRun:
    logits = MemberLogits.of(members, data)
    members = with_fitted_weights(members, logits, data, config)
    served = calibrated(logits, members.ensemble.weights, data, config)
    table = {NETWORK: served.scores} | members_alone(members, logits, data, config)
    table |= compared(cohort, data, config)
    figures = {name: judge(scores, config) for name, scores in table.items()}
    figures[NETWORK] = with_uncertainty(figures[NETWORK], served.scores.test, served.fitted.uncertainty, config)
    if data.parent is not None:
        figures[PARENT] = parent_figures(data.parent, cohort, data.parts[Part.TEST].index, config)
        rivals = [*rivals, Rival(PARENT, data.parent.scorer)]
    data.saw("thresholds", data.calibration)
    thresholds = choose_thresholds(served.scores.calibration, config.task)
    bundle = _bundle(cohort, data, config, members, served, thresholds, figures)
    fitted = _refitted(served, members, data, config)
    scorer = Scorer(bundle, members.ensemble, data.tokenizer)
    known = np.asarray(~np.isnan(logits.calibration).any(axis=2))
    bundle = guarded(cohort, config, data, scorer, before=found, fitted=fitted, known=known)
    say(f"  passed {len(bundle.guards)} leak guards")
    holdout = data.parts[Part.TEST]
    report = report_on_training(bundle, cohort, holdout.index, table, config, rivals=rivals, history=members.history)
    _audit_notes(folder, data, config)
    artifact, digest = _save(folder, bundle, members, data, report)
    scores = {name: both.test for name, both in table.items()}
    plots = _plots(folder, config, members, scores, holdout)
    # The bundle holds the whole table, and the report is made of it: nothing may be taken out of it here.
    beside = {name: found for name, found in figures.items() if name != NETWORK}
    return TrainedRun(
        artifact, digest, bundle, figures[NETWORK], beside, members.history, plots, scores[NETWORK], members, report
    )


def _audit_notes(folder: Path, data: Dataset, config: RunConfig) -> None:
    """Writes `notes-audit.md` into the run's folder, where the model reads notes and the outcome is a yes or no."""
    if data.tokenizer is None or config.task.kind is not TargetKind.BINARY:
        return
    train = data.parts[Part.TRAIN]
    figures = audit_notes(train.stays, train.patient_id, train.outcomes.value, data.tokenizer)
    (folder / NOTES_AUDIT).write_text(audit_markdown(figures, config.notes), encoding="utf-8")


def _refitted(served: Calibrated, members: Members, data: Dataset, config: RunConfig) -> dict[str, Fitted]:
    """What the stays to calibrate on gave, and how to fit it on a part with no other at hand."""

    def fit(part: PartData) -> FittedCalibration:
        alone = replace(data, parts=dict.fromkeys(data.parts, part), fitted_on={})
        logits = calibration_logits(members.ensemble, members.specs, alone)
        return fit_combined(logits, members.ensemble.weights, alone, config)

    fitted = {"calibration": Fitted(served.fitted.calibration, lambda part: fit(part).calibration)}
    if served.fitted.uncertainty is not None:
        fitted["uncertainty"] = Fitted(served.fitted.uncertainty, lambda part: fit(part).uncertainty)
    return fitted


def judge(scores: BaselineScores, config: RunConfig) -> dict[str, Any]:
    """Figures on the hold-out, with thresholds that were chosen on the stays to calibrate on."""
    thresholds = choose_thresholds(scores.calibration, config.task)
    return evaluate(scores.test, config.task, config.evaluation, thresholds=thresholds)


def _bundle(
    cohort: Cohort,
    data: Dataset,
    config: RunConfig,
    members: Members,
    served: Calibrated,
    thresholds: dict[str, float],
    metrics: dict[str, Any],
) -> Bundle:
    return Bundle(
        name=config.name,
        task=config.task,
        channels=cohort.channels if data.parent is None else data.parent.bundle.channels,
        statics=cohort.statics if data.parent is None else data.parent.bundle.statics,
        encoding=data.encoding,
        members=members.specs,
        notes=config.notes if data.tokenizer is not None else None,
        calibration=served.fitted.calibration,
        thresholds=thresholds,
        uncertainty=served.fitted.uncertainty,
        metrics=metrics,
        config=to_plain(config),
        cohort=_cohort_facts(cohort, data),
        versions={"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in LIBRARIES},
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def _cohort_facts(cohort: Cohort, data: Dataset) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "fingerprint": cohort.fingerprint,
        "source": cohort.source,
        "licence": cohort.licence,
        "stays": len(cohort.stays),
        "patients": len(set(cohort.patient_id)),
        "parts": {str(p): len(part.index) for p, part in data.parts.items()},
    }
    return facts if data.parent is None else data.parent.facts(facts)


def _save(folder: Path, bundle: Bundle, members: Members, data: Dataset, report: dict[str, Any]) -> tuple[Path, str]:
    artifact = new_place(folder, bundle.created)
    documents = {"card.md": card_markdown(report), "card.json": card_json(report)}
    digest = save_artifact(artifact, bundle, members.ensemble, data.tokenizer, documents=documents)
    return artifact, digest


def _plots(
    folder: Path, config: RunConfig, members: Members, scores: dict[str, StepScores], part: PartData
) -> list[Path]:
    from pipelines.figures import write_figures  # matplotlib is slow to import and needed here alone

    return write_figures(folder / "plots", config.task, members.fits, scores, part)
