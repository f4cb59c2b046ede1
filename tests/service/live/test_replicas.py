"""Two real servers over one PostgreSQL: no observation is lost or doubled, and every score is the offline one."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from urllib.parse import quote

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from redis import Redis

from models.artifact import load_artifact
from service.scoring import StayScoring
from service.selection import Origin
from service.settings import Settings
from tests.service.live.stores import own_schema, postgres

WRITERS, CALLS = 6, 15
CHANNELS = (("heart_rate", "/min", 90), ("sbp", "mm[Hg]", 120), ("temperature", "[degF]", 99), ("lactate", "mmol/L", 2))
ADMISSION = {"static": {"age": {"value": 63, "unit": "a"}, "sex": "female"}}


@contextlib.contextmanager
def replica(model, folder, **environment):
    """A started service and its address."""
    log = folder / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "SEQUELA_MODEL": str(model),
                "SEQUELA_PORT": "0",
                "SEQUELA_DEVICE": "cpu",
                "SEQUELA_CACHE": str(folder / "cache"),
                **environment,
            },
            stderr=written,
        )
    try:
        yield process, f"http://127.0.0.1:{listening_port(process, log)}"
    finally:
        process.kill()
        process.wait()


def listening_port(process, log):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        lines = [
            json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")
        ]
        port = next((line["port"] for line in lines if line.get("event") == "listening"), None)
        if port is not None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    return port
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture(params=["", "redis"])
def replicas(request, artifact, tmp_path, postgres_url):
    """Two services over one store, with and without a shared cache of states, and the store's address."""
    environment = {}
    if request.param:
        address = os.environ.get("SEQUELA_TEST_REDIS")
        if not address:
            pytest.skip("SEQUELA_TEST_REDIS is not the address of a test Redis")
        environment["SEQUELA_STATE_CACHE"] = address
    with own_schema(postgres_url) as url, contextlib.ExitStack() as stack:
        environment["SEQUELA_STORE"] = uri(url)
        both = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            both.append(stack.enter_context(replica(artifact, tmp_path / name, **environment)))
        yield both, url
        if request.param:
            forget_states(environment["SEQUELA_STATE_CACHE"], url)


def forget_states(redis_url, url):
    """Leaves nothing of the store in Redis."""
    with psycopg.connect(url) as connection, Redis.from_url(redis_url) as redis:
        ((identity,),) = connection.execute("SELECT identity FROM live_schema").fetchall()
        for name in redis.scan_iter(f"sequela:{identity}:*"):
            redis.delete(name)


def uri(conninfo):
    """The address as a URL."""
    given = conninfo_to_dict(conninfo)
    password = f":{quote(given['password'])}" if "password" in given else ""
    where = f"{given['user']}{password}@{given['host']}:{given.get('port', 5432)}/{given['dbname']}"
    return f"postgresql://{where}?options={quote(given['options'])}"


def drawn(rng, writer, call):
    """One call's observations: at a random minute, so that about half of the calls come late."""
    minute = rng.randrange(48 * 60)
    chosen = rng.sample(CHANNELS, rng.randint(1, len(CHANNELS)))
    return [
        {"channel": c, "unit": u, "value": round(v * rng.uniform(0.8, 1.2), 2), "time_h": minute / 60}
        | {"observation_id": f"{writer}-{call}-{c}"}
        for c, u, v in chosen
    ]


class Writer(threading.Thread):
    """Posts to one stay, through one server and then the other, and repeats some calls at the other one."""

    def __init__(self, number, addresses, answers):
        super().__init__()
        self.number, self.addresses, self.answers = number, addresses, answers
        self.sent, self.failure = [], None

    def run(self):
        rng = random.Random(self.number)
        try:
            with httpx.Client(timeout=60) as client:
                for call in range(CALLS):
                    self.post(client, rng, call)
        except Exception as error:  # noqa: BLE001  # told to the test
            self.failure = error

    def post(self, client, rng, call):
        observations = drawn(rng, self.number, call)
        headers = {"Idempotency-Key": f"{self.number}-{call}"} if rng.random() < 0.5 else {}
        answers = []
        for place in (call, call + 1) if rng.random() < 0.3 else (call,):
            url = f"{self.addresses[place % 2]}/v1/stays/shared/observations"
            answers.append(client.post(url, json={"observations": observations}, headers=headers))
            assert answers[-1].status_code == 200, answers[-1].text
        first, last = answers[0].json(), answers[-1].json()
        if headers:
            assert first == last
        self.sent += observations
        for answer in (first, last):
            self.answers[answer["revision"]] = answer["risk"]


def offline(scoring, observations):
    body = ADMISSION | {"observations": observations}
    return json.loads(scoring.score(json.dumps(body).encode()).content)["risk"]


async def journal(url):
    async with postgres(url) as store:
        head = await store.head("shared")
        return [json.loads(entry.payload) for entry in await store.entries(head.number)]


def test_writers_of_one_stay_at_two_servers_lose_and_double_nothing_and_every_score_is_the_offline_one(
    replicas, artifact
):
    both, url = replicas
    addresses = [address for _, address in both]
    assert httpx.put(f"{addresses[0]}/v1/stays/shared", json=ADMISSION).status_code == 201
    answers = {}
    writers = [Writer(number, addresses, answers) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.failure for writer in writers] == [None] * WRITERS
    sent = {o["observation_id"]: o for writer in writers for o in writer.sent}
    kept = [[row[0] for row in entry.get("o", ())] for entry in asyncio.run(journal(url))]
    assert sorted(name for names in kept for name in names) == sorted(sent)
    scoring, known = StayScoring(load_artifact(artifact), Origin(), Settings()), []
    for revision, names in enumerate(kept, start=1):
        known += [sent[name] for name in names]
        if revision in answers:
            assert answers[revision] == pytest.approx(offline(scoring, known), abs=1e-5)
    assert len(answers) >= WRITERS * CALLS - 1
    views = [httpx.get(f"{address}/v1/stays/shared").json() for address in addresses]
    assert views[0] == views[1]
    assert views[0]["current"][-1]["values"][0] == pytest.approx(offline(scoring, known), abs=1e-5)


def test_what_one_server_acknowledged_before_it_was_killed_the_other_serves(replicas, artifact):
    ((process, first), (_, second)), _ = replicas
    httpx.put(f"{first}/v1/stays/shared", json=ADMISSION)
    rng, sent = random.Random(1), []
    for call in range(10):
        sent += drawn(rng, 0, call)[:1]
        answer = httpx.post(f"{first}/v1/stays/shared/observations", json={"observations": sent[-1:]})
        assert answer.status_code == 200
    process.kill()
    scoring = StayScoring(load_artifact(artifact), Origin(), Settings())
    view = httpx.get(f"{second}/v1/stays/shared").json()
    assert view["observations"] == 10
    more = drawn(rng, 0, 99)
    answer = httpx.post(f"{second}/v1/stays/shared/observations", json={"observations": more}).json()
    assert answer["risk"] == pytest.approx(offline(scoring, [*sent, *more]), abs=1e-5)


def test_a_key_whose_call_runs_at_one_server_is_refused_at_the_other_and_then_repeated(replicas):
    ((_, first), (_, second)), url = replicas
    httpx.put(f"{first}/v1/stays/shared", json=ADMISSION)
    body, key = {"observations": drawn(random.Random(1), 0, 0)}, {"Idempotency-Key": "k"}

    def post(address):
        return httpx.post(f"{address}/v1/stays/shared/observations", json=body, headers=key, timeout=60)

    answered = []
    with psycopg.connect(url) as holding:
        holding.execute("SELECT FROM live_stays FOR UPDATE")  # the write of the first call has to wait
        caller = threading.Thread(target=lambda: answered.append(post(first)))
        caller.start()
        with psycopg.connect(url, autocommit=True) as looking:
            deadline = time.monotonic() + 120
            while not looking.execute("SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted").rowcount:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        running = post(second)
        assert (running.status_code, running.json()["type"]) == (409, "urn:sequela:problem:conflict")
        holding.rollback()
    caller.join()
    assert [answer.status_code for answer in answered] == [200]
    repeated = post(second)
    assert repeated.json() == answered[0].json()
    assert repeated.headers["Idempotency-Replayed"] == "true"
