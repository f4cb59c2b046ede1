"""Scores in, the time steps at which a stay is watched for alerts out, and the alerts that a threshold gives.

A stay is watched from admission to its last time step, or to its event where that has a time: an alert at or
after the event tells nobody anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.stay import Floats, Ints
from pipelines.scores import MINUTES_PER_HOUR, StepScores

MINUTES_PER_DAY = 24 * MINUTES_PER_HOUR


@dataclass(frozen=True)
class Watch:
    """Watched time steps of `n` stays of known outcome, end to end.

    Args:
        stay: (steps,) index of the stay of every step; ascending.
        time_min: (steps,) minute of every step; ascending in a stay.
        risk: (steps,) of one output.
        positive: (steps,) whether the step's label is positive: an alert there is true.
        days: (n,) days watched.
        event: (n,) whether the stay has the event.
        onset_min: (n,) minute of the event; NaN = none or not timed.
        patient: (n,) index of the stay's patient.
        too_early: stays whose event came before their first score; they are not among the `n`.
    """

    stay: Ints
    time_min: Ints
    risk: Floats
    positive: NDArray[np.bool_]
    days: Floats
    event: NDArray[np.bool_]
    onset_min: Floats
    patient: Ints
    too_early: int

    def __len__(self) -> int:
        return len(self.days)


def watch_of(scores: StepScores, output: int) -> Watch:
    """The watched steps of every stay whose outcome is known."""
    starts, stay = scores.step_offsets[:-1], scores.stay_of_step
    label = scores.label[:, output]
    labelled = np.logical_or.reduceat(~np.isnan(label), starts)
    event = np.logical_or.reduceat(label > 0, starts)
    onset = np.full(len(scores), np.nan) if scores.onset_min is None else scores.onset_min
    before = ~(scores.time_min >= onset[stay])
    watched = labelled & np.logical_or.reduceat(before, starts)
    rows = np.flatnonzero(before & watched[stay])
    begin = np.minimum(scores.time_min[starts], 0)
    last = scores.time_min[scores.last_rows]
    end = np.where(onset < last, onset, last)
    number = np.cumsum(watched) - 1
    return Watch(
        stay=number[stay[rows]].astype(np.int64),
        time_min=scores.time_min[rows],
        risk=scores.risk[rows, output],
        positive=label[rows] > 0,
        days=((end - begin) / MINUTES_PER_DAY)[watched],
        event=event[watched],
        onset_min=onset[watched],
        patient=scores.patient_index[watched],
        too_early=int(np.sum(labelled & event & ~watched)),
    )


def alert_steps(watch: Watch, threshold: float, silence_min: int) -> Ints:
    """Steps that alert: the risk is at or above the threshold, and the stay gave no alert in the silence before.

    A risk that stays high alerts again when the silence is over. No rule that keeps the silence gives more alerts,
    so a lower threshold never gives fewer.

    Args:
        watch: the watched steps.
        threshold: a risk at or above alerts.
        silence_min: minutes after an alert in which the stay gives no other.

    Returns:
        Ascending indices of steps.

    Example:
        >>> one = np.zeros(1)
        >>> watch = Watch(np.zeros(5, int), np.arange(5) * 60, np.array([.1, .9, .9, .9, .2]), np.zeros(5, bool),
        ...               one, one > 0, one, np.zeros(1, int), 0)
        >>> alert_steps(watch, 0.5, 120).tolist(), alert_steps(watch, 0.5, 180).tolist()
        ([1, 3], [1])
    """
    above = np.flatnonzero(watch.risk >= threshold)
    if not len(above):
        return np.zeros(0, dtype=np.int64)
    stay, gap = watch.stay[above], max(silence_min, 1)
    low = int(watch.time_min.min())
    # Stay and minute in one ascending key; the span leaves room for the silence after a stay's last step.
    key = stay * (int(watch.time_min.max()) - low + gap + 1) + (watch.time_min[above] - low)
    current = np.flatnonzero(np.diff(stay, prepend=-1))
    chosen = []
    while len(current):
        chosen.append(above[current])
        following = np.searchsorted(key, key[current] + gap)
        held = following < len(above)
        current, following = current[held], following[held]
        current = following[stay[following] == stay[current]]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def first_alert_min(watch: Watch, threshold: float) -> Floats:
    """(n,) minute of every stay's first alert; NaN where it has none."""
    first = np.full(len(watch), np.nan)
    above = np.flatnonzero(watch.risk >= threshold)[::-1]
    first[watch.stay[above]] = watch.time_min[above]
    return first
