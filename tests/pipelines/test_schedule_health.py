"""A schedule is healthy while its next run lies ahead, as the scheduler's container asks."""

import time
from pathlib import Path

import pytest
from sqlalchemy import text

from pipelines.database import open_engine
from pipelines.schedule import Schedule, build_scheduler, job_table
from pipelines.schedule_health import LATE_S, main, next_run
from pipelines.settings import Settings, local_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SEQUELA_DATABASE_URL", local_settings(tmp_path).database_url)
    return Settings.from_environment()


@pytest.fixture
def config(tmp_path: Path):
    path = tmp_path / "job.toml"
    path.write_text('name = "ward-7"\n', encoding="utf-8")
    return path


def _store(config: Path, settings: Settings, next_time: float | None):
    """The job store's table as a scheduler makes it, with one job at the given time."""
    build_scheduler(Schedule("ward-7", config, "0 3 * * *"), settings)
    engine = open_engine(settings.database_url)
    with engine.begin() as connection:
        row = {"id": "ward-7", "next": next_time, "state": b"-"}
        connection.execute(text(f"INSERT INTO {job_table('ward-7')} VALUES (:id, :next, :state)"), row)
    engine.dispose()


def test_a_schedule_whose_next_run_lies_ahead_is_healthy(config, settings):
    ahead = time.time() + 3600
    _store(config, settings, ahead)
    assert main([str(config)]) == 0
    assert next_run("ward-7", settings) == pytest.approx(ahead, abs=1e-3)


def test_a_run_that_is_being_caught_up_is_healthy(config, settings):
    _store(config, settings, time.time() - LATE_S / 2)
    assert main([str(config)]) == 0


def test_a_schedule_that_let_its_time_pass_is_not_healthy(config, settings, capsys):
    _store(config, settings, time.time() - 2 * LATE_S)
    assert main([str(config)]) == 1
    assert "not moving on" in capsys.readouterr().err


def test_a_paused_schedule_is_not_healthy(config, settings):
    _store(config, settings, None)
    assert main([str(config)]) == 1


def test_a_database_without_the_schedule_is_not_healthy_and_its_address_is_not_shown(config, settings, capsys):
    assert main([str(config)]) == 1
    message = capsys.readouterr().err
    assert "cannot be read" in message
    assert "sqlite" not in message
