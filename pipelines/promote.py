"""A registered version in, an alias moved or a reason out: promotion through the gate, and the way back.

Promotion by hand and by the training job is this one function: champion and candidate are both scored on
the hold-out of the candidate's run. A rollback asks for digests and golden scores alone, so that it is
possible in a minute and without data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.artifact_folder import artifact_kind
from models.bundle import Bundle
from models.errors import ArtifactError, RefusedError
from models.record import from_plain
from models.scorer import Scorer
from models.text.artifact import load_text_artifact
from models.text.bundle import KIND as DOCUMENTS
from models.text.tagging_artifact import KIND as TAGGING
from models.text.tagging_artifact import load_tagging_artifact
from pipelines.cohort import Cohort
from pipelines.gate import (
    GateCheck,
    GateRefusedError,
    GateVerdict,
    holdout_checks,
    load_checked,
    paired_checks,
    same_task_check,
)
from pipelines.holdout import holdout_scores, read_cohorts
from pipelines.registry import (
    CHAMPION,
    HOLDOUT_FILE,
    PREVIOUS,
    ModelVersion,
    fetch,
    find_version,
    move_alias,
    restore_previous,
    version_at,
)
from pipelines.retrain_config import GateConfig
from pipelines.scores import StepScores
from pipelines.settings import Settings
from pipelines.split import SplitConfig
from pipelines.text.document_gate import judge_classifier
from pipelines.text.tagging_gate import judge_tagging
from pipelines.tracking import MlflowClient, connect, mlflow, quiet, reached

GATE_FILE = "gate.json"


@dataclass(frozen=True)
class Evidence:
    """What a candidate is judged on, where the caller has it at hand already.

    Args:
        cohort: the cohort that the candidate was trained on; read where left out.
        folders: its folders; those that the candidate's run recorded where left out.
        scores: the candidate's scores of the hold-out; computed where left out.
        gate: what is asked for; the candidate's own configuration, or the defaults, where left out.
    """

    cohort: Cohort | None = None
    folders: Sequence[Path] = ()
    scores: StepScores | None = None
    gate: GateConfig | None = None


def promote(
    name: str,
    version: int,
    *,
    settings: Settings,
    alias: str = CHAMPION,
    evidence: Evidence | None = None,
    before_move: Callable[[], None] = lambda: None,
) -> GateVerdict:
    """Moves an alias to a version if it passes the gate; the verdict is in MLflow in either case.

    Args:
        name: the registered model.
        version: the candidate.
        settings: where MLflow is.
        alias: what is moved; its holder is whom the candidate is compared with.
        evidence: what the caller has at hand.
        before_move: called last before the alias moves; may raise to stop it.

    Raises:
        GateRefusedError: if a check does not hold; no alias has moved then.
        RefusedError: if there is no such version, its data is not at hand, or the alias moved meanwhile.
        TrackingError: if MLflow cannot be reached.
    """
    client = connect(settings)
    candidate = find_version(f"models:/{name}/{version}", client)
    holder = version_at(client, name, alias=alias)
    champion = holder if holder is not None and holder.version != version else None
    verdict = judge(candidate, champion, settings, evidence or Evidence())
    record(client, candidate, verdict)
    if not verdict.passed:
        raise GateRefusedError(verdict)
    now = version_at(client, name, alias=alias)
    if (now.version if now else None) != (holder.version if holder else None):
        raise RefusedError(f"alias {alias} must stay where it is during the gate, got another holder; promote again")
    before_move()
    with reached():
        move_alias(client, name, alias, version)
    return verdict


def judge(
    candidate: ModelVersion, champion: ModelVersion | None, settings: Settings, evidence: Evidence
) -> GateVerdict:
    """The verdict on a candidate; nothing is moved.

    Raises:
        RefusedError: if the hold-out's data is not at hand.
        TrackingError: if an artifact cannot be fetched.
    """
    folder = fetch(candidate, settings)
    kind = artifact_kind(folder)
    if kind == TAGGING:
        return judge_tagging(candidate, champion, settings, folders=evidence.folders)
    if kind == DOCUMENTS:
        return judge_classifier(candidate, champion, settings, folders=evidence.folders)
    address = champion.address if champion else None
    scorer, artifact = load_checked(folder, candidate.digest)
    if scorer is None:
        return GateVerdict(candidate.address, address, (artifact,))
    bundle = scorer.bundle
    gate = evidence.gate or _gate_of(bundle)
    split = from_plain(SplitConfig, bundle.config["split"], where="split")
    cohort = evidence.cohort
    if cohort is None and (champion is not None or evidence.scores is None):
        folders = evidence.folders or _recorded_folders(candidate)
        cohort = read_cohorts(folders, fingerprint=bundle.cohort["fingerprint"])
    scores = evidence.scores
    if scores is None and cohort is not None:
        scores = holdout_scores(scorer, cohort, split)
    checks = [artifact, *holdout_checks(scores, bundle.task, gate)] if scores is not None else [artifact]
    if champion is not None and cohort is not None and scores is not None:
        rival, sound = load_checked(fetch(champion, settings), champion.digest)
        checks += _comparison(bundle, scores, rival, sound, gate, lambda s: holdout_scores(s, cohort, split))
    return GateVerdict(candidate.address, address, tuple(checks))


def _sound(folder: Path, digest: str) -> GateCheck:
    """Whether the digests and golden answers of a model of any kind hold."""
    kind, bound = artifact_kind(folder), "digests and golden answers hold"
    if kind not in (TAGGING, DOCUMENTS):
        return load_checked(folder, digest)[1]
    try:
        if kind == TAGGING:
            load_tagging_artifact(folder, expected_digest=digest)
        else:
            load_text_artifact(folder, expected_digest=digest)
    except ArtifactError as error:
        return GateCheck("artifact", False, 0.0, bound, str(error))
    return GateCheck("artifact", True, 1.0, bound)


def _comparison(
    bundle: Bundle,
    scores: StepScores,
    rival: Scorer | None,
    sound: GateCheck,
    gate: GateConfig,
    score: Callable[[Scorer], StepScores],
) -> list[GateCheck]:
    if rival is None:
        return [GateCheck("champion_artifact", False, 0.0, sound.bound, sound.note)]
    same = same_task_check(bundle.task, rival.bundle.task)
    return [same, *paired_checks(scores, score(rival), bundle.task, gate)] if same.passed else [same]


def _gate_of(bundle: Bundle) -> GateConfig:
    retrain = bundle.config.get("retrain")
    return from_plain(GateConfig, retrain["gate"], where="retrain.gate") if retrain else GateConfig()


def _recorded_folders(version: ModelVersion) -> list[Path]:
    """Folders of the cohorts that the version's run recorded."""
    with reached(), quiet():
        text = mlflow.artifacts.load_text(f"runs:/{version.run_id}/{HOLDOUT_FILE}")
    return [Path(folder) for folder in json.loads(text)["cohorts"]]


def record(client: MlflowClient, version: ModelVersion, verdict: GateVerdict) -> None:
    """Stores a verdict on the version and its run: tags, numbers and a JSON file."""
    outcome = "passed" if verdict.passed else "refused"
    with reached(), quiet():
        client.set_model_version_tag(version.name, str(version.version), "sequela.gate", outcome)
        client.set_model_version_tag(version.name, str(version.version), "sequela.gate_summary", verdict.summary)
        client.set_tag(version.run_id, "sequela.gate", outcome)
        client.set_tag(version.run_id, "sequela.gate_summary", verdict.summary)
        client.log_dict(version.run_id, verdict.to_plain(), GATE_FILE)
        for check in verdict.checks:
            if check.value is not None:
                client.log_metric(version.run_id, f"gate/{check.name}", check.value)


def rollback(name: str, *, settings: Settings) -> tuple[ModelVersion, ModelVersion | None]:
    """Moves the champion back to `previous` after checking its digests and golden scores alone.

    Returns:
        the champion now, and the version that it was before.

    Raises:
        RefusedError: if there is no previous version, or it is damaged.
        TrackingError: if MLflow cannot be reached.
    """
    client = connect(settings)
    left = version_at(client, name, alias=CHAMPION)
    previous = find_version(f"models:/{name}@{PREVIOUS}", client)
    check = _sound(fetch(previous, settings), previous.digest)
    if not check.passed:
        raise RefusedError(f"{previous.address} must be sound to roll back to it, got: {check.note}")
    with reached():
        restored = restore_previous(client, name)
    return restored, left
