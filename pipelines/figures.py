"""From a training run to its figures as PNG files: scores, calibration, training curves, gradients, hidden states."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.forward import hidden_states
from models.task import TaskSpec
from pipelines.fit import FitResult
from pipelines.part_data import PartData
from pipelines.plots import (
    evaluation_figures,
    gradient_norm_figure,
    hidden_state_figure,
    save_figure,
    training_figure,
)
from pipelines.scores import StepScores


def write_figures(
    folder: Path, task: TaskSpec, fits: Sequence[FitResult], scores: Mapping[str, StepScores], part: PartData
) -> list[Path]:
    """Writes every figure of a run anew.

    Args:
        folder: emptied first.
        task: what was predicted.
        fits: what the training loop left, of every network; of several the first is shown, and the figure says so.
        scores: of the hold-out by the name of the model, the network first.
        part: the stays of which one is shown by its hidden states: the one of median length.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    figures = evaluation_figures(scores, task)
    fit = fits[0]
    drawn = {"training": training_figure(fit.history)}
    if fit.gradient_norms:
        drawn["gradient_norms"] = gradient_norm_figure(fit.gradient_norms)
    stay = int(np.argsort(part.encoded.lengths, kind="stable")[len(part.encoded) // 2])
    first, last = part.encoded.step_offsets[stay : stay + 2]
    states = hidden_states(fit.network, part.encoded, stay)
    drawn["hidden_states"] = hidden_state_figure(states, part.encoded.time_min[first:last])
    if len(fits) > 1:
        for figure in drawn.values():
            figure.suptitle(f"{figure.get_suptitle()}, member 1 of {len(fits)}")
    figures |= drawn
    return [save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()]
