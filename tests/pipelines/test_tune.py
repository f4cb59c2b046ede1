"""A search reads training and validation alone, goes on where it was killed, and leaves a run's configuration."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from models.errors import ConfigError, DataError, RefusedError
from models.record import from_plain
from pipelines.cli import main
from pipelines.cohort import read_cohort, write_cohort
from pipelines.config import load_config
from pipelines.database import DatabaseUnreachableError
from pipelines.settings import local_settings
from pipelines.sources.simulator import simulate
from pipelines.split import Part, SplitConfig, split_patients
from pipelines.toml_text import to_toml
from pipelines.tracking import connect
from pipelines.tune import tune
from pipelines.tune_config import TuneConfig
from pipelines.tune_storage import BEGUN, LostTrials, NumberedSampler, Tally, open_storage, open_study
from pipelines.tune_worker import Search
from tests.pipelines.small_line import TINY

SPACE = {"network.hidden_size": [3, 5], "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
PLAIN = {
    **TINY,
    "threads": 1,
    "notes": {"enabled": False},
    "network": {"hidden_size": 4},
    "training": {**TINY["training"], "max_epochs": 2, "accelerator": "cpu"},
    "tune": {"trials": 3, "startup_trials": 2, "heartbeat_s": 2, "space": SPACE},
}
PLAIN.pop("retrain")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "c"
    write_cohort(simulate(stays=200, seed=1, mean_hours=24.0), folder)
    return folder


@pytest.fixture
def search(tmp_path, cohort):
    def make(name="study", *, cohorts=(cohort,), tuned=None, **tables):
        plain = copy.deepcopy({**PLAIN, **tables})
        plain["tune"] |= tuned or {}
        return Search(
            plain=plain,
            cohorts=cohorts,
            folder=tmp_path / name,
            study=name,
            storage=f"sqlite:///{tmp_path / name}.db",
            settings=local_settings(tmp_path),
            inputs={},
        )

    return make


def trials_of(search):
    return optuna.load_study(study_name=search.study, storage=search.storage).get_trials()


def drawn(search):
    return [(t.state, t.params, t.values, t.intermediate_values) for t in trials_of(search)]


def test_the_best_trial_s_values_make_a_configuration_that_trains(search, tmp_path):
    made = search()
    found = tune(made)
    complete = [t for t in trials_of(made) if t.state is TrialState.COMPLETE]
    assert found.value == max(t.value for t in complete)
    path = tmp_path / "best.toml"
    path.write_text(found.text, encoding="utf-8")
    config = load_config(path)
    assert config.network.hidden_size == found.params["network.hidden_size"]
    assert config.training.learning_rate == found.params["training.learning_rate"]
    expected = copy.deepcopy(PLAIN)
    expected["network"]["hidden_size"] = found.params["network.hidden_size"]
    expected["training"]["learning_rate"] = found.params["training.learning_rate"]
    assert tomllib.loads(found.text) == expected
    assert f"trial {found.trial}: auprc {found.value!r}" in found.text.splitlines()[0]
    assert [p.name for p in made.folder.iterdir() if p.name.startswith("encoded")] == []


def test_every_trial_is_a_run_under_the_study_s(search):
    made = search(tuned={"trials": 4, "startup_trials": 1, "pruning": True, "seed": 3})
    found = tune(made)
    client = connect(made.settings)
    parent = client.get_run(found.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_value"] == found.value
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{found.run_id}'")
    by_number = {int(run.data.tags["sequela.trial"]): run for run in children}
    trials = trials_of(made)
    assert sorted(by_number) == [t.number for t in trials]
    for trial in trials:
        run = by_number[trial.number]
        assert run.data.params == {key: str(value) for key, value in trial.params.items()}
        assert run.data.tags["sequela.trial_state"] == trial.state.name.lower()
        points = client.get_metric_history(run.info.run_id, "tune_auprc")
        assert {p.step: p.value for p in points} == trial.intermediate_values
        assert run.data.metrics.get("value") == trial.value if trial.state is TrialState.COMPLETE else trial.value
    assert found.tally == Tally.of(optuna.load_study(study_name=made.study, storage=made.storage))


def test_labels_of_the_hold_out_and_of_the_calibration_part_change_nothing(search, cohort, tmp_path):
    original = read_cohort(cohort)
    parts = split_patients(original.patient_id, from_plain(SplitConfig, PLAIN["split"], where="split"))
    held = np.concatenate([parts[Part.TEST], parts[Part.CALIBRATION]])
    rows = original.outcome_rows
    change = np.isin(rows.stay, held) & (rows.code == rows.names.index(PLAIN["task"]["outcome"]))
    assert change.sum() > 20
    value = np.where(change, 1.0 - rows.value, rows.value)
    write_cohort(replace(original, outcome_rows=replace(rows, value=value)), tmp_path / "changed")
    one, other = search("one"), search("other", cohorts=(tmp_path / "changed",))
    assert read_cohort(tmp_path / "changed").fingerprint != original.fingerprint
    tune(one)
    tune(other)
    assert drawn(one) == drawn(other)


def test_a_search_that_goes_on_draws_what_an_uninterrupted_one_does(search):
    whole, parts = search("whole", tuned={"trials": 4}), search("parts", tuned={"trials": 2})
    first = tune(parts)
    second = tune(replace(parts, plain=whole.plain))
    tune(whole)
    assert drawn(parts) == drawn(whole)
    assert first.run_id == second.run_id
    assert len(drawn(parts)) == 4
    tune(whole)
    assert len(drawn(whole)) == 4


def test_a_trial_far_behind_the_others_is_pruned(search):
    space = {"training.learning_rate": [1e-9, 5e-2], "network.hidden_size": [4, 5, 6, 7]}
    training = {**PLAIN["training"], "max_epochs": 6}
    made = search(training=training, tuned={"trials": 7, "startup_trials": 2, "metric": "log_loss", "space": space})
    found = tune(made)
    pruned = [t for t in trials_of(made) if t.state is TrialState.PRUNED]
    assert found.tally.pruned == len(pruned) > 0
    assert all(len(t.intermediate_values) < 6 for t in pruned)
    assert found.params["training.learning_rate"] == 5e-2


def test_folds_report_their_mean(search):
    made = search(tuned={"trials": 1, "folds": 2})
    found = tune(made)
    (trial,) = trials_of(made)
    assert list(trial.intermediate_values) == [1, 2]
    assert trial.intermediate_values[2] == trial.value == found.value
    assert "2 folds" in found.text.splitlines()[0]


def test_values_that_do_not_go_together_fail_with_their_reason_and_the_search_goes_on(search):
    space = {"training.nesterov": [True, False], "training.optimizer": ["sgd", "adamw"]}
    made = search(tuned={"trials": 3, "seed": 5, "space": space})
    found = tune(made)
    failed = [t for t in trials_of(made) if t.state is TrialState.FAIL]
    assert found.tally.failed == len(failed) > 0
    assert found.tally.done == 3
    assert all("nesterov must be used with sgd" in t.user_attrs["reason"] for t in failed)
    assert all(t.params == {"training.nesterov": True, "training.optimizer": "adamw"} for t in failed)


def test_a_search_of_which_every_trial_fails_ends_with_the_reason(search):
    made = search(tuned={"trials": 2}, training={**PLAIN["training"], "monitor": "auroc"}, split=ONE_CLASS)
    with pytest.raises(RefusedError, match=r"got 2 failed ones; the last: .*one class alone"):
        tune(made)
    client = connect(made.settings)
    study = optuna.load_study(study_name=made.study, storage=made.storage)
    assert client.get_run(study.user_attrs["run_id"]).info.status == "FAILED"


# Hardly a stay for the validation part, so that it holds one class.
ONE_CLASS = {"key": "t", "train": 0.58, "validation": 0.01, "calibration": 0.01, "test": 0.4}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"tuned": {"folds": 2}}, "another configuration"),
        ({"seed": 9}, "another configuration"),
        ({"tuned": {"space": {"network.hidden_size": [3]}}}, "another space"),
    ],
)
def test_a_study_of_other_inputs_is_refused(search, change, what):
    made = search(tuned={"trials": 1})
    tune(made)
    with pytest.raises(RefusedError, match=what):
        tune(replace(search(**change), study=made.study, storage=made.storage))
    assert len(trials_of(made)) == 1


def test_a_study_of_another_cohort_or_another_program_is_refused(search, tmp_path):
    made = search(tuned={"trials": 1})
    tune(made)
    write_cohort(simulate(stays=200, seed=2, mean_hours=24.0), tmp_path / "other")
    with pytest.raises(RefusedError, match="another cohort"):
        tune(replace(made, cohorts=(tmp_path / "other",)))
    with pytest.raises(ConfigError, match="another program"):
        tune(replace(made, storage=made.settings.tracking_uri))


def test_a_changed_evaluation_is_no_other_study(search):
    made = search(tuned={"trials": 1})
    tune(made)
    found = tune(replace(made, plain={**made.plain, "evaluation": {"bootstrap": 70}, "threads": 0}))
    assert found.tally.done == 1


def test_a_trial_killed_before_its_first_sign_of_life_does_not_hold_the_search_up(tmp_path):
    config = TuneConfig(heartbeat_s=1)
    storage = open_storage(f"sqlite:///{tmp_path / 's.db'}", config, lambda _: None)
    study = open_study(storage, "s", config, {}, resource=1)
    with pytest.warns(UserWarning, match="Heartbeat"):
        silent, alive = study.ask(), study.ask()
    alive.set_user_attr(BEGUN, True)
    lost = LostTrials(study, grace_s=0.0)
    lost.find()
    time.sleep(0.01)
    lost.find()
    assert [t.state for t in study.get_trials()] == [TrialState.FAIL, TrialState.RUNNING]
    assert silent.number == 0


def test_draws_depend_on_seed_and_number_alone_and_differ_between_parameters():
    def draws(seed):
        study = optuna.create_study(sampler=NumberedSampler(seed, startup_trials=2))
        study.optimize(lambda t: t.suggest_float("a", 0, 1) + t.suggest_float("b", 0, 1), n_trials=4)
        return [(t.params["a"], t.params["b"]) for t in study.trials]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    assert len({x for pair in draws(1) for x in pair}) == 8


def _file(path, plain):
    path.write_text(to_toml(plain), encoding="utf-8")
    return str(path)


@pytest.fixture
def command(tmp_path, cohort, monkeypatch, capsys):
    for name, value in local_settings(tmp_path).environment().items():
        monkeypatch.setenv(name, value)

    def run(*more, out="best.toml", config=PLAIN, cohort=cohort, folder="work"):
        arguments = ["tune", str(cohort), "--config", _file(tmp_path / "run.toml", config), "--quiet", "--json"]
        status = main([*arguments, "--out", str(tmp_path / out), "--folder", str(tmp_path / folder), *more])
        printed = capsys.readouterr()
        return status, json.loads(printed.out.splitlines()[-1]), printed.err

    return run


def test_the_command_answers_with_counts_and_the_best_and_writes_its_file(command, tmp_path):
    status, answer, _ = command("--trials", "2", "--study", "mine", "--set", "training.max_epochs=1")
    assert status == 0
    assert set(answer) == {"study", "trials", "complete", "pruned", "failed", "best", "config", "run_id"}
    assert (answer["study"], answer["trials"]) == ("mine", 2)
    config = load_config(tmp_path / "best.toml")
    assert config.training.max_epochs == 1
    assert config.training.learning_rate == answer["best"]["params"]["training.learning_rate"]
    assert (tmp_path / "work" / "study.db").is_file()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".best")] == []

    before = (tmp_path / "best.toml").read_bytes()
    status, answer, _ = command("--trials", "2", "--study", "mine", "--set", "training.max_epochs=1")
    assert status == 1
    assert "--force" in answer["refused"]
    assert (tmp_path / "best.toml").read_bytes() == before
    status, *_ = command("--trials", "2", "--study", "mine", "--set", "training.max_epochs=1", "--force")
    assert status == 0
    assert (tmp_path / "best.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--trials", "0"], 1, "--trials must be at least 1"),
        (["--workers", "0"], 1, "--workers must be at least 1"),
        (["--timeout", "0"], 1, "--timeout must be above 0"),
        (["--set", "tune.space.training.speed=[1]"], 1, "training.speed"),
        (["--set", "tune.metric=mse"], 1, "config.tune.metric"),
        (["--storage", "mysql://localhost/x"], 1, "sqlite or postgresql"),
        (["--storage", "postgresql://nobody:SECRET@127.0.0.1:1/none"], 69, "study database must answer"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_any_trial(command, tmp_path, arguments, status, reason):
    got, answer, err = command(*arguments)
    assert (got, reason in answer["refused"]) == (status, True), answer
    assert "SECRET" not in err + json.dumps(answer)
    assert not (tmp_path / "best.toml").exists()


def test_a_place_that_cannot_be_read_or_written_is_refused(command, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert command(cohort=tmp_path / "nowhere")[0] == 1
    assert command(folder="file/work")[0] == 1
    assert command(out="file/best.toml")[0] == 1


def test_the_storage_of_another_machine_must_answer(search):
    made = replace(search(), storage="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnreachableError, match="--storage"):
        tune(made)


def test_an_outcome_that_the_cohort_does_not_have_is_refused_before_any_trial(search, tmp_path):
    with pytest.raises(DataError, match="outcome of the cohort"):
        tune(search(task={"outcome": "none"}))
    assert not (tmp_path / "study.db").exists()


def _start(tmp_path, cohort, config, *more, url=""):
    settings = local_settings(tmp_path)
    environment = {**settings.environment(), "OMP_NUM_THREADS": "1"}
    if url:
        environment |= {"MLFLOW_TRACKING_URI": url, "MLFLOW_REGISTRY_URI": url, "SEQUELA_DATABASE_URL": url}
    arguments = ["tune", str(cohort), "--config", _file(tmp_path / "run.toml", config), "--json"]
    arguments += ["--out", str(tmp_path / "best.toml"), "--folder", str(tmp_path / "work"), *more]
    command = [sys.executable, "-m", "pipelines", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _when(process, storage, holds):
    """Waits until the study's trials are as wanted; gives them."""
    for _ in range(1200):
        assert process.poll() is None, process.communicate()[1][-3000:]
        try:
            trials = optuna.load_study(study_name="tiny", storage=storage).get_trials()
        except Exception:  # noqa: BLE001 - the file or its tables are not there yet
            trials = []
        if holds(trials):
            return trials
        time.sleep(0.1)
    pytest.fail("the search did not get so far")


def _in_the_second(trials):
    return len(trials) == 2 and trials[0].state.is_finished() and bool(trials[1].intermediate_values)


LONG = {**PLAIN, "training": {**PLAIN["training"], "max_epochs": 25}}
LONG["tune"] = {**PLAIN["tune"], "trials": 3, "pruning": False}


@pytest.mark.slow
def test_a_killed_search_goes_on_and_runs_the_dead_trial_again(tmp_path, cohort):
    storage = f"sqlite:///{tmp_path / 'work' / 'study.db'}"
    process = _start(tmp_path, cohort, LONG)
    dead = _when(process, storage, _in_the_second)[1]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "best.toml").exists()

    again = _start(tmp_path, cohort, LONG)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err[-3000:]
    answer = json.loads(out.splitlines()[-1])
    assert (answer["complete"], answer["failed"], answer["trials"]) == (3, 0, 3)
    trials = optuna.load_study(study_name="tiny", storage=storage).get_trials()
    assert trials[1].state is TrialState.FAIL
    retried = [t for t in trials if t.system_attrs.get("failed_trial") == 1]
    assert [(t.state, t.params) for t in retried] == [(TrialState.COMPLETE, dead.params)]
    client = connect(local_settings(tmp_path))
    run = client.get_run(dead.user_attrs["run_id"])
    assert (run.info.status, run.data.tags["sequela.trial_state"]) == ("KILLED", "lost")
    assert client.get_run(answer["run_id"]).info.status == "FINISHED"
    assert list((tmp_path / "work").glob("encoded-*")) == []
    assert load_config(tmp_path / "best.toml").name == "tiny"


@pytest.mark.slow
def test_a_search_asked_to_stop_ends_with_75_and_queues_its_trial(tmp_path, cohort):
    storage = f"sqlite:///{tmp_path / 'work' / 'study.db'}"
    process = _start(tmp_path, cohort, LONG)
    stopped = _when(process, storage, _in_the_second)[1]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err[-3000:]
    assert "refused" in json.loads(out.splitlines()[-1])
    trials = optuna.load_study(study_name="tiny", storage=storage).get_trials()
    assert [t.state for t in trials[1:]] == [TrialState.FAIL, TrialState.WAITING]
    assert trials[2].system_attrs["failed_trial"] == stopped.number
    client = connect(local_settings(tmp_path))
    assert client.get_run(stopped.user_attrs["run_id"]).info.status == "KILLED"
    assert list((tmp_path / "work").glob("encoded-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_workers_share_a_study_beside_mlflow_in_one_database(tmp_path, cohort, database_url):
    process = _start(tmp_path, cohort, PLAIN, "--workers", "2", "--trials", "4", url=database_url)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-3000:]
    answer = json.loads(out.splitlines()[-1])
    assert answer["failed"] == 0
    assert 4 <= answer["trials"] <= 5  # two that begin at once may be one too many
    client = connect(replace(local_settings(tmp_path), tracking_uri=database_url, registry_uri=database_url))
    experiment = client.get_experiment_by_name("sequela").experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{answer['run_id']}'")
    assert len(children) == answer["trials"]
    assert len({json.dumps(run.data.params, sort_keys=True) for run in children}) == len(children)
    assert not (tmp_path / "work" / "study.db").exists()
