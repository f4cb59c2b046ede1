"""`python -m service` as a real process: what it imports, serves, refuses and says when it ends."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

BODY = {"observations": [{"channel": "heart_rate", "time_h": 1, "value": 90, "unit": "/min"}], "trajectory": True}


@contextlib.contextmanager
def running(model, tmp_path, **environment):
    """A started service, its address, and the lines that it wrote until it listened."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service"],
        env={
            **{k: v for k, v in os.environ.items() if k != "SEQUELA_AUDIT"},
            "SEQUELA_MODEL": str(model),
            "SEQUELA_PORT": "0",
            "SEQUELA_DEVICE": "cpu",
            "SEQUELA_CACHE": str(tmp_path / "cache"),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        for line in process.stderr:
            lines.append(json.loads(line))
            if lines[-1]["event"] == "listening":
                break
        yield process, f"http://127.0.0.1:{lines[-1]['port']}", lines
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def wait_until_ready(address):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError("the service did not become ready")


def test_the_service_scores_and_ends_on_sigterm(artifact, scorer, tmp_path):
    with running(artifact, tmp_path) as (process, address, lines):
        wait_until_ready(address)
        answer = httpx.post(f"{address}/v1/score", json=BODY)
        assert answer.status_code == 200
        assert answer.json()["model"]["digest"] == scorer.digest
        assert answer.headers["X-Research-Use-Only"] == "true"
        assert "server" not in answer.headers
        assert lines[0]["event"] == "model_loaded"

        too_large = httpx.post(
            f"{address}/v1/score", content=b" " * (5 << 20), headers={"Content-Type": "application/json"}
        )
        assert too_large.status_code == 413
        deep = httpx.post(f"{address}/v1/score", content=b"[" * 1_000_000, headers={"Content-Type": "application/json"})
        assert deep.status_code == 422
        assert httpx.get(f"{address}/livez").status_code == 200

        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        rest = [json.loads(line) for line in process.stderr]
        assert rest[-1]["event"] == "stopped"
        assert {line["event"] for line in rest} == {"request", "audit_head", "stopped"}
        assert process.stdout.read() == ""
    events = [
        json.loads(line)["event"] for line in (tmp_path / "cache/audit/audit-000001.jsonl").read_text().splitlines()
    ]
    assert events == ["started", "scored", "stopped"]


def sent_by_half(address, path, body):
    """A connection that has sent a request up to the middle of its body, and the rest of it."""
    host, port = address.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(f"{head}\r\n\r\n".encode() + content[:20])
    return connection, content[20:]


def answered(connection, rest):
    """Status and body of the last answer of a connection, which says that it is, once the rest is sent."""
    connection.sendall(rest)
    with connection, connection.makefile("rb") as received:
        head, _, body = received.read().partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


def test_what_is_under_way_at_sigterm_is_answered_and_kept(artifact, tmp_path):
    observed, store = {"observations": BODY["observations"]}, f"sqlite:///{tmp_path / 'stays.sqlite3'}"
    with running(artifact, tmp_path, SEQUELA_STORE=store) as (process, address, _):
        wait_until_ready(address)
        assert httpx.put(f"{address}/v1/stays/bed-7", json={}).status_code == 201
        under_way = [sent_by_half(address, "/v1/score", BODY) for _ in range(5)]
        under_way.append(sent_by_half(address, "/v1/stays/bed-7/observations", observed))
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{address}/livez")
        found = [answered(*one) for one in under_way]
        assert [status for status, _ in found] == [200] * 6
        assert {body["risk"] for _, body in found[:5]} == {found[0][1]["risk"]}
        assert process.wait(20) == 0
    with running(artifact, tmp_path, SEQUELA_STORE=store) as (_, address, _):
        wait_until_ready(address)
        assert httpx.get(f"{address}/v1/stays/bed-7").json()["observations"] == 1


def test_a_body_that_does_not_arrive_is_given_up(artifact, tmp_path):
    with running(artifact, tmp_path, SEQUELA_BODY_TIMEOUT_S="0.3") as (_, address, _lines):
        wait_until_ready(address)
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            head = ("POST /v1/score HTTP/1.1", f"Host: {host}", "Content-Type: application/json", "Content-Length: 9")
            slow.sendall("\r\n".join((*head, "", "{")).encode())
            assert select.select([slow], [], [], 10)[0]
            assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_even_what_is_no_http_is_answered_with_the_header(artifact, tmp_path):
    with running(artifact, tmp_path) as (_, address, _lines):
        wait_until_ready(address)
        host, port = address.removeprefix("http://").split(":")
        for nonsense in (b"MARKED\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n"):
            with socket.create_connection((host, int(port)), timeout=10) as sender:
                sender.sendall(nonsense)
                answer = sender.recv(4096)
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"X-Research-Use-Only: true" in answer
            assert b"MARKED" not in answer


def test_the_serving_process_imports_neither_mlflow_nor_any_training_library(artifact):
    code = (
        "import sys, json; from pathlib import Path\n"
        "import service.__main__, service.server\n"
        "from service.app import create_app; from service.settings import Settings\n"
        "from models.artifact import load_artifact\n"
        "from fastapi.testclient import TestClient\n"
        f"app = create_app(Settings(trusted_hosts=('testserver',)), load_artifact(Path({str(artifact)!r})))\n"
        "with TestClient(app) as client:\n"
        f"    assert client.post('/v1/score', json=json.loads({json.dumps(json.dumps(BODY))})).status_code == 200\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"mlflow", "pandas", "sklearn", "lightning", "pytorch_lightning", "scipy", "matplotlib", "sqlalchemy"}
    assert heavy & set(json.loads(done.stdout)) == set()
    assert "pipelines" not in json.loads(done.stdout)


def start_and_end(tmp_path, model, **environment):
    return subprocess.run(
        [sys.executable, "-m", "service"],
        env={
            **{k: v for k, v in os.environ.items() if k != "SEQUELA_AUDIT"},
            "SEQUELA_MODEL": str(model),
            "SEQUELA_DEVICE": "cpu",
            "SEQUELA_CACHE": str(tmp_path / "cache"),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", ["weights.safetensors", "bundle.json", "golden.json", "manifest.json"])
def test_a_flipped_byte_anywhere_in_the_artifact_keeps_the_service_from_starting(make_artifact, tmp_path, name):
    folder = make_artifact(tmp_path / "model")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    done = start_and_end(tmp_path, folder)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("sequela serve: ")
    assert "Traceback" not in done.stderr


def test_without_mlflow_and_without_a_copy_the_service_says_what_to_do(tmp_path):
    done = start_and_end(tmp_path, "models:/mortality@champion", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "start MLflow" in done.stderr


def test_wrong_settings_end_with_status_two(artifact, tmp_path):
    done = start_and_end(tmp_path, artifact, SEQUELA_PORT="many")
    assert done.returncode == 2
    assert "SEQUELA_PORT" in done.stderr


def test_without_keys_the_service_does_not_listen_where_others_can_connect(artifact, tmp_path):
    done = start_and_end(tmp_path, artifact, SEQUELA_HOST="0.0.0.0", SEQUELA_PORT="0")
    assert done.returncode == 2
    assert "python -m service keys add" in done.stderr


def test_with_a_key_it_listens_there_and_answers_its_holder_alone(artifact, tmp_path):
    keys = tmp_path / "keys.json"
    command = [sys.executable, "-m", "service", "keys", "add", "--name", "ward", "--scopes", "score"]
    environment = {**os.environ, "SEQUELA_KEYS": str(keys)}
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    shown = made.stdout.strip()
    with running(artifact, tmp_path, SEQUELA_HOST="0.0.0.0", SEQUELA_KEYS=str(keys)) as (_, address, _lines):
        wait_until_ready(address)
        assert httpx.post(f"{address}/v1/score", json=BODY).status_code == 401
        headers = {"Authorization": f"Bearer {shown}"}
        assert httpx.post(f"{address}/v1/score", json=BODY, headers=headers).status_code == 200
        assert httpx.get(f"{address}/metrics", headers=headers).status_code == 403


def test_an_audit_that_another_process_writes_is_left_alone(artifact, tmp_path):
    with running(artifact, tmp_path):
        second = start_and_end(tmp_path, artifact, SEQUELA_PORT="0")
    assert second.returncode == 2
    assert "SEQUELA_AUDIT" in second.stderr


def test_a_port_that_is_taken_is_named(artifact, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = start_and_end(tmp_path, artifact, SEQUELA_PORT=str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "SEQUELA_PORT" in done.stderr
