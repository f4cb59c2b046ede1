"""A run's configuration in, the champion that its report compares with out, or why there is none to compare."""

from __future__ import annotations

from models.record import from_plain
from pipelines.config import RunConfig
from pipelines.gate import load_checked, same_task_check
from pipelines.registry import CHAMPION, fetch, version_at
from pipelines.report.training_report import Rival
from pipelines.settings import Settings
from pipelines.split import SplitConfig
from pipelines.tracking import connect

OTHER_SPLIT = "it was made with another split, so that it may have been trained on these patients"


def rivals_of(config: RunConfig, settings: Settings) -> list[Rival]:
    """The champion of the run's name, if there is one; compared only if it never saw the hold-out's patients.

    Args:
        config: of the run.
        settings: where MLflow is.

    Raises:
        TrackingError: if MLflow cannot be reached.
    """
    holder = version_at(connect(settings), config.name, alias=CHAMPION)
    if holder is None:
        return []
    name = f"champion {holder.address}"
    scorer, sound = load_checked(fetch(holder, settings), holder.digest)
    if scorer is None:
        return [Rival(name, reason=sound.note)]
    if not (same := same_task_check(config.task, scorer.bundle.task)).passed:
        return [Rival(name, reason=same.note)]
    if from_plain(SplitConfig, scorer.bundle.config["split"], where="split") != config.split:
        return [Rival(name, reason=OTHER_SPLIT)]
    return [Rival(name, scorer)]
