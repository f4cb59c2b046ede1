"""From cohorts and a configuration to a verified artifact with its figures: one training run, whole.

The order is fixed: split, encode, fit the network, calibrate, choose thresholds, evaluate on the
hold-out beside the baselines, plot, save. Registration in MLflow is `pipelines.publish`'s.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.artifact import load_artifact, save_artifact
from models.bundle import Bundle
from models.calibration import Calibration
from models.forward import score_logits
from models.record import to_plain
from models.scorer import Scorer
from pipelines.baselines import fit_baselines
from pipelines.cohort import Cohort, concat_cohorts
from pipelines.config import RunConfig
from pipelines.dataset import Dataset, PartData, build_dataset
from pipelines.evaluate import evaluate
from pipelines.fit import FitResult, fit_network
from pipelines.model_card import card_json, card_markdown
from pipelines.scores import StepScores
from pipelines.split import Part
from pipelines.thresholds import choose_thresholds

LIBRARIES = ("torch", "pytorch-lightning", "numpy", "pandas", "mlflow", "tokenizers", "safetensors", "lightgbm")
Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainedRun:
    """What a training run leaves.

    Args:
        artifact: folder of the saved model.
        digest: its digest.
        bundle: its facts.
        metrics: figures of the network on the hold-out, as `evaluate` gives them.
        baselines: the same figures of every baseline.
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
    data = build_dataset(cohort, config, say=say)
    fit = _fit(data, config, folder=folder, resume=resume, progress=progress, on_epoch=on_epoch)
    say(f"  trained {len(fit.history)} epochs in {fit.seconds:.0f} s, best epoch {fit.best_epoch}")
    calibration = _calibrate(data, fit, config)
    part_scores = {p: _scores(data.parts[p], fit, calibration) for p in (Part.CALIBRATION, Part.TEST)}
    thresholds = choose_thresholds(part_scores[Part.CALIBRATION], config.task)
    metrics = evaluate(part_scores[Part.TEST], config.task, config.evaluation, thresholds=thresholds)
    baselines = _baselines(data, config, say=say)
    bundle = _bundle(cohort, data, config, calibration, thresholds, {"network": metrics, **baselines})
    artifact, digest = _save(folder, bundle, fit, data)
    plots = _plots(folder, data, fit, part_scores[Part.TEST], load_artifact(artifact))
    return TrainedRun(
        artifact, digest, bundle, metrics, baselines, fit.history, plots, part_scores[Part.TEST], fit
    )


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
        method=config.calibration.method,
        strength=config.calibration.strength,
        mean=data.scale[0],
        scale=data.scale[1],
    )


def _scores(part: PartData, fit: FitResult, calibration: Calibration) -> StepScores:
    logit = score_logits(fit.network, part.encoded).astype(np.float64)
    return step_scores(part, logit, calibration.apply(logit, part.encoded.time_min / 60.0))


def step_scores(part: PartData, logit: np.ndarray[Any, Any], risk: np.ndarray[Any, Any]) -> StepScores:
    """The scores of a part's time steps beside their labels."""
    return StepScores(
        stay_id=part.stays.stay_id,
        patient_id=part.patient_id,
        step_offsets=part.encoded.step_offsets,
        time_min=part.encoded.time_min,
        logit=logit,
        risk=risk,
        label=part.label,
        onset_min=part.outcomes.time_min,
    )


def _baselines(data: Dataset, config: RunConfig, *, say: Say) -> dict[str, dict[str, Any]]:
    if not config.baselines.enabled:
        return {}
    train_part, test = data.parts[Part.TRAIN], data.parts[Part.TEST]
    calibration = data.parts[Part.CALIBRATION]
    table = {}
    mean, scale = data.scale
    fitted = fit_baselines(
        train_part, calibration, test, config.task, config.baselines, seed=config.seed, mean=mean, scale=scale
    )
    for name, scores in fitted.items():
        thresholds = choose_thresholds(scores.calibration, config.task)
        table[name] = evaluate(scores.test, config.task, config.evaluation, thresholds=thresholds)
    return table


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
        network=config.network,
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
    artifact = folder / f"artifact-{bundle.created.replace(':', '').replace('+0000', 'Z')}"
    documents = {"card.md": card_markdown(bundle), "card.json": card_json(bundle)}
    digest = save_artifact(artifact, bundle, fit.network, data.tokenizer, documents=documents)
    return artifact, digest


def _plots(folder: Path, data: Dataset, fit: FitResult, scores: StepScores, scorer: Scorer) -> list[Path]:
    from pipelines.figures import write_plots  # matplotlib is slow to import and needed here alone

    return write_plots(folder / "plots", data.parts[Part.TEST], fit, scores, scorer)
