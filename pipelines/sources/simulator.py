"""A number of stays and a seed in, a simulated cohort with a known true risk out.

The true risk of in-hospital death is a function of the latent path; the outcome is drawn from it. No model sees the
path, only noisy charts of it, so the true risk's AUROC is an upper bound in expectation and not quite reachable; on
few stays a model may pass it by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.channel_table import static_by_name
from models.channels import StaticVariable
from models.errors import DataError
from models.intake import Columns, NoteColumns, Rejection, build_stays, canonical_values
from models.stay import Floats, Ints
from pipelines.cohort import Cohort, make_cohort
from pipelines.outcomes import Outcomes
from pipelines.prepare_report import Tally
from pipelines.sources.simulated_charting import CHANNELS, chart, event_minutes
from pipelines.sources.simulated_notes import Language, note_texts
from pipelines.sources.simulated_path import Path, TrueOutcomes, draw_outcomes, latent_path

__all__ = ["DEATH", "DESTINATIONS", "TRUE_RISK", "Language", "best_reachable_auroc", "drawn_auroc", "simulate"]

DEATH = "in_hospital_death"
TRUE_RISK = "in_hospital_death_true_risk"
DESTINATIONS = ("home", "other_facility", "died")
STATICS = (
    static_by_name("age"),
    static_by_name("sex"),
    static_by_name("admission_weight"),
    StaticVariable("comorbidities", unit="1", hard=(0, 50)),
)
NOTES_PER_HOUR = 0.1


def simulate(
    stays: int,
    seed: int,
    language: Language = Language.ENGLISH,
    mean_hours: float = 48.0,
    *,
    hours: float | None = None,
) -> Cohort:
    """Simulates a cohort; equal arguments give equal cohorts.

    Outcomes: `in_hospital_death` (timed), `in_hospital_death_true_risk` (its probability), `deterioration` (timed),
    `discharge_destination` (index of `DESTINATIONS`) and `length_of_stay_d`.

    Args:
        stays: number of stays; about one patient in seven has several.
        seed: decides everything that is drawn; the language of the notes changes the notes alone.
        language: language of the notes.
        mean_hours: mean length of the stays.
        hours: one length for all stays, for tests of memory; None draws lengths around `mean_hours`.

    Raises:
        ConfigError: if a number is not positive.

    Example:
        >>> cohort = simulate(stays=20, seed=7)
        >>> len(cohort.stays), cohort.fingerprint == simulate(stays=20, seed=7).fingerprint
        (20, True)
    """
    # One stream a part, so that a change of one part leaves the others as they were.
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)]
    path = latent_path(streams[0], stays=stays, mean_hours=mean_hours, hours=hours)
    truth = draw_outcomes(streams[1], path)
    tally = Tally()
    end_min = np.floor(path.hours * 60).astype(np.int64)
    built, dropped = build_stays(
        stay_id=[f"simulated-{seed}-{i:06d}" for i in range(stays)],
        end_min=end_min,
        columns=_within_limits(chart(streams[2], path), tally),
        channels=[channel.name for channel in CHANNELS],
        static=_statics(streams[3], path),
        static_names=[variable.name for variable in STATICS],
        notes=_notes(streams[4], path, language),
    )
    for reason, count in dropped.items():
        tally.reject(reason, count)
    return make_cohort(
        stays=built,
        patient_id=[f"simulated-{seed}-p{i:06d}" for i in path.patient],
        outcomes=_outcomes(truth, end_min),
        channels=CHANNELS,
        statics=STATICS,
        source="synthetic",
        licence="simulated; no patient's data",
        tally=tally,
    )


def best_reachable_auroc(cohort: Cohort, stays: Sequence[int] | Ints | None = None) -> float:
    """Expected AUROC of the true risk over all draws of the outcome: no score can be expected to pass it.

    It is that of a score that knows the latent path. A model sees noisy charts of the path alone, so what it can
    reach lies below.

    Args:
        cohort: a simulated cohort.
        stays: positions of the stays to count, such as the hold-out's; None = all.

    Raises:
        DataError: if the cohort holds no true risk, or not two different stays.
    """
    risk = np.sort(_outcome(cohort, TRUE_RISK, stays))
    _, first, group, count = np.unique(risk, return_index=True, return_inverse=True, return_counts=True)
    survival = np.concatenate([[0.0], np.cumsum(1.0 - risk)])
    below, tied = survival[first], survival[first + count] - survival[first]
    # A stay is no pair with itself: its own share leaves the ties and the total.
    own = risk * (1.0 - risk)
    ordered = float(np.sum(risk * (below[group] + 0.5 * tied[group])) - 0.5 * np.sum(own))
    pairs = float(risk.sum() * np.sum(1.0 - risk) - own.sum())
    if not pairs > 0:
        raise DataError(f"stays must be at least two with a true risk, got {len(risk)}; simulate more stays")
    return ordered / pairs


def drawn_auroc(cohort: Cohort, stays: Sequence[int] | Ints | None = None) -> float:
    """AUROC of the true risk against the outcome as it was drawn: what a model's figure on these stays stands beside.

    Raises:
        DataError: if the cohort holds no true risk, or the stays only one class.
    """
    risk, died = _outcome(cohort, TRUE_RISK, stays), _outcome(cohort, DEATH, stays) > 0
    if died.all() or not died.any():
        raise DataError(f"stays must hold both classes of {DEATH}, got one; simulate more stays")
    order = np.sort(risk)
    rank = (np.searchsorted(order, risk, side="left") + np.searchsorted(order, risk, side="right") + 1) / 2.0
    deaths = int(died.sum())
    return float((rank[died].sum() - deaths * (deaths + 1) / 2.0) / (deaths * (len(risk) - deaths)))


def _outcome(cohort: Cohort, name: str, stays: Sequence[int] | Ints | None) -> Floats:
    rows = cohort.outcome_rows
    if name not in rows.names:
        raise DataError(f"cohort must hold the outcome {name!r}, got none; only simulated cohorts have it")
    chosen = rows.code == rows.names.index(name)
    value = np.full(len(cohort.stays), np.nan)
    value[rows.stay[chosen]] = rows.value[chosen]
    return value if stays is None else value[np.asarray(stays, dtype=np.int64)]


def _within_limits(columns: Columns, tally: Tally) -> Columns:
    """Leaves out what lies outside hard limits, as every source does."""
    kept = np.zeros(len(columns.value), dtype=bool)
    for index, channel in enumerate(CHANNELS):
        rows = np.flatnonzero(columns.channel == index)
        _, within = canonical_values(channel, channel.unit, columns.value[rows])
        kept[rows] = within
        tally.reject(Rejection.OUTSIDE_HARD_LIMITS, int(np.sum(~within)), channel.name)
    return Columns(columns.stay[kept], columns.time_min[kept], columns.channel[kept], columns.value[kept])


def _statics(rng: np.random.Generator, path: Path) -> Floats:
    """(stays, 4) in the order of `STATICS`; a fifth of the weights is missing."""
    stays = len(path.hours)
    weight = np.round(np.clip(rng.normal(79.0, 16.0, stays) - 9.0 * path.female, 35.0, 190.0), 1)
    weight[rng.random(stays) < 0.2] = np.nan
    return np.stack([path.age, 1.0 - path.female, weight, path.comorbidities], axis=1)


def _notes(rng: np.random.Generator, path: Path, language: Language) -> NoteColumns:
    stays = len(path.hours)
    japanese = rng.random(stays) < 0.5
    if language != Language.BOTH:
        japanese[:] = language == Language.JAPANESE
    stay, minute = event_minutes(rng, path, NOTES_PER_HOUR, 0.15)
    charted = minute >= 0
    stay, minute = stay[charted], minute[charted]
    severity = path.at(path.severity, stay, minute)
    text = note_texts(rng, severity, path.patient[stay], japanese[stay])
    return NoteColumns(stay, minute, ["nursing"] * len(stay), text)


def _outcomes(truth: TrueOutcomes, end_min: Ints) -> Outcomes:
    stays = len(end_min)
    untimed = np.full(stays, np.nan)
    died_min = np.where(truth.died > 0, end_min, np.nan)
    deteriorated = (~np.isnan(truth.deterioration_min)).astype(np.float64)
    return Outcomes.from_columns(
        {
            DEATH: (truth.died, died_min),
            TRUE_RISK: (truth.death_risk, untimed),
            "deterioration": (deteriorated, truth.deterioration_min),
            "discharge_destination": (truth.destination, untimed),
            "length_of_stay_d": (end_min / 1440.0, untimed),
        }
    )
