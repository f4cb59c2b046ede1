"""Long stays beside short ones: what takes long holds nobody up, and its answers are the same."""

import asyncio
import threading
from http import HTTPStatus

import pytest
from fastapi.testclient import TestClient

from models.artifact import load_artifact
from models.encoding import EncodingConfig
from models.grid import GridKind
from service.app import create_app
from service.batcher import Batcher
from service.beside import LONG_STEPS, MOST, Beside
from service.errors import Problem
from service.live.facts import Observation, Profile, StayFacts
from service.live.fold import Step
from service.live.stepper import Stepper
from service.scoring import Asked
from service.selection import Origin
from service.settings import Settings

STAY = "/v1/stays/a"
STEPS = LONG_STEPS + 200


def observed(minute, value=80.0):
    return {"channel": "heart_rate", "time_h": minute / 60, "value": value, "unit": "/min"}


def long_stay(end=STEPS):
    return {"observations": [observed(minute, 60 + minute % 50) for minute in range(end)]}


def run(work, *, shared=True):
    async def inside():
        batcher = Batcher(max_waiting=100, shared=shared)
        try:
            return await work(batcher)
        finally:
            await batcher.drain()

    return asyncio.run(inside())


def test_a_step_does_not_wait_for_what_takes_long():
    go = threading.Event()

    async def work(batcher):
        long = asyncio.create_task(batcher.aside(go.wait, 60))
        doubled = await batcher.step(lambda items: [2 * item for item in items], 4)
        assert not long.done()
        go.set()
        return doubled, await long

    assert run(work) == (8, True)


def test_a_gpu_has_one_thread_for_everything():
    async def work(batcher):
        return [await batcher.aside(threading.current_thread), await batcher.run(threading.current_thread)]

    first, second = run(work, shared=False)
    assert first is second


def test_too_many_and_too_late_long_ones_are_refused_and_the_end_waits_for_those_that_run():
    go, done = threading.Event(), []

    def wait(number):
        go.wait(60)
        done.append(number)

    async def work():
        beside = Beside(deadline_s=60.0)
        running = [asyncio.create_task(beside.run(wait, number)) for number in range(MOST)]
        await asyncio.sleep(0)
        with pytest.raises(Problem) as full:
            await beside.run(wait, MOST)
        threading.Timer(0.05, go.set).start()
        await asyncio.to_thread(beside.close)
        assert done == list(range(MOST))
        await asyncio.gather(*running)
        with pytest.raises(Problem) as ended:
            await beside.run(wait, 0)
        return full.value.status_code, ended.value.status_code

    assert asyncio.run(work()) == (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def test_who_waited_beyond_the_deadline_is_refused():
    begun, go = threading.Event(), threading.Event()

    def wait():
        begun.set()
        return go.wait(60)

    async def work():
        beside = Beside(deadline_s=2.0)
        first = asyncio.create_task(beside.run(wait))
        await asyncio.to_thread(begun.wait)
        second = asyncio.create_task(beside.run(wait))
        await asyncio.sleep(2.2)
        go.set()
        with pytest.raises(Problem) as late:
            await second
        beside.close()
        return await first, late.value.status_code

    assert asyncio.run(work()) == (True, HTTPStatus.SERVICE_UNAVAILABLE)


def test_a_long_whole_stay_is_left_out_of_the_batch_and_answered_by_itself(client, scorer):
    scoring = client.app.state.service.scoring
    bodies = [client.build_request("POST", "/", json=body).read() for body in (long_stay(5), long_stay(), {"x": 1})]
    short, long, refused = scoring.score_all([Asked(body) for body in bodies])
    assert short.steps == 5
    assert long is None
    assert isinstance(refused, Problem)
    answer = client.post("/v1/score", json=long_stay()).json()
    whole = client.post("/v1/score", json=long_stay() | {"trajectory": True}).json()
    assert answer["steps"] == STEPS
    assert answer["trajectory"] is None
    assert answer["risk"] == whole["trajectory"][-1]["risk"] == whole["risk"]


@pytest.mark.parametrize("kind", [GridKind.EVENT, GridKind.FIXED])
def test_a_long_live_stay_scores_as_a_whole_one_wherever_it_is_computed(make_artifact, tmp_path, kind):
    artifact = make_artifact(tmp_path / "model", encoding=EncodingConfig(grid=kind))
    with TestClient(create_app(Settings(trusted_hosts=("testserver",)), load_artifact(artifact))) as client:
        client.put(STAY, json={})
        # Hours where a step is an hour: empty steps are steps, too.
        end = STEPS if kind is GridKind.EVENT else 60 * STEPS
        sent = {"observations": [*long_stay(400)["observations"], observed(end)], "trajectory": True}
        first = client.post(f"{STAY}/observations", json=sent).json()
        late = client.post(f"{STAY}/observations", json={"observations": [observed(2, 199.0)]}).json()
        both = {"observations": [*sent["observations"], observed(2, 199.0)]}
        assert first["risk"] == pytest.approx(client.post("/v1/score", json=sent).json()["risk"], abs=1e-6)
        assert late["risk"] == pytest.approx(client.post("/v1/score", json=both).json()["risk"], abs=1e-6)
        assert late["replayed_from_h"] == pytest.approx(2 / 60)
        view = client.get(STAY).json()
        assert view["current"][-1]["values"] == pytest.approx([late["risk"]], abs=1e-6)


def test_a_step_is_taken_while_a_long_stay_is_replayed(scorer):
    facts = StayFacts(Profile())
    facts.add(Observation(None, "heart_rate", 60.0 + m % 50, "/min", m, m) for m in range(10 * LONG_STEPS))
    ended = []

    async def work(batcher):
        stepper = Stepper(scorer, Origin(), batcher)
        begun = stepper.begin(Profile())

        async def noted(name, one):
            await one
            ended.append(name)

        await stepper.step(begun, Step(0))
        await asyncio.gather(noted("replay", stepper.replay(facts)), noted("step", stepper.step(begun, Step(0))))

    run(work)
    assert ended == ["step", "replay"]
