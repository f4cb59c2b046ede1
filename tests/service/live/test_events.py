"""Event streams over HTTP: what is sent to who listens, and what ends a stream."""

import threading
import time

import httpx
from fastapi.testclient import TestClient

from service.app import create_app
from service.keys import Scope, make_key, write_keys
from service.settings import Settings
from tests.service.live.served import Served

STAY, OBSERVATIONS, EVENTS = "/v1/stays/ward-7", "/v1/stays/ward-7/observations", "/v1/stays/ward-7/events"


def observed(time_h):
    return {"observations": [{"channel": "heart_rate", "time_h": time_h, "value": 90.0, "unit": "/min"}]}


def test_a_refused_call_leaves_room_for_who_listens(scorer):
    with TestClient(create_app(Settings(trusted_hosts=("testserver",), max_listeners=1), scorer)) as client:
        client.put(STAY, json={})
        for headers in ({"Idempotency-Key": ""}, {"Last-Event-ID": "MARKED"}):
            assert client.get(EVENTS, headers=headers).status_code in (400, 422)
        assert client.app.state.live.watchers.listeners == 0


def test_who_listened_to_an_earlier_stay_of_the_name_misses_nothing_of_the_new_one(live_address):
    with httpx.Client(base_url=live_address, timeout=60) as client:
        client.put(STAY, json={})
        client.post(OBSERVATIONS, json=observed(1))
        with client.stream("GET", EVENTS, headers={"Last-Event-ID": "50"}) as events:
            threading.Timer(2.0, lambda: httpx.delete(f"{live_address}{STAY}")).start()  # ends the stream
            assert [line for line in events.iter_lines() if line.startswith("id: ")] == ["id: 1", "id: 2"]


def test_a_stream_ends_with_the_key_that_opened_it(artifact, tmp_path):
    made = {name: make_key(name, [Scope.SCORE]) for name in ("ward", "visitor")}
    held = {name: {"Authorization": f"Bearer {shown}"} for name, (_, shown) in made.items()}
    keys, ward = tmp_path / "keys.json", made["ward"][0]
    write_keys(keys, [key for key, _ in made.values()])
    with (
        Served(artifact, tmp_path, SEQUELA_KEYS=str(keys)) as served,
        httpx.Client(base_url=served.address, headers=held["ward"], timeout=60) as client,
    ):
        client.put(STAY, json={})
        with client.stream("GET", EVENTS, headers=held["visitor"]) as stream:
            lines = stream.iter_lines()
            assert next(lines) == ": listening"
            write_keys(keys, [ward])  # the visitor's is revoked
            time.sleep(2.5)
            client.post(OBSERVATIONS, json=observed(1))
            # Would end a stream that goes on all the same.
            ending = threading.Timer(5.0, lambda: httpx.delete(f"{served.address}{STAY}", headers=held["ward"]))
            ending.start()
            assert [line for line in lines if line] == []
            ending.cancel()
        assert client.get(EVENTS, headers=held["visitor"]).status_code == 401
