"""A service under calls of every kind for a while: its memory stays flat, and what is too old leaves it."""

import json
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx
from fastapi.testclient import TestClient

from service.app import create_app
from service.audit import AuditLog
from service.live import upkeep
from service.settings import Settings
from tests.service.live.served import Served

ROUND_CALLS, STAYS = 400, 40
GROWTH_MIB = 6.0
CHANNELS = (("heart_rate", "/min", 60), ("sbp", "mm[Hg]", 100), ("lactate", "mmol/L", 1))


def resident_mib(pid):
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


class Caller:
    """Calls in every way that a ward's systems do; no stay lives for ever."""

    def __init__(self, address):
        self.client, self.random, self.number = httpx.Client(base_url=address, timeout=60), random.Random(0), 0
        self.sent, self.statuses = {}, set()

    def close(self):
        self.client.close()

    def call(self, method, path, **content):
        answer = self.client.request(method, path, **content)
        self.statuses.add(answer.status_code)
        return answer

    def one(self):
        self.number += 1
        stay = f"/v1/stays/soak-{self.number % STAYS}"
        sent = self.sent.setdefault(stay, [])
        if not sent:
            self.call("PUT", stay, json={"static": {"age": {"value": 63, "unit": "a"}}})
        name, (channel, unit, low) = f"o-{self.number}", self.random.choice(CHANNELS)
        late = self.random.random() < 0.1
        hour = max(len(sent) - self.random.choice((3, 9)) + 0.3, 0) if late else len(sent)
        item = {"channel": channel, "unit": unit, "value": low + self.random.random(), "time_h": round(hour, 3)}
        key = {"Idempotency-Key": name} if self.random.random() < 0.3 else {}
        body = {"observations": [{**item, "observation_id": name}]}
        for _ in range(2 if key else 1):
            self.call("POST", f"{stay}/observations", json=body, headers=key)
        sent.append(name)
        self.seldom(stay, sent)

    def seldom(self, stay, sent):
        kind = self.random.randrange(20)
        if kind == 0:
            self.call("PATCH", f"{stay}/observations/{sent[-1]}", json={"value": 2.5})
        elif kind == 1:
            self.call("DELETE", f"{stay}/observations/{sent[-1]}")
        elif kind == 2:
            self.call("GET", stay)
        elif kind == 3:
            self.call("POST", "/v1/score", json={"as_of_h": 1})
        elif kind == 4:
            self.call("POST", f"{stay}/observations", json={"observations": [{"channel": f"none-{self.number}"}]})
        elif kind == 5 or len(sent) > 40:
            self.call("DELETE", stay)
            sent.clear()


def test_memory_stays_flat_under_calls_of_every_kind(artifact, tmp_path):
    with (
        Served(artifact, tmp_path, SEQUELA_STATE_BYTES="200000", SEQUELA_RATE_LIMIT="1000000/second") as served,
        closing(Caller(served.address)) as caller,
    ):
        held = []
        for _ in range(4):
            for _ in range(ROUND_CALLS):
                caller.one()
            held.append(resident_mib(served.pid))
        assert caller.statuses == {200, 201, 204, 422}
        # The first rounds fill what has a bound; then nothing is added.
        assert held[-1] - held[1] < GROWTH_MIB, held


def test_stays_are_deleted_once_their_time_is_over_and_the_audit_says_how_many(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(upkeep, "SWEEP_S", 0.02)
    store = tmp_path / "stays.sqlite3"
    settings = Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}", retention_h=24)
    with TestClient(create_app(settings, scorer, audit=AuditLog(tmp_path / "audit"))) as client:
        for stay in ("old", "new"):
            client.put(f"/v1/stays/{stay}", json={})
        with sqlite3.connect(store) as connection:
            query = (
                "UPDATE entries SET at_s = at_s - 90000 WHERE stay = (SELECT number FROM stays WHERE stay_id = 'old')"
            )
            connection.execute(query)
        deadline = time.monotonic() + 60
        while client.get("/v1/stays/old").status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.get("/v1/stays/old").status_code == 404
        assert [stay["stay_id"] for stay in client.get("/v1/stays").json()["stays"]] == ["new"]
    with sqlite3.connect(store) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (1,)
    lines = [line for path in (tmp_path / "audit").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert [r["counts"] for r in map(json.loads, lines) if r["event"] == "expired"] == [{"stays": 1}]
