"""A site's own patients: what is fitted anew, what stays, what it gains, and when it is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from models.artifact import load_artifact
from models.calibration import Calibration, CalibrationMethod
from models.errors import ConfigError, DataError, RefusedError
from models.record import to_plain
from models.scorer import Scorer
from models.task import TargetKind, TaskSpec
from pipelines.bootstrap import Resampling
from pipelines.calibrate import with_calibration
from pipelines.cautions import ranking_falls, recalibration_cautions
from pipelines.cli import main
from pipelines.cohort import write_cohort
from pipelines.holdout import holdout_scores
from pipelines.recalibrate import BEFORE, recalibrate, recalibration_config
from pipelines.recalibration_figures import paired_calibration
from pipelines.registry import find_version
from pipelines.score_cohort import labelled_scores, score_table
from pipelines.sources.simulator import simulate
from pipelines.tracking import connect
from tests.pipelines.test_calibrate import STAY, scores


@pytest.fixture(scope="module")
def site():
    """Another hospital's stays; no patient of the training cohort is among them."""
    return simulate(stays=900, seed=9, mean_hours=24.0)


@pytest.fixture(scope="module")
def elsewhere(line):
    """The good model as it would come from a place where many more died: all of its logits are too high by 1.5."""
    scorer = load_artifact(line.good.artifact)
    fitted = scorer.bundle.calibration
    shifted = tuple((row[0] + 1.5, *row[1:]) for row in fitted.intercept)
    bundle = replace(scorer.bundle, calibration=replace(fitted, intercept=shifted))
    return Scorer(bundle, scorer.network, scorer.tokenizer, digest=scorer.digest)


@pytest.fixture(scope="module")
def found(elsewhere, site, tmp_path_factory):
    config = recalibration_config(elsewhere.bundle, "tiny-site", {})
    return recalibrate(elsewhere, site, config, folder=tmp_path_factory.mktemp("site"), min_events=20)


def test_risks_that_were_too_high_are_mended_on_patients_it_did_not_see(found):
    before, after = found.before["metrics"], found.after["metrics"]
    assert before["calibration_intercept"]["value"] < -1.0
    assert abs(after["calibration_intercept"]["value"]) < 0.5
    assert found.paired["calibration_intercept_distance"]["high"] < 0
    assert found.paired["brier"]["high"] < 0
    assert found.paired["log_loss"]["high"] < 0
    for name in ("brier", "ece"):
        assert found.paired[name]["value"] == pytest.approx(after[name]["value"] - before[name]["value"])
    assert after["auroc"]["value"] == pytest.approx(before["auroc"]["value"], abs=0.02)


def test_weights_and_encoding_stay_and_everything_after_them_is_new(found, elsewhere, site):
    new = load_artifact(found.run.artifact)
    assert new.digest == found.run.digest
    ours, theirs = new.network.state_dict(), elsewhere.network.state_dict()
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)
    assert new.bundle.encoding == elsewhere.bundle.encoding
    assert new.bundle.calibration != elsewhere.bundle.calibration
    assert new.bundle.thresholds.keys() == elsewhere.bundle.thresholds.keys()
    assert new.bundle.thresholds != elsewhere.bundle.thresholds
    assert new.bundle.uncertainty != elsewhere.bundle.uncertainty
    assert new.bundle.cohort["fingerprint"] == site.fingerprint
    assert new.bundle.cohort["recalibrated_from"]["digest"] == elsewhere.digest
    assert new.bundle.cohort["trained_on"] == elsewhere.bundle.cohort
    assert set(new.bundle.metrics) == {"network", BEFORE}


def test_the_hold_out_is_the_one_that_a_later_gate_finds(found, site):
    scorer = load_artifact(found.run.artifact)
    again = holdout_scores(scorer, site, recalibration_config(scorer.bundle, "x", {}).split)
    assert again.stay_id == found.run.scores.stay_id
    assert again.risk == pytest.approx(found.run.scores.risk, abs=1e-6)


def test_the_record_keeps_the_guards_of_weights_and_names_the_sites_own(found, elsewhere):
    names = [guard["name"] for guard in found.run.bundle.guards]
    assert names[0] == "patients"
    assert "calibration" not in names
    assert set(names) <= {guard["name"] for guard in elsewhere.bundle.guards}


def test_another_method_may_be_chosen_and_nothing_that_is_in_the_weights(elsewhere):
    config = recalibration_config(elsewhere.bundle, "n", {"calibration": {"method": "auto"}}, holdout=0.4)
    assert config.calibration.method is CalibrationMethod.AUTO
    assert config.calibration.strength == elsewhere.bundle.config["calibration"]["strength"]
    assert config.split.test == 0.4
    for table in ("network", "split", "task"):
        with pytest.raises(ConfigError, match=f"only calibration and evaluation, got {table}"):
            recalibration_config(elsewhere.bundle, "n", {table: {}})
    with pytest.raises(ConfigError, match="holdout"):
        recalibration_config(elsewhere.bundle, "n", {}, holdout=1.0)


def test_too_few_events_are_refused_and_nothing_is_written(elsewhere, site, tmp_path):
    config = recalibration_config(elsewhere.bundle, "n", {})
    with pytest.raises(RefusedError, match="at least 5000 patients of every class"):
        recalibrate(elsewhere, site, config, folder=tmp_path, min_events=5000)
    assert list(tmp_path.iterdir()) == []


def test_the_cohort_that_it_was_trained_on_is_refused(elsewhere, line, tmp_path):
    config = recalibration_config(elsewhere.bundle, "n", {})
    with pytest.raises(RefusedError, match="another one than the model was trained on"):
        recalibrate(elsewhere, line.cohort, config, folder=tmp_path)


def test_paired_figures_of_one_calibration_are_0_and_their_order_is_after_less_before():
    given = scores(300, 1)
    raw = with_calibration(given, Calibration.identity(STAY.kind, 1))
    right = replace(raw, risk=1 / (1 + np.exp(-(raw.logit - 1) / 2)))
    same = paired_calibration(raw, raw, STAY, Resampling(50))
    assert all(entry == {"value": 0.0, "low": 0.0, "high": 0.0} for entry in same.values())
    better = paired_calibration(right, raw, STAY, Resampling(200))
    assert better["log_loss"]["high"] < 0
    assert better["calibration_slope_distance"]["high"] < 0
    worse = paired_calibration(raw, right, STAY, Resampling(200))
    assert worse["log_loss"]["low"] == pytest.approx(-better["log_loss"]["high"])


def test_a_calibration_that_reorders_stays_is_told_by_its_ranking_and_by_a_caution():
    given = scores(300, 1)
    raw = with_calibration(given, Calibration.identity(STAY.kind, 1))
    same_order = replace(raw, risk=np.sqrt(raw.risk))
    held = paired_calibration(same_order, raw, STAY, Resampling(50))
    assert held["auroc"] == held["auprc"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert ranking_falls(held) == []
    shuffled = replace(raw, risk=np.random.default_rng(0).permutation(raw.risk))
    worse = paired_calibration(shuffled, raw, STAY, Resampling(200))
    assert worse["auroc"]["high"] < 0
    cautions = ranking_falls(worse)
    assert cautions[0].startswith("auroc falls by recalibration, -0.")
    assert "calibration.method=temperature" in cautions[0]
    assert all(line.split()[0] in ("auroc", "auprc") for line in cautions)


def test_risks_that_fit_less_well_than_before_are_told_by_a_caution():
    given = scores(300, 1)
    raw = with_calibration(given, Calibration.identity(STAY.kind, 1))
    off = replace(raw, risk=np.sqrt(raw.risk))
    worse = recalibration_cautions(paired_calibration(off, raw, STAY, Resampling(200)))
    assert [line.split()[0] for line in worse] == ["brier", "log_loss"]
    assert worse[1].startswith("log_loss grows by recalibration, +0.")
    assert recalibration_cautions(paired_calibration(raw, off, STAY, Resampling(200))) == []


def test_the_cohort_that_a_version_before_learnt_from_is_refused_too(elsewhere, site, tmp_path):
    facts = {"fingerprint": "sha256:ward", "trained_on": {"trained_on": {"fingerprint": site.fingerprint}}}
    grandchild = Scorer(replace(elsewhere.bundle, cohort=facts), elsewhere.network, elsewhere.tokenizer)
    config = recalibration_config(grandchild.bundle, "tiny-site", {})
    with pytest.raises(RefusedError, match="another one than the model was trained on"):
        recalibrate(grandchild, site, config, folder=tmp_path)


def test_a_number_is_compared_by_its_errors():
    task = TaskSpec("days", kind=TargetKind.REGRESSION)
    given = scores(60, 2)
    near, far = (replace(given, risk=given.label + off) for off in (0.1, 0.5))
    found = paired_calibration(near, far, task, Resampling(50))
    assert found["mae"]["value"] == pytest.approx(-0.4)
    assert set(found) == {"rmse", "mae"}


def test_the_command_registers_a_version_that_names_its_parent(line, register, site, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", line.settings.tracking_uri)
    version = register("parent", line.good)
    write_cohort(site, tmp_path / "ward")
    monkeypatch.chdir(line.cohort_folder.parent)
    arguments = [f"models:/parent/{version}", str(tmp_path / "ward"), "--folder", str(tmp_path / "work")]
    options = [
        "--min-events",
        "20",
        "--set",
        "calibration.method=beta",
        "--html",
        str(tmp_path / "page.html"),
        "--json",
    ]
    status = main(["recalibrate", *arguments, *options])
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert status == 0, answer
    assert answer["model"] == "models:/tiny-ward/1"
    assert {"brier", "calibration_slope"} <= answer["before"].keys() & answer["after"].keys()
    assert {"brier", "log_loss", "calibration_slope_distance", "auroc", "auprc"} <= answer["paired"].keys()
    assert all("falls" in caution or "min_events" in caution for caution in answer["cautions"])
    found = find_version(answer["model"], connect(line.settings))
    assert found.tags["sequela.parent"] == f"models:/parent/{version}"
    assert found.tags["sequela.parent_digest"] == line.good.digest == answer["parent"]["digest"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "before recalibration" in page
    assert "before_recalibration" not in page


def test_scoring_the_site_before_and_after_differs_by_the_calibration_alone(found, elsewhere, site):
    scorer = load_artifact(found.run.artifact)
    few = np.arange(20)
    new, old = labelled_scores(scorer, site, few), labelled_scores(elsewhere, site, few)
    assert new.logit == pytest.approx(old.logit, abs=1e-6)
    assert not np.allclose(new.risk, old.risk, atol=0.02)
    assert to_plain(scorer.bundle.config)["name"] == "tiny-site"


def test_a_table_of_scores_holds_intervals_and_label_sets_where_they_are_asked_for(found, elsewhere, site):
    scorer = load_artifact(found.run.artifact)
    plain, whole = score_table(scorer, site), score_table(scorer, site, uncertainty=True)
    assert whole[list(plain.columns)].equals(plain)
    assert (whole["low"] < whole["high"]).all()
    assert (whole["event_in_set_0.95"] >= whole["event_in_set_0.8"]).all()
    inside = scorer.bundle.uncertainty.label_sets(whole[["risk"]].to_numpy())[:, 0, 0, 1]
    assert np.array_equal(whole["event_in_set_0.8"], inside)
    without = Scorer(replace(elsewhere.bundle, uncertainty=None), elsewhere.network, elsewhere.tokenizer)
    with pytest.raises(DataError, match="conformal_share"):
        score_table(without, site, uncertainty=True)
