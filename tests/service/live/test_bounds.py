"""What a hostile sender cannot do to a service with live stays: fill it, go past its limits, read its files."""

import asyncio
import hashlib
import sqlite3
import stat
import subprocess
import sys
import threading
import time

import httpx
import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.live import room
from service.live.settling import Call
from service.live.views import events
from service.settings import Settings
from tests.service.live.served import Served

STAY, OBSERVATIONS = "/v1/stays/ward-7", "/v1/stays/ward-7/observations"


def observed(time_h, value=90.0):
    return {"channel": "heart_rate", "time_h": time_h, "value": value, "unit": "/min"}


def served(scorer, **settings):
    return TestClient(create_app(Settings(trusted_hosts=("testserver",), **settings), scorer))


def test_refused_admissions_leave_no_stay_in_memory(scorer):
    with served(scorer) as client:
        for i in range(20):
            assert client.put(f"/v1/stays/s{i}", json={"admission": "2999-01-01T00:00:00Z"}).status_code == 422
        assert len(client.app.state.live.sessions) == 0
        assert client.put("/v1/stays/s1", json={}).status_code == 201
        assert len(client.app.state.live.sessions) == 1


def test_a_stay_takes_no_more_observations_and_notes_than_one_may_have_over_all_its_calls(scorer):
    with served(scorer, max_observations=5, max_notes=2) as client:
        client.put(STAY, json={})
        for hour in range(5):
            assert client.post(OBSERVATIONS, json={"observations": [observed(hour)]}).status_code == 200
        refused = client.post(OBSERVATIONS, json={"observations": [observed(5)]})
        assert (refused.status_code, refused.json()["errors"]) == (
            422,
            [{"loc": ["observations"], "msg": "must leave at most 5 observations in the stay"}],
        )
        assert client.post(OBSERVATIONS, json={"observations": [observed(4)]}).status_code == 200  # said before
        for hour in (1, 2):
            assert client.post(OBSERVATIONS, json={"notes": [{"time_h": hour, "text": "stable"}]}).status_code == 200
        assert client.post(OBSERVATIONS, json={"notes": [{"time_h": 3, "text": "stable"}]}).status_code == 422
        assert client.get(STAY).json()["observations"] == 5


def test_one_time_step_takes_only_so_many_observations(scorer, monkeypatch):
    monkeypatch.setattr(room, "MOST_IN_STEP", 3)
    with served(scorer) as client:
        client.put(STAY, json={})
        many = [observed(1, 80 + i) for i in range(3)]
        assert client.post(OBSERVATIONS, json={"observations": many}).status_code == 200
        assert client.post(OBSERVATIONS, json={"observations": [observed(1, 99)]}).status_code == 422
        later = [observed(2, 80 + i) for i in range(3)]
        assert client.post(OBSERVATIONS, json={"observations": later}).status_code == 200


def test_the_latest_observation_is_one_that_counts(scorer):
    with served(scorer) as client:
        client.put(STAY, json={})
        client.post(OBSERVATIONS, json={"observations": [observed(1, 80), observed(2, 90_000), observed(3, None)]})
        assert [(o["value"], o["time_h"]) for o in client.get(STAY).json()["last"]] == [(80, 1)]


def test_the_file_of_the_stays_is_for_nobody_else(scorer, tmp_path):
    store = tmp_path / "stays.sqlite3"
    with served(scorer, store=f"sqlite:///{store}") as client:
        client.put(STAY, json={})
        assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.glob("stays*")} == {
            "stays.sqlite3": 0o600,
            "stays.sqlite3-wal": 0o600,
            "stays.sqlite3-shm": 0o600,
        }


def test_another_program_s_file_is_refused_and_left_as_it_is(scorer, tmp_path):
    store = tmp_path / "other.sqlite3"
    with sqlite3.connect(store) as connection:
        connection.execute("CREATE TABLE theirs(x)")
    before = hashlib.sha256(store.read_bytes()).digest()
    with pytest.raises(Exception, match="SEQUELA_STORE"), served(scorer, store=f"sqlite:///{store}"):
        pass
    assert hashlib.sha256(store.read_bytes()).digest() == before


def test_only_so_many_listen_at_once_however_fast_they_come(artifact, tmp_path):
    statuses, leave = [], threading.Event()
    with Served(artifact, tmp_path, SEQUELA_MAX_LISTENERS="2") as served:
        httpx.put(f"{served.address}{STAY}", json={})

        def listen():
            with httpx.stream("GET", f"{served.address}{STAY}/events", timeout=60) as stream:
                statuses.append(stream.status_code)
                leave.wait(60)

        listeners = [threading.Thread(target=listen) for _ in range(8)]
        for listener in listeners:
            listener.start()
        deadline = time.monotonic() + 60
        while len(statuses) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        leave.set()
        for listener in listeners:
            listener.join()
        assert sorted(statuses) == [200] * 2 + [503] * 6
        while True:  # those who left make room
            with httpx.stream("GET", f"{served.address}{STAY}/events", timeout=60) as stream:
                if stream.status_code == 200:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_stay_that_another_replica_made_anew_ends_the_stream_of_the_old_one(scorer):
    app = create_app(Settings(), scorer)

    async def heard():
        live = app.state.live
        await live.admit(Call("PUT stay", "ward-7", b"{}"))
        stream = events(live, Call("GET events", "ward-7"), after=0, admitted=lambda: True)
        found = [await anext(stream), await anext(stream)]
        head = await live.sessions.store.head("ward-7")
        (entry,) = await live.sessions.store.entries(head.number)
        await live.sessions.store.delete(head.number)  # nobody here is told of either
        await live.sessions.store.create("ward-7", entry.payload, at_s=time.time(), secret=bytes(32))
        return [*found, await asyncio.wait_for(anext(stream), 30)]

    async def run():
        async with app.router.lifespan_context(app):
            return await heard()

    assert [part.split(b"\n")[0] for part in asyncio.run(run())] == [b": listening", b"event: score", b"event: deleted"]


FULL = """
import asyncio, resource, sys
from pathlib import Path
from service.live.sqlite_store import SqliteStore
from service.live.store import StoreError

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    await store.check()
    # As a full disk does, the file system takes no further byte; what exists may still be written over.
    size = max(path.stat().st_size for path in Path(sys.argv[1]).parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        for _ in range(100):
            await store.check()
    except StoreError as error:
        print(error)

asyncio.run(main())
"""


def test_a_full_disk_is_no_store_that_takes_writes(tmp_path):
    said = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "stays.sqlite3")], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("store must keep what it is given, got SQLITE_")
