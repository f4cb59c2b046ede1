"""Which model answers for whom: patients are divided by a keyed hash, and every answer names its version."""

from collections import Counter

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from models.artifact import load_artifact
from models.errors import ArtifactError
from models.task import TaskSpec
from service.app import create_app
from service.selection import Origin, Selected, Source
from service.served import Arms
from service.settings import Settings

KEY = "sixteen bytes and more"
OBSERVATION = {"channel": "heart_rate", "time_h": 1, "value": 90, "unit": "/min"}


@pytest.fixture(scope="module")
def challenger(make_artifact, tmp_path_factory):
    folder = make_artifact(tmp_path_factory.mktemp("challenger") / "m", seed=5)
    return Selected(load_artifact(folder), Origin(Source.REGISTRY, "8"))


def divided(share):
    return Settings(
        trusted_hosts=("testserver",),
        challenger="models:/mortality@challenger",
        challenger_share=share,
        challenger_key=KEY,
        patient_separator=":",
        watch_s=0,
    )


def test_a_share_of_the_patients_falls_to_the_challenger_and_always_the_same():
    arms = Arms(0.3, KEY.encode())
    found = [arms.challenged(f"stay-{i}") for i in range(4000)]
    assert sum(found) / 4000 == pytest.approx(0.3, abs=0.03)
    assert found == [arms.challenged(f"stay-{i}") for i in range(4000)]
    other = [Arms(0.3, b"another key of the ward").challenged(f"stay-{i}") for i in range(4000)]
    assert Counter(zip(found, other, strict=True))[True, True] / 4000 == pytest.approx(0.09, abs=0.03)


def test_nobody_falls_to_a_challenger_without_a_share_and_everybody_to_one_with_all():
    assert not any(Arms(0.0, KEY.encode()).challenged(str(i)) for i in range(200))
    assert all(Arms(1.0, KEY.encode()).challenged(str(i)) for i in range(200))


def test_stays_and_whole_stays_of_a_patient_are_answered_by_the_same_model(scorer, challenger):
    app = create_app(divided(0.5), scorer, origin=Origin(Source.REGISTRY, "7"), challenger=challenger)
    seen = set()
    with TestClient(app) as client:
        for number in range(12):
            stays = [f"p{number}:{visit}" for visit in range(3)]
            told = {client.put(f"/v1/stays/{stay}", json={}).json()["model"]["version"] for stay in stays}
            for stay in stays:
                answer = client.post(f"/v1/stays/{stay}/observations", json={"observations": [OBSERVATION]}).json()
                told.add(answer["model"]["version"])
                told.add(client.get(f"/v1/stays/{stay}").json()["model"]["version"])
            body = {"stay_id": f"p{number}:another", "observations": [OBSERVATION]}
            whole = client.post("/v1/score", json=body).json()["model"]
            told.add(whole["version"])
            assert len(told) == 1
            assert whole["digest"] == (challenger.scorer if told == {"8"} else scorer).digest
            seen |= told
        assert client.post("/v1/score", json={"as_of_h": 1}).json()["model"]["version"] == "7"
        standing = client.get("/readyz").json()["models"]
        figures = client.get("/metrics").text
    assert seen == {"7", "8"}
    assert [place["version"] for place in standing] == ["7", "8"]
    assert figures.count("sequela_model_info{") == 2


def test_a_challenger_that_cannot_be_had_leaves_all_to_the_champion(scorer):
    with TestClient(create_app(divided(1.0), scorer, origin=Origin(Source.REGISTRY, "7"))) as client:
        assert client.put("/v1/stays/anybody", json={}).json()["model"]["version"] == "7"
        assert [place["version"] for place in client.get("/readyz").json()["models"]] == ["7", ""]


def test_a_challenger_that_answers_another_question_is_refused(scorer, make_artifact, tmp_path):
    other = load_artifact(make_artifact(tmp_path / "m", task=TaskSpec("readmission")))
    with pytest.raises(ArtifactError, match="must predict what the served one predicts"):
        create_app(divided(0.5), scorer, challenger=Selected(other, Origin()))


@pytest.mark.parametrize("key", [None, "short"])
def test_a_challenger_needs_a_key_that_cannot_be_guessed(key):
    with pytest.raises(ValidationError, match="CHALLENGER_KEY of 16 to 64 bytes"):
        Settings(challenger="models:/mortality@challenger", challenger_key=key)
