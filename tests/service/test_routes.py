import json
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from models.artifact import load_artifact
from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.encoding import EncodingConfig
from models.grid import GridKind
from models.task import LabelScope, TargetKind, TaskSpec
from service.app import create_app
from service.intake import Intake
from service.schema import EXAMPLE, EXAMPLE_HOURS
from service.score_body import read_score
from service.scoring import Asked
from service.settings import Settings
from service.vocabulary import Vocabulary

UNITS = {"heart_rate": "/min", "sbp": "mm[Hg]", "temperature": "Cel", "lactate": "mmol/L"}
ROUTES = ("/v1/model", "/v1/model/card", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json")


def long_stay(steps=40):
    rng = np.random.default_rng(3)
    centre = {"heart_rate": 90.0, "sbp": 120.0, "temperature": 37.0, "lactate": 2.0}
    observations = []
    for _ in range(steps):
        name = str(rng.choice(list(UNITS)))
        observations.append(
            {
                "channel": name,
                "time_h": int(rng.integers(0, 2880)) / 60,
                "value": float(centre[name] * rng.uniform(0.8, 1.2)),
                "unit": UNITS[name],
            }
        )
    return {
        "as_of_h": 48,
        "observations": observations,
        "notes": [{"time_h": 3, "text": "stable"}, {"time_h": 30, "text": "呼吸状態は安定している。"}],
        "static": {"age": {"value": 70, "unit": "a"}, "sex": "female"},
        "trajectory": True,
    }


def test_a_score_equals_the_pipelines_scorer(client, scorer):
    body = long_stay()
    answer = client.post("/v1/score", json=body).json()
    intake = Intake(Vocabulary.of(scorer.bundle), scorer.bundle, Settings())
    expected = scorer.score(intake.stays([intake.read(read_score(json.dumps(body).encode(), known=frozenset()))]))
    assert answer["risk"] == pytest.approx(float(expected.risk[-1, 0]), abs=1e-6)
    assert [p["risk"] for p in answer["trajectory"]] == pytest.approx(expected.risk[:, 0].tolist(), abs=1e-6)
    assert [p["time_h"] for p in answer["trajectory"]] == (expected.time_min / 60).tolist()
    assert answer["risk"] == answer["risks"][0]["risk"] == answer["trajectory"][-1]["risk"]


def test_absolute_times_and_hours_give_one_score(client):
    admission = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=49)
    hours = long_stay()
    absolute = json.loads(json.dumps(hours))
    absolute["admission"] = admission.isoformat()
    absolute["as_of"] = (admission + timedelta(hours=absolute.pop("as_of_h"))).isoformat()
    for item in absolute["observations"] + absolute["notes"]:
        item["time"] = (admission + timedelta(minutes=round(60 * item.pop("time_h")))).isoformat()
    by_hours, by_clock = (client.post("/v1/score", json=b).json() for b in (hours, absolute))
    assert by_hours["trajectory"] == by_clock["trajectory"]


@given(st.permutations(range(40)))
@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_observations_does_not_change_the_answer(client, order):
    body = long_stay()
    shuffled = {**body, "observations": [body["observations"][i] for i in order]}
    first, second = (client.post("/v1/score", json=b).json() for b in (body, shuffled))
    assert first["trajectory"] == second["trajectory"]


def test_an_answer_says_which_model_gave_it_and_what_it_did_not_use(client, scorer):
    body = {
        "stay_id": "opaque",
        "observations": [
            {"channel": "heart_rate", "time_h": 1, "value": 310, "unit": "/min"},
            {"channel": "heart_rate", "time_h": 2, "value": None, "unit": "/min"},
            {"channel": "glucose", "time_h": 1, "value": 100, "unit": "mg/dL"},
        ],
    }
    answer = client.post("/v1/score", json=body).json()
    assert answer["model"] == {"name": "mortality", "version": None, "digest": scorer.digest}
    assert answer["rejected"] == [{"input": "observation", "index": 1, "name": None, "reason": "missing"}]
    assert answer["flagged"] == [{"input": "observation", "index": 0, "name": None, "reason": "outside_soft_limits"}]
    assert answer["unused"] == ["glucose"]
    assert answer["never_observed"] == ["sbp", "temperature", "lactate"]
    assert answer["as_of_h"] == 1.0
    assert answer["trajectory"] is None
    assert "opaque" not in json.dumps(answer)


@pytest.mark.parametrize("example", [EXAMPLE, EXAMPLE_HOURS])
def test_the_documented_examples_are_answered(client, example):
    assert client.post("/v1/score", json=example).status_code == 200


def test_an_empty_stay_has_a_score_at_admission(client):
    answer = client.post("/v1/score", json={}).json()
    assert (answer["as_of_h"], answer["steps"]) == (0.0, 1)
    assert 0 < answer["risk"] < 1


@pytest.mark.parametrize(("language", "words"), [("en", DISCLAIMER_EN), ("ja", DISCLAIMER_JA)])
def test_the_disclaimer_comes_in_the_language_asked_for(client, language, words):
    answer = client.post("/v1/score", json={"disclaimer_language": language}).json()
    assert answer["disclaimer"] == words
    assert answer["disclaimer_ja"] == DISCLAIMER_JA


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_answers_with_the_research_header(client, route):
    response = client.get(route)
    assert response.status_code == 200
    assert response.headers["X-Research-Use-Only"] == "true"
    assert response.headers["Cache-Control"] == "no-store"
    assert "research use only" in response.text.lower()


def test_the_models_facts_tell_a_client_all_it_must_send(client, scorer):
    facts = client.get("/v1/model").json()
    channels = {c["name"]: c for c in facts["channels"]}
    assert set(channels) == set(UNITS)
    assert channels["temperature"]["accepted_units"] == ["Cel", "[degF]"]
    assert channels["heart_rate"]["hard_limits"] == [0, 390]
    assert channels["heart_rate"]["loinc"] == ["8867-4"]
    assert [s["name"] for s in facts["static"]] == ["age", "sex"]
    assert facts["metrics"]["network"]["metrics"]["auroc"] == {"value": 0.85, "low": 0.82, "high": 0.88}
    assert (facts["digest"], facts["source"], facts["device"]) == (scorer.digest, "directory", "cpu")
    assert facts["disclaimer"] == DISCLAIMER_EN


def test_the_card_comes_from_the_artifact_and_else_from_the_bundle(client, make_artifact, tmp_path, settings):
    made = client.get("/v1/model/card")
    assert made.headers["content-type"].startswith("text/markdown")
    assert "# mortality" in made.text
    assert "| network | auroc | 0.85 | 0.82 | 0.88 |" in made.text
    assert DISCLAIMER_EN in made.text
    folder = make_artifact(tmp_path / "m", documents={"card.md": "# A written card\n"})
    with TestClient(create_app(settings, load_artifact(folder))) as other:
        card = other.get("/v1/model/card").text
    assert card.startswith("# A written card")
    assert DISCLAIMER_EN in card


def test_the_service_is_ready_only_once_it_has_scored(scorer, settings):
    app = create_app(settings, scorer)
    early = TestClient(app)
    assert early.get("/readyz").status_code == 503
    assert early.get("/livez").status_code == 200
    with TestClient(app) as started:
        place = {"model": settings.model, "version": "", "aside": "", "phase": "steady", "refused": ""}
        ready = {"status": "ready", "source": "directory", "models": [place], "text_models": []}
        assert started.get("/readyz").json() == {**ready, "disclaimer": DISCLAIMER_EN}


def test_figures_count_requests_scores_and_rejected_inputs(client):
    missing = {"channel": "heart_rate", "time_h": 2, "value": None, "unit": "/min"}
    client.post("/v1/score", json={"observations": [missing, missing]})
    client.get("/nowhere/at/all")
    text = client.get("/metrics").text
    assert 'sequela_requests_total{route="/v1/score",status="200"} 1.0' in text
    assert 'sequela_requests_total{route="unmatched",status="404"} 1.0' in text
    assert 'sequela_score_count{output="in_hospital_death",version=""} 1.0' in text
    assert 'sequela_rejected_total{reason="missing"} 2.0' in text
    assert 'sequela_model_info{digest="sha256:' in text
    assert "nowhere" not in text


def test_several_horizons_are_answered_side_by_side(make_artifact, tmp_path, settings):
    task = TaskSpec("sepsis", scope=LabelScope.STEP, horizons_h=(6.0, 12.0))
    config = EncodingConfig(grid=GridKind.FIXED, width_h=1.0)
    folder = make_artifact(tmp_path / "m", task=task, encoding=config)
    with TestClient(create_app(settings, load_artifact(folder))) as client:
        answer = client.post("/v1/score", json={**long_stay(), "notes": []}).json()
    assert [(r["outcome"], r["horizon_h"]) for r in answer["risks"]] == [("sepsis_6h", 6.0), ("sepsis_12h", 12.0)]
    assert len(answer["trajectory"]) == 48
    assert answer["trajectory"][-1]["risks"] == [r["risk"] for r in answer["risks"]]


def test_classes_have_probabilities_that_sum_to_one(make_artifact, tmp_path, settings):
    task = TaskSpec("unit", kind=TargetKind.MULTICLASS, classes=("medical", "surgical", "cardiac"))
    with TestClient(create_app(settings, load_artifact(make_artifact(tmp_path / "m", task=task)))) as client:
        answer = client.post("/v1/score", json=long_stay()).json()
    assert answer["kind"] == "multiclass"
    assert [c["name"] for c in answer["classes"]] == ["medical", "surgical", "cardiac"]
    assert sum(c["probability"] for c in answer["classes"]) == pytest.approx(1.0)
    assert answer["disclaimer"] == DISCLAIMER_EN
    assert "risk" not in answer


@pytest.mark.parametrize(
    ("task", "place"),
    [
        (TaskSpec("in_hospital_death"), lambda answer: answer["risks"]),
        (
            TaskSpec("unit", kind=TargetKind.MULTICLASS, classes=("medical", "surgical")),
            lambda answer: answer["classes"],
        ),
        (TaskSpec("length_of_stay", kind=TargetKind.REGRESSION, unit="d"), lambda answer: [answer]),
    ],
)
@pytest.mark.parametrize("members", [1, 3])
def test_the_members_disagreement_stands_beside_each_number_and_one_member_has_none(
    make_artifact, tmp_path, settings, task, place, members
):
    scorer = load_artifact(make_artifact(tmp_path / "m", task=task, members=members))
    with TestClient(create_app(settings, scorer)) as client:
        answer = client.post("/v1/score", json={**long_stay(), "notes": []}).json()
        described = client.get("/v1/model").json()["members"]
        card = client.get("/v1/model/card").text
    spreads = [item["spread"] for item in place(answer)]
    assert all(s is None for s in spreads) if members == 1 else all(s > 0 for s in spreads)
    assert [m["kind"] for m in described] == ["network"] * members
    assert sum(m["weight"] for m in described) == pytest.approx(1.0)
    assert f"{members} member" in card


def test_a_number_is_answered_in_its_unit(make_artifact, tmp_path, settings):
    task = TaskSpec("length_of_stay", kind=TargetKind.REGRESSION, unit="d")
    with TestClient(create_app(settings, load_artifact(make_artifact(tmp_path / "m", task=task)))) as client:
        answer = client.post("/v1/score", json=long_stay()).json()
        figures = client.get("/metrics").text
    assert (answer["kind"], answer["unit"]) == ("regression", "d")
    assert answer["value"] == answer["trajectory"][-1]["value"]
    assert answer["disclaimer"] == DISCLAIMER_EN
    assert "sequela_score_count{" not in figures


def test_the_openapi_schema_accepts_its_examples_and_describes_the_answer(client):
    schema = client.get("/openapi.json").json()
    assert DISCLAIMER_EN in schema["info"]["description"]
    assert "research use only" in schema["info"]["title"]
    body = schema["components"]["schemas"]["ScoreRequest"]
    validator = Draft202012Validator({**body, "components": schema["components"]})
    for example in body["examples"]:
        validator.validate(example)
    answer = schema["paths"]["/v1/score"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    names = {option["$ref"].rpartition("/")[2] for option in answer["anyOf"]}
    assert names == {"BinaryAnswer", "MulticlassAnswer", "RegressionAnswer"}
    assert all("disclaimer" in schema["components"]["schemas"][name]["required"] for name in names)
    refusal = schema["paths"]["/v1/score"]["post"]["responses"]["422"]["content"]
    assert refusal == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    assert "disclaimer" in schema["components"]["schemas"]["ProblemDocument"]["properties"]


def test_every_answer_fits_the_published_schema(client):
    schema = client.get("/openapi.json").json()
    answer = client.post("/v1/score", json=long_stay()).json()
    published = schema["components"]["schemas"]["BinaryAnswer"]
    validator = Draft202012Validator({**published, "components": schema["components"]})
    assert list(validator.iter_errors(answer)) == []


def test_windows_that_share_a_pass_score_as_each_alone(client):
    scoring = client.app.state.service.scoring
    bodies = [json.dumps(long_stay(steps) | {"trajectory": steps == 10}).encode() for steps in (40, 3, 10, 25)]
    refused = b'{"observations": [{"channel": "pulse", "time_h": 1, "value": 90, "unit": "/min"}]}'
    first, second, problem, *others = scoring.score_all([Asked(body) for body in (*bodies[:2], refused, *bodies[2:])])
    assert problem.status_code == 422
    for body, together in zip(bodies, (first, second, *others), strict=True):
        alone = scoring.score(body)
        assert together.risks == pytest.approx(alone.risks, abs=1e-6)
        said, expected = json.loads(together.content), json.loads(alone.content)
        assert (said["steps"], said["as_of_h"]) == (expected["steps"], expected["as_of_h"])
        assert (said["trajectory"] is None) == (expected["trajectory"] is None)
    again = scoring.score_all([Asked(body) for body in bodies])
    assert [one.risks for one in again] == [one.risks for one in scoring.score_all([Asked(body) for body in bodies])]


def test_no_route_hands_a_request_to_a_further_thread(client):
    before = set(threading.enumerate())
    for route in ROUTES:
        client.get(route)
    assert client.post("/v1/score", json=long_stay()).status_code == 200
    assert [thread.name for thread in set(threading.enumerate()) - before] == []
