"""One job does it all, once at a time, says by its status what happened, and goes on where it was stopped."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import ConfigError, DataError
from models.record import from_plain
from pipelines.cli import main
from pipelines.config import RunConfig
from pipelines.fit import Interrupted
from pipelines.job_folder import JobFolder, JobProgress, job_key
from pipelines.lease import Lease, LeaseBusyError, LeaseLostError, holder_of
from pipelines.refresh import source_fingerprint
from pipelines.registry import version_at
from pipelines.retrain import JobInterruptedError, retrain
from pipelines.settings import local_settings
from pipelines.tracking import connect, mlflow, quiet
from tests.pipelines.small_line import TINY


@pytest.fixture
def settings(tmp_path):
    return local_settings(tmp_path)


@pytest.fixture
def config(tmp_path):
    job = {
        "source": "synthetic",
        "cohort": str(tmp_path / "cohort"),
        "options": {"stays": "500", "seed": "1", "mean_hours": "24"},
        "gate": {"min_events": 10, "bootstrap": 200, "slope": [0.2, 5.0], "max_intercept": 2.0},
    }
    return from_plain(RunConfig, {**TINY, "name": "job", "retrain": job}, where="config")


def _runs(settings):
    client = connect(settings)
    experiment = client.get_experiment_by_name(settings.experiment)
    return client.search_runs([experiment.experiment_id]) if experiment else []


def _report(run):
    with quiet():
        return json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/job.json"))


def _holder(settings, alias):
    found = version_at(connect(settings), "job", alias=alias)
    return found.version if found else None


def test_a_job_prepares_trains_registers_and_promotes_and_all_of_it_is_in_mlflow(config, settings):
    first = retrain(config, settings)
    assert first.verdict.passed
    assert first.verdict.champion is None
    second = retrain(config, settings)
    assert second.verdict.passed
    assert second.verdict.champion == "models:/job/1"
    assert (_holder(settings, "champion"), _holder(settings, "previous")) == (2, 1)
    runs = {run.info.run_id: run for run in _runs(settings)}
    run = runs[second.run_id]
    assert run.info.status == "FINISHED"
    assert run.data.tags["sequela.outcome"] == "promoted"
    assert run.data.tags["sequela.gate"] == "passed"
    report = _report(run)
    assert [s["stage"] for s in report["stages"]] == ["fingerprint", "prepare", "train", "register", "gate"]
    assert report["cohort_reused"] is True
    assert report["gate"] == second.verdict.to_plain()
    assert _report(runs[first.run_id])["cohort_reused"] is False
    assert holder_of(settings.database_url, "retrain:job") is None
    assert not (settings.cache / "jobs" / "job").exists()


def test_a_job_that_the_gate_refuses_leaves_the_champion(config, settings):
    retrain(config, settings)
    untaught = replace(config, training=replace(config.training, learning_rate=1e-9, max_epochs=1), seed=7)
    refused = retrain(untaught, settings)
    assert not refused.verdict.passed
    assert (_holder(settings, "champion"), _holder(settings, "challenger")) == (1, refused.version)
    run = connect(settings).get_run(refused.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["sequela.outcome"] == "refused"
    assert run.data.tags["sequela.gate"] == "refused"
    assert run.data.tags["sequela.gate_summary"] == refused.verdict.summary


def test_a_second_job_is_refused_while_the_first_runs(config, settings):
    with Lease(settings.database_url, "retrain:job"), pytest.raises(LeaseBusyError):
        retrain(config, settings)
    assert _runs(settings) == []


def test_bad_data_is_refused_and_the_run_says_why(config, settings, tmp_path):
    absent = replace(config.retrain, source="challenge2012", paths=(str(tmp_path / "absent"),), options={})
    with pytest.raises(DataError, match="absent"):
        retrain(replace(config, retrain=absent), settings)
    (run,) = _runs(settings)
    assert run.info.status == "FAILED"
    assert run.data.tags["sequela.outcome"] == "refused"
    assert "absent" in run.data.tags["sequela.reason"]
    assert _report(run)["stages"][0]["outcome"] == "failed"


def test_a_configuration_without_a_job_is_refused(config, settings):
    with pytest.raises(ConfigError, match="retrain"):
        retrain(replace(config, retrain=None), settings)


def test_a_job_that_had_registered_goes_straight_to_the_gate(config, settings):
    done = retrain(config, settings)
    connect(settings).delete_registered_model_alias("job", "champion")
    key = job_key(config, source_fingerprint(config.retrain))
    JobFolder(settings.cache / "jobs" / "job").note(JobProgress(key, done.run_id, done.version))
    resumed = retrain(config, settings)
    assert (resumed.run_id, resumed.version) == (done.run_id, done.version)
    assert _holder(settings, "champion") == done.version
    assert [s["stage"] for s in _report(connect(settings).get_run(done.run_id))["stages"]] == [
        "fingerprint",
        "prepare",
        "gate",
    ]


def test_a_training_that_is_asked_to_stop_makes_an_interrupted_job(config, settings, monkeypatch):
    from pipelines import retrain as module

    def stopped(*args, **kwargs):
        raise Interrupted("training must reach its last epoch, got a request to stop; run again")

    monkeypatch.setattr(module, "train", stopped)
    with pytest.raises(JobInterruptedError) as interrupted:
        retrain(config, settings)
    assert interrupted.value.exit_status == 75
    (run,) = _runs(settings)
    assert (run.info.status, run.data.tags["sequela.outcome"]) == ("KILLED", "interrupted")
    assert (settings.cache / "jobs" / "job" / "progress.json").is_file()


def test_a_lost_lease_stops_the_job_before_it_registers(config, settings, monkeypatch):
    from pipelines import retrain as module

    train = module.train

    def train_and_lose(*args, **kwargs):
        trained = train(*args, **kwargs)
        from sqlalchemy import create_engine, text

        engine = create_engine(settings.database_url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE sequela_lease SET holder = 'another', expires = expires + 1000"))
        engine.dispose()
        return trained

    monkeypatch.setattr(module, "train", train_and_lose)
    with pytest.raises(LeaseLostError):
        retrain(config, settings)
    assert _holder(settings, "challenger") is None
    assert _runs(settings)[0].data.tags["sequela.outcome"] == "interrupted"


def _toml(config):
    retrain_table = config.retrain
    lines = ["name = 'job'", "seed = 1"]
    for table in (
        "task",
        "split",
        "encoding",
        "notes",
        "identifiers",
        "network",
        "training",
        "baselines",
        "evaluation",
    ):
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in TINY[table].items())]
    lines += ["[retrain]", "source = 'synthetic'", f"cohort = {json.dumps(retrain_table.cohort)}", "lease_s = 20.0"]
    lines += ["[retrain.options]", *(f"{key} = {json.dumps(value)}" for key, value in retrain_table.options.items())]
    lines += ["[retrain.gate]", "min_events = 10", "bootstrap = 200", "slope = [0.2, 5.0]", "max_intercept = 2.0"]
    return "\n".join(lines) + "\n"


def _command(path: Path, *overrides):
    sets = [part for override in overrides for part in ("--set", override)]
    return [sys.executable, "-m", "pipelines", "retrain", "--config", str(path), "--json", "--quiet", *sets]


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_from_which_the_next_job_goes_on(config, settings, tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(_toml(config), encoding="utf-8")
    environment = {**settings.environment(), "OMP_NUM_THREADS": "1"}
    epochs = 20  # many more than a busy machine trains between a checkpoint and the signal
    overrides = (f"training.max_epochs={epochs}", "training.checkpoint_every_steps=1", "encoding.width_h=2.0")
    command = _command(path, *overrides)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    training = settings.cache / "jobs" / "job" / "training"
    while not list(training.rglob("*.ckpt")) and not list(training.rglob("checkpoint*")):
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err[-2000:]
    assert "refused" in json.loads(out.splitlines()[-1])
    (run,) = _runs(settings)
    assert (run.info.status, run.data.tags["sequela.outcome"]) == ("KILLED", "interrupted")
    assert holder_of(settings.database_url, "retrain:job") is None
    before = connect(settings).get_metric_history(run.info.run_id, "validation_loss")

    done = subprocess.run(_command(path, *overrides), env=environment, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (0 if answer["promoted"] else 1), done.stderr[-2000:]
    assert answer["run_id"] == run.info.run_id
    points = connect(settings).get_metric_history(run.info.run_id, "validation_loss")
    assert len(before) < epochs
    assert [p.step for p in points] == list(range(len(points)))
    assert len(points) == epochs


def test_the_command_says_by_its_status_what_happened(config, settings, tmp_path, monkeypatch, capsys):
    path = tmp_path / "job.toml"
    path.write_text(_toml(config), encoding="utf-8")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    def run(*overrides):
        status = main(_command(path, *overrides)[3:])
        printed = capsys.readouterr()
        return status, json.loads(printed.out.splitlines()[-1]), printed.err

    with Lease(settings.database_url, "retrain:job"):
        status, _, err = run()
    assert (status, "another process holds" in err) == (3, True)
    status, answer, _ = run()
    assert (status, answer["promoted"], answer["model"]) == (0, True, "models:/job/1")
    assert answer["disclaimer"]
    status, answer, _ = run("retrain.gate.min_events=100000")
    assert (status, answer["promoted"]) == (1, False)
    with pytest.raises(SystemExit) as wrong:
        main(["retrain"])
    assert wrong.value.code == 2


def test_a_crash_does_not_look_like_a_refusal_and_shows_no_value(config, settings, tmp_path, monkeypatch, capsys):
    path = tmp_path / "job.toml"
    path.write_text(_toml(config), encoding="utf-8")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    from pipelines import refresh as module

    def crash(*args, **kwargs):
        raise ValueError("could not convert string to float: " + "SEC" + "RET")  # the source line itself is shown

    monkeypatch.setattr(module, "prepare", crash)
    assert main(_command(path)[3:]) == 70
    printed = capsys.readouterr()
    assert "ValueError" in printed.err
    assert "refresh.py" in printed.err
    assert "SECRET" not in printed.err + printed.out
    (run,) = _runs(settings)
    assert (run.info.status, run.data.tags["sequela.outcome"]) == ("FAILED", "failed")
    assert run.data.tags["sequela.reason"] == "ValueError"
