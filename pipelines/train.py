"""From cohorts and a configuration to a verified artifact with its figures: one training run, whole.

The order is fixed: split, encode, fit the members, calibrate, choose thresholds, evaluate on the
hold-out beside the baselines, save, plot. Registration in MLflow is `pipelines.publish`'s.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from models.artifact import save_artifact
from models.bundle import Bundle
from models.calibration import Calibration
from models.record import to_plain
from models.scorer import Scorer
from pipelines.baselines import BaselineScores
from pipelines.cohort import Cohort, concat_cohorts
from pipelines.combined import MemberLogits, calibrated, members_alone
from pipelines.comparison import compared
from pipelines.config import RunConfig
from pipelines.dataset import Dataset, PartData, build_dataset
from pipelines.encoded_cache import open_cache
from pipelines.epochs import OnEpoch
from pipelines.evaluate import evaluate
from pipelines.held_folder import private_folder
from pipelines.leak_finding import Finding
from pipelines.leak_guards import Fitted, check_data, guarded
from pipelines.members import Members, Say, fit_members
from pipelines.model_card import card_json, card_markdown
from pipelines.scores import StepScores
from pipelines.split import Part
from pipelines.thresholds import choose_thresholds

LIBRARIES = ("torch", "pytorch-lightning", "numpy", "pandas", "mlflow", "tokenizers", "safetensors", "lightgbm")
NETWORK = "network"


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

    Raises:
        LeakError: if a leak guard does not hold.
        SequelaError: with what is wrong and what to do; nothing is saved then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _set_threads(config.threads)
    cohort = concat_cohorts(cohorts) if len(cohorts) > 1 else cohorts[0]
    say(f"cohort {cohort.fingerprint[:23]}: {len(cohort.stays):,} stays")
    # Encoded features are patient data: but for the cache they do not outlive the run, however it ends.
    with private_folder(folder, "encoded-") as encoded, open_cache(cache, config.cache) as kept:
        data = build_dataset(cohort, config, encoded, say=say, cache=kept)
        found = check_data(cohort, config, data)
        return _train(cohort, data, config, folder, found, resume=resume, progress=progress, say=say, on_epoch=on_epoch)


def _train(
    cohort: Cohort,
    data: Dataset,
    config: RunConfig,
    folder: Path,
    found: tuple[Finding, ...],
    *,
    resume: bool,
    progress: bool,
    say: Say,
    on_epoch: OnEpoch | None,
) -> TrainedRun:
    members = fit_members(
        data, config, folder=folder / "checkpoints", resume=resume, progress=progress, say=say, on_epoch=on_epoch
    )
    logits = MemberLogits.of(members.ensemble, data)
    served = calibrated(logits, members.ensemble.weights, data, config)
    table = {NETWORK: served.scores} | members_alone(members, logits, data, config)
    table |= compared(cohort, data, config, trees=members.trees)
    figures = {name: judge(scores, config) for name, scores in table.items()}
    data.saw("thresholds", data.parts[Part.CALIBRATION])
    thresholds = choose_thresholds(served.scores.calibration, config.task)
    bundle = _bundle(cohort, data, config, members, served.calibration, thresholds, figures)
    fitted = {"calibration": Fitted(served.calibration, _refit(members, data, config))}
    scorer = Scorer(bundle, members.ensemble, data.tokenizer)
    bundle = guarded(cohort, config, data, scorer, before=found, fitted=fitted)
    say(f"  passed {len(bundle.guards)} leak guards")
    artifact, digest = _save(folder, bundle, members, data)
    scores = {name: both.test for name, both in table.items()}
    plots = _plots(folder, config, members, scores, data.parts[Part.TEST])
    # The bundle holds the whole table, and the card is made of it: nothing may be taken out of it here.
    beside = {name: found for name, found in figures.items() if name != NETWORK}
    return TrainedRun(
        artifact, digest, bundle, figures[NETWORK], beside, members.history, plots, scores[NETWORK], members
    )


def _set_threads(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)


def _refit(members: Members, data: Dataset, config: RunConfig) -> Callable[[PartData], Calibration]:
    """Fits the calibration on a part, with no other at hand."""

    def fit(part: PartData) -> Calibration:
        alone = replace(data, parts=dict.fromkeys(data.parts, part), fitted_on={})
        logits = MemberLogits.of(members.ensemble, alone)
        return calibrated(logits, members.ensemble.weights, alone, config).calibration

    return fit


def judge(scores: BaselineScores, config: RunConfig) -> dict[str, Any]:
    """Figures on the hold-out, with thresholds that were chosen on the calibration part."""
    thresholds = choose_thresholds(scores.calibration, config.task)
    return evaluate(scores.test, config.task, config.evaluation, thresholds=thresholds)


def _bundle(
    cohort: Cohort,
    data: Dataset,
    config: RunConfig,
    members: Members,
    calibration: Calibration,
    thresholds: dict[str, float],
    metrics: dict[str, Any],
) -> Bundle:
    return Bundle(
        name=config.name,
        task=config.task,
        channels=cohort.channels,
        statics=cohort.statics,
        encoding=data.encoding,
        members=members.specs,
        notes=config.notes if data.tokenizer is not None else None,
        calibration=calibration,
        thresholds=thresholds,
        metrics=metrics,
        config=to_plain(config),
        cohort={
            "fingerprint": cohort.fingerprint,
            "source": cohort.source,
            "licence": cohort.licence,
            "stays": len(cohort.stays),
            "patients": len(set(cohort.patient_id)),
            "parts": {str(p): len(part.index) for p, part in data.parts.items()},
        },
        versions={"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in LIBRARIES},
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def _save(folder: Path, bundle: Bundle, members: Members, data: Dataset) -> tuple[Path, str]:
    # MLflow keeps the folder's own name, and a model's bundle is found there under one name.
    artifact = folder / "artifacts" / bundle.created.replace(":", "").replace("+0000", "Z") / "bundle"
    documents = {"card.md": card_markdown(bundle), "card.json": card_json(bundle)}
    digest = save_artifact(artifact, bundle, members.ensemble, data.tokenizer, documents=documents)
    return artifact, digest


def _plots(
    folder: Path, config: RunConfig, members: Members, scores: dict[str, StepScores], part: PartData
) -> list[Path]:
    from pipelines.figures import write_figures  # matplotlib is slow to import and needed here alone

    return write_figures(folder / "plots", config.task, members.fits, scores, part)
