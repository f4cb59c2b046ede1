"""Stays in memory that follow another model: every state is a fresh replay's, whatever is known of the stay."""

import asyncio
import json

import numpy as np
import pytest

from models.artifact import load_artifact
from service.assembly import assembled
from service.audit import NoAudit
from service.live.restoring import journal_of
from service.live.settling import Call
from service.selection import Origin, Selected
from service.served import Served
from service.settings import Settings

STATIC = {"static": {"age": {"value": 63, "unit": "a"}}}


def observed(hour, value, channel="heart_rate", unit="/min", **more):
    return {"channel": channel, "time_h": hour, "value": value, "unit": unit, **more}


@pytest.fixture(scope="module")
def pair(make_artifact, tmp_path_factory):
    """Two models that read notes."""
    folder = tmp_path_factory.mktemp("following")
    return [load_artifact(make_artifact(folder / str(seed), reads_notes=True, seed=seed)) for seed in (1, 2)]


class Ward:
    """The parts of an application around one model, and another that may take its place."""

    def __init__(self, pair):
        self.settings = Settings(store="memory:")
        self.parts = assembled(self.settings, Selected(pair[0], Origin()), None, NoAudit())
        self.other = Served.of(pair[1], Origin(), self.settings, self.parts.service.inference)
        self.following, self.sessions = self.parts.changes.following, self.parts.live.sessions

    async def call(self, method, stay, *arguments, **body):
        call = Call("test", stay, json.dumps(body).encode())
        return json.loads((await getattr(self.parts.live, method)(call, *arguments)).content)

    def point(self):
        """Has the other model answer."""
        place = self.parts.service.models.champion
        place.current, self.other = self.other, place.current
        place.aside = self.other

    async def assert_fresh(self, stay):
        known, stepper = self.sessions.held(stay).known, self.parts.service.models.first.stepper
        assert known.stepper is stepper
        facts = (await journal_of(self.parts.keeping.store, known.number)).facts
        fresh, join = await stepper.replay(facts), stepper.live.layout.join
        for name in ("committed", "open", "readings", "charted", "end_min", "seen"):
            assert getattr(known.fold, name) == getattr(fresh, name), name
        mine, its = (join([state]) for state in (known.fold.state, fresh.state))
        for name in ("stamp", "since", "statistics", "summary", "static", "network"):
            np.testing.assert_allclose(mine[name], its[name], atol=1e-6)

    async def close(self):
        self.parts.changes.background.close()
        await self.parts.service.inference.drain()


def test_states_after_a_change_of_model_are_fresh_replays_with_notes_history_corrections_and_what_came_meanwhile(pair):
    async def work():
        ward = Ward(pair)
        names = ("plain", "notes", "history", "corrected", "empty")
        for name in names:
            await ward.call("admit", name, **STATIC)
        await ward.call("observe", "plain", observations=[observed(h / 2, 70 + h) for h in range(12)])
        await ward.call("observe", "notes", observations=[observed(1, 80)], notes=[{"time_h": 2, "text": "worse"}])
        await ward.call("observe", "history", observations=[observed(-2, 80), observed(-1, 85)])
        named = [observed(h, 70 + h, observation_id=f"o-{h}") for h in range(6)]
        await ward.call("observe", "corrected", observations=named)
        await ward.call("correct", "corrected", "o-3", value=99)
        await ward.call("withdraw", "corrected", "o-5")
        for _ in range(2):  # there, and back again
            ward.point()
            moving = asyncio.create_task(ward.following.bring(lambda _: True))
            keeping_up = asyncio.create_task(ward.following.keep_up())
            for hour in (7, 8, 2.5):
                await ward.call("observe", "plain", observations=[observed(hour, 90 + hour)])
                await ward.call("observe", "corrected", observations=[observed(hour, 2.0, "lactate", "mmol/L")])
            await ward.call("correct", "corrected", "o-2", value=101)
            await moving
            keeping_up.cancel()
            await ward.following.bring(lambda _: True)
            for name in names:
                await ward.assert_fresh(name)
            answer = await ward.call("observe", "plain", observations=[observed(9, 77)])
            assert answer["model"]["digest"] == ward.parts.service.models.first.digest
        await ward.close()

    asyncio.run(work())
