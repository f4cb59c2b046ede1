"""Event streams over HTTP: what is sent to who listens, and what ends a stream."""


from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings

STAY, OBSERVATIONS, EVENTS = "/v1/stays/ward-7", "/v1/stays/ward-7/observations", "/v1/stays/ward-7/events"


def observed(time_h):
    return {"observations": [{"channel": "heart_rate", "time_h": time_h, "value": 90.0, "unit": "/min"}]}


def test_a_refused_call_leaves_room_for_who_listens(scorer):
    with TestClient(create_app(Settings(trusted_hosts=("testserver",), max_listeners=1), scorer)) as client:
        client.put(STAY, json={})
        for headers in ({"Idempotency-Key": ""}, {"Last-Event-ID": "MARKED"}):
            assert client.get(EVENTS, headers=headers).status_code in (400, 422)
        assert client.app.state.live.watchers.listeners == 0
