"""Documents over HTTP: what is answered, refused and never told."""

import asyncio
import json
import logging
import threading
import time

import httpx
import pytest
from fastapi.testclient import TestClient

from models.disclaimer import DISCLAIMER_EN, DISCLAIMER_JA
from models.errors import ArtifactError, ConfigError
from service.app import create_app
from service.keys import Scope, make_key, write_keys
from service.settings import Settings, settings_from_environment
from service.text.lanes import SHORT_CHARACTERS, Lanes
from service.text.models import select_text_models
from tests.service.live.served import Served

CLASSIFY, TAG = "/v1/notes/classify", "/v1/notes/tag"
SECRET = "Qxzwvyk Zhqfjw 鷗齋"


def asked(model="ward", *texts, **choices):
    return {"model": model, "documents": [{"text": text} for text in texts or ("no fever",)], **choices}


def test_a_classification_gives_every_class_a_probability_and_names_one(texts):
    body = asked("ward", "no fever", "発熱あり。")
    body["documents"][0]["document_id"] = "mine"
    answer = texts.post(CLASSIFY, json=body).json()
    assert [d["document_id"] for d in answer["documents"]] == ["mine", None]
    for document in answer["documents"]:
        risks = {r["name"]: r["probability"] for r in document["probabilities"]}
        assert set(risks) == {"surgery", "radiology", "office"}
        assert sum(risks.values()) == pytest.approx(1.0)
        assert len(document["labels"]) == 1
        assert document["attribution"] is None
    assert answer["task"] == "classification"
    assert answer["model"]["digest"].startswith("sha256:")
    assert answer["disclaimer"] == DISCLAIMER_EN


def test_several_labels_are_named_independently(texts):
    answer = texts.post(CLASSIFY, json=asked("symptoms")).json()
    document = answer["documents"][0]
    named = {r["name"] for r in document["probabilities"] if r["probability"] >= 0.5}
    assert answer["task"] == "multilabel"
    assert set(document["labels"]) == named


def test_attribution_is_given_on_request_with_places_in_the_sent_text(texts):
    text = "体温３８．５℃ no fever"
    document = texts.post(CLASSIFY, json=asked("ward", text, attribution=True)).json()["documents"][0]
    (found,) = document["attribution"]
    assert found["label"] == document["labels"][0]
    assert len(found["tokens"]) == document["tokens_read"]
    assert all(0 <= t["start"] <= t["end"] <= len(text) for t in found["tokens"])
    assert any(t["weight"] != 0 for t in found["tokens"])


def test_spans_have_places_in_the_sent_text(texts, text_models):
    text = "Aspirin after fever, アスピリン１００ｍｇ投与。"
    answer = texts.post(TAG, json=asked("entities", text)).json()
    (found,) = text_models.taggers()["entities"].model.tagger.tag([text])
    assert [(s["start"], s["end"], s["label"]) for s in answer["documents"][0]["spans"]] == [
        (t.span.start, t.span.end, t.span.label) for t in found
    ]
    assert answer["disclaimer_ja"] == DISCLAIMER_JA


def test_one_model_of_a_task_need_not_be_named(texts):
    assert texts.post(TAG, json={"documents": [{"text": "fever"}]}).status_code == 200
    refused = texts.post(CLASSIFY, json={"documents": [{"text": "fever"}]})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["loc"] == ["model"]


def test_a_documents_answer_does_not_depend_on_those_beside_it(texts):
    alone = texts.post(CLASSIFY, json=asked("ward", "no fever")).json()["documents"][0]
    beside = texts.post(CLASSIFY, json=asked("ward", "no fever", "x" * 900, "発熱")).json()["documents"][0]
    for mine, theirs in zip(alone["probabilities"], beside["probabilities"], strict=True):
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-6)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("ja", DISCLAIMER_JA),
        ("ja-JP,ja;q=0.9,en;q=0.8", DISCLAIMER_JA),
        ("en, ja;q=0.5", DISCLAIMER_EN),
        ("*;q=0.1, ja;q=0.9", DISCLAIMER_JA),
        ("fr", DISCLAIMER_EN),
        ("ja;q=nan, ja;q=7", DISCLAIMER_EN),
        ("ja;q=0", DISCLAIMER_EN),
        ("", DISCLAIMER_EN),
    ],
)
def test_the_disclaimer_is_in_the_language_of_the_request(texts, header, words):
    headers = {"Accept-Language": header}
    calls = [
        texts.post(CLASSIFY, json=asked("ward"), headers=headers),
        texts.post(TAG, json=asked("entities"), headers=headers),
        texts.get("/v1/notes/models", headers=headers),
        texts.post("/v1/score", json={"as_of_h": 1}, headers=headers),
        texts.put("/v1/stays/s1", json={}, headers=headers),
        texts.post("/v1/stays/s1/observations", json={"as_of_h": 2}, headers=headers),
    ]
    assert [call.status_code for call in calls if call.status_code not in (200, 201)] == []
    assert {call.json()["disclaimer"] for call in calls} == {words}


def test_a_language_in_the_body_goes_before_the_header(texts):
    body = asked("ward", disclaimer_language="en")
    answer = texts.post(CLASSIFY, json=body, headers={"Accept-Language": "ja"}).json()
    assert answer["disclaimer"] == DISCLAIMER_EN
    score = texts.post("/v1/score", json={"as_of_h": 1, "disclaimer_language": "ja"})
    assert score.json()["disclaimer"] == DISCLAIMER_JA


def test_the_loaded_models_are_listed_with_their_labels(texts):
    models = {m["model"]: m for m in texts.get("/v1/notes/models").json()["models"]}
    assert {name: m["task"] for name, m in models.items()} == {
        "ward": "classification",
        "symptoms": "multilabel",
        "entities": "tagging",
    }
    assert models["entities"]["labels"] == ["drug", "finding"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CLASSIFY, asked("entities"), 404),
        (TAG, asked("ward"), 404),
        (CLASSIFY, asked("nobody"), 404),
        (CLASSIFY, {"model": "ward", "documents": []}, 422),
        (CLASSIFY, asked("ward", *["a"] * 4), 422),
        (CLASSIFY, asked("ward", ""), 422),
        (CLASSIFY, asked("ward", extra=1), 422),
        (CLASSIFY, asked("ward", attribution="yes"), 422),
        (TAG, asked("entities", attribution=True), 422),
        (CLASSIFY, [], 422),
    ],
)
def test_what_does_not_hold_is_refused_without_repeating_it(texts, path, body, status):
    sent = json.loads(json.dumps(body))
    if isinstance(sent, dict) and sent["documents"] and sent["documents"][0]["text"]:
        sent["documents"][0]["text"] = SECRET
    answer = texts.post(path, json=sent)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert not [word for word in SECRET.split() if word in answer.text]


@pytest.mark.parametrize("body", [b'{"documents": [', b'{"model": "ward", "model": "ward"}', b'{"documents": NaN}'])
def test_what_is_no_strict_json_is_refused(texts, body):
    assert texts.post(CLASSIFY, content=body, headers={"Content-Type": "application/json"}).status_code == 422


def test_a_document_beyond_the_limit_is_refused_by_its_place(scorer, text_models, named):
    settings = Settings(trusted_hosts=("testserver",), text_models=named, device="cpu", max_document_chars=10)
    with TestClient(create_app(settings, scorer, texts=text_models)) as client:
        refused = client.post(CLASSIFY, json=asked("ward", "short", "x" * 11))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["loc"] == ["documents", 1, "text"]


@pytest.mark.parametrize(
    ("documents", "attribution", "place"),
    [
        (["\ufdfa"], False, ["documents", 0, "text"]),  # eighteen characters by NFKC
        (["x" * 6, "y" * 6], True, ["attribution"]),
        (["x" * 6, "y" * 6], False, None),
        (["x" * 6], True, None),
    ],
)
def test_what_costs_more_than_a_document_of_the_limit_is_refused(
    scorer, text_models, named, documents, attribution, place
):
    settings = Settings(trusted_hosts=("testserver",), text_models=named, device="cpu", max_document_chars=10)
    with TestClient(create_app(settings, scorer, texts=text_models)) as client:
        answer = client.post(CLASSIFY, json=asked("ward", *documents, attribution=attribution))
    assert answer.status_code == (200 if place is None else 422)
    assert place is None or answer.json()["errors"][0]["loc"] == place


def test_without_models_of_documents_the_operator_is_told_how(client):
    refused = client.post(CLASSIFY, json=asked("ward"))
    assert refused.status_code == 404
    assert "SEQUELA_TEXT_MODELS" in refused.json()["detail"]
    assert client.get("/v1/notes/models").json()["models"] == []


def test_no_word_of_a_text_reaches_logs_or_metrics(texts, caplog):
    with caplog.at_level(logging.DEBUG):
        texts.post(CLASSIFY, json=asked("ward", SECRET))
        texts.post(TAG, json=asked("entities", SECRET))
    texts.app.state.lines.flush()
    exposed = texts.get("/metrics").text
    told = caplog.text + "".join(str(vars(record)) for record in caplog.records) + exposed
    assert not [word for word in SECRET.split() if word in told]
    assert 'sequela_documents_total{model="ward"} 1.0' in exposed
    assert 'sequela_score_count{output="ward/surgery",version=""} 1.0' in exposed


def test_a_key_without_the_scope_is_turned_away(scorer, text_models, named, tmp_path):
    good, shown = make_key("good", [Scope.SCORE])
    bad, other = make_key("bad", [Scope.AUDIT])
    write_keys(tmp_path / "keys.json", [good, bad])
    settings = Settings(trusted_hosts=("testserver",), text_models=named, device="cpu", keys=tmp_path / "keys.json")
    with TestClient(create_app(settings, scorer, texts=text_models)) as client:
        statuses = [
            client.post(CLASSIFY, json=asked("ward"), headers=headers).status_code
            for headers in ({}, {"Authorization": f"Bearer {other}"}, {"Authorization": f"Bearer {shown}"})
        ]
    assert statuses == [401, 403, 200]


def test_a_long_request_does_not_hold_up_a_short_one():
    free = threading.Event()

    async def both():
        lanes = Lanes(max_waiting=4)
        slow = asyncio.create_task(lanes.run(SHORT_CHARACTERS + 1, free.wait, 20))
        await asyncio.sleep(0.05)
        quick = await lanes.run(1, lambda: "answered")
        held = not slow.done()
        waiting = lanes.waiting
        free.set()
        await slow
        await lanes.drain()
        return quick, held, waiting

    assert asyncio.run(both()) == ("answered", True, 1)


def test_a_started_service_answers_short_documents_and_stays_while_it_reads_a_long_one(artifact, tmp_path, named):
    long = asked("ward", "no fever " * 5000)
    with (
        Served(artifact, tmp_path, SEQUELA_TEXT_MODELS=named) as served,
        httpx.Client(base_url=served.address, timeout=60) as client,
    ):
        ended = {}

        def read_long():
            answer = httpx.post(served.address + CLASSIFY, json=long, timeout=60)
            ended["long"] = (answer.status_code, time.monotonic())

        thread = threading.Thread(target=read_long)
        thread.start()
        time.sleep(0.05)
        short = client.post(CLASSIFY, json=asked("ward"))
        stay = client.post("/v1/score", json={"as_of_h": 1})
        ended["short"] = time.monotonic()
        thread.join()
    assert (short.status_code, stay.status_code, ended["long"][0]) == (200, 200, 200)
    assert short.json()["disclaimer"] == DISCLAIMER_EN
    assert ended["short"] < ended["long"][1]


def test_settings_name_models_each_once(monkeypatch):
    monkeypatch.setenv("SEQUELA_TEXT_MODELS", "a=models:/x@champion, b=models:/y/3")
    assert settings_from_environment().text_models == (("a", "models:/x@champion"), ("b", "models:/y/3"))
    for wrong in ("a=x,a=y", "a", "=x", "a b=x", "a="):
        monkeypatch.setenv("SEQUELA_TEXT_MODELS", wrong)
        with pytest.raises(ConfigError, match="TEXT_MODELS"):
            settings_from_environment()


def test_a_model_of_stays_is_no_model_of_documents(artifact, tmp_path):
    with pytest.raises(ArtifactError, match="SEQUELA_MODEL"):
        select_text_models(Settings(text_models=f"a={artifact}", device="cpu"))
    with pytest.raises(ArtifactError):
        select_text_models(Settings(text_models=f"a={tmp_path / 'nowhere'}", device="cpu"))
