"""Marked values are put wherever a sender can put something; nothing that came out may hold one."""

import io
import json
import logging

import pytest

from service.logs import JsonFormatter

MARK = "TaroYamadaCanary"
NUMBER = 73.7310911
MOMENT = "2026-01-31T08:17:53Z"
NAMES = (MARK, MARK.lower(), "7310911", "08:17:53", "canary")


def observation(**change):
    return {"channel": "heart_rate", "time_h": 1, "value": NUMBER, "unit": "/min", **change}


def body(**change):
    return {
        "stay_id": MARK,
        "observations": [observation(observation_id=MARK)],
        "notes": [{"time_h": 1, "kind": MARK, "text": f"{MARK} was born in 1931"}],
        "static": {"age": {"value": NUMBER, "unit": "a"}},
        **change,
    }


BODIES = [
    body(),
    body(stay_id=MARK * 20),
    body(stay_id=[MARK]),
    body(admission=f"{MOMENT}{MARK}"),
    body(admission="2026-01-31T08:17:53"),
    body(admission="2999-01-31T08:17:53Z"),
    body(as_of=MOMENT),
    body(as_of_h=-NUMBER),
    body(as_of_h=MARK),
    body(observations=[observation(channel=MARK)]),
    body(observations=[observation(channel=f"loinc:{MARK}")]),
    body(observations=[observation(unit=MARK)]),
    body(observations=[observation(unit=MARK * 9)]),
    body(observations=[observation(value=MARK)]),
    body(observations=[observation(value=NUMBER * 1e6)]),
    body(observations=[observation(value=None)]),
    body(observations=[observation(time_h=MARK)]),
    body(observations=[observation(time_h=None, time=MOMENT)]),
    body(observations=[observation(time_h=NUMBER * 1e9)]),
    body(observations=[observation(observation_id=MARK), observation(value=1, observation_id=MARK)]),
    body(observations=[observation(**{MARK: MARK})]),
    body(observations=[{MARK: NUMBER}]),
    body(observations={MARK: NUMBER}),
    body(observations=MARK),
    body(notes=[{"time_h": 1, "text": [MARK]}]),
    body(notes=[{"time_h": 1, "text": MARK * 2000}]),
    body(notes=[{"time_h": MARK, "text": MARK, MARK: MARK}]),
    body(static={MARK: {"value": NUMBER, "unit": "a"}}),
    body(static={MARK: MARK}),
    body(static={MARK: {MARK: MARK}}),
    body(static={"age": {"value": MARK, "unit": MARK}}),
    body(static={"age": {"value": NUMBER, "unit": MARK}}),
    body(static={"age": MARK}),
    body(static={"sex": MARK}),
    body(static={"sex": {"value": NUMBER, "unit": MARK}}),
    body(disclaimer_language=MARK),
    body(trajectory=MARK),
    {MARK: {MARK: NUMBER}},
]
RAW = [
    f'{{"{MARK}": '.encode() * 50_000,
    f'{{"stay_id": "{MARK}", }}'.encode(),
    f"{MARK}".encode(),
    f'{{"observations": [{{"value": NaN, "unit": "{MARK}"}}]}}'.encode(),
    f'{{"stay_id": "{MARK}\\ud800"}}'.encode(),
    MARK.encode() + b"\xff",
    json.dumps(body()).encode("utf-16"),
]


@pytest.fixture
def log():
    """Everything that the process logs, as its handler writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level, service_level = root.level, logging.getLogger("service").level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.getLogger("service").setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
    logging.getLogger("service").setLevel(service_level)


def assert_unmarked(text):
    assert [name for name in NAMES if name in text] == []


def test_nothing_that_was_sent_comes_out_again(client, log):
    for content in [json.dumps(b).encode() for b in BODIES] + RAW:
        response = client.post(
            f"/v1/score?patient={MARK}",
            content=content,
            headers={"Content-Type": "application/json", "X-Request-Id": MARK, "User-Agent": MARK, "X-Patient": MARK},
        )
        assert response.status_code in (200, 422)
        assert_unmarked(response.text)
        assert_unmarked(str(response.headers))
    assert_unmarked(client.get("/metrics").text)
    client.app.state.lines.flush()
    assert_unmarked(log.getvalue())
    assert log.getvalue().count('"event":"request"') >= len(BODIES) + len(RAW)


def test_no_address_header_or_method_comes_out_again(client, log):
    answers = [
        client.get(f"/v1/patients/{MARK}?name={MARK}"),
        client.request(MARK.upper(), f"/{MARK}"),
        client.post(f"/v1/model/{MARK}", content=MARK),
        client.post("/v1/score", content=MARK, headers={"Content-Type": f"text/{MARK}"}),
        client.get("/livez", headers={"Host": MARK}),
        client.get(f"/docs/{MARK}"),
        client.options("/v1/score", headers={"Origin": MARK, "Access-Control-Request-Method": "POST"}),
    ]
    for answer in answers:
        assert_unmarked(answer.text)
        assert_unmarked(str(answer.headers))
    assert_unmarked(client.get("/metrics").text)
    client.app.state.lines.flush()
    assert_unmarked(log.getvalue())
    assert MARK.upper() not in log.getvalue()


def test_no_answer_with_a_risk_lacks_the_disclaimer(client):
    for content in BODIES:
        response = client.post("/v1/score", json=content)
        assert ("risk" in response.json()) == (response.status_code == 200)
        if response.status_code == 200:
            assert response.json()["disclaimer"].startswith("Research use only.")
