"""What every answer carries, whatever it is an answer to."""

import asyncio

import pytest

from service.app import create_app
from service.logs import JsonFormatter
from service.middleware import Hosts
from service.settings import Settings

EXPECTED = {
    "x-research-use-only": "true",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("GET", "/metrics", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/score", 405),
        ("POST", "/v1/score", 415),
        ("GET", "/openapi.json", 200),
    ],
)
def test_every_answer_carries_the_security_headers(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers.items() >= EXPECTED.items()
    assert len(answer.headers["X-Request-Id"]) == 36


def test_an_answer_to_a_foreign_host_and_to_a_failure_carries_them_too(client, monkeypatch):
    foreign = client.get("/livez", headers={"Host": "elsewhere.example"})
    assert foreign.status_code == 400
    monkeypatch.setattr(client.app.state.service.metrics, "exposition", lambda: 1 / 0)
    failed = client.get("/metrics")
    assert failed.status_code == 500
    for answer in (foreign, failed):
        assert answer.headers.items() >= EXPECTED.items()


def test_the_page_of_the_schema_may_load_its_program_and_no_other_answer_may(client):
    policy = client.get("/docs").headers["content-security-policy"]
    assert "script-src 'unsafe-inline' https://cdn.jsdelivr.net" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_length_that_is_declared_beside_chunks_does_not_lift_the_limit(scorer, tmp_path):
    settings = Settings(trusted_hosts=("testserver",), max_body_bytes=1000, cache=tmp_path)
    app = create_app(settings, scorer)
    chunks = [{"type": "http.request", "body": b" " * 600, "more_body": True}] * 3
    sent = []

    async def receive():
        return chunks.pop()

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
    framing = [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/score",
        "raw_path": b"/v1/score",
        "query_string": b"",
        "root_path": "",
        "headers": [*headers, *framing],
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 413


def test_hosts_are_names_without_ports_and_a_name_once_met_is_no_wider():
    hosts = Hosts(["API.ward.example", "*.site.example"])
    for _ in range(2):
        assert hosts.accept(b"api.ward.example")
        assert hosts.accept(b"api.ward.example:8000")
        assert hosts.accept(b"a.site.example")
        assert not hosts.accept(b"b.ward.example")
        assert not hosts.accept(b"site.example")
        assert not hosts.accept(b"")
    many = [b"%d.site.example" % i for i in range(500)]
    assert all(map(hosts.accept, many))
    assert len(hosts._met) <= 100


def test_a_requests_line_names_its_key_and_what_the_route_added(client, caplog):
    with caplog.at_level("INFO", logger="service"):
        client.post("/v1/score", json={"observations": []})
        client.app.state.lines.flush()
    lines = [JsonFormatter().format(r) for r in caplog.records if r.event == "request"]
    assert len(lines) == 1
    assert '"route":"/v1/score","method":"POST","status":200' in lines[0]
    assert '"prediction_id":"' in lines[0]
    assert '"key":""' in lines[0]


def test_lines_come_out_by_themselves_within_a_moment(client, caplog):
    async def wait():
        await asyncio.sleep(0.3)

    with caplog.at_level("INFO", logger="service"):
        client.get("/livez")
        client.portal.call(wait)
    assert [r.event for r in caplog.records] == ["request"]
