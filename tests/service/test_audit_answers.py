"""From records of the audit back to the answers that they tell of, and what deletion leaves of them."""

import json
import os
import sqlite3
import threading
import time

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.audit import AuditLog, StaySeal
from service.audit_chain import files_of, verify
from service.live import upkeep
from service.live.journal import Journal
from service.live.store import Entry
from service.settings import Settings

STAY = "/v1/stays/TARO-YAMADA"
VALUE = 73.7310911


def observed(time_h, value, name=None):
    item = {"channel": "heart_rate", "time_h": time_h, "value": value, "unit": "/min"}
    return item if name is None else {**item, "observation_id": name}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "stays.sqlite3"


@pytest.fixture
def audited(scorer, folder, store):
    settings = Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}")
    with TestClient(create_app(settings, scorer, audit=AuditLog(folder))) as client:
        yield client


def chart(client):
    """A stay with all that can happen to one: late values, a correction, a withdrawal, a note, another admission."""
    calls = [
        ("PUT", STAY, {"static": {"age": {"value": 63, "unit": "a"}}}),
        ("POST", f"{STAY}/observations", {"observations": [observed(1, VALUE, "a"), observed(2, 120)]}),
        ("POST", f"{STAY}/observations", {"observations": [observed(6, 99, "b")], "as_of_h": 9}),
        ("POST", f"{STAY}/observations", {"observations": [observed(0.5, 140)]}),
        ("POST", f"{STAY}/observations", {"notes": [{"time_h": 7, "text": "Resting comfortably."}]}),
        ("PATCH", f"{STAY}/observations/a", {"value": 160}),
        ("DELETE", f"{STAY}/observations/b", None),
    ]
    answers = [client.request(method, path, json=body) for method, path, body in calls]
    assert [a.text for a in answers if a.status_code >= 300] == []
    return [a.json() for a in answers]


def records(folder):
    return [json.loads(line) for path in files_of(folder) for line in path.read_bytes().splitlines()]


def kept(store):
    """The seal of every stay in the store, and its entries."""
    with sqlite3.connect(store) as connection:
        stays = connection.execute("SELECT number, stay_id, secret FROM stays").fetchall()
        return [
            (StaySeal(stay_id, secret), [Entry(*row) for row in connection.execute(ENTRIES, [number])])
            for number, stay_id, secret in stays
        ]


ENTRIES = "SELECT version, at_s, payload FROM entries WHERE stay = ? ORDER BY version"


def body_of(facts, as_of_min):
    """Facts as the body of a stateless score."""
    timed = [
        (fact, {"time_h": fact.time_min / 60, "available_time_h": fact.known_min / 60}) for fact in facts.held.values()
    ]
    return {
        "static": facts.profile.static,
        "as_of_h": as_of_min / 60,
        "observations": [
            {"channel": f.channel, "value": f.value, "unit": f.unit, **at} for f, at in timed if hasattr(f, "channel")
        ],
        "notes": [{"kind": f.kind, "text": f.text, **at} for f, at in timed if hasattr(f, "text")],
    }


def test_every_past_answer_is_computed_again_from_its_record(audited, folder, store, scorer):
    answers = {a["prediction_id"]: a for a in chart(audited)}
    ((seal, entries),) = kept(store)
    of_the_stay = [r for r in records(folder) if r.get("stay") == seal.stay]
    assert [r["revision"] for r in of_the_stay] == list(range(1, 8))
    for record in of_the_stay:
        assert record["digest"] == scorer.digest
        then = entries[: record["revision"]]
        assert record["change"] == seal.change(then[-1].payload)
        journal = Journal().read(then)
        again = audited.post("/v1/score", json=body_of(journal.facts, record["as_of_min"])).json()
        assert again["risk"] == pytest.approx(answers[record["prediction_id"]]["risk"], abs=1e-6)
        assert record["answer"] == seal.answer(journal.answered[-1].values)
    assert len({a["risk"] for a in answers.values()}) > 4


def test_facts_that_were_changed_in_the_store_no_longer_match_their_record(audited, folder, store):
    chart(audited)
    ((seal, entries),) = kept(store)
    record = next(r for r in records(folder) if r.get("revision") == 2)
    forged = entries[1].payload.replace(str(VALUE).encode(), b"74.7310911")
    assert forged != entries[1].payload
    assert record["change"] == seal.change(entries[1].payload) != seal.change(forged)


def test_after_a_deletion_nothing_ties_the_records_to_the_stay_and_the_chain_verifies(audited, folder, store):
    chart(audited)
    ((seal, _),) = kept(store)
    assert audited.delete(STAY).status_code in (200, 204)
    assert kept(store) == []
    audited.put(STAY, json={})
    ((renewed, _),) = kept(store)
    found = records(folder)
    assert [r["event"] for r in found if r.get("stay") == seal.stay][-1] == "deleted"
    assert [r["event"] for r in found if r.get("stay") == renewed.stay] == ["admitted"]
    assert verify(folder).fault == ""
    assert [p.name for p in store.parent.glob("stays*") if seal.secret in p.read_bytes()] == []


def test_no_record_holds_a_value_a_text_or_an_identifier_of_a_patient(audited, folder):
    chart(audited)
    text = "".join(path.read_text() for path in files_of(folder))
    assert [word for word in ("TARO", "YAMADA", "7310911", "Resting", "heart_rate", '"risk') if word in text] == []


def test_without_a_record_there_is_no_answer(audited, monkeypatch):
    chart(audited)

    def full(descriptor, line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert audited.post("/v1/score", json={}).status_code == 503
    monkeypatch.undo()
    assert audited.post("/v1/score", json={}).status_code == 200


def test_an_answer_that_is_told_again_has_a_record_of_its_own(audited, folder, store, monkeypatch):
    audited.put(STAY, json={})
    call = {"json": {"observations": [observed(1, VALUE)]}, "headers": {"Idempotency-Key": "k"}}

    def full(descriptor, line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert audited.post(f"{STAY}/observations", **call).status_code == 503
    for again in (audited.post(f"{STAY}/observations", **call), audited.get(STAY)):
        assert again.status_code == 503
        assert "values" not in again.text
    monkeypatch.undo()
    answer = audited.post(f"{STAY}/observations", **call)
    assert answer.headers["Idempotency-Replayed"] == "true"
    view = audited.get(STAY).json()
    ((seal, entries),) = kept(store)
    *_, repeated, viewed = records(folder)
    assert (repeated["event"], repeated["prediction_id"]) == ("repeated", answer.json()["prediction_id"])
    assert repeated["change"] == seal.change(entries[1].payload)
    assert repeated["answer"] == seal.answer([answer.json()["risk"]])
    assert (viewed["event"], viewed["revision"], viewed["digest"]) == ("viewed", 2, view["model"]["digest"])
    assert viewed["answer"] == seal.answer([value for point in view["current"] for value in point["values"]])


def test_a_deletion_that_cannot_be_recorded_does_not_happen(audited, folder, store, monkeypatch):
    chart(audited)

    def full(descriptor, line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert audited.delete(STAY).status_code == 503
    monkeypatch.undo()
    assert len(kept(store)) == 1
    assert audited.delete(STAY).status_code == 204
    assert records(folder)[-1]["event"] == "deleted"


def test_stays_that_expire_while_the_audit_fails_are_recorded_when_it_works_again(scorer, folder, store, monkeypatch):
    monkeypatch.setattr(upkeep, "SWEEP_S", 0.02)
    settings = Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}", retention_h=0.1 / 3600)
    with TestClient(create_app(settings, scorer, audit=AuditLog(folder))) as client:
        written, failing = os.write, threading.Event()

        def write(descriptor, line):
            if failing.is_set():
                raise OSError(28, "No space left on device")
            return written(descriptor, line)

        client.put(STAY, json={})
        failing.set()
        monkeypatch.setattr(os, "write", write)
        wait_until(lambda: kept(store) == [])
        failing.clear()
        wait_until(lambda: records(folder)[-1]["event"] == "expired")
        client.put(STAY, json={})
        wait_until(lambda: kept(store) == [])
    expired = [r["counts"]["stays"] for r in records(folder) if r["event"] == "expired"]
    assert sum(expired) == 2


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_figures_say_how_many_records_there_are(audited, folder):
    chart(audited)
    assert f"sequela_audit_records {len(records(folder))}.0" in audited.get("/metrics").text
