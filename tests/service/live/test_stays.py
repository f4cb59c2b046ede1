"""Live stays over HTTP: what calls are answered, repeated, refused, and what is left when a stay is deleted."""

import json
import sqlite3
import threading
import time

import httpx
import pytest
from fastapi.testclient import TestClient

from models.artifact import load_artifact
from models.disclaimer import DISCLAIMER_JA
from models.record import from_plain
from models.task import TaskSpec
from service.app import create_app
from service.live import restoring, upkeep
from service.live.answers import LiveBinaryAnswer, LiveMulticlassAnswer, LiveRegressionAnswer, StayPage, StayView
from service.live.store import STORE_SCHEMA
from service.settings import Settings

STAY, OBSERVATIONS = "/v1/stays/ward-7", "/v1/stays/ward-7/observations"


def observed(time_h, value=90.0, name=None, channel="heart_rate", unit="/min"):
    item = {"channel": channel, "time_h": time_h, "value": value, "unit": unit}
    return item if name is None else {**item, "observation_id": name}


@pytest.fixture
def store(tmp_path):
    return tmp_path / "stays.sqlite3"


@pytest.fixture
def live(scorer, store):
    with TestClient(create_app(Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}"), scorer)) as client:
        assert client.put(STAY, json={"static": {"age": {"value": 63, "unit": "a"}}}).status_code == 201
        yield client


def post(client, *items, **options):
    answer = client.post(OBSERVATIONS, json={"observations": list(items), **options})
    assert answer.status_code == 200, answer.text
    return answer.json()


def held(store):
    with sqlite3.connect(store) as connection:
        tables = ("stays", "entries", "states", "kept")
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def test_an_answer_is_what_its_type_and_the_whole_stay_s_score_say(live):
    post(live, observed(1, 80))
    answer = post(live, observed(2, 120), observed(2, 400), observed(2, 20, channel="glucose", unit="mmol/L"))
    checked = LiveBinaryAnswer.model_validate(answer)
    assert set(answer) == set(LiveBinaryAnswer.model_fields)
    assert checked.revision == 3
    assert checked.accepted.observations == 3
    assert [(r.index, r.reason) for r in checked.rejected] == [(1, "outside_hard_limits")]
    assert checked.unused == ["glucose"]
    assert checked.never_observed == ["sbp", "temperature", "lactate"]
    whole = {"observations": [observed(1, 80), observed(2, 120)], "static": {"age": {"value": 63, "unit": "a"}}}
    offline = live.post("/v1/score", json=whole).json()
    assert checked.risk == pytest.approx(offline["risk"], abs=1e-6)
    assert checked.steps == offline["steps"]
    for name in ("outcome", "description", "as_of_h", "disclaimer", "disclaimer_ja", "kind"):
        assert answer[name] == offline[name]


@pytest.mark.parametrize(
    ("task", "answer_type"),
    [
        ({"kind": "multiclass", "outcome": "place", "classes": ("home", "ward", "unit")}, LiveMulticlassAnswer),
        ({"kind": "regression", "outcome": "days", "unit": "d"}, LiveRegressionAnswer),
        ({"kind": "binary", "outcome": "sepsis", "scope": "step", "horizons_h": (6.0, 12.0)}, LiveBinaryAnswer),
    ],
)
def test_every_kind_of_task_is_worded_as_whole_stays_are(make_artifact, tmp_path, task, answer_type):
    loaded = load_artifact(make_artifact(tmp_path / "m", task=from_plain(TaskSpec, task, where="task"), members=2))
    with TestClient(create_app(Settings(trusted_hosts=("testserver",)), loaded)) as client:
        client.put(STAY, json={})
        first = post(client, observed(1, 80), trajectory=True)
        second = post(client, observed(2, 150))
        offline = client.post("/v1/score", json={"observations": [observed(1, 80)], "trajectory": True}).json()
    answer_type.model_validate(first)
    assert first["change"] is not None
    assert second["change"] != first["change"]
    for name in ("risk", "risks", "classes", "value", "trajectory"):
        if name in offline:
            assert numbers(first[name]) == pytest.approx(numbers(offline[name]), abs=1e-6)


def numbers(value):
    """All numbers in a JSON value, in order."""
    if isinstance(value, dict):
        return [n for part in value.values() for n in numbers(part)]
    if isinstance(value, list):
        return [n for part in value for n in numbers(part)]
    return [value] if isinstance(value, int | float) else []


def test_a_change_is_the_difference_to_the_answer_before(live):
    first, second = post(live, observed(1, 80)), post(live, observed(2, 150))
    assert second["change"] == pytest.approx(second["risk"] - first["risk"])


def test_what_is_said_late_is_scored_from_its_time_and_the_answer_says_so(live):
    post(live, observed(1, 80), observed(5, 90))
    late = post(live, observed(3, 140), trajectory=True)
    assert late["replayed_from_h"] == 3
    assert [point["time_h"] for point in late["trajectory"]] == [0, 1, 3, 5]
    assert post(live, observed(6, 90))["replayed_from_h"] is None


@pytest.mark.parametrize("few", [0, restoring.FEW], ids=["beside the event loop", "in it"])
def test_a_view_keeps_what_was_answered_beside_what_is_now_known(live, few, monkeypatch):
    monkeypatch.setattr(restoring, "FEW", few)
    risks = [post(live, observed(hour, 80 + hour, name=f"o{hour}"))["risk"] for hour in (1, 2, 3)]
    live.patch(f"{OBSERVATIONS}/o2", json={"value": 30, "unit": "/min"})
    view = StayView.model_validate(live.get(STAY).json())
    assert [point.values[0] for point in view.answered[1:4]] == risks
    assert [point.revision for point in view.answered] == [1, 2, 3, 4, 5]
    facts = [observed(1, 81), observed(2, 30), observed(3, 83)]
    whole = {"observations": facts, "static": {"age": {"value": 63, "unit": "a"}}, "trajectory": True}
    offline = live.post("/v1/score", json=whole).json()["trajectory"]
    assert [p.values[0] for p in view.current] == pytest.approx([p["risk"] for p in offline], abs=1e-6)
    assert [(o.channel, o.value, o.time_h, o.observation_id) for o in view.last] == [("heart_rate", 83, 3, "o3")]


def test_the_same_observation_twice_counts_once_with_or_without_an_identifier(live):
    once = post(live, observed(1, 80, name="a"), observed(1, 36.6, channel="temperature", unit="Cel"))
    again = post(live, observed(1, 80, name="a"), observed(1, 36.6, channel="temperature", unit="Cel"))
    assert again["accepted"]["observations"] == 0
    assert [r["reason"] for r in again["rejected"]] == ["duplicate", "duplicate"]
    assert again["risk"] == once["risk"]
    assert live.get(STAY).json()["observations"] == 2


@pytest.mark.parametrize("item", [
    {"channel": "heart_rate", "value": 9_000.0, "unit": "/min"},
    {"channel": "bed_angle", "value": 30.0, "unit": "deg"},
    {"channel": "heart_rate", "value": None, "unit": "/min"},
], ids=["rejected", "not read", "missing"])  # fmt: skip
@pytest.mark.parametrize("name", [{}, {"observation_id": "a"}], ids=["nameless", "named"])
def test_what_does_not_count_is_told_from_its_repetition_too(live, item, name):
    item = {**item, "time_h": 1, **name}
    post(live, item)
    again = post(live, item, observed(2))
    assert again["accepted"]["observations"] == 1
    assert [(r["index"], r["reason"]) for r in again["rejected"]] == [(0, "duplicate")]
    assert live.get(STAY).json()["observations"] == 2


def test_a_note_that_no_model_reads_is_told_from_its_repetition(make_artifact, tmp_path):
    deaf = load_artifact(make_artifact(tmp_path / "deaf"))
    with TestClient(create_app(Settings(trusted_hosts=("testserver",)), deaf)) as client:
        client.put(STAY, json={})
        note = {"text": "stable", "time_h": 1}
        assert post(client, notes=[note])["accepted"]["notes"] == 1
        again = post(client, notes=[note])
        assert again["accepted"]["notes"] == 0
        assert [r["reason"] for r in again["rejected"]] == ["duplicate"]


def test_a_copy_of_what_was_corrected_or_withdrawn_a_moment_ago_counts_no_more(live, scorer, store):
    identifiers = post(live, observed(1, 80), observed(1, 120, channel="sbp", unit="mm[Hg]"), identifiers=True)
    corrected, withdrawn = identifiers["identifiers"]
    live.patch(f"{OBSERVATIONS}/{corrected}", json={"value": 150})
    known = live.delete(f"{OBSERVATIONS}/{withdrawn}").json()["risk"]
    again = post(live, observed(1, 80), observed(1, 120, channel="sbp", unit="mm[Hg]"))
    assert again["accepted"]["observations"] == 0
    assert again["risk"] == known
    assert live.get(STAY).json()["current"][-1]["values"][0] == pytest.approx(known, abs=1e-6)
    with TestClient(create_app(Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}"), scorer)) as another:
        assert post(another)["risk"] == pytest.approx(known, abs=1e-6)


def test_what_was_corrected_goes_by_the_identifier_that_it_was_given(live):
    (identifier,) = post(live, observed(1, 80), identifiers=True)["identifiers"]
    assert live.patch(f"{OBSERVATIONS}/{identifier}", json={"value": 90}).status_code == 200
    (last,) = live.get(STAY).json()["last"]
    assert (last["observation_id"], last["value"]) == (identifier, 90)
    assert live.patch(f"{OBSERVATIONS}/{last['observation_id']}", json={"value": 95}).status_code == 200


def test_one_identifier_for_two_facts_is_refused_and_nothing_is_kept(live):
    post(live, observed(1, 80, name="a"))
    refused = live.post(OBSERVATIONS, json={"observations": [observed(2, 80, name="b"), observed(3, 80, name="a")]})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["loc"] == ["observations", 1, "observation_id"]
    both = live.post(OBSERVATIONS, json={"observations": [observed(2, 80, name="c"), observed(3, 80, name="c")]})
    assert both.status_code == 422
    assert live.get(STAY).json()["observations"] == 1


def test_what_was_withdrawn_stays_so_when_a_copy_of_it_arrives(live):
    before = post(live, observed(1, 80))["risk"]
    identifier = post(live, observed(2, 150), identifiers=True)["identifiers"][0]
    withdrawn = live.delete(f"{OBSERVATIONS}/{identifier}")
    assert withdrawn.status_code == 200
    assert withdrawn.json()["replayed_from_h"] == 2
    assert withdrawn.json()["risk"] == pytest.approx(before, abs=1e-6)
    again = post(live, observed(1, 80), observed(2, 150))
    assert again["accepted"]["observations"] == 0
    assert again["risk"] == pytest.approx(before, abs=1e-6)
    assert live.delete(f"{OBSERVATIONS}/{identifier}").status_code == 404


def test_a_correction_takes_no_field_of_the_other_kind_and_no_time_that_has_not_come(live):
    post(live, observed(1, 80, name="a/b"), notes=[{"time_h": 1, "text": "stable", "observation_id": "n"}])
    assert live.patch(f"{OBSERVATIONS}/a/b", json={"value": 81}).status_code == 200
    assert live.patch(f"{OBSERVATIONS}/a/b", json={"text": "no"}).status_code == 422
    assert live.patch(f"{OBSERVATIONS}/a/b", json={}).status_code == 422
    assert live.patch(f"{OBSERVATIONS}/a/b", json={"unit": "kg"}).status_code == 422
    assert live.patch(f"{OBSERVATIONS}/n", json={"text": "worse", "time_h": 2}).status_code == 200
    assert live.patch(f"{OBSERVATIONS}/n", json={"value": 1}).status_code == 422
    assert live.get(STAY).json()["as_of_h"] == 2


def test_a_score_may_be_asked_for_later_than_the_last_input_but_not_earlier(live):
    later = post(live, observed(1, 80), as_of_h=4)
    assert later["as_of_h"] == 4
    assert later["steps"] == 3
    assert live.post(OBSERVATIONS, json={"as_of_h": 0.5}).status_code == 422
    assert post(live)["as_of_h"] == 1


def test_a_correction_of_the_time_alone_leaves_when_it_became_known(live):
    late = {**observed(1, 80, name="a"), "available_time_h": 5}
    post(live, late, {"channel": "sbp", "time_h": 1, "value": 120, "unit": "mm[Hg]", "observation_id": "b"})
    assert live.patch(f"{OBSERVATIONS}/a", json={"time_h": 2}).json()["as_of_h"] == 5
    assert live.patch(f"{OBSERVATIONS}/a", json={"time_h": 6}).json()["as_of_h"] == 6
    assert live.patch(f"{OBSERVATIONS}/a", json={"time_h": 2, "available_time_h": None}).json()["as_of_h"] == 2
    assert live.patch(f"{OBSERVATIONS}/b", json={"time_h": 3}).json()["as_of_h"] == 3


def test_static_values_that_do_not_count_are_named_as_in_a_whole_stay_s_answer(live):
    static = {"age": {"value": 1e6, "unit": "a"}, "sex": None, "admission_weight": {"value": 70, "unit": "kg"}}
    stated = live.put(STAY, json={"static": static}).json()
    whole = live.post("/v1/score", json={"observations": [], "static": static}).json()
    assert stated["rejected"] == whole["rejected"]
    assert {(r["name"], r["reason"]) for r in stated["rejected"]} == {
        ("age", "outside_hard_limits"),
        ("sex", "missing"),
    }
    assert stated["unused"] == whole["unused"] == ["admission_weight"]


def test_absolute_times_need_an_admission_that_then_stays(live):
    item = {"channel": "heart_rate", "time": "2026-01-31T08:30:00+09:00", "value": 80, "unit": "/min"}
    assert live.post(OBSERVATIONS, json={"observations": [item]}).status_code == 422
    assert live.put(STAY, json={"admission": "2026-01-31T08:00:00+09:00"}).status_code == 200
    assert post(live, item)["as_of_h"] == 0.5
    assert live.put(STAY, json={"admission": "2026-01-30T23:00:00Z"}).status_code == 200
    assert live.put(STAY, json={"admission": "2026-01-31T07:00:00+09:00"}).status_code == 409
    future = {**item, "time": "2199-01-31T08:30:00+09:00"}
    assert live.post(OBSERVATIONS, json={"observations": [future]}).status_code == 422
    impossible = {**item, "time": "2026-02-31T08:30:00+09:00"}
    assert live.post(OBSERVATIONS, json={"observations": [impossible]}).status_code == 422


def test_static_values_may_be_stated_anew_and_the_stay_is_scored_with_them(live):
    post(live, observed(1, 80))
    answer = live.put(STAY, json={"static": {"age": {"value": 30, "unit": "a"}, "sex": "male"}})
    whole = {"observations": [observed(1, 80)], "static": {"age": {"value": 30, "unit": "a"}, "sex": "male"}}
    assert answer.json()["risk"] == pytest.approx(live.post("/v1/score", json=whole).json()["risk"], abs=1e-6)
    assert answer.json()["replayed_from_h"] == 1


@pytest.mark.parametrize(
    "body",
    [
        '{"observations":[{"channel":"heart_rate","time_h":1,"value":NaN,"unit":"/min"}]}',
        '{"observations":[{"channel":"heart_rate","time_h":1,"value":"80","unit":"/min"}]}',
        '{"observations":[{"channel":"heart_rate","time_h":1,"value":true,"unit":"/min"}]}',
        '{"observations":[{"channel":"heart_rate","time_h":1,"value":80,"unit":"/min","note":"x"}]}',
        '{"observations":[{"channel":"heart_rate","time_h":1,"value":80,"value":81,"unit":"/min"}]}',
        '{"observations":[{"channel":"heart_rate","value":80,"unit":"/min"}]}',
        '{"observations":[{"channel":"heart_rate","time_h":1,"time":"2026-01-31T08:00:00Z","value":8,"unit":"/min"}]}',
        '{"observations":[{"channel":"MARKED","time_h":1,"value":80,"unit":"/min"}]}',
        '{"observations":[{"channel":"heart_rate","time_h":1,"value":80,"unit":"MARKED"}]}',
        '{"observations":[{"channel":"heart_rate","time_h":1e7,"value":80,"unit":"/min"}]}',
        '{"observations":[{"channel":"heart_rate","time_h":1,"value":8,"unit":"/min","observation_id":"content:1"}]}',
        '{"notes":[{"time_h":1,"text":""}]}',
        '{"MARKED":1}',
        "[" * 100_000,
        "",
    ],
)
def test_what_is_not_strictly_an_observation_is_refused_without_repeating_it(live, body):
    answer = live.post(OBSERVATIONS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "MARKED" not in answer.text
    assert live.get(STAY).json()["revision"] == 1


def test_a_stay_that_there_is_not_is_not_made_by_an_observation(live):
    assert live.post("/v1/stays/other/observations", json={}).status_code == 404
    assert live.patch("/v1/stays/other/observations/a", json={"value": 1}).status_code == 404
    assert live.delete("/v1/stays/other").status_code == 404
    assert live.get("/v1/stays/other/events").status_code == 404
    assert live.get("/v1/stays/" + "x" * 201).status_code == 404
    assert [s["stay_id"] for s in live.get("/v1/stays").json()["stays"]] == ["ward-7"]


def test_a_repeated_key_gives_the_first_answer_and_changes_nothing(live):
    key = {"Idempotency-Key": "k1"}
    first = live.post(OBSERVATIONS, json={"observations": [observed(1, 80)]}, headers=key)
    post(live, observed(2, 120))
    again = live.post(OBSERVATIONS, json={"observations": [observed(1, 80)]}, headers=key)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert live.post(OBSERVATIONS, json={"observations": [observed(1, 81)]}, headers=key).status_code == 422
    assert live.get(STAY).json()["revision"] == 3
    # The key is another one on another stay and on another route.
    assert live.put("/v1/stays/b", json={}, headers=key).status_code == 201
    assert live.put("/v1/stays/b", json={}, headers=key).status_code == 201
    assert (
        live.post("/v1/stays/b/observations", json={"observations": [observed(1, 81)]}, headers=key).status_code == 200
    )


def test_a_key_of_yesterday_is_a_new_one(live, store):
    key = {"Idempotency-Key": "k1"}
    live.post(OBSERVATIONS, json={"observations": [observed(1, 80)]}, headers=key)
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE kept SET at_s = at_s - 86401")
    other = live.post(OBSERVATIONS, json={"observations": [observed(2, 81)]}, headers=key)
    assert other.status_code == 200
    assert other.json()["revision"] == 3


def test_a_call_that_still_runs_refuses_another_with_its_key(live):
    answers = []
    barrier = threading.Barrier(6)

    def call():
        barrier.wait()
        body = {"observations": [observed(h / 60, 80) for h in range(400)], "trajectory": True}
        answers.append(live.post(OBSERVATIONS, json=body, headers={"Idempotency-Key": "k"}).status_code)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 409}
    assert answers.count(200) >= 1
    assert live.get(STAY).json()["revision"] == 2


def test_deletion_leaves_nothing_of_a_stay_in_the_store(live, store):
    post(live, observed(1, 80, name="MARKEDNAME"), notes=[{"time_h": 1, "text": "MARKEDTEXT"}])
    live.post(OBSERVATIONS, json={"observations": [observed(2, 80)]}, headers={"Idempotency-Key": "k"})
    live.put("/v1/stays/other", json={})
    assert held(store) == {"stays": 2, "entries": 4, "states": 0, "kept": 1}
    assert live.delete(STAY).status_code == 204
    assert held(store) == {"stays": 1, "entries": 1, "states": 0, "kept": 0}
    assert live.get(STAY).status_code == 404
    assert live.post(OBSERVATIONS, json={}).status_code == 404
    for path in store.parent.iterdir():
        assert b"MARKED" not in path.read_bytes()
    assert live.put(STAY, json={}).status_code == 201
    assert live.get(STAY).json()["observations"] == 0


def test_a_stay_that_no_model_can_read_any_more_is_deleted_all_the_same(scorer, store):
    app = create_app(Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}"), scorer)
    with TestClient(app) as client:
        client.put(STAY, json={})
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE entries SET payload = ?", (b"{}",))
        connection.execute("DELETE FROM states")
    with TestClient(create_app(Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}"), scorer)) as client:
        assert client.post(OBSERVATIONS, json={}).status_code == 503
        assert client.delete(STAY).status_code == 204
    assert not any(held(store).values())


def test_after_a_restart_the_next_answer_is_the_one_without_it(scorer, store):
    settings = Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}")
    risks = []
    for hours in ((1, 2), (2, 3), (1.5,), (4, 5)):
        with TestClient(create_app(settings, scorer)) as client:
            client.put(STAY, json={})
            risks += [post(client, observed(hour, 70 + 9 * hour))["risk"] for hour in hours]
    with TestClient(create_app(Settings(trusted_hosts=("testserver",)), scorer)) as client:
        client.put(STAY, json={})
        unbroken = [post(client, observed(hour, 70 + 9 * hour))["risk"] for hour in (1, 2, 2, 3, 1.5, 4, 5)]
    assert risks == pytest.approx(unbroken, abs=1e-6)
    assert held(store)["states"] == 1


def test_a_state_of_another_model_is_never_read(make_artifact, scorer, store, tmp_path):
    settings = Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}")
    other = load_artifact(make_artifact(tmp_path / "other", seed=9, reads_notes=True))
    for served in (scorer, other):
        with TestClient(create_app(settings, served)) as client:
            client.put(STAY, json={})
            answer = post(client, observed(1, 80), observed(2, 85))
            whole = {"observations": [observed(1, 80), observed(2, 85)]}
            assert answer["risk"] == pytest.approx(client.post("/v1/score", json=whole).json()["risk"], abs=1e-6)
            assert answer["model"]["digest"] == served.digest


def test_a_state_that_was_damaged_is_made_anew(scorer, store):
    settings = Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}")
    with TestClient(create_app(settings, scorer)) as client:
        client.put(STAY, json={})
        post(client, observed(1, 80))
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE states SET content = substr(content, 1, 40)")
    with TestClient(create_app(settings, scorer)) as client:
        whole = client.post("/v1/score", json={"observations": [observed(1, 80), observed(2, 90)]}).json()
        assert post(client, observed(2, 90))["risk"] == pytest.approx(whole["risk"], abs=1e-6)


def test_stays_that_leave_the_memory_are_scored_as_if_they_had_not(scorer, store):
    settings = Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}", state_bytes=1)
    with TestClient(create_app(settings, scorer)) as client:
        for stay in "abcd":
            client.put(f"/v1/stays/{stay}", json={})
        for hour in (1, 2, 3):
            answers = [
                client.post(f"/v1/stays/{stay}/observations", json={"observations": [observed(hour, 80 + hour)]}).json()
                for stay in "abcd"
            ]
        whole = client.post("/v1/score", json={"observations": [observed(h, 80 + h) for h in (1, 2, 3)]}).json()
        assert len(client.app.state.live.sessions) < 4
    assert [a["risk"] for a in answers] == pytest.approx([whole["risk"]] * 4, abs=1e-6)


def test_a_store_that_cannot_be_written_answers_503_and_keeps_what_it_had(live, store, monkeypatch):
    known = post(live, observed(1, 80))
    with sqlite3.connect(store) as blocker:
        blocker.execute("BEGIN EXCLUSIVE")  # as another process would that does not end
        refused = live.post(OBSERVATIONS, json={"observations": [observed(2, 120)]})
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert "risk" not in refused.text
        unready = live.get("/readyz")
        assert (unready.status_code, unready.json()["status"]) == (503, "store_fails")
        blocker.execute("ROLLBACK")
    assert live.get(STAY).json()["revision"] == known["revision"]
    assert post(live, observed(2, 120))["revision"] == known["revision"] + 1
    assert 'reason="restored"' not in live.get("/metrics").text


def test_a_store_of_another_release_is_refused_with_the_remedy(scorer, store):
    with sqlite3.connect(store) as connection:
        connection.executescript("CREATE TABLE stays(x); PRAGMA application_id=1399157100")
        connection.execute(f"PRAGMA user_version={STORE_SCHEMA + 1}")
    app = create_app(Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}"), scorer)
    with pytest.raises(Exception, match="release that wrote it"), TestClient(app):
        pass


def test_pages_follow_each_other_without_gap_or_repetition(live):
    for i in range(7):
        live.put(f"/v1/stays/s{i}", json={})
    seen, after = [], ""
    while after is not None:
        page = StayPage.model_validate(live.get("/v1/stays", params={"limit": 3, "after": after}).json())
        seen += [stay.stay_id for stay in page.stays]
        after = page.next
    assert seen == [f"s{i}" for i in range(7)] + ["ward-7"]
    for limit in ("0", "1001", "x", "٣"):
        assert live.get("/v1/stays", params={"limit": limit}).status_code == 422


def test_the_disclaimer_is_in_the_language_that_was_asked_for(live):
    assert post(live, observed(1), disclaimer_language="ja")["disclaimer"] == DISCLAIMER_JA


def test_more_time_steps_than_are_allowed_are_refused(scorer):
    settings = Settings(trusted_hosts=("testserver",), max_steps=5)
    with TestClient(create_app(settings, scorer)) as client:
        client.put(STAY, json={})
        for hour in range(5):
            post(client, observed(hour))
        assert client.post(OBSERVATIONS, json={"observations": [observed(h) for h in range(5, 9)]}).status_code == 422


def test_the_schema_tells_of_bodies_and_answers(live):
    schema = live.get("/openapi.json").json()
    operation = schema["paths"]["/v1/stays/{stay_id}/observations"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("ObservationsRequest")
    assert {p["name"] for p in operation["parameters"]} == {"stay_id", "Idempotency-Key"}
    text = json.dumps(schema)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in schema["components"]["schemas"]


def test_scores_are_sent_to_who_listens_until_the_stay_is_deleted(live_address):
    with httpx.Client(base_url=live_address, timeout=60) as client:
        client.put(STAY, json={})
        sent = [client.post(OBSERVATIONS, json={"observations": [observed(h)]}).json() for h in (1, 2)]
        heard = []
        with client.stream("GET", f"{STAY}/events", headers={"Last-Event-ID": "1"}) as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            for line in events.iter_lines():
                if line.startswith("data: "):
                    heard.append(json.loads(line[6:]))
                    if len(heard) == 2:
                        httpx.post(f"{live_address}{OBSERVATIONS}", json={"observations": [observed(3)]})
                    if len(heard) == 3:
                        httpx.delete(f"{live_address}{STAY}")
        assert [h["values"][0] for h in heard[:2]] == [s["risk"] for s in sent]
        assert [h.get("revision") for h in heard] == [2, 3, 4, None]


@pytest.mark.parametrize("name", ["..", ".", "a/../..", "../x", "a/."])
def test_no_observation_is_named_so_that_its_address_is_the_stay_s(live, name):
    kinds = {"observations": [observed(1, name=name)]}, {"notes": [{"time_h": 1, "text": "a", "observation_id": name}]}
    for body in kinds:
        refused = live.post(OBSERVATIONS, json=body)
        assert refused.status_code == 422
        assert "nor hold one between slashes" in refused.text
    assert [s["revision"] for s in live.get("/v1/stays").json()["stays"]] == [1]


@pytest.mark.parametrize("name", ["a.b", "...", "a/b..c", ".x/y"])
def test_dots_within_an_identifier_are_none_of_an_address(live, name):
    post(live, observed(1, name=name))
    assert live.delete(f"{OBSERVATIONS}/{name}").json()["replayed_from_h"] == 1.0


def test_the_log_says_why_a_store_fails_and_when_it_is_back_calls_are_answered(live, store, caplog):
    away = store.rename(store.with_name("away.sqlite3"))
    assert live.post(OBSERVATIONS, json={"observations": [observed(1)]}).status_code == 503
    assert live.get("/readyz").json()["status"] == "store_fails"
    told = [record.fields["reason"] for record in caplog.records if getattr(record, "event", "") == "store_failed"]
    assert len(told) == 2
    assert all("put it back" in reason for reason in told)
    assert str(store) not in str(told)
    away.rename(store)
    assert post(live, observed(1))["accepted"]["observations"] == 1
    assert live.get("/readyz").status_code == 200


def test_what_another_process_deletes_leaves_the_memory_of_this_one(live, store, scorer, monkeypatch):
    monkeypatch.setattr(upkeep, "SWEEP_S", 0.05)
    settings = Settings(trusted_hosts=("testserver",), store=f"sqlite:///{store}")
    with TestClient(create_app(settings, scorer)) as other:
        other.put("/v1/stays/stays-here", json={})
        post(other, observed(1))
        held = other.app.state.live.sessions
        assert len(held) == 2
        assert live.delete(STAY).status_code == 204
        deadline = time.monotonic() + 30
        while len(held) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert held.stays() == ["stays-here"]
        assert other.post(OBSERVATIONS, json={}).status_code == 404
