"""`sequela audit recompute` over what a service left behind, and over what was changed since."""

import json
import sqlite3

import pytest
from fastapi.testclient import TestClient

from models.artifact import load_artifact
from models.encoding import EncodingConfig
from models.grid import GridKind
from service import commands
from service.app import create_app
from service.audit import AuditLog
from service.audit_chain import files_of
from service.settings import Settings

STAY, OTHER = "/v1/stays/TARO-YAMADA", "/v1/stays/other"
VALUE = 73.7310911


def observed(time_h, value, **more):
    return {"channel": "heart_rate", "time_h": time_h, "value": value, "unit": "/min", **more}


def chart(client):
    """A stay with late values, a correction, a withdrawal, notes and repeats; one that is deleted; and whole stays."""
    told = {"json": {"observations": [observed(9, 97)]}, "headers": {"Idempotency-Key": "k"}}
    calls = [
        ("PUT", STAY, {"json": {"static": {"age": {"value": 63, "unit": "a"}}}}),
        ("POST", f"{STAY}/observations", {"json": {"observations": [observed(1, VALUE, observation_id="a")]}}),
        ("POST", f"{STAY}/observations", {"json": {"observations": [observed(6.2, 99)], "as_of_h": 9}}),
        ("POST", f"{STAY}/observations", {"json": {"observations": [observed(0.5, 140), observed(-3, 88)]}}),
        ("POST", f"{STAY}/observations", {"json": {"notes": [{"time_h": 7, "text": "Resting comfortably."}]}}),
        ("POST", f"{STAY}/observations", told),
        ("POST", f"{STAY}/observations", told),
        ("PATCH", f"{STAY}/observations/a", {"json": {"value": 160}}),
        ("DELETE", f"{STAY}/observations/a", {}),
        ("GET", STAY, {}),
        ("PUT", OTHER, {"json": {}}),
        ("DELETE", OTHER, {}),
        ("POST", "/v1/score", {"json": {"observations": [observed(1, 80)]}}),
    ]
    answers = [client.request(method, path, **more) for method, path, more in calls]
    assert [a.text for a in answers if a.status_code >= 300] == []


@pytest.fixture(params=[GridKind.EVENT, GridKind.FIXED], ids=["event", "fixed"])
def model(request, make_artifact, tmp_path):
    return make_artifact(tmp_path / "model", encoding=EncodingConfig(grid=request.param), reads_notes=True)


@pytest.fixture
def left_behind(model, tmp_path, monkeypatch):
    """What a service with this model left behind: its store and its audit, named as to the service."""
    store = tmp_path / "stays.sqlite3"
    for name, value in {
        "SEQUELA_STORE": f"sqlite:///{store}",
        "SEQUELA_AUDIT": str(tmp_path / "audit"),
        "SEQUELA_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SEQUELA_MODEL", str(model))
    settings = Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}")
    with TestClient(create_app(settings, load_artifact(model), audit=AuditLog(tmp_path / "audit"))) as client:
        chart(client)
    return store


def recompute(capsys, *more):
    status = commands.main(["audit", "recompute", "--json", *more])
    said = capsys.readouterr()
    return status, json.loads(said.out.splitlines()[-1]), said.out + said.err


def test_every_answer_of_a_retained_stay_comes_out_the_same(left_behind, capsys):
    status, found, said = recompute(capsys)
    assert (status, found["holds"], found["faults"]) == (0, True, [])
    assert (found["stays"], found["answers"]) == (1, 9)
    assert (found["gone"], found["viewed"], found["whole"]) == (1, 1, 1)
    assert found["worst"] <= 1e-6
    assert [word for word in ("TARO", "heart_rate", "Resting", "7310911") if word in said] == []


def test_what_was_changed_in_the_store_is_told_by_the_number_of_its_record(left_behind, capsys, tmp_path):
    with sqlite3.connect(left_behind) as connection:
        ((number, payload),) = connection.execute("SELECT stay, payload FROM entries WHERE version = 2").fetchall()
        forged = payload.replace(str(VALUE).encode(), b"74.7310911")
        connection.execute("UPDATE entries SET payload = ? WHERE stay = ? AND version = 2", [forged, number])
    status, found, _ = recompute(capsys)
    records = [json.loads(line) for path in files_of(tmp_path / "audit") for line in path.read_bytes().splitlines()]
    (told,) = [r["seq"] for r in records if r.get("revision") == 2]
    assert status == 1
    assert any(fault.startswith(f"record {told}: what the store holds") for fault in found["faults"])


def test_entries_that_the_store_lost_are_told(left_behind, capsys):
    with sqlite3.connect(left_behind) as connection:
        connection.execute("DELETE FROM entries WHERE version = 8")
    status, found, _ = recompute(capsys)
    assert status == 1
    assert [fault.partition(": ")[2] for fault in found["faults"]] == [
        "its stay must have revision 8 in the store, got 7"
    ]


def test_a_model_that_is_not_at_hand_can_be_named(left_behind, model, capsys, monkeypatch):
    monkeypatch.setenv("SEQUELA_MODEL", "models:/other@champion")
    status, found, _ = recompute(capsys)
    assert (status, found["answers"], list(found["missing"].values())) == (1, 0, [9])
    status, found, _ = recompute(capsys, "--model", str(model))
    assert (status, found["answers"], found["missing"]) == (0, 9, {})


def test_a_store_that_ended_with_the_service_and_a_broken_chain_are_refused(left_behind, capsys, monkeypatch, tmp_path):
    (path,) = files_of(tmp_path / "audit")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"observed"', b'"admitted"', 1))
    assert commands.main(["audit", "recompute"]) == 1
    assert "must be whole" in capsys.readouterr().err
    path.write_bytes(whole)
    monkeypatch.setenv("SEQUELA_STORE", "memory:")
    assert commands.main(["audit", "recompute"]) == 1
    assert "must outlive the service" in capsys.readouterr().err


def test_it_says_in_words_what_it_found(left_behind, capsys):
    assert commands.main(["audit", "recompute"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("9 answers of 1 retained stays computed again: largest difference")
    assert second.startswith(
        "not comparable: 1 answers of stays that are deleted, 1 stays as they were shown, 1 scores"
    )
