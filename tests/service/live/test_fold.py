"""Whatever order facts arrive in, a live stay ends where scoring its final facts at once does."""

import asyncio
import json
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.grid import GridKind
from service.audit import NoAudit
from service.batcher import Batcher
from service.errors import Problem
from service.live import fold, refolding
from service.live.calls import LiveStays
from service.live.facts import Observation, Profile, StayFacts
from service.live.memory_store import MemoryStore
from service.live.restoring import journal_of
from service.live.sessions import Sessions
from service.live.settling import Call
from service.live.stepper import Stepper
from service.live.store import StoreError
from service.live.watchers import Watchers
from service.metrics import Metrics
from service.selection import Origin
from service.settings import Settings

UNITS = {"heart_rate": "/min", "sbp": "mm[Hg]", "temperature": "Cel", "lactate": "mmol/L", "bed_angle": "deg"}
minutes = st.one_of(st.integers(-90, 400), st.sampled_from([-1, 0, 1, 59, 60, 61, 120, 180]))
values = st.sampled_from([None, 1.0, 2.5, 36.6, 80.0, 120.0, 9_999.0])


@dataclass(frozen=True)
class Sent:
    """An observation as a test sends it."""

    name: str | None
    channel: str
    minute: int
    known: int
    value: float | None

    def body(self):
        told = {"channel": self.channel, "time_h": self.minute / 60, "value": self.value, "unit": UNITS[self.channel]}
        if self.known > self.minute:
            told["available_time_h"] = self.known / 60
        return told if self.name is None else {**told, "observation_id": self.name}


@st.composite
def histories(draw):
    """Calls on one stay: facts in any order, some of them repeated, corrected or withdrawn."""
    count = draw(st.integers(0, 14))
    facts = []
    for i in range(count):
        minute = draw(minutes)
        known = draw(st.sampled_from([minute, minute, minute + 7, minute + 130]))
        name = draw(st.sampled_from([f"id-{i}", f"id-{i}", None]))
        facts.append(Sent(name, draw(st.sampled_from(sorted(UNITS))), minute, known, draw(values)))
    calls = []
    position = 0
    while position < len(facts):
        size = draw(st.integers(1, 4))
        calls.append(("post", facts[position : position + size]))
        position += size
        if draw(st.booleans()):
            calls.append(("post", draw(st.lists(st.sampled_from(facts[:position]), max_size=3, unique=True))))
        if draw(st.integers(0, 3)) == 0:
            identifier = as_fact(draw(st.sampled_from(facts[:position]))).identifier
            if draw(st.booleans()):
                calls.append(("delete", identifier))
            else:
                calls.append(("patch", identifier, draw(values), draw(minutes)))
    notes = draw(st.lists(st.tuples(minutes, st.sampled_from(["stable", "worse", "安定"])), max_size=3))
    return calls, notes


class Ward:
    """Live stays in memory around one model, with an expectation of their facts made by the plainest means."""

    def __init__(self, scorer, store=None):
        self.inference = Batcher(max_waiting=64)
        self.stepper = Stepper(scorer, Origin(), self.inference)
        self.store = store or MemoryStore()
        limits = Settings(max_steps=2000)
        self.sessions = Sessions(self.store, self.store, lambda _: self.stepper, max_bytes=1 << 30, metrics=Metrics())
        self.live = LiveStays(self.sessions, limits, Metrics(), NoAudit(), Watchers())

    async def call(self, method, *arguments, **body):
        call = Call("test", "stay", json.dumps(body).encode())
        return json.loads((await getattr(self.live, method)(call, *arguments)).content)

    def offline(self, facts):
        """Scores of whole stays as any other caller makes them."""
        return self.stepper.scorer.score(self.stepper.reader.stays(facts))


def expected(calls):
    """The final facts, by replaying the calls on plain dictionaries; and how many every call of observations adds."""
    facts, accepted = StayFacts(Profile(None, {"sex": "female"})), []
    for call in calls:
        if call[0] == "post":
            before = len(facts.first)
            facts.add(as_fact(sent) for sent in call[1])
            accepted.append(len(facts.first) - before)
        elif call[1] in facts.held and call[0] == "delete":
            facts.withdraw(call[1])
        elif call[1] in facts.held:
            before = facts.held[call[1]]
            known = max(call[3], before.known_min) if before.known_min > before.time_min else call[3]
            facts.correct(call[1], before._replace(value=call[2], time_min=call[3], known_min=known))
    return facts, accepted


def as_fact(sent):
    known = max(sent.known, sent.minute)
    return Observation(sent.name, sent.channel, sent.value, UNITS[sent.channel], sent.minute, known)


async def play(ward, calls, notes):
    """Sends the calls, and returns the last answer, and how many observations each was said to add."""
    answer, accepted = await ward.call("admit", static={"sex": "female"}), []
    for call in calls:
        if call[0] == "post":
            answer = await ward.call("observe", observations=[sent.body() for sent in call[1]])
            accepted.append(answer["accepted"]["observations"])
        else:
            journal = await journal_of(ward.store, 1)
            if call[1] not in journal.facts.held:
                continue
            if call[0] == "delete":
                answer = await ward.call("withdraw", call[1])
            else:
                answer = await ward.call("correct", call[1], value=call[2], time_h=call[3] / 60)
    for minute, text in notes:
        answer = await ward.call("observe", notes=[{"time_h": minute / 60, "text": text}])
    return answer, accepted


@pytest.mark.parametrize(("every", "worth"), [(64, 4), (2, 0)], ids=["as served", "states kept often"])
@pytest.mark.parametrize("grid", ["event", "hourly"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories())
def test_any_order_repetition_correction_or_withdrawal_ends_where_the_final_facts_do(
    scorers, grid, every, worth, monkeypatch, history
):
    monkeypatch.setattr(fold, "KEPT_EVERY", every)
    monkeypatch.setattr(refolding, "WORTH", worth)
    calls, notes = history
    ward = Ward(scorers[grid])

    async def run():
        return *await play(ward, calls, notes), (await journal_of(ward.store, 1)).facts

    answer, accepted, facts = asyncio.run(run())
    plain, added = expected(calls)
    assert accepted == added
    assert {f for f in facts.held.values() if isinstance(f, Observation)} == set(plain.observations)
    scored = ward.offline(facts)
    assert answer["as_of_h"] == scored.time_min[-1] / 60
    assert answer["steps"] == len(scored.time_min)
    np.testing.assert_allclose([r["risk"] for r in answer["risks"]], scored.risk[-1], rtol=0, atol=1e-6)
    folded = ward.sessions.session("stay").known.fold
    again = asyncio.run(ward.stepper.replay(facts))
    assert replace(folded, state=b"", opened=None, kept=()) == replace(again, state=b"", opened=None)
    assert_same_state(ward, folded.state, again.state)
    ward.inference.close()


def assert_same_state(ward, first, second):
    one, other = ward.stepper.live.layout.join([first]), ward.stepper.live.layout.join([second])
    for name in one.dtype.names:
        if name == "key":
            assert bytes(one[name]) == bytes(other[name])
        else:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-9 if one[name].dtype == "f8" else 0, atol=1e-5)


def test_the_grids_are_the_two_kinds(scorers):
    assert {s.bundle.encoding.grid.kind for s in scorers.values()} == set(GridKind)


def test_what_is_said_late_costs_the_steps_since_a_kept_state_and_no_journal(scorers, monkeypatch):
    ward, steps, read = Ward(scorers["hourly"]), [], []
    run, entries = ward.stepper.run, ward.store.entries

    async def counted(state, taken):
        steps.append(len(taken))
        return await run(state, taken)

    async def noted(number, *, after=0):
        read.append(number)
        return await entries(number, after=after)

    def observed(hour, value):
        return {"channel": "heart_rate", "time_h": hour, "value": value, "unit": "/min"}

    async def play():
        await ward.call("admit", static={"sex": "female"})
        await ward.call("observe", observations=[observed(hour + 0.5, 70 + hour % 50) for hour in range(400)])
        monkeypatch.setattr(ward.stepper, "run", counted)
        monkeypatch.setattr(ward.store, "entries", noted)
        answers = []
        for hour in (399.25, 390.25, 330.25, 399.1):
            steps.clear()
            answer = await ward.call("observe", observations=[observed(hour, 111)])
            answers.append((sum(steps), answer["replayed_from_h"], answer["risk"]))
        monkeypatch.undo()
        journal = await journal_of(ward.store, 1)
        return answers, journal.facts

    answers, facts = asyncio.run(play())
    assert [round(replayed or 0, 2) for _, replayed, _ in answers] == [0, 390.25, 330.25, 0]
    assert max(taken for taken, _, _ in answers) <= 400 - 320 + 1
    assert not read
    assert answers[-1][2] == pytest.approx(float(ward.offline(facts).risk[-1, 0]), abs=1e-6)
    known = ward.sessions.session("stay").known
    assert [kept.committed for kept in known.fold.kept][-1] % fold.KEPT_EVERY == 0
    assert known.size > ward.stepper.state_bytes * (1 + len(known.fold.kept))
    ward.inference.close()


@given(st.integers(1, 200))
def test_so_many_states_are_kept_at_most_and_the_nearer_the_closer(count):
    kept = ()
    for number in range(1, count + 1):
        committed = fold.KEPT_EVERY * number
        kept = fold.thinned((*kept, fold.Kept(committed, committed, b"")))
    assert len(kept) == min(count, fold.MOST_KEPT)
    ago = [kept[-1].committed - one.committed for one in kept]
    assert ago == sorted(ago, reverse=True)
    assert all(far <= 6 * near for far, near in pairwise(ago[:-1]))


class Unsure(MemoryStore):
    """A store whose connection is lost once, after it has kept what it was given."""

    lost = False

    async def append(self, *arguments, **options):
        await super().append(*arguments, **options)
        if not self.lost:
            self.lost = True
            raise StoreError("connection must last, got an end; start the store")


def test_what_a_store_kept_without_saying_so_is_known_to_the_next_call(scorers):
    ward = Ward(scorers["event"], Unsure())
    sent = [Sent(name, "sbp", 60, 60, 120.0).body() for name in ("a", None)]

    async def run():
        await ward.call("admit")
        with pytest.raises(Problem) as refused:
            await ward.call("observe", observations=sent)
        return refused.value.status_code, await ward.call("observe", observations=sent)

    status, answer = asyncio.run(run())
    assert status == 503
    assert answer["revision"] == 3
    assert answer["accepted"]["observations"] == 0
    assert answer["as_of_h"] == 1
    ward.inference.close()
