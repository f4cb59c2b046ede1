import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.errors import ConfigError, DataError
from pipelines.cohort import Cohort, read_cohort, write_cohort
from pipelines.sources.csv_files import read as read_csv
from pipelines.sources.simulated_notes import invented_name
from pipelines.sources.simulator import (
    DEATH,
    DESTINATIONS,
    TRUE_RISK,
    Language,
    best_reachable_auroc,
    drawn_auroc,
    simulate,
)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return simulate(stays=4000, seed=11, language=Language.BOTH)


def outcome(cohort: Cohort, name: str) -> np.ndarray:
    rows = cohort.outcome_rows
    chosen = rows.code == rows.names.index(name)
    assert rows.stay[chosen].tolist() == list(range(len(cohort.stays)))
    return rows.value[chosen]


def event_min(cohort: Cohort, name: str) -> np.ndarray:
    rows = cohort.outcome_rows
    return rows.time_min[rows.code == rows.names.index(name)]


def test_a_seed_decides_the_cohort():
    first, again, other = (simulate(stays=50, seed=seed, language=Language.BOTH) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    assert not set(first.stays.stay_id) & set(other.stays.stay_id)
    assert not set(first.patient_id) & set(other.patient_id)


def test_the_language_changes_the_notes_alone():
    english, japanese = (simulate(stays=50, seed=1, language=language) for language in ("en", "ja"))
    assert np.array_equal(english.stays.value, japanese.stays.value)
    assert np.array_equal(english.outcome_rows.value, japanese.outcome_rows.value)
    assert np.array_equal(english.stays.note_time_min, japanese.stays.note_time_min)
    assert all(text.isascii() for text in english.stays.note_text)
    assert not any(text.isascii() for text in japanese.stays.note_text)


def test_mortality_is_about_an_eighth_and_follows_the_true_risk(cohort):
    died, risk = outcome(cohort, DEATH), outcome(cohort, TRUE_RISK)
    assert 0.115 < died.mean() < 0.155
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.0)):
        group = (risk >= low) & (risk < high)
        error = np.sqrt(np.mean(risk[group] * (1 - risk[group])) / group.sum())
        assert abs(died[group].mean() - risk[group].mean()) < 4 * error


def test_the_best_reachable_auroc_is_the_mean_over_draws_of_the_outcome(cohort):
    risk = outcome(cohort, TRUE_RISK)[:500]
    rng = np.random.default_rng(0)
    draws = [roc_auc_score(rng.random(len(risk)) < risk, risk) for _ in range(400)]
    assert best_reachable_auroc(cohort, range(500)) == pytest.approx(np.mean(draws), abs=0.003)


def test_the_drawn_auroc_is_scikit_learns(cohort):
    expected = roc_auc_score(outcome(cohort, DEATH)[100:900], outcome(cohort, TRUE_RISK)[100:900])
    assert drawn_auroc(cohort, np.arange(100, 900)) == pytest.approx(expected, abs=1e-12)


def test_the_best_reachable_auroc_counts_every_pair_once_and_ties_half():
    cohort = simulate(stays=7, seed=3)
    risk = outcome(cohort, TRUE_RISK)[[0, 1, 1, 2, 3, 3]]
    ordered = pairs = 0.0
    for i, p in enumerate(risk):
        for j, q in enumerate(risk):
            if i != j:
                pairs += p * (1 - q)
                ordered += p * (1 - q) * (1.0 if p > q else 0.5 if p == q else 0.0)
    assert best_reachable_auroc(cohort, [0, 1, 1, 2, 3, 3]) == pytest.approx(ordered / pairs, abs=1e-12)


def test_summaries_of_the_charts_predict_well_and_below_the_true_risk(cohort):
    """A plain model lands in the range that the project's demonstration needs."""
    stays, died = cohort.stays, outcome(cohort, DEATH)
    stay = stays.stay_of_row()
    columns = [cohort.stays.static[:, 0], cohort.stays.static[:, 3]]
    for channel in range(len(stays.channels)):
        rows = stays.channel == channel
        count = np.bincount(stay[rows], minlength=len(stays))
        mean = np.bincount(stay[rows], stays.value[rows], minlength=len(stays)) / np.maximum(count, 1)
        last = np.full(len(stays), np.nan)
        last[stay[rows]] = stays.value[rows]
        filled = np.where(count > 0, mean, mean[count > 0].mean())
        columns += [filled, np.where(np.isnan(last), filled, last), np.log1p(count)]
    table = np.stack(columns, axis=1)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(table[:2500], died[:2500])
    auroc = roc_auc_score(died[2500:], model.predict_proba(table[2500:])[:, 1])
    assert 0.79 < auroc < drawn_auroc(cohort, np.arange(2500, 4000)) < 0.93


def test_missingness_informs(cohort):
    risk, stays = outcome(cohort, TRUE_RISK), cohort.stays
    hours = np.maximum(stays.end_min / 60, 1)
    for name in ("heart_rate", "creatinine", "lactate"):
        rows = stays.channel == stays.channels.index(name)
        rate = np.bincount(stays.stay_of_row()[rows], minlength=len(stays)) / hours
        assert rate[risk > 0.3].mean() > 1.25 * rate[risk < 0.05].mean()


def test_signs_are_correlated_as_the_clinic_expects(cohort):
    stays, risk = cohort.stays, outcome(cohort, TRUE_RISK)
    for name, sign in {
        "heart_rate": 1,
        "sbp": -1,
        "spo2": -1,
        "lactate": 1,
        "gcs": -1,
        "ph": -1,
        "creatinine": 1,
    }.items():
        rows = stays.channel == stays.channels.index(name)
        count = np.bincount(stays.stay_of_row()[rows], minlength=len(stays))
        seen = count > 0
        mean = np.bincount(stays.stay_of_row()[rows], stays.value[rows], minlength=len(stays))[seen] / count[seen]
        assert sign * np.corrcoef(mean, np.log(risk[seen]))[0, 1] > 0.15


def test_times_are_irregular_and_some_lie_before_admission(cohort):
    minutes = cohort.stays.time_min
    assert len(set((minutes % 60).tolist())) == 60
    assert minutes.min() < 0
    assert np.all(minutes <= cohort.stays.end_min[cohort.stays.stay_of_row()])


def test_artefacts_are_rejected_and_counted(cohort):
    assert cohort.report.rejected_by_channel["temperature"]["outside_hard_limits"] > 0


def test_some_patients_have_several_stays(cohort):
    assert 0.8 < cohort.report.patients / cohort.report.stays < 0.95


def test_words_of_notes_follow_severity(cohort):
    stays, risk = cohort.stays, outcome(cohort, TRUE_RISK)
    grave = [i for i, text in enumerate(stays.note_text) if "Refractory shock" in text or "難治性ショック" in text]
    mild = [i for i, text in enumerate(stays.note_text) if "walked in the corridor" in text or "廊下を歩行" in text]
    assert risk[stays.stay_of_note()[grave]].mean() > 3 * risk[stays.stay_of_note()[mild]].mean()


def test_an_invented_name_is_in_the_notes_of_its_patient_alone(cohort):
    stays = cohort.stays
    numbers = [int(patient.rsplit("p", 1)[1]) for patient in cohort.patient_id]
    names = {invented_name(language, n): n for n in set(numbers) for language in (Language.ENGLISH, Language.JAPANESE)}
    assert len(names) == 2 * len(set(numbers))
    named = 0
    for i, text in zip(stays.stay_of_note(), stays.note_text, strict=True):
        for before, after in (("Family of ", " informed"), ("。", "様の家族")):
            if after in text:
                name = text.split(after)[0].rsplit(before, 1)[1]
                assert names[name] == numbers[i]
                named += 1
    assert 0.03 < named / len(stays.note_text) < 0.1


def test_outcomes_agree_with_each_other(cohort):
    died, end = outcome(cohort, DEATH) > 0, cohort.stays.end_min
    assert np.array_equal(event_min(cohort, DEATH)[died], end[died])
    assert np.isnan(event_min(cohort, DEATH)[~died]).all()
    assert np.array_equal(outcome(cohort, "discharge_destination") == DESTINATIONS.index("died"), died)
    assert np.allclose(outcome(cohort, "length_of_stay_d"), end / 1440)
    deteriorated, minute = outcome(cohort, "deterioration") > 0, event_min(cohort, "deterioration")
    assert np.array_equal(np.isfinite(minute), deteriorated)
    assert np.all((minute[deteriorated] > 0) & (minute[deteriorated] <= end[deteriorated]))
    assert 0.1 < deteriorated.mean() < 0.25


def test_one_length_can_be_asked_for():
    cohort = simulate(stays=3, seed=1, hours=2000)
    assert cohort.stays.end_min.tolist() == [120_000] * 3


def test_two_thousand_stays_take_a_few_seconds():
    start = time.perf_counter()
    simulate(stays=2000, seed=1, language=Language.BOTH)
    assert time.perf_counter() - start < 10


def test_the_best_reachable_auroc_survives_the_disk(tmp_path):
    cohort = simulate(stays=60, seed=5)
    write_cohort(cohort, tmp_path / "cohort")
    assert best_reachable_auroc(read_cohort(tmp_path / "cohort")) == best_reachable_auroc(cohort)


def test_a_cohort_without_a_true_risk_has_no_best_reachable_auroc(tmp_path):
    (tmp_path / "stays.csv").write_text("stay_id,patient_id\ns,p\n", encoding="utf-8")
    (tmp_path / "observations.csv").write_text("stay_id,time_h,channel,value,unit\n", encoding="utf-8")
    with pytest.raises(DataError, match="only simulated cohorts have it"):
        best_reachable_auroc(read_csv([tmp_path]))
    with pytest.raises(DataError, match="at least two"):
        best_reachable_auroc(simulate(stays=1, seed=1))
    with pytest.raises(DataError, match="both classes"):
        drawn_auroc(simulate(stays=1, seed=1))


@pytest.mark.parametrize("arguments", [{"stays": 0}, {"mean_hours": -1}, {"hours": 0}])
def test_numbers_that_are_not_positive_are_refused(arguments):
    with pytest.raises(ConfigError, match=f"{next(iter(arguments))} must be above 0"):
        simulate(**{"stays": 3, "seed": 1, **arguments})
