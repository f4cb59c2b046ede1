"""A model whose members each left a fold out, where else it goes: other sites, searches, several processes, Ray."""

import json
from dataclasses import replace

import numpy as np
import pytest

from models.artifact import load_artifact
from models.record import from_plain
from pipelines.cli import main
from pipelines.cohort import write_cohort
from pipelines.config import RunConfig
from pipelines.dataset import build_dataset
from pipelines.members import fit_members
from pipelines.recalibrate import recalibrate, recalibration_config
from pipelines.registry import resolve_model
from pipelines.settings import Settings, local_settings
from pipelines.sources.simulator import simulate
from pipelines.toml_text import to_toml
from pipelines.train import train
from pipelines.tune import tune
from pipelines.tune_worker import Search
from pipelines.warm_start import Parent, inherited_config

FOLDS = 2
TABLES = {
    "name": "folds",
    "seed": 4,
    "threads": 1,
    "task": {"outcome": "in_hospital_death"},
    "split": {"key": "m", "train": 0.4, "validation": 0.15, "calibration": 0.2, "test": 0.25},
    "encoding": {"grid": "fixed", "width_h": 6.0, "features": ["value", "mask"]},
    "network": {"hidden_size": 4, "skip_pieces": 2},
    "ensemble": {"members": 4, "folds": FOLDS, "variants": [{}, {"network": {"cell": "lstm"}}]},
    "training": {"rows": 16, "max_epochs": 2, "learning_rate": 1e-2, "monitor": "last_epoch", "accelerator": "cpu"},
    "baselines": {"enabled": False},
    "evaluation": {"bootstrap": 20},
}
CONFIG = from_plain(RunConfig, TABLES, where="config")
# Adam would blow rounding up where a gradient is nearly zero.
PLAIN_TWO = {
    **TABLES,
    "ensemble": {"members": 2, "folds": FOLDS},
    "training": {**TABLES["training"], "devices": 2, "optimizer": "sgd", "learning_rate": 0.1},
}
TWO_PROCESSES = from_plain(RunConfig, PLAIN_TWO, where="config")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    cohort = simulate(stays=400, seed=2, mean_hours=20.0)
    return train([cohort], CONFIG, folder=tmp_path_factory.mktemp("first"), progress=False)


@pytest.fixture(scope="module")
def site():
    """Another hospital's stays."""
    return simulate(stays=400, seed=3, mean_hours=20.0)


def test_a_warm_start_leaves_folds_of_the_sites_own_patients_out(first, site, tmp_path):
    parent = Parent(load_artifact(first.artifact), "models:/folds/1")
    run = train(
        [site], inherited_config(replace(CONFIG, seed=9), parent), folder=tmp_path, progress=False, parent=parent
    )
    bundle = load_artifact(run.artifact).bundle
    assert [member.fold for member in bundle.members] == [0, 1, 0, 1]
    assert bundle.encoding == first.bundle.encoding
    guards = {guard["name"]: guard for guard in bundle.guards}
    assert guards["left_out"]["passed"]
    assert bundle.cohort["warm_started_from"]["digest"] == parent.scorer.digest


def test_a_recalibration_fits_risks_to_patients_whom_no_member_saw(first, site, tmp_path):
    scorer = load_artifact(first.artifact)
    # As from a place where many more died.
    fitted = scorer.bundle.calibration
    raised = replace(fitted, intercept=tuple((row[0] + 2.0, *row[1:]) for row in fitted.intercept))
    scorer.bundle = replace(scorer.bundle, calibration=raised)
    found = recalibrate(
        scorer, site, recalibration_config(scorer.bundle, "folds-site", {}), folder=tmp_path, min_events=10
    )
    before, after = (m["metrics"]["calibration_intercept"]["value"] for m in (found.before, found.after))
    assert before < -1.0
    assert abs(after) < 0.7
    bundle = load_artifact(found.run.artifact).bundle
    assert [member.fold for member in bundle.members] == [0, 1, 0, 1]


def test_a_search_judges_folds_configurations_by_one_network_on_the_validation_part(tmp_path):
    write_cohort(simulate(stays=200, seed=1, mean_hours=24.0), tmp_path / "cohort")
    found = tune(
        Search(
            plain={**TABLES, "tune": {"trials": 2, "startup_trials": 1, "space": {"network.hidden_size": [3, 5]}}},
            cohorts=(tmp_path / "cohort",),
            folder=tmp_path / "study",
            study="study",
            storage=f"sqlite:///{tmp_path / 'study'}.db",
            settings=local_settings(tmp_path),
            inputs={},
        )
    )
    (tmp_path / "best.toml").write_text(found.text, encoding="utf-8")
    assert f"folds = {FOLDS}" in found.text
    assert 0 < found.value < 1


@pytest.mark.slow
def test_two_processes_train_the_members_on_folds_that_one_process_does(site, tmp_path):
    one = replace(TWO_PROCESSES, training=replace(TWO_PROCESSES.training, devices=1))
    fitted = [fit(site, config, tmp_path / str(n)) for n, config in enumerate((one, TWO_PROCESSES))]
    assert difference(*fitted) < 1e-6


@pytest.mark.slow
def test_the_command_registers_members_on_folds_that_ray_trained_as_this_machine_s_processes_do(
    site, tmp_path, monkeypatch, capsys
):
    write_cohort(site, tmp_path / "cohort")
    (tmp_path / "run.toml").write_text(to_toml(PLAIN_TWO), encoding="utf-8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    words = ["train", str(tmp_path / "cohort"), "--config", str(tmp_path / "run.toml"), "--ray", "--quiet", "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    there = load_artifact(resolve_model(said["model"], Settings.from_environment()).folder).network.networks
    assert difference(fit(site, TWO_PROCESSES, tmp_path / "here"), there) < 1e-4


def fit(cohort, config, folder):
    encoded = folder / "encoded"
    encoded.mkdir(parents=True)
    data = build_dataset(cohort, config, encoded, say=lambda _: None)
    return fit_members(data, config, folder=folder / "checkpoints").ensemble.networks


def difference(ours, theirs):
    """Largest difference of two ensembles' weights."""
    pairs = zip(ours, theirs, strict=True)
    found = [
        float((weight - theirs_of.state_dict()[name]).abs().max())
        for ours_of, theirs_of in pairs
        for name, weight in ours_of.state_dict().items()
    ]
    assert np.isfinite(found).all()
    return max(found)
