"""Hostile requests: each is refused by a problem document that repeats nothing, and none brings the service down."""

import gzip
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.errors import DataError
from service.app import create_app
from service.settings import Settings

JSON = {"Content-Type": "application/json"}
OBSERVATION = {"channel": "heart_rate", "time_h": 1, "value": 90, "unit": "/min"}


def post(client, content, **headers):
    return client.post("/v1/score", content=content, headers={**JSON, **headers})


def assert_problem(response, status):
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["X-Research-Use-Only"] == "true"
    document = response.json()
    assert set(document) == {"type", "title", "status", "detail", "errors", "disclaimer"}
    assert document["status"] == status
    assert document["type"].startswith("urn:sequela:problem:")
    return document


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe\x00",
        b'{"observations": ' + b"[" * 100_000,
        b'{"static": ' + b'{"a":' * 50_000,
        b'{"observations": [{"channel": "heart_rate", "time_h": 1, "value": NaN, "unit": "/min"}]}',
        b'{"observations": [{"channel": "heart_rate", "time_h": 1, "value": Infinity, "unit": "/min"}]}',
        b'{"observations": [{"channel": "heart_rate", "time_h": 1, "value": -Infinity, "unit": "/min"}]}',
        b'{"observations": [{"channel": "heart_rate", "time_h": 1, "value": 1e999, "unit": "/min"}]}',
        b'{"as_of_h": ' + b"9" * 5000 + b"}",
        b'{"as_of_h": 1, "as_of_h": 2}',
        b'{"observations": [{"channel": "heart_rate", "time_h": 1, "value": 9, "value": 90, "unit": "/min"}]}',
    ],
)
def test_what_is_not_a_stay_is_refused(client, content):
    assert_problem(post(client, content), 422)
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"value": "90"}, "value"),
        ({"value": True}, "value"),
        ({"unit": ""}, "unit"),
        ({"unit": "bpm"}, "unit"),
        ({"unit": None}, "unit"),
        ({"channel": "pulse"}, "channel"),
        ({"channel": "loinc:8867-5"}, "channel"),
        ({"time_h": "1"}, "time_h"),
        ({"time_h": 1e12}, "time_h"),
        ({"time_h": -1e300}, "time_h"),
        ({"time_h": None, "time": "2026-01-31T08:00:00"}, "time"),
        ({"time_h": None, "time": "2026-01-31"}, "time"),
        ({"time_h": None, "time": 1_769_846_400}, "time"),
        ({"time_h": None, "time": "1769846400"}, "time"),
        ({"time_h": None, "time": "2026-02-30T08:00:00Z"}, "time"),
        ({"time_h": None, "time": "2026-01-31T08:00:00Z"}, "time"),  # without admission
    ],
)
def test_a_field_that_does_not_hold_is_named_by_its_path(client, change, place):
    response = client.post("/v1/score", json={"observations": [OBSERVATION, {**OBSERVATION, **change}]})
    assert [error["loc"] for error in assert_problem(response, 422)["errors"]] == [["observations", 1, place]]


def test_a_part_of_an_address_that_does_not_hold_is_named_and_not_repeated(client):
    response = client.post("/v1/admin/models/miller/rollback")
    document = assert_problem(response, 422)
    assert [error["loc"] for error in document["errors"]] == [["path", "role"]]
    assert "miller" not in response.text


@pytest.mark.parametrize(
    "body",
    [
        {"as_of_h": -1},
        {"as_of_h": 1e9},
        {"as_of_h": 1, "as_of": "2026-01-31T08:00:00Z"},
        {"as_of": "2026-01-31T08:00:00Z"},
        {"admission": "2999-01-31T08:00:00Z"},
        {"admission": "2026-01-31T08:00:00"},
        {"observations": [{k: v for k, v in OBSERVATION.items() if k != "unit"}]},
        {"observations": [{k: v for k, v in OBSERVATION.items() if k != "value"}]},
        {"observations": [{k: v for k, v in OBSERVATION.items() if k != "time_h"}]},
        {"observations": [{**OBSERVATION, "available_time_h": 1, "available_time": "2026-01-31T08:00:00Z"}]},
        {"observations": {"0": OBSERVATION}},
        {"notes": [{"time_h": 1, "text": ""}]},
        {"notes": [{"text": "undated"}]},
        {"static": {"age": 63}},
        {"static": {"age": {"value": 63, "unit": "mm[Hg]"}}},
        {"static": {"sex": "F"}},
        {"static": {"sex": {"value": 1, "unit": "1"}}},
        {"trajectory": "yes"},
        {"disclaimer_language": "de"},
        {"patient": "unknown field"},
    ],
)
def test_a_stay_with_a_contradiction_is_refused(client, body):
    assert assert_problem(client.post("/v1/score", json=body), 422)["errors"] != []


def test_at_most_twenty_places_are_named(client):
    unknown = {**OBSERVATION, "channel": "pulse"}
    document = assert_problem(client.post("/v1/score", json={"observations": [unknown] * 500}), 422)
    assert len(document["errors"]) == 20


@pytest.mark.parametrize(
    "content",
    [
        b'{"observations": [' + b"{}," * 1_000_000 + b"{}]}",
        b'{"notes": [' + b"{}," * 1_000_000 + b"{}]}",
        b'{"static": {' + b",".join(b'"%d":1' % i for i in range(300_000)) + b"}}",
        b"{" + b",".join(b'"%d":1' % i for i in range(300_000)) + b"}",
        json.dumps({"observations": [{**OBSERVATION, "channel": "x"}] * 50_000}).encode(),
    ],
    ids=["observations", "notes", "static", "keys", "channels"],
)
def test_a_body_full_of_errors_is_refused_within_seconds(client, content):
    started = time.monotonic()
    assert_problem(post(client, content), 422)
    assert time.monotonic() - started < 20


def test_a_body_that_says_or_proves_to_be_too_large_is_refused(scorer):
    settings = Settings(trusted_hosts=("testserver",), max_body_bytes=1000)
    with TestClient(create_app(settings, scorer)) as client:
        assert_problem(post(client, b" " * 1001), 413)
        assert_problem(post(client, iter([b" " * 600] * 3)), 413)
        assert_problem(client.post("/nowhere", content=b" " * 1001), 413)
        assert post(client, b"{}" + b" " * 998).status_code == 200


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "multipart/form-data", ""])
def test_another_media_type_is_refused(client, media_type):
    assert_problem(client.post("/v1/score", content=b"{}", headers={"Content-Type": media_type}), 415)


def test_a_compressed_body_is_refused_unread(client):
    refused = post(client, gzip.compress(b"{}"), **{"Content-Encoding": "gzip"})
    assert_problem(refused, 415)
    assert "compressed" in refused.json()["detail"]


def test_json_with_a_charset_is_accepted(client):
    assert post(client, b"{}", **{"Content-Type": "application/json; charset=utf-8"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v1/score", 405), ("DELETE", "/v1/model", 405), ("BREW", "/livez", 405)],
)
def test_unknown_addresses_and_methods_are_refused_with_the_header(client, method, path, status):
    assert_problem(client.request(method, path), status)


def test_no_address_is_redirected_because_that_would_repeat_what_was_sent(client):
    answer = client.get("/v1/model/?patient=marked", follow_redirects=False)
    assert_problem(answer, 404)
    assert "location" not in answer.headers


def test_a_foreign_host_name_is_refused(scorer):
    with TestClient(create_app(Settings(), scorer), base_url="http://evil.example") as client:
        assert_problem(client.get("/v1/model"), 400)
    for host in ("http://localhost:8000", "http://127.0.0.1", "http://[::1]:8000"):
        with TestClient(create_app(Settings(), scorer), base_url=host) as client:
            assert client.get("/livez").status_code == 200


def test_a_wildcard_accepts_names_below_it_alone(scorer):
    app = create_app(Settings(trusted_hosts=("*.ward.example",)), scorer)
    statuses = [
        TestClient(app, base_url=f"http://{host}").get("/livez").status_code
        for host in ("a.ward.example", "ward.example", "award.example")
    ]
    assert statuses == [200, 400, 400]


def test_a_failure_inside_is_a_500_that_says_nothing_and_a_log_line_without_its_text(client, monkeypatch, caplog):
    def fail(bodies):
        raise RuntimeError("MARKED patient text")

    monkeypatch.setattr(client.app.state.service.scoring, "score_all", fail)
    with caplog.at_level(logging.INFO, logger="service"):
        response = post(client, b"{}")
    document = assert_problem(response, 500)
    assert "MARKED" not in json.dumps(document)
    failed = [r.fields for r in caplog.records if getattr(r, "event", "") == "failed"]
    assert [f["error_type"] for f in failed] == ["RuntimeError"]
    assert failed[0]["error_at"].startswith("test_refusals.py:")
    assert response.headers["X-Request-Id"] == failed[0]["request_id"]


def test_a_stay_that_the_model_refuses_is_a_422_without_the_models_words(client, monkeypatch):
    def refuse(stays):
        raise DataError("MARKED 120 mm[Hg]")

    monkeypatch.setattr(client.app.state.service.scoring.scorer, "score", refuse)
    document = assert_problem(post(client, b'{"trajectory": true}'), 422)
    assert "MARKED" not in json.dumps(document)


def test_a_request_beyond_those_that_may_wait_is_turned_away(scorer, monkeypatch):
    app = create_app(Settings(trusted_hosts=("testserver",), max_waiting=1), scorer)
    begun, go_on = threading.Event(), threading.Event()
    score_all = app.state.service.scoring.score_all

    def wait_and_score(bodies):
        begun.set()
        go_on.wait(10)
        return score_all(bodies)

    with TestClient(app) as client, ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(app.state.service.scoring, "score_all", wait_and_score)
        first = pool.submit(post, client, b"{}")
        assert begun.wait(10)
        second = post(client, b"{}")
        live = client.get("/livez").status_code
        go_on.set()
        assert_problem(second, 429)
        assert second.headers["Retry-After"] == "1"
        assert (live, first.result(10).status_code) == (200, 200)


def test_a_request_id_is_returned_only_if_it_is_a_uuid(client):
    uuid = "6f1c2b1e-3f0a-4c53-9b1f-0d6a6c1b2a3d"
    assert client.get("/livez", headers={"X-Request-Id": uuid}).headers["X-Request-Id"] == uuid
    for other in ("TARO-YAMADA", uuid + "x", "z" * 36):
        assert client.get("/livez", headers={"X-Request-Id": other}).headers["X-Request-Id"] != other


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["observations", "notes", "static", "admission", "as_of", "as_of_h", "stay_id", "trajectory"])
items = st.dictionaries(
    st.sampled_from(["channel", "time_h", "time", "value", "unit", "text", "kind", "observation_id"]), json_values
)


@given(st.dictionaries(fields, json_values | st.lists(items, max_size=3), max_size=4))
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_makes_the_service_fail(client, body):
    response = post(client, json.dumps(body).encode())
    assert response.status_code in (200, 422)
    assert response.headers["X-Research-Use-Only"] == "true"
