"""The compose file's own commands as processes, against a real PostgreSQL: train, promote and score through them.

There is no container here, so addresses, ports and folders are those of this machine; commands, variables and
health checks are the file's.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text

from models.disclaimer import DISCLAIMER_EN
from pipelines.demo import request_body
from pipelines.local_server import free_port
from pipelines.settings import with_driver
from pipelines.sources.simulator import simulate
from tests.compose_support import LocalService, Substitution, end_tree, interpolate, load_raw

pytestmark = pytest.mark.slow

JOB = """
name = "ward"
seed = 7
threads = 1
task = { outcome = "in_hospital_death", kind = "binary", scope = "stay", description = "death (simulated)" }
split = { key = "ward", train = 0.5, validation = 0.1, calibration = 0.1, test = 0.3 }
encoding = { grid = "fixed", width_h = 2.0 }
network = { hidden_size = 8 }
training = { truncation_length = 32, rows = 32, max_epochs = 2, learning_rate = 5e-3, target_replication = 0.5 }
evaluation = { bootstrap = 100 }

[retrain]
source = "synthetic"
cohort = "cohorts/ward"
options = { stays = "500", mean_hours = "24" }
# What matters here is that the gate is passed through, not how good so small a model is.
gate = { min_events = 5, bootstrap = 100, slope = [0.01, 100.0], max_intercept = 20.0 }
"""
VARIABLES = {
    "POSTGRES_PASSWORD": "given",
    "GRAFANA_PASSWORD": "given",
    "MLFLOW_WORKERS": "1",
    "SEQUELA_MODEL": "models:/ward@champion",
    "SEQUELA_RETRAIN_CONFIG": "configs/ward.toml",
    "SEQUELA_CRON": "* * * * *",
}


@dataclass
class Stack:
    """The services while they run, and what they left.

    Args:
        mlflow_url, api_url: where they listen.
        artifacts: folder that stands for MLflow's volume.
        services: all of them.
        mlflow, api: processes.
        scheduler_log: what the scheduler wrote until it was told to end.
        scheduler_status: its exit status.
        keys: what the API is asked with, by scope.
    """

    mlflow_url: str
    api_url: str
    artifacts: Path
    services: dict[str, LocalService]
    mlflow: subprocess.Popen[bytes]
    api: subprocess.Popen[bytes]
    scheduler_log: str
    scheduler_status: int
    keys: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    """A new, empty database, gone afterwards."""
    name = f"sequela_{uuid.uuid4().hex[:12]}"
    server = create_engine(with_driver(postgres_url), isolation_level="AUTOCOMMIT")
    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            yield make_url(with_driver(postgres_url)).set(database=name).render_as_string(hide_password=False)
        finally:
            with server.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        server.dispose()


@pytest.fixture(scope="module")
def stack(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """MLflow up; the scheduler up until it has trained and promoted; then the API up on the champion."""
    root = tmp_path_factory.mktemp("compose")
    mlflow_port, api_port = free_port(), free_port()
    services = interpolate(load_raw(), VARIABLES)["services"]

    def local(name: str) -> LocalService:
        return LocalService(
            name,
            services[name],
            Substitution(
                {
                    "postgresql+psycopg2://sequela:given@postgres:5432/sequela": database,
                    "http://mlflow:5000": f"http://127.0.0.1:{mlflow_port}",
                    "127.0.0.1:5000": f"127.0.0.1:{mlflow_port}",
                    "127.0.0.1:8000": f"127.0.0.1:{api_port}",
                    "5000": str(mlflow_port),
                    "8000": str(api_port),
                    "0.0.0.0": "127.0.0.1",
                    "/var/lib/mlflow/artifacts": str(root / "artifacts"),
                    "/var/lib/sequela": str(root / name),
                }
            ),
            root / name,
        )

    every = {name: local(name) for name in ("mlflow", "scheduler", "api")}
    with ExitStack() as running:
        mlflow = every["mlflow"]
        mlflow_process = running.enter_context(mlflow.running())
        mlflow.wait_until_healthy(mlflow_process, seconds=120)
        log, status = _train_by_the_clock(every["scheduler"])
        api = every["api"]
        keys = {scope: _make_key(api, scope) for scope in ("score", "audit")}
        api_process = running.enter_context(api.running())
        api.wait_until_healthy(api_process, seconds=120)
        yield Stack(
            f"http://127.0.0.1:{mlflow_port}",
            f"http://127.0.0.1:{api_port}",
            root / "artifacts",
            every,
            mlflow_process,
            api_process,
            log,
            status,
            keys,
        )


def _make_key(api: LocalService, scope: str) -> dict[str, str]:
    """What a holder of a key that the service's own command made sends with every request."""
    command = [sys.executable, "-m", "service", "keys", "add", "--name", scope, "--scopes", scope]
    made = subprocess.run(command, env=api.environment, capture_output=True, text=True, check=True)
    return {"Authorization": f"Bearer {made.stdout.strip()}"}


def _train_by_the_clock(scheduler: LocalService) -> tuple[str, int]:
    """Runs the scheduler until its first run has ended; its log and its own exit status after SIGTERM."""
    configs = scheduler.folder / "configs"
    configs.mkdir(parents=True)
    (configs / "ward.toml").write_text(JOB, encoding="utf-8")
    with scheduler.running() as process:
        scheduler.wait_until_healthy(process, seconds=60)
        deadline = time.monotonic() + 300
        while "ended with status" not in scheduler.log.read_text(encoding="utf-8"):
            assert process.poll() is None, scheduler.tail()
            assert time.monotonic() < deadline, scheduler.tail()
            time.sleep(0.3)
        assert "ended with status 0" in scheduler.log.read_text(encoding="utf-8"), scheduler.tail()
        status = end_tree(process)
    return scheduler.log.read_text(encoding="utf-8"), status


def test_the_scheduler_trains_and_promotes_by_the_clock_and_ends_when_told(stack: Stack) -> None:
    assert "ended with status 0" in stack.scheduler_log, stack.scheduler_log
    assert stack.scheduler_status == 0
    asked = {"name": "ward", "alias": "champion"}
    found = httpx.get(f"{stack.mlflow_url}/api/2.0/mlflow/registered-models/alias", params=asked)
    version = found.json()["model_version"]
    assert version["version"] == "1"
    run = httpx.get(f"{stack.mlflow_url}/api/2.0/mlflow/runs/get", params={"run_id": version["run_id"]}).json()["run"]
    assert run["info"]["status"] == "FINISHED"
    assert {"key": "sequela.outcome", "value": "promoted"} in run["data"]["tags"]


def test_artifacts_went_through_mlflow_into_its_volume_and_none_is_a_pickle(stack: Stack) -> None:
    names = {path.name for path in stack.artifacts.rglob("*") if path.is_file()}
    assert {"bundle.json", "weights.safetensors", "manifest.json"} <= names
    assert {name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"))} == set()


def test_the_api_scores_a_stay_with_the_model_that_the_scheduler_promoted(stack: Stack) -> None:
    answer = httpx.post(
        f"{stack.api_url}/v1/score",
        json=request_body(simulate(stays=1, seed=3), 0),
        headers=stack.keys["score"],
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    assert 0.0 < answer.json()["risks"][0]["risk"] < 1.0
    assert answer.json()["model"]["name"] == "ward"
    assert DISCLAIMER_EN in answer.text


def test_prometheus_may_ask_by_the_services_name_and_a_foreign_name_is_refused(stack: Stack) -> None:
    figures = httpx.get(f"{stack.api_url}/metrics", headers={"Host": "api:8000", **stack.keys["audit"]})
    assert figures.status_code == 200
    assert "# HELP" in figures.text
    assert httpx.get(f"{stack.api_url}/readyz", headers={"Host": "elsewhere.example"}).status_code == 400


def test_without_a_key_the_api_says_that_it_is_ready_and_nothing_else(stack: Stack) -> None:
    assert httpx.get(f"{stack.api_url}/readyz").status_code == 200
    for path in ("/metrics", "/v1/model"):
        assert httpx.get(f"{stack.api_url}{path}").status_code == 401


def test_mlflow_refuses_a_foreign_host_name(stack: Stack) -> None:
    search = f"{stack.mlflow_url}/api/2.0/mlflow/experiments/search?max_results=1"
    assert httpx.get(search).status_code == 200
    assert httpx.get(search, headers={"Host": "mlflow:5000"}).status_code == 200
    assert httpx.get(search, headers={"Host": "elsewhere.example"}).status_code == 403


def test_the_api_goes_on_and_starts_again_without_mlflow(stack: Stack) -> None:
    end_tree(stack.mlflow)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{stack.mlflow_url}/health")
    api = stack.services["api"]
    assert api.healthy()
    assert end_tree(stack.api) == 0
    with api.running() as again:
        api.wait_until_healthy(again, seconds=120)
        answer = httpx.post(
            f"{stack.api_url}/v1/score",
            json=request_body(simulate(stays=1, seed=3), 0),
            headers=stack.keys["score"],
            timeout=30,
        )
    assert answer.status_code == 200
    assert answer.json()["model"]["version"] == "1"


def test_no_service_writes_outside_its_volumes(stack: Stack) -> None:
    assert {
        name: found for name, service in stack.services.items() if (found := service.written_outside_volumes())
    } == {}
    assert list((stack.services["scheduler"].folder / "cohorts").iterdir()) != []


def test_ending_a_process_ends_its_children_too_even_in_sessions_of_their_own() -> None:
    child = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '300'], start_new_session=True); "
    process = subprocess.Popen(
        [sys.executable, "-c", child + "print(p.pid, flush=True); time.sleep(300)"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        grandchild = int(process.stdout.readline())
    end_tree(process)  # type: ignore[arg-type]
    stat = Path(f"/proc/{grandchild}/stat")
    deadline = time.monotonic() + 5
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
