"""Spans of requests: made, linked to the caller's, and without anything that was sent."""

import sys

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from models.errors import ConfigError
from service import app as application
from service.app import create_app
from service.settings import Settings
from service.traces import Traces

MARK = "TaroYamadaCanary"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def spans(scorer, tmp_path, monkeypatch, exporter):
    """A client of an application that makes spans, and the finished ones once it has ended."""
    monkeypatch.setattr(application, "Traces", lambda endpoint: Traces(endpoint, exporter=exporter))
    settings = Settings(trusted_hosts=("testserver",), cache=tmp_path, otlp_endpoint="http://collector:4318/v1/traces")

    def after(*requests):
        with TestClient(create_app(settings, scorer)) as client:
            for method, path, options in requests:
                client.request(method, path, **options)
        return exporter.get_finished_spans()

    return after


def test_a_span_names_route_method_and_status_and_its_parent(spans):
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    (span,) = spans(("POST", "/v1/score", {"json": {}, "headers": headers}))
    assert span.name == "POST /v1/score"
    assert f"{span.context.trace_id:032x}" == TRACE
    assert dict(span.attributes).items() >= {"http.route": "/v1/score", "http.response.status_code": 200}.items()


def test_no_span_holds_anything_that_was_sent(spans):
    headers = {
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
        "tracestate": f"ward={MARK}",
        "baggage": f"patient={MARK}",
        "User-Agent": MARK,
        "X-Request-Id": MARK,
    }
    made = spans(
        ("POST", f"/v1/score?patient={MARK}", {"json": {"stay_id": MARK}, "headers": headers}),
        ("POST", "/v1/score", {"json": {"observations": [{"value": MARK}]}, "headers": headers}),
        ("GET", f"/v1/patients/{MARK}", {"headers": headers}),
        (MARK, f"/{MARK}", {"headers": headers}),
    )
    assert len(made) == 4
    assert [s.to_json() for s in made if MARK.lower() in s.to_json().lower()] == []


def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(spans):
    (span,) = spans(("GET", "/livez", {"headers": {"traceparent": MARK}}))
    assert span.parent is None


def test_a_part_is_a_span_below_the_requests_and_an_errors_text_stays_out(exporter):
    traces = Traces("http://collector:4318/v1/traces", exporter=exporter)
    request = traces.begin({})
    with request.part("compute"):
        pass
    with pytest.raises(ValueError, match=MARK), request.part("store"):
        raise ValueError(MARK)
    request.end(route="/v1/score", method="POST", status=500, request_id="")
    traces.close()
    compute, store, whole = exporter.get_finished_spans()
    assert {compute.parent.span_id, store.parent.span_id} == {whole.context.span_id}
    assert (compute.status.is_ok, store.status.is_ok, whole.status.is_ok) == (True, False, False)
    assert MARK not in store.to_json()


def test_without_an_address_nothing_is_traced(client):
    assert client.app.state.traces is None
    assert client.get("/livez").status_code == 200


def test_without_the_extra_the_refusal_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"sequela\[traces\]"):
        Traces("http://collector:4318/v1/traces")
