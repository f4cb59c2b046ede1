"""Many stays in one call: streamed both ways, answered in order, one line's problem being its own."""

import asyncio
import contextlib
import json
import socket
import time

import pytest
from fastapi.testclient import TestClient

from service import batch
from service.app import create_app
from service.errors import Problem
from service.keys import Scope, make_key, write_keys
from service.settings import Settings

NDJSON = {"Content-Type": "application/x-ndjson"}


def stay(value):
    return {"observations": [{"channel": "heart_rate", "time_h": 1, "value": value, "unit": "/min"}]}


def lines(answer):
    return [json.loads(line) for line in answer.text.splitlines()]


def test_every_line_is_answered_in_its_place_as_it_would_be_alone(client):
    bodies = [stay(60 + i) for i in range(40)]
    answer = client.post("/v1/score/batch", content="\n".join(map(json.dumps, bodies)), headers=NDJSON)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    found = lines(answer)
    assert [line["line"] for line in found] == list(range(1, 41))
    alone = [client.post("/v1/score", json=body).json()["risk"] for body in bodies]
    assert [line["answer"]["risk"] for line in found] == pytest.approx(alone, abs=1e-6)
    assert all(line["answer"]["disclaimer"] for line in found)


def test_a_line_that_does_not_hold_is_answered_with_its_problem_and_the_next_is_read(client):
    content = "\n".join([json.dumps(stay(80)), '{"MARKED": 1}', "no json", "", json.dumps(stay(81))])
    found = lines(client.post("/v1/score/batch", content=content, headers=NDJSON))
    assert [set(line) - {"line"} for line in found] == [{"answer"}, {"problem"}, {"problem"}, {"answer"}]
    assert found[1]["problem"]["status"] == 422
    assert "MARKED" not in json.dumps(found)


@pytest.fixture
def limited(scorer, tmp_path):
    """Makes clients whose key has a rate of its own."""
    with contextlib.ExitStack() as opened:

        def make(rate):
            key, shown = make_key("batch", [Scope.SCORE], rate=rate)
            write_keys(tmp_path / "keys.json", [key])
            app = create_app(Settings(trusted_hosts=("testserver",), keys=tmp_path / "keys.json"), scorer)
            return opened.enter_context(TestClient(app, headers={"Authorization": f"Bearer {shown}"}))

        yield make


def test_every_line_counts_as_a_request_of_the_key(limited, monkeypatch):
    monkeypatch.setattr(batch, "WORTH_WAITING_S", 0.0)
    client = limited("3/hour")
    content = "\n".join([json.dumps(stay(80))] * 5)
    found = lines(client.post("/v1/score/batch", content=content, headers=NDJSON))
    assert [line.get("problem", {}).get("status") for line in found] == [None, None, None, 429, 429]
    assert client.post("/v1/score", json=stay(80)).status_code == 429


def test_a_line_waits_for_its_turn_where_the_rate_soon_gives_one(limited):
    content = "\n".join([json.dumps(stay(80))] * 7)
    began = time.monotonic()
    found = lines(limited("3/second").post("/v1/score/batch", content=content, headers=NDJSON))
    assert [line["line"] for line in found if "answer" in line] == list(range(1, 8))
    assert time.monotonic() - began > 1.0


def test_a_key_that_is_gone_opens_no_further_line(limited):
    access = limited("100/second").app.state.access
    with pytest.raises(Problem) as refused:
        access.charge("000000000000", Scope.SCORE)
    assert refused.value.status_code == 401


def test_a_line_may_be_as_long_as_a_body_and_the_call_longer(scorer):
    with TestClient(create_app(Settings(trusted_hosts=("testserver",), max_body_bytes=2000), scorer)) as client:
        content = "\n".join([json.dumps(stay(80))] * 40)
        assert len(content) > 2000
        assert len(lines(client.post("/v1/score/batch", content=content, headers=NDJSON))) == 40
        found = lines(client.post("/v1/score/batch", content=json.dumps(stay(80)) + "\n" + "x" * 5000, headers=NDJSON))
        assert "answer" in found[0]
        assert found[1]["problem"]["status"] == 422


def test_a_long_call_of_undeclared_length_is_answered_line_by_line_to_its_end(scorer):
    parts = [json.dumps(stay(60 + i)).encode() + b"\n" for i in range(60)]
    parts[30] = b'{"observations": "' + b"x" * 5000 + b'"}\n'
    assert sum(map(len, parts)) > 2000
    with TestClient(create_app(Settings(trusted_hosts=("testserver",), max_body_bytes=2000), scorer)) as client:
        found = lines(client.post("/v1/score/batch", content=iter(parts), headers=NDJSON))
    assert [line["line"] for line in found] == list(range(1, 61))
    assert [line["line"] for line in found if "answer" not in line] == [31]


def test_another_media_type_is_refused(client):
    assert client.post("/v1/score/batch", json=stay(80)).status_code == 415


def test_a_line_is_answered_before_the_next_one_is_sent(live_address):
    host, port = live_address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as sender:
        head = f"POST /v1/score/batch HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-ndjson\r\n"
        sender.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        received = b""
        for number in (1, 2, 3):
            line = json.dumps(stay(60 + number)).encode() + b"\n"
            sender.sendall(b"%x\r\n%b\r\n" % (len(line), line))
            while b'{"line":%d' % number not in received:
                part = sender.recv(65536)
                assert part
                received += part


def test_a_sender_that_stops_in_the_middle_gets_answers_to_what_it_sent_and_is_told_of_the_end(scorer):
    app = create_app(Settings(trusted_hosts=("testserver",), body_timeout_s=0.2), scorer)
    sent = []

    async def run():
        parts = [{"type": "http.request", "body": json.dumps(stay(80)).encode() + b"\n", "more_body": True}]

        async def receive():
            if parts:
                return parts.pop()
            return await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"testserver"), (b"content-type", b"application/x-ndjson")]
        scope = {"type": "http", "method": "POST", "path": "/v1/score/batch", "headers": headers, "query_string": b""}
        async with app.router.lifespan_context(app):
            await app({**scope, "http_version": "1.1", "root_path": "", "asgi": {"version": "3.0"}}, receive, send)

    asyncio.run(run())
    answered, ended = (json.loads(line) for line in b"".join(m.get("body", b"") for m in sent).splitlines())
    assert "answer" in answered
    assert (ended["line"], ended["problem"]["status"]) == (2, 408)
    assert sent[-1].get("more_body", False) is False
