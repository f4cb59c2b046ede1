"""`kill -9` at any moment loses no observation that was acknowledged, and doubles none."""

import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress

import httpx
import pytest

from tests.service.live.served import Served

STAYS, WRITERS = 6, 3
CHANNELS = (("heart_rate", "/min", 60), ("sbp", "mm[Hg]", 100))


class Writer(threading.Thread):
    """Sends one observation after another to its stays, and notes what was acknowledged; sends again what was not."""

    def __init__(self, served, stays, sent):
        super().__init__(daemon=True)
        self.served, self.stays, self.sent = served, stays, sent
        self.acknowledged = self.turn = 0
        self.ended = threading.Event()

    def run(self):
        while not self.ended.is_set():
            with httpx.Client(base_url=self.served.address, timeout=20) as client, suppress(httpx.TransportError):
                self.write(client)
            time.sleep(0.02)

    def write(self, client):
        """Writes until the service is gone."""
        while not self.ended.is_set():
            stay = self.stays[self.turn % len(self.stays)]
            number = len(self.sent[stay])
            channel, unit, low = CHANNELS[number % 2]
            # Every fifth is late.
            item = {
                "channel": channel,
                "unit": unit,
                "value": low + number % 40,
                "time_h": (number - 3 if number % 5 == 4 else number) / 60,
                "observation_id": f"{stay}-{number}",
            }
            answer = client.post(f"/v1/stays/{stay}/observations", json={"observations": [item]})
            assert answer.status_code == 200, answer.text
            self.sent[stay].append(item)
            self.acknowledged += 1
            self.turn += 1


def check(address, sent):
    """Every stay has just what was sent, or that and the one call that was under way; and its offline score."""
    with httpx.Client(base_url=address, timeout=60) as client:
        for stay, items in sent.items():
            view = client.get(f"/v1/stays/{stay}").json()
            assert view["observations"] in (len(items), len(items) + 1)
            again = client.post(f"/v1/stays/{stay}/observations", json={"observations": items}).json()
            assert again["accepted"]["observations"] == 0, "an acknowledged observation was lost"
            if view["observations"] == len(items):
                whole = client.post("/v1/score", json={"observations": items}).json()
                assert again["risk"] == pytest.approx(whole["risk"], abs=1e-6)
                assert view["current"][-1]["values"][0] == pytest.approx(whole["risk"], abs=1e-6)


@pytest.mark.slow
def test_no_acknowledged_observation_is_lost_or_doubled_by_kill_9(artifact, tmp_path):
    sent = {f"s{i}": [] for i in range(STAYS)}
    chance = random.Random(5)
    with Served(artifact, tmp_path) as served:
        for stay in sent:
            httpx.put(f"{served.address}/v1/stays/{stay}", json={})
        writers = [Writer(served, list(sent)[i::WRITERS], sent) for i in range(WRITERS)]
        for writer in writers:
            writer.start()
        for _ in range(3):
            before = sum(w.acknowledged for w in writers)
            deadline = time.monotonic() + 60
            while sum(w.acknowledged for w in writers) < before + 50 and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.05))
            served.kill()
            assert sum(w.acknowledged for w in writers) >= before + 50
            served.start()
        for writer in writers:
            writer.ended.set()
        for writer in writers:
            writer.join(30)
        check(served.address, sent)
        assert served.terminate() == 0


def test_a_store_of_another_release_keeps_the_service_from_starting_and_says_what_to_do(artifact, tmp_path):
    with sqlite3.connect(tmp_path / "stays.sqlite3") as connection:
        connection.executescript("CREATE TABLE stays(x); PRAGMA application_id=1399157100; PRAGMA user_version=99")
    environment = Served(artifact, tmp_path).environment
    done = subprocess.run(
        [sys.executable, "-m", "service"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert "serve with the release that wrote it" in done.stderr.splitlines()[-1]


def test_an_open_stream_of_events_does_not_hold_up_the_end(artifact, tmp_path):
    with Served(artifact, tmp_path, SEQUELA_SHUTDOWN_TIMEOUT_S="60") as served:
        httpx.put(f"{served.address}/v1/stays/a", json={})
        with httpx.stream("GET", f"{served.address}/v1/stays/a/events", timeout=30) as events:
            assert next(events.iter_lines()) == ": listening"
            began = time.monotonic()
            assert served.terminate() == 0
            assert time.monotonic() - began < 30
