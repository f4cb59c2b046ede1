"""From cohorts and a configuration to a verified artifact with its figures: one training run, whole.

The order is fixed: split, encode, fit the network, calibrate, choose thresholds, evaluate on the
hold-out beside the baselines, plot, save. Registration in MLflow is `pipelines.publish`'s.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.artifact import save_artifact
from models.bundle import Bundle
from models.calibration import Calibration
from models.channel_encoding import SUMMARIES
from models.encoding import Encoding
from models.ensemble import Ensemble, network_members
from models.forward import score_logits
from models.record import to_plain
from models.task import LabelScope, TargetKind, TaskSpec
from pipelines.baselines import BaselineScores, fit_baselines, part_scores
from pipelines.cohort import Cohort, concat_cohorts
from pipelines.config import RunConfig
from pipelines.dataset import Dataset, PartData, build_dataset
from pipelines.evaluate import evaluate
from pipelines.fit import FitResult, fit_network
from pipelines.labels import TRUE_RISK_SUFFIX, every_stay_has, outcomes_of
from pipelines.model_card import card_json, card_markdown
from pipelines.scores import StepScores
from pipelines.split import Part
from pipelines.thresholds import choose_thresholds

LIBRARIES = ("torch", "pytorch-lightning", "numpy", "pandas", "mlflow", "tokenizers", "safetensors", "lightgbm")
NETWORK, TRUE_RISK = "network", "true_risk"
Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainedRun:
    """What a training run leaves.

    Args:
        artifact: folder of the saved model.
        digest: its digest.
        bundle: its facts.
        metrics: figures of the network on the hold-out, as `evaluate` gives them.
        baselines: the same figures of every baseline, and of the true risk where the cohort is simulated.
        history: one row an epoch.
        plots: PNG files.
        scores: scores of the hold-out's time steps.
        fit: what the training loop left.
    """

    artifact: Path
    digest: str
    bundle: Bundle
    metrics: dict[str, Any]
    baselines: dict[str, dict[str, Any]]
    history: list[dict[str, float]]
    plots: list[Path]
    scores: StepScores
    fit: FitResult


def train(
    cohorts: list[Cohort],
    config: RunConfig,
    *,
    folder: Path,
    resume: bool = False,
    progress: bool = True,
    say: Say = lambda _: None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> TrainedRun:
    """Trains one model.

    Args:
        cohorts: one or several; their stays must not share identifiers.
        config: the run's configuration.
        folder: where checkpoints, plots and the artifact go.
        resume: continue from the newest checkpoint in the folder, if there is one.
        progress: show progress bars on standard error.
        say: receives lines for people.
        on_epoch: receives every epoch's figures as soon as they are known.

    Raises:
        SequelaError: with what is wrong and what to do; nothing is saved then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _set_threads(config.threads)
    cohort = concat_cohorts(cohorts) if len(cohorts) > 1 else cohorts[0]
    say(f"cohort {cohort.fingerprint[:23]}: {len(cohort.stays):,} stays")
    # Encoded features are patient data: they do not outlive the run, however it ends.
    with tempfile.TemporaryDirectory(dir=folder, prefix="encoded-") as encoded:
        data = build_dataset(cohort, config, Path(encoded), say=say)
        return _train(cohort, data, config, folder, resume=resume, progress=progress, say=say, on_epoch=on_epoch)


def _train(
    cohort: Cohort,
    data: Dataset,
    config: RunConfig,
    folder: Path,
    *,
    resume: bool,
    progress: bool,
    say: Say,
    on_epoch: Callable[[dict[str, float]], None] | None,
) -> TrainedRun:
    fit = _fit(data, config, folder=folder, resume=resume, progress=progress, on_epoch=on_epoch)
    say(f"  trained {len(fit.history)} epochs in {fit.seconds:.0f} s, best epoch {fit.best_epoch + 1}")
    calibration = _calibrate(data, fit, config)
    network = _network_scores(data, fit, calibration)
    fitted = {NETWORK: network, **_baselines(cohort, data, config)}
    fitted |= _reference(cohort, data, config.task)
    figures = {name: judge(scores, config) for name, scores in fitted.items()}
    thresholds = choose_thresholds(network.calibration, config.task)
    bundle = _bundle(cohort, data, config, calibration, thresholds, figures)
    artifact, digest = _save(folder, bundle, fit, data)
    plots = _plots(folder, config, fit, {name: s.test for name, s in fitted.items()}, data.parts[Part.TEST])
    # The bundle holds the whole table, and the card is made of it: nothing may be taken out of it here.
    baselines = {name: found for name, found in figures.items() if name != NETWORK}
    return TrainedRun(artifact, digest, bundle, figures[NETWORK], baselines, fit.history, plots, network.test, fit)


def _set_threads(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)


def _fit(
    data: Dataset,
    config: RunConfig,
    *,
    folder: Path,
    resume: bool,
    progress: bool,
    on_epoch: Callable[[dict[str, float]], None] | None,
) -> FitResult:
    train_part, validation = data.parts[Part.TRAIN], data.parts[Part.VALIDATION]
    return fit_network(
        train=(train_part.encoded, train_part.targets),
        validation=(validation.encoded, validation.targets),
        network=config.network,
        notes=config.notes if data.tokenizer is not None else None,
        vocabulary_size=data.tokenizer.vocabulary_size if data.tokenizer is not None else 0,
        task=config.task,
        training=config.training,
        seed=config.seed,
        folder=folder / "checkpoints",
        resume=resume,
        progress=progress,
        on_epoch=on_epoch,
    )


def _calibrate(data: Dataset, fit: FitResult, config: RunConfig) -> Calibration:
    part = data.parts[Part.CALIBRATION]
    logit = score_logits(fit.network, part.encoded).astype(np.float64)
    return Calibration.fit(
        logit,
        part.label,
        time_h=part.encoded.time_min / 60.0,
        stay_index=np.repeat(np.arange(len(part.encoded)), part.encoded.lengths),
        kind=config.task.kind,
        scope=config.task.scope,
        method=config.calibration.method,
        strength=config.calibration.strength,
        mean=data.scale[0],
        scale=data.scale[1],
    )


def _network_scores(data: Dataset, fit: FitResult, calibration: Calibration) -> BaselineScores:
    scores = []
    for part in (data.parts[Part.CALIBRATION], data.parts[Part.TEST]):
        logit = score_logits(fit.network, part.encoded).astype(np.float64)
        scores.append(part_scores(part, logit, calibration))
    return BaselineScores(*scores)


def judge(scores: BaselineScores, config: RunConfig) -> dict[str, Any]:
    """Figures on the hold-out, with thresholds that were chosen on the calibration part."""
    thresholds = choose_thresholds(scores.calibration, config.task)
    return evaluate(scores.test, config.task, config.evaluation, thresholds=thresholds)


def _baselines(cohort: Cohort, data: Dataset, config: RunConfig) -> dict[str, BaselineScores]:
    if not config.baselines.enabled:
        return {}
    mean, scale = data.scale
    parts = _summarised(cohort, data, config)
    return fit_baselines(
        parts[Part.TRAIN],
        parts[Part.CALIBRATION],
        parts[Part.TEST],
        config.task,
        config.baselines,
        seed=config.seed,
        mean=mean,
        scale=scale,
    )


def _summarised(cohort: Cohort, data: Dataset, config: RunConfig) -> dict[Part, PartData]:
    """The parts with every summary of every channel: a network that is shown less is no reason for weak baselines."""
    if set(config.encoding.features) == set(SUMMARIES):
        return data.parts
    whole = replace(config.encoding, features=SUMMARIES)
    encoding = Encoding.fit(data.parts[Part.TRAIN].stays, whole, statics=cohort.statics)
    # With the tokenizer, so that notes make the same time steps as for the network.
    return {
        name: replace(part, encoded=encoding.encode(part.stays, tokenizer=data.tokenizer))
        for name, part in data.parts.items()
    }


def _reference(cohort: Cohort, data: Dataset, task: TaskSpec) -> dict[str, BaselineScores]:
    """The risks that the outcomes were drawn with, where a simulator states them all: the best that can be reached."""
    name = task.outcome + TRUE_RISK_SUFFIX
    if task.scope is not LabelScope.STAY or task.kind is not TargetKind.BINARY or not every_stay_has(cohort, name):
        return {}
    itself = Calibration.identity(task.kind, 1)
    risk = np.clip(outcomes_of(cohort, name).value, 1e-9, 1 - 1e-9)
    scores = []
    for part in (data.parts[Part.CALIBRATION], data.parts[Part.TEST]):
        stepwise = np.repeat(risk[part.index], part.encoded.lengths)[:, None]
        scores.append(part_scores(part, np.log(stepwise / (1 - stepwise)), itself))
    return {TRUE_RISK: BaselineScores(*scores)}


def _bundle(
    cohort: Cohort,
    data: Dataset,
    config: RunConfig,
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
        members=network_members(config.network),
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


def _save(folder: Path, bundle: Bundle, fit: FitResult, data: Dataset) -> tuple[Path, str]:
    # MLflow keeps the folder's own name, and a model's bundle is found there under one name.
    artifact = folder / "artifacts" / bundle.created.replace(":", "").replace("+0000", "Z") / "bundle"
    documents = {"card.md": card_markdown(bundle), "card.json": card_json(bundle)}
    digest = save_artifact(artifact, bundle, Ensemble([fit.network]), data.tokenizer, documents=documents)
    return artifact, digest


def _plots(
    folder: Path, config: RunConfig, fit: FitResult, scores: dict[str, StepScores], part: PartData
) -> list[Path]:
    from pipelines.figures import write_figures  # matplotlib is slow to import and needed here alone

    return write_figures(folder / "plots", config.task, fit, scores, part)
