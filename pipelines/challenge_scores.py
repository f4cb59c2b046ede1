"""Risks and outcomes in, the scores of the PhysioNet/CinC Challenges of 2012 and 2019 out.

Source: Silva et al. 2012, Predicting in-hospital mortality of ICU patients: the PhysioNet/Computing in
Cardiology Challenge 2012; Reyna et al. 2020, Early prediction of sepsis from clinical data: the
PhysioNet/Computing in Cardiology Challenge 2019; and the scoring programs published with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.stay import Floats, Ints
from pipelines.metrics import Statistic
from pipelines.scores import MINUTES_PER_HOUR, StepScores

GROUPS = 10
# Added to the variance of a group, as in the published program, so that risks of 0 divide by no zero.
VARIANCE_FLOOR = 0.001

# Hours from onset at which the reward of an alert begins, is best, and ends.
EARLIEST_H, OPTIMAL_H, LATEST_H = -12.0, -6.0, 3.0
BEST_REWARD, WORST_MISS, FALSE_ALERT = 1.0, -2.0, -0.05


def event1(label: Floats, alert: Floats) -> Statistic:
    """Event 1 of 2012: the smaller of sensitivity and positive predictivity; 0 to 1, higher is better.

    Args:
        label: (stays,) 1 = died in hospital.
        alert: (stays,) 1 = predicted to die.
    """
    caught = label * alert

    def statistic(weight: Floats) -> dict[str, Floats]:
        died, alerts, both = weight @ label, weight @ alert, weight @ caught
        # Both shares have the same numerator; without any alert it is 0.
        score = both / np.maximum(np.maximum(died, alerts), 1.0)
        return {"event1": np.where(died > 0, score, np.nan)}

    return statistic


def event2(label: Floats, risk: Floats) -> Statistic:
    """Event 2 of 2012: Hosmer-Lemeshow's H over tenths of the stays by risk, over the range of their mean risks.

    `sum over groups of (deaths - expected)^2 / (n * mean * (1 - mean) + 0.001)`, divided by the mean risk of
    the highest tenth less that of the lowest; lower is better. The published program leaves out the
    stays that ten does not divide; here the first groups take one more, so that none is.
    """
    order = np.argsort(risk, kind="stable")
    ranked_label, ranked_risk = label[order], risk[order]

    def statistic(weight: Floats) -> dict[str, Floats]:
        counts = np.rint(weight[:, order]).astype(np.int64)
        return {"event2": np.array([_range_normalised_h(ranked_label, ranked_risk, count) for count in counts])}

    return statistic


def _range_normalised_h(label: Floats, risk: Floats, count: Ints) -> float:
    """H of rows sorted by risk, each taken `count` times."""
    label, risk = np.repeat(label, count), np.repeat(risk, count)
    if len(label) < GROUPS:
        return float("nan")
    sizes = np.full(GROUPS, len(label) // GROUPS)
    sizes[: len(label) % GROUPS] += 1
    starts = np.cumsum(sizes) - sizes
    observed, expected = np.add.reduceat(label, starts), np.add.reduceat(risk, starts)
    mean = expected / sizes
    if mean[-1] <= mean[0]:
        return float("nan")
    terms = np.square(observed - expected) / (expected * (1.0 - mean) + VARIANCE_FLOOR)
    return float(terms.sum() / (mean[-1] - mean[0]))


@dataclass(frozen=True)
class HourlyDecisions:
    """What an alert, or none, is worth at every hour of every stay.

    Args:
        stay: (hours,) index into the stays of known outcome.
        risk: (hours,) risk on which the hour decides.
        if_alert: (hours,) utility of an alert.
        if_silent: (hours,) utility of none.
        rows: (stays,) which stays of the scores these are.
    """

    stay: Ints
    risk: Floats
    if_alert: Floats
    if_silent: Floats
    rows: Ints


def hourly_decisions(scores: StepScores, output: int) -> HourlyDecisions:
    """The hours of every stay whose outcome is known, decided by the last step stamped at or before each.

    On a grid of one hour this is one decision a time step, as in the Challenge; on others it is what a score
    read every full hour would decide.
    """
    onset = np.full(len(scores), np.nan) if scores.onset_min is None else scores.onset_min
    labelled = np.logical_or.reduceat(~np.isnan(scores.label[:, output]), scores.step_offsets[:-1])
    rows = np.flatnonzero(labelled | ~np.isnan(onset))
    hours = np.maximum(-(-scores.time_min[scores.last_rows[rows]] // MINUTES_PER_HOUR), 1)
    stay = np.repeat(np.arange(len(rows), dtype=np.int64), hours)
    hour = np.arange(len(stay)) - np.repeat(np.cumsum(hours) - hours, hours) + 1
    step = scores.rows_before(rows[stay], hour * MINUTES_PER_HOUR)
    from_onset = hour - onset[rows][stay] / MINUTES_PER_HOUR
    return HourlyDecisions(
        stay, scores.risk[step, output], utility_of_alert(from_onset), utility_of_silence(from_onset), rows
    )


def utility_of_alert(from_onset_h: Floats) -> Floats:
    """Utility of an alert at hours from onset (negative = before; NaN = the stay has none).

    Example:
        >>> utility_of_alert(np.array([-12, -9, -6, -1.5, 3, 4, -20, np.nan])).tolist()
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.0, -0.05, -0.05]
    """
    rising = BEST_REWARD * (from_onset_h - EARLIEST_H) / (OPTIMAL_H - EARLIEST_H)
    falling = BEST_REWARD * (LATEST_H - from_onset_h) / (LATEST_H - OPTIMAL_H)
    reward = np.where(from_onset_h <= OPTIMAL_H, np.maximum(rising, FALSE_ALERT), np.maximum(falling, 0.0))
    return np.where(np.isnan(from_onset_h), FALSE_ALERT, reward)


def utility_of_silence(from_onset_h: Floats) -> Floats:
    """Utility of no alert at hours from onset.

    Example:
        >>> utility_of_silence(np.array([-7, -6, -1.5, 3, 4, np.nan])).tolist()
        [0.0, 0.0, -1.0, -2.0, 0.0, 0.0]
    """
    falling = WORST_MISS * (from_onset_h - OPTIMAL_H) / (LATEST_H - OPTIMAL_H)
    missed = (from_onset_h > OPTIMAL_H) & (from_onset_h <= LATEST_H)
    return np.where(missed, falling, 0.0)


def utility(decisions: HourlyDecisions, threshold: float) -> Statistic:
    """Normalised utility of 2019: 1 = the best decisions, 0 = never an alert.

    Args:
        decisions: of the stays.
        threshold: a risk at or above alerts; chosen on other stays.

    Returns:
        Of weights of shape (draws, stays).
    """
    stays = len(decisions.rows)
    chosen = np.where(decisions.risk >= threshold, decisions.if_alert, decisions.if_silent)
    best = np.maximum(decisions.if_alert, decisions.if_silent)
    gained = np.bincount(decisions.stay, chosen - decisions.if_silent, stays)
    possible = np.bincount(decisions.stay, best - decisions.if_silent, stays)

    def statistic(weight: Floats) -> dict[str, Floats]:
        below = weight @ possible
        return {"utility": np.divide(weight @ gained, below, out=np.full(len(below), np.nan), where=below > 0)}

    return statistic
