"""What an administrator may ask over HTTP: to look now where names of models point, and to go back."""

import contextlib
import json
import socket

import httpx
import pytest
from fastapi.testclient import TestClient

from models.artifact import artifact_digest
from service.app import create_app
from service.keys import Scope, make_key, write_keys
from service.selection import Origin, Source
from service.settings import Settings
from tests.service.live.served import PATIENCE_S, Served
from tests.service.registry import Registry

# Looks, each waited for with all patience, and the calls between them.
pytestmark = pytest.mark.timeout(4 * PATIENCE_S)
STAY = "bed-7"
BODY = {"observations": [{"channel": "heart_rate", "time_h": 1, "value": 90, "unit": "/min"}]}


@pytest.fixture(scope="module")
def registry(make_artifact, tmp_path_factory):
    """Two models under the numbers 1 and 2."""
    folder = tmp_path_factory.mktemp("admin")
    with Registry(folder / "r") as registry:
        for number in (1, 2):
            artifact = make_artifact(folder / str(number), seed=number)
            assert registry.register(artifact, artifact_digest(artifact)) == str(number)
        yield registry


class Ward:
    """A service that never looks by itself, and those who call it."""

    def __init__(self, served, held):
        self.served, self._held = served, held

    def call(self, method, path, scope, **content):
        headers = {"Authorization": f"Bearer {self._held[scope]}"}
        return httpx.request(method, f"{self.served.address}{path}", headers=headers, timeout=PATIENCE_S, **content)

    def ask(self, what):
        return self.call("POST", f"/v1/admin/models/{what}", Scope.ADMIN)

    def version(self):
        return self.call("POST", f"/v1/stays/{STAY}/observations", Scope.SCORE, json=BODY).json()["model"]["version"]


@pytest.fixture
def start(registry, tmp_path):
    made = {scope: make_key(scope, [scope]) for scope in Scope}
    write_keys(tmp_path / "keys.json", [key for key, _ in made.values()])

    def start(**environment):
        registry.point("champion", "1")
        return Served(
            "models:/mortality@champion",
            tmp_path,
            MLFLOW_TRACKING_URI=registry.address,
            SEQUELA_WATCH_S="86400",
            SEQUELA_KEEP_MIN="30",
            SEQUELA_KEYS=str(tmp_path / "keys.json"),
            SEQUELA_AUDIT=str(tmp_path / "audit"),
            **environment,
        )

    start.held = {scope: shown for scope, (_, shown) in made.items()}
    return start


def told(folder):
    lines = [line for path in sorted((folder / "audit").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if record["event"] in ("swapped", "rolled_back", "shadowed")]


def test_a_look_that_is_asked_for_follows_the_alias_at_once_and_a_rollback_holds(registry, start, tmp_path):
    with start() as served:
        ward = Ward(served, start.held)
        assert ward.call("PUT", f"/v1/stays/{STAY}", Scope.SCORE, json={}).status_code == 201
        assert ward.ask("champion/rollback").status_code == 409
        assert ward.ask("challenger/rollback").status_code == 404
        assert ward.version() == "1"

        registry.point("champion", "2")
        (place,) = ward.ask("look").json()["models"]
        assert place["version"] == "2"
        served.wait_for(phase="keeping")
        assert ward.version() == "2"

        (place,) = ward.ask("champion/rollback").json()["models"]
        assert (place["version"], place["aside"]) == ("1", "2")
        served.wait_for(phase="keeping")
        (place,) = ward.ask("look").json()["models"]
        assert place["version"] == "1"
        assert ward.version() == "1"
    assert [record["event"] for record in told(tmp_path)] == ["swapped", "rolled_back"]
    assert all(record["key"] and record["request_id"] for record in told(tmp_path)[1:])


def test_a_trial_ends_when_it_is_asked_for_and_the_version_is_not_tried_again(registry, start):
    with start(SEQUELA_SHADOW_MIN="60") as served:
        ward = Ward(served, start.held)
        registry.point("champion", "2")
        assert ward.ask("look").json()["models"][0]["phase"] == "shadow"
        (place,) = ward.ask("champion/rollback").json()["models"]
        assert (place["version"], place["aside"], place["phase"]) == ("1", "", "steady")
        assert ward.ask("look").json()["models"][0]["phase"] == "steady"


@contextlib.contextmanager
def mute():
    """The address of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def asking(scorer, monkeypatch, address, seconds):
    """A client of a service whose MLflow is at this address."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE_S))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = Settings(model="models:/mortality@champion", trusted_hosts=("testserver",), fetch_timeout_s=seconds)
    return TestClient(create_app(settings, scorer, origin=Origin(Source.REGISTRY, "1")))


def test_a_look_that_takes_too_long_is_refused_and_goes_on_while_scores_are_made(scorer, monkeypatch):
    with mute() as address, asking(scorer, monkeypatch, address, 0.2) as client:
        for _ in range(2):
            refused = client.post("/v1/admin/models/look")
            assert refused.status_code == 503
            assert refused.headers["Retry-After"] == "10"
            assert "within 0.2 s, and goes on" in refused.json()["detail"]
            assert client.post("/v1/score", json=BODY).status_code == 200


def test_a_look_without_mlflow_says_so_and_the_version_before_answers(scorer, monkeypatch):
    with mute() as address:
        pass  # nobody listens there any more
    with asking(scorer, monkeypatch, address, PATIENCE_S) as client:
        refused = client.post("/v1/admin/models/look")
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "10"
        assert "MLFLOW_TRACKING_URI" in refused.json()["detail"]
        assert client.post("/v1/score", json=BODY).json()["model"]["version"] == "1"


def test_nobody_else_may_ask(start):
    with start() as served:
        ward = Ward(served, start.held)
        for what in ("look", "champion/rollback"):
            assert ward.call("POST", f"/v1/admin/models/{what}", Scope.SCORE).status_code == 403
            assert ward.call("POST", f"/v1/admin/models/{what}", Scope.AUDIT).status_code == 403
