"""The schedule survives restarts, catches a missed time up once, and stops with its child."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from pipelines import schedule as schedule_module
from pipelines.child import ChildRunner, Limits
from pipelines.schedule import Schedule, build_scheduler, run_job
from pipelines.settings import Settings, local_settings

NEVER_SOON = "0 0 29 2 *"
FAST = Limits(time_limit_s=30.0, grace_s=5.0, retries=0, backoff_s=0.0)


def _settings(tmp_path, url):
    local = local_settings(tmp_path)
    return Settings(local.tracking_uri, local.registry_uri, local.experiment, url, local.cache)


def _schedule(tmp_path, cron=NEVER_SOON):
    return Schedule("icu", tmp_path / "absent.toml", cron, "UTC", FAST)


def _stored_next_time(url):
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT next_run_time FROM sequela_schedule_icu")).scalar_one()
    engine.dispose()
    return found


def _run_for(scheduler, seconds):
    """Lets a scheduler run in a thread for a while."""
    thread = threading.Thread(target=scheduler.start)
    thread.start()
    time.sleep(seconds)
    scheduler.shutdown(wait=True)
    thread.join()


@pytest.fixture
def calls(monkeypatch):
    """The runs that the schedule starts, each as its command; no child is started."""
    seen = []

    class Recorder(ChildRunner):
        def run(self, command, environment, limits):
            seen.append((list(command), dict(environment), limits))
            return 0

    monkeypatch.setattr(schedule_module, "_RUNNER", Recorder())
    return seen


def test_a_time_that_passed_while_nothing_ran_is_caught_up_once(tmp_path, database_url, calls):
    settings = _settings(tmp_path, database_url)
    schedule = _schedule(tmp_path, "*/5 * * * *")
    _run_for(build_scheduler(schedule, settings), 0.3)
    assert calls == []
    engine = create_engine(database_url)
    hours_ago = (datetime.now(UTC) - timedelta(hours=3)).timestamp()
    store = build_scheduler(schedule, settings)._jobstores["default"]
    job = store.lookup_job("icu")
    job._modify(next_run_time=datetime.fromtimestamp(hours_ago, UTC))
    store.update_job(job)
    engine.dispose()
    _run_for(build_scheduler(schedule, settings), 1.5)
    assert len(calls) == 1
    command, _, limits = calls[0]
    assert command[1:6] == ["-m", "pipelines", "retrain", "--config", str(tmp_path / "absent.toml")]
    assert limits == FAST
    assert _stored_next_time(database_url) > time.time()


def test_another_cron_expression_replaces_the_stored_one(tmp_path, database_url, calls):
    settings = _settings(tmp_path, database_url)
    _run_for(build_scheduler(_schedule(tmp_path), settings), 0.3)
    far = _stored_next_time(database_url)
    _run_for(build_scheduler(_schedule(tmp_path, "*/5 * * * *"), settings), 0.3)
    assert time.time() < _stored_next_time(database_url) <= time.time() + 300 < far
    assert calls == []


def test_the_store_holds_no_code_and_no_secret(tmp_path, calls):
    url = f"sqlite:///{tmp_path / 's.db'}"
    settings = Settings("http://u:tracking-secret@host", "http://u:tracking-secret@host", "x", url, tmp_path)
    _run_for(build_scheduler(_schedule(tmp_path), settings), 0.3)
    engine = create_engine(url)
    with engine.connect() as connection:
        state = bytes(connection.execute(text("SELECT job_state FROM sequela_schedule_icu")).scalar_one())
    engine.dispose()
    assert b"pipelines.schedule:run_job" in state
    assert b"tracking-secret" not in state
    assert calls == []


def test_a_run_is_a_process_whose_refusal_does_not_stop_the_schedule(tmp_path):
    # The configuration does not exist: the child refuses with status 1, and the job returns.
    run_job(config=str(tmp_path / "absent.toml"), cron=NEVER_SOON, timezone="UTC", **vars(FAST))
    assert not (tmp_path / "absent.toml").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_runs_until_it_is_told_to_stop(tmp_path, number):
    config = Path(tmp_path / "run.toml")
    config.write_text(
        'name = "icu"\n[task]\noutcome = "death"\n[retrain]\nsource = "synthetic"\ncohort = "cohort"\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pipelines", "schedule", "--config", str(config), "--cron", NEVER_SOON, "--json"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Scheduler started" in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert '"stopped": true' in out
