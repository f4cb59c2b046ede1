"""A search on a Ray cluster is the same search: its figures, its runs in MLflow and its file."""

import copy
import tomllib

import pytest

from models.errors import RefusedError, UsageError
from pipelines.commands.tune import run
from pipelines.ray_tune import tune_on_ray
from pipelines.settings import local_settings
from pipelines.tracking import connect
from pipelines.tune_data import FoldStore, encoded_folder
from pipelines.tune_objective import trial_value
from pipelines.tune_worker import Search, read_cohorts
from tests.pipelines.small_line import TINY

PLAIN = {
    **TINY,
    "threads": 1,
    "notes": {"enabled": False},
    "network": {"hidden_size": 4},
    "training": {**TINY["training"], "max_epochs": 4, "accelerator": "cpu"},
    "tune": {"trials": 5, "startup_trials": 5},
}
PLAIN.pop("retrain")
SPACE = {"training.learning_rate": [1e-9, 5e-2], "network.hidden_size": [3, 4, 5, 6]}


@pytest.fixture
def search(tmp_path):
    from pipelines.cohort import write_cohort
    from pipelines.sources.simulator import simulate

    write_cohort(simulate(stays=200, seed=1, mean_hours=24.0), tmp_path / "cohort")

    def make(space, **tables):
        plain = copy.deepcopy({**PLAIN, **tables})
        plain["tune"]["space"] = space
        folder = tmp_path / "work"
        return Search(plain, [tmp_path / "cohort"], folder, "tiny", "", local_settings(tmp_path), {}, processes=2)

    return make


@pytest.mark.slow
def test_a_search_on_ray_finds_what_its_trials_are_worth_here(search, tmp_path):
    made = search(SPACE)
    found = tune_on_ray(made, "local")
    assert (found.tally.done, found.tally.failed) == (5, 0)
    assert tomllib.loads(found.text)["network"]["hidden_size"] == found.params["network.hidden_size"]

    with encoded_folder(tmp_path / "here") as folder:
        store = FoldStore(read_cohorts(made.cohorts), folder)
        config = made.space().config(found.params)
        here = trial_value(config, store, folder=folder / "trial", report=lambda *_: None)
    assert found.value == pytest.approx(here, abs=1e-6)

    client = connect(made.settings)
    parent = client.get_run(found.run_id)
    assert (parent.info.status, parent.data.metrics["best_value"]) == ("FINISHED", found.value)
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{found.run_id}'")
    states = sorted(run.data.tags["sequela.trial_state"] for run in children)
    assert states == ["complete"] * found.tally.complete + ["pruned"] * found.tally.pruned
    assert {run.info.status for run in children} == {"FINISHED"}
    best = next(run for run in children if run.data.tags["sequela.trial"] == str(found.trial))
    assert best.data.metrics["value"] == found.value
    assert best.data.params == {key: str(value) for key, value in found.params.items()}
    assert list((tmp_path / "work").iterdir()) == []

    import ray

    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_search_on_ray_of_which_every_trial_fails_says_so(search):
    one_class = {"key": "t", "train": 0.58, "validation": 0.01, "calibration": 0.01, "test": 0.4}
    made = search({"network.hidden_size": [3]}, split=one_class)
    made.plain["tune"]["trials"] = 2
    with pytest.raises(RefusedError, match=r"got 2 failed ones; see sequela\.reason"):
        tune_on_ray(made, "local")
    client = connect(made.settings)
    runs = client.search_runs([client.get_experiment_by_name("sequela").experiment_id])
    assert sorted(run.info.status for run in runs) == ["FAILED"] * 3
    reasons = [run.data.tags["sequela.reason"] for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert all("one class alone" in reason for reason in reasons)
    assert len(reasons) == 2


def test_a_database_for_a_search_on_ray_is_wrong_usage(tmp_path):
    import argparse

    from pipelines.commands import tune

    parser = argparse.ArgumentParser()
    tune.add_arguments(parser)
    given = ["c", "--config", "x.toml", "--out", str(tmp_path / "o.toml"), "--ray", "--storage", "sqlite:///s.db"]
    with pytest.raises(UsageError, match="--storage must be left out"):
        run(parser.parse_args(given), lambda _: None)
