"""Encoded parts in, boosted trees as a member of the model out: fitted on what the networks read, at many hours.

Networks learn from every step of a stay where training.target_replication says so, and so do these trees: a risk
must be sensible in the middle of a stay too. The baseline of boosted trees reads the last steps alone, on which it
is judged, and is handicapped by nothing.
"""

from __future__ import annotations

from models.trees import TreeMember
from pipelines.baselines import check_classes, fit_booster
from pipelines.config import RunConfig
from pipelines.part_data import Dataset
from pipelines.split import Part
from pipelines.summaries import replicated_rows


def fit_trees(data: Dataset, config: RunConfig) -> TreeMember:
    """Fits boosted trees with the settings of `[baselines]`, one model a target.

    Raises:
        DataError: if the training part does not hold every class.
    """
    task, settings = config.task, config.baselines
    train = data.saw("trees", data.parts[Part.TRAIN])
    texts = []
    for k in range(task.targets):
        rows = replicated_rows(
            train,
            task,
            target=k,
            limit=settings.max_rows,
            seed=config.seed,
            replication=config.training.target_replication,
        )
        check_classes(rows, task, remedy="set ensemble.trees = false")
        texts.append(str(fit_booster(rows, task, settings, config.seed).model_to_string()))
    return TreeMember(texts, width=train.encoded.width, outputs=task.outputs)
